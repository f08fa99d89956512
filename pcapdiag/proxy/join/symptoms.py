"""Which message fits which packets, and at which moment nginx must have logged it.

Knows nginx's messages (ngx_http_upstream.c) and what ends a try on the wire; knows neither clocks nor assignments.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pcapdiag.proxy.join.ledger import first_of
from pcapdiag.proxy.logs.entries import BODY, CONNECTING, HANDSHAKING, HEADER, SENDING, LogKind

if TYPE_CHECKING:
    from pcapdiag.proxy.join.ledger import WireTry
    from pcapdiag.proxy.logs.entries import ErrorEntry

ACTIONS = frozenset({BODY, HEADER, SENDING, HANDSHAKING, CONNECTING})
"""What nginx may be doing, as far as it tells tries apart."""


class Symptom(Enum):
    """What a message says of the try."""

    CLOSED = "the upstream closed"
    RESET = "the connection was reset"
    BROKEN = "the upstream closed or reset"
    UNCONNECTED = "no connection came about"
    REFUSED = "the connection was refused"
    UNREACHABLE = "the address could not be reached"
    CONNECT_TIMEOUT = "no connection in time"
    TIMEOUT = "no answer in time"
    BAD_RESPONSE = "the response could not be used"
    STREAM_ENDED = "the upstream ended the stream, or did not serve it"
    HANDSHAKE = "the TLS handshake failed"
    ABORTED = "the client went away"
    FAILED = "the try failed"
    """Only that it did: `temporarily disabled` without the message before it, or a message that is not known."""
    NO_PACKETS = "nothing was sent"


class Moment(NamedTuple):
    """[ns] Capture time at which nginx must have seen the end of a try: between `low` and `high`, both included.

    `is_open` says that packets do not show it: nginx gave up silently at some time after `low`; the window is empty.
    """

    low: int
    high: int
    is_open: bool = False


_BY_KIND = {
    LogKind.PREMATURE_CLOSE: Symptom.CLOSED,
    LogKind.UPSTREAM_CLOSED: Symptom.CLOSED,
    LogKind.BROKEN: Symptom.BROKEN,
    LogKind.NO_CONNECTION: Symptom.UNCONNECTED,
    LogKind.INVALID_RESPONSE: Symptom.BAD_RESPONSE,
    LogKind.NO_SERVER: Symptom.NO_PACKETS,
    LogKind.QUEUED: Symptom.NO_PACKETS,
    LogKind.NO_RESOURCES: Symptom.NO_PACKETS,
    LogKind.TOO_BIG_HEADER: Symptom.BAD_RESPONSE,
    LogKind.INVALID_HEADER: Symptom.BAD_RESPONSE,
    LogKind.NO_VALID_HEADER: Symptom.BAD_RESPONSE,
    LogKind.INVALID_BODY: Symptom.BAD_RESPONSE,
    LogKind.PREMATURE_RESPONSE: Symptom.BAD_RESPONSE,
    LogKind.PROTOCOL_ERROR: Symptom.BAD_RESPONSE,
    LogKind.STREAM_REJECTED: Symptom.STREAM_ENDED,
    LogKind.GOAWAY: Symptom.STREAM_ENDED,
    LogKind.UPSTREAM_STDERR: Symptom.BAD_RESPONSE,
    LogKind.TLS_CLOSED: Symptom.HANDSHAKE,
    LogKind.TLS_FAILED: Symptom.HANDSHAKE,
    LogKind.TLS_CERTIFICATE: Symptom.HANDSHAKE,
    LogKind.CLIENT_CLOSED: Symptom.ABORTED,
    LogKind.NO_LIVE_UPSTREAMS: Symptom.NO_PACKETS,
    LogKind.RESOLVE_FAILED: Symptom.NO_PACKETS,
    LogKind.BALANCER_NO_PEER: Symptom.NO_PACKETS,
    LogKind.BALANCER_FAILED: Symptom.NO_PACKETS,
    LogKind.BALANCER_RETRY_TIMEOUT: Symptom.NO_PACKETS,
}
_BY_ERRNO = {
    "ECONNRESET": Symptom.RESET,
    "EPIPE": Symptom.RESET,
    "ENOTCONN": Symptom.RESET,
    "ECONNREFUSED": Symptom.REFUSED,
    "EHOSTUNREACH": Symptom.UNREACHABLE,
    "ENETUNREACH": Symptom.UNREACHABLE,
    "EHOSTDOWN": Symptom.UNREACHABLE,
    "EACCES": Symptom.NO_PACKETS,
    "EPERM": Symptom.NO_PACKETS,
    "EADDRNOTAVAIL": Symptom.NO_PACKETS,
    "ENOENT": Symptom.NO_PACKETS,
    "EAGAIN": Symptom.NO_PACKETS,
}


_REFUSED_HERE = frozenset({"EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL", "EADDRINUSE"})
"""What the proxy's own machine lacked when a connection was to be opened."""

BREAKS = frozenset({Symptom.CLOSED, Symptom.RESET, Symptom.BROKEN})
"""The upstream ended an established connection."""
SHARP = BREAKS | {Symptom.REFUSED}
"""What packets show at the moment in which it is logged."""
_ECONNREFUSED = 111

FOUND_NO_PEER = frozenset({LogKind.NO_LIVE_UPSTREAMS, LogKind.BALANCER_NO_PEER})
"""What a request says that no peer was left for."""


def symptom_of(entry: ErrorEntry) -> Symptom:
    """Return what an entry says of its try."""
    if entry.upstream_peer.startswith("unix:"):
        return Symptom.NO_PACKETS
    if entry.action == CONNECTING and entry.errno_name in _REFUSED_HERE:
        return Symptom.NO_PACKETS
    known = _BY_KIND.get(entry.kind)
    if known is not None:
        return known
    if entry.kind is LogKind.TIMED_OUT or entry.errno_name == "ETIMEDOUT":
        return Symptom.CONNECT_TIMEOUT if entry.action == CONNECTING else Symptom.TIMEOUT
    if entry.kind in (LogKind.RECV_FAILED, LogKind.SEND_FAILED, LogKind.CONNECT_FAILED):
        return _BY_ERRNO.get(entry.errno_name, Symptom.FAILED)
    return Symptom.FAILED


def moment_of(symptom: Symptom, action: str, wire: WireTry) -> Moment | None:
    """Return when nginx must have logged `symptom` if `wire` is the try; None if it cannot be.

    Parameters
    ----------
    symptom : Symptom
        From `symptom_of`.
    action : str
        What nginx was doing.
    wire : WireTry
        A try at the same peer.

    Returns
    -------
    Moment or None
    """
    if symptom in (Symptom.FAILED, Symptom.NO_PACKETS):
        return _any_end(wire) if symptom is Symptom.FAILED else None
    if wire.is_handshake:
        return _failed_handshake(symptom, action, wire)
    if symptom is Symptom.HANDSHAKE and wire.first_response_ns >= 0:
        return None
    if wire.is_connect:
        return _failed_connect(symptom, wire)
    if action == BODY and wire.first_response_ns < 0:
        return None
    if symptom in BREAKS and not (wire.is_failure or _may_have_broken_off(action, wire)):
        return None
    is_silent = wire.held_back_ns >= 0 or (action == SENDING and wire.proxy_close_ns < 0)
    if symptom is Symptom.TIMEOUT and wire.is_failure and is_silent:
        # A FIN waits behind bytes that the upstream does not take: nginx gave up before, and nothing shows when.
        return Moment(wire.start_ns, wire.start_ns, is_open=True)
    return _END.get(symptom, _never)(wire)


def _may_have_broken_off(action: str, wire: WireTry) -> bool:
    """Whether a response that seems whole may not be: packets do not show where it was to end.

    Of a head in TLS not a byte is seen: there any idle close would fit.
    """
    return not wire.is_end_known and (action != HEADER or wire.has_head)


def _failed_connect(symptom: Symptom, wire: WireTry) -> Moment | None:
    if symptom in (Symptom.REFUSED, Symptom.UNCONNECTED) and wire.resp_rst_ns >= 0:
        return Moment(wire.resp_rst_ns, wire.resp_rst_ns)
    if symptom is Symptom.UNCONNECTED and wire.icmp_ns >= 0:
        return Moment(wire.icmp_ns, wire.icmp_ns)
    if wire.icmp_ns >= 0 and symptom in (Symptom.REFUSED, Symptom.UNREACHABLE):
        # The kernel fails connect() as it reads the message.
        is_refusal = wire.icmp_errno == _ECONNREFUSED
        return Moment(wire.icmp_ns, wire.icmp_ns) if is_refusal == (symptom is Symptom.REFUSED) else None
    if symptom is Symptom.CONNECT_TIMEOUT and wire.resp_rst_ns < 0:
        return Moment(wire.start_ns, wire.start_ns, is_open=True)
    if symptom is Symptom.UNREACHABLE and wire.resp_rst_ns < 0:
        # Something that the capture lacks answered the SYN and ended the attempt: it was the last one.
        return Moment(wire.last_sent_ns, wire.last_sent_ns, is_open=True)
    return None


def _failed_handshake(symptom: Symptom, action: str, wire: WireTry) -> Moment | None:
    """Return the moment of an entry on a handshake: between the alert or the first closing and the last."""
    if symptom in (Symptom.HANDSHAKE, Symptom.UNCONNECTED) or (action == HANDSHAKING and symptom in BREAKS):
        return _handshake(wire)
    if action == HANDSHAKING and symptom in (Symptom.TIMEOUT, Symptom.ABORTED):
        return _END[symptom](wire)
    # httpd begins the handshake with its first write: that is what failed.
    if symptom is Symptom.BROKEN and action == SENDING:
        return _handshake(wire)
    # A request in clear that a TLS alert answered was sent: there the proxy reads what is no HTTP.
    if (wire.is_rejected or not wire.is_connect) and symptom in BREAKS | {Symptom.BAD_RESPONSE}:
        return _handshake(wire)
    return None


def _closed(wire: WireTry) -> Moment | None:
    first = first_of(wire.resp_fin_ns, wire.alert_ns)
    closed = wire.proxy_close_ns
    if first < 0:
        # In TLS 1.3 the close_notify looks like the last bytes of the response.
        return Moment(closed, closed) if closed >= 0 and not wire.is_end_known else None
    # nginx closes its side as it reads the FIN: that is the very moment. Not so where it had closed long before.
    return Moment(closed, closed) if closed >= first else Moment(first, first) if closed < 0 else None


def _reset(wire: WireTry) -> Moment | None:
    # A FIN before the RST is read first, as an orderly end.
    if wire.resp_rst_ns < 0:
        return None
    if 0 <= wire.resp_fin_ns < wire.resp_rst_ns and wire.proxy_close_ns >= 0:
        return None
    return Moment(wire.resp_rst_ns, wire.resp_rst_ns)


def _broken(wire: WireTry) -> Moment | None:
    return _closed(wire) or _reset(wire)


def _timed_out(wire: WireTry) -> Moment | None:
    closed, other = wire.proxy_close_ns, first_of(wire.resp_fin_ns, wire.resp_rst_ns)
    if closed >= 0:
        return Moment(closed, closed) if other < 0 or closed <= other else None
    return Moment(wire.start_ns, wire.start_ns, is_open=True) if other < 0 and wire.is_failure else None


def _bad_response(wire: WireTry) -> Moment | None:
    if wire.first_response_ns < 0:
        return _stream_ended(wire) if wire.stream_end_ns >= 0 else None
    closed = first_of(wire.proxy_close_ns, wire.upstream_close_ns)
    return Moment(wire.first_response_ns, max(closed, wire.first_response_ns))


def _stream_ended(wire: WireTry) -> Moment | None:
    # A GOAWAY that came before the request is read with the stream already open.
    if wire.stream_end_ns < 0:
        return _any_end(wire)
    at = max(wire.stream_end_ns, wire.start_ns)
    return Moment(at, max(wire.proxy_close_ns, at))


def _handshake(wire: WireTry) -> Moment | None:
    ends = [t for t in (wire.proxy_close_ns, wire.upstream_close_ns, wire.first_response_ns, wire.alert_ns) if t >= 0]
    return Moment(min(ends), max(ends)) if ends else None


def _aborted(wire: WireTry) -> Moment | None:
    closed, other = wire.proxy_close_ns, first_of(wire.resp_fin_ns, wire.resp_rst_ns)
    return Moment(closed, closed) if closed >= 0 and (other < 0 or closed <= other) else None


def _any_end(wire: WireTry) -> Moment | None:
    if not wire.is_failure:
        return None
    if wire.resp_rst_ns >= 0 and wire.proxy_close_ns < 0 and wire.resp_fin_ns < 0:
        return Moment(wire.resp_rst_ns, wire.resp_rst_ns)
    if wire.icmp_ns >= 0:
        return Moment(wire.icmp_ns, wire.icmp_ns)
    end = wire.proxy_close_ns if wire.proxy_close_ns >= 0 else wire.upstream_close_ns
    return Moment(end, end) if end >= 0 else Moment(wire.start_ns, wire.start_ns, is_open=True)


def _never(_wire: WireTry) -> Moment | None:
    return None


_END = {
    Symptom.CLOSED: _closed,
    Symptom.RESET: _reset,
    Symptom.BROKEN: _broken,
    Symptom.TIMEOUT: _timed_out,
    Symptom.BAD_RESPONSE: _bad_response,
    Symptom.STREAM_ENDED: _stream_ended,
    Symptom.HANDSHAKE: _handshake,
    Symptom.ABORTED: _aborted,
}
