"""A comparison as blocks: the verdict first, what is most is shown, the rest is counted."""

import json

import pytest

import pcapdiag
from pcapdiag.report.compare.render import build_blocks, render_json
from pcapdiag.report.render.document import Bullets, Heading, Paragraph, TableBlock
from pcapdiag.report.summary import MAX_LINES
from tests.report.compare.builders import finding, proxy_first, report, upstream

PEERS = [f"10.1.{n // 250}.{n % 250 + 1}:80" for n in range(MAX_LINES + 3)]


def blocks_of(before, after):
    return build_blocks(pcapdiag.compare_reports(before, after))


def sides(n):
    return (
        report(*(finding(subject=peer) for peer in PEERS[:n]), upstreams=[upstream(peer) for peer in PEERS[:n]]),
        report(upstreams=[upstream(peer) for peer in PEERS[:n]]),
    )


def tables(blocks):
    return [block.grid for block in blocks if isinstance(block, TableBlock)]


def test_the_verdict_comes_first_and_the_inputs_last():
    blocks = blocks_of(report(finding()), report(upstreams=[proxy_first()]))
    assert isinstance(blocks[0], Paragraph)
    assert blocks[0].text == pcapdiag.compare_reports(report(finding()), report(upstreams=[proxy_first()])).headline
    assert blocks[-2] == Heading("Input", 2)
    assert [line.partition(":")[0] for line in blocks[-1].lines] == ["BEFORE", "AFTER"]
    assert "500 frames, 40 requests" in blocks[-1].lines[0]


@pytest.mark.parametrize(("n", "n_tables"), [(1, 1), (4, 4), (5, 1)])
def test_a_few_upstreams_have_a_table_each_and_many_a_row_each(n, n_tables):
    grids = tables(blocks_of(*sides(n)))
    assert len(grids) == n_tables
    assert len(grids[0].rows) == (n if n > 4 else 10)
    assert {len(row) for grid in grids for row in grid.rows} == {len(grids[0].headers)}


def test_of_too_many_upstreams_the_rest_is_counted():
    blocks = blocks_of(*sides(MAX_LINES + 3))
    assert sum(isinstance(block, Heading) and block.text.startswith("10.") for block in blocks) == MAX_LINES
    assert Paragraph("and 3 more upstreams: --format json lists them all.") in blocks


def test_what_was_not_measured_is_not_a_number():
    (grid,) = tables(blocks_of(report(finding()), report(upstreams=[upstream(timeout_s=None, handshake_ns=-1)])))
    rows = {row[0]: row[1:] for row in grid.rows}
    assert rows["idle timeout T"] == ("4.000 s", "not measured")
    assert rows["near misses"] == ("0", "-")
    assert rows["TCP handshakes, time in them"][1] == "unknown"
    assert rows["handshake time per request"][1] == "-"
    assert rows["lost to the race"] == ("8", "0")


def test_an_upstream_that_is_on_one_side_only_has_dashes_on_the_other():
    before = report(finding(), upstreams=[upstream(), upstream("10.1.1.2:80")])
    grids = tables(blocks_of(before, report(upstreams=[upstream()])))
    assert any({row[2] for row in grid.rows} == {"-"} for grid in grids)


def test_causes_are_named_before_their_reasons():
    blocks = blocks_of(report(finding()), report(upstreams=[proxy_first()]))
    (line,) = next(block for block in blocks if isinstance(block, Bullets)).lines
    assert line.startswith("PD101 name-of-pd101: ")


def test_json_is_ascii_on_lines_and_the_comparison_itself():
    comparison = pcapdiag.compare_reports(report(finding(subject="\u202e\x7f")), report())
    text = render_json(comparison)
    assert text.isascii()
    assert "\x7f" not in text
    assert text.endswith("}\n")
    assert json.loads(text) == json.loads(json.dumps(comparison.to_json()))
