"""The plain model of nginx's choice of peers, clause by clause; `test_real_nginx.py` holds it against nginx."""

import random
import re
from collections import Counter

import pytest

from tests.whatif.plain_selection import Peer, Result, Settings, State, Try

OLD_TRIES, OLD_RECOVERY, OLD_METHODS, OLD_DOWN = (1, 7, 4), (1, 11, 4), (1, 9, 12), (1, 19, 5)
NO_LIVE = 502


def block(*peers, **settings):
    if "next_upstream" in settings:
        settings["next_upstream"] = frozenset(settings["next_upstream"].split())
    return State(peers, Settings(**settings))


def always(outcome, **more):
    return lambda *_: Try(outcome, **more)


def by_peer(*outcomes):
    """Each peer does the same at every try; ``stale`` is a pooled connection that was closed."""
    tries = [Try("error", cached=True) if outcome == "stale" else Try(outcome) for outcome in outcomes]
    return lambda peer, *_: tries[peer]


def run(state, now_s, outcome, *, method="GET", worker=0, **more):
    result = state.run(now_s, worker, method, outcome, **more)
    return list(result.peers), result.status


# The vectors of the research on nginx.


def test_a_stale_connection_to_each_of_two_peers_leaves_none_live_for_more_than_the_fail_timeout():
    state = block(Peer(), Peer())
    assert run(state, 100.5, by_peer("stale", "ok")) == ([0, 1], 200)
    result = state.run(101.5, 0, "GET", by_peer("ok", "stale"))
    assert result == Result((1,), NO_LIVE, no_live=True)
    assert state.run(102, 0, "GET", always("ok")) == Result((), NO_LIVE, no_live=True)
    assert run(state, 110.9, always("ok")) == ([], NO_LIVE)
    assert run(state, 111.0, always("ok")) == ([0], 200)


def test_one_request_can_spend_all_peers_on_stale_connections():
    state = block(*[Peer(max_fails=0)] * 3)
    assert state.run(100, 0, "GET", always("error", cached=True)) == Result((0, 1, 2), NO_LIVE, no_live=True)


@pytest.mark.parametrize(("method", "tried", "status"), [("GET", 4, 200), ("PUT", 4, 200), ("POST", 1, 502)])
def test_a_single_peer_is_tried_through_all_its_stale_connections(method, tried, status):
    state = block(Peer())

    def three_stale(_peer, n, _now_s):
        return Try("error", cached=True) if n < 3 else Try("ok")

    assert run(state, 100, three_stale, method=method) == ([0] * tried, status)


def test_off_passes_nothing_on():
    state = block(Peer(), Peer(), next_upstream="off error")
    assert run(state, 100, by_peer("error", "ok")) == ([0], 502)


@pytest.mark.parametrize(("zone", "other"), [(True, [1]), (False, [0, 1])])
def test_what_one_worker_learns_others_know_only_by_a_zone(zone, other):
    state = block(Peer(), Peer(), zone=zone, workers=2)
    assert run(state, 100, by_peer("error", "ok"), worker=7) == ([0, 1], 200)
    # Without a zone the other worker begins with the first peer, as the first did.
    assert run(state, 100, by_peer("error", "ok"), worker=8) == (other, 200)


def test_a_listed_status_is_shown_uncounted_when_it_comes_at_the_last_try():
    state = block(Peer(), Peer(), next_upstream="error http_502")
    assert run(state, 100, always("http_502")) == ([0, 1], 502)
    assert [p.fails for p in state.groups_of(0)[0]] == [1, 0]


@pytest.mark.parametrize(("version", "peers"), [(OLD_RECOVERY, [1]), ((1, 11, 5), [])])
def test_once_nginx_forgave_all_peers_when_all_had_failed(version, peers):
    state = block(Peer(), Peer(), version=version)
    assert run(state, 100, always("error")) == ([0, 1], 502)
    assert run(state, 101, always("ok")) == ([], NO_LIVE)
    assert run(state, 102, always("ok"))[0] == peers


# One address.


def test_a_single_peer_is_never_out():
    state = block(Peer(max_fails=1))
    for second in range(100, 105):
        assert run(state, second, always("error")) == ([0], 502)


def test_a_single_peer_that_is_down_or_full_is_not_live():
    assert run(block(Peer(down=True)), 100, always("ok")) == ([], NO_LIVE)
    state = block(Peer(max_conns=1))
    state.pick(state.begin(100), 100)
    assert run(state, 100, always("ok")) == ([], NO_LIVE)


def test_a_second_server_that_is_down_makes_the_first_lose_its_privilege():
    state = block(Peer(), Peer(down=True))
    assert run(state, 100, always("error")) == ([0], 502)
    assert run(state, 101, always("ok")) == ([], NO_LIVE)


def test_so_does_a_backup():
    state = block(Peer(), Peer(backup=True))
    assert run(state, 100, by_peer("error", "ok")) == ([0, 1], 200)
    assert run(state, 101, by_peer("error", "ok")) == ([1], 200)


# Failing and coming back.


def test_a_peer_is_probed_once_after_its_fail_timeout():
    state = block(Peer(fail_timeout_s=3), Peer(max_fails=0))
    assert run(state, 100.9, by_peer("error", "ok")) == ([0, 1], 200)
    assert run(state, 103.9, by_peer("ok", "ok")) == ([1], 200)
    # Its turn comes late: it had lost its weight.
    assert [run(state, 104, always("ok"))[0] for _ in range(2)] == [[1], [1]]
    probe = state.begin(104)
    assert state.pick(probe, 104) == 0
    # Nobody else goes there while the probe is under way, nor for another fail_timeout.
    assert [run(state, second, always("ok"))[0] for second in (104, 105, 106, 107)] == [[1]] * 4
    assert state.decide(probe, Try("ok"), 107.5) == 200
    assert state.groups_of(0)[0][0].fails == 0
    assert 0 in {run(state, 107.6, always("ok"))[0][0] for _ in range(2)}


def test_fails_count_up_until_a_success_that_came_later_than_the_fail_timeout():
    state = block(Peer(max_fails=3, fail_timeout_s=2), Peer(backup=True))
    assert run(state, 100, by_peer("error", "ok"))[0] == [0, 1]
    run(state, 101, always("ok"))
    assert state.groups_of(0)[0][0].fails == 1, "too early to be a check"
    assert run(state, 103, always("ok")) == ([0], 200)
    assert state.groups_of(0)[0][0].fails == 0


def test_max_fails_0_is_never_out():
    state = block(Peer(max_fails=0), Peer(max_fails=0))
    for second in range(100, 104):
        assert sorted(run(state, second, always("error"))[0]) == [0, 1]


@pytest.mark.parametrize("outcome", ["http_403", "http_404"])
def test_403_and_404_are_passed_on_and_no_failures(outcome):
    state = block(Peer(), Peer(), next_upstream=outcome)
    assert run(state, 100, by_peer(outcome, "ok")) == ([0, 1], 200)
    assert state.groups_of(0)[0][0].fails == 0


@pytest.mark.parametrize("outcome", ["http_500", "http_503", "http_504", "http_429"])
def test_other_listed_statuses_are_failures(outcome):
    state = block(Peer(), Peer(), next_upstream=outcome)
    assert run(state, 100, by_peer(outcome, "ok")) == ([0, 1], 200)
    assert run(state, 101, always("ok"))[0] == [1]


def test_a_status_that_is_not_listed_is_shown_and_no_failure():
    state = block(Peer(), Peer())
    assert run(state, 100, always("http_503")) == ([0], 503)
    assert run(state, 100, always("http_418")) == ([1], 418)
    assert {p.fails for p in state.groups_of(0)[0]} == {0}


def test_a_client_that_went_away_fails_nobody():
    state = block(Peer(), Peer())
    assert run(state, 100, always("client_gone")) == ([0], 499)
    assert state.groups_of(0)[0][0].fails == 0


# Weights.


def test_weights_interleave():
    state = block(Peer(weight=5), Peer(), Peer())
    assert [run(state, 100, always("ok"))[0][0] for _ in range(7)] == [0, 0, 1, 0, 2, 0, 0]


def test_a_failure_costs_weight_which_comes_back_bit_by_bit():
    state = block(Peer(weight=4, max_fails=2), Peer(weight=4))
    assert run(state, 100, by_peer("error", "ok"))[0] == [0, 1]
    live = state.groups_of(0)[0][0]
    assert live.effective_weight == 2
    run(state, 100, always("ok"))
    assert live.effective_weight == 3
    for _ in range(3):
        run(state, 100, always("ok"))
    assert live.effective_weight == 4


def test_no_weight_sinks_below_nothing():
    state = block(Peer(), Peer(backup=True))
    requests = [state.begin(100) for _ in range(3)]
    assert [state.pick(request, 100) for request in requests] == [0, 0, 0]
    for request in requests:
        state.decide(request, Try("error"), 100)
    assert state.groups_of(0)[0][0].effective_weight == 0


# How often, how long, and what is passed on.


def test_tries_are_capped():
    state = block(Peer(), Peer(), Peer(), tries=2)
    assert run(state, 100, always("error")) == ([0, 1], 502)


def test_a_stale_connection_is_given_back_its_try_but_not_its_peer():
    state = block(Peer(), Peer(), Peer(), tries=1)
    assert run(state, 100, by_peer("stale", "stale", "ok")) == ([0, 1, 2], 200)
    assert [p.fails for p in state.groups_of(0)[0]] == [1, 1, 0]


def test_a_pooled_connection_that_times_out_costs_its_try():
    state = block(Peer())
    assert run(state, 100, always("timeout", cached=True)) == ([0], 504)


@pytest.mark.parametrize(("version", "peers"), [(OLD_DOWN, [0, 1, 2]), ((1, 19, 6), [0, 1, 2])])
def test_servers_that_are_down_once_counted_as_tries(version, peers):
    state = block(Peer(), Peer(down=True), Peer(), version=version)
    request = state.begin(100)
    assert request.tries == len(peers) - (version != OLD_DOWN)
    # It shows where all peers that are up were tried: one try too many meets an empty list.
    result = state.run(100, 0, "GET", always("error"))
    assert result.no_live == (version == OLD_DOWN)


def test_backups_once_were_counted_only_when_the_last_of_the_others_was_tried():
    state = block(Peer(), Peer(), Peer(backup=True), version=OLD_TRIES)
    assert state.begin(100).tries == 2
    assert run(state, 100, by_peer("error", "error", "ok")) == ([0, 1, 2], 200)
    assert block(Peer(), Peer(), Peer(backup=True)).begin(100).tries == 3


def test_backups_begin_when_all_others_are_out_and_with_a_clean_slate():
    state = block(Peer(), Peer(), Peer(backup=True), Peer(backup=True))
    assert run(state, 100, by_peer("error", "error", "error", "ok")) == ([0, 1, 2, 3], 200)
    assert run(state, 101, always("ok"))[0] == [3]


@pytest.mark.parametrize(("timeout_s", "tried"), [(1.9, 2), (2, 2), (2.001, 3)])
def test_the_time_of_all_tries_together_is_limited(timeout_s, tried):
    state = block(*[Peer()] * 5, timeout_s=timeout_s)
    assert run(state, 100.3, always("timeout", duration_s=1)) == (list(range(tried)), 504)


@pytest.mark.parametrize(
    ("outcome", "method", "allowed", "version", "goes_on"),
    [
        ("error", "GET", "error", (1, 22, 1), True),
        ("error", "GET", "timeout", (1, 22, 1), False),
        ("refused", "GET", "error", (1, 22, 1), True),
        ("connect_timeout", "POST", "timeout", (1, 22, 1), True),
        ("invalid_header", "GET", "error timeout", (1, 22, 1), False),
        ("invalid_header", "GET", "invalid_header", (1, 22, 1), True),
        ("error", "POST", "error", (1, 22, 1), False),
        ("error", "POST", "error non_idempotent", (1, 22, 1), True),
        ("error", "POST", "error", OLD_METHODS, True),
        ("refused", "POST", "error", (1, 22, 1), True),
        ("error", "PUT", "error", (1, 22, 1), True),
        ("error", "DELETE", "error", (1, 22, 1), True),
        ("error", "LOCK", "error", (1, 22, 1), False),
        ("error", "PATCH", "error", (1, 22, 1), False),
        ("http_503", "POST", "http_503", (1, 22, 1), False),
        ("http_503", "POST", "http_503 non_idempotent", (1, 22, 1), True),
    ],
)
def test_what_is_passed_on(outcome, method, allowed, version, goes_on):
    state = block(Peer(), Peer(), next_upstream=allowed, version=version)
    assert run(state, 100, by_peer(outcome, "ok"), method=method)[0] == ([0, 1] if goes_on else [0])


@pytest.mark.parametrize("outcome", ["error", "http_500"])
@pytest.mark.parametrize(
    ("buffering", "body_unread", "peers"), [(False, True, [0]), (False, False, [0, 1]), (True, True, [0, 1])]
)
def test_without_buffering_a_body_that_was_not_all_there_is_sent_once(outcome, buffering, body_unread, peers):
    state = block(Peer(), Peer(), buffering=buffering, next_upstream="error http_500")
    assert run(state, 100, by_peer(outcome, "ok"), method="PUT", body_unread=body_unread)[0] == peers


def test_without_buffering_what_was_never_sent_goes_on():
    state = block(Peer(), Peer(), buffering=False)
    assert run(state, 100, by_peer("refused", "ok"), method="PUT", body_unread=True) == ([0, 1], 200)


@pytest.mark.parametrize(("version", "tried"), [(OLD_METHODS, 2), ((1, 9, 13), 1)])
def test_stale_connections_were_once_tried_again_whatever_was_allowed(version, tried):
    state = block(Peer(), Peer(), version=version, next_upstream="off")
    assert len(run(state, 100, by_peer("stale", "ok"), method="POST")[0]) == tried


# Other balancers.


def test_a_full_peer_is_passed_over():
    state = block(Peer(max_conns=1), Peer())
    first = state.begin(100)
    assert state.pick(first, 100) == 0
    assert [run(state, 100, always("ok"))[0] for _ in range(3)] == [[1]] * 3
    state.decide(first, Try("ok"), 101)
    assert 0 in {run(state, 101, always("ok"))[0][0] for _ in range(2)}


def test_least_conn_counts_connections_by_weight():
    state = block(Peer(weight=3), Peer(), balance="least_conn")
    requests = [state.begin(100) for _ in range(8)]
    picked = [state.pick(request, 100) for request in requests]
    assert Counter(picked) == {0: 6, 1: 2}
    state.decide(requests[picked.index(1)], Try("ok"), 101)
    assert state.pick(state.begin(101), 101) == 1


def test_least_conn_without_load_is_round_robin_and_knows_backups():
    state = block(Peer(), Peer(), Peer(backup=True), balance="least_conn")
    assert [run(state, 100, always("ok"))[0][0] for _ in range(4)] == [0, 1, 0, 1]
    assert run(state, 100, by_peer("error", "error", "ok")) == ([0, 1, 2], 200)


def test_ip_hash_keeps_a_network_of_clients_together():
    state = block(*[Peer(max_fails=0)] * 4, balance="ip_hash")
    # ((89 * 113 + 10) * 113 + 1) * 113 + 2, each step modulo 6271, is 2680.
    assert {run(state, 100, always("ok"), key=bytes([10, 1, 2, last]))[0][0] for last in range(9)} == {2680 % 4}
    peers = {run(state, 100, always("ok"), key=bytes([10, 1, third, 0]))[0][0] for third in range(50)}
    assert peers == {0, 1, 2, 3}


def test_hash_is_the_one_of_memcached():
    # The CRC-32 of "123456789" is 0xCBF43926.
    state = block(*[Peer()] * 5, balance="hash")
    assert run(state, 100, always("ok"), key=b"123456789")[0] == [(0xCBF43926 >> 16 & 0x7FFF) % 5]


def test_an_empty_key_is_left_to_round_robin():
    state = block(*[Peer()] * 3, balance="hash")
    assert [run(state, 100, always("ok"))[0][0] for _ in range(4)] == [0, 1, 2, 0]


@pytest.mark.parametrize("balance", ["ip_hash", "hash", "random", "random two"])
def test_those_that_hash_or_draw_reach_every_peer_and_then_give_up(balance):
    state = block(*[Peer()] * 4, balance=balance)
    peers, status = run(state, 100, always("error"), key=b"\x0a\x01\x02\x03")
    assert (sorted(peers), status) == ([0, 1, 2, 3], 502)
    assert state.run(101, 0, "GET", always("ok"), key=b"\x0a\x01\x02\x03").no_live


@pytest.mark.parametrize(("balance", "share"), [("random", 3 / 4), ("random two", 1 / 2)])
def test_random_draws_by_weight(balance, share):
    # With two peers both are drawn, and the one with fewer connections is taken; without any, the second.
    state = State([Peer(weight=3), Peer()], Settings(balance=balance), random.Random(5))
    drawn = Counter(run(state, 100, always("ok"))[0][0] for _ in range(4000))
    expected = share if balance == "random" else 1 - 3 / 4
    assert abs(drawn[0] / 4000 - expected) < 0.04


def test_random_two_takes_the_emptier():
    state = block(Peer(), Peer(), balance="random two")
    picked = Counter(state.pick(state.begin(100), 100) for _ in range(40))
    assert picked == {0: 20, 1: 20}


# What nginx would not start with.


@pytest.mark.parametrize(
    ("peers", "settings", "why"),
    [
        ([Peer()], {"version": (1, 4, 7)}, "before"),
        ([Peer(backup=True)], {}, "no backup"),
        ([], {}, "no backup"),
        ([Peer(), Peer(backup=True)], {"balance": "ip_hash"}, "knows no backup"),
        ([Peer()], {"version": OLD_TRIES, "tries": 2}, re.escape("1.7.5")),
        ([Peer(max_conns=1)], {"version": OLD_RECOVERY}, re.escape("1.11.5")),
    ],
)
def test_what_that_version_does_not_know_is_refused(peers, settings, why):
    with pytest.raises(ValueError, match=why):
        State(peers, Settings(**settings))
