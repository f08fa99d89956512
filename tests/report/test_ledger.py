"""The ledger in a report: every entry and every failed try once, redacted, with the log's clock."""

from pcapdiag.base.findings import Verdict, VerdictKind
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.report.build import build_report
from pcapdiag.report.ledger import beyond_line, ledger_lines
from pcapdiag.rules.pd601_no_live_upstreams import NoLiveUpstreams
from tests.proxy.join.builders import PEER, T0, entry, wire
from tests.report.builders import HOSTILE, with_log

NO_LIVE = LogKind.NO_LIVE_UPSTREAMS


def test_the_report_holds_every_entry_and_every_failed_try_once_and_redacts_them():
    target = "/api?token=secret"
    entries = [
        entry(
            0, request=f"GET {target} HTTP/1.1", target=target, upstream=f"http://{PEER}{target}", upstream_uri=target
        ),
        entry(2, line=2, kind=NO_LIVE, peer="be"),
        entry(4000, line=3),
    ]
    joined = with_log([wire(500, target=target)], entries)
    verdicts = [Verdict("PD601", VerdictKind.CLEAN, role=NoLiveUpstreams.facts.role)]
    log = build_report(joined, (), verdicts, version="0").log
    assert [e.verdict.value for e in log.entries] == ["explained", "no_packets_expected", "not_captured"]
    assert [e.code for e in log.entries] == ["", "PD601", ""]
    assert [f.log_lines for f in log.failures] == [("error.log:1",)]
    assert "secret" not in str(log)
    text = " ".join(ledger_lines(log))
    assert "3 log entries about upstreams: 1 explained, 1 with no packets expected, 1 not in the capture." in text
    assert "1 failed try on the wire: 1 with an entry." in text


def test_hostile_entries_never_reach_a_terminal_raw():
    from pcapdiag.report.render import markdown, terminal

    entries = [entry(0, line=n, path=HOSTILE, request=HOSTILE, message=HOSTILE) for n in (1,)]
    joined = with_log([wire(500, conn=0), wire(520, conn=0, depth=4)], entries)
    made = build_report(joined, (), (), version="0")
    assert "\x1b" not in terminal.render(made)
    assert "<script>" not in markdown.render(made)


def test_a_clock_that_may_be_the_captures_is_said_to_agree_with_it():
    def said(at_ms):
        report = build_report(with_log([wire(at_ms)], [entry(0)]), (), (), version="1")
        (line,) = (line for line in ledger_lines(report.log) if "clock" in line)
        return line

    assert "its clock agrees with the capture's" in said(500)
    assert "ahead of the capture's" in said(-5_000)
    assert "behind the capture's" in said(5_000)


def test_failures_that_the_log_has_of_another_time_are_told_apart():
    entries = [entry(at, line=n) for n, at in enumerate((0, 4, 4000, 5000))]
    log = build_report(with_log([wire(500)], entries), (), (), version="0").log
    assert log.zone_offset_s is not None
    second = 10**9
    assert beyond_line(log, (T0, T0 + 60 * second)) == (
        "2 failures in the error log are of a time before or after the capture: nothing here explains them."
    )
    assert beyond_line(log, (T0, T0 + 6000 * second)) == ""
    assert beyond_line(log, (-1, -1)) == ""


def test_a_log_of_another_day_is_called_that():
    log = build_report(with_log([], [entry(400_000, line=1)]), (), (), version="0").log
    assert "does not overlap with the capture in any time zone" in beyond_line(log, (T0, T0 + 10**9))
