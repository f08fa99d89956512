"""Which leg a connection is on, and where the capture was taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.analysis.roles import assign_legs, find_capture_point
from pcapdiag.base.codes import CapturePoint, Leg, Method, Protocol
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES
from pcapdiag.base.tables import Table
from pcapdiag.base.units import parse_address

MS = 1_000_000
CLIENT, PROXY, INSIDE = "192.0.2.2", "192.0.2.1", "10.1.1.100"
"""The proxy answers clients at one address and opens connections to its upstreams from another."""


def connections(*rows):
    """Return a table from (originator, responder, port) and changes."""
    table = CONNECTIONS.empty(len(rows))
    table["conn"] = np.arange(len(rows))
    table["orig_local"] = -1
    table["protocol"] = Protocol.HTTP1
    table["orig_bytes"] = table["resp_bytes"] = 100
    table["handshake_resp_ns"] = table["handshake_orig_ns"] = -1
    for row, (orig, resp, port, changes) in zip(table, rows, strict=True):
        row["orig_hi"], row["orig_lo"] = parse_address(orig)
        row["resp_hi"], row["resp_lo"] = parse_address(resp)
        row["resp_port"] = port
        for name, value in changes.items():
            row[name] = value
    return Table(CONNECTIONS, table)


def conn(orig, resp, port=80, **changes):
    return orig, resp, port, changes


def exchanges(*rows):
    """Return a table from (conn, start in ms, duration in ms) and changes."""
    table = EXCHANGES.empty(len(rows))
    for row, (number, start, duration, changes) in zip(table, rows, strict=True):
        row["conn"], row["request_ts_ns"], row["duration_ns"] = number, start * MS, duration * MS
        row["method"], row["target_len"] = Method.GET, 4
        for name, value in changes.items():
            row[name] = value
    return Table(EXCHANGES, table)


def legs_of(table, exchanged=None, **overrides):
    found = assign_legs(table, exchanges() if exchanged is None else exchanged, **overrides)
    assert found.dtype == np.int8
    return [Leg(leg) for leg in found]


def test_no_connections_have_no_legs():
    assert legs_of(connections()) == []


def test_one_leg_alone_is_the_upstream_leg():
    table = connections(conn(INSIDE, "10.1.1.1"), conn(INSIDE, "10.1.1.2"), conn(INSIDE, "2001:db8::1"))
    assert legs_of(table) == [Leg.UPSTREAM] * 3


def test_who_answers_and_opens_is_the_proxy():
    table = connections(conn(CLIENT, PROXY), conn(PROXY, "10.1.1.1"), conn(CLIENT, PROXY, 443))
    assert legs_of(table) == [Leg.CLIENT, Leg.UPSTREAM, Leg.CLIENT]


def test_in_a_chain_of_proxies_only_the_first_leg_is_the_clients():
    table = connections(conn(CLIENT, PROXY), conn(PROXY, "10.1.1.1"), conn("10.1.1.1", "10.2.2.2"))
    assert legs_of(table) == [Leg.CLIENT, Leg.UPSTREAM, Leg.UPSTREAM]


def test_an_upstream_with_a_database_is_no_proxy():
    table = connections(conn(INSIDE, "10.1.1.1"), conn("10.1.1.1", "10.3.3.3", 5432, protocol=Protocol.UNKNOWN))
    assert legs_of(table) == [Leg.UPSTREAM, Leg.UPSTREAM]


def test_a_guessed_originator_makes_no_proxy():
    table = connections(conn(INSIDE, "10.1.1.1"), conn("10.1.1.1", "10.9.9.9", orig_inferred=1))
    assert legs_of(table) == [Leg.UPSTREAM, Leg.UPSTREAM]


def test_what_the_capturing_machine_opens_is_the_upstream_leg():
    table = connections(conn(CLIENT, PROXY, orig_local=0), conn(INSIDE, "10.1.1.1", orig_local=1))
    assert legs_of(table) == [Leg.CLIENT, Leg.UPSTREAM]


def test_connections_that_the_capturing_machine_only_answers_are_the_upstream_leg():
    table = connections(conn(INSIDE, "10.1.1.1", orig_local=0), conn("10.1.1.101", "10.1.1.1", orig_local=0))
    assert legs_of(table) == [Leg.UPSTREAM, Leg.UPSTREAM]


def test_a_machine_that_forwards_is_neither_end():
    table = connections(conn(INSIDE, "10.2.2.1", orig_local=0), conn(INSIDE, "10.2.2.1", orig_local=1))
    assert legs_of(table) == [Leg.UPSTREAM, Leg.UPSTREAM]


def test_a_refused_upstream_is_still_opened_by_the_proxy():
    refused = {"protocol": Protocol.UNKNOWN, "orig_bytes": 0, "resp_bytes": 0}
    table = connections(conn(CLIENT, PROXY, orig_local=0), conn(INSIDE, "10.1.1.1", orig_local=1, **refused))
    assert legs_of(table) == [Leg.CLIENT, Leg.UPSTREAM]


@pytest.mark.parametrize("loopback", [True, False])
def test_requests_that_enclose_equal_requests_are_the_client_leg(loopback):
    outer, inner = (("127.0.0.1", "127.0.0.1"),) * 2 if loopback else ((CLIENT, PROXY), (INSIDE, "10.1.1.1"))
    table = connections(conn(*outer, 8080), conn(*inner, 9000))
    rows = [r for i in range(5) for r in ((0, 100 * i, 50, {}), (1, 100 * i + 5, 40, {}))]
    assert legs_of(table, exchanges(*rows)) == [Leg.CLIENT, Leg.UPSTREAM]


def test_a_client_that_got_no_answer_encloses_the_try_that_had_one():
    """The proxy lost an early answer: its client waited until the connection ended."""
    loopback, lost = ("127.0.0.1", "127.0.0.1"), {"duration_ns": -1}
    ends = [(100 * n + 60) * MS for n in range(4)]
    table = connections(*[c for end in ends for c in (conn(*loopback, 8080, last_ts_ns=end), conn(*loopback, 9000))])
    rows = [
        r for n in range(4) for r in ((2 * n, 100 * n, 50, lost if n < 2 else {}), (2 * n + 1, 100 * n + 5, 40, {}))
    ]
    assert legs_of(table, exchanges(*rows)) == [Leg.CLIENT, Leg.UPSTREAM] * 4


def test_a_slow_upstream_does_not_enclose_a_fast_one_of_the_same_proxy():
    table = connections(conn(INSIDE, "10.1.1.1"), conn(INSIDE, "10.1.1.2"))
    rows = [r for i in range(5) for r in ((0, 100 * i, 90, {}), (1, 100 * i + 5, 10, {}))]
    assert legs_of(table, exchanges(*rows)) == [Leg.UPSTREAM, Leg.UPSTREAM]


def test_enclosed_requests_of_another_kind_tell_nothing():
    table = connections(conn(CLIENT, PROXY), conn(INSIDE, "10.1.1.1"))
    rows = [r for i in range(5) for r in ((0, 100 * i, 50, {}), (1, 100 * i + 5, 40, {"target_len": 9}))]
    assert legs_of(table, exchanges(*rows)) == [Leg.UPSTREAM, Leg.UPSTREAM]


def test_what_a_machine_sends_to_itself_at_a_port_of_the_proxy_is_the_client_leg():
    table = connections(conn("127.0.0.1", "127.0.0.1", 8080), conn("127.0.0.1", "127.0.0.1", 9000))
    assert legs_of(table, own_ports={8080}) == [Leg.CLIENT, Leg.UPSTREAM]
    assert legs_of(table, own_ports={8080, 9000}) == [Leg.UPSTREAM, Leg.UPSTREAM]
    elsewhere = connections(conn(PROXY, INSIDE, 8080), conn(PROXY, INSIDE, 9000))
    assert legs_of(elsewhere, own_ports={8080}) == [Leg.UPSTREAM, Leg.UPSTREAM]


def test_the_operator_names_the_proxy():
    table = connections(conn(CLIENT, PROXY), conn(INSIDE, "10.1.1.1"))
    assert legs_of(table, proxies=[parse_address(PROXY), parse_address(INSIDE)]) == [Leg.CLIENT, Leg.UPSTREAM]


def test_an_address_that_the_capture_does_not_hold_names_nothing():
    table = connections(conn(CLIENT, PROXY), conn(INSIDE, "10.1.1.1"))
    assert legs_of(table, proxies=[parse_address("10.99.99.99")]) == [Leg.UPSTREAM, Leg.UPSTREAM]


def test_the_operator_names_the_upstreams():
    table = connections(
        conn(CLIENT, PROXY), conn(PROXY, "10.1.1.1", 80), conn(PROXY, "10.1.1.1", 81), conn(PROXY, "10.1.1.2")
    )
    named = [(*parse_address("10.1.1.1"), 80)]
    assert legs_of(table, upstreams=named) == [Leg.CLIENT, Leg.UPSTREAM, Leg.UNKNOWN, Leg.UNKNOWN]
    anywhere = [(*parse_address("10.1.1.1"), -1)]
    assert legs_of(table, upstreams=anywhere) == [Leg.CLIENT, Leg.UPSTREAM, Leg.UPSTREAM, Leg.UNKNOWN]


@given(st.permutations(range(6)))
def test_the_order_of_connections_does_not_matter(order):
    rows = [conn(CLIENT, PROXY), conn(PROXY, "10.1.1.1"), conn(PROXY, "10.1.1.2"), conn("192.0.2.3", PROXY)]
    rows += [conn("10.1.1.1", "10.3.3.3", 5432, protocol=Protocol.UNKNOWN), conn("::1", "::1")]
    plain, moved = legs_of(connections(*rows)), legs_of(connections(*[rows[i] for i in order]))
    assert [plain[i] for i in order] == moved


@pytest.mark.parametrize(
    ("resp_us", "orig_us", "point"),
    [
        (160_000, 20, CapturePoint.PROXY),
        (1_100, 50, CapturePoint.PROXY),
        (60, 160_000, CapturePoint.UPSTREAM),
        (80_000, 80_000, CapturePoint.BETWEEN),
        (40, 20, CapturePoint.UNKNOWN),
        (300, 200, CapturePoint.UNKNOWN),
    ],
)
def test_the_side_that_answers_at_once_is_where_the_capture_was_taken(resp_us, orig_us, point):
    halves = {"handshake_resp_ns": resp_us * 1_000, "handshake_orig_ns": orig_us * 1_000}
    table = connections(*[conn(INSIDE, "10.1.1.1", **halves)] * 3)
    assert find_capture_point(table, np.full(3, Leg.UPSTREAM, dtype=np.int8)) is point


def test_a_lost_handshake_does_not_move_the_capture_point():
    quick = {"handshake_resp_ns": 160 * MS, "handshake_orig_ns": 20_000}
    table = connections(
        *[conn(INSIDE, "10.1.1.1", **quick)] * 4, conn(INSIDE, "10.1.1.1", handshake_resp_ns=1_160 * MS)
    )
    assert find_capture_point(table, np.full(5, Leg.UPSTREAM, dtype=np.int8)) is CapturePoint.PROXY


def test_the_client_leg_says_nothing_about_the_capture_point():
    table = connections(conn(CLIENT, PROXY, handshake_resp_ns=20_000, handshake_orig_ns=50 * MS))
    assert find_capture_point(table, np.full(1, Leg.CLIENT, dtype=np.int8)) is CapturePoint.UNKNOWN
