"""Connections that were captured twice count once; those that are only similar count each."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcapdiag.api.analyze import analyze
from tests.scenario import Form, build_frame, parse, write_frames

MS = 1_000_000
SCRIPT = r"""
+0     @0 > S id 7
+0.001 @0 < S.
+0.001 @0 > .
+0.1   @0 > P. "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n"
+0.01  @0 < P. "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
+0.001 @0 > .
+0.5   @0 > P. "GET /b HTTP/1.1\r\nHost: a.test\r\n\r\n"
+0.01  @0 < F.
+0.001 @0 > F.
"""
REFUSED = "+0 @0 > S id 77\n+0.001 @0 < R. ack 1\n"
SERVICE = Form(orig="10.77.1.2", resp="10.96.0.10", resp_port=80, orig_isn=1_007_770_128, resp_isn=1_193_909_753)
POD = replace(SERVICE, resp="10.77.2.2", resp_port=8000)


def frames(script, *views):
    """Return the records of a script as seen at several places: (form, how much later in ns)."""
    seen = [
        (form.start_ns + s.ts_ns + later, n, build_frame(s, form))
        for n, (form, later) in enumerate(views)
        for s in parse(script)
    ]
    return [(ts_ns, data) for ts_ns, _, data in sorted(seen, key=lambda item: item[:2])]


def report_of(tmp_path, *captures, **inputs):
    paths = []
    for number, records in enumerate(captures):
        paths.append(tmp_path / f"part{'abc'[number]}.pcap")
        paths[-1].write_bytes(write_frames(records, Form()))
    return analyze(*paths, **inputs).report


def numbers(report):
    return report.totals.connections, report.totals.exchanges, report.totals.unanswered


def note_codes(report):
    return {n.code for n in report.notes}


@pytest.mark.parametrize(
    "other",
    [
        POD,  # DNAT
        replace(SERVICE, orig="10.0.0.5", orig_port=61000),  # SNAT
        replace(POD, orig="10.0.0.5"),  # both, the port kept
    ],
)
def test_a_connection_seen_before_and_after_translation_counts_once(tmp_path, other):
    report = report_of(tmp_path, frames(SCRIPT, (SERVICE, 0), (other, 20_000)))
    assert numbers(report) == (1, 2, 1)
    assert [u.endpoint for u in report.upstreams] == ["10.96.0.10:80"]
    assert "translated-twice" in note_codes(report)


def test_a_gateway_that_translates_both_ends_and_all_ports_sees_one_connection(tmp_path):
    other = replace(POD, orig="10.77.9.9", orig_port=50001)
    report = report_of(tmp_path, frames(SCRIPT, (SERVICE, 0), (other, 20_000)))
    assert numbers(report) == (1, 2, 1)
    assert "10.96.0.10:80 -> 10.77.2.2:8000" in next(n.text for n in report.notes if n.code == "translated-twice")


def test_where_all_was_translated_all_that_was_sent_has_to_agree(tmp_path):
    other = replace(POD, orig="10.77.9.9", orig_port=50001)
    longer = SCRIPT + "+0.1 @0 < R.\n"
    records = sorted(frames(SCRIPT, (SERVICE, 0)) + frames(longer, (other, 20_000)))
    assert numbers(report_of(tmp_path, records)) == (2, 4, 2)


def test_a_gateway_with_one_address_is_no_proxy_and_its_upstream_is_kept(tmp_path):
    inside = replace(POD, orig=SERVICE.resp, orig_port=50001)
    report = report_of(tmp_path, frames(SCRIPT, (SERVICE, 0), (inside, 20_000)))
    assert numbers(report) == (1, 2, 1)
    assert [u.exchanges for u in report.upstreams] == [2]


def test_one_that_was_refused_counts_once_and_a_scan_counts_each(tmp_path):
    report = report_of(tmp_path, frames(REFUSED, (SERVICE, 0), (POD, 20_000)))
    assert report.totals.failed_connects == 1
    other = REFUSED.replace("77", "78")
    records = sorted(frames(REFUSED, (SERVICE, 0)) + frames(other, (POD, 20_000)))
    assert report_of(tmp_path, records).totals.failed_connects == 2


@pytest.mark.parametrize(
    "other",
    [
        replace(POD, orig_isn=SERVICE.orig_isn + 1),
        replace(POD, resp_isn=SERVICE.resp_isn + 1),
        replace(POD, start_ns=SERVICE.start_ns + 20 * MS),
        replace(POD, orig="10.77.9.9", orig_port=50001, resp_isn=SERVICE.resp_isn + 1),
    ],
)
def test_a_connection_that_is_only_similar_counts_for_itself(tmp_path, other):
    report = report_of(tmp_path, frames(SCRIPT, (SERVICE, 0), (other, 20_000)))
    assert numbers(report) == (2, 4, 2)
    assert note_codes(report) & {"translated-twice", "captured-twice"} == set()


def test_numbers_that_a_program_counts_from_prove_nothing(tmp_path):
    plain = [replace(form, orig_isn=1000, resp_isn=5000) for form in (SERVICE, POD)]
    assert numbers(report_of(tmp_path, frames(SCRIPT, (plain[0], 0), (plain[1], 20_000)))) == (2, 4, 2)


@pytest.mark.parametrize("later", [0, 80 * MS, -200 * MS])
def test_captures_of_both_ends_count_once_whatever_their_clocks(tmp_path, later):
    report = report_of(tmp_path, frames(SCRIPT, (SERVICE, 0)), frames(SCRIPT, (SERVICE, later)))
    assert numbers(report) == (1, 2, 1)
    (upstream,) = report.upstreams
    assert (upstream.exchanges, upstream.unanswered) == (2, 1)
    assert "captured-twice" in note_codes(report)


def test_a_copy_that_begins_in_mid_stream_counts_once(tmp_path):
    records = frames(SCRIPT, (SERVICE, 0))[3:]
    assert numbers(report_of(tmp_path, records, records)) == numbers(report_of(tmp_path, records))


def test_the_one_that_the_operator_names_is_kept(tmp_path):
    records = frames(SCRIPT, (SERVICE, 0), (POD, 20_000))
    report = report_of(tmp_path, records, upstreams=["10.77.2.2:8000"])
    assert [(u.endpoint, u.exchanges) for u in report.upstreams] == [("10.77.2.2:8000", 2)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1 << 17, 1 << 31), st.booleans()), min_size=1, max_size=6, unique_by=lambda x: x[0])
)
def test_as_many_connections_as_there_are_whichever_are_seen_twice(tmp_path_factory, connections):
    records = []
    for number, (isn, is_twice) in enumerate(connections):
        own = replace(SERVICE, orig_port=40000 + number, orig_isn=isn, start_ns=SERVICE.start_ns + number * 50_000)
        views = [(own, 0)] + ([(replace(own, resp="10.77.2.2", resp_port=8000), 9000)] if is_twice else [])
        records += frames(SCRIPT, *views)
    report = report_of(tmp_path_factory.mktemp("t"), sorted(records))
    assert numbers(report) == (len(connections), 2 * len(connections), len(connections))


@pytest.mark.parametrize("n_cut", range(13))
def test_a_capture_that_begins_between_two_sights_counts_once(tmp_path, n_cut):
    report = report_of(tmp_path, frames(SCRIPT, (SERVICE, 0), (POD, 20_000))[n_cut:])
    assert (report.totals.connections, report.totals.unanswered) == (1, 1)
