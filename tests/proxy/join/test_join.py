"""Small joins whose answer is plain to see."""

import dataclasses
import random

import pytest

from pcapdiag.base.findings import Confidence
from pcapdiag.proxy.join import access as access_log
from pcapdiag.proxy.join import join
from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.join.ledger import Absence, EntryVerdict, WireVerdict
from pcapdiag.proxy.join.places import CaptureSpan
from pcapdiag.proxy.logs.entries import BODY, SENDING, LogKind
from tests.proxy.join.builders import CONNECTING, HEADER, MS, OTHER, PEER, SPAN, T0, S, access, entry, wire

ALSO_TESTS = ("match",)

NO_LIVE = LogKind.NO_LIVE_UPSTREAMS


def verdicts(ledger):
    return [j.verdict for j in ledger.entries]


def test_the_only_try_at_its_peer_is_it():
    ledger = join_logs([wire(500)], SPAN, [entry(0)])
    (joined,) = ledger.entries
    assert joined.verdict is EntryVerdict.EXPLAINED
    assert joined.wire.conn == 0
    assert joined.confidence is Confidence.CONFIRMED
    assert [t.verdict for t in ledger.tries] == [WireVerdict.LOGGED]


def test_tries_alike_are_told_apart_by_order():
    wires = [wire(500 + 10 * n, conn=n) for n in range(3)]
    ledger = join_logs(wires, SPAN, [entry(0, line=n, conn=n) for n in range(3)])
    assert [j.wire.conn for j in ledger.entries] == [0, 1, 2]
    assert {j.confidence for j in ledger.entries} == {Confidence.LIKELY}


def test_one_entry_for_two_tries_alike_is_undetermined_and_names_both():
    ledger = join_logs([wire(500, conn=0), wire(520, conn=1)], SPAN, [entry(0)])
    (joined,) = ledger.entries
    assert joined.verdict is EntryVerdict.UNDETERMINED
    assert {w.conn for w in joined.candidates} == {0, 1}
    assert {t.verdict for t in ledger.tries} == {WireVerdict.UNDETERMINED}


def test_the_access_log_decides_between_tries_alike():
    lines = [
        access(620, (PEER, 502, 100), conn=9, status=502),
        access(600, (PEER, 502, 100), conn=8, status=502, line=2),
    ]
    ledger = join_logs([wire(500, conn=0), wire(520, conn=1)], SPAN, [entry(0, conn=9)], lines)
    (joined,) = ledger.entries
    assert joined.verdict is EntryVerdict.EXPLAINED
    assert joined.wire.conn == 1
    assert joined.access.log_conn == 9


@pytest.mark.parametrize(("shift_s", "zone_s"), [(28800, 28800), (137, 0), (28800 - 200, 28800)])
def test_a_log_in_another_zone_or_with_a_wrong_clock_joins_alike(shift_s, zone_s):
    at = [500, 17_300, 29_900]
    wires = [wire(ms, conn=n) for n, ms in enumerate(at)]
    entries = [entry((ms + 100) // 1000 + shift_s, line=n) for n, ms in enumerate(at)]
    ledger = join_logs(wires, SPAN, entries)
    assert [j.wire.conn for j in ledger.entries] == [0, 1, 2]
    assert ledger.clock.zone_s == zone_s
    assert ledger.clock.pairs == 3


@pytest.mark.parametrize(
    ("method", "verdict"), [("GET", EntryVerdict.UNDETERMINED), ("POST", EntryVerdict.NOT_CAPTURED)]
)
def test_what_fits_in_another_zone_than_was_given_is_not_called_absent(method, verdict):
    (joined,) = join_logs([wire(500, method=method)], SPAN, [entry(28_800)], zone_s=0).entries
    assert joined.verdict is verdict
    assert ("UTC+08:00" in joined.reason) is (verdict is EntryVerdict.UNDETERMINED)


def test_a_target_a_method_or_a_kind_that_differs_is_another_try():
    others = [
        wire(500, conn=0, target="/other"),
        wire(500, conn=1, method="POST"),
        wire(500, conn=2, peer=OTHER),
        wire(500, conn=3, resp_fin_ns=-1, orig_fin_ns=-1, resp_rst_ns=T0 + 600 * MS),
    ]
    ledger = join_logs([*others, wire(510, conn=4)], SPAN, [entry(0)])
    assert ledger.entries[0].wire.conn == 4
    assert verdicts(join_logs(others, SPAN, [entry(0)])) == [EntryVerdict.NOT_CAPTURED]


def test_a_try_whose_target_is_seen_is_preferred_to_one_whose_head_was_cut_off():
    (joined,) = join_logs([wire(500, target="", method=""), wire(510, conn=1)], SPAN, [entry(0)]).entries
    assert joined.wire.conn == 1


def test_two_entries_of_one_try_have_one_verdict():
    entries = [entry(0), entry(0, line=2, kind=LogKind.SERVER_DISABLED)]
    ledger = join_logs([wire(500)], SPAN, entries)
    assert [j.wire.conn for j in ledger.entries] == [0, 0]
    assert len(ledger.tries[0].entries) == 2


def test_disabled_stands_before_a_connect_that_timed_out():
    silent = wire(500, depth=-1, resp_fin_ns=-1, orig_fin_ns=-1, method="", target="")
    entries = [
        entry(3, kind=LogKind.SERVER_DISABLED, action=CONNECTING),
        entry(3, line=2, kind=LogKind.TIMED_OUT, action=CONNECTING),
        entry(7, line=3, peer=OTHER),
    ]
    ledger = join_logs([silent, wire(7000, conn=1, peer=OTHER)], SPAN, entries)
    assert [j.wire.conn for j in ledger.entries] == [0, 0, 1]


def test_a_silent_timeout_is_found_without_knowing_how_long_it_was():
    silent = [wire(ms, conn=n, resp_fin_ns=-1, orig_fin_ns=-1) for n, ms in enumerate((500, 8_700, 15_100))]
    entries = [entry(at, line=n, kind=LogKind.TIMED_OUT) for n, at in enumerate((4, 12, 19))]
    entries.append(entry(40, line=9, peer=OTHER))
    ledger = join_logs([*silent, wire(40_300, conn=9, peer=OTHER)], SPAN, entries)
    assert [j.wire.conn for j in ledger.entries] == [0, 1, 2, 9]
    assert ledger.clock.is_measured


def refused(at_ms, **changes):
    """Return an attempt whose SYNs nothing answers in the packets; the last of them may come later."""
    none = {"resp_fin_ns": -1, "orig_fin_ns": -1, "depth": -1, "method": "", "target": "", "host": ""}
    last = changes.pop("last_ms", at_ms)
    return wire(at_ms, last_sent_ns=T0 + last * MS, **none | changes)


def test_an_attempt_that_icmp_ended_is_told_by_its_last_syn():
    unreachable = {"kind": LogKind.CONNECT_FAILED, "action": CONNECTING, "errno": 113, "errno_name": "EHOSTUNREACH"}
    entries = [entry(0), entry(3, line=2, **unreachable), entry(4, line=3, **unreachable)]
    wires = [wire(500), refused(2100, conn=1, last_ms=4100), refused(3100, conn=2)]
    ledger = join_logs(wires, SPAN, entries)
    assert [joined.wire.conn for joined in ledger.entries] == [0, 2, 1]


@pytest.mark.parametrize(
    ("errno", "of_wire", "is_told"),
    [(111, 111, True), (113, 113, True), (101, 101, True), (111, 113, False), (113, 111, False)],
)
def test_an_icmp_error_in_the_capture_is_the_moment_of_the_entry(errno, of_wire, is_told):
    names = {111: "ECONNREFUSED", 113: "EHOSTUNREACH", 101: "ENETUNREACH"}
    told = {"kind": LogKind.CONNECT_FAILED, "action": CONNECTING, "errno": errno, "errno_name": names[errno]}
    attempts = [refused(at, conn=at, icmp_ns=T0 + (at + 1) * MS, icmp_errno=of_wire) for at in (2100, 3300)]
    ledger = join_logs(attempts, SPAN, [entry(2, **told), entry(3, line=2, **told)])
    assert [joined.wire.conn if joined.wire else None for joined in ledger.entries] == (
        [2100, 3300] if is_told else [None, None]
    )
    assert not is_told or ledger.clock.is_measured


def unread(at_ms, **changes):
    """Return an upload that the upstream stopped to read: a RST long after the proxy had silently given it up."""
    start = T0 + at_ms * MS
    return wire(at_ms, resp_fin_ns=-1, orig_fin_ns=-1, resp_rst_ns=start + 70 * S, is_acknowledged=True, **changes)


def test_of_timeouts_that_fit_alike_one_of_whole_seconds_is_taken():
    told = {"kind": LogKind.TIMED_OUT, "action": CONNECTING, "errno_name": "ETIMEDOUT"}
    starts = 1250, 1550, 2750, 2850
    # Closings just after and just before a full second, so that the clock is known well.
    wires = [*(refused(at, conn=n) for n, at in enumerate(starts)), wire(19_920, conn=8), wire(21_880, conn=9)]
    stamps = [*(((at + 2000) // 1000, told) for at in starts), (20, {}), (21, {})]
    ledger = join_logs(wires, SPAN, [entry(at_s, line=n + 1, **kind) for n, (at_s, kind) in enumerate(stamps)])
    assert [joined.wire and joined.wire.conn for joined in ledger.entries] == [0, 1, 2, 3, 8, 9]


def test_a_timeout_whose_fin_waited_behind_the_request_is_told_by_when_it_ran_out():
    late = {"resp_fin_ns": -1, "orig_fin_ns": T0 + 9080 * MS}
    told = {"kind": LogKind.TIMED_OUT, "errno_name": "ETIMEDOUT"}
    for changes, is_told in (({}, False), ({"held_back_ns": T0 + 9080 * MS}, True)):
        wires = [wire(500), wire(1000, conn=1, **late, **changes)]
        ledger = join_logs(wires, SPAN, [entry(0), entry(6, line=2, **told)])
        assert (ledger.entries[1].wire is not None) == is_told


@pytest.mark.parametrize(("action", "is_told"), [(SENDING, True), (HEADER, False)])
def test_an_upload_that_was_given_up_silently_is_told_by_what_the_proxy_was_doing(action, is_told):
    entries = [entry(0), entry(7, line=2, kind=LogKind.TIMED_OUT, errno_name="ETIMEDOUT", action=action)]
    ledger = join_logs([wire(500), unread(1000, conn=1)], SPAN, entries)
    assert [joined.wire is not None for joined in ledger.entries] == [True, is_told]


@pytest.mark.parametrize(
    ("changes", "action", "is_told"),
    [
        ({}, BODY, False),
        ({"is_end_known": False}, BODY, True),
        ({"is_end_known": False}, HEADER, False),
        ({"is_end_known": False, "has_head": True}, HEADER, True),
    ],
)
def test_a_response_whose_end_is_not_shown_may_have_broken_off(changes, action, is_told):
    answered = wire(1500, conn=1, first_response_ns=T0 + 1550 * MS, target="/b", is_failure=False, **changes)
    ledger = join_logs([wire(500), answered], SPAN, [entry(0), entry(1, line=2, action=action, upstream_uri="/b")])
    assert [joined.wire is not None for joined in ledger.entries] == [True, is_told]


def test_a_response_that_seems_whole_is_not_preferred_to_a_try_that_failed():
    answered = wire(400, conn=1, first_response_ns=T0 + 450 * MS, is_failure=False, is_end_known=False)
    failed = wire(500, first_response_ns=T0 + 550 * MS)
    (joined,) = join_logs([answered, failed], SPAN, [entry(0, action=BODY)]).entries
    assert joined.wire is failed


def test_timeouts_alone_do_not_measure_the_clock():
    silent = [wire(ms, conn=n, resp_fin_ns=-1, orig_fin_ns=-1) for n, ms in enumerate((500, 8_700, 15_100))]
    entries = [entry(at, line=n, kind=LogKind.TIMED_OUT) for n, at in enumerate((4, 12, 19))]
    ledger = join_logs(silent, SPAN, entries)
    assert [j.wire.conn for j in ledger.entries] == [0, 1, 2]
    assert not ledger.clock.is_measured


def test_what_the_capture_cannot_hold_is_not_captured():
    span = CaptureSpan(T0, T0 + 60 * S, frozenset({PEER}))
    entries = [entry(-30), entry(0, line=2), entry(90, line=3), entry(5, line=4, peer="10.9.9.9:80")]
    ledger = join_logs([wire(500)], span, entries)
    found = {j.entry.line: j.verdict for j in ledger.entries}
    assert found == {
        1: EntryVerdict.NOT_CAPTURED,
        2: EntryVerdict.EXPLAINED,
        3: EntryVerdict.NOT_CAPTURED,
        4: EntryVerdict.NOT_CAPTURED,
    }


def test_a_failure_that_the_log_should_tell_of_and_does_not_is_said():
    late = wire(20_000, conn=1, peer=OTHER)
    ledger = join_logs([wire(500), late, wire(40_000, conn=2)], SPAN, [entry(0), entry(40, line=2)])
    assert [t.verdict for t in ledger.tries] == [WireVerdict.LOGGED, WireVerdict.NOT_IN_LOG, WireVerdict.LOGGED]


def test_both_sides_add_up():
    wires = [wire(500 * n, conn=n) for n in range(7)]
    ledger = join_logs(wires, SPAN, [entry(0), entry(1, line=2), entry(0, line=3, kind=NO_LIVE, peer="be")])
    assert len(ledger.entries) == 3
    assert len(ledger.tries) == 7


def test_no_live_upstreams_names_the_failure_behind_each_peer():
    entries = [
        entry(0, peer=PEER, conn=1),
        entry(2, line=2, peer=OTHER, conn=5),
        entry(2, line=3, peer="be", conn=5, kind=NO_LIVE, action=CONNECTING),
        entry(9, line=4, peer="be", conn=6, kind=NO_LIVE, action=CONNECTING),
    ]
    ledger = join_logs([wire(500), wire(2000, conn=1, peer=OTHER)], SPAN, entries)
    assert verdicts(ledger)[2:] == [EntryVerdict.NO_PACKETS_EXPECTED] * 2
    own, other = ledger.chains
    assert [(k.peer, k.absence, k.wire.conn) for k in own.links] == [
        (PEER, Absence.DISABLED, 0),
        (OTHER, Absence.TRIED, 1),
    ]
    assert [(k.peer, k.absence) for k in other.links] == [(PEER, Absence.DISABLED), (OTHER, Absence.DISABLED)]
    assert own.is_complete
    assert other.is_complete


@pytest.mark.parametrize(("changes", "at_s"), [({}, 700), ({"pid": 200}, 5)])
def test_a_failure_long_ago_or_of_another_worker_explains_nothing(changes, at_s):
    entries = [entry(0), entry(at_s, line=2, kind=NO_LIVE, peer="be", conn=9, **changes)]
    (chain,) = join_logs([wire(500)], SPAN, entries).chains
    assert [link.absence for link in chain.links] == [Absence.UNKNOWN]
    assert not chain.is_complete


def test_after_its_time_out_a_peer_is_tried_by_one_request_only():
    entries = [entry(0), *(entry(at, line=at, kind=NO_LIVE, peer="be", conn=at) for at in (11, 12))]
    out, probed = join_logs([wire(500)], SPAN, entries).chains
    assert [link.absence for link in out.links] == [Absence.DISABLED]
    assert [link.absence for link in probed.links] == [Absence.PROBED]


def test_a_retry_that_succeeded_and_what_it_cost():
    lines = [access(921, (PEER, 502, 100), (OTHER, 200, 321))]
    (retry,) = join_logs([wire(500)], SPAN, [entry(0)], lines).retries
    assert retry.wire.conn == 0
    assert retry.delay_ns == 100 * MS
    assert retry.access.status == 200


def test_a_log_without_an_upstream_leaves_no_clock_and_the_tries_unlogged():
    ledger = join_logs([wire(500)], SPAN, [entry(0, concerns_upstream=False)])
    assert ledger.clock is None
    assert [t.verdict for t in ledger.tries] == [WireVerdict.NOT_IN_LOG]


def test_of_a_log_that_nobody_read_nothing_is_said():
    ledger = join_logs([wire(500)], SPAN, [])
    assert ledger.errors_read == -1
    assert [t.verdict for t in ledger.tries] == [WireVerdict.UNDETERMINED]


def test_entries_of_no_upstream_are_passed_over():
    foreign = dataclasses.replace(entry(0), concerns_upstream=False)
    assert join_logs([], SPAN, [foreign]).entries == ()


@pytest.mark.parametrize("shift_s", [0, 8 * 3600])
def test_where_every_second_has_failures_their_numbers_tell_the_offset(shift_s):
    pick = random.Random(7)
    at = sorted(pick.sample(range(0, 60_000, 3), 500))
    wires = [wire(ms, conn=n) for n, ms in enumerate(at)]
    entries = [entry((ms + 100) // 1000 + shift_s, line=n, conn=n) for n, ms in enumerate(at)]
    ledger = join_logs(wires, SPAN, entries)
    wrong = [j for j in ledger.entries if j.wire is not None and j.wire.conn != j.entry.log_conn]
    assert wrong == []
    assert ledger.clock.zone_s == shift_s
    assert abs(ledger.clock.offset_ns) < S // 4


def test_an_offset_that_is_one_of_several_explains_nothing():
    wires = [wire(500, conn=0), wire(20_500, conn=1)]
    (joined,) = join_logs(wires, SPAN, [entry(200)]).entries
    assert joined.verdict is EntryVerdict.UNDETERMINED


def test_what_is_too_much_to_be_kept_is_counted(monkeypatch):
    monkeypatch.setattr(join, "MOST_ENTRIES", 2)
    ledger = join_logs([wire(500)], SPAN, [entry(0), entry(1), entry(2)])
    assert (len(ledger.entries), ledger.entries_left_out) == (2, 1)


def test_of_too_many_access_lines_those_of_the_error_log_s_connections_stay(monkeypatch):
    monkeypatch.setattr(access_log, "MOST_ACCESSES", 2)
    lines = [access(600, (PEER, 502, 100), conn=n, status=502) for n in (90, 91, 7)]
    kept, n_left_out = access_log.keep_accesses(lines, {7})
    assert ([line.log_conn for line in kept], n_left_out) == ([7, 90], 1)


def test_where_some_of_very_many_failures_are_joined_nothing_is_called_absent():
    wires = [wire(500), wire(4000, conn=5, peer=OTHER)]
    logged = [entry(-400, line=1), entry(0, line=2), entry(9, line=3, conn=1), entry(9, line=4, peer="10.9.9.9:1")]
    whole = join_logs(wires, SPAN, logged)
    some = join.without_absence(whole)
    assert whole.entries[2].reason == "no failed try at this peer fits kind and time"
    assert some.entries[2].verdict is EntryVerdict.UNDETERMINED
    assert "only some of them" in some.entries[2].reason
    # What is explained stays so, and what is outside the capture, or about an upstream that is not in it.
    kept = [0, 1, 3]
    assert [verdicts(whole)[n] for n in kept] == [
        EntryVerdict.NOT_CAPTURED,
        EntryVerdict.EXPLAINED,
        EntryVerdict.NOT_CAPTURED,
    ]
    assert [some.entries[n] for n in kept] == [whole.entries[n] for n in kept]
    assert [t.verdict for t in whole.tries] == [WireVerdict.LOGGED, WireVerdict.NOT_IN_LOG]
    assert [t.verdict for t in some.tries] == [WireVerdict.LOGGED, WireVerdict.UNDETERMINED]


def test_what_was_logged_of_an_upstream_whose_streams_are_not_framed_may_be_in_the_capture():
    span = dataclasses.replace(SPAN, unframed=frozenset({OTHER}))
    logged = [entry(0, line=1), entry(9, line=2, conn=1, peer=OTHER), entry(2000, line=3, conn=2, peer=OTHER)]
    framed, unframed = (join_logs([wire(500)], s, logged) for s in (SPAN, span))
    assert verdicts(framed) == [EntryVerdict.EXPLAINED, EntryVerdict.UNDETERMINED, EntryVerdict.NOT_CAPTURED]
    assert verdicts(unframed) == verdicts(framed)
    assert "HTTP/2" in unframed.entries[1].reason
    assert {f.line for f in framed.outside} - {f.line for f in unframed.outside} == {2}
    # Without a clock too: nothing failed that could be one.
    (alone,) = join_logs([], span, [entry(9, peer=OTHER)]).entries
    assert alone.verdict is EntryVerdict.UNDETERMINED
    (alone,) = join_logs([], SPAN, [entry(9, peer=OTHER)]).entries
    assert alone.verdict is EntryVerdict.NOT_CAPTURED


def test_a_reload_that_the_log_tells_of_is_kept_once_and_its_processes_are_not():
    def said(second, message):
        told = entry(second, kind=LogKind.PROCESS)
        return dataclasses.replace(told, message=message, upstream_peer="", upstream="", concerns_upstream=False)

    lines = [
        said(7, "signal 1 (SIGHUP) received from 812, reconfiguring"),
        said(7, "signal 1 (SIGHUP) received from 812, reconfiguring"),
        said(8, "reconfiguring"),
        said(9, "gracefully shutting down"),
        said(12, "signal 1 (SIGHUP) received from 812, reconfiguring"),
    ]
    ledger = join_logs([wire(500)], SPAN, lines)
    assert [second - lines[0].ts_s for second in ledger.reloads] == [0, 5]
    assert ledger.entries == ()


@pytest.mark.parametrize(
    ("waited_ms", "expected"), [(3_001, WireVerdict.NOT_IN_LOG), (1_437, WireVerdict.NOTHING_LOGGED)]
)
def test_a_timeout_is_of_a_kind_that_leaves_an_entry(waited_ms, expected):
    gone = wire(500, resp_fin_ns=-1, orig_fin_ns=-1)
    at = max(gone.start_ns, gone.last_sent_ns) + waited_ms * MS
    gone = dataclasses.replace(gone, resp_rst_ns=-1, alert_ns=-1, orig_rst_ns=-1, orig_fin_ns=at)
    ledger = join_logs([gone], SPAN, [entry(0, concerns_upstream=False)])
    assert [t.verdict for t in ledger.tries] == [expected]
