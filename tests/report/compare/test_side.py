"""A JSON report is input like any other: what is no report is refused with words, never with a traceback."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pcapdiag
from pcapdiag.base.errors import UsageError
from pcapdiag.report.compare.side import is_json_report, load_report, read_side
from tests.report.compare.builders import finding, report, upstream


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"schema_version": None},
        {"upstreams": None},
        {"upstreams": [3]},
        {"upstreams": [upstream(exchanges="many")]},
        {"upstreams": [upstream(exchanges=True)]},
        {"upstreams": [upstream(exchanges=1 << 62)]},
        {"upstreams": [upstream(exchanges=-2)]},
        {"upstreams": [upstream(idle_timeout_ns=None)]},
        {"upstreams": [upstream(endpoint=7)]},
        {"findings": [{}]},
        {"findings": [finding() | {"code": ["PD101"]}]},
        {"findings": "PD101"},
        {"captures": [{"paths": [None]}]},
        {"verdicts": [{"code": "PD101"}]},
        {"totals": []},
    ],
)
def test_what_is_no_report_is_refused(changes):
    with pytest.raises(UsageError, match="BEFORE is not a"):
        pcapdiag.compare_reports(report() | changes, report())


@pytest.mark.parametrize("content", [b"{", b"{}x", b"{" + b'"a":[' * 100_000, b"\xff{", b'{"a": 1'])
def test_a_broken_file_is_refused(tmp_path, content):
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a JSON report"):
        load_report(str(path))


def test_a_list_is_no_report(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("[]")
    assert not is_json_report(str(path))
    with pytest.raises(UsageError, match="is not a JSON report"):
        load_report(str(path))


def test_json_is_told_from_captures_and_folders(tmp_path):
    path = tmp_path / "x.pcap"
    path.write_text(" \n" + json.dumps(report()))
    assert is_json_report(str(path))
    path.write_bytes(b"\xd4\xc3\xb2\xa1")
    assert not is_json_report(str(path))
    assert not is_json_report(str(tmp_path))
    assert not is_json_report("-")


def test_a_report_without_the_newer_numbers_is_compared_without_them():
    old = upstream()
    for name in ("longest_gap_ns", "opened", "handshake_ns"):
        del old[name]
    side = read_side(report(upstreams=[old]), {})
    measures = side.upstreams["10.1.1.1:80"]
    assert (measures.longest_gap_ns, measures.opened, measures.handshake_ns) == (-1, -1, -1)


def test_endless_text_is_cut():
    side = read_side(report(finding(subject="x" * 10_000)), {})
    assert len(side.troubles[0].subject) == 512


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(node, path=()):
    """Yield the path to every value of a JSON document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


PLACES = sorted(places(report(finding(), finding("PD104"))), key=str)


@given(st.sampled_from(PLACES), JSON)
def test_any_value_at_any_place_is_compared_or_refused(path, value):
    document = json.loads(json.dumps(report(finding(), finding("PD104"))))
    *way, last = path
    node = document
    for key in way:
        node = node[key]
    node[last] = value
    for sides in ((document, report()), (report(), document)):
        try:
            comparison = pcapdiag.compare_reports(*sides)
        except UsageError:
            continue
        assert json.dumps(comparison.to_json(), allow_nan=False)
