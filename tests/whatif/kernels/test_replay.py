"""The replay and its plain twin do the same where nothing is left to chance; and nginx's own rules, one by one."""

import ipaddress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pcapdiag.base.errors import UsageError
from pcapdiag.whatif.arrivals import Requests, ip_hash_key, make_arrivals
from pcapdiag.whatif.group import GroupSettings, MeasuredUpstream, Outage, Peer, ServerGroup
from pcapdiag.whatif.kernels import replay_state as state
from pcapdiag.whatif.kernels.replay import replay
from pcapdiag.whatif.replay import Prepared, run
from tests.whatif.kernels.plain_replay import Replay

MS, S = 10**6, 10**9
NAMES = {
    "lost": state.LOST,
    "failed_502": state.FAILED_502,
    "failed_504": state.FAILED_504,
    "failed_other": state.FAILED_OTHER,
    "retried": state.RETRIED,
    "no_live": state.NO_LIVE,
    "opened": state.OPENED,
    "reused": state.REUSED,
    "clients": state.CLIENTS,
    "raced": state.RACED,
    "idle": state.IDLE_MAX,
    "waiting": state.TIME_WAIT_MAX,
    "timed_out": state.TIMED_OUT,
    "crowded_out": state.CROWDED_OUT,
    "used_up": state.USED_UP,
    "grown_old": state.GROWN_OLD,
}
ADDRESSES = ["10.0.0.1", "10.0.1.2", "192.168.7.9", "2001:db8::7"]


def arrivals(rows, places, n_clients=1):
    """Return requests given as (start [ns], client, and what else a column of `Requests` is named)."""
    blank = {
        "end_ns": None,
        "service_ns": 1 * MS,
        "status": 200,
        "flags": 0,
        "place": -1,
        "fail_kind": 0,
        "fail_ns": 0,
        "n_fails": 0,
    }
    full = [{**blank, "start_ns": start, "client": client, **more} for start, client, more in rows]
    for row in full:
        if row["end_ns"] is None:
            row["end_ns"] = row["start_ns"] + row["service_ns"] + places[0].rtt_ns
    columns = {name: np.array([row[name] for row in full], np.int64) for name in full[0]}
    keys = [ip_hash_key(ADDRESSES[n % len(ADDRESSES)]) for n in range(n_clients)]
    return make_arrivals(Requests(**columns), places, keys, source="access log")


def both(group, settings, worker_of, *, is_open=False):
    """Return what the compiled replay and its twin make of a group: counts, picks, added times."""
    prepared = Prepared(group, settings)
    arrays = prepared.arrays(1, 4096, 4 * len(group.arrivals.requests) * (len(settings.peers) + 40))
    arrays.settings["jitter_ns"], arrays.settings["is_open"] = 0, is_open
    arrays.peers["current"] = 0
    arrays.client_worker[:] = worker_of
    assert replay(arrays) == 0
    n = int(arrays.control[state.N_CHOSEN])
    picks = [(int(c) >> 6, None if c & 63 == state.NO_LIVE_PEER else int(c) & 63) for c in arrays.chosen[:n]]
    compiled = {name: int(arrays.counts[row]) for name, row in NAMES.items()}
    added = {i: int(us) for i, us in enumerate(arrays.added_us) if us >= 0}
    addresses = [packed(ADDRESSES[n % len(ADDRESSES)]) for n in range(group.arrivals.n_clients)]
    twin = Replay(
        group,
        settings,
        worker_of,
        addresses,
        is_open=is_open,
        bins=(prepared.origin_ns, prepared.bin_ns, len(arrays.idle_steps)),
    ).run()
    plain = {name: twin.counts[name] for name in NAMES}
    return (compiled, picks, added), (plain, twin.picks, {i: ns // 1000 for i, ns in twin.added_ns.items()}), twin


def packed(address):
    return ipaddress.ip_address(address).packed


@st.composite
def places(draw):
    """Draw places without chance; times end in digits of their own, so that hardly two things happen at once."""
    n = draw(st.integers(1, 3))
    made = []
    for i in range(n):
        start = draw(st.integers(0, 30)) * S + 311 * i
        outage = Outage(start, start + draw(st.integers(0, 5)) * S, 7 * MS + 13, draw(st.booleans()))
        timeout_s = draw(st.sampled_from([-1, 1, 2, 3, 5]))
        made.append(
            MeasuredUpstream(
                f"10.0.0.{i + 1}:80",
                timeout_ns=timeout_s * S + 17 + i if timeout_s > 0 else -1,
                rtt_ns=draw(st.integers(0, 400)) * MS + 29 + 3 * i,
                greeting_ns=draw(st.sampled_from([0, 5 * MS + 1])),
                drop_ns=draw(st.sampled_from([-1, -1, -1, 2 * S + 5])),
                reset_ns=draw(st.sampled_from([-1, -1, -1, 3 * S + 7])),
                limit=draw(st.sampled_from([0, 0, 0, 2, 3])),
                closings=tuple(sorted(n * 700 * MS + 101 for n in draw(st.sets(st.integers(0, 40), max_size=3)))),
                outages=(outage,) if draw(st.integers(0, 3)) == 0 else (),
            )
        )
    return tuple(made)


@st.composite
def group_settings(draw, n_places):
    balance = draw(st.sampled_from(["round_robin", "round_robin", "least_conn", "ip_hash"]))
    has_backup = balance != "ip_hash" and n_places > 1 and draw(st.booleans())
    version = draw(st.sampled_from([(1, 22, 1), (1, 22, 1), (1, 19, 5), (1, 11, 4), (1, 9, 12), (1, 7, 4)]))
    peers = tuple(
        Peer(
            f"10.0.0.{i + 1}:80",
            i,
            weight=draw(st.integers(1, 3)) if i else 3,
            max_fails=draw(st.integers(0, 2)),
            fail_timeout_s=draw(st.integers(1, 5)),
            max_conns=draw(st.sampled_from([0, 0, 1])) if version >= (1, 11, 5) else 0,
            is_backup=has_backup and i == n_places - 1,
            is_down=i > 0 and draw(st.integers(0, 5)) == 0,
        )
        for i in range(n_places)
    )
    conditions = ["error", "timeout", "non_idempotent", "http_502", "http_404", "http_500"]
    chosen = draw(st.sets(st.sampled_from(conditions)) | st.just({"error", "timeout"}) | st.just({"off"}))
    return GroupSettings(
        peers=peers,
        balance=balance,
        workers=draw(st.integers(1, 3)),
        has_zone=draw(st.booleans()),
        keepalive=draw(st.sampled_from([0, 1, 2, 3, 32])),
        keepalive_timeout_ns=draw(st.sampled_from([-1, 1 * S + 3, 3 * S + 3, 60 * S])),
        keepalive_requests=draw(st.sampled_from([-1, 1, 2, 5, 1000])),
        keepalive_time_ns=draw(st.sampled_from([-1, 4 * S + 1, 3600 * S])),
        next_upstream=frozenset(chosen),
        tries=draw(st.sampled_from([0, 0, 1, 2])) if version >= (1, 7, 5) else 0,
        next_timeout_ns=draw(st.sampled_from([0, 0, 100 * MS, 2 * S])) if version >= (1, 7, 5) else 0,
        read_timeout_ns=1 * S + 1,
        connect_timeout_ns=2 * S + 11,
        is_buffered=draw(st.booleans()),
        version=version,
        upstream_timeout_ns=draw(st.sampled_from([None, None, 4 * S + 19])),
    )


@st.composite
def request_rows(draw, n_clients, rtt_ns):
    rows = []
    for i in range(draw(st.integers(1, 40))):
        own = draw(st.integers(0, 9)) == 0
        more = {
            "service_ns": draw(st.integers(0, 300)) * MS + 1000 * i,
            "status": draw(st.sampled_from([200] * 6 + [404, 500, 502, 501, 302])),
            "flags": draw(st.integers(0, 3)),
            "n_fails": draw(st.integers(1, 2)) if own else 0,
            "fail_ns": draw(st.integers(1, 300)) * MS if own else 0,
            "fail_kind": int(draw(st.sampled_from([state.ERROR, state.TIMEOUT]))) if own else 0,
        }
        start_ns = draw(st.integers(0, 300)) * 100 * MS + 1_000_003 * i
        rows.append((start_ns, draw(st.integers(0, n_clients - 1)), more))
        if draw(st.booleans()):
            more["end_ns"] = start_ns + more["service_ns"] + rtt_ns
    return rows


@st.composite
def incidents(draw):
    its_places = draw(places())
    its_settings = draw(group_settings(len(its_places)))
    n_clients = draw(st.integers(1, 4))
    made = arrivals(draw(request_rows(n_clients, its_places[0].rtt_ns)), its_places, n_clients)
    worker_of = [draw(st.integers(0, its_settings.workers - 1)) for _ in range(n_clients)]
    return ServerGroup("app", its_settings, its_places, made), worker_of, draw(st.booleans())


@given(incidents())
def test_the_replay_and_its_plain_twin_do_the_same(incident):
    """Counts, the sequence of picks and what each answer took; but not where a millisecond decides."""
    group, worker_of, is_open = incident
    compiled, plain, twin = both(group, group.settings, worker_of, is_open=is_open)
    assume(not twin.is_close)
    assert compiled[0] == plain[0]
    assert compiled[1] == plain[1]
    assert compiled[2] == plain[2]


# nginx's rules, one by one.

TWO = (
    MeasuredUpstream("10.0.0.1:80", timeout_ns=5 * S, rtt_ns=100 * MS),
    MeasuredUpstream("10.0.0.2:80", timeout_ns=5 * S, rtt_ns=100 * MS),
)
ONE = TWO[:1]


def peers_of(some_places, **more):
    return tuple(Peer(place.endpoint, n, **more) for n, place in enumerate(some_places))


def played(rows, some_places=ONE, *, is_open=True, **more):
    """Return the counts and picks of requests given as (start [s], more); each has a client of its own, worker 0."""
    settings = GroupSettings(**{"peers": peers_of(some_places), **more})
    full = [(round(start_s * S), n, row) for n, (start_s, row) in enumerate(rows)]
    group = ServerGroup("app", settings, some_places, arrivals(full, some_places, len(full)))
    (counts, picks, _), plain, _ = both(
        group, settings, [n % settings.workers for n in range(len(rows))], is_open=is_open
    )
    assert counts == plain[0]
    return counts, [peer for _, peer in picks]


def at(*starts_s, **row):
    return [(start_s, row) for start_s in starts_s]


@pytest.mark.parametrize(
    ("gap_s", "raced", "opened"), [(4.8, 0, 1), (4.899, 0, 1), (4.901, 1, 2), (4.999, 1, 2), (5.0, 0, 2), (9, 0, 2)]
)
def test_a_request_races_the_fin_in_the_last_round_trip_of_the_idle_timeout(gap_s, raced, opened):
    """From T - RTT to T: before, the upstream has not closed; after, the proxy knows that it has."""
    released_s = 0.1 + 0.1 + 0.001
    counts, _ = played(at(0, released_s + gap_s))
    assert (counts["raced"], counts["lost"], counts["opened"]) == (raced, raced, opened)


def test_the_newest_idle_connection_is_taken_first():
    """Two at once open two; then one at a time keeps one warm, and the other ends unused."""
    counts, _ = played(at(0, 0.05, 3, 6, 9))
    assert (counts["opened"], counts["reused"], counts["lost"]) == (2, 3, 0)


def test_a_full_pool_closes_the_least_recently_used_and_its_port_waits():
    counts, _ = played(at(0, 0.01, 0.02), keepalive=2)
    assert (counts["idle"], counts["waiting"]) == (2, 1)
    assert played(at(0, 0.01, 0.02), keepalive=3)[0]["waiting"] == 0


def test_the_pool_is_one_for_all_peers():
    counts, _ = played(at(0, 1, 2, 3), TWO, keepalive=1)
    assert (counts["opened"], counts["reused"]) == (4, 0), "each evicts the other's"


def test_a_connection_that_the_proxy_closes_waits_and_one_that_the_upstream_closes_does_not():
    assert played(at(0, 20), keepalive_timeout_ns=2 * S)[0]["waiting"] == 1
    assert played(at(0, 20), keepalive_timeout_ns=60 * S)[0]["waiting"] == 0
    assert played(at(0, 1, 2, 20), keepalive_requests=1)[0]["waiting"] == 4
    assert played(at(0, 1, 2, 20), (replace(ONE[0], limit=1),))[0]["waiting"] == 4
    assert played(at(0, 1, 2, 20), keepalive=0)[0]["waiting"] == 0


def test_a_port_waits_a_minute():
    counts, _ = played(at(0, 59, 125), keepalive_requests=1)
    assert counts["waiting"] == 2


def test_a_connection_is_given_up_when_it_is_old():
    assert played(at(0, 1, 2, 3, 4), keepalive_time_ns=2 * S)[0]["opened"] == 2


def test_a_single_peer_is_never_disabled():
    rows = [(0, {}), (0.01, {}), (0.02, {}), *at(5.15), *at(6, 7)]
    counts, picks = played(rows)
    assert counts["lost"] >= 1
    assert counts["no_live"] == 0
    assert set(picks) == {0}


def test_two_stale_connections_leave_no_live_peer_for_more_than_the_fail_timeout():
    """Two peers with max_fails=1: a request spends both, and all others get a 502 until the second after next."""
    counts, picks = played([*at(0, 1), (5.18, {}), *at(6.5, 9, 14, 16.9, 17.5)], TWO)
    assert (counts["raced"], counts["failed_502"]) == (1, 0)
    both_stale = [*at(0, 0.01), (5.15, {}), *at(6.5, 9, 14, 16.9, 17.5)]
    counts, picks = played(both_stale, TWO)
    assert counts["raced"] == 2
    assert counts["no_live"] == counts["failed_502"] == 4
    assert None not in picks[-2:]


def test_a_zone_shares_failures_between_workers():
    rows = [*at(0, 0.01, 0.02, 0.03), *at(5.15, 5.16)]
    apart = played(rows, TWO, workers=2)[0]
    shared = played(rows, TWO, workers=2, has_zone=True)[0]
    assert (apart["lost"], apart["opened"]) != (shared["lost"], shared["opened"])


def test_a_backup_serves_when_all_others_are_out():
    rows = [*at(0), (5.15, {}), *at(6.5, 7)]
    backed = (Peer(TWO[0].endpoint, 0), Peer(TWO[1].endpoint, 1, is_backup=True))
    counts, picks = played(rows, TWO, peers=backed)
    assert picks == [0, 0, 1, 1, 1]
    assert counts["failed_502"] == 0


@pytest.mark.parametrize(("conditions", "failed"), [({"off"}, 1), ({"error"}, 0), ({"timeout"}, 1)])
def test_a_lost_request_is_tried_again_if_the_directive_says_so(conditions, failed):
    counts, _ = played([(0, {}), (5.15, {})], next_upstream=frozenset(conditions))
    assert (counts["raced"], counts["failed_502"], counts["retried"]) == (1, failed, 1 - failed)


@pytest.mark.parametrize(("conditions", "failed"), [({"error"}, 1), ({"error", "non_idempotent"}, 0)])
def test_a_post_is_tried_again_only_where_non_idempotent_allows_it(conditions, failed):
    post = {"flags": int(state.NOT_IDEMPOTENT)}
    counts, _ = played([(0, {}), (5.15, post)], next_upstream=frozenset(conditions))
    assert counts["failed_502"] == failed


def test_before_1_9_13_a_stale_connection_is_always_tried_again():
    counts, _ = played([(0, {}), (5.15, {})], next_upstream=frozenset({"off"}), version=(1, 9, 12))
    assert (counts["raced"], counts["failed_502"]) == (1, 0)


def test_what_a_firewall_forgot_times_out_and_ends_in_504_without_other_peers():
    place = (replace(ONE[0], timeout_ns=60 * S, drop_ns=3 * S),)
    counts, _ = played(at(0, 4), place, read_timeout_ns=2 * S)
    assert (counts["lost"], counts["failed_504"], counts["raced"]) == (1, 1, 0)


def test_an_outage_refuses_and_max_conns_leaves_no_peer():
    down = (replace(ONE[0], outages=(Outage(0, 2 * S, MS, is_silent=False),)),)
    assert played(at(1, 3), down)[0]["failed_502"] == 1
    counts, picks = played([(0, {"service_ns": S}), (0.5, {})], peers=peers_of(ONE, max_conns=1))
    assert picks == [0, None]
    assert counts["no_live"] == 1


def test_a_closing_of_all_takes_what_is_idle_and_races_with_what_is_sent():
    place = (replace(ONE[0], timeout_ns=60 * S, closings=(10 * S,)),)
    assert played(at(0, 9.95), place)[0]["raced"] == 1
    assert played(at(0, 10.5), place)[0]["opened"] == 2
    assert played([(0, {}), (9.5, {"service_ns": 2 * S}), (12, {})], place)[0]["opened"] == 2


def test_a_client_that_waits_comes_later_when_its_answer_is_late():
    """In a closed loop what is lost moves all that follows; in an open one it does not."""
    place = (replace(ONE[0], timeout_ns=60 * S, drop_ns=3 * S),)
    rows = [(0, 0, {}), (4 * S, 0, {}), (5 * S, 0, {})]
    settings = GroupSettings(peers_of(place), read_timeout_ns=10 * S)
    group = ServerGroup("app", settings, place, arrivals(rows, place))
    closed = both(group, settings, [0], is_open=False)[0][0]
    opened = both(group, settings, [0], is_open=True)[0][0]
    assert closed["failed_504"] == opened["failed_504"] == 1
    assert (closed["idle"], opened["idle"]) == (1, 1)
    assert closed["opened"] == opened["opened"] == 2


def test_what_is_put_into_a_replay_is_left_as_it_was():
    """A single burst was counted down in the arrivals themselves, so that the second draw had no requests."""
    settings = GroupSettings(peers_of(ONE))
    group = ServerGroup("app", settings, ONE, arrivals([(0, 0, {})], ONE))
    draws = run(group, settings, draws=5)
    assert draws.counts[:, state.CLIENTS].tolist() == [1] * 5


def test_the_same_seed_gives_the_same_draws():
    place = (replace(ONE[0], spread_ns=50 * MS, rtt_tail_ns=20 * MS),)
    rows = [(round(i * 4.95 * S), 0, {}) for i in range(50)]
    settings = GroupSettings(peers_of(place), workers=2)
    group = ServerGroup("app", settings, place, arrivals(rows, place))
    first, again, other = (run(group, settings, draws=8, seed=seed).counts for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("apart_ns", "outcomes"), [(0, {0, 1}), (MS // 2, {0, 1}), (20 * MS, {1})])
def test_of_requests_that_come_at_once_either_may_be_the_first(apart_ns, outcomes):
    """One kept connection, and the FIN on its way: only the POST is lost for good; and no request comes twice."""
    post = {"flags": int(state.NOT_IDEMPOTENT)}
    rows = [(0, 0, {}), (round(5.15 * S), 0, post), (round(5.15 * S) + apart_ns, 0, {})]
    settings = GroupSettings(peers_of(ONE), next_upstream=frozenset({"error"}))
    prepared = Prepared(ServerGroup("app", settings, ONE, arrivals(rows, ONE)), settings)
    failed = []
    for seed in range(1, 41):
        arrays = prepared.arrays(seed, 64, 16)
        arrays.settings["is_open"] = True
        assert replay(arrays) == 0
        chosen = (arrays.chosen[: int(arrays.control[state.N_CHOSEN])] >> 6).tolist()
        assert set(chosen) == {0, 1, 2}
        assert (arrays.counts[state.CLIENTS], arrays.counts[state.RACED]) == (3, 1)
        failed.append(int(arrays.counts[state.FAILED_502]))
    assert set(failed) == outcomes


def test_groups_that_are_too_large_are_refused():
    settings = GroupSettings(tuple(Peer(f"10.0.0.{n}:80", 0) for n in range(63)))
    with pytest.raises(UsageError, match="62"):
        run(ServerGroup("app", settings, ONE, arrivals([(0, 0, {})], ONE)), settings)
