"""Plain twin of the TCP tracker: one object per connection and per flow, pieces of stream in lists, unbounded offsets.

Written from RFC 9293 and the documentation of `pcapdiag.base.codes.Fate` and
`columns.CONNECTIONS`. It keeps everything, so
it knows nothing of slots, hash tables, batches or bounds on memory.
"""

from dataclasses import dataclass, field

import numpy as np

from pcapdiag.base.codes import ClosingKind, ConnEnd, ConnState, Fate, FrameKind, PacketDirection
from pcapdiag.base.columns import FRAMES
from pcapdiag.engine.capture.batch import FrameBatch
from tests.scenario import parse

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
ORIG, RESP = 0, 1
MOD = 2**32
MS = 10**6
CLIENT = (0, 0xFFFF0A000064, 40000)
SERVER = (0, 0xFFFF0A000001, 8080)
FAR = 1 << 26
PATIENCE_NS = 5 * MS
SAME_PACKET_NS = 1000 * MS
SAME_PACKET_WITHOUT_ID_NS = 2 * MS


@dataclass(frozen=True)
class Segment:
    """One decoded segment; `cap` is how much of the payload was captured, all of it by default."""

    ts_ns: int
    src: tuple
    dst: tuple
    flags: int
    seq: int
    ack: int = -1
    payload: bytes = b""
    cap: int = -1
    window: int = 1000
    ip_id: int = 0
    ts_val: int = -1
    ttl: int = 64
    way: int = PacketDirection.UNKNOWN

    @property
    def captured(self):
        """How many payload bytes were captured."""
        return len(self.payload) if self.cap < 0 else min(self.cap, len(self.payload))


def make_batch(segments, first_frame=0):
    """Return decoded frames of segments, as the capture layer would hand them to the tracker."""
    rows = FRAMES.empty(len(segments))
    buffer = bytearray(b"\xee")
    for i, s in enumerate(segments):
        row = rows[i]
        row["frame"] = first_frame + i
        row["kind"] = FrameKind.TCP
        row["ts_ns"] = s.ts_ns
        row["src_hi"], row["src_lo"], row["src_port"] = s.src
        row["dst_hi"], row["dst_lo"], row["dst_port"] = s.dst
        row["flags"], row["seq"], row["ack"] = s.flags, s.seq % MOD, s.ack % MOD if s.flags & ACK else -1
        row["payload_len"], row["payload_cap"], row["payload_offset"] = len(s.payload), s.captured, len(buffer)
        row["window"], row["ip_id"], row["ttl"], row["ts_val"] = s.window, s.ip_id, s.ttl, s.ts_val
        row["packet_direction"] = s.way
        buffer += s.payload[: s.captured]
    return FrameBatch(np.frombuffer(bytes(buffer) + b"\xee", dtype=np.uint8).copy(), rows)


@dataclass
class Piece:
    """Stream bytes of one segment: `data` is what was captured of the `length` bytes at `offset`."""

    offset: int
    length: int
    data: bytes
    frame: int
    ts_ns: int
    ack: int

    @property
    def end(self):
        """Offset after the last byte."""
        return self.offset + self.length

    def behind(self, offset):
        """Return the part of this piece from `offset` on."""
        skip = max(0, offset - self.offset)
        return Piece(self.offset + skip, self.length - skip, self.data[skip:], self.frame, self.ts_ns, self.ack)


@dataclass(frozen=True)
class Event:
    """What the tracker tells: a segment and its fate, bytes in order, or a hole.

    `data` are the captured ones of `length` stream bytes from `offset` on, `seq` the sequence number of the first.
    """

    kind: str
    conn: int
    dir: int
    frame: int
    fate: int = -1
    offset: int = 0
    length: int = 0
    data: bytes = b""
    ts_ns: int = 0
    seq: int = -1


@dataclass
class Flow:
    """One direction; offset 0 of its stream has the sequence number `zero`."""

    zero: int = None
    is_certain: bool = False
    isn: int = -1
    other_isn: int = None
    next: int = 0
    top: int = 0
    pending: list = field(default_factory=list)
    acked: int = None
    acked_seq: int = -1
    unseen_since_ns: int = None
    timed: tuple = None
    fin: bool = False
    fin_at: int = None
    spoke_after_fin: bool = False
    rst: bool = False
    syn: bool = False
    n_frames: int = 0
    n_repeated: int = 0
    window: int = None
    ttl: int = -1
    was_keep_alive: bool = False
    recent: list = field(default_factory=list)
    letters: set = field(default_factory=set)

    def offset_of(self, seq):
        """Return the offset of a sequence number: of all that fit, the nearest to the next expected byte."""
        away = (seq - self.zero - self.next) % MOD
        return self.next + (away - MOD if away >= MOD // 2 else away)

    def has_pending(self, start, end):
        """Whether every byte of a range is held out of order."""
        return all(any(p.offset <= at < p.end for p in self.pending) for at in range(start, end))


class Connection:
    """One connection: two flows and what its row will say."""

    def __init__(self, number, orig, resp, frame, segment, *, inferred):
        self.number = number
        self.orig, self.resp = orig, resp
        self.inferred = inferred
        self.flows = (Flow(), Flow())
        self.first_frame = self.last_frame = frame
        self.first_ts_ns = self.last_ts_ns = segment.ts_ns
        self.syn_ns = self.syn_ack_ns = None
        self.n_syn = self.n_syn_ack = 0
        self.handshake_resp_ns = self.handshake_orig_ns = -1
        self.rtts = []
        self.closing = None
        self.history = ""
        self.holes = []
        self.quiet_ns = self.stalled_ns = 0
        self.ways = set()
        self.end = ConnEnd.CAPTURE_END

    @property
    def is_closed(self):
        """Whether a RST, or a FIN of either side, was seen."""
        a, b = self.flows
        return a.rst or b.rst or (a.fin and b.fin)

    def write(self, side, letter):
        """Add a letter to the history, once per side."""
        if letter not in self.flows[side].letters:
            self.flows[side].letters.add(letter)
            self.history += letter.upper() if side == ORIG else letter


class Tracker:
    """Takes segments one by one; `events` and `ended` grow."""

    def __init__(self):
        self.live = {}
        self.ended = []
        self.events = []
        self.n_conn = 0

    def take(self, frame, s):
        """Take in one segment."""
        key = frozenset([s.src, s.dst])
        c = self.live.get(key)
        if c is not None and self._is_new_connection(c, s):
            c.end = ConnEnd.PORT_REUSE
            self._finish(c)
            c = None
        if c is None:
            c = self._begin(frame, s)
            self.live[key] = c
        self._track(c, frame, s)

    def finish(self):
        """End everything and return the rows in order of the connections' numbers."""
        for c in self.live.values():
            if c.is_closed:
                c.end = ConnEnd.CLOSED
            self._finish(c)
        self.live = {}
        return [row_of(c) for c in sorted(self.ended, key=lambda c: c.number)]

    def _begin(self, frame, s):
        is_reverse = bool(s.flags & ACK) if s.flags & SYN else _is_from_server(s)
        orig, resp = (s.dst, s.src) if is_reverse else (s.src, s.dst)
        c = Connection(self.n_conn, orig, resp, frame, s, inferred=not s.flags & SYN)
        self.n_conn += 1
        return c

    @staticmethod
    def _is_new_connection(c, s):
        side = ORIG if s.src == c.orig else RESP
        mine, other = c.flows[side], c.flows[1 - side]
        if s.flags & RST:
            return False
        if s.flags & SYN:
            if mine.syn:
                is_other_answer = s.flags & ACK and other.syn and s.ack % MOD == (other.isn + 1) % MOD
                return mine.isn != s.seq % MOD and not is_other_answer
            return c.is_closed or (not s.flags & ACK and (mine.top > 0 or other.top > 0))
        # Data far from where this flow stood, on a connection that was closed: the SYN was not captured.
        return bool(c.is_closed and s.payload and mine.is_certain and abs(mine.offset_of(s.seq) - mine.next) > 1 << 20)

    def _finish(self, c):
        self.ended.append(c)
        for side, flow in enumerate(c.flows):
            late_ns = c.last_ts_ns if flow.unseen_since_ns is None else flow.unseen_since_ns
            while flow.pending:
                self._give_up(c, side, flow.pending[0].offset, late_ns)
            has_fin = flow.fin_at is not None and flow.fin_at <= flow.top
            if side == RESP and has_fin and not c.flows[ORIG].spoke_after_fin:
                self._give_up(c, side, flow.fin_at, late_ns)  # it sent all that lies before its FIN
            elif flow.unseen_since_ns is not None:
                limit = flow.acked
                if flow.fin_at is not None:
                    limit = min(limit, flow.fin_at)
                elif limit == flow.next + 1:
                    limit = flow.next  # that may have been a FIN
                self._give_up(c, side, limit, late_ns)

    def _give_up(self, c, side, end, ts_ns):
        flow = c.flows[side]
        if end > flow.next:
            if flow.acked is not None and flow.acked >= end:
                c.holes.append((side, flow.next, end))
            seq = (flow.zero + flow.next) % MOD
            self.events.append(Event("HOLE", c.number, side, -1, -1, flow.next, end - flow.next, b"", ts_ns, seq))
            flow.next = end
            flow.top = max(flow.top, end)
        self._release(c, side)

    def _release(self, c, side):
        flow = c.flows[side]
        while flow.pending and flow.pending[0].offset <= flow.next:
            piece = flow.pending.pop(0).behind(flow.next)
            if piece.length > 0:
                told = (piece.frame, -1, piece.offset, piece.length, piece.data, piece.ts_ns)
                self.events.append(Event("RELEASED", c.number, side, *told, (flow.zero + piece.offset) % MOD))
                flow.next = piece.end

    def _track(self, c, frame, s):
        side = ORIG if s.src == c.orig else RESP
        flow, peer = c.flows[side], c.flows[1 - side]
        c.quiet_ns = min(max(s.ts_ns - c.last_ts_ns, 0), 300 * 10**9)
        c.last_ts_ns = max(c.last_ts_ns, s.ts_ns)
        c.last_frame = frame
        c.ways.add((side, int(s.way)))
        is_answered = False
        if side == ORIG and s.payload and s.flags & ACK and flow.is_certain and peer.zero is not None:
            ahead = peer.offset_of(s.ack) - peer.next
            is_answered = flow.offset_of(s.seq) == flow.next and 1 < ahead <= FAR
        if is_answered:
            self._acknowledge(c, side, peer, s)  # the next request: what it acknowledges answered the one before
        self._give_up_acknowledged(c, s.ts_ns, RESP if is_answered else None)
        at = len(self.events)
        self.events.append(None)
        fate, delivered = self._fate_of(c, side, flow, peer, frame, s)
        told = (frame, int(fate), 0, 0, b"", s.ts_ns)
        if delivered:
            seq = (flow.zero + delivered.offset) % MOD
            told = (frame, int(fate), delivered.offset, delivered.length, delivered.data, s.ts_ns, seq)
        self.events[at] = Event("SEGMENT", c.number, side, *told)

    def _give_up_acknowledged(self, c, now_ns, impatient=None):
        """Bytes acknowledged long enough ago are not coming any more; those of direction `impatient` at once."""
        for side, flow in enumerate(c.flows):
            since_ns = flow.unseen_since_ns
            if since_ns is None or (now_ns - since_ns <= PATIENCE_NS and side != impatient):
                continue
            flow.unseen_since_ns = None
            limit = flow.acked
            if flow.fin_at is not None:
                limit = min(limit, flow.fin_at)
            elif flow.top == flow.next and (flow.fin or limit == flow.next + 1):
                continue  # a FIN below what was seen already, or perhaps one that was not captured
            while flow.next < limit:
                starts = [p.offset for p in flow.pending if p.offset < limit]
                self._give_up(c, side, min([limit, *starts]), since_ns)

    def _fate_of(self, c, side, flow, peer, frame, s):
        """Return the fate of a segment and the piece that it delivers itself."""
        if self._is_captured_twice(flow, peer, s):
            return Fate.DUPLICATE_CAPTURE, None
        flow.recent = [*flow.recent[-3:], s]
        flow.n_frames += 1
        if flow.ttl < 0 and not s.flags & RST:
            flow.ttl = s.ttl
        is_bare_ack = s.flags & ACK and not s.flags & (SYN | FIN | RST) and not s.payload
        if (s.flags & RST or is_bare_ack) and side == RESP and self._is_for_another_attempt(c, s):
            return Fate.OUTSIDE_WINDOW, None
        if s.flags & RST:
            fate = Fate.AFTER_RST if flow.rst else Fate.RESET
            c.write(side, "r")
            flow.rst = True
            self._close(c, side, frame, s, ClosingKind.RST)
            return fate, None
        is_news = False
        if s.flags & ACK:
            is_news = self._acknowledge(c, side, peer, s)
            flow.spoke_after_fin |= peer.fin
            if side == ORIG and c.handshake_orig_ns < 0 <= c.handshake_resp_ns and c.n_syn_ack == 1:
                c.handshake_orig_ns = max(-1, s.ts_ns - c.syn_ack_ns)
        fate, delivered = self._take_sequence_space(c, side, flow, peer, frame, s, is_news)
        if fate in (Fate.RETRANSMISSION, Fate.SPURIOUS_RETRANSMISSION):
            flow.n_repeated += 1
            flow.timed = None  # Karn's algorithm (RFC 6298 section 3)
        if fate in (Fate.RETRANSMISSION, Fate.OUT_OF_ORDER) and (s.payload or s.flags & SYN):
            c.stalled_ns += c.quiet_ns
        flow.was_keep_alive = fate == Fate.KEEP_ALIVE
        if s.window == 0 != flow.window and not s.flags & SYN:
            c.write(side, "w")
        if fate != Fate.OUTSIDE_WINDOW:
            flow.window = s.window
        return fate, delivered

    @staticmethod
    def _is_for_another_attempt(c, s):
        """Whether a RST is ignored by an originator in SYN-SENT: it must acknowledge the SYN (RFC 9293 3.10.7.3)."""
        orig, resp = c.flows
        if not orig.syn or orig.n_frames > c.n_syn or resp.syn or resp.top > 0:
            return False
        taken = (s.ack - orig.isn - 1) % MOD
        return not s.flags & ACK or taken > orig.top

    @staticmethod
    def _is_captured_twice(flow, peer, s):
        if flow.n_frames == 0:
            return False
        if s.payload and flow.is_certain:
            if flow.offset_of(s.seq + len(s.payload)) > flow.top:
                return False
        elif s.flags == ACK:
            ahead = (s.ack - peer.acked_seq) % MOD
            if peer.acked_seq < 0 or 0 < ahead < MOD // 2:
                return False
        if s.ip_id <= 0 and not s.payload and not s.flags & (SYN | FIN):
            return False
        near_ns = SAME_PACKET_NS if s.ip_id > 0 else SAME_PACKET_WITHOUT_ID_NS

        def header(x):
            return x.seq % MOD, x.ack % MOD, x.flags, len(x.payload), x.ip_id, x.ts_val

        return any(header(old) == header(s) and abs(s.ts_ns - old.ts_ns) <= near_ns for old in flow.recent)

    @staticmethod
    def _acknowledge(c, side, peer, s):
        """Take in an acknowledgement of the peer's bytes; return whether it is a new one."""
        if peer.zero is None:
            peer.zero = s.ack % MOD
        if peer.other_isn is not None and peer.acked is None and s.ack % MOD == (peer.other_isn + 1) % MOD:
            peer.isn, peer.zero = peer.other_isn, s.ack % MOD  # of two answers to its SYN it took the other one
        offset = peer.offset_of(s.ack)
        if offset < 0 or offset > peer.next + FAR or (peer.acked is not None and offset <= peer.acked):
            return False
        peer.acked, peer.acked_seq = offset, s.ack % MOD
        if peer.timed is not None and offset >= peer.timed[0]:
            if side == RESP and s.ts_ns >= peer.timed[1]:
                c.rtts.append(s.ts_ns - peer.timed[1])
            peer.timed = None
        known = peer.next + (1 if peer.fin_at == peer.next else 0)
        if offset > known and peer.unseen_since_ns is None:
            peer.unseen_since_ns = s.ts_ns
        return True

    @staticmethod
    def _close(c, side, frame, s, kind):
        if c.closing is None:
            c.closing = (side, kind, s.ts_ns, frame, s.seq % MOD, s.ack % MOD if s.flags & ACK else -1)

    def _take_sequence_space(self, c, side, flow, peer, frame, s, is_news):
        fate, delivered = Fate.PURE_ACK, None
        if s.flags & SYN:
            fate = self._take_syn(c, flow, s)
            c.write(side, "h" if s.flags & ACK else "s")
        elif flow.zero is None:
            flow.zero = s.seq % MOD
        if flow.rst:
            return Fate.AFTER_RST, None
        if s.payload:
            fate, delivered = self._take_payload(c, side, flow, peer, frame, s)
            c.write(side, "t" if fate in (Fate.RETRANSMISSION, Fate.SPURIOUS_RETRANSMISSION) else "d")
        elif s.flags & FIN:
            fate = Fate.RETRANSMISSION if flow.fin else Fate.NEW
        elif not s.flags & SYN:
            fate = self._fate_of_empty(flow, peer, s, is_news)
            if fate == Fate.PURE_ACK and s.flags & ACK:
                c.write(side, "a")
        if s.flags & FIN and not flow.fin and fate != Fate.OUTSIDE_WINDOW:
            flow.fin = True
            flow.fin_at = flow.offset_of(s.seq + len(s.payload))
            if flow.fin_at <= flow.top + FAR:
                flow.top = max(flow.top, flow.fin_at)
            if flow.fin_at < 0:
                flow.fin_at = None
            c.write(side, "f")
            self._close(c, side, frame, s, ClosingKind.FIN)
        return fate, delivered

    @staticmethod
    def _take_syn(c, flow, s):
        if s.flags & ACK:
            c.n_syn_ack += 1
        else:
            c.n_syn += 1
        is_repeated = flow.syn and flow.isn == s.seq % MOD
        flow.syn = True
        if is_repeated:
            return Fate.RETRANSMISSION
        if s.flags & ACK and flow.isn >= 0:
            flow.other_isn = s.seq % MOD
            return Fate.OUTSIDE_WINDOW
        flow.isn = s.seq % MOD
        if flow.next == 0:
            flow.zero = (s.seq + 1) % MOD
        flow.is_certain = True
        if s.flags & ACK:
            if c.syn_ack_ns is None:
                c.syn_ack_ns = s.ts_ns
                if c.syn_ns is not None and c.n_syn == 1:
                    c.handshake_resp_ns = max(-1, s.ts_ns - c.syn_ns)
        elif c.syn_ns is None:
            c.syn_ns = s.ts_ns
        return Fate.NEW

    @staticmethod
    def _fate_of_empty(flow, peer, s, is_news):
        is_behind = flow.offset_of(s.seq) == flow.next - 1
        if is_behind and not flow.fin and flow.is_certain and peer.n_frames and flow.n_frames > 1:
            return Fate.KEEP_ALIVE
        if is_news or not s.flags & ACK:
            return Fate.PURE_ACK
        if peer.was_keep_alive:
            return Fate.KEEP_ALIVE_ACK
        is_waiting = peer.acked is not None and peer.top > peer.acked
        if is_waiting and s.window == flow.window and s.ack % MOD == peer.acked_seq:
            return Fate.DUP_ACK
        return Fate.PURE_ACK

    def _take_payload(self, c, side, flow, peer, frame, s):
        seq = s.seq + bool(s.flags & SYN)
        if not flow.is_certain:
            flow.is_certain = True
            # Until now only acknowledgements told where the stream stands; its first payload knows better, unless
            # it lies ahead of what the peer has acknowledged: then the bytes between are missing.
            is_told = flow.next > 0 or flow.acked is not None
            if not is_told or flow.offset_of(seq) < flow.next:
                flow.zero = (seq - flow.next) % MOD
            elif flow.offset_of(seq) == 1 and flow.next == 0 and flow.isn < 0 and not flow.fin and flow.n_frames > 1:
                flow.zero = seq % MOD  # first seen by a keep-alive probe: nothing is missing
                flow.acked -= 1
                flow.unseen_since_ns = None
        start = flow.offset_of(seq)
        end = start + len(s.payload)
        piece = Piece(start, len(s.payload), s.payload[: s.captured], frame, s.ts_ns, s.ack)
        is_alone = peer.n_frames == 0
        is_single = len(s.payload) == 1
        if is_single and not s.flags & (SYN | FIN) and end == flow.top and end <= flow.next and not is_alone:
            return Fate.KEEP_ALIVE, None
        if start - flow.next < -(1 << 30) or end > flow.top + FAR:
            return Fate.OUTSIDE_WINDOW, None
        if flow.fin_at is not None and flow.fin_at <= min(start, flow.next):
            return Fate.OUTSIDE_WINDOW, None
        if end <= flow.next:
            is_known = flow.acked is not None and flow.acked >= end
            return (Fate.SPURIOUS_RETRANSMISSION if is_known else Fate.RETRANSMISSION), None
        if start > flow.next:
            if flow.has_pending(start, end):
                return Fate.RETRANSMISSION, None
            fate = Fate.NEW if start >= flow.top else Fate.OUT_OF_ORDER
            flow.pending.append(piece)
            flow.pending.sort(key=lambda p: p.offset)
            flow.top = max(flow.top, end)
            return fate, None
        fate = Fate.OVERLAP if start < flow.next else Fate.OUT_OF_ORDER if start < flow.top else Fate.NEW
        if end > flow.top and fate == Fate.NEW and is_single and peer.window == 0:
            fate = Fate.ZERO_WINDOW_PROBE
        delivered = piece.behind(flow.next)
        if end > flow.top and fate == Fate.NEW and flow.timed is None:
            flow.timed = (end, s.ts_ns)
        flow.next = end
        flow.top = max(flow.top, end)
        self._release(c, side)
        if flow.unseen_since_ns is not None and flow.acked <= flow.next:
            flow.unseen_since_ns = None
        return fate, delivered


def _is_from_server(s):
    if s.payload[: s.captured].startswith(b"HTTP/"):
        return True
    ports = s.src[2], s.dst[2]
    for limit in (1024, 32768):
        if (ports[0] < limit) != (ports[1] < limit):
            return ports[0] < limit
    return False


def _state_of(c):
    orig, resp = c.flows
    if c.n_syn and not c.n_syn_ack and resp.top == 0:
        if resp.rst:
            return ConnState.REJ
        return ConnState.RSTOS0 if orig.rst else ConnState.SH if orig.fin else ConnState.S0
    if not c.n_syn and c.n_syn_ack and not orig.n_frames:
        return ConnState.RSTRH if resp.rst else ConnState.SHR if resp.fin else ConnState.OTH
    if not c.n_syn:
        return ConnState.OTH
    if orig.fin and resp.fin:
        return ConnState.SF
    if resp.rst:
        return ConnState.RSTR
    if orig.rst:
        return ConnState.RSTO
    return {
        (True, False): ConnState.S2,
        (False, True): ConnState.S3,
        (False, False): ConnState.S1,
    }[orig.fin, resp.fin]


def _local_side(ways):
    inbound, outbound = int(PacketDirection.INBOUND), int(PacketDirection.OUTBOUND)
    as_orig = bool(ways & {(ORIG, outbound), (RESP, inbound)})
    as_resp = bool(ways & {(ORIG, inbound), (RESP, outbound)})
    return -1 if as_orig == as_resp else int(as_orig)


def row_of(c):
    """Return what `columns.CONNECTIONS` says of a connection, but for what the layer above fills in."""
    orig, resp = c.flows
    closer, kind, ts_ns, frame, seq, ack = c.closing or (-1, ClosingKind.NONE, -1, -1, -1, -1)
    return {
        "conn": c.number,
        "first_ts_ns": c.first_ts_ns,
        "last_ts_ns": c.last_ts_ns,
        "stalled_ns": c.stalled_ns,
        "first_frame": c.first_frame,
        "last_frame": c.last_frame,
        "orig_hi": c.orig[0],
        "orig_lo": c.orig[1],
        "orig_port": c.orig[2],
        "resp_hi": c.resp[0],
        "resp_lo": c.resp[1],
        "resp_port": c.resp[2],
        "orig_bytes": orig.top,
        "resp_bytes": resp.top,
        "orig_isn": orig.isn,
        "resp_isn": resp.isn,
        "orig_max_ack": resp.acked_seq,
        "resp_max_ack": orig.acked_seq,
        "handshake_resp_ns": c.handshake_resp_ns,
        "handshake_orig_ns": c.handshake_orig_ns,
        "rtt_min_ns": min(c.rtts, default=-1),
        "first_closer": closer,
        "closing_kind": int(kind),
        "closing_ts_ns": ts_ns,
        "closing_frame": frame,
        "closing_seq": seq,
        "closing_ack": ack,
        "orig_frames": orig.n_frames,
        "resp_frames": resp.n_frames,
        "orig_retransmissions": orig.n_repeated,
        "resp_retransmissions": resp.n_repeated,
        "n_holes": len(c.holes),
        "hole_bytes": sum(end - start for _, start, end in c.holes),
        "syn_frames": c.n_syn,
        "syn_ack_frames": c.n_syn_ack,
        "orig_ttl": orig.ttl,
        "resp_ttl": resp.ttl,
        "orig_inferred": int(c.inferred),
        "orig_local": _local_side(c.ways),
        "end": int(c.end),
        "conn_state": int(_state_of(c)),
        "closing_rst_seen": int(orig.rst or resp.rst),
        "orig_fin": int(orig.fin),
        "resp_fin": int(resp.fin),
        "orig_rst": int(orig.rst),
        "resp_rst": int(resp.rst),
        "history": c.history.encode(),
    }


def track(segments):
    """Return the events and the rows of a capture."""
    tracker = Tracker()
    for frame, segment in enumerate(segments):
        tracker.take(frame, segment)
    rows = tracker.finish()
    return tracker.events, rows


def from_script(text, *, isns=(1000, 5000), start_ns=10**9):
    """Return the segments of a script in the notation of `tests.scenario`, lost ones left out."""
    segments = []
    for s in parse(text):
        ends = ((*CLIENT[:2], CLIENT[2] + s.conn), SERVER)
        ack = (isns[1 - s.dir] + s.ack) % MOD if s.ack >= 0 else -1
        seq = (isns[s.dir] + s.seq) % MOD
        if not s.lost:
            segments.append(
                Segment(
                    start_ns + s.ts_ns,
                    ends[s.dir],
                    ends[1 - s.dir],
                    s.flags,
                    seq,
                    ack,
                    s.payload,
                    window=s.window,
                    ip_id=s.ip_id,
                    ttl=s.ttl,
                )
            )
    return segments
