"""One log for many captures: what sent no packets belongs to one of them, and the ledger says where the rest lies."""

import dataclasses

import pytest

from pcapdiag.proxy.join.access import AccessLinks
from pcapdiag.proxy.join.clock import Interval, estimate_clock
from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.join.ledger import Absence, EntryVerdict, LogClock
from pcapdiag.proxy.join.places import Place, Span
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.report.build import build_report
from pcapdiag.report.ledger import ledger_lines
from pcapdiag.rules.pd601_no_live_upstreams import NoLiveUpstreams
from tests.proxy.join.builders import MS, OTHER, PEER, SPAN, T0, T0_S, S, entry, wire
from tests.report.builders import analysis

NO_LIVE = {"kind": LogKind.NO_LIVE_UPSTREAMS, "peer": "be"}
FIRST = dataclasses.replace(SPAN, first_ns=T0, last_ns=T0 + 700 * MS)
SECOND = dataclasses.replace(SPAN, first_ns=T0 + 1300 * MS, last_ns=T0 + 900 * S)


def verdicts(ledger):
    return [j.verdict for j in ledger.entries]


def test_what_a_failure_of_the_capture_put_out_is_its_own_even_after_its_last_frame():
    ledger = join_logs([wire(500)], FIRST, [entry(0), entry(5, line=2, **NO_LIVE)])
    assert verdicts(ledger) == [EntryVerdict.EXPLAINED, EntryVerdict.NO_PACKETS_EXPECTED]
    assert [chain.entry.line for chain in ledger.chains] == [2]


def test_the_next_capture_does_not_count_it_again():
    later = wire(60_500, conn=1)
    log = [entry(0), entry(5, line=2, **NO_LIVE), entry(60, line=3, conn=8), entry(61, line=4, conn=9, **NO_LIVE)]
    ledger = join_logs([later], SECOND, log)
    assert [chain.entry.line for chain in ledger.chains] == [4]
    assert verdicts(ledger)[1] is EntryVerdict.NOT_CAPTURED
    assert ledger.entries[1].reason == "the failures behind it were logged before the capture began"


def test_an_entry_without_a_failure_behind_it_belongs_to_the_capture_of_its_time():
    log = [entry(0), *(entry(at, line=2 + n, pid=9, **NO_LIVE) for n, at in enumerate([-300, 4, 1200]))]
    ledger = join_logs([wire(500)], SPAN, log)
    assert [chain.entry.ts_s - T0_S for chain in ledger.chains] == [4]
    assert [j.reason for j in ledger.entries if j.verdict is EntryVerdict.NOT_CAPTURED] == [
        "it was logged before the capture began",
        "it was logged after the capture ended",
    ]


def test_where_nothing_ties_the_clocks_the_rule_is_not_evaluated_unless_the_zone_is_given():
    log = [entry(4, **NO_LIVE)]
    without = analysis(log=join_logs([], SPAN, log))
    assert list(NoLiveUpstreams().check(without)) == []
    assert "1 such entry" in NoLiveUpstreams().missing(without)
    assert "not known (--log-zone)" in " ".join(ledger_lines(build_report(without, (), (), version="0").log))
    given = analysis(log=join_logs([], SPAN, log, zone_s=0))
    assert [f.count for f in NoLiveUpstreams().check(given)] == [1]
    assert NoLiveUpstreams().missing(given) == ""
    assert "taken to agree" in " ".join(ledger_lines(build_report(given, (), (), version="0").log))
    elsewhere = analysis(log=join_logs([], SPAN, log, zone_s=8 * 3600))
    assert list(NoLiveUpstreams().check(elsewhere)) == []
    assert NoLiveUpstreams().missing(elsewhere) == ""


def test_the_ledger_says_how_many_lie_outside_and_why():
    log = [entry(0), entry(-300, line=2, pid=9, **NO_LIVE), entry(-301, line=3, pid=9, **NO_LIVE)]
    made = build_report(analysis(log=join_logs([wire(500)], SPAN, log)), (), (), version="0").log
    assert "3 log entries about upstreams: 1 explained, 2 not in the capture." in ledger_lines(made)
    assert "Not in the capture: 2: it was logged before the capture began." in ledger_lines(made)
    assert [e.code for e in made.entries] == ["", "", ""]


def test_entries_that_share_a_try_do_not_outvote_clocks_that_agree():
    tries = [wire(100_500 + 2000 * n, conn=n) for n in range(2)]
    honest = [entry(100 + 2 * n, line=10 + n, conn=n) for n in range(2)]
    # Forty seconds earlier three entries lie so that at one offset each has a try, two of them the same.
    crowd = [entry(at, line=n, conn=20 + n) for n, at in enumerate([60, 60, 62], start=1)]
    ledger = join_logs(tries, SPAN, [*crowd, *honest])
    assert abs(ledger.clock.offset_ns) < S
    assert [j.entry.line for j in ledger.entries if j.verdict is EntryVerdict.EXPLAINED] == [10, 11]


def test_entries_and_tries_count_alike_for_the_clock():
    near, far = Interval(0, S), Interval(100 * S, 101 * S)
    rows = [[near], [far], [far]]
    assert estimate_clock(rows).offset_ns // S == 100
    assert estimate_clock(rows, by_try=[[near, far]]).offset_ns // S == 0


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        (LogClock(offset_ns=40 * S, width_ns=S, zone_s=0, pairs=3), Place.BEFORE),
        (LogClock(offset_ns=S // 4, width_ns=S, zone_s=0, pairs=3), Place.INSIDE),
        (LogClock(offset_ns=60 * S, width_ns=S, zone_s=0, pairs=3, is_measured=False), Place.INSIDE),
    ],
)
def test_an_offset_counts_only_as_far_as_it_was_measured(clock, expected):
    assert Span(T0, T0 + 10 * S, clock, None).place(T0_S) is expected


def test_without_a_frame_or_a_clock_nothing_has_a_place():
    assert Span(-1, -1, None, 0).place(T0_S) is Place.UNKNOWN
    assert Span(T0, T0, None, None).place(T0_S) is Place.UNKNOWN


def test_a_failure_of_an_earlier_request_on_the_same_client_connection_was_no_try_of_this_one():
    wires = [wire(500, peer=OTHER), wire(13_500, conn=1)]
    log = [entry(0, peer=OTHER), entry(13, line=2), entry(13, line=3, **NO_LIVE)]
    (chain,) = join_logs(wires, SPAN, log).chains
    found = {link.peer: (link.absence, link.entry.line) for link in chain.links}
    assert found == {PEER: (Absence.TRIED, 2), OTHER: (Absence.PROBED, 1)}


def test_tries_that_took_as_long_as_their_packets_say_are_of_one_request():
    wires = [wire(500, peer=OTHER), wire(700, conn=1, after_ms=12_800)]
    log = [entry(0, peer=OTHER), entry(13, line=2), entry(13, line=3, **NO_LIVE)]
    (chain,) = join_logs(wires, SPAN, log).chains
    assert {link.absence for link in chain.links} == {Absence.TRIED}


def test_peers_with_timeouts_of_their_own_are_not_said_to_share_one():
    ledger = join_logs([wire(500)], SPAN, [entry(0), entry(4, line=2, conn=8, **NO_LIVE)])
    (finding,) = NoLiveUpstreams().check(analysis(log=ledger))
    assert "each for more than 10 s and up to 11 s" in finding.message
    chains = tuple(dataclasses.replace(chain, shortest_timeout_s=4) for chain in ledger.chains)
    (finding,) = NoLiveUpstreams().check(analysis(log=dataclasses.replace(ledger, chains=chains)))
    assert "each for its fail_timeout of 4 s to 10 s" in finding.message


def test_a_log_that_fits_nothing_is_said_to_be_perhaps_another_one():
    def said(wires, entries):
        joined = analysis(log=join_logs(wires, SPAN, entries))
        return " ".join(ledger_lines(build_report(joined, (), (), version="0").log))

    assert "is it the log of this proxy" in said([wire(500)], [entry(0, peer="10.9.9.9:80")])
    assert "the capture has no failure" in said([], [entry(0)])
    other = [entry(0, concerns_upstream=False)]
    assert "has no entry about an upstream (1 record read). 1 failed try on the wire." in said([wire(500)], other)
    assert "No error log was given" in said([wire(500)], [])


def test_a_foreign_log_that_fits_here_and_there_explains_nothing():
    tries = [wire(1000 * at, conn=n) for n, at in enumerate([10, 20, 34, 41, 57, 66])]
    foreign = [entry(at, line=n, conn=n) for n, at in enumerate([210, 220, 231, 249, 252, 263])]
    ledger = join_logs(tries, SPAN, foreign)
    assert ledger.clock.is_ambiguous
    assert EntryVerdict.EXPLAINED not in verdicts(ledger)
    assert "clocks are not certain" in " ".join(j.reason for j in ledger.entries)
    assert ledger.chains == ()


def test_a_clock_that_differs_is_believed_where_the_log_fits_as_a_whole():
    times = [10, 20, 34, 41, 57, 66]
    tries = [wire(1000 * at + 200, conn=n) for n, at in enumerate(times)]
    for kept in (times, times[::2]):
        ledger = join_logs(tries, SPAN, [entry(at + 137, line=n, conn=n) for n, at in enumerate(kept)])
        assert not ledger.clock.is_ambiguous
        assert set(verdicts(ledger)) == {EntryVerdict.EXPLAINED}


def test_a_foreign_log_of_the_same_time_is_asked_about():
    def said(*seconds):
        joined = join_logs([wire(500)], SPAN, [entry(at, line=at + 1, conn=at) for at in seconds])
        return "is it the log of this proxy" in " ".join(
            ledger_lines(build_report(analysis(log=joined), (), (), version="0").log)
        )

    assert said(0, 20, 40)
    assert not said(0, 20)
    assert not said(0)


def test_an_access_log_that_fits_by_chance_ties_nothing_to_the_capture():
    links = AccessLinks(of_wire={1: 2}, to_wire=LogClock(offset_ns=9, width_ns=1, zone_s=0, pairs=1))
    links.forget_wires()
    assert (links.of_wire, links.to_wire) == ({}, None)


def test_entries_that_are_undetermined_for_one_reason_stand_in_one_line():
    log = [entry(at, line=at + 1, conn=at) for at in (0, 20, 40)]
    made = build_report(analysis(log=join_logs([wire(500)], SPAN, log)), (), (), version="0").log
    (line,) = [line for line in ledger_lines(made) if "undetermined, " in line]
    assert line.startswith("error.log:21, 41: undetermined, ")
    assert made.is_certain
