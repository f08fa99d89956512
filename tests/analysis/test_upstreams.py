"""What is measured of an upstream, from tables made by hand."""

from dataclasses import replace

import numpy as np
import pytest

import pcapdiag
from pcapdiag.analysis.model import Endpoint
from pcapdiag.analysis.upstreams import measure_upstreams
from pcapdiag.base.codes import ClosingKind, Direction, ExchangeFlag, Leg, Outcome, Protocol
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES
from pcapdiag.base.findings import Confidence
from pcapdiag.base.tables import ByteStore, Table
from pcapdiag.base.units import parse_address
from tests.rules.builders import END, Scene, acknowledged, fin
from tests.scenario import parse, write_capture

MS, S = 1_000_000, 1_000_000_000
NOTHING = ("handshake_resp_ns", "handshake_orig_ns", "rtt_min_ns", "idle_at_close_ns", "closing_ts_ns", "keep_alive_s")


def conn(
    address="10.1.1.1", port=80, *, closer=Direction.NONE, kind=ClosingKind.FIN, idle_ms=-1.0, at_s=0.0, **changes
):
    """Return one connection as a dict; `idle_ms` is its age when `closer` closed it at `at_s`."""
    hi, lo = parse_address(address)
    row = dict.fromkeys(NOTHING, -1) | {
        "resp_hi": hi,
        "resp_lo": lo,
        "resp_port": port,
        "orig_isn": 1,
        "n_exchanges": 3,
        "protocol": Protocol.HTTP1,
    }
    row["first_closer"] = closer
    if closer is not Direction.NONE:
        idle_ns = round(idle_ms * MS) if idle_ms >= 0 else -1
        row |= {"closing_kind": kind, "idle_at_close_ns": idle_ns, "closing_ts_ns": round(at_s * S)}
    return row | changes


def idle_closes(*ages_ms, closer=Direction.RESP, **changes):
    return [conn(closer=closer, idle_ms=age, at_s=10.0 * i, **changes) for i, age in enumerate(ages_ms)]


def measure(*rows, exchanges=(), losses=(), legs=None, texts=None):
    table = CONNECTIONS.empty(len(rows))
    table["conn"] = np.arange(len(rows))
    for into, row in zip(table, rows, strict=True):
        for name, value in row.items():
            into[name] = value
    exchanged = EXCHANGES.empty(len(exchanges))
    exchanged["idle_before_ns"] = -1
    for into, row in zip(exchanged, exchanges, strict=True):
        for name, value in row.items():
            into[name] = value
    legs = np.full(len(rows), Leg.UPSTREAM, dtype=np.int8) if legs is None else np.array(legs, dtype=np.int8)
    store = texts or ByteStore()
    return measure_upstreams(Table(CONNECTIONS, table), Table(EXCHANGES, exchanged), legs, losses, store)


def gap(ms, *, conn=0, outcome=Outcome.ANSWERED, **changes):
    return {"conn": conn, "idle_before_ns": round(ms * MS), "outcome": outcome, "depth": 1} | changes


def test_no_connections_are_no_upstreams():
    assert measure() == ()


def test_only_the_upstream_leg_counts():
    assert measure(conn(), legs=[Leg.CLIENT]) == ()


def test_upstreams_are_endpoints_in_order():
    found = measure(conn("10.1.1.2"), conn("10.1.1.1", 81), conn("10.1.1.1"), conn("10.1.1.2"))
    assert [(u.endpoint, u.connections, u.exchanges) for u in found] == [
        (Endpoint("10.1.1.1", 80), 1, 3),
        (Endpoint("10.1.1.1", 81), 1, 3),
        (Endpoint("10.1.1.2", 80), 2, 6),
    ]


@pytest.mark.parametrize(("resp_ms", "orig_ms"), [(160, 0.02), (0.02, 160), (80, 80.02)])
def test_the_rtt_is_both_halves_of_the_handshake_wherever_one_captured(resp_ms, orig_ms):
    halves = {"handshake_resp_ns": round(resp_ms * MS), "handshake_orig_ns": round(orig_ms * MS)}
    (upstream,) = measure(conn(**halves))
    assert upstream.rtt_p50_ns == pytest.approx(160 * MS, abs=MS)


def test_without_handshakes_the_rtt_comes_from_data():
    (upstream,) = measure(conn(rtt_min_ns=41 * MS), conn(rtt_min_ns=40 * MS))
    assert (upstream.rtt_min_ns, upstream.rtt_p99_ns) == (40 * MS, 41 * MS)


def test_idle_closings_of_the_upstream_measure_its_timeout():
    (upstream,) = measure(*idle_closes(4_001, 4_003, 4_004, handshake_resp_ns=160 * MS))
    assert upstream.idle_timeout.value_ns == 4_003 * MS
    assert upstream.idle_timeout.confidence == Confidence.CONFIRMED
    assert upstream.race_window_ns == (3_843 * MS, 4_003 * MS)
    assert (upstream.idle_closes_by_upstream, upstream.idle_closes_by_proxy) == (3, 0)


@pytest.mark.parametrize(
    ("age_ms", "apart_s", "is_timer"),
    [
        (495, 0.001, False),  # a reload, or a timer that began for all at once: nothing tells which
        (495, 1.0, True),
        (5_000, 0.001, True),  # so several servers do by default
    ],
)
def test_closings_of_one_age_at_one_moment_measure_only_what_servers_are_known_to_do(age_ms, apart_s, is_timer):
    rows = [conn(closer=Direction.RESP, idle_ms=age_ms + n / 10, at_s=9 + n * apart_s) for n in range(4)]
    (upstream,) = measure(*rows)
    assert (upstream.idle_timeout is not None) is is_timer


def test_closings_of_one_age_at_one_moment_measure_what_the_server_announced():
    rows = [conn(closer=Direction.RESP, idle_ms=7_000, at_s=9 + n / 1000, keep_alive_s=7) for n in range(4)]
    (upstream,) = measure(*rows)
    assert upstream.idle_timeout.value_ns == 7_000 * MS
    # One that it announced, and did not wait for, tells nothing of an end that came before.
    rows = [conn(closer=Direction.RESP, idle_ms=495, at_s=9 + n / 1000, keep_alive_s=7) for n in range(4)]
    (upstream,) = measure(*rows)
    assert upstream.idle_timeout is None


@pytest.mark.parametrize(
    "changes",
    [
        {"closer": Direction.ORIG},
        {"closing_open_exchange": 1},
    ],
)
def test_other_closings_measure_nothing(changes):
    (upstream,) = measure(*idle_closes(4_001, 4_003, 4_004, **changes))
    assert upstream.idle_timeout is None
    assert upstream.race_window_ns == (-1, -1)


@pytest.mark.parametrize(("ages_ms", "is_measured"), [((4_001,), False), ((4_001, 900), False), ((4_001, 4_003), True)])
def test_resets_of_idle_connections_measure_where_they_agree(ages_ms, is_measured):
    (upstream,) = measure(*idle_closes(*ages_ms, kind=ClosingKind.RST))
    assert (upstream.idle_timeout is not None) == is_measured
    assert upstream.idle_closes_by_upstream == (2 if is_measured else 0)


def test_a_reset_among_orderly_idle_closings_measures_nothing():
    rows = *idle_closes(4_001, 4_003, 4_004), conn(closer=Direction.RESP, kind=ClosingKind.RST, idle_ms=900, at_s=50)
    (upstream,) = measure(*rows)
    assert upstream.idle_timeout.samples == 3


def test_the_proxys_own_timeout_is_seen_where_it_closes_first():
    (upstream,) = measure(
        *idle_closes(3_000.5, 3_000.6, 3_001, closer=Direction.ORIG), *idle_closes(100, closer=Direction.ORIG)
    )
    assert upstream.proxy_idle_close_ns == pytest.approx(3_000.6 * MS, abs=MS)
    assert upstream.idle_closes_by_proxy == 4


@pytest.mark.parametrize("isn", [1, 0xFFFFFFF0])
def test_a_closing_that_answers_a_fin_which_the_capture_lacks_is_the_proxys(isn):
    sent = {"orig_isn": isn, "orig_bytes": 40}
    behind = {**sent, "closing_ack": (isn + 42) & 0xFFFFFFFF}
    (upstream,) = measure(*idle_closes(3_000.5, 3_000.6, 3_001, **behind))
    assert (upstream.idle_timeout, upstream.idle_closes_by_proxy) == (None, 3)
    (upstream,) = measure(*idle_closes(3_000.5, 3_000.6, 3_001, **{**sent, "closing_ack": (isn + 41) & 0xFFFFFFFF}))
    assert (upstream.idle_timeout.samples, upstream.idle_closes_by_proxy) == (3, 0)


def test_closings_that_a_request_crossed_measure_too():
    scene = Scene()
    losses = [scene.lost(fin(127 + i), idle_ms=3_877, late=10_000 * i) for i in range(3)]
    (upstream,) = measure(*[conn() for _ in losses], losses=losses)
    assert upstream.idle_timeout.value_ns == pytest.approx(4_005 * MS, abs=MS)
    assert upstream.idle_timeout.samples == 3
    assert upstream.unanswered == 3


def test_a_raced_closing_that_was_seen_before_the_request_counts_once():
    scene = Scene()
    loss = scene.lost(fin(-0.5), idle_ms=4_001.5)
    (upstream,) = measure(conn(closer=Direction.RESP, idle_ms=4_001, at_s=1), losses=[loss])
    assert upstream.idle_timeout.samples == 1


def test_closings_beside_a_death_measure_nothing():
    scene = Scene()
    death = scene.lost(acknowledged(160), fin(500, ack=END), idle_ms=17)
    at_s = (scene.t0 + 10_500 * MS) / S
    idle = [
        conn(closer=Direction.RESP, idle_ms=4_001, at_s=0) | {"closing_ts_ns": round(at_s * S) + i * MS}
        for i in range(3)
    ]
    (upstream,) = measure(conn(), *idle, losses=[death])
    assert upstream.idle_timeout is None


def test_gaps_that_a_timeout_would_not_allow_refute_it():
    closes = idle_closes(4_001, 4_003, 4_004, handshake_resp_ns=MS)
    (once,) = measure(*closes, exchanges=[gap(9_000)])
    assert once.idle_timeout.confidence == Confidence.POSSIBLE
    (often,) = measure(*closes, exchanges=[gap(9_000)] * 4)
    assert often.idle_timeout is None
    assert often.near_misses == 0
    assert often.longest_answered_gap_ns == 9_000 * MS


def test_near_misses_are_answered_gaps_at_the_edge_of_the_window():
    closes = idle_closes(4_000, 4_000, 4_000, handshake_resp_ns=160 * MS)
    gaps = [gap(3_679), gap(3_681), gap(3_839), gap(3_850), gap(3_900, outcome=Outcome.UNANSWERED)]
    (upstream,) = measure(*closes, exchanges=[*gaps, gap(50), {"conn": 0, "idle_before_ns": -1}])
    assert upstream.near_misses == 3
    assert upstream.reused == 6
    assert upstream.longest_answered_gap_ns == 3_850 * MS


def test_a_gap_with_an_answered_probe_tells_of_the_upstream_and_not_of_the_path():
    (upstream,) = measure(conn(), exchanges=[gap(700), gap(60_000, flags=int(ExchangeFlag.PROBED))])
    assert upstream.longest_answered_gap_ns == 60_000 * MS
    assert upstream.longest_path_gap_ns == 700 * MS


def test_gaps_count_for_their_own_upstream_only():
    closes = idle_closes(4_000, 4_000, 4_000, handshake_resp_ns=160 * MS)
    first, second = measure(*closes, conn("10.1.1.2"), exchanges=[gap(3_850, conn=3), gap(3_700)])
    assert (first.near_misses, second.near_misses) == (1, 0)
    assert (first.longest_answered_gap_ns, second.longest_answered_gap_ns) == (3_700 * MS, 3_850 * MS)


def test_a_limit_of_requests_shows_where_the_upstream_closes_at_once():
    at_once = [conn(closer=Direction.RESP, idle_ms=0.1, at_s=i, n_exchanges=10) for i in range(3)]
    assert measure(*at_once, conn(n_exchanges=7))[0].requests_per_connection_limit == 10
    assert measure(*at_once, conn(n_exchanges=11))[0].requests_per_connection_limit == -1
    assert measure(*at_once[:2])[0].requests_per_connection_limit == -1
    assert (
        measure(*at_once[:2], conn(closer=Direction.RESP, idle_ms=0.1, n_exchanges=4))[0].requests_per_connection_limit
        == -1
    )


def test_a_limit_of_requests_shows_where_the_upstream_announces_it():
    rows = [conn(closer=Direction.ORIG, n_exchanges=10) for _ in range(3)]
    last = [gap(5, conn=i, depth=9, flags=ExchangeFlag.CONNECTION_CLOSE) for i in range(3)]
    assert measure(*rows, exchanges=last)[0].requests_per_connection_limit == 10
    assert measure(*rows, exchanges=[*last, gap(5, depth=10)])[0].requests_per_connection_limit == -1


def test_one_request_per_connection_is_no_limit():
    rows = [conn(closer=Direction.RESP, idle_ms=0.1, at_s=i, n_exchanges=1) for i in range(5)]
    first = [gap(5, conn=i, depth=0, flags=ExchangeFlag.CONNECTION_CLOSE) for i in range(5)]
    assert measure(*rows, exchanges=first)[0].requests_per_connection_limit == -1


def test_the_server_field_and_the_keep_alive_field_are_the_first_ones_seen():
    texts = ByteStore()
    texts.append(np.frombuffer(b"nginx/1.22.1\xff", dtype=np.uint8))
    (upstream,) = measure(
        conn(), conn(server_offset=0, server_len=13, keep_alive_s=5), conn(keep_alive_s=7), texts=texts
    )
    assert upstream.server_field == "nginx/1.22.1\\xff"
    assert upstream.keep_alive_s == 5


def test_the_timeout_is_named_after_the_server_field():
    texts = ByteStore()
    texts.append(np.frombuffer(b"nginx", dtype=np.uint8))
    (upstream,) = measure(*idle_closes(65_001, 65_010, 65_020, server_len=5), texts=texts)
    assert upstream.idle_timeout.named_as == ("nginx (shipped nginx.conf)",)


@pytest.mark.parametrize("protocol", [Protocol.FASTCGI, Protocol.OPAQUE])
def test_what_speaks_no_http_is_not_called_by_the_name_of_a_web_server(protocol):
    (upstream,) = measure(*idle_closes(65_001, 65_010, 65_020, protocol=protocol))
    assert (upstream.idle_timeout.named_as, upstream.idle_timeout.confidence) == ((), Confidence.CONFIRMED)


class Chunked(Table):
    """A table that is only ever read a chunk at a time."""

    def __getitem__(self, name):
        pytest.fail(f"the whole column {name} was asked for")

    def chunks(self):
        for row in range(len(self.rows)):
            yield Table(self.schema, self.rows[row : row + 1])


def test_exchanges_are_read_chunk_by_chunk():
    rows = EXCHANGES.empty(3)
    rows["idle_before_ns"] = [100 * MS, 3_900 * MS, 3_850 * MS]
    table = CONNECTIONS.empty(3)
    for into, row in zip(table, idle_closes(4_000, 4_000, 4_000, handshake_resp_ns=160 * MS), strict=True):
        for name, value in row.items():
            into[name] = value
    legs = np.full(3, Leg.UPSTREAM, dtype=np.int8)
    (upstream,) = measure_upstreams(Table(CONNECTIONS, table), Chunked(EXCHANGES, rows), legs, (), ByteStore())
    assert (upstream.reused, upstream.near_misses) == (3, 2)


def test_the_cost_of_handshakes_is_counted_where_they_were_seen():
    rows = (
        conn(handshake_resp_ns=80 * MS, handshake_orig_ns=1 * MS),
        conn(handshake_resp_ns=90 * MS),
        conn(),  # the capture began later than this connection
        conn("10.1.1.2", handshake_resp_ns=5 * MS, n_exchanges=0),
    )
    first, second = measure(*rows)
    assert (first.opened, first.handshake_ns) == (2, 171 * MS)
    assert (second.opened, second.handshake_ns) == (1, 5 * MS)


def test_the_longest_gap_may_be_one_that_lost_its_request():
    (upstream,) = measure(conn(), exchanges=[gap(700), gap(4900, outcome=Outcome.UNANSWERED)])
    assert upstream.longest_gap_ns == 4900 * MS
    assert upstream.longest_answered_gap_ns == 700 * MS


def with_server(name):
    texts = ByteStore()
    texts.append(np.frombuffer(name, dtype=np.uint8))
    return texts, {"server_offset": 0, "server_len": len(name)}


def test_closings_of_a_late_server_are_one_timer_whatever_woke_it():
    texts, server = with_server(b"lighttpd/1.4.69")
    ages = (5_340, 5_870, 6_080)
    scene = Scene()
    lost = [
        scene.lost(acknowledged(160), fin(161, ack=END), idle_ms=5_400 + 100 * n, late=30_000 * n, opened_ms=9_000)
        for n in range(3)
    ]
    lost = [replace(loss, connection=replace(loss.connection, conn=3 + n)) for n, loss in enumerate(lost)]
    rows = [conn(**server, handshake_resp_ns=160 * MS) for _ in lost]
    (upstream,) = measure(*idle_closes(*ages, **server, handshake_resp_ns=160 * MS), *rows, losses=lost, texts=texts)
    timeout = upstream.idle_timeout
    assert (timeout.value_ns, timeout.spread_ns, timeout.samples) == (5_340 * MS, 740 * MS, 6)
    assert timeout.late_ns == 1_100 * MS
    assert timeout.earliest_ns == 4_980 * MS
    assert timeout.latest_ns == 6_440 * MS


def test_an_exact_server_is_not_made_late_by_a_wide_spread():
    texts, server = with_server(b"nginx/1.22.1")
    (upstream,) = measure(*idle_closes(5_340, 5_870, 6_080, **server), texts=texts)
    assert upstream.idle_timeout is None


def split(n_fresh=0, last_answered_s=1_000):
    """Return an upstream that answered gaps up to 39.4 s and closed at once on longer ones."""
    scene = Scene(rtt_ms=1)
    late = ((44_200, 0), (51_700, 30_000), (41_600, 60_000), (47_900, 90_000))
    lost = [scene.lost(acknowledged(0.6), fin(0.9, ack=END), idle_ms=g, late=at) for g, at in late]
    lost += [scene.lost(acknowledged(0.6), fin(0.9, ack=END), depth=0, late=5_000) for _ in range(n_fresh)]
    rows = [conn(handshake_resp_ns=MS) for _ in lost]
    lost = [replace(loss, connection=replace(loss.connection, conn=n)) for n, loss in enumerate(lost)]
    answered = (900, 20_000, 39_400, 12_000, 31_000, 5_000, 38_000)
    exchanges = [gap(ms, request_ts_ns=scene.t0 + last_answered_s * S) for ms in answered]
    (upstream,) = measure(*rows, exchanges=exchanges, losses=lost)
    return upstream.idle_timeout


def test_idle_gaps_alone_enclose_a_timer_that_fires_on_the_next_byte():
    timeout = split()
    assert (timeout.value_ns, timeout.spread_ns, timeout.is_enclosed) == (39_400 * MS, 2_200 * MS, True)


def test_who_closes_on_fresh_connections_or_answers_no_more_has_no_such_timer():
    assert split(n_fresh=1) is None
    assert split(last_answered_s=-1_000) is None


def test_a_clean_split_of_idle_gaps_is_a_timer_though_only_fresh_requests_were_answered_after_it(tmp_path):
    """All up to 39.4 s answered, all from 41.6 s acknowledged and closed at once; no idle closing was ever seen."""
    get, ok = '"GET / HTTP/1.1\\r\\n\\r\\n"', '"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n"'
    lines = []
    for conn, gap in enumerate((5, 20, 30, 38, 39.4, 41.6, 45, 50, 55)):
        at = f"@{conn}"
        lines += [
            f"+0.01 {at} > S",
            f"+0.001 {at} < S.",
            f"+0 {at} > .",
            f"+0 {at} > P. {get}",
            f"+0.002 {at} < P. {ok}",
        ]
        lines += [f"+{gap} {at} > P. {get}", f"+0.001 {at} < {'P. ' + ok if gap < 40 else 'F.'}", f"+0 {at} > F."]
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse("\n".join(lines))))
    report = pcapdiag.analyze(path)
    assert [(f.code, f.count) for f in report.found if f.severity] == [("PD103", 4)]
    (upstream,) = report.analysis.upstreams
    assert upstream.idle_timeout.is_enclosed
    assert 39.3e9 < upstream.idle_timeout.value_ns < 41.6e9


@pytest.mark.parametrize(
    ("changes", "n_requests"),
    [
        ({"status_code": 400}, 2),
        ({"status_code": 408}, 2),
        ({"status_code": 408, "depth": 0}, 3),  # of a request before the capture, perhaps
        ({"status_code": 400, "flags": 0}, 3),
        ({"status_code": 200}, 3),
        ({"status_code": 400, "outcome": Outcome.ANSWERED}, 3),
    ],
)
def test_a_last_word_that_nobody_asked_for_is_no_request(changes, n_requests):
    """Node.js says 400 to what follows of a body that it answered early, and closes."""
    unasked = {"depth": 2, "outcome": Outcome.RESPONSE_ONLY, "flags": ExchangeFlag.CONNECTION_CLOSE} | changes
    asked = [{"depth": n, "outcome": Outcome.ANSWERED, "status_code": 200} for n in range(2)]
    (upstream,) = measure(conn(n_exchanges=3), exchanges=[*asked, unasked])
    assert upstream.exchanges == n_requests
