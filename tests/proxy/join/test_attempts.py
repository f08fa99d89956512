"""Which entries tell of one try, and when the tries of an access log's line can have begun."""

from pcapdiag.proxy.join.attempts import group_entries, list_access_tries, tries_by_connection
from pcapdiag.proxy.join.symptoms import Symptom
from pcapdiag.proxy.logs.entries import LogKind
from tests.proxy.join.builders import MS, OTHER, PEER, T0, access, entry

DISABLED = LogKind.SERVER_DISABLED


def positions(*entries):
    return [attempt.entries for attempt in group_entries(entries)]


def test_a_failure_and_what_disables_its_server_are_one_try_in_either_order():
    for pair in ((entry(0), entry(0, kind=DISABLED)), (entry(0, kind=DISABLED), entry(1))):
        (attempt,) = group_entries(pair)
        assert attempt.entries == [0, 1]
        assert attempt.symptom is Symptom.CLOSED
        assert attempt.head.kind is LogKind.PREMATURE_CLOSE


def test_what_is_of_another_connection_worker_peer_or_time_is_another_try():
    first = entry(0)
    for changes in ({"conn": 8}, {"pid": 101}, {"peer": OTHER}):
        assert positions(first, entry(0, kind=DISABLED, **changes)) == [[0], [1]]
    assert positions(first, entry(2, kind=DISABLED)) == [[0], [1]]


def test_two_failures_alike_are_two_tries_and_a_third_entry_is_never_taken_in():
    assert positions(entry(0), entry(0)) == [[0], [1]]
    assert positions(entry(0), entry(0, kind=DISABLED), entry(0, kind=DISABLED)) == [[0, 1], [2]]


def test_the_tries_of_a_line_are_counted_back_from_its_end_and_from_its_beginning():
    first, second = list_access_tries([access(1000, (PEER, 502, 100), (OTHER, 200, 300))])
    assert (first.peer, second.peer) == (PEER, OTHER)
    assert first.start_ns == (T0 + 600 * MS, T0 + 601 * MS)
    assert second.start_ns == (T0 + 700 * MS, T0 + 701 * MS)
    assert first.end_ns == second.start_ns
    assert (first.has_failed, second.has_failed) == (True, False)


def test_tries_that_went_to_no_address_are_none():
    line = access(1000, ("unix:/run/app.sock", 200, 10), ("be", 502, 0), (PEER, 200, 10))
    assert [attempt.peer for attempt in list_access_tries([line])] == [PEER]


def test_tries_are_found_by_connection_and_peer():
    tries = list_access_tries([access(500, (PEER, 200, 10), conn=1), access(400, (PEER, 200, 10), conn=2, line=2)])
    assert tries_by_connection(tries) == {(2, PEER): [0], (1, PEER): [1]}
