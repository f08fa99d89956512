"""What only the logs tell of: by kind, within the time of the capture, and nothing that packets may explain."""

from dataclasses import replace

import pytest

from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.join.ledger import OutsideKind
from pcapdiag.proxy.logs.entries import LogKind
from tests.proxy.join.builders import HEADER, PEER, SPAN, access, entry, wire

UNIX = "unix:/run/app.sock"
FAR = "10.9.9.9:80"


def join(wires, entries, accesses=(), **options):
    return join_logs(wires, SPAN, entries, accesses, **options)


def kinds(ledger):
    return [f.kind for f in ledger.outside]


def test_what_packets_explain_or_may_explain_is_not_outside():
    assert kinds(join([wire(500)], [entry(0)])) == []
    alike = [wire(500, conn=0), wire(510, conn=1)]
    assert kinds(join(alike, [entry(0, line=1)])) == []
    # One failure on the wire has no entry, one entry has no try: they are likely the same.
    assert kinds(join([wire(500), wire(30_000, conn=1)], [entry(0), entry(90, line=2)])) == []


def test_a_disabled_peer_and_the_failure_before_it_are_one():
    log = [entry(0), entry(20, line=2, peer=FAR), entry(20, line=3, kind=LogKind.SERVER_DISABLED, peer=FAR)]
    assert kinds(join([wire(500)], log)) == [OutsideKind.OTHER_PEER]


def test_a_client_that_went_away_and_an_upgraded_connection_are_no_failure():
    gone = entry(20, kind=LogKind.CLIENT_CLOSED, peer=FAR)
    ended = entry(20, kind=LogKind.RECV_FAILED, errno_name="ECONNRESET", action="proxying upgraded connection")
    assert kinds(join([wire(500)], [entry(0), gone, ended])) == []


def test_an_access_log_of_another_hour_is_not_of_this_capture():
    assert kinds(join([], [], [access(5_000_000, (UNIX, 502, 10), status=502)])) == []


@pytest.mark.parametrize("at", [-300, 1200])
def test_what_was_logged_at_another_time_is_not_of_this_capture(at):
    log = [entry(0), entry(at, line=2, peer=UNIX), entry(at, line=3, peer=FAR)]
    assert kinds(join([wire(500)], log)) == []


@pytest.mark.parametrize(
    ("tried", "status", "expected"),
    [
        ((UNIX, 502, 10), 502, [OutsideKind.UNIX_SOCKET]),
        ((FAR, 504, 10), 504, [OutsideKind.OTHER_PEER]),
        ((PEER, 504, 10), 504, [OutsideKind.UNMATCHED]),
        ((PEER, 500, 10), 500, [OutsideKind.ANSWERED]),
        ((PEER, 200, 10), 200, []),
        (("backend", 502, 0), 502, []),
    ],
)
def test_failures_of_the_access_log_count_where_nothing_else_tells_of_them(tried, status, expected):
    line = access(20_000, tried, conn=99, status=status)
    assert kinds(join([], [], [line])) == expected
    told = entry(20, conn=99, peer=FAR if tried[0] == FAR else PEER, kind=LogKind.TIMED_OUT, action=HEADER)
    assert kinds(join([], [told], [line])).count(OutsideKind.ANSWERED) == 0


@pytest.mark.parametrize(
    ("at_s", "method", "expected"),
    [
        (0, "GET", []),
        (8 * 3600, "GET", []),
        (20, "GET", [OutsideKind.OTHER_PEER]),
        (0, "POST", [OutsideKind.OTHER_PEER]),
    ],
)
def test_what_failed_behind_the_address_of_a_service_is_not_outside(at_s, method, expected):
    ledger = join([wire(500)], [entry(at_s, peer=FAR, method=method)], zone_s=at_s if at_s > 3600 else 0)
    assert kinds(ledger) == expected


def test_entries_of_services_that_share_their_endpoints_name_the_failures_that_they_may_be():
    endpoints, services = (PEER, "10.1.1.7:80"), (FAR, "10.9.9.8:80")
    both = [(s, e) for s in services for e in endpoints] * 3
    at = [5 + 4 * n for n in range(len(both))]
    wires = [
        wire(1000 * t + 500, conn=n, peer=e, target=f"/{n}") for n, (t, (_, e)) in enumerate(zip(at, both, strict=True))
    ]
    log = [entry(t, line=n, peer=s, conn=n, target=f"/{n}") for n, (t, (s, _)) in enumerate(zip(at, both, strict=True))]
    span = replace(SPAN, peers=frozenset(endpoints))
    ledger = join_logs(wires, span, log, zone_s=0)
    assert not ledger.outside
    assert [j.candidates[0].conn for j in ledger.entries] == list(range(len(both)))
    assert all("address of a service" in j.reason for j in ledger.entries)


def test_one_failure_behind_a_service_stands_for_one_entry():
    log = [entry(0, line=1, peer=FAR, conn=1), entry(0, line=2, peer=FAR, conn=2)]
    assert kinds(join([wire(500)], log, zone_s=0)) == [OutsideKind.OTHER_PEER]


def test_a_line_of_a_service_whose_failure_packets_show_is_not_outside():
    line = access(600, (FAR, 502, 100), status=502)
    assert kinds(join([wire(500)], [], [line])) == []
    assert kinds(join([wire(500, target="/else")], [], [line])) == [OutsideKind.OTHER_PEER]


@pytest.mark.parametrize(("client", "is_placed"), [("192.0.2.2", True), ("198.51.100.9", False)])
def test_the_line_of_a_request_places_an_entry_whose_zone_nothing_tells(client, is_placed):
    line = access(20_600, (UNIX, 502, 100), status=502)._replace(client=client)
    log = [entry(20 + 7200, peer=UNIX, client="192.0.2.2")]
    (failure,) = join([], log, [line]).outside
    assert failure.is_placed is is_placed
    assert (failure.ts_ns == line.ts_ns) is is_placed
