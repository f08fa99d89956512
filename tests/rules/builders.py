"""Lost requests built by hand: what the rules are given, without an engine.

Numbers are relative, as in Wireshark: the request is 124:247 of the originator and acknowledges 215, the response
before it is 1:215 of the responder. `Scene` says where the real sequence numbers and the clock begin.
"""

from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from pcapdiag.analysis.model import Analysis, AttemptSign, Connection, Endpoint, IdleTimeout, KeySegment, Loss, Upstream
from pcapdiag.base.codes import (
    CapturePoint,
    ClosingKind,
    Direction,
    ExchangeFlag,
    Fate,
    Key,
    Leg,
    Method,
    Protocol,
    TcpFlag,
)
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES, KEY_SEGMENTS
from pcapdiag.base.tables import ByteStore, Table
from pcapdiag.base.units import parse_address
from pcapdiag.engine.asides.icmp import _MEANINGS, IcmpError
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.rules.diagnose import assign_causes, diagnose

MS = 1_000_000
S = 1_000_000_000
T0 = 1_795_218_956_000_000_000
START, END, BEFORE = 124, 247, 215
"""S, E of the request, and the sequence number after the response before it."""
PROXY = Endpoint("10.1.1.100", 40000)
UPSTREAM = Endpoint("10.1.1.1", 80)
ORIGINATOR_KEYS = {
    *(Key.SYN, Key.REQUEST, Key.REQUEST_END, Key.RETRANSMISSION, Key.LAST_RETRANSMISSION),
    *(Key.ORIG_FIN, Key.ORIG_RST, Key.ORIG_ZERO_WINDOW, Key.ORIG_RESET_STREAM),
}


@dataclass(frozen=True)
class Seg:
    """A key segment in relative numbers; `ack` -1 without, `at` in ms after the request."""

    key: Key
    at: float
    seq: int
    ack: int
    length: int = 0
    flags: int = TcpFlag.ACK
    ttl: int = 64


def request(at=0.0, ack=BEFORE, length=END - START):
    return Seg(Key.REQUEST, at, START, ack, length, TcpFlag.ACK | TcpFlag.PSH)


def response_before(idle_ms):
    return Seg(Key.RESPONSE_BEFORE, -idle_ms, 1, START, BEFORE - 1, TcpFlag.ACK | TcpFlag.PSH)


def probe_answered(at):
    return Seg(Key.KEEP_ALIVE_ACK, at, BEFORE, START)


def acknowledged(at):
    return Seg(Key.ACK, at, BEFORE, END)


def resent(at, key=Key.RETRANSMISSION):
    return Seg(key, at, START, BEFORE, END - START, TcpFlag.ACK | TcpFlag.PSH)


def fin(at, ack=START, seq=BEFORE, ttl=64):
    return Seg(Key.RESP_FIN, at, seq, ack, 0, TcpFlag.ACK | TcpFlag.FIN, ttl)


def rst(at, ack=-1, seq=BEFORE, ttl=64):
    return Seg(Key.RESP_RST, at, seq, ack, 0, TcpFlag.RST | (TcpFlag.ACK if ack >= 0 else 0), ttl)


def proxy_full(at):
    """Return the proxy's word, inside a response, that it can take no more."""
    return Seg(Key.ORIG_ZERO_WINDOW, at, END, BEFORE + 900)


def proxy_fin(at, ack=BEFORE):
    return Seg(Key.ORIG_FIN, at, END, ack, 0, TcpFlag.ACK | TcpFlag.FIN)


def unsolicited(at, ack=START, length=24):
    return Seg(Key.UNSOLICITED, at, BEFORE, ack, length, TcpFlag.ACK | TcpFlag.PSH)


def syn(at=0.0):
    return Seg(Key.SYN, at, 0, -1, 0, TcpFlag.SYN)


def syn_again(at):
    return Seg(Key.RETRANSMISSION, at, 0, -1, 0, TcpFlag.SYN)


def icmp_error(loss, its_type=3, code=1, at=40.0, sender=(0, 0xFFFF0A0101FE), mtu=-1, is_cut=False):
    """Return an ICMP error about the first segment of an attempt or request, `at` ms after it."""
    kind, words, errno = _MEANINGS[4][its_type, code]
    connection = loss.connection
    return IcmpError(
        capture_idx=0,
        frame=loss.request_frame + 50,
        ts_ns=loss.request_ts_ns + round(at * MS),
        sender=sender,
        ttl=64,
        version=4,
        type=its_type,
        code=code,
        kind=kind,
        words=words,
        errno=errno,
        mtu=mtu,
        src=(*parse_address(connection.orig.address), connection.orig.port),
        dst=(*parse_address(connection.resp.address), connection.resp.port),
        seq=-1 if is_cut else connection.orig_isn if loss.is_connect else loss.request_seq,
    )


def with_icmp(loss, **error):
    """Return the loss with one such error."""
    return replace(loss, icmp=(icmp_error(loss, **error),))


def refused(at):
    return Seg(Key.RESP_RST, at, 0, 1, 0, TcpFlag.RST | TcpFlag.ACK)


@dataclass(frozen=True)
class Scene:
    """Where numbers begin: the bases of both streams, the clock, and the RTT of the path."""

    orig_isn: int = 1_000
    resp_isn: int = 4_294_967_200
    """Near the end of the sequence space: the responder's numbers wrap inside every scene."""
    t0: int = T0
    rtt_ms: float = 160.0
    counter: count = None

    def __post_init__(self):
        object.__setattr__(self, "counter", self.counter or count())

    def lost(self, *segments, idle_ms=3877.0, depth=1, retransmissions=None, flags=0, late=0.0, **changes):
        """Return one lost request; `late` is its time in ms after the scene's beginning. A fresh one has depth 0."""
        number = next(self.counter)
        is_fresh = depth == 0
        segments = (*(() if is_fresh or idle_ms < 0 else (response_before(idle_ms),)), *segments)
        if not any(s.key is Key.REQUEST for s in segments):
            segments = (*segments, request())
        at = self.t0 + round((late + 10_000) * MS)
        keys = {s.key: self._key(s, at, 100 * number + i) for i, s in enumerate(sorted(segments, key=lambda s: s.at))}
        if any(s.ack == END for s in segments if s.key is Key.ACK):
            flags |= ExchangeFlag.ACKNOWLEDGED
        if any(s.key is Key.KEEP_ALIVE_ACK for s in segments):
            flags |= ExchangeFlag.PROBED
        if retransmissions is None:
            retransmissions = sum(s.key in (Key.RETRANSMISSION, Key.LAST_RETRANSMISSION) for s in segments)
        first = keys[Key.REQUEST]
        opened = changes.pop("opened_ms", self.rtt_ms if is_fresh else idle_ms + 2_000)
        connection = self.connection(number, first_ts_ns=first.ts_ns - round(opened * MS))
        loss = Loss(
            connection=connection,
            depth=depth,
            request_frame=first.frame,
            request_ts_ns=first.ts_ns,
            idle_before_ns=-1 if is_fresh or idle_ms < 0 else round(idle_ms * MS),
            request_seq=first.seq,
            request_end_seq=(first.seq + END - START) & 0xFFFFFFFF,
            request_ack=first.ack,
            response_bytes=0,
            retransmissions=retransmissions,
            method=Method.POST,
            target="/api",
            host="be",
            request_id="",
            status_code=-1,
            flags=ExchangeFlag(flags),
            truncated=False,
            keys=keys,
        )
        in_connection = {n: changes.pop(n) for n in list(changes) if n in Connection.__slots__}
        return replace(loss, connection=replace(connection, **in_connection), **changes)

    def attempt(self, *segments, late=0.0, syn_frames=None, sign=None, icmp=(), **in_connection):
        """Return one failed connection attempt; by itself it stands beside other packets to the proxy."""
        number = next(self.counter)
        at = self.t0 + round((late + 10_000) * MS)
        keys = {s.key: self._key(s, at, 100 * number + i) for i, s in enumerate((syn(), *segments))}
        if syn_frames is None:
            syn_frames = 1 + sum(s.key is Key.RETRANSMISSION for s in segments)
        if sign is None:
            sign = AttemptSign.WITNESSED | (AttemptSign.REPEATED if syn_frames > 1 else AttemptSign.NONE)
        connection = replace(
            self.connection(number, first_ts_ns=at),
            resp_isn=-1,
            syn_frames=syn_frames,
            syn_ack_frames=int(Key.SYN_ACK in keys),
            handshake_resp_ns=-1,
            handshake_orig_ns=-1,
            resp_ttl=-1,
        )
        connection = replace(connection, **in_connection)
        return Loss(
            attempt=sign,
            icmp=tuple(icmp),
            connection=connection,
            depth=-1,
            request_frame=keys[Key.SYN].frame,
            request_ts_ns=at,
            idle_before_ns=-1,
            request_seq=-1,
            request_end_seq=-1,
            request_ack=-1,
            response_bytes=0,
            retransmissions=syn_frames - 1,
            method=Method.NONE,
            target="",
            host="",
            request_id="",
            status_code=-1,
            flags=ExchangeFlag(0),
            truncated=False,
            keys=keys,
        )

    def connection(self, number, *, first_ts_ns):
        return Connection(
            conn=number,
            uid=f"1:{number}",
            orig=replace(PROXY, port=PROXY.port + number),
            resp=UPSTREAM,
            first_ts_ns=first_ts_ns,
            last_ts_ns=self.t0 + 12_000 * MS,
            first_frame=0,
            orig_isn=self.orig_isn & 0xFFFFFFFF,
            resp_isn=self.resp_isn & 0xFFFFFFFF,
            orig_max_ack=-1,
            resp_max_ack=-1,
            handshake_resp_ns=round(self.rtt_ms * MS),
            handshake_orig_ns=20_000,
            rtt_min_ns=-1,
            resp_ttl=64,
            syn_frames=1,
            syn_ack_frames=1,
            n_exchanges=2,
            n_holes=0,
            first_closer=Direction.RESP,
            closing_kind=ClosingKind.FIN,
            closing_frame=-1,
            closing_ts_ns=-1,
            protocol=Protocol.HTTP1,
            capture_idx=0,
            orig_inferred=False,
            server="nginx/1.22.1",
            keep_alive_s=-1,
        )

    def analysis(self, *losses, upstream=None, truncated=(), clients_left_ms=(), **changes):
        """Return an analysis of `losses`; `clients_left_ms` are times at which clients left, on the client leg."""
        n_conn = max([loss.connection.conn for loss in (*losses, *truncated)], default=0) + 1
        rows = CONNECTIONS.empty(n_conn + len(clients_left_ms))
        rows["conn"] = np.arange(len(rows))
        rows["orig_frames"] = rows["resp_frames"] = 5
        rows["first_closer"] = rows["closing_ts_ns"] = -1
        legs = np.full(len(rows), Leg.UPSTREAM, dtype=np.int8)
        for row, ms in zip(rows[n_conn:], clients_left_ms, strict=True):
            row["first_closer"], row["closing_open_exchange"] = Direction.ORIG, 1
            row["closing_ts_ns"] = self.t0 + round((ms + 10_000) * MS)
        legs[n_conn:] = Leg.CLIENT
        values = {
            "captures": (Capture([CaptureFile("proxy.pcap")]),),
            "connections": Table(CONNECTIONS, rows),
            "exchanges": Table(EXCHANGES, EXCHANGES.empty()),
            "key_segments": Table(KEY_SEGMENTS, KEY_SEGMENTS.empty()),
            "texts": ByteStore(),
            "legs": legs,
            "losses": losses,
            "truncated": tuple(truncated),
            "upstreams": (self.upstream() if upstream is None else upstream,),
            "capture_points": (CapturePoint.PROXY,),
            "n_frames": 1000,
            "n_undecoded": 0,
            "n_bytes": 100_000,
            "first_ts_ns": self.t0,
            "last_ts_ns": self.t0 + 100 * S,
        }
        return Analysis(**values | changes)

    def upstream(self, timeout_ms=4_000.0, **changes):
        """Return the upstream of all scenes, its idle timeout measured, or unknown with `timeout_ms` None."""
        rtt = round(self.rtt_ms * MS)
        timeout = None
        if timeout_ms is not None:
            timeout = IdleTimeout(round(timeout_ms * MS), 5 * MS, 12, changes.pop("confidence", 2), ())
        values = {
            "endpoint": UPSTREAM,
            "connections": 20,
            "exchanges": 60,
            "unanswered": 1,
            "rtt_min_ns": rtt,
            "rtt_p50_ns": rtt,
            "rtt_p99_ns": rtt + MS,
            "server_field": "nginx/1.22.1",
            "keep_alive_s": -1,
            "idle_timeout": timeout,
            "requests_per_connection_limit": -1,
            "race_window_ns": (-1, -1) if timeout is None else (timeout.value_ns - rtt, timeout.value_ns),
            "near_misses": 0,
            "reused": 30,
            "longest_answered_gap_ns": 3_800 * MS,
            "proxy_idle_close_ns": -1,
            "idle_closes_by_upstream": 0 if timeout is None else 12,
            "idle_closes_by_proxy": 0,
        }
        values |= changes
        return Upstream(**{"longest_path_gap_ns": values["longest_answered_gap_ns"]} | values)

    def _key(self, seg, at, frame):
        of_originator = seg.key in ORIGINATOR_KEYS
        own, other = (self.orig_isn, self.resp_isn) if of_originator else (self.resp_isn, self.orig_isn)
        return KeySegment(
            key=seg.key,
            frame=frame,
            ts_ns=at + round(seg.at * MS),
            dir=Direction.ORIG if of_originator else Direction.RESP,
            seq=(own + seg.seq) & 0xFFFFFFFF,
            ack=(other + seg.ack) & 0xFFFFFFFF if seg.ack >= 0 else -1,
            payload_len=seg.length,
            flags=int(seg.flags),
            ttl=seg.ttl,
            window=501,
            ip_id=0,
            fate=Fate.NEW,
        )


def causes_of(analysis):
    """Return how many losses have each cause."""
    return {code: len(claims) for code, claims in assign_causes(analysis).items() if claims}


def found(analysis):
    """Return the findings that explain losses."""
    return [f for f in diagnose(analysis).findings if f.code in causes_of(analysis)]


def with_connections(analysis, **columns):
    """Return the analysis with columns of its connections, all of which lead to the upstream of all scenes."""
    rows = analysis.connections.rows.copy()
    rows["resp_lo"], rows["resp_port"] = parse_address(UPSTREAM.address)[1], UPSTREAM.port
    for name, value in columns.items():
        rows[name] = value
    return replace(analysis, connections=Table(CONNECTIONS, rows))


def only(diagnosis, code):
    """Return the one finding of a code."""
    (finding,) = [f for f in diagnosis.findings if f.code == code]
    return finding


def verdict(diagnosis, code):
    """Return the verdict of a rule."""
    return next(v for v in diagnosis.verdicts if v.code == code)
