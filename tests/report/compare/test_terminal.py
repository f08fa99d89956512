"""A comparison in a terminal."""

import pytest

import pcapdiag
from pcapdiag.report.compare.terminal import render
from pcapdiag.report.render.blocks import MIN_WIDTH
from tests.report.builders import HOSTILE
from tests.report.compare.builders import finding, proxy_first, report, upstream


@pytest.fixture(scope="module")
def fixed():
    return pcapdiag.compare_reports(report(finding()), report(upstreams=[proxy_first()]))


def test_the_verdict_is_the_first_line_and_coloured_only_if_wanted(fixed):
    plain = render(fixed)
    assert " ".join(plain.split("\n\n")[0].split()).startswith(" ".join(fixed.headline.split())[:40])
    assert "\x1b" not in plain
    assert "\x1b[1;32m" in render(fixed, color=True)


@pytest.mark.parametrize("width", [1, MIN_WIDTH, 80, 200])
def test_no_line_is_wider_than_the_terminal_or_ends_in_blanks(fixed, width):
    lines = render(fixed, width=width).split("\n")
    assert max(map(len, lines)) <= max(width, MIN_WIDTH)
    assert [line for line in lines if line != line.rstrip()] == []


def test_what_a_report_names_is_text_and_no_markup():
    before, after = (report(*found, upstreams=[upstream(HOSTILE)]) for found in ([finding(subject=HOSTILE)], []))
    text = render(pcapdiag.compare_reports(before, after))
    assert not {"\x1b", "\x07", "\u202e", "\r", "\x9b"} & set(text)
    assert "[red]rich[/red]" in text.replace("\n", "")
