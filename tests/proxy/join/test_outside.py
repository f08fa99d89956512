"""What only the logs tell of: by kind, within the time of the capture, and nothing that packets may explain."""

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
