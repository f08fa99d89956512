"""What a report says of the logs: the ledger in sentences, and which lines tell of which request."""

from dataclasses import replace

import pytest

from pcapdiag.base.findings import Confidence, Role, Verdict, VerdictKind
from pcapdiag.privacy.redact import Redactor
from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.join.ledger import EntryVerdict
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.report import model
from pcapdiag.report.ledger import MOST_ENTRIES, build_log, entries_in_words, ledger_lines, lines_by_try
from pcapdiag.report.model import LogEntryDetail, LogSummary
from tests.proxy.join.builders import SPAN, entry, wire
from tests.report import builders


def joined(wires, entries):
    return join_logs(wires, SPAN, entries)


def log_of(wires, entries, findings=(), *, redact=True):
    ledger = joined(wires, entries)
    verdicts = [Verdict("PD601", VerdictKind.CLEAN, role=Role.NO_PEER)]
    log = build_log(ledger, findings, verdicts, lambda _, frame: ("proxy.pcap", frame + 1))
    return Redactor(active=redact).everything(log)


def found(*wires, code="PD101"):
    occurrences = tuple(builders.occurrence(conn=w.conn, depth=w.depth) for w in wires)
    return builders.finding(code=code, occurrences=occurrences)


def test_an_entry_has_the_code_of_the_try_that_it_tells_of():
    tries = [wire(500, conn=0), wire(20_500, conn=1)]
    log = log_of(tries, [entry(0, line=5), entry(20, line=9, conn=8)], [found(tries[0]), found(tries[1], code="PD202")])
    assert [(e.line, e.code, e.request_frame) for e in log.entries] == [(5, "PD101", 1), (9, "PD202", 11)]
    assert [(f.code, f.log_lines) for f in log.failures] == [
        ("PD101", ("error.log:5",)),
        ("PD202", ("error.log:9",)),
    ]


def test_no_live_upstreams_is_a_finding_of_its_own_without_packets():
    log = log_of([wire(500)], [entry(0), entry(0, line=2, kind=LogKind.NO_LIVE_UPSTREAMS)])
    assert [e.code for e in log.entries] == ["", "PD601"]
    assert log.entries[1].request_frame == -1


def test_targets_are_masked_in_everything_that_the_log_passes_on():
    secret = {
        "request": "GET /api?token=s3cr3t HTTP/1.1",
        "target": "/api?token=s3cr3t",
        "upstream": "http://10.1.1.1:80/api?token=s3cr3t",
        "upstream_uri": "/api?token=s3cr3t",
        "message": "upstream sent /api?token=s3cr3t",
    }
    target = secret["target"]
    for redact in (True, False):
        log = log_of([wire(500, target=target)], [entry(0, **secret)], redact=redact)
        (made,) = log.entries
        assert ("s3cr3t" in f"{made.request}{made.upstream}") is not redact
        assert made.request.startswith("GET /api")
        assert made.upstream.startswith("http://10.1.1.1:80/api")


def test_lines_are_found_by_connection_and_depth():
    lines = lines_by_try(joined([wire(500)], [entry(0, line=3)]))
    assert lines == {(0, 3): ("error.log:3",)}
    assert lines_by_try(None) == {}


def test_entries_stand_in_the_order_asked_for_and_of_too_many_the_rest_is_counted():
    wires = [wire(10_000 * n + 500, conn=n) for n in range(6)]
    log = log_of(wires, [entry(10 * n, line=n + 1, conn=n, message=f"m{n}") for n in range(6)])
    places = [f"error.log:{n}" for n in (3, 1)]
    assert entries_in_words(log, [*places, "access.log:1"]) == ("error.log:3: *2 m2", "error.log:1: *0 m0")
    lines = entries_in_words(log, [f"error.log:{n}" for n in range(1, 7)])
    assert len(lines) == MOST_ENTRIES + 1
    assert lines[-1] == "and 2 more"


def test_the_ledger_adds_up_both_sides_and_says_how_the_clocks_stand():
    wires = [wire(10_000 * n + 500, conn=n) for n in range(3)]
    entries = [entry(10 * n + 28_800, line=n, conn=n) for n in range(2)]
    text = "\n".join(ledger_lines(log_of(wires, entries)))
    assert "2 log entries about upstreams: 2 explained." in text
    assert "3 failed tries on the wire: 2 with an entry, 1 " in text
    assert "The log is in UTC+08:00; its clock agrees with the capture's" in text


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (LogSummary(), 0),
        (log_of([wire(500)], []), 3),
    ],
)
def test_without_entries_it_is_short(log, lines):
    assert len(ledger_lines(log)) == lines


def test_entries_with_the_same_reason_are_undetermined_together():
    wires = [wire(500, conn=0), wire(510, conn=1), wire(520, conn=2)]
    log = log_of(wires, [entry(0, line=1), entry(0, line=2, conn=9)])
    assert {e.verdict for e in log.entries} == {EntryVerdict.UNDETERMINED}
    assert sum("undetermined, " in line for line in ledger_lines(log)) == len({e.reason for e in log.entries})


@pytest.mark.parametrize(("n_explained", "is_doubted"), [(1, True), (4, False)])
def test_a_log_whose_failures_fit_here_is_the_log_of_this_proxy_whatever_else_it_holds(n_explained, is_doubted):
    wires = [wire(10_000 * n + 500, conn=n) for n in range(n_explained)]
    fitting = [entry(10 * n, line=n + 1, conn=n) for n in range(n_explained)]
    others = [entry(10 * n + 5, line=n + 50, conn=n + 50) for n in range(20)]
    text = " ".join(ledger_lines(log_of(wires, fitting + others)))
    assert ("is it the log of this proxy" in text) == is_doubted


def test_of_very_many_entries_the_first_are_listed_and_the_others_counted(monkeypatch):
    monkeypatch.setattr(model, "_MOST_ENTRIES", 3)
    log = log_of([wire(500)], [entry(n, line=n + 1, conn=n) for n in range(8)])
    short = log.shortened()
    assert [e.line for e in short.entries] == [1, 2, 3]
    assert sum(c.count for c in short.entries_left_out) == 5
    assert {(c.kind, c.upstream) for c in short.entries_left_out} == {("premature_close", "10.1.1.1:80")}
    report = replace(builders.report(), lists_all=True)
    assert replace(report, log=log).to_json()["log"]["entries_left_out"] == []
    assert len(replace(report, log=log).to_json()["log"]["entries"]) == 8
    assert len(replace(report, log=log, lists_all=False).to_json()["log"]["entries"]) == 3


@pytest.mark.parametrize(("away_s", "is_apart"), [(0, False), (14 * 3600, False), (30 * 86_400, True), (-86_400, True)])
def test_a_log_of_another_day_is_said_not_to_overlap(away_s, is_apart):
    log = log_of([wire(500)], [entry(5_000_000)])
    assert log.clock_offset_ns is None
    at = log.entries[0].ts_ns
    text = " ".join(ledger_lines(log, (at + away_s * 10**9, at + away_s * 10**9 + 10**9)))
    assert ("does not overlap with the capture in any time zone" in text) == is_apart
    assert ("No entry fits" in text) != is_apart


def test_entries_that_a_finding_tells_of_are_not_counted_again():
    detail = LogEntryDetail(
        *("e.log", 1, 0, "error", 1, 1, "timed_out", "m", "", "", EntryVerdict.NOT_CAPTURED, "no packet", "PD902"),
        *("", -1, "", -1, Confidence.LIKELY, ()),
    )
    log = LogSummary(entries=(detail, replace(detail, line=2, code="")))
    lines = [line for line in ledger_lines(log) if line.startswith("Not in the capture")]
    assert lines == ["Not in the capture, and told of in PD902: 1 entry.", "Not in the capture: 1: no packet."]
