"""Analysis: the frozen bundle of all tables; all that a rule is given.

No files, no command-line options, no output format: a rule that needs more than this module offers needs another
column, not another input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pcapdiag.base.codes import CapturePoint, ClosingKind, Direction, ExchangeFlag, Key, Method, Protocol, TcpFlag
from pcapdiag.base.sequence import sequence_difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from pcapdiag.analysis.far_end import FarEnd
    from pcapdiag.analysis.handshake import TlsHandshake, TlsView
    from pcapdiag.analysis.twins import Twins
    from pcapdiag.base.findings import Note
    from pcapdiag.base.tables import ByteStore, Table
    from pcapdiag.engine.asides.collect import Aside
    from pcapdiag.engine.asides.icmp import IcmpError
    from pcapdiag.engine.capture.batch import Capture
    from pcapdiag.proxy.conf.settings import ProxyKind, ProxySettings, UpstreamBlock
    from pcapdiag.proxy.join.arrivals import Arrival
    from pcapdiag.proxy.join.ledger import Ledger


_HELD_BACK_NS = 1_000_000
_MAX_ALERT_BYTES = 69
"""[bytes] What can be a TLS alert where its record was not captured."""
_UNREADABLE = (Protocol.TLS, Protocol.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address text and port; `str()` gives ``address:port``, ``[address]:port`` for IPv6."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class KeySegment:
    """One segment a rule needs (a row of columns.KEY_SEGMENTS); `frame` is 0-based."""

    key: Key
    frame: int
    ts_ns: int
    dir: Direction
    seq: int
    ack: int
    payload_len: int
    flags: int
    ttl: int
    window: int
    ip_id: int
    fate: int

    @property
    def next_seq(self) -> int:
        """Sequence number after this segment, SYN and FIN counted."""
        length = self.payload_len + bool(self.flags & TcpFlag.SYN) + bool(self.flags & TcpFlag.FIN)
        return (self.seq + length) & 0xFFFFFFFF

    @property
    def kind_name(self) -> str:
        """``RST``, ``FIN``, ``RST_STREAM``, or FastCGI's record; empty for a segment that closes nothing."""
        if self.key in (Key.RESP_END_REQUEST, Key.ORIG_ABORT):
            return "FCGI_END_REQUEST" if self.key is Key.RESP_END_REQUEST else "FCGI_ABORT_REQUEST"
        if self.key in (Key.RESP_RESET_STREAM, Key.ORIG_RESET_STREAM):
            return "RST_STREAM"
        if self.flags & TcpFlag.RST:
            return "RST"
        return "FIN" if self.flags & TcpFlag.FIN else ""

    def acknowledges(self, seq: int) -> bool:
        """Whether this segment acknowledges everything below `seq`."""
        return self.ack >= 0 and sequence_difference(self.ack, seq) >= 0


@dataclass(frozen=True, slots=True)
class Connection:
    """What a rule needs of a connection beyond the loss itself. Times are ns, -1 is none."""

    conn: int
    uid: str
    orig: Endpoint
    resp: Endpoint
    first_ts_ns: int
    last_ts_ns: int
    first_frame: int
    orig_isn: int
    resp_isn: int
    orig_max_ack: int
    resp_max_ack: int
    handshake_resp_ns: int
    handshake_orig_ns: int
    rtt_min_ns: int
    resp_ttl: int
    syn_frames: int
    syn_ack_frames: int
    n_exchanges: int
    n_holes: int
    first_closer: Direction
    closing_kind: ClosingKind
    closing_frame: int
    closing_ts_ns: int
    protocol: Protocol
    capture_idx: int
    orig_inferred: bool
    server: str
    keep_alive_s: int


class AttemptSign(IntFlag):
    """What the rest of the capture says of a connection attempt that failed."""

    NONE = 0
    REPEATED = 1
    """The SYN was sent again as a kernel does it, at intervals that do not shrink: nothing had answered."""
    MADE_UP = 2
    """It was sent again as no kernel does it."""
    WITNESSED = 4
    """Meanwhile the capture holds packets to its originator: an answer would be there."""
    RACED = 8
    """Its client had opened a connection to the same port in the other address family at once (happy eyeballs)."""
    SCAN = 16
    """One of many single SYNs of one source to many ports or hosts within seconds."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One unanswered request, or one failed connection attempt (`depth` -1), or one truncated response.

    Attributes
    ----------
    request_seq, request_end_seq, request_ack : int
        S, E and rack of the architecture's section 7, modulo 2^32; -1 for a connection attempt.
    idle_before_ns : int
        [ns] Idle gap before the request, -1 on a fresh connection.
    keys : dict of Key to KeySegment
        The segments seen; a missing key was not seen, which is not "did not happen".
    handshake : TlsHandshake or None
        The TLS handshake that failed: no request was sent, or one in clear to a port that speaks TLS.
    is_head_whole : bool
        Whether the response's head came to its end; only of a truncated one it may not have.
    icmp : tuple of IcmpError
        ICMP errors that quote its SYN, its request or the response to it; the first ones where they are many.
    attempt : AttemptSign
        Of a connection attempt.
    stands_for : int
        How many failures of its kind it stands for, itself included: more than one only in a flood of them.
    crowd : str
        What a finding is about in place of its upstream, which is one of very many; else empty.
    stream, stream_error : int
        Of HTTP/2, its number and the error code of the RST_STREAM or GOAWAY that ended it; else -1. Of FastCGI, the
        second is the protocol status with which it ended without output.
    n_undelivered : int
        [bytes] Of a response that was sent again and never acknowledged to its end (`undelivered`); else 0.
    is_framed : bool
        Whether the request says where it ends; not inside TLS, nor where its head was not captured whole.
    response_last_ns : int
        [ns] When the last bytes of its response came, of those that the capture lacks the time at which they were
        acknowledged; -1 if none came.
    """

    connection: Connection
    depth: int
    request_frame: int
    request_ts_ns: int
    idle_before_ns: int
    request_seq: int
    request_end_seq: int
    request_ack: int
    response_bytes: int
    retransmissions: int
    method: Method
    target: str
    host: str
    request_id: str
    status_code: int
    flags: ExchangeFlag
    truncated: bool
    keys: dict[Key, KeySegment]
    handshake: TlsHandshake | None = None
    is_head_whole: bool = True
    icmp: tuple[IcmpError, ...] = ()
    attempt: AttemptSign = AttemptSign.NONE
    stands_for: int = 1
    crowd: str = ""
    stream: int = -1
    stream_error: int = -1
    n_undelivered: int = 0
    response_last_ns: int = -1
    is_framed: bool = True

    @property
    def is_end_unseen(self) -> bool:
        """Whether an upload may not have been whole: of several segments, and nothing tells where the request ends."""
        return not self.is_framed and Key.REQUEST_END in self.keys

    @property
    def path_gap_ns(self) -> int:
        """[ns] How long nothing was answered before the request, no keep-alive probe either; -1 if unknown.

        Devices on the path count every packet of a connection, an upstream only its requests.
        """
        probe = self.keys.get(Key.KEEP_ALIVE_ACK)
        if probe is None or not self.flags & ExchangeFlag.PROBED:
            return self.idle_before_ns
        return min(max(0, self.request_ts_ns - probe.ts_ns), self.idle_before_ns)

    @property
    def method_name(self) -> str:
        """Method as text; empty if it is not known."""
        return "" if self.method is Method.NONE else self.method.name

    @property
    def is_connect(self) -> bool:
        """Whether this is a connection attempt that failed."""
        return self.depth < 0

    @property
    def is_reused(self) -> bool:
        """Whether the connection had carried an exchange before, or was already open when the capture began."""
        return self.depth > 0 or bool(self.flags & ExchangeFlag.MID_STREAM)

    @property
    def is_acknowledged(self) -> bool:
        """Whether the upstream's kernel had the whole request."""
        return bool(self.flags & ExchangeFlag.ACKNOWLEDGED)

    @property
    def is_acknowledged_too_late(self) -> bool:
        """Whether the first acknowledgement of a repeated request only let out the FIN that had waited behind it.

        The proxy had given up before: its kernel held the FIN back until the request was through.
        """
        acknowledged, again, closing = (self.keys.get(key) for key in (Key.ACK, Key.RETRANSMISSION, Key.ORIG_FIN))
        if acknowledged is None or again is None or closing is None or acknowledged.ts_ns <= again.ts_ns:
            return False
        return 0 <= closing.ts_ns - acknowledged.ts_ns <= _HELD_BACK_NS

    @property
    def crossing(self) -> KeySegment | None:
        """First segment with which the upstream closed while it had no byte of the request, if there is one.

        That is a FIN whose acknowledgement does not reach beyond the request's first byte. TLS says close_notify
        before it: an alert that does not acknowledge the request either, and that the same side's FIN or RST follows
        before anything new.
        """
        if self.is_connect or self.request_seq < 0:
            return None
        after_request = (self.request_seq + 1) & 0xFFFFFFFF
        fin = self.keys.get(Key.RESP_FIN)
        crossing = fin if fin is not None and fin.ack >= 0 and not fin.acknowledges(after_request) else None
        # A pipelined request is sent before the response before it has come; late bytes are an answer.
        is_late = self.flags & (ExchangeFlag.LATE_ANSWER | ExchangeFlag.PIPELINED)
        if not self.is_reused or is_late:
            return crossing
        before = self.keys.get(Key.RESPONSE_BEFORE)
        is_readable = self.connection.protocol not in _UNREADABLE
        if is_readable:
            before = None
        for alert in (self.keys.get(Key.UNSOLICITED), before):
            if alert is not None and self._is_closing_alert(alert):
                return alert
        return crossing

    def _is_closing_alert(self, alert: KeySegment) -> bool:
        """Tell whether a payload of the upstream is the close_notify of a closing that the request crossed."""
        if alert.payload_len > _MAX_ALERT_BYTES or self.request_ack < 0:
            return False
        if sequence_difference(self.request_ack, alert.next_seq) >= 0 or self.request_ack != alert.seq:
            return False  # it was read, or other bytes came before it
        closing = self.keys.get(Key.RESP_FIN) or self.keys.get(Key.RESP_RST)
        is_followed = closing is not None and (closing.frame == alert.frame or closing.seq == alert.next_seq)
        return is_followed and not alert.acknowledges((self.request_seq + 1) & 0xFFFFFFFF)


def count_losses(losses: Iterable[Loss]) -> int:
    """Return how many failures some losses are: of a flood, each stands for many."""
    return sum(loss.stands_for for loss in losses)


@dataclass(frozen=True, slots=True)
class IdleTimeout:
    """An upstream's idle timeout as measured at its closings, or as the idle gaps enclose it.

    `named_as` lists servers with this verified default; it names, it never proves. `confidence` is a
    findings.Confidence number.

    Attributes
    ----------
    value_ns, spread_ns : int
        [ns] The usual age at a closing and how far the ages lie apart. For a server that looks at its connections only
        now and then (`late_ns`) the least age at a closing; where only gaps tell (`is_enclosed`), the longest idle gap
        that was answered and how much longer the shortest was that was not.
    late_ns : int
        [ns] How much later than its timeout this server may close; 0 for one that is exact.
    is_enclosed : bool
        No idle closing was seen: the server closes as soon as a request comes after too long a gap.
    """

    value_ns: int
    spread_ns: int
    samples: int
    confidence: int
    named_as: tuple[str, ...] = ()
    late_ns: int = 0
    is_enclosed: bool = False

    @property
    def earliest_ns(self) -> int:
        """[ns] The least that the timeout may be, by what was seen."""
        if self.is_enclosed:
            return self.value_ns
        if self.late_ns:
            return max(min(self.value_ns, self.value_ns + self.spread_ns - self.late_ns), 0)
        return self.value_ns - self.spread_ns if self.spread_ns < self.value_ns // 50 else self.value_ns

    @property
    def latest_ns(self) -> int:
        """[ns] The greatest age at which this timer may close a connection."""
        return self.value_ns + max(self.spread_ns, self.late_ns)


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream endpoint and what the capture says of it. Times are ns, -1 is none."""

    endpoint: Endpoint
    connections: int
    exchanges: int
    unanswered: int
    rtt_min_ns: int
    rtt_p50_ns: int
    rtt_p99_ns: int
    server_field: str
    keep_alive_s: int
    idle_timeout: IdleTimeout | None
    requests_per_connection_limit: int
    race_window_ns: tuple[int, int]
    near_misses: int
    reused: int
    """Exchanges on a reused connection (with a known idle gap)."""
    longest_answered_gap_ns: int
    proxy_idle_close_ns: int
    """Idle age at which the proxy itself closes connections to this upstream (median); -1 if it was not seen to."""
    idle_closes_by_upstream: int
    idle_closes_by_proxy: int
    longest_gap_ns: int = -1
    """Longest idle gap before any request, answered or not."""
    opened: int = 0
    """Connections whose handshake was captured."""
    handshake_ns: int = 0
    """Time that those handshakes took, all together: what a kept connection saves."""
    longest_path_gap_ns: int = -1
    """Longest idle gap that was answered and in which no keep-alive probe was: what the path remembers, at least."""
    near_in_zone: int = 0
    """Near misses that came before the timer was up at the latest; the others met a timer that did not strike."""


@dataclass(frozen=True)
class Analysis:
    """Everything the input says, as tables and as the few objects that rules read.

    Attributes
    ----------
    connections, exchanges, key_segments : Table
        `columns.CONNECTIONS`, `EXCHANGES`, `KEY_SEGMENTS`; row i of `connections` is connection i.
    legs : ndarray of int8, shape (n_conn,)
        codes.Leg of each connection.
    losses : tuple of Loss
        Unanswered requests and failed connection attempts of upstream legs, ordered by request frame.
    truncated : tuple of Loss
        Exchanges whose response began and was cut off.
    early : tuple of Loss
        Exchanges that were answered before the request was whole, and whose connection the upstream then closed or
        reset: whether the proxy read that answer, its packets do not show.
    """

    captures: tuple[Capture, ...]
    connections: Table
    exchanges: Table
    key_segments: Table
    texts: ByteStore
    legs: NDArray[np.int8]
    losses: tuple[Loss, ...]
    truncated: tuple[Loss, ...]
    upstreams: tuple[Upstream, ...]
    capture_points: tuple[CapturePoint, ...]
    n_frames: int
    n_undecoded: int
    n_bytes: int
    first_ts_ns: int
    last_ts_ns: int
    n_retransmissions: int = 0
    notes: tuple[Note, ...] = ()
    undecoded_reasons: dict[int, int] = field(default_factory=dict)
    log: Ledger | None = None
    """Logs joined with the capture; None where none was given."""
    settings: ProxySettings | None = None
    """The proxy's configuration; None where it was not given."""
    proxy_kind: ProxyKind | None = None
    """What the proxy is, by its configuration or its logs; None where neither tells."""
    arrivals: Mapping[tuple[int, int], Arrival] = field(default_factory=dict)
    """What the logs of applications say of lost requests, by connection and depth."""
    added_logs: Mapping[str, str] = field(default_factory=dict)
    """Rotated logs that were read although nobody named them, and what each is."""
    early: tuple[Loss, ...] = ()
    asides: tuple[Aside, ...] = ()
    """Frames whose bytes were kept: ICMP messages, TLS hellos and alerts."""
    tls: TlsView | None = None
    """TLS handshakes, and which connections carry HTTP/2; None where nobody looked."""
    far_end: FarEnd | None = None
    """What captures from the upstreams' end add; None where none was given."""
    has_proxy: bool = True
    """Whether anything in the capture or the options says that a proxy stands here."""
    twins: Twins | None = None
    """Connections that were captured more than once, and count once: their `legs` are UNKNOWN."""

    @cached_property
    def memo(self) -> dict[str, Any]:
        """What is worked out once for all findings, by the name of the module that does it; empty after `replace`."""
        return {}

    @cached_property
    def upstream_by_endpoint(self) -> dict[Endpoint, Upstream]:
        """Upstreams by their endpoint."""
        return {u.endpoint: u for u in self.upstreams}

    @cached_property
    def blocks_by_endpoint(self) -> dict[Endpoint, tuple[UpstreamBlock, ...]]:
        """Blocks of the configuration that hold an upstream; none without a configuration."""
        settings = self.settings
        return {u.endpoint: settings.blocks_of_peer(str(u.endpoint)) if settings else () for u in self.upstreams}
