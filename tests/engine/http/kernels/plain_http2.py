"""Plain twin of the kernels of HTTP/2: the part of a conversation that is streams.

Written from RFC 9113 and the documentation of `columns.EXCHANGES` and the codes; hpack reads statuses.
"""

import hpack

from pcapdiag.base.codes import ExchangeFlag, Framing, Key, Protocol
from tests.engine.http.kernels.plain_http_message import captured_of
from tests.engine.tcp.kernels.plain_tcp import ACK, MOD, ORIG, RESP

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PREFACE = "preface"
MOST_OPEN = 256
PLENTY = 1 << 60
FIXED = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}


def looks_like_settings(data):
    """Return whether bytes begin with a SETTINGS frame that says something."""
    if len(data) < 9:
        return False
    length = int.from_bytes(data[:3], "big")
    return data[3] == SETTINGS and data[4] == 0 and not any(data[5:9]) and length % 6 == 0 and length <= 1024


def status_of_block(block):
    """Return the status that a header block begins with, -1 where only the tables of the connection know."""
    try:
        fields = hpack.Decoder(max_header_list_size=1 << 20)
        fields.max_allowed_table_size = 1 << 30
        first = next(iter(fields.decode(_first_field(block))), None)
    except hpack.HPACKError:
        return -1
    except (IndexError, ValueError, UnicodeDecodeError):
        return -1
    if first is None:
        return -1
    name, value = first
    is_status = name == ":status" and len(value) == 3 and value.isascii() and value.isdigit() and value >= "100"
    return int(value) if is_status else -1


def _first_field(block):
    """Return a block up to the end of its first field."""
    at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:
        if block[at] & 0x1F == 0x1F:
            at += 1
            while at < len(block) and block[at] & 0x80:
                at += 1
        at += 1
    if at >= len(block) or block[at] & 0x80:
        return block[: at + 1]
    return block[: at + 2 + (block[at + 1] & 0x7F)] if at + 1 < len(block) else b""


class Reader:
    """One direction: the frame that is being read."""

    def __init__(self):
        self.header = bytearray()
        self.payload = []
        self.left = self.length = 0
        self.kind = self.flags = self.stream = None
        self.begun = False
        self.block_of = None
        self.ends_stream = False
        self.is_head = False
        self.begin = None


class Streams:
    """What a `Conversation` does with frames."""

    def begin_streams(self):
        """Begin without any."""
        self.readers = (Reader(), Reader())
        self.last_stream = 0
        self.goaway_last, self.goaway_error = -1, 0
        self.resp_ack = -1
        self.credit = self.first_credit = 65_535

    def is_preface_due(self, values):
        """Whether the originator's bytes are the preface, or lie behind it."""
        r = self.readers[ORIG]
        is_read = r.begun or r.left > 0 or bool(r.header) or r.kind == PREFACE
        return is_read or not captured_of(values) or values[0] == ord("P")

    def begin_upgraded(self, x):
        """Make the exchange of a 101 the first stream."""
        x.row |= {"stream": 1, "protocol": int(Protocol.HTTP2), "status_code": -1}
        x.flags &= ~ExchangeFlag.UPGRADE
        self.last_stream = 1
        self._take_status(x, 101)

    def lose_frames(self):
        """Know no more of this connection."""
        if self.protocol == Protocol.HTTP2_UNREAD:
            return
        self.protocol = Protocol.HTTP2_UNREAD
        ending, orig_closed = self.ending, self.orig_closed
        self.ending, self.orig_closed = "cut", False
        while self.open:
            x = self.open[0]
            if not x.response_done:
                x.row |= {"protocol": int(Protocol.HTTP2_UNREAD), "response_framing": int(Framing.FRAMES)}
                x.flags |= ExchangeFlag.HOLE
                x.is_answering = True
            self._hand_out()
        self.ending, self.orig_closed = ending, orig_closed
        self.last_payload_ns = -1

    def settle_streams(self, resp_max_ack):
        """Note at the end what was acknowledged."""
        for x in self.open:
            self._note_end(x, resp_max_ack)

    def feed_frames(self, event, s, values):
        """Read frames out of an event's bytes."""
        r = self.readers[event.dir]
        if event.dir == ORIG and not r.begun and not r.left and not r.header and r.kind != PREFACE:
            if values[0] != ord("P"):
                self.lose_frames()
                return
            self.is_mid_stream &= self.n_exchanges > 0
            r.kind, r.left = PREFACE, 24
        while values:
            if r.left:
                piece, values = values[: r.left], values[r.left :]
                r.left -= len(piece)
                if not self._take_payload(r, event, piece, event.length - len(values)):
                    self.lose_frames()
                    return
            else:
                if not r.header:
                    at = event.length - len(values)
                    r.begin = (event, s, (event.seq + at) % MOD)
                byte, values = values[0], values[1:]
                if byte is None:
                    self.lose_frames()
                    return
                r.header.append(byte)
                if len(r.header) < 9:
                    continue
                if not self._begin_frame(r, event, event.length - len(values)):
                    self.lose_frames()
                    return
            if not r.left:
                self._end_frame(r, event, s)

    def skip_hole_in_frames(self, event):
        """Skip missing bytes inside content."""
        r = self.readers[event.dir]
        if r.header or not r.begun or r.kind != DATA or r.left <= event.length:
            self.lose_frames()
            return
        r.left -= event.length
        x = self._stream(r.stream)
        if x is not None:
            x.flags |= ExchangeFlag.HOLE
            self._extend(x, event, event.length, event.length)

    def _stream(self, stream):
        return next((x for x in self.open if x.row["stream"] == stream), None)

    def _is_frame(self, r, length, direction):
        if r.block_of is not None:
            return r.kind == CONTINUATION and r.stream == r.block_of
        if not r.begun:
            return r.kind == SETTINGS and r.stream == 0 and length % 6 == 0 and not r.flags & 1
        if r.kind in FIXED and length != FIXED[r.kind]:
            return False
        if r.kind in (DATA, HEADERS):
            return r.stream > 0 and (direction == RESP or r.stream % 2 == 1)
        if r.kind in (PRIORITY, RST_STREAM):
            return r.stream > 0
        if r.kind == PUSH_PROMISE:
            return r.stream > 0 and length >= 4 and direction == RESP
        if r.kind in (SETTINGS, PING, GOAWAY):
            is_long_enough = length % 6 == 0 if r.kind == SETTINGS else length >= 8
            return r.stream == 0 and is_long_enough
        return r.kind != CONTINUATION

    def _begin_frame(self, r, event, stop):
        header = bytes(r.header)
        r.header.clear()
        length, r.kind, r.flags = int.from_bytes(header[:3], "big"), header[3], header[4]
        r.stream = int.from_bytes(header[5:], "big") % 2**31
        if not self._is_frame(r, length, event.dir):
            return False
        r.begun, r.left, r.length, r.payload, r.is_head = True, length, length, [], False
        if r.kind not in (DATA, HEADERS, CONTINUATION):
            return True
        x = self._stream(r.stream)
        if event.dir == ORIG and r.kind == HEADERS and x is None and r.stream > self.last_stream:
            if len(self.open) >= MOST_OPEN:
                return False
            x = self._open_stream(r)
        elif event.dir == RESP and x is not None and not x.response_done and not x.is_answering:
            self._begin_stream_response(x, event, r)
            r.is_head = r.kind == HEADERS
        if x is not None:
            self._extend(x, event, 9, stop)
        if r.kind == HEADERS:
            r.block_of = None if r.flags & 4 else r.stream
            r.ends_stream = bool(r.flags & 1)
        return True

    def _open_stream(self, r):
        event, s, seq = r.begin
        x = self._begin_request(event, s, seq)
        self.last_stream = r.stream
        x.row |= {"stream": r.stream, "request_framing": int(Framing.FRAMES)}
        x.credit = self.first_credit
        if 0 <= self.goaway_last < r.stream:
            x.flags |= ExchangeFlag.NOT_PROCESSED
            x.row["stream_error"] = self.goaway_error
        return x

    def _begin_stream_response(self, x, event, r):
        first, _, seq = r.begin
        x.is_answering = True
        x.flags &= ~ExchangeFlag.NOT_PROCESSED
        x.row["stream_error"] = -1
        x.row |= {"response_frame": first.frame, "response_seq": seq, "response_framing": int(Framing.FRAMES)}
        if x.request_last_ns >= 0:
            x.row["first_byte_ns"] = max(0, first.ts_ns - x.request_last_ns)
        if self.open[0] is x:
            self.keys.pop(Key.RESPONSE_END, None)
            self._set_key(Key.RESPONSE, event.frame)

    def _extend(self, x, event, length, stop):
        if event.dir == RESP:
            if not x.response_done:
                x.row["response_bytes"] += length
                x.response_last_ns = self.last_payload_ns = event.ts_ns
                if self.open[0] is x and not self.orig_closed and event.frame != x.row["response_frame"]:
                    self._set_key(Key.RESPONSE_END, event.frame)
            return
        x.row["request_bytes"] += length
        x.row["request_end_seq"] = (event.seq + stop) % MOD
        x.request_last_ns = self.last_payload_ns = event.ts_ns
        if x.flags & ExchangeFlag.ACKNOWLEDGED:
            x.flags = x.flags & ~ExchangeFlag.ACKNOWLEDGED | ExchangeFlag.ACKNOWLEDGED_PART
            if self.open[0] is x:
                self.keys.pop(Key.ACK, None)
        if self.open[0] is x and event.frame != x.row["request_frame"]:
            self._set_key(Key.REQUEST_END, event.frame)

    def _take_payload(self, r, event, piece, stop):
        if r.kind in (DATA, HEADERS, CONTINUATION):
            x = self._stream(r.stream)
            if x is not None:
                self._extend(x, event, len(piece), stop)
                if None in piece:
                    x.flags |= ExchangeFlag.HOLE
        r.payload += piece
        if event.dir == RESP and r.kind in (SETTINGS, WINDOW_UPDATE):
            self._read_grants(r, len(piece))
        return r.kind not in (RST_STREAM, GOAWAY) or None not in piece

    def _read_grants(self, r, n_new):
        """Take in what may be sent, byte by byte as it comes; what was not captured may have granted anything."""
        if None in r.payload[-n_new:]:
            self.credit = PLENTY
            self._begin_streams_with(PLENTY)
        if r.kind == WINDOW_UPDATE:
            return
        for end in range(6, len(r.payload) + 1, 6):
            setting = captured_of(r.payload[end - 6 : end])
            if end > len(r.payload) - n_new and len(setting) == 6 and setting[:2] == b"\0\4":
                self._begin_streams_with(int.from_bytes(setting[2:], "big"))

    def _begin_streams_with(self, credit):
        for x in self.open:
            x.credit = min(x.credit + credit - self.first_credit, PLENTY)
        self.first_credit = credit
        self._may_go_on()

    def _may_go_on(self):
        if self.open and self.credit > 0 and self.open[0].credit > 0:
            self.keys.pop(Key.CREDIT_USED, None)

    @staticmethod
    def _skipped(r):
        return (1 if r.flags & 8 else 0) + (5 if r.flags & 32 else 0)

    def _end_frame(self, r, event, s):
        x = self._stream(r.stream)
        if r.kind == GOAWAY and event.dir == RESP:
            data = bytes(r.payload)
            self._take_goaway(event, int.from_bytes(data[:4], "big") % 2**31, int.from_bytes(data[4:8], "big"))
        if r.kind == RST_STREAM and x is not None:
            self._reset(x, event, s, int.from_bytes(bytes(r.payload), "big"))
        if r.kind == WINDOW_UPDATE and event.dir == RESP:
            more = int.from_bytes(captured_of(r.payload)[:4], "big") % 2**31
            if r.stream == 0:
                self.credit = min(self.credit + more, PLENTY)
            elif x is not None:
                x.credit = min(x.credit + more, PLENTY)
            self._may_go_on()
        if r.kind not in (DATA, HEADERS, CONTINUATION):
            return
        if r.kind == DATA and event.dir == ORIG:
            self.credit -= r.length
            if x is not None:
                x.credit -= r.length
                if not r.flags & 1 and self.open[0] is x and min(self.credit, x.credit) <= 0:
                    self._set_key(Key.CREDIT_USED, event.frame)
        if r.kind == DATA:
            is_end = r.flags & 1
        else:
            is_end = r.flags & 4 and r.ends_stream
            if r.flags & 4:
                r.block_of = None
        if r.is_head and x is not None:
            self._take_status(x, status_of_block(captured_of(r.payload[self._skipped(r) :][:8])))
        if is_end and x is not None:
            if event.dir == ORIG:
                x.request_done = True
            elif x.is_answering and not x.response_done:
                x.response_done = True
                if len(self.open) > 1 and not self.orig_closed:
                    self._hand_out_any(x)

    def _hand_out_any(self, x, ended_by=None):
        """Hand an exchange out, wherever it stands."""
        if self.open[0] is x:
            if ended_by:
                self.keys |= ended_by
            self._hand_out()
            for key in ended_by or ():
                self.keys.pop(key, None)
            return
        kept, first = self.keys, list(self.open)
        self.open = [x]
        self.keys = {k: v for k, v in kept.items() if k in self.of_connection}
        self._set_key(Key.REQUEST, x.row["request_frame"])
        self.keys |= ended_by or {}
        self._hand_out()
        self.open = [other for other in first if other is not x]
        self.keys = kept

    def _take_status(self, x, status):
        if 100 <= status < 200:
            x.flags |= ExchangeFlag.INTERIM
            x.is_answering = False
            x.row |= {"response_frame": -1, "response_seq": -1, "first_byte_ns": -1}
            x.row["response_framing"] = int(Framing.UNKNOWN)
        else:
            x.row["status_code"] = status

    def _note_end(self, x, acknowledged):
        if acknowledged < 0 or x.row["request_seq"] < 0:
            return
        if (acknowledged - x.row["request_end_seq"]) % MOD < MOD // 2:
            x.flags |= ExchangeFlag.ACKNOWLEDGED
        elif 0 < (acknowledged - x.row["request_seq"]) % MOD < MOD // 2:
            x.flags |= ExchangeFlag.ACKNOWLEDGED_PART

    def _reset(self, x, event, s, error):
        if x.response_done:
            return
        is_resp = event.dir == RESP
        ack = s.ack if s is not None and s.flags & ACK else -1
        self._note_end(x, ack if is_resp else self.resp_ack)
        if not x.flags & ExchangeFlag.NOT_PROCESSED:
            x.row["stream_error"] = min(error, 127)
            if is_resp and error == 7 and not x.is_answering:
                x.flags |= ExchangeFlag.NOT_PROCESSED
        self.last_payload_ns = event.ts_ns
        ending, self.ending = self.ending, "closed"
        self._hand_out_any(x, {Key.RESP_RESET_STREAM if is_resp else Key.ORIG_RESET_STREAM: event.frame})
        self.ending = ending

    def _take_goaway(self, event, last, error):
        is_lower = self.goaway_last < 0 or last < self.goaway_last
        if is_lower:
            self.goaway_last, self.goaway_error = last, min(error, 127)
            self._set_key(Key.GOAWAY, event.frame)
        waiting = [x for x in self.open if not x.response_done]
        for x in waiting if is_lower else ():
            if x.row["stream"] > last and not x.is_answering:
                x.flags |= ExchangeFlag.NOT_PROCESSED
                x.row["stream_error"] = min(error, 127)
        self.close_announced |= bool(waiting)
