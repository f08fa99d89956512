"""Lines of other proxies' logs, joined with tries: one to one, by their own clock, never with what looks like it."""

import dataclasses
import json
from datetime import UTC, datetime

import pytest

from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.join.ledger import EntryVerdict, WireVerdict
from pcapdiag.proxy.join.places import CaptureSpan
from pcapdiag.proxy.logs.alb_log import ALB_LOG
from pcapdiag.proxy.logs.caddy_log import CADDY_LOG
from pcapdiag.proxy.logs.clb_log import CLB_LOG
from pcapdiag.proxy.logs.gcp_log import GCP_LOG
from pcapdiag.proxy.logs.haproxy_log import HAPROXY_LOG
from pcapdiag.proxy.logs.httpd_log import HTTPD_LOG
from pcapdiag.proxy.logs.traefik_log import TRAEFIK_LOG
from tests.proxy.join.builders import MS, OTHER, PEER, SPAN, T0, T0_S, S, wire

EXPLAINED, UNDETERMINED = EntryVerdict.EXPLAINED, EntryVerdict.UNDETERMINED
NOTHING, ELSEWHERE = EntryVerdict.NO_PACKETS_EXPECTED, EntryVerdict.NOT_CAPTURED


def stamp(at_ms, form):
    """Return the time so many ms after T0 in a form of strftime, and the milliseconds."""
    return datetime.fromtimestamp(T0_S + at_ms // 1000, UTC).strftime(form), f"{at_ms % 1000:03}"


def haproxy(end_ms, state="SH--", *, line=1, server="b/s1", peer=PEER, request="GET /api HTTP/1.1"):
    """Return the entry of a session that ended so many ms after T0; its server has the address that is given."""
    text = (
        f"192.0.2.2:38016 [{'.'.join(stamp(end_ms - 72, '%d/%b/%Y:%H:%M:%S'))}] f {server} 0/0/0/-1/72 502 209 - -"
        f' {state} 5/5/2/0/0 0/0 "{request}"'
    )
    entry = HAPROXY_LOG.read("haproxy.log", line, text).entry
    return dataclasses.replace(entry, upstream_peer=peer) if peer else entry


def httpd(at_ms, text, *, line=1, tid=7, by="[client 192.0.2.2:1] "):
    day, ms = stamp(at_ms, "%a %b %d %H:%M:%S")
    head = f"[{day}.{ms}000 2026] [proxy:error] [pid 6:tid {tid}] "
    return HTTPD_LOG.read("error.log", line, f"{head}{by}{text}").entry


def verdicts(ledger):
    return [j.verdict for j in ledger.entries]


def test_the_clock_of_these_tests_is_that_of_their_tries():
    assert haproxy(0).ts_ns == T0
    assert httpd(0, "AH01103: read timeout").ts_ns == T0_S * S


def test_failures_of_one_second_are_told_apart_by_their_milliseconds():
    """Stamps of whole seconds would leave the order alone to tell them apart, and a missing one would shift all."""
    tries = [wire(at, conn=n) for n, at in enumerate((0, 300, 600, 800))]
    ledger = join_logs(tries, SPAN, [haproxy(400, line=1), haproxy(901, line=2)])
    assert [(j.verdict, j.wire.conn) for j in ledger.entries] == [(EXPLAINED, 1), (EXPLAINED, 3)]
    assert ledger.clock.width_ns < 100 * MS


def test_reset_and_close_are_one_state_of_haproxy():
    tries = [wire(0), wire(5000, conn=1, resp_fin_ns=-1, orig_fin_ns=-1, resp_rst_ns=T0 + 5100 * MS)]
    assert verdicts(join_logs(tries, SPAN, [haproxy(100), haproxy(5100, line=2)])) == [EXPLAINED, EXPLAINED]


@pytest.mark.parametrize("state", ["CH--", "CD--", "cH--", "sH--", "SC--", "sC--", "PH--"])
def test_another_state_is_not_joined_to_a_race(state):
    ledger = join_logs([wire(0)], SPAN, [haproxy(100, state)])
    assert verdicts(ledger) == [EntryVerdict.NOT_CAPTURED]
    assert ledger.entries[0].wire is None
    ledger = join_logs([wire(0), wire(9000, conn=1)], SPAN, [haproxy(100, state), haproxy(9100, line=2)])
    assert verdicts(ledger) == [UNDETERMINED, EXPLAINED]


def test_a_client_that_left_explains_the_closing_of_the_proxy():
    left = wire(0, resp_fin_ns=-1, orig_fin_ns=T0 + 100 * MS)
    assert verdicts(join_logs([left], SPAN, [haproxy(100, "CH--")])) == [EXPLAINED]


def test_a_line_of_another_server_is_not_joined():
    ledger = join_logs([wire(0), wire(20_000, conn=1)], SPAN, [haproxy(100, peer=OTHER), haproxy(20_100, line=2)])
    assert verdicts(ledger) == [UNDETERMINED, EXPLAINED]


def test_a_line_of_another_request_is_not_joined():
    other = haproxy(100, request="POST /other HTTP/1.1")
    ledger = join_logs([wire(0), wire(20_000, conn=1)], SPAN, [other, haproxy(20_100, line=2)])
    assert verdicts(ledger) == [UNDETERMINED, EXPLAINED]


def test_a_line_of_another_time_is_not_joined():
    late, early = haproxy(1_100_000, line=2), haproxy(-200_000, line=1)
    ledger = join_logs([wire(0), wire(20_000, conn=1)], SPAN, [early, haproxy(100), haproxy(20_100), late])
    assert verdicts(ledger) == [ELSEWHERE, EXPLAINED, EXPLAINED, ELSEWHERE]


def test_a_server_that_is_only_named_is_found_by_failures_that_agree():
    tries = [wire(at, conn=n) for n, at in enumerate((0, 7000, 19_000))]
    lines = [haproxy(at + 100, line=n, peer="") for n, at in enumerate((0, 7000, 19_000))]
    ledger = join_logs(tries, SPAN, lines)
    assert verdicts(ledger) == [EXPLAINED] * 3
    assert ledger.services == {PEER: "b/s1"}
    assert "b/s1 of the log is 10.1.1.1:80 in the capture" in ledger.entries[0].reason


def test_one_failure_does_not_tell_where_a_named_server_is():
    ledger = join_logs([wire(0)], SPAN, [haproxy(100, peer="")])
    assert [(j.verdict, j.reason) for j in ledger.entries] == [
        (UNDETERMINED, "nothing tells which address b/s1 has (--proxy-conf may)")
    ]
    assert ledger.outside == ()


def test_what_found_no_server_or_waited_for_one_sent_nothing():
    entries = [haproxy(100, state, line=n, server="b/<NOSRV>", peer="") for n, state in enumerate(("SC--", "sQ--"))]
    ledger = join_logs([], SPAN, entries, zone_s=0)
    assert verdicts(ledger) == [NOTHING, NOTHING]
    assert "no server was there" in ledger.entries[0].reason
    assert "queue" in ledger.entries[1].reason
    assert {failure.kind.value for failure in ledger.outside} == {"no_server", "not_tried"}


@pytest.mark.parametrize("changes", [{"resp_rst_ns": T0 + 100 * MS}, {"icmp_ns": T0 + 100 * MS, "icmp_errno": 113}])
def test_no_connection_is_a_refusal_or_an_icmp_error(changes):
    attempt = wire(0, depth=-1, method="", target="", host="", resp_fin_ns=-1, orig_fin_ns=-1, **changes)
    assert verdicts(join_logs([attempt], SPAN, [haproxy(100, "SC--")])) == [EXPLAINED]


def test_a_failure_without_a_line_is_missing_in_a_log_that_covers_its_time():
    tries = [wire(0), wire(9000, conn=1)]
    ledger = join_logs(tries, SPAN, [haproxy(100)], covers=lambda: (T0_S - 5, T0_S + 60))
    assert [t.verdict for t in ledger.tries] == [WireVerdict.LOGGED, WireVerdict.NOT_IN_LOG]
    ledger = join_logs(tries, SPAN, [haproxy(100)])
    assert [t.verdict for t in ledger.tries] == [WireVerdict.LOGGED, WireVerdict.OUTSIDE_LOG]


def alb(at_ms, statuses="502 -"):
    day, ms = stamp(at_ms, "%Y-%m-%dT%H:%M:%S")
    text = f'http {day}.{ms}000Z app/x 192.0.2.2:1 {PEER} 0.000 0.001 -1 {statuses} 34 366 "GET http://x/api HTTP/1.1"'
    return ALB_LOG.read("alb.log", 1, text).entry


def test_a_status_without_a_reason_fits_whatever_failed_then():
    refused = wire(
        9000, conn=1, depth=-1, method="", target="", resp_fin_ns=-1, orig_fin_ns=-1, resp_rst_ns=T0 + 9100 * MS
    )
    assert verdicts(join_logs([wire(0), refused], SPAN, [alb(100), alb(9100)])) == [EXPLAINED, EXPLAINED]


@pytest.mark.parametrize("statuses", ["504 -", "460 -"])
def test_a_timeout_of_a_load_balancer_and_a_client_that_left_are_no_race(statuses):
    ledger = join_logs([wire(0), wire(9000, conn=1)], SPAN, [alb(100, statuses), alb(9100)])
    assert verdicts(ledger) == [UNDETERMINED, EXPLAINED]


def caddy(at_ms, error="EOF", *, line=1, peer=PEER):
    """Return the entry of a try that ended so many ms after T0."""
    request = {"remote_ip": "192.0.2.2", "remote_port": str(4000 + line), "method": "GET", "uri": "/api", "headers": {}}
    values = {"level": "debug", "ts": T0_S + at_ms / 1000, "logger": "http.handlers.reverse_proxy", "msg": "roundtrip"}
    text = json.dumps(values | {"upstream": peer, "duration": 0.1, "request": request, "error": error})
    return CADDY_LOG.read("caddy.log", line, text).entry


def traefik(at_ms, status=502, size=11, *, line=1):
    """Return the entry of a request that ended so many ms after T0."""
    values = {"RouterName": "r", "RequestMethod": "GET", "RequestPath": "/api", "RequestProtocol": "HTTP/1.1"}
    values |= {"DownstreamStatus": status, "OriginContentSize": size, "ServiceAddr": PEER, "Duration": 72_000_000}
    values["StartUTC"] = "{}.{}000000Z".format(*stamp(at_ms - 72, "%Y-%m-%dT%H:%M:%S"))
    return TRAEFIK_LOG.read("access.log", line, json.dumps(values)).entry


def gcp(at_ms, details="backend_connection_closed_before_data_sent_to_client", *, line=1):
    """Return the entry of a request that ended so many ms after T0."""
    request = {"requestMethod": "GET", "requestUrl": "http://x/api", "status": 502, "serverIp": PEER.split(":")[0]}
    values = {"httpRequest": request | {"latency": "0.072s"}, "jsonPayload": {"statusDetails": details}}
    values["timestamp"] = "{}.{}000Z".format(*stamp(at_ms - 72, "%Y-%m-%dT%H:%M:%S"))
    return GCP_LOG.read("lb.log", line, json.dumps(values)).entry


def clb(at_ms, statuses="502 0", *, line=1):
    """Return the entry of a request that came so many ms after T0."""
    day, ms = stamp(at_ms, "%Y-%m-%dT%H:%M:%S")
    text = f'{day}.{ms}000Z lb 192.0.2.2:1 {PEER} 0.000 -1 -1 {statuses} 0 0 "GET http://x/api HTTP/1.1" "c" - -'
    return CLB_LOG.read("clb.log", line, text).entry


@pytest.mark.parametrize("of", [caddy, traefik], ids=["Caddy", "Traefik"])
def test_each_line_is_joined_with_its_own_try(of):
    tries = [wire(at, conn=n) for n, at in enumerate((0, 300, 600, 800))]
    ledger = join_logs(tries, SPAN, [of(400, line=1), of(901, line=2)], zone_s=0)
    assert [(j.verdict, j.wire.conn) for j in ledger.entries] == [(EXPLAINED, 1), (EXPLAINED, 3)]


@pytest.mark.parametrize(
    ("race", "other"),
    [
        (caddy, lambda at: caddy(at, "net/http: timeout awaiting response headers")),
        (caddy, lambda at: caddy(at, "context canceled")),
        (caddy, lambda at: caddy(at, "dial tcp 10.1.1.1:80: connect: connection refused")),
        (caddy, lambda at: caddy(at, peer=OTHER)),
        (traefik, lambda at: traefik(at, 504, 15)),
        (traefik, lambda at: traefik(at, 499, 21)),
    ],
)
def test_what_is_no_race_is_joined_with_none(race, other):
    ledger = join_logs([wire(0), wire(9000, conn=1)], SPAN, [other(100), race(9100, line=2)], zone_s=0)
    assert [(j.verdict, j.wire.conn if j.wire else -1) for j in ledger.entries][1] == (EXPLAINED, 1)
    assert verdicts(ledger)[0] is not EXPLAINED


def test_a_backend_without_a_port_is_learned_from_failures_that_agree():
    tries = [wire(at, conn=n) for n, at in enumerate((0, 7000, 19_000))]
    ledger = join_logs(tries, SPAN, [gcp(at + 100, line=n) for n, at in enumerate((0, 7000, 19_000))], zone_s=0)
    assert [(j.verdict, j.wire.conn) for j in ledger.entries] == [(EXPLAINED, n) for n in range(3)]
    ledger = join_logs([wire(0)], SPAN, [gcp(100)], zone_s=0)
    assert verdicts(ledger) == [UNDETERMINED]


def test_a_line_that_does_not_tell_its_end_is_joined_by_order_or_not_at_all():
    tries = [wire(0), wire(200_000, conn=1)]
    ledger = join_logs(tries, SPAN, [clb(0), clb(200_000, line=2)], zone_s=0)
    assert [(j.verdict, j.wire.conn if j.wire else -1) for j in ledger.entries] == [(EXPLAINED, 0), (EXPLAINED, 1)]


STATUS_LINE = "AH01102: error reading status line from remote server"
GAVE_UP = "AH00898: Error reading from remote server returned by /api"


def test_what_a_thread_says_of_try_and_request_is_one_failure():
    tries = [wire(0), wire(10, conn=1)]
    entries = [
        httpd(100, f"{STATUS_LINE} {PEER}", line=1),
        httpd(100, GAVE_UP, line=2),
        httpd(110, f"{STATUS_LINE} {PEER}", line=3, tid=8),
        httpd(110, GAVE_UP, line=4, tid=8),
    ]
    ledger = join_logs(tries, SPAN, entries)
    assert [(j.verdict, j.wire.conn) for j in ledger.entries] == [(EXPLAINED, n) for n in (0, 0, 1, 1)]


def test_a_refused_connection_is_told_by_three_entries():
    attempt = wire(
        0, depth=-1, method="", target="", host="", resp_fin_ns=-1, orig_fin_ns=-1, resp_rst_ns=T0 + 100 * MS
    )
    entries = [
        httpd(100, f"(111)Connection refused: AH00957: http: attempt to connect to {PEER} (x) failed", by=""),
        httpd(100, f"AH00959: ap_proxy_connect_backend disabling worker for ({PEER}) for 60s", line=2, by=""),
        httpd(101, "AH01114: HTTP: failed to make connection to backend: 10.1.1.1", line=3),
    ]
    assert verdicts(join_logs([attempt], SPAN, entries)) == [EXPLAINED] * 3


@pytest.mark.parametrize(
    "changes", [{"line": 2, "tid": 9}, {"line": 2, "by": "[client 192.0.2.9:1] "}], ids=["thread", "client"]
)
def test_a_request_given_up_by_another_thread_or_for_another_client_is_not_that_failure(changes):
    entries = [httpd(100, f"{STATUS_LINE} {PEER}"), httpd(100, GAVE_UP, **changes)]
    assert verdicts(join_logs([wire(0)], SPAN, entries)) == [EXPLAINED, UNDETERMINED]


def test_a_name_of_a_host_is_no_claim_that_its_packets_are_missing():
    ledger = join_logs([wire(0)], SPAN, [httpd(100, f"{STATUS_LINE} app.internal:8080")])
    assert [(j.verdict, j.reason) for j in ledger.entries] == [
        (UNDETERMINED, "nothing tells which address app.internal:8080 has")
    ]


def test_an_address_without_packets_is_not_captured():
    span = CaptureSpan(SPAN.first_ns, SPAN.last_ns, frozenset({OTHER}))
    assert verdicts(join_logs([wire(0, peer=OTHER)], span, [httpd(100, f"{STATUS_LINE} {PEER}")])) == [ELSEWHERE]
