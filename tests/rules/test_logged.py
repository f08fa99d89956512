"""Failures that only an error log tells of, and what is missing where it cannot."""

from dataclasses import replace

import pytest

from pcapdiag.base.findings import Confidence
from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.join.clients import ClientTally, Served
from pcapdiag.proxy.join.ledger import EntryVerdict, JoinedEntry, Ledger, OutsideFailure, OutsideKind
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules import _logged
from pcapdiag.rules._rule import GroupText
from pcapdiag.rules.diagnose import RULES
from tests.proxy.join.builders import OTHER, PEER, entry, wire
from tests.rules.builders import Scene

KINDS = frozenset({LogKind.INVALID_HEADER})


def joined(
    at_s, its_wire, kind=LogKind.INVALID_HEADER, verdict=EntryVerdict.EXPLAINED, confidence=Confidence.CONFIRMED
):
    return JoinedEntry(entry(at_s, kind=kind), verdict, "", confidence, its_wire)


def ledger(*entries, **changes):
    return Ledger(clock=None, entries=entries, tries=(), **{"errors_read": max(len(entries), 1)} | changes)


def analysis_of(*entries, **changes):
    return Scene().analysis(log=ledger(*entries, **changes))


def test_without_a_log_it_says_what_is_needed():
    assert _logged.lacks_error_log(Scene().analysis(), "needs it") == "needs it"
    assert _logged.lacks_error_log(analysis_of(errors_read=-1), "needs it") == "needs it"


def test_a_log_of_which_nothing_was_understood_is_not_looked_through():
    assert "no line of it was understood" in _logged.lacks_error_log(analysis_of(errors_read=0), "needs it")


def test_a_log_that_was_read_lacks_nothing():
    assert _logged.lacks_error_log(analysis_of(), "needs it") == ""


@pytest.mark.parametrize(
    ("days", "words"), [(-3, "ends 3.0 days before"), (2.5, "begins 2.5 days after"), (0.5, ""), (-0.5, "")]
)
def test_an_error_log_of_another_day_is_not_looked_through(days, words):
    analysis = analysis_of()
    at_s = round(analysis.first_ts_ns / NS_PER_S + days * 86_400)
    elsewhere = replace(analysis, log=ledger(errors_span_s=(at_s, at_s)))
    assert words in _logged.lacks_error_log(elsewhere, "needs it")
    assert bool(_logged.lacks_error_log(elsewhere, "needs it")) is bool(words)


@pytest.mark.parametrize(
    ("hours", "has_zone", "lacks"), [(0, True, False), (8, True, True), (-8, True, True), (8, False, False)]
)
def test_an_access_log_of_another_time_is_not_looked_through(hours, has_zone, lacks):
    analysis = analysis_of()
    at_s = analysis.first_ts_ns // NS_PER_S + hours * 3_600
    log = ledger(clients=ClientTally({at_s: Served(requests=1, with_tries=1)}, has_zone=has_zone), accesses_read=1)
    elsewhere = replace(analysis, log=replace(log, errors_read=-1))
    assert bool(_logged.accesses_of_another_time(elsewhere)) is lacks
    for rule in ("PD901", "PD902"):
        missing = next(r for r in RULES if r.code == rule)().missing(elsewhere)
        assert ("no request of the time of the capture" in missing) is lacks


@pytest.mark.parametrize(("level", "lacks"), [("crit", True), ("alert", True), ("error", False), ("warn", False)])
def test_a_log_that_begins_above_error_lacks_such_failures(tmp_path, level, lacks):
    conf = tmp_path / "nginx.conf"
    conf.write_text(f"error_log /var/log/nginx/error.log {level};\nevents {{}}\nhttp {{}}\n")
    analysis = replace(analysis_of(), settings=read_proxy_conf(conf))
    assert (f"begin at level {level}" in _logged.lacks_error_log(analysis, "needs it")) is lacks


def test_entries_of_one_try_count_once_and_stand_in_the_order_of_the_capture():
    late, early, other = wire(900, conn=1), wire(100, conn=2), wire(500, conn=3, peer=OTHER)
    analysis = analysis_of(joined(1, late), joined(2, late), joined(3, early), joined(4, other))
    found = _logged.logged_tries(analysis, KINDS)
    assert {peer: [j.wire.conn for j in entries] for peer, entries in found.items()} == {PEER: [2, 1], OTHER: [3]}
    assert found[PEER][1].entry.ts_s < found[PEER][0].entry.ts_s


@pytest.mark.parametrize(
    "changes",
    [{"kind": LogKind.TIMED_OUT}, {"verdict": EntryVerdict.UNDETERMINED}, {"its_wire": None}],
    ids=["another message", "no try of its own", "no try at all"],
)
def test_what_is_no_such_entry_with_a_try_is_left_out(changes):
    given = {"its_wire": wire(100)} | changes
    assert _logged.logged_tries(analysis_of(joined(1, **given)), KINDS) == {}


def test_what_the_proxy_was_doing_can_be_asked_for():
    analysis = analysis_of(joined(1, wire(100)))
    action = analysis.log.entries[0].entry.action
    assert _logged.logged_tries(analysis, KINDS, action)
    assert not _logged.logged_tries(analysis, KINDS, "connecting to upstream")


def finding_of(*confidences):
    rule = next(rule for rule in RULES if rule.code == "PD402")
    entries = [joined(n, wire(100 * n, conn=n), confidence=c) for n, c in enumerate(confidences)]
    return _logged.logged_finding(rule(), PEER, "", entries, GroupText("message", "refuted", "remedy"))


@pytest.mark.parametrize(
    ("confidences", "of_all"),
    [
        ([Confidence.CONFIRMED], Confidence.CONFIRMED),
        ([Confidence.POSSIBLE, Confidence.CONFIRMED], Confidence.POSSIBLE),
        ([Confidence.POSSIBLE, Confidence.CONFIRMED, Confidence.CONFIRMED], Confidence.CONFIRMED),
    ],
)
def test_a_finding_is_as_certain_as_most_of_its_entries(monkeypatch, confidences, of_all):
    monkeypatch.setattr("pcapdiag.rules._rule.most_certain", lambda *_: Confidence.CONFIRMED)
    finding = finding_of(*confidences)
    assert finding.confidence == of_all
    assert [o.conn for o in finding.occurrences] == list(range(len(confidences)))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({}, "FIN"), ({"orig_rst_ns": 5}, "RST"), ({"orig_fin_ns": -1}, "")],
)
def test_an_occurrence_says_how_the_proxy_closed(changes, kind):
    (occurrence,) = _logged._occurrences([wire(100, closing_frame=7, **changes)])
    assert (occurrence.closing_frame, occurrence.closing_kind) == (7, kind)


def test_evidence_shows_only_frames_that_were_seen():
    seen = wire(100, closing_frame=7, response_frame=5, first_response_ns=1, response_bytes=10)
    (whole,), (bare,) = _logged._occurrences([seen]), _logged._occurrences([wire(100)])
    assert [e.label for e in whole.evidence] == ["request", "response", "closing of the proxy"]
    assert [e.label for e in bare.evidence] == ["request"]


def test_a_failure_that_only_a_log_knows_has_no_frames():
    failure = OutsideFailure(OutsideKind.NOT_SEEN, PEER, 5, "error.log", 12, "192.0.2.2", "GET", "/api", "api.example")
    occurrence = _logged.outside_occurrence(failure)
    assert (occurrence.conn, occurrence.request_frame, occurrence.closing_frame) == (-1, -1, -1)
    assert (occurrence.resp, occurrence.log_lines) == (PEER, ("error.log:12",))
