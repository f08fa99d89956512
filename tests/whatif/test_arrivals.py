"""Arrivals: bursts and thinking, clients and what ip_hash sees of them, what the access log tells of each request."""

import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.logs.entries import AccessEntry, Try
from pcapdiag.whatif.arrivals import OwnFailure, Requests, ip_hash_key, make_arrivals, read_log, spread_words
from pcapdiag.whatif.group import MeasuredUpstream
from pcapdiag.whatif.kernels import replay_state as state
from tests.whatif.kernels import plain_replay

MS, S = 10**6, 10**9
PLACES = (MeasuredUpstream("10.0.0.1:80", rtt_ns=10 * MS), MeasuredUpstream("10.0.0.2:80", rtt_ns=10 * MS))


def requests(*rows, **columns):
    """Return requests given as (start [ms], end [ms], client)."""
    start, end, client = np.array(rows, np.int64).T
    n = len(rows)
    made = dict.fromkeys(("flags", "place", "fail_kind", "fail_ns", "n_fails"), np.zeros(n, np.int64))
    made |= {"service_ns": np.full(n, 5 * MS), "status": np.full(n, 200)}
    made |= {name: np.array(values, np.int64) for name, values in columns.items()}
    return Requests(start_ns=start * MS, end_ns=end * MS, client=client, **made)


def arrivals(*rows, **columns):
    n_clients = max(row[2] for row in rows) + 1
    return make_arrivals(requests(*rows, **columns), PLACES, [0] * n_clients, source="access log")


def bursts_of(made):
    return [(burst.first, burst.n, burst.client, burst.next) for burst in plain_replay.bursts_of(made)]


def test_requests_that_overlap_are_one_burst():
    made = arrivals((0, 100, 0), (50, 90, 0), (99, 150, 0), (160, 170, 0))
    assert bursts_of(made) == [(0, 3, 0, 1), (3, 1, 0, -1)]


def test_a_client_thinks_from_the_last_answer_to_its_next_burst():
    made = arrivals((0, 100, 0), (50, 90, 0), (460, 470, 0), (1000, 1001, 0))
    assert made.bursts["think_ns"].tolist() == [-1, 360 * MS, 530 * MS]


def test_a_failure_at_once_counts_as_under_way_for_as_long_as_usual():
    """Service 5 ms and a round trip of 10: what comes 12 ms after a 502 in 1 ms was sent without waiting for it."""
    assert bursts_of(arrivals((0, 1, 0), (12, 27, 0))) == [(0, 2, 0, -1)]
    assert bursts_of(arrivals((0, 1, 0), (16, 27, 0))) == [(0, 1, 0, 1), (1, 1, 0, -1)]


def test_a_long_request_covers_all_that_come_while_it_runs():
    assert len(arrivals((0, 1000, 0), (10, 20, 0), (500, 510, 0), (999, 1005, 0)).bursts) == 1


def test_clients_do_not_wait_for_each_other():
    made = arrivals((0, 100, 0), (50, 60, 1), (200, 210, 0), (300, 310, 1))
    assert bursts_of(made) == [(0, 1, 0, 1), (1, 1, 0, -1), (2, 1, 1, 3), (3, 1, 1, -1)]
    assert made.bursts["think_ns"].tolist() == [-1, 100 * MS, -1, 240 * MS]


def test_far_times_and_many_clients_do_not_overflow():
    """Times of a century and 2**21 clients, whose product is beyond 64 bits."""
    far = 1 << 61
    rows = requests((0, 100, 0), (50, 60, 0), (0, 10, (1 << 21) - 1))
    rows.start_ns[1:2] += far
    rows.end_ns[1:2] += far
    made = make_arrivals(rows, PLACES, [0] * (1 << 21), source="capture")
    assert bursts_of(made) == [(0, 1, 0, 1), (1, 1, 0, -1), (2, 1, (1 << 21) - 1, -1)]


def test_columns_go_along_with_their_requests():
    made = arrivals(
        *((20, 30, 1), (0, 100, 0)),
        status=[404, 503],
        flags=[1, 2],
        place=[1, 0],
        n_fails=[0, 300],
        fail_ns=[0, 7 * MS],
    )
    assert made.requests["status"].tolist() == [503, 404]
    assert made.requests["flags"].tolist() == [2, 1]
    assert made.requests["n_fails"].tolist() == [255, 0]
    assert made.requests["fail_us"].tolist() == [7000, 0]
    assert made.first_place == 0


def test_unknown_services_are_left_to_chance_among_the_known():
    made = arrivals((0, 100, 0), (200, 300, 0), (400, 500, 0), service_ns=[3 * MS, -1, 9 * MS])
    assert made.requests["service_us"].tolist() == [3000, -1, 9000]
    assert made.services.tolist() == [3 * MS, 9 * MS]
    assert arrivals((0, 100, 0), service_ns=[-1]).services.tolist() == [0]


def nginx_hash(start, address, times):
    """Return what ngx_http_upstream_get_ip_hash_peer computes in each of its turns."""
    packed = ipaddress.ip_address(address).packed
    value, values = start, []
    for _ in range(times):
        for byte in packed[:3] if len(packed) == 4 else packed:
            value = (value * 113 + byte) % 6271
        values.append(value)
    return values


@given(st.ip_addresses().map(str), st.integers(0, 6270))
def test_the_key_of_ip_hash_is_one_turn_of_nginx(address, start):
    key = ip_hash_key(address)
    value, values = start, []
    for _ in range(3):
        value = (value * (key >> 16) + (key & 0xFFFF)) % 6271
        values.append(value)
    assert values == nginx_hash(start, address, 3)


def test_what_is_no_address_has_a_key_too():
    assert ip_hash_key("unix:") == 1 << 16


# The access log.


def attempt(addr, status=200, took_ms=15, connect_ms=0, header_ms=15):
    """Return a try; times below 0 are none."""
    times = [ms * MS if ms >= 0 else -1 for ms in (took_ms, connect_ms, header_ms)]
    return Try(addr, status, *times, 0)


def entry(*tries, end_ms=1000, took_ms=15, status=200, method="GET", client="10.9.9.9", log_conn=7, width_ms=0):
    took_ns = took_ms * MS if took_ms >= 0 else -1
    when = (end_ms * MS, width_ms * MS)
    return AccessEntry("a.log", 1, *when, log_conn, "", method, "/", "HTTP/1.1", "h", client, status, took_ns, tries)


LOST = attempt("10.0.0.1:80", 502, 1, 0, -1)


def read(*entries, own=None, offset_ns=0):
    return read_log(entries, PLACES, ["app"], offset_ns, own or {})


def test_a_line_says_when_its_request_came_and_what_it_took():
    made, clients, _ = read(entry(attempt("10.0.0.2:80"), end_ms=1000, took_ms=20, width_ms=2))
    assert (made.start_ns.tolist(), made.end_ns.tolist()) == ([981 * MS], [1001 * MS])
    assert made.service_ns.tolist() == [5 * MS], "less a round trip"
    assert made.place.tolist() == [1]
    assert clients == ["10.9.9.9"]


def test_requests_of_one_second_are_spread_over_it_in_the_order_of_their_lines():
    """``$time_local`` tells the second: 80 requests in each are not 80 at one moment, nor in step."""
    lines = [entry(attempt("10.0.0.1:80"), end_ms=1000 * (n // 80), took_ms=5, width_ms=1000) for n in range(800)]
    made, _, _ = read(*lines)
    assert made.open_ns == S
    assert (np.diff(made.end_ns) >= 0).all()
    within = made.end_ns % S
    assert (made.end_ns // S).tolist() == [n // 80 for n in range(800)]
    assert all(150 < c < 250 for c in np.histogram(within, 4, (0, S))[0])
    assert np.std(np.diff(made.end_ns)) > 0.7 * np.mean(np.diff(made.end_ns)), "as chance has it, not evenly"
    assert (made.end_ns - made.start_ns == 5 * MS).all()
    assert spread_words(made) == (
        "the access log tells the time to 1 s: within it requests are spread at random, in their order",
    )


def test_requests_whose_time_is_told_are_where_they_were():
    lines = [entry(attempt("10.0.0.1:80"), end_ms=7, width_ms=1) for _ in range(3)]
    made, _, _ = read(*lines)
    assert (made.open_ns, made.end_ns.tolist()) == (0, [7 * MS + MS // 2] * 3)
    assert spread_words(made) == ()


def test_lines_of_seconds_that_interleave_are_spread_each_in_its_own():
    seconds = [5, 6, 5, 6, 5]
    made, _, _ = read(*(entry(attempt("10.0.0.1:80"), end_ms=1000 * s, width_ms=1000) for s in seconds))
    assert (made.end_ns // S).tolist() == seconds
    assert (np.diff(made.end_ns[[0, 2, 4]]) > 0).all()


def test_what_connecting_took_is_no_service():
    made, _, _ = read(entry(attempt("10.0.0.2:80", took_ms=27, connect_ms=12)))
    assert made.service_ns.tolist() == [5 * MS]


def test_the_clock_of_the_log_is_set_to_that_of_the_capture():
    made, _, _ = read(entry(attempt("10.0.0.2:80"), end_ms=5000), offset_ns=3 * S)
    assert made.end_ns.tolist() == [2 * S]


def test_a_retried_request_went_first_where_it_failed_and_took_what_the_last_try_took():
    made, _, counts = read(entry(LOST, attempt("10.0.0.2:80"), took_ms=16))
    assert (made.place.tolist(), made.service_ns.tolist(), made.status.tolist()) == ([0], [5 * MS], [200])
    assert (counts["retried"], counts["client_failures"]) == (1, 0)


def test_failures_are_counted_and_their_requests_would_have_been_answered():
    made, _, counts = read(
        entry(LOST, status=502),
        entry(attempt("10.0.0.1:80", 504, 60_000, 0, -1), status=504),
        entry(LOST, attempt("app", 502, 0, -1, -1), status=502),
        entry(attempt("10.0.0.1:80", 500), status=500),
    )
    assert counts == {
        "client_failures": 4,
        "client_502": 2,
        "client_504": 1,
        "retried": 0,
        "no_live_upstreams": 1,
    }
    assert made.status.tolist() == [200, 200, 200, 500]
    assert made.service_ns.tolist() == [-1, -1, -1, 5 * MS]


def test_a_request_that_found_no_peer_belongs_to_its_group():
    made, _, counts = read(entry(attempt("app", 502, 0, -1, -1), status=502))
    assert made.place.tolist() == [-1]
    assert counts["no_live_upstreams"] == 1


def test_lines_of_other_groups_and_without_times_are_left_out():
    assert read(entry(attempt("10.7.7.7:80")), entry(attempt("10.0.0.1:80"), took_ms=-1)) is None


@pytest.mark.parametrize(
    ("method", "flags"), [("GET", 0), ("POST", 3), ("PUT", 2), ("PATCH", 3), ("LOCK", 1), ("DELETE", 0)]
)
def test_methods_say_what_may_be_repeated(method, flags):
    made, _, _ = read(entry(attempt("10.0.0.1:80"), method=method))
    assert made.flags.tolist() == [flags]
    assert (int(state.NOT_IDEMPOTENT), int(state.HAS_BODY)) == (1, 2)


def test_a_client_is_an_address_or_else_a_connection():
    lines = [("10.1.1.1", 1), ("10.1.1.1:555", 2), ("[::1]:99", 3), ("::1", 4), ("", 5), ("", 5), ("", 6)]
    made, clients, _ = read(*(entry(attempt("10.0.0.1:80"), client=c, log_conn=n) for c, n in lines))
    assert clients == ["10.1.1.1", "::1", "5", "6"]
    assert made.client.tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_failures_of_their_own_stay_with_their_requests():
    own = {"10.0.0.1:80": [OwnFailure(985 * MS, int(state.TIMEOUT), 2 * S)]}
    slow = attempt("10.0.0.1:80", 504, 15, 0, -1)
    made, _, _ = read(entry(slow, status=504), entry(slow, status=504, end_ms=9000), own=own)
    assert made.n_fails.tolist() == [1, 0]
    assert made.fail_kind.tolist() == [int(state.TIMEOUT), 0]
    assert made.fail_ns.tolist() == [2 * S, 0]
