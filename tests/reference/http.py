"""Plain twin of the framer: it keeps every byte of a message and parses the message anew whenever more of it came.

A byte that was not captured is None; the bytes of a hole are one `Hole` object repeated. Written from RFC 9112,
RFC 8446 section 5 and the documentation of `columns.EXCHANGES` and the codes; it knows no slots, pools or bounds.
"""

import re
from dataclasses import dataclass, field

from pcapdiag.codes import ConnEnd, ExchangeFlag, Fate, Framing, Key, Method, Outcome, Protocol
from tests.reference.tcp import ACK, FIN, MOD, ORIG, RESP, RST, SYN, track

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
KNOWN = [m.name.encode() for m in Method if m.value > 0]
REQUEST_LINE = re.compile(rb"(%s+) (.*)" % TOKEN, re.DOTALL)
VERSION = re.compile(rb"(.*) (?i:HTTP/)(..)(.)", re.DOTALL)
STATUS_LINE = re.compile(rb"(?i:HTTP/)([^ ]*) +([0-9]{3})(.*)", re.DOTALL)
LIMITS = {"target": 1536, "host": 256, "request_id": 128, "server": 128}


class Hole:
    """Stands for each byte of one hole."""


@dataclass
class Head:
    """What was read of a message's head; `end` is its length, -1 if it is not complete, -2 if it never will be."""

    end: int
    n_lines: int = 0
    method: int = int(Method.NONE)
    target: bytes = b""
    status: int = -1
    minor: int = 1
    fields: list = field(default_factory=list)

    def values(self, name):
        """Return the values of a field, in order."""
        return [value for n, value in self.fields if n == name]

    def has(self, name, token):
        """Whether a comma-separated field lists a token."""
        members = b",".join(self.values(name)).split(b",")
        return any(re.split(rb"[; \t]", m.strip(b" \t"))[0].lower() == token for m in members)

    @property
    def content_length(self):
        """The last Content-Length; -1 without, -2 if it is beyond reason."""
        digits = [re.match(rb"[0-9]*", v)[0] for v in self.values(b"content-length")]
        if not digits or not digits[-1]:
            return -1
        return int(digits[-1]) if int(digits[-1]) // 10 <= 9 * 10**17 else -2


def read_head(values, *, is_request):
    """Read a head from the beginning of `values`; lines end in LF, with or without CR."""
    head, line = Head(-1), bytearray()
    for at, value in enumerate(values):
        if value is None or isinstance(value, Hole):
            head.end = -2
            return head
        if value != 10:
            line.append(value)
            continue
        text = bytes(line[:-1] if line[-1:] == b"\r" else line)
        line.clear()
        if head.n_lines == 0 and text:
            if not _read_start_line(head, text, is_request=is_request):
                head.end = -2
                return head
            head.n_lines = 1
        elif head.n_lines and text:
            head.n_lines += 1
            name, colon, value_text = text.partition(b":")
            if colon:
                head.fields.append((name.lower(), value_text.strip(b" \t")))
        elif head.n_lines:
            head.end = at + 1
            return head
    return head


def _read_start_line(head, text, *, is_request):
    if not is_request:
        match = STATUS_LINE.fullmatch(text)
        if match is None or len(text) < 12:
            return False
        head.status = int(match[2])
        head.minor = 0 if match[1][:1] == b"1" and match[1][2:3] == b"0" else 1
        return True
    match = REQUEST_LINE.fullmatch(text)
    if match is None:
        return False
    head.method = method_of(match[1])
    version = VERSION.fullmatch(match[2])
    head.target = version[1] if version else match[2]
    return True


def method_of(token):
    """Return the Method of a token, whatever its case."""
    return int(Method[token.upper().decode()]) if token.upper() in KNOWN else int(Method.OTHER)


def looks_like_request(data):
    """Whether captured bytes begin a request as far as one can see."""
    token = re.match(TOKEN + rb"{0,32}", data)[0]
    if not token:
        return False
    if len(token) == len(data) < 8:
        return any(name.startswith(token.upper()) for name in KNOWN)
    if data[len(token) : len(token) + 1] != b" ":
        return False
    line, newline, _ = data[:2048].partition(b"\n")
    if not newline:
        return token.upper() in KNOWN
    version = VERSION.fullmatch(line.removesuffix(b"\r")[len(token) + 1 :])
    return version is not None and version[2] == b"1."


def looks_like_response(data):
    """Whether captured bytes begin ``HTTP/`` as far as one can see."""
    return bool(data) and b"HTTP/".startswith(data[:5].upper())


def looks_like_tls(data):
    """Whether captured bytes begin a TLS record."""
    return len(data) >= 3 and 20 <= data[0] <= 24 and data[1] == 3 and data[2] <= 4


def detect_protocol(data):
    """Return the Protocol of an originator's first bytes that are no HTTP/1 request."""
    if looks_like_tls(data):
        return Protocol.TLS
    if data[:5] == b"PRI *":
        return Protocol.HTTP2
    if len(data) >= 8 and data[:2] == b"\x01\x01" and data[4:6] == b"\0\x08":
        return Protocol.FASTCGI
    if len(data) >= 6 and data[0] == data[3] == 0:
        size = int.from_bytes(data[1:3], "little")
        if 0 < int.from_bytes(data[4:6], "little") < min(size, 256):
            return Protocol.UWSGI
    return Protocol.UNKNOWN


class Lost(Exception):  # noqa: N818 - it is no error that the framing of a message is lost
    """Raised where the end of a message cannot be told any more."""


def end_of_chunks(values, at):
    """Return where chunked content ends, -1 if it has not ended (RFC 9112 section 7.1)."""

    def take():
        nonlocal at
        if at >= len(values):
            raise IndexError
        value = values[at]
        if value is None or isinstance(value, Hole):
            raise Lost
        at += 1
        return value

    try:
        while True:
            size, n_digits, byte = 0, 0, take()
            while chr(byte) in "0123456789abcdefABCDEF":
                if size >= 1 << 56:
                    raise Lost
                size, n_digits, byte = size * 16 + int(chr(byte), 16), n_digits + 1, take()
            if n_digits == 0:
                raise Lost
            while byte != 10:
                byte = take()
            if size == 0:
                break
            at = skip(values, at, size)
            while (byte := take()) != 10:
                if byte != 13:
                    raise Lost
        while True:
            is_empty = True
            while (byte := take()) != 10:
                is_empty &= byte == 13
            if is_empty:
                return at
    except IndexError:
        return -1


def skip(values, at, length):
    """Return the place `length` further; content may be missing, but not beyond its end."""
    end = at + length
    if end > len(values):
        raise IndexError
    if end < len(values) and isinstance(values[end], Hole) and values[end] is values[end - 1]:
        raise Lost
    return end


class Exchange:
    """One exchange; `row` is what `columns.EXCHANGES` says of it."""

    def __init__(self, conversation):
        c = conversation
        self.is_answering = self.request_done = self.response_done = False
        self.request_last_ns = self.response_last_ns = -1
        self.text = {"target": b"", "host": b"", "request_id": b""}
        self.flags = ExchangeFlag.MID_STREAM if c.is_mid_stream and c.n_exchanges == 0 else ExchangeFlag(0)
        times = ("request_ts_ns", "idle_before_ns", "first_byte_ns", "duration_ns")
        numbers = ("request_frame", "response_frame", "status_code")
        sequence = ("request_seq", "request_end_seq", "request_ack", "response_seq")
        self.row = dict.fromkeys((*times, *numbers, *sequence), -1)
        self.row |= {"request_bytes": 0, "response_bytes": 0, "retransmissions": 0, "depth": c.n_exchanges}
        self.row |= {"protocol": int(c.protocol), "method": int(Method.NONE)}
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
        self.record_left = 0
        self.record_counts = False

    def start_anew(self):
        """Expect a message."""
        self.message = None
        self.is_lost = self.is_turn = self.is_until_close = False

    def lose(self):
        """Ignore what comes until the next segment."""
        self.start_anew()
        self.is_lost = True


class Conversation:
    """The exchanges of one connection."""

    def __init__(self, conn):
        self.conn = conn
        self.protocol = Protocol.UNKNOWN
        self.open, self.done = [], []
        self.sides = (Side(), Side())
        self.n_exchanges = self.n_unanswered = 0
        self.is_mid_stream = True
        self.last_payload_ns = -1
        self.keys = {}
        self.is_tls_application = self.is_tls_13 = False
        self.closing_seen = self.closing_open = self.close_announced = False
        self.idle_at_close_ns = -1
        self.orig_closed = self.resp_closed = self.resp_reset = False
        self.orig_close_ack = -1
        self.orig_max_ack = -1
        self.keep_alive_s = self.keep_alive_max = -1
        self.server = b""
        self.ending = None

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
        first = self.open[0] if self.open else None
        if is_segment and first and not first.response_done and first.row["request_seq"] >= 0:
            if event.dir == RESP and s.flags & ACK:
                self._note_acknowledgement(first, event.frame, s.ack)
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
                self._feed_response(event, s, values)
        if is_segment and s.flags & (FIN | RST):
            self._note_closing(event, s)

    def _note_acknowledgement(self, x, frame, ack):
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
        if x and not x.is_turn:
            self.closing_open = True
        elif self.last_payload_ns >= 0 and not self.close_announced:
            self.idle_at_close_ns = max(0, event.ts_ns - self.last_payload_ns)

    def finish(self, row):
        """End the connection; `row` is the TCP twin's."""
        is_closed = self.orig_closed or self.resp_closed or row["end"] == ConnEnd.PORT_REUSE
        self.ending = "closed" if is_closed else "cut"
        self.orig_max_ack = row["orig_max_ack"]
        request, response = (side.message for side in self.sides)
        if request and isinstance(request.parsed, Head) and request.parsed.end == -1:
            self._note_request_head(request.exchange, request.parsed)
        if response and isinstance(response.parsed, Head) and response.parsed.end == -1 and self.open:
            self.open[0].row["status_code"] = response.parsed.status
        while self.open:
            self._hand_out()

    # Exchanges.

    def _answering(self):
        """Return the exchange that responder bytes belong to."""
        return self.open[0] if self.open and not self.open[0].response_done else None

    def _begin_request(self, event, s, seq):
        if self.open and self.open[0].is_turn:
            self.open[0].response_done = True
            if self.sides[RESP].is_turn:
                self.sides[RESP].start_anew()
        if self.open and self.open[0].response_done:
            self._hand_out()
        is_pipelined = bool(self.open)
        x = Exchange(self)
        x.row |= {"request_frame": event.frame, "request_ts_ns": event.ts_ns, "request_seq": seq}
        x.row |= {"request_end_seq": seq, "request_ack": s.ack % MOD if s.flags & ACK else -1}
        if is_pipelined:
            x.flags |= ExchangeFlag.PIPELINED
            return x
        if self.last_payload_ns >= 0 and (x.row["depth"] > 0 or self.is_mid_stream):
            x.row["idle_before_ns"] = max(0, event.ts_ns - self.last_payload_ns)
        before = self.keys.get(Key.RESPONSE_END, self.keys.get(Key.RESPONSE))
        if before is not None:
            self.keys[Key.RESPONSE_BEFORE] = before
        self._forget_request_keys()
        self.keys[Key.REQUEST] = event.frame
        return x

    def _forget_request_keys(self):
        of_connection = (Key.SYN, Key.SYN_ACK, Key.RESPONSE_BEFORE, Key.RESP_FIN, Key.ORIG_FIN, Key.RESP_RST)
        self.keys = {k: v for k, v in self.keys.items() if k in (*of_connection, Key.ORIG_RST)}

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

    def _begin_response(self, x, event, seq):
        if x.is_answering:
            return
        x.is_answering = True
        self.keys.pop(Key.RESPONSE_END, None)
        x.row["response_frame"], x.row["response_seq"] = event.frame, seq
        if x.request_last_ns >= 0:
            x.row["first_byte_ns"] = max(0, event.ts_ns - x.request_last_ns)
        if x.row["request_framing"] == Framing.TURN:
            x.request_done = True
        elif not x.request_done and x.row["request_frame"] >= 0:
            x.flags |= ExchangeFlag.EARLY_RESPONSE
        self._set_key(Key.RESPONSE, event.frame)

    def _extend_response(self, x, event, length):
        if length > 0:
            x.row["response_bytes"] += length
            x.response_last_ns = event.ts_ns
            self._set_key(Key.RESPONSE_END, event.frame)

    def _end_response(self, x):
        x.response_done = True
        self.sides[RESP].start_anew()
        if len(self.open) > 1:
            self._hand_out()

    def _hand_out(self):
        x = self.open.pop(0)
        row = x.row
        if row["protocol"] == Protocol.UNKNOWN:
            row["protocol"] = int(self.protocol)
        outcome = Outcome.UNANSWERED
        if x.is_answering:
            outcome = self._outcome_of(x)
            if row["request_ts_ns"] >= 0:
                row["duration_ns"] = max(0, x.response_last_ns - row["request_ts_ns"])
        if row["request_frame"] < 0:
            outcome = Outcome.RESPONSE_ONLY
        elif not x.request_done and row["request_framing"] != Framing.TURN and not x.response_done:
            x.flags |= ExchangeFlag.REQUEST_OPEN
        self.n_unanswered += outcome == Outcome.UNANSWERED
        row["outcome"], row["flags"] = int(outcome), int(x.flags)
        if outcome in (Outcome.UNANSWERED, Outcome.TRUNCATED):
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
            return
        if self.protocol == Protocol.TLS:
            self._feed_tls(event, s, values)
            return
        side = self.sides[ORIG]
        last = self.open[-1] if self.open else None
        if side.is_lost or (side.is_turn and (last is None or last.is_answering)):
            side.start_anew()
        while values:
            seq = (event.seq + event.length - len(values)) % MOD
            if side.is_turn:
                self._add_request_turn(event, s, seq, len(values))
                return
            if side.message is None:
                data = captured_of(values)
                if data and self.protocol == Protocol.HTTP1 and data[0] in b"\r\n":
                    values = values[1:]
                    continue
                if self.protocol in (Protocol.HTTP1, Protocol.UNKNOWN) and looks_like_request(data):
                    self.protocol = Protocol.HTTP1
                    side.message = Message(self._begin_request(event, s, seq), is_request=True)
                    continue
                if data and self.protocol == Protocol.UNKNOWN:
                    self.protocol = detect_protocol(data)
                    if self.protocol == Protocol.TLS:
                        self.is_tls_application |= self.is_mid_stream and data[0] == 23
                        self._feed_tls(event, s, values)
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

    def _add_request_turn(self, event, s, seq, length):
        if not self.open or self.open[-1].is_answering:
            x = self._begin_request(event, s, seq)
            x.row["request_framing"] = int(Framing.TURN)
        self._extend_request(self.open[-1], event, length)
        self.last_payload_ns = event.ts_ns

    # Responses.

    def _feed_response(self, event, s, values):
        data = captured_of(values)
        if self.protocol == Protocol.UPGRADED:
            return
        if self.protocol == Protocol.UNKNOWN and data:
            if looks_like_response(data) and len(data) >= 5:
                self.protocol = Protocol.HTTP1
            elif looks_like_tls(data):
                self.protocol = Protocol.TLS
                self.is_tls_application |= self.is_mid_stream and data[0] == 23
        if self.protocol == Protocol.TLS:
            self._feed_tls(event, s, values)
            return
        if self.protocol != Protocol.HTTP1:
            self._add_response_turn(event, s, event.seq, len(values))
            return
        side = self.sides[RESP]
        if side.is_lost:
            side.start_anew()
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
                if self.protocol == Protocol.UPGRADED:
                    return
            elif looks_like_response(data):
                if x is None:
                    if self.open:
                        self._hand_out()
                    x = Exchange(self)
                    x.request_done = True
                self._begin_response(x, event, seq)
                side.message = Message(x, is_request=False)
            elif x is None and data and data[0] in b"\r\n":
                values = values[1:]
            elif x is None:
                side.lose()
                return
            else:
                self._begin_response(x, event, seq)
                x.row["response_framing"] = int(Framing.TURN)
                side.is_turn = True

    def _continue_response(self, side, x, event, values):
        """Give bytes to the response that is being read; return what lies behind its end."""
        message = side.message
        n_rest = message.feed(values)
        self._extend_response(x, event, len(values) - n_rest)
        self.last_payload_ns = event.ts_ns
        head = message.head
        self._note_server(message)
        if message.is_interim:
            x.flags |= ExchangeFlag.INTERIM
            x.is_answering = False
            x.row |= {"response_frame": -1, "response_seq": -1, "first_byte_ns": -1}
            side.start_anew()
        elif head.end != -1 and not message.is_told:
            message.is_told = True
            if head.n_lines:
                x.row["status_code"] = head.status
            x.row["response_framing"] = int(message.framing)
            if head.end > 0:
                self._note_final_head(x, message)
        if message.is_done and not message.is_interim:
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
            self.protocol = Protocol.UPGRADED

    def _add_response_turn(self, event, s, seq, length):
        x = self._answering()
        if x is None:
            return
        if not x.is_answering:
            is_blind = s is not None and s.flags & ACK and (s.ack - x.row["request_seq"] - 1) % MOD >= MOD // 2
            if is_blind:
                self.keys.setdefault(Key.UNSOLICITED, event.frame)
                return
            self._begin_response(x, event, seq)
            x.row["response_framing"] = int(Framing.TURN)
            if s is None:
                x.flags |= ExchangeFlag.HOLE
        self.sides[RESP].start_anew()
        self.sides[RESP].is_turn = True
        self._extend_response(x, event, length)
        self.last_payload_ns = event.ts_ns

    # Holes.

    def _skip_hole(self, event):
        side = self.sides[event.dir]
        if self.protocol == Protocol.UPGRADED:
            return
        if event.dir == ORIG:
            x = self.open[-1] if self.open and not self.open[-1].request_done else None
        else:
            x = self._answering()
        if self.protocol == Protocol.TLS:
            self._skip_hole_in_records(side, event)
            if x:
                x.flags |= ExchangeFlag.HOLE
            return
        if x is None:
            side.lose()
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
                side.start_anew()
                side.is_turn = True
            return
        if side.message is not None:
            self._continue_response(side, x, event, values)
            return
        if not x.is_answering:
            self._begin_response(x, event, event.seq)
        self._extend_response(x, event, event.length)
        self.last_payload_ns = event.ts_ns
        if not side.is_until_close:
            x.row["response_framing"] = int(Framing.TURN)
            side.start_anew()
            side.is_turn = True

    def _skip_hole_in_records(self, side, event):
        is_inside = not side.record and side.record_left >= event.length
        if is_inside:
            side.record_left -= event.length
        if event.dir == RESP and (side.record_counts or not is_inside):
            self._add_response_turn(event, None, event.seq, event.length)
        if not is_inside:
            side.record.clear()
            side.record_left = 0
            side.lose()

    # TLS.

    def _feed_tls(self, event, s, values):
        side = self.sides[event.dir]
        seq = event.seq
        if side.is_lost:
            if not looks_like_tls(captured_of(values)):
                if self.is_tls_application:
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
                if side.record_counts:
                    self._add_turn(event, s, (event.seq + event.length - len(values)) % MOD, n)
                elif event.dir == RESP and self.is_tls_application:
                    x = self._answering()
                    if x and not x.is_answering:
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
                side.record_counts = self._record_counts(side.record[0], side.record_left, event.dir)
                side.record.clear()

    def _add_turn(self, event, s, seq, length):
        if event.dir == ORIG:
            self._add_request_turn(event, s, seq, length)
        else:
            self._add_response_turn(event, s, seq, length)

    def _record_counts(self, kind, length, direction):
        if kind != 23:
            return False
        if self.is_tls_application:
            return length > 19  # the shortest encrypted records are alerts
        if direction == RESP:
            self.is_tls_13 = True
            return False
        self.is_tls_application = True
        return not self.is_tls_13


class Message:
    """One HTTP/1 message, parsed anew with every byte."""

    def __init__(self, exchange, *, is_request):
        self.exchange = exchange
        self.is_request = is_request
        self.values = []
        self.head = self.parsed = Head(-1)
        self.framing = self.method = None
        self.is_done = self.is_interim = self.is_upgrade = self.is_told = False

    def feed(self, values):
        """Take in bytes; return how many lie behind the end of this message."""
        self.values += values
        self.head = self.parsed = read_head(self.values, is_request=self.is_request)
        if self.head.end == -1:
            return 0
        if self.method is None:  # what is known when the head ends decides
            self.method = self.exchange.row["method"]
        if self.head.end == -2:
            self.framing = Framing.TURN
            return 0
        try:
            end = self._end()
        except IndexError:
            return 0
        except Lost:
            self.framing = Framing.TURN
            return 0
        if end < 0:
            return 0
        self.is_done = True
        return len(self.values) - end

    def _end(self):
        """Return where the message ends, -1 if it has not ended (RFC 9112 section 6.3)."""
        head = self.head
        if not self.is_request:
            self.is_interim = 100 <= head.status < 200 and head.status != 101
            method = self.method
            self.is_upgrade = head.status == 101 or (method == Method.CONNECT and 200 <= head.status < 300)
            if self.is_interim or self.is_upgrade or method == Method.HEAD or head.status in (204, 304):
                self.framing = Framing.NO_CONTENT
                return head.end
        if head.has(b"transfer-encoding", b"chunked"):
            self.framing = Framing.CHUNKED
            return end_of_chunks(self.values, head.end)
        length = head.content_length
        if length == -2:
            raise Lost
        if length > 0 or (length == 0 and not self.is_request):
            self.framing = Framing.CONTENT_LENGTH
            return skip(self.values, head.end, length)
        if self.is_request:
            self.framing = Framing.NO_CONTENT
            return head.end
        self.framing = Framing.UNTIL_CLOSE
        return -1


def captured_of(values):
    """Return the captured bytes at the beginning."""
    return bytes(values[: values.index(None)] if None in values else values)


def parameter_of(value, name):
    """Return the number behind ``name=`` in a field value, -1 without."""
    match = re.search(re.escape(name) + rb"([0-9]*)", value, re.IGNORECASE)
    return int(match[1]) if match and match[1] and int(match[1]) < 2**31 else -1


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
