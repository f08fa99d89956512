"""Whether a clock offset is believed: logs of another time or another machine must not be joined by chance."""

from pcapdiag.proxy.join.assign import Assigned
from pcapdiag.proxy.join.attempts import group_entries
from pcapdiag.proxy.join.credible import is_credible
from pcapdiag.proxy.join.ledger import LogClock
from pcapdiag.proxy.join.pairs import Pairing
from tests.proxy.join.builders import SPAN, S, entry, wire

HOUR_S = 3600


def clock(offset_s, **changes):
    return LogClock(offset_ns=offset_s * S, width_ns=S, zone_s=0, pairs=1, **changes)


def pairing(n, *, log_offset_s=HOUR_S):
    entries = [entry(10 * k + log_offset_s, line=k, conn=k) for k in range(n)]
    return Pairing(group_entries(entries), [wire(10_000 * k + 500, conn=k) for k in range(n)], None)


def choices(*chosen):
    return {number: Assigned(position, (position,), 1) for number, position in enumerate(chosen)}


def test_clocks_that_agree_need_no_further_proof():
    assert is_credible(clock(2), pairing(4), {}, SPAN)
    assert not is_credible(clock(3), pairing(4, log_offset_s=3), {}, SPAN)


def test_an_offset_that_holds_an_unknown_timeout_is_not_judged():
    assert is_credible(clock(HOUR_S, is_measured=False), pairing(4), {}, SPAN)


def test_of_the_entries_within_the_capture_three_quarters_must_have_a_try():
    assert is_credible(clock(HOUR_S), pairing(4), choices(0, 1, 2), SPAN)
    assert not is_credible(clock(HOUR_S), pairing(4), choices(0, 1), SPAN)
    assert not is_credible(clock(HOUR_S), pairing(4), choices(0, 1, -1, -1), SPAN)


def test_entries_beside_the_capture_do_not_count():
    far = 2 * HOUR_S  # at this offset all of them lie before the capture begins
    assert is_credible(clock(far), pairing(4), {}, SPAN)


def test_of_the_failures_within_the_log_two_fifths_must_have_an_entry():
    entries = [entry(HOUR_S, line=1), entry(HOUR_S + 60, line=2)]
    for n_failures, is_so in ((5, True), (6, False)):
        wires = [wire(500 + 12_000 * k, conn=k) for k in range(n_failures - 1)] + [wire(60_500, conn=9)]
        pairs = Pairing(group_entries(entries), wires, None)
        last = len(wires) - 1
        assert is_credible(clock(HOUR_S), pairs, choices(0, last), SPAN) is is_so
