"""Log entries and tries on the wire, built by hand."""

import dataclasses

from pcapdiag.proxy.join.ledger import WireTry
from pcapdiag.proxy.join.places import CaptureSpan
from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry, LogKind, Try

S = 1_000_000_000
MS = 1_000_000
T0_S = 1_795_218_956
T0 = T0_S * S
PEER, OTHER = "10.1.1.1:80", "10.1.1.2:80"
SPAN = CaptureSpan(T0 - 100 * S, T0 + 1000 * S, frozenset({PEER, OTHER}))
HEADER = "reading response header from upstream"
CONNECTING = "connecting to upstream"


def entry(at_s, *, line=1, kind=LogKind.PREMATURE_CLOSE, peer=PEER, conn=7, action=HEADER, **changes):
    """Return an entry stamped so many seconds after T0."""
    base = ErrorEntry(
        path="error.log",
        line=line,
        ts_s=T0_S + at_s,
        level="error",
        pid=100,
        tid=100,
        log_conn=conn,
        kind=kind,
        action=action,
        errno=-1,
        errno_name="",
        message="",
        client="192.0.2.2",
        server="api.example",
        request="GET /api HTTP/1.1",
        method="GET",
        target="/api",
        protocol="HTTP/1.1",
        subrequest="",
        upstream=f"http://{peer}/api",
        upstream_schema="http",
        upstream_peer=peer,
        upstream_uri="/api",
        host="api.example",
        referrer="",
        extra=(),
        concerns_upstream=True,
    )
    return dataclasses.replace(base, **changes)


def wire(at_ms, *, conn=0, peer=PEER, after_ms=100, **changes):
    """Return a request sent so many ms after T0, which the upstream's FIN met `after_ms` later."""
    start = T0 + at_ms * MS
    base = WireTry(
        conn=conn,
        depth=3,
        uid=f"uid{conn}",
        orig=f"10.1.1.100:{40000 + conn}",
        peer=peer,
        request_frame=10 * conn,
        start_ns=start,
        last_sent_ns=start,
        first_response_ns=-1,
        resp_fin_ns=start + after_ms * MS,
        resp_rst_ns=-1,
        orig_fin_ns=start + after_ms * MS + 100_000,
        orig_rst_ns=-1,
        alert_ns=-1,
        method="GET",
        target="/api",
        host="api.example",
        request_id="",
        is_failure=True,
        is_acknowledged=False,
        has_head=False,
    )
    return dataclasses.replace(base, **changes)


def access(end_ms, *tries, conn=7, line=1, status=200, request_id="", method="GET"):
    """Return the line of a request that ended so many ms after T0; a try is (peer, status, ms)."""
    listed = tuple(Try(peer, code, ms * MS, 0, ms * MS if code == 200 else -1, 0) for peer, code, ms in tries)
    return AccessEntry(
        path="access.log",
        line=line,
        ts_ns=T0 + end_ms * MS,
        ts_width_ns=MS,
        log_conn=conn,
        request_id=request_id,
        method=method,
        target="/api",
        protocol="HTTP/1.1",
        host="",
        client="192.0.2.2",
        status=status,
        request_time_ns=sum(ms for _, _, ms in tries) * MS,
        tries=listed,
    )
