"""What clients were served, by the second."""

from pcapdiag.proxy.join import clients
from pcapdiag.proxy.join.clients import ClientTally, Served
from pcapdiag.proxy.logs.entries import CUT_OFF
from tests.proxy.join.builders import OTHER, PEER, T0_S, access


def tally_of(*lines):
    tally = ClientTally()
    assert list(tally.watch(lines)) == list(lines)
    return tally


def test_every_request_is_counted_in_the_second_of_its_end():
    tally = tally_of(access(100), access(999), access(1000))
    assert {second: served.requests for second, served in tally.seconds.items()} == {T0_S: 2, T0_S + 1: 1}


def test_what_became_of_requests_is_told_apart():
    tally = tally_of(
        access(0, (PEER, 502, 1), status=502),
        access(0, (PEER, 200, 1), status=499),
        access(0, (PEER, 502, 1), (OTHER, 200, 1)),
        access(0, status=0),
        access(0, status=-1),
        access(0, (PEER, 200, 1)),
    )
    assert tally.seconds[T0_S] == Served(6, failures=2, gave_up=1, retried=1, unread=1, with_tries=4, cut_off=1)


def test_a_retry_that_failed_as_well_or_was_not_waited_for_did_not_save_the_request():
    tries = ((PEER, 502, 1), (OTHER, 502, 1))
    tally = tally_of(access(0, *tries, status=502), access(0, *tries, status=499))
    assert tally.seconds[T0_S].retried == 0


def test_a_log_of_too_many_seconds_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(clients, "MOST_SECONDS", 2)
    tally = tally_of(access(0), access(1000), access(2000), access(1500))
    assert tally.is_cut
    assert [served.requests for served in tally.seconds.values()] == [1, 2]


def test_requests_that_began_in_an_earlier_second_are_known_by_both(monkeypatch):
    lines = [access(100, (PEER, 200, 50)), access(1001, (PEER, 502, 5), status=502), access(5000, (PEER, 200, 4000))]
    tally = tally_of(*lines)
    assert {ended - T0_S: s.requests for ended, s in tally.within(T0_S, T0_S).items()} == {0: 1, 1: 1, 5: 1}
    assert tally.within(T0_S + 1, T0_S + 4).keys() == {T0_S + 1}
    monkeypatch.setattr(clients, "MOST_SECONDS", 3)
    many = tally_of(*[access(1001 + 1000 * n, (PEER, 200, 1000 * n)) for n in range(1, 5)])
    assert len(many.crossing) <= 3


def test_a_request_that_got_no_answer_failed_and_one_whose_status_is_unknown_is_counted_apart():
    (served,) = tally_of(access(0, status=CUT_OFF), access(1, status=-1), access(2, status=200)).seconds.values()
    assert (served.failures, served.cut_off, served.unread, served.gave_up, served.requests) == (1, 1, 1, 0, 3)
