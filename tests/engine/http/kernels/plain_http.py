"""Plain twin of the framer: one object per exchange, messages read by `tests.engine.http.kernels.plain_http_message`.

Written from RFC 9112, RFC 8446 section 5 and the documentation of `columns.EXCHANGES` and the codes; it knows no slots,
pools or bounds.
"""

from dataclasses import replace

from pcapdiag.base.codes import ConnEnd, ExchangeFlag, Fate, Framing, Key, Method, Outcome, Protocol
from tests.engine.http.kernels.plain_http2 import Streams, looks_like_settings
from tests.engine.http.kernels.plain_http_message import (
    Head,
    Hole,
    Message,
    captured_of,
    detect_protocol,
    is_goodbye,
    looks_like_request,
    looks_like_response,
    looks_like_tls,
    method_of,
    parameter_of,
)
from tests.engine.tcp.kernels.plain_tcp import ACK, FIN, MOD, ORIG, RESP, RST, SYN, track

OF_CONNECTION = {
    *(Key.SYN, Key.SYN_ACK, Key.RESPONSE_BEFORE, Key.RESP_FIN, Key.ORIG_FIN, Key.RESP_RST, Key.ORIG_RST),
    *(Key.UNSOLICITED, Key.GOAWAY),
}
LIMITS = {"target": 1536, "host": 256, "request_id": 128, "server": 128}


class Exchange:
    """One exchange; `row` is what `columns.EXCHANGES` says of it."""

    def __init__(self, conversation):
        c = conversation
        self.is_answering = self.request_done = self.response_done = self.has_pairs = False
        self.number = None
        self.request_last_ns = self.response_last_ns = -1
        self.text = {"target": b"", "host": b"", "request_id": b""}
        self.flags = ExchangeFlag.MID_STREAM if c.is_mid_stream and c.n_exchanges == 0 else ExchangeFlag(0)
        times = ("request_ts_ns", "idle_before_ns", "first_byte_ns", "duration_ns")
        numbers = ("request_frame", "response_frame", "status_code")
        sequence = ("request_seq", "request_end_seq", "request_ack", "response_seq")
        self.row = dict.fromkeys((*times, *numbers, *sequence), -1)
        self.row |= {"request_bytes": 0, "response_bytes": 0, "retransmissions": 0, "depth": c.n_exchanges}
        self.row |= {"protocol": int(c.protocol), "method": int(Method.NONE), "stream": -1, "stream_error": -1}
        self.row |= {"request_framing": int(Framing.UNKNOWN), "response_framing": int(Framing.UNKNOWN)}
        self.keys = {}
        c.n_exchanges += 1
        c.open.append(self)

    @property
    def is_turn(self):
        """Whether the response lasts until the other side speaks."""
        return self.is_answering and self.row["response_framing"] == Framing.TURN


class Side:
    """One direction: the message that is being read, if any."""

    def __init__(self):
        self.message = None
        self.is_lost = self.is_turn = self.is_until_close = False
        self.record = bytearray()
        self.record_left = self.kind = self.number = 0
        self.is_empty = self.has_output = False
        self.content = []
        self.record_counts = ""

    def start_anew(self):
        """Expect a message."""
        self.message = None
        self.is_lost = self.is_turn = self.is_until_close = False

    def lose(self):
        """Ignore what comes until the next segment."""
        self.start_anew()
        self.is_lost = True


class Conversation(Streams):
    """The exchanges of one connection."""

    of_connection = OF_CONNECTION

    def __init__(self, conn):
        self.conn = conn
        self.protocol = Protocol.UNKNOWN
        self.open, self.done = [], []
        self.sides = (Side(), Side())
        self.n_exchanges = self.n_unanswered = 0
        self.is_mid_stream = True
        self.last_payload_ns = self.hole_ns = -1
        self.keys = {}
        self.is_tls_application = self.is_tls_13 = self.has_begun_flight = False
        self.ahead_ack = self.resp_next = self.resp_data_ack = self.resp_hole_end = -1
        self.uwsgi_left = None
        self.is_unasked = False
        self.probe_ts_ns = -1
        self.last_request_ack = -1
        self.syn_ack_seq = None
        self.has_orig_hole = self.is_pipelining = self.is_unsure = False
        self.closing_seen = self.closing_open = self.close_announced = False
        self.idle_at_close_ns = -1
        self.orig_closed = self.resp_closed = self.resp_reset = False
        self.orig_close_ack = -1
        self.orig_max_ack = -1
        self.keep_alive_s = self.keep_alive_max = -1
        self.server = b""
        self.ending = None
        self.begin_streams()

    # What the tracker says.

    def take(self, event, s):
        """Take in an event of the TCP twin; `s` is the captured segment behind it, None for a hole."""
        if event.kind == "HOLE":
            self._skip_hole(event)
            return
        if event.fate in (Fate.DUPLICATE_CAPTURE, Fate.OUTSIDE_WINDOW):
            return
        is_repeated = event.fate in (Fate.RETRANSMISSION, Fate.SPURIOUS_RETRANSMISSION)
        is_segment = event.kind == "SEGMENT"
        if is_segment and s.flags & SYN:
            self.is_mid_stream &= self.n_exchanges > 0
            if is_repeated and event.dir == ORIG:
                self.keys.setdefault(Key.RETRANSMISSION, event.frame)
                self.keys[Key.LAST_RETRANSMISSION] = event.frame
            else:
                self.keys.setdefault(Key.SYN_ACK if s.flags & ACK else Key.SYN, event.frame)
                if s.flags & ACK and self.keys[Key.SYN_ACK] == event.frame:
                    self.syn_ack_seq = s.seq
        first = self.open[0] if self.open else None
        is_idle = first is None or first.response_done or first.is_turn
        if is_segment and event.fate == Fate.KEEP_ALIVE_ACK and is_idle:
            self.keys[Key.KEEP_ALIVE_ACK] = event.frame
            self.probe_ts_ns = event.ts_ns
        is_plain = is_segment and event.dir == ORIG and not s.flags & (SYN | FIN | RST)
        if is_plain and first and first.is_answering and not first.response_done:
            if s.window == 0:
                self.keys.setdefault(Key.ORIG_ZERO_WINDOW, event.frame)
            else:
                self.keys.pop(Key.ORIG_ZERO_WINDOW, None)
        if is_segment and first and not first.response_done and first.row["request_seq"] >= 0:
            if event.dir == RESP and s.flags & ACK:
                self._note_acknowledgement(first, event.frame, s.ack)
            if event.dir == RESP and s.window == 0 and not s.flags & (SYN | RST):
                self.keys.setdefault(Key.ZERO_WINDOW, event.frame)
            into = (s.seq - first.row["request_seq"]) % MOD
            if event.dir == ORIG and is_repeated and s.payload and into < max(1, first.row["request_bytes"]):
                first.row["retransmissions"] += 1
                self.keys.setdefault(Key.RETRANSMISSION, event.frame)
                self.keys[Key.LAST_RETRANSMISSION] = event.frame
        if event.length:
            values = [*event.data, *[None] * (event.length - len(event.data))]
            if event.dir == ORIG:
                self._feed_request(event, s, values)
            else:
                if self.protocol != Protocol.HTTP2:
                    self._settle_before(event.seq)
                self._feed_response(event, s, values)
                self.resp_next = (event.seq + event.length) % MOD
                if s.flags & ACK and (self.resp_data_ack < 0 or is_behind(self.resp_data_ack, s.ack)):
                    self.resp_data_ack = s.ack % MOD
        if is_segment and s.flags & (FIN | RST):
            self._note_closing(event, s)

    def _note_acknowledgement(self, x, frame, ack):
        self.resp_ack = ack
        if 0 <= (ack - x.row["request_end_seq"]) % MOD < MOD // 2:
            x.flags |= ExchangeFlag.ACKNOWLEDGED
            self.keys.setdefault(Key.ACK, frame)
        elif 0 < (ack - x.row["request_seq"]) % MOD < MOD // 2:
            x.flags |= ExchangeFlag.ACKNOWLEDGED_PART

    def _note_closing(self, event, s):
        is_reset = bool(s.flags & RST)
        x = self._answering()
        if event.dir == ORIG:
            self.orig_closed = True
            if self.orig_close_ack < 0 and s.flags & ACK:
                self.orig_close_ack = s.ack % MOD
            self.keys.setdefault(Key.ORIG_RST if is_reset else Key.ORIG_FIN, event.frame)
        else:
            self.resp_closed = True
            self.resp_reset |= is_reset
            self.keys.setdefault(Key.RESP_RST if is_reset else Key.RESP_FIN, event.frame)
            if not is_reset and x and self.sides[RESP].is_until_close:
                x.response_done = True
                self.sides[RESP].start_anew()
                x = None
        if self.closing_seen:
            return
        self.closing_seen = True
        if self.protocol == Protocol.HTTP2:
            x = next((x for x in self.open if not x.response_done), None)
        if x and not x.is_turn:
            self.closing_open = True
        elif self.last_payload_ns >= 0 and not self.close_announced and self.hole_ns != event.ts_ns:
            self.idle_at_close_ns = max(0, event.ts_ns - self.last_payload_ns)

    def finish(self, row):
        """End the connection; `row` is the TCP twin's."""
        is_closed = self.orig_closed or self.resp_closed or row["end"] == ConnEnd.PORT_REUSE
        self.ending = "closed" if is_closed else "cut"
        self.orig_max_ack = row["orig_max_ack"]
        response = self.sides[RESP].message
        if self.open:
            self._give_up_head()
        if response and isinstance(response.parsed, Head) and response.parsed.end == -1 and self.open:
            self.open[0].row["status_code"] = response.parsed.status
        if self.protocol == Protocol.HTTP2:
            self.settle_streams(row["resp_max_ack"])
        if self.protocol == Protocol.HTTP1:
            self._lose_step(is_end=True)
        while self.open:
            self._hand_out()

    # In step: who asks has taken in what it acknowledges, and that answered what was asked before.

    def _settle_before(self, seq):
        """Hand out what was answered before the responder's byte `seq`, where framing does not tell."""
        if not self.open or not self.open[0].is_turn or self.open[0].row["response_seq"] < 0:
            return
        begin = self.open[0].row["response_seq"]
        acks = [x.row["request_ack"] for x in self.open]
        steps = [n for n, a in enumerate(acks) if n and a >= 0 and is_behind(begin, a) and not is_behind(seq, a)]
        if not steps:
            return
        for x in self.open[: steps[-1]]:
            if not x.is_answering:
                self._mark_unseen(x)
            x.response_done = True
        for _ in range(steps[-1]):
            self._hand_out()
        if self.sides[RESP].is_turn:
            self.sides[RESP].start_anew()

    def _is_unsure(self, ack):
        """Whether requests in a hole may be owed the next answers: nothing was read since the last known one."""
        before = self.last_request_ack
        if before < 0 and self.syn_ack_seq is not None:
            before = (self.syn_ack_seq + 1) % MOD
        has_read = ack < 0 or before < 0 or is_behind(before, ack)
        return self.is_unsure or (self.has_orig_hole and (self.is_pipelining or not has_read))

    def _note_step(self, x):
        """Who sends without having read anything since the last request pipelines; holes may hide requests between."""
        ack, before = x.row["request_ack"], self.last_request_ack
        self.is_pipelining |= ack >= 0 and before >= 0 and not is_behind(before, ack)
        if self._is_unsure(ack):
            self.is_unsure = True
            self._mark_unseen(x)
        self.has_orig_hole = False
        if ack >= 0:
            self.last_request_ack = ack

    def _lose_step(self, *, is_end):
        """Behind an answer that could not be read, pipelined requests count as answered unseen."""
        is_unread = self.open and self.open[0].is_turn and self.open[0].flags & ExchangeFlag.HOLE
        if is_unread and len(self.open) > 1 and (is_end or self.is_pipelining):
            self.is_unsure = True
            for x in self.open[1:]:
                if not x.is_answering:
                    self._mark_unseen(x)

    @staticmethod
    def _mark_unseen(x):
        x.is_answering = True
        x.row["response_framing"] = int(Framing.TURN)
        x.flags |= ExchangeFlag.HOLE

    def _next_step(self, seq, length):
        """Return how many of `length` responder bytes lie before the next step of the originator."""
        acks = [x.row["request_ack"] for x in self.open if x.row["request_ack"] >= 0]
        return min([(a - seq) % MOD for a in acks if 0 < (a - seq) % MOD < length], default=length)

    @staticmethod
    def _is_too_old(x, seq):
        """Whether the request acknowledged the responder's byte `seq` when it was sent."""
        is_request = x.row["request_frame"] >= 0 and x.row["request_ack"] >= 0 and not x.is_answering
        return is_request and is_behind(seq, x.row["request_ack"])

    def _was_answered_before(self, x):
        """Whether the responder's bytes behind those that the request acknowledges were taken in before it."""
        ack = x.row["request_ack"]
        if self.resp_next < 0 or ack < 0 or not is_behind(ack, self.resp_next):
            return False
        is_known = self.resp_data_ack >= 0 and is_behind(x.row["request_seq"], self.resp_data_ack)
        return is_known or (self.resp_hole_end >= 0 and is_behind(ack, self.resp_hole_end))

    # Exchanges.

    def _answering(self):
        """Return the exchange that responder bytes belong to."""
        return self.open[0] if self.open and not self.open[0].response_done else None

    def _has_only_a_head(self):
        message = self.sides[RESP].message
        return (
            message is not None
            and message.framing == Framing.CONTENT_LENGTH
            and not message.is_done
            and len(message.values) == message.head.end
        )

    def _finish_without_content(self):
        if self.open and self.open[0].row["request_frame"] == -1 and self._has_only_a_head():
            self.open[0].response_done = True  # it may have answered HEAD
            self.sides[RESP].start_anew()

    def _begin_request(self, event, s, seq):
        if self.open and self.open[0].is_turn:
            self.open[0].response_done = True
            if self.sides[RESP].is_turn:
                self.sides[RESP].start_anew()
        self._finish_without_content()
        ahead = self.open[-1] if self.open else None
        is_ahead = self.ahead_ack >= 0 and 0 < (self.ahead_ack - seq) % MOD < MOD // 2
        in_step = ahead is not None and (
            ahead.row["response_seq"] < 0 or not s.flags & ACK or ahead.row["response_seq"] == s.ack % MOD
        )
        is_http1 = self.protocol == Protocol.HTTP1
        is_known = not is_http1 or not self._is_unsure(s.ack % MOD if s.flags & ACK else -1)
        if is_ahead and ahead and ahead.row["request_frame"] == -1 and in_step and is_known:
            self._join_ahead(ahead, event, s, seq)
            if is_http1:
                self._note_step(ahead)
            return ahead
        if self.open and self.open[0].response_done:
            self._hand_out()
        is_pipelined = bool(self.open)
        x = Exchange(self)
        ahead_ack, self.ahead_ack = self.ahead_ack, -1
        self._note_begin(x, event, s, seq)
        is_ahead = ahead_ack >= 0 and is_behind(seq, ahead_ack)
        if not is_pipelined and (is_ahead or self._was_answered_before(x)):
            self._mark_unseen(x)  # stored before the request, out of order
            x.response_last_ns = event.ts_ns
        if is_http1:
            self._note_step(x)
        if is_pipelined:
            x.flags |= ExchangeFlag.PIPELINED
            return x
        is_known = self.last_payload_ns >= 0 and self.hole_ns != event.ts_ns
        if is_known and (x.row["depth"] > 0 or self.is_mid_stream):
            x.row["idle_before_ns"] = max(0, event.ts_ns - self.last_payload_ns)
        before = self.keys.get(Key.RESPONSE_END, self.keys.get(Key.RESPONSE))
        if before is not None:
            self.keys[Key.RESPONSE_BEFORE] = before
        probe = self.keys.get(Key.KEEP_ALIVE_ACK)
        self._forget_request_keys()
        if probe is not None and x.row["idle_before_ns"] >= 0 and self.probe_ts_ns > self.last_payload_ns:
            x.flags |= ExchangeFlag.PROBED
            self.keys[Key.KEEP_ALIVE_ACK] = probe
        self.keys[Key.REQUEST] = event.frame
        return x

    @staticmethod
    def _note_begin(x, event, s, seq):
        x.row |= {"request_frame": event.frame, "request_ts_ns": event.ts_ns, "request_seq": seq}
        x.row |= {"request_end_seq": seq, "request_ack": s.ack % MOD if s.flags & ACK else -1}

    def _join_ahead(self, x, event, s, seq):
        """Give a response its request, which was stored after it."""
        self.ahead_ack = -1
        self._note_begin(x, event, s, seq)
        x.request_done = False
        x.flags |= ExchangeFlag.HOLE
        self.keys[Key.REQUEST] = event.frame

    def _forget_request_keys(self):
        self.keys = {k: v for k, v in self.keys.items() if k in OF_CONNECTION}

    def _set_key(self, key, frame):
        if frame >= 0:
            self.keys[key] = frame
        else:
            self.keys.pop(key, None)

    def _extend_request(self, x, event, length):
        if length <= 0:
            return
        x.row["request_bytes"] += length
        x.row["request_end_seq"] = (x.row["request_end_seq"] + length) % MOD
        x.request_last_ns = event.ts_ns
        if x.flags & ExchangeFlag.ACKNOWLEDGED:
            x.flags = x.flags & ~ExchangeFlag.ACKNOWLEDGED | ExchangeFlag.ACKNOWLEDGED_PART
            self.keys.pop(Key.ACK, None)
        if self.open[0] is x:
            self._set_key(Key.REQUEST_END, event.frame)

    def _begin_response(self, x, event, seq, s=None):
        if x.is_answering:
            return
        x.is_answering = True
        self.keys.pop(Key.RESPONSE_END, None)
        x.row["response_frame"], x.row["response_seq"] = event.frame, seq
        if x.request_last_ns >= 0:
            x.row["first_byte_ns"] = max(0, event.ts_ns - x.request_last_ns)
        if x.row["request_framing"] == Framing.TURN:
            x.request_done = True
            has_ack = s is not None and s.flags & ACK and x.row["protocol"] != Protocol.OPAQUE
            if has_ack and (s.window == 0 or (s.ack - x.row["request_end_seq"]) % MOD >= MOD // 2):
                x.flags |= ExchangeFlag.EARLY_RESPONSE
        elif not x.request_done and x.row["request_frame"] >= 0:
            x.flags |= ExchangeFlag.EARLY_RESPONSE
        self._set_key(Key.RESPONSE, event.frame)

    def _extend_response(self, x, event, length):
        if length > 0:
            x.row["response_bytes"] += length
            is_hole = event.frame < 0
            if not is_hole or not self.orig_closed:
                x.response_last_ns = max(x.response_last_ns, event.ts_ns)
            if self.orig_closed:
                return
            self._set_key(Key.RESPONSE_END, event.frame)

    def _end_response(self, x):
        x.response_done = True
        self.sides[RESP].start_anew()
        if len(self.open) > 1:
            self._hand_out()

    def _hand_out(self):
        x = self.open.pop(0)
        row = x.row
        is_http_after_all = row["protocol"] == Protocol.OPAQUE and self.protocol == Protocol.HTTP1
        if row["protocol"] == Protocol.UNKNOWN or is_http_after_all:
            row["protocol"] = int(self.protocol)
        outcome = Outcome.UNANSWERED
        if x.is_answering:
            outcome = self._outcome_of(x)
            if row["request_ts_ns"] >= 0 and x.response_last_ns >= 0:
                row["duration_ns"] = max(0, x.response_last_ns - row["request_ts_ns"])
        if row["request_frame"] < 0:
            outcome = Outcome.RESPONSE_ONLY
        elif not x.request_done and row["request_framing"] != Framing.TURN and not x.response_done:
            x.flags |= ExchangeFlag.REQUEST_OPEN
        self.n_unanswered += outcome == Outcome.UNANSWERED
        is_pipelined = x.flags & ExchangeFlag.PIPELINED and self.protocol != Protocol.HTTP2
        if outcome == Outcome.UNANSWERED and is_pipelined and self.close_announced:
            x.flags |= ExchangeFlag.NOT_OWED
        row["outcome"], row["flags"] = int(outcome), int(x.flags)
        is_early = self.ending == "closed" and x.flags & ExchangeFlag.EARLY_RESPONSE
        if outcome in (Outcome.UNANSWERED, Outcome.TRUNCATED) or (is_early and (self.resp_reset or not x.request_done)):
            x.keys = told_once(self.keys)
        self.done.append(x)
        if self.open:
            self._forget_request_keys()
            self._set_key(Key.REQUEST, self.open[0].row["request_frame"])

    def _outcome_of(self, x):
        framing = x.row["response_framing"]
        if self.ending and x.row["request_frame"] >= 0 and self._is_late(x):
            x.flags |= ExchangeFlag.LATE_ANSWER
            return Outcome.UNANSWERED
        if x.response_done or not self.ending or framing == Framing.TURN:
            return Outcome.ANSWERED
        if framing == Framing.UNTIL_CLOSE:
            if self.resp_reset:
                return Outcome.TRUNCATED
            return Outcome.PENDING if self.ending == "cut" else Outcome.ANSWERED
        return Outcome.TRUNCATED if self.ending == "closed" else Outcome.PENDING

    def _is_late(self, x):
        seq = x.row["response_seq"]
        if not self.orig_closed or seq < 0:
            return False
        had_some = self.orig_close_ack >= 0 and 0 < (self.orig_close_ack - seq) % MOD < MOD // 2
        took_some = self.orig_max_ack >= 0 and 0 < (self.orig_max_ack - seq) % MOD < MOD // 2
        return not had_some and not took_some

    # Requests.

    def _feed_request(self, event, s, values):
        if self.protocol == Protocol.UPGRADED:
            self.last_payload_ns = event.ts_ns
            return
        if self.protocol == Protocol.TLS:
            self._feed_tls(event, s, values)
            return
        if self.protocol == Protocol.FASTCGI:
            self._feed_fastcgi(event, s, values)
            return
        if self.protocol in (Protocol.UWSGI, Protocol.SCGI):
            self._feed_single(event, s, values)
            return
        if self.protocol == Protocol.HTTP2 and (self.n_exchanges or self.is_preface_due(values)):
            self.feed_frames(event, s, values)
            return
        if self.protocol == Protocol.HTTP2:
            self.protocol = Protocol.OPAQUE
        if self.protocol == Protocol.HTTP2_UNREAD:
            return
        side = self.sides[ORIG]
        last = self.open[-1] if self.open else None
        if side.is_lost or (side.is_turn and (last is None or last.is_answering)):
            side.start_anew()
        while values:
            seq = (event.seq + event.length - len(values)) % MOD
            if side.is_turn:
                self._add_request_turn(event, s, seq, len(values))
                self._note_goodbye(values)
                return
            if side.message is None:
                data = captured_of(values)
                if data and self.protocol == Protocol.HTTP1 and data[0] in b"\r\n":
                    values = values[1:]
                    continue
                is_unknown = self.protocol in (Protocol.UNKNOWN, Protocol.OPAQUE)
                if (is_unknown or self.protocol == Protocol.HTTP1) and looks_like_request(data, self.protocol):
                    self.protocol = Protocol.HTTP1
                    side.message = Message(self._begin_request(event, s, seq), is_request=True)
                    continue
                if data and is_unknown:
                    self.protocol = detect_protocol(data, len(values))
                    if self.protocol == Protocol.TLS:
                        self.is_tls_application |= self.is_mid_stream and data[0] == 23
                        self._feed_tls(event, s, values)
                        return
                    if self.protocol == Protocol.FASTCGI:
                        self._feed_fastcgi(event, s, values)
                        return
                    if self.protocol in (Protocol.UWSGI, Protocol.SCGI):
                        self._feed_single(event, s, values)
                        return
                    if self.protocol == Protocol.HTTP2 and not self.n_exchanges and len(values) == event.length:
                        self.feed_frames(event, s, values)
                        return
                    if self.protocol == Protocol.HTTP2:
                        self.lose_frames()
                        return
                if self.protocol == Protocol.HTTP1 and detect_protocol(data, len(values)) == Protocol.HTTP2:
                    self.lose_frames()
                    return
                if self.protocol == Protocol.HTTP1 and (self.open or data):
                    side.lose()
                    return
                side.is_turn = True
                continue
            values = self._continue_request(side, event, values)

    def _continue_request(self, side, event, values):
        """Give bytes to the request that is being read; return what lies behind its end."""
        message = side.message
        x = self.open[-1]
        n_rest = message.feed(values)
        self._extend_request(x, event, len(values) - n_rest)
        self.last_payload_ns = event.ts_ns
        if message.head.end != -1 and not message.is_told:
            message.is_told = True
            self._note_request_head(x, message.head)
            x.row["request_framing"] = int(message.framing)
        if message.is_done:
            x.request_done = True
            side.start_anew()
        elif message.framing == Framing.TURN:
            x.row["request_framing"] = int(Framing.TURN)
            side.start_anew()
            side.is_turn = True
        return values[len(values) - n_rest :]

    @staticmethod
    def _note_request_head(x, head):
        x.row["method"] = head.method
        x.text["target"] = head.target[: LIMITS["target"]]
        for name, field_name in (("host", b"host"), ("request_id", b"x-request-id")):
            x.text[name] = b"".join(head.values(field_name)[-1:])[: LIMITS[name]]

    def _give_up_head(self):
        """Keep what was read of a request's head, and read no more of it."""
        request = self.sides[ORIG].message
        if request is None or not isinstance(request.parsed, Head) or request.parsed.end != -1:
            return
        self._note_request_head(self.open[-1], request.parsed)
        self.sides[ORIG].lose()

    def _note_goodbye(self, values):
        if self.protocol != Protocol.OPAQUE:
            return
        x = self.open[-1]
        is_whole = x.row["request_bytes"] == len(values) and is_goodbye(captured_of(values), len(values))
        x.flags = x.flags | ExchangeFlag.GOODBYE if is_whole else x.flags & ~ExchangeFlag.GOODBYE

    def _goes_on(self, x, event):
        """Whether a request that was answered before it was whole goes on."""
        pause = event.ts_ns - self.last_payload_ns
        if x.response_done or self.protocol == Protocol.OPAQUE:
            return False
        if self.resp_closed and pause < 100_000_000:
            x.flags |= ExchangeFlag.EARLY_RESPONSE
            return True
        return bool(x.flags & ExchangeFlag.EARLY_RESPONSE) and pause < 1_000_000_000

    def _add_request_turn(self, event, s, seq, length):
        if not self.open or (self.open[-1].is_answering and not self._goes_on(self.open[-1], event)):
            x = self._begin_request(event, s, seq)
            x.row["request_framing"] = int(Framing.TURN)
        self._extend_request(self.open[-1], event, length)
        self.last_payload_ns = event.ts_ns

    # Responses.

    def _feed_response(self, event, s, values):
        data = captured_of(values)
        if self.protocol == Protocol.UPGRADED:
            self.last_payload_ns = event.ts_ns
            return
        if self.protocol in (Protocol.UNKNOWN, Protocol.OPAQUE) and data:
            if looks_like_response(data) and len(data) >= 5:
                self.protocol = Protocol.HTTP1
            elif looks_like_tls(data):
                self.protocol = Protocol.TLS
                self.is_tls_application |= self.is_mid_stream and data[0] == 23
        if self.protocol == Protocol.TLS:
            self._feed_tls(event, s, values)
            return
        if self.protocol == Protocol.FASTCGI:
            self._feed_fastcgi(event, s, values)
            return
        is_first_word = self.protocol == Protocol.UNKNOWN and not self.n_exchanges and not self.is_mid_stream
        if is_first_word and looks_like_settings(data):
            self.protocol = Protocol.HTTP2
        if self.protocol == Protocol.HTTP2:
            self.feed_frames(event, s, values)
            return
        if self.protocol == Protocol.HTTP2_UNREAD:
            return
        if self.protocol != Protocol.HTTP1:
            x = self._answering()
            is_first = x is not None and not x.is_answering
            self._add_response_turn(event, s, event.seq, len(values))
            if self.protocol in (Protocol.UWSGI, Protocol.SCGI) and is_first and x.is_answering:
                x.row["status_code"] = status_of(data)
            return
        side = self.sides[RESP]
        if side.is_lost:
            side.start_anew()
        if self._is_unasked(side, s, data):
            self.ahead_ack = s.ack % MOD
            side.lose()
            return
        is_asked = s.flags & ACK and self.resp_data_ack >= 0 and is_behind(self.resp_data_ack, s.ack % MOD)
        if is_asked and looks_like_response(data):
            self._finish_without_content()
        x = self._answering()
        if x is not None and self._is_too_old(x, event.seq):
            values = values[self._next_step(event.seq, event.length) :]
        while values:
            x = self._answering()
            seq = (event.seq + event.length - len(values)) % MOD
            data = captured_of(values)
            if x is None and (side.is_turn or side.is_until_close or side.message is not None):
                side.lose()
                return
            if side.is_turn or side.is_until_close:
                self._extend_response(x, event, len(values))
                self.last_payload_ns = event.ts_ns
                return
            if side.message is not None:
                values = self._continue_response(side, x, event, values)
                if self.protocol == Protocol.HTTP2 and values:
                    self.feed_frames(event, s, values)
                if self.protocol != Protocol.HTTP1:
                    return
            elif looks_like_response(data) and (x is None or not x.is_answering):
                if x is None:
                    if self.open:
                        self._give_up_head()
                        self._hand_out()
                    x = Exchange(self)
                    x.request_done = True
                    self.ahead_ack = s.ack % MOD if s.flags & ACK else -1
                self._begin_response(x, event, seq, s)
                side.message = Message(x, is_request=False)
            elif x is None and data and data[0] in b"\r\n":
                values = values[1:]
            elif x is None:
                side.lose()
                return
            else:
                self._begin_response(x, event, seq, s)
                x.row["response_framing"] = int(Framing.TURN)
                side.is_turn = True

    def _is_unasked(self, side, s, data):
        """Whether bytes answer nothing: a 408 whose sender had not got any of a request that it could answer."""
        if not s.flags & ACK:
            return False
        if not self.open:
            if self.is_mid_stream or self.n_exchanges:
                return False
        else:
            x = self.open[0]
            if x.row["request_seq"] < 0 or (x.is_answering and not x.response_done):
                return False
            if 0 < (s.ack - x.row["request_end_seq" if x.response_done else "request_seq"]) % MOD < MOD // 2:
                return False
        is_free = not side.is_turn and not side.is_until_close and side.message is None
        if len(data) >= 12 and is_free:
            self.is_unasked = data[9:12] == b"408" and looks_like_response(data)
        return self.is_unasked

    def _continue_response(self, side, x, event, values):
        """Give bytes to the response that is being read; return what lies behind its end."""
        message = side.message
        n_rest = message.feed(values)
        self._extend_response(x, event, len(values) - n_rest)
        self.last_payload_ns = event.ts_ns
        head = message.head
        self._note_server(message)
        if message.is_interim:
            x.flags = x.flags & ~ExchangeFlag.EARLY_RESPONSE | ExchangeFlag.INTERIM
            x.is_answering = False
            x.row |= {"response_frame": -1, "response_seq": -1, "first_byte_ns": -1}
            side.start_anew()
        elif head.end != -1 and not message.is_told:
            message.is_told = True
            x.row["status_code"] = head.status
            x.row["response_framing"] = int(message.framing)
            if head.end > 0:
                self._note_final_head(x, message)
        if message.is_done and self.protocol == Protocol.HTTP2:
            self.begin_upgraded(x)
            side.start_anew()
        elif message.is_done and not message.is_interim:
            self._end_response(x)
        elif message.framing == Framing.TURN:
            x.row["response_framing"] = int(Framing.TURN)
            side.start_anew()
            side.is_turn = True
        elif message.framing == Framing.UNTIL_CLOSE:
            side.start_anew()
            side.is_until_close = True
        return values[len(values) - n_rest :]

    def _note_server(self, message):
        head = message.head
        for value in head.values(b"keep-alive"):
            self.keep_alive_s = parameter_of(value, b"timeout=")
            self.keep_alive_max = parameter_of(value, b"max=")
        if not self.server:
            self.server = b"".join([v for v in head.values(b"server") if v][:1])[: LIMITS["server"]]

    def _note_final_head(self, x, message):
        head = message.head
        is_last = head.has(b"connection", b"close") or (head.minor == 0 and not head.has(b"connection", b"keep-alive"))
        self.close_announced = is_last
        if is_last:
            x.flags |= ExchangeFlag.CONNECTION_CLOSE
        if message.framing == Framing.UNTIL_CLOSE:
            self.close_announced = True
        if message.is_upgrade:
            x.flags |= ExchangeFlag.UPGRADE
            is_http2 = head.status == 101 and head.has(b"upgrade", b"h2c")
            self.protocol = Protocol.HTTP2 if is_http2 else Protocol.UPGRADED

    def _add_response_turn(self, event, s, seq, length):
        x = self._answering()
        if x is None:
            self.ahead_ack = s.ack % MOD if s is not None and s.flags & ACK else -1
            return
        if self._is_too_old(x, seq):
            return
        if not x.is_answering:
            is_blind = s is not None and s.flags & ACK and (s.ack - x.row["request_seq"] - 1) % MOD >= MOD // 2
            if is_blind and self.protocol != Protocol.OPAQUE:
                is_unseen = self.protocol == Protocol.UNKNOWN or self.sides[RESP].is_lost
                if is_unseen and event.length <= 69:
                    self.keys.setdefault(Key.UNSOLICITED, event.frame)
                return
            self._begin_response(x, event, seq, s)
            x.row["response_framing"] = int(Framing.TURN)
            if s is None:
                x.flags |= ExchangeFlag.HOLE
        self.sides[RESP].start_anew()
        self.sides[RESP].is_turn = True
        self._extend_response(x, event, length)
        self.last_payload_ns = event.ts_ns

    # Holes.

    def _skip_hole(self, event):
        if self.protocol in (Protocol.UPGRADED, Protocol.HTTP2_UNREAD):
            return
        if self.protocol == Protocol.HTTP2:
            self.skip_hole_in_frames(event)
            return
        if event.dir == ORIG or self.protocol == Protocol.FASTCGI:
            self._skip_part(event)
            side = self.sides[ORIG]
            self.has_orig_hole |= event.dir == ORIG and (side.is_turn or side.is_lost)
            return
        end = event.seq + event.length
        seq, rest = event.seq, event.length
        while rest:
            self._settle_before(seq % MOD)
            n = self._next_step(seq % MOD, rest)
            self._skip_part(replace(event, seq=seq % MOD, length=n))
            seq, rest = seq + n, rest - n
        self.resp_next = self.resp_hole_end = end % MOD
        if self.protocol == Protocol.HTTP1:
            self._lose_step(is_end=False)

    def _skip_part(self, event):
        side = self.sides[event.dir]
        if event.dir == ORIG:
            x = self.open[-1] if self.open and not self.open[-1].request_done else None
        else:
            x = self._answering()
        if self.protocol == Protocol.TLS:
            self._skip_hole_in_records(side, event)
            if x:
                x.flags |= ExchangeFlag.HOLE
            return
        if self.protocol == Protocol.FASTCGI:
            is_begun = event.dir == ORIG or (x is not None and x.is_answering)
            if not side.is_lost and not side.record and side.record_left > event.length and is_begun:
                side.record_left -= event.length
                side.content += [None] * event.length
                if x is not None:
                    x.flags |= ExchangeFlag.HOLE
                    (self._extend_request if event.dir == ORIG else self._extend_response)(x, event, event.length)
                return
            self._lose_records(side, x, event.dir)
        if x is None:
            side.lose()
            return
        if event.dir == RESP and self._is_too_old(x, event.seq):
            return
        x.flags |= ExchangeFlag.HOLE
        values = [Hole()] * event.length
        if event.dir == ORIG:
            if side.message is not None:
                last_ns = self.last_payload_ns
                self._continue_request(side, event, values)
                self.last_payload_ns = last_ns
            else:
                self._extend_request(x, event, event.length)
                x.row["request_framing"] = int(Framing.TURN)
                self._go_on_in_turns(side)
            return
        self.hole_ns = event.ts_ns
        if side.message is not None:
            self._continue_response(side, x, event, values)
            return
        if not x.is_answering:
            self._begin_response(x, event, event.seq)
        self._extend_response(x, event, event.length)
        self.last_payload_ns = event.ts_ns
        if not side.is_until_close:
            x.row["response_framing"] = int(Framing.TURN)
            self._go_on_in_turns(side)

    def _go_on_in_turns(self, side):
        side.start_anew()
        side.is_turn = True
        if self.protocol == Protocol.FASTCGI:
            side.lose()  # until a record is found that begins a request

    def _skip_hole_in_records(self, side, event):
        is_inside = not side.record and side.record_left >= event.length
        if is_inside:
            side.record_left -= event.length
        if event.dir == RESP and (side.record_counts == "data" or not is_inside):
            self._add_response_turn(event, None, event.seq, event.length)
        if not is_inside:
            side.record.clear()
            side.record_left = 0
            side.lose()

    # FastCGI, uwsgi and SCGI.

    def _feed_single(self, event, s, values):
        if not self.open:
            if self.n_exchanges:
                return
            x = self._begin_request(event, s, event.seq)
            data = captured_of(values)
            if self.protocol == Protocol.SCGI:
                digits, _, rest = data.partition(b":")
                size = int(digits)
                n_content = self._note_pairs(x, scgi_pairs(rest[:size]), is_announced_first=True)
                is_known, size = n_content >= 0, len(digits) + 1 + size + 1
            else:
                size = 4 + int.from_bytes(data[1:3], "little")
                n_content = self._note_pairs(x, uwsgi_pairs(data[4:size]))
                is_known = n_content >= 0 and len(data) >= size
            x.row["request_framing"] = int(Framing.CONTENT_LENGTH if is_known else Framing.TURN)
            self.uwsgi_left = size + n_content if is_known else None
        x = self.open[-1]
        self._extend_request(x, event, len(values))
        if self.uwsgi_left is not None:
            self.uwsgi_left -= len(values)
            x.request_done |= self.uwsgi_left <= 0
        self.last_payload_ns = event.ts_ns

    @staticmethod
    def _note_pairs(x, pairs, *, is_announced_first=False):
        """Take in (name, value) pairs, None where they were cut off; return the content length, -1 if unknown.

        Where it is announced first it is known, whatever is missing of the others.
        """
        length, is_whole, is_announced = 0, True, False
        names = {b"request_uri": "target", b"http_host": "host", b"http_x_request_id": "request_id"}
        for pair in pairs:
            if pair is None:
                is_whole = False
                break
            name, value = pair[0].lower(), pair[1]
            if name == b"request_method":
                x.row["method"] = method_of(value)
            elif name in names:
                x.text[names[name]] = value[: LIMITS[names[name]]]
            elif name == b"content_length":
                digits = value[:18]
                is_announced = digits.isdigit() or not digits
                is_whole &= is_announced
                length = int(digits) if digits.isdigit() else 0
        return length if is_whole or (is_announced_first and is_announced) else -1

    def _lose_records(self, side, x, direction):
        side.record.clear()
        side.record_left = 0
        side.lose()
        if x is not None:
            x.row["response_framing" if direction == RESP else "request_framing"] = int(Framing.TURN)

    def _feed_fastcgi(self, event, s, values):
        side, is_resp = self.sides[event.dir], event.dir == RESP
        if side.is_lost:
            data = captured_of(values)
            if is_resp or len(data) < 8 or data[:2] != b"\x01\x01":
                self._add_turn(event, s, event.seq, len(values))
                side.lose()
                return
            side.start_anew()
        while values:
            if side.record_left and not side.record:
                x = self._whose_record(side, is_resp=is_resp)
                n = min(side.record_left, len(values))
                side.record_left -= n
                side.content += values[:n]
                if x is not None and not is_resp:
                    self._extend_request(x, event, n)
                elif x is not None and x.is_answering:
                    self._extend_response(x, event, n)
                elif x is not None and x is self.open[0] and side.kind != 3:
                    self._set_key(Key.RESP_STDERR, event.frame)
                values = values[n:]
                if not side.record_left:
                    self._end_record(side, x, event, is_resp=is_resp)
                continue
            byte = values[0]
            if byte is None or (not side.record and byte != 1):
                x = self._answering() if is_resp else (self.open[-1] if self.open else None)
                self._lose_records(side, x, event.dir)
                self._add_turn(event, s, (event.seq + event.length - len(values)) % MOD, len(values))
                side.lose()
                return
            if not is_resp and len(side.record) == 1 and byte == 1 and len(self.open) >= 256:
                self._lose_records(side, self.open[-1], event.dir)
                break
            side.record.append(byte)
            values = values[1:]
            if len(side.record) == 8:
                self._begin_record(side, event, s, values)
        self.last_payload_ns = event.ts_ns

    def _begin_record(self, side, event, s, values):
        """Take in a whole record header; `values` is what the segment holds behind it."""
        is_resp = event.dir == RESP
        header, n_content = bytes(side.record), int.from_bytes(side.record[4:6], "big")
        side.kind, side.number, side.is_empty = header[1], int.from_bytes(header[2:4], "big"), n_content == 0
        side.record_left = n_content + header[6]
        side.content = []
        side.record.clear()
        seq = (event.seq + event.length - len(values) - 8) % MOD
        if not is_resp and side.kind == 1:
            x = self._begin_request(event, s, seq)
            x.row["request_framing"] = int(Framing.RECORDS)
            x.number = side.number
        else:
            x = self._whose_record(side, is_resp=is_resp)
        is_abort = not is_resp and side.kind == 2
        if is_abort and self.open and not self.open[0].response_done and self.open[0].number == side.number:
            self.keys.setdefault(Key.ORIG_ABORT, event.frame)
        if x is not None and is_resp and side.kind == 6 and n_content and not x.is_answering:
            self._begin_response(x, event, seq, s)
            x.row["response_framing"] = int(Framing.RECORDS)
            side.has_output = False
        if x is not None and not is_resp:
            self._extend_request(x, event, 8)
        elif x is not None and x.is_answering:
            self._extend_response(x, event, 8)
        elif x is not None and x is self.open[0] and side.kind != 3:
            self._set_key(Key.RESP_STDERR, event.frame)
        if not is_resp and side.kind == 4 and x is not None and n_content and not x.has_pairs:
            x.has_pairs = True
            self._note_pairs(x, fastcgi_pairs(captured_of(values)[:n_content]))
        if is_resp and side.kind == 6 and x is not None and n_content and not side.has_output:
            side.has_output = True
            x.row["status_code"] = status_of(captured_of(values)[:n_content])
        if not side.record_left:
            self._end_record(side, x, event, is_resp=is_resp)

    def _whose_record(self, side, *, is_resp):
        """Return the exchange of the present record, None if it has none."""
        if side.number == 0 or (not is_resp and side.kind == 2):
            return None
        if not is_resp and self.open and self.open[-1].number == side.number:
            return self.open[-1]
        fitting = (x for x in self.open if x.number in (None, side.number) and not (is_resp and x.response_done))
        return next(fitting, None)

    def _end_record(self, side, x, event, *, is_resp):
        if x is None:
            return
        if is_resp and side.kind == 3:
            x.response_done = True
            if not x.is_answering:
                status = side.content[4] if len(side.content) > 4 else None
                x.row["stream_error"] = -1 if status is None else status
                if status in (1, 2, 3):
                    x.flags |= ExchangeFlag.NOT_PROCESSED
                if x is self.open[0]:
                    self._set_key(Key.RESP_END_REQUEST, event.frame)
            while len(self.open) > 1 and self.open[0].response_done:
                self._hand_out()
        elif not is_resp and side.kind == 5 and side.is_empty:
            x.request_done = True

    # TLS.

    def _feed_tls(self, event, s, values):
        side = self.sides[event.dir]
        seq = event.seq
        if side.is_lost:
            if not looks_like_tls(captured_of(values)):
                is_too_short = event.dir == ORIG and not self._is_asking() and len(values) < 40
                if self.is_tls_application and not is_too_short:
                    self._add_turn(event, s, seq, len(values))
                    if event.dir == RESP:
                        side.lose()
                return
            side.start_anew()
            side.record.clear()
            side.record_left = 0
        while values:
            if side.record_left and not side.record:
                n = min(side.record_left, len(values))
                side.record_left -= n
                if side.record_counts == "data":
                    is_middle = len(values) == event.length and event.dir == ORIG
                    if is_middle and self.open and self.open[-1].is_answering:
                        self.open[-1].flags |= ExchangeFlag.EARLY_RESPONSE
                    self._add_turn(event, s, (event.seq + event.length - len(values)) % MOD, n)
                elif event.dir == RESP and side.record_counts == "alert":
                    self.keys.setdefault(Key.UNSOLICITED, event.frame)
                values = values[n:]
                continue
            byte, values = values[0], values[1:]
            is_record = byte is not None and (side.record or 20 <= byte <= 24)
            if not is_record:
                if byte is None:
                    side.record.clear()
                side.lose()
                side.record_left = 0
                return
            side.record.append(byte)
            if len(side.record) == 5:
                side.record_left = int.from_bytes(side.record[3:], "big")
                begins_segment = event.length - len(values) == 5
                side.record_counts = self._record_counts(
                    side.record[0], side.record_left, event.dir, begins_segment=begins_segment
                )
                side.record.clear()

    def _add_turn(self, event, s, seq, length):
        if event.dir == ORIG:
            self._add_request_turn(event, s, seq, length)
        else:
            self._add_response_turn(event, s, seq, length)

    def _is_asking(self):
        """Whether a request may still be on its way."""
        return bool(self.open) and not self.open[-1].is_answering

    def _record_counts(self, kind, length, direction, *, begins_segment):
        """Return "data" for a record that counts, "alert" for one that closes, else nothing."""
        if kind == 21 and self.is_tls_application:
            return "alert"
        if kind != 23:
            return ""
        if self.is_tls_application:
            if length <= 19:
                return "alert" if length == 19 else ""
            least = 35 if self.is_tls_13 or self.is_mid_stream else 34
            return "" if direction == ORIG and length < least and not self._is_asking() else "data"
        if direction == RESP:
            self.is_tls_13 = True
            return ""
        if not self.is_tls_13:
            self.is_tls_application = True
            return "" if length < 34 else "data"
        # A Finished of TLS 1.3, whose hash has 32 or 48 bytes; or, in its flight, what stands before it.
        if length in (4 + 32 + 1 + 16, 4 + 48 + 1 + 16, 4 + 32 + 1 + 8):
            self.is_tls_application = True
            return ""
        if not self.has_begun_flight or not begins_segment:
            self.has_begun_flight = True
            return ""
        self.is_tls_application = True
        return "data"


def is_behind(a, b):
    """Whether sequence number `a` lies before `b`."""
    return 0 < (b - a) % MOD < MOD // 2


def status_of(data):
    """Return the status code that a response in the style of CGI states in its head, -1 without."""
    for n, line in enumerate(data.split(b"\n")):
        if n == 0 and len(line) >= 12 and line[:5].upper() == b"HTTP/":
            value = line[8:]
        elif len(line) >= 10 and line[:7].lower() == b"status:":
            value = line[7:]
        elif len(line) < 2:
            return -1
        else:
            continue
        code = value.lstrip(b" \t")[:3]
        return int(code) if len(code) == 3 and code.isdigit() else -1
    return -1


def uwsgi_pairs(block):
    """Yield the names and values of a uwsgi block, None where it ends within one."""
    at = 0
    while at < len(block):
        fields = []
        for _ in range(2):
            length = int.from_bytes(block[at : at + 2], "little")
            if at + 2 > len(block) or at + 2 + length > len(block):
                yield None
                return
            fields.append(block[at + 2 : at + 2 + length])
            at += 2 + length
        yield tuple(fields)


def scgi_pairs(block):
    """Yield the names and values of an SCGI head, None where it ends within a pair."""
    *texts, rest = block.split(b"\0")
    yield from zip(texts[::2], texts[1::2], strict=False)
    if rest or len(texts) % 2:
        yield None


def fastcgi_pairs(block):
    """Yield the names and values of FastCGI parameters, None where they end within one."""
    at = 0
    while at < len(block):
        lengths = []
        for _ in range(2):
            size = 4 if block[at : at + 1] > b"\x7f" else 1
            if at + size > len(block):
                yield None
                return
            lengths.append(int.from_bytes(block[at : at + size], "big") & (0x7FFFFFFF if size == 4 else 0x7F))
            at += size
        if at + sum(lengths) > len(block):
            yield None
            return
        yield block[at : at + lengths[0]], block[at + lengths[0] : at + sum(lengths)]
        at += sum(lengths)


def told_once(keys):
    """Leave out a last segment that is the first one, too."""
    pairs = {
        Key.REQUEST_END: Key.REQUEST,
        Key.LAST_RETRANSMISSION: Key.RETRANSMISSION,
        Key.RESPONSE_END: Key.RESPONSE,
    }
    return {k: v for k, v in keys.items() if v >= 0 and (k not in pairs or keys.get(pairs[k]) != v)}


def frame(segments):
    """Return the conversations of a capture, by number of connection."""
    events, rows = track(segments)
    conversations = {row["conn"]: Conversation(row["conn"]) for row in rows}
    for event in events:
        conversations[event.conn].take(event, segments[event.frame] if event.frame >= 0 else None)
    for row in rows:
        conversations[row["conn"]].finish(row)
    return conversations
