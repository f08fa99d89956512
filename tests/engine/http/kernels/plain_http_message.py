"""Plain twin of the kernels that read messages: it keeps every byte and parses anew whenever more of them came.

A byte that was not captured is None; the bytes of a hole are one `Hole` object repeated. Written from RFC 9112.
"""

import re
from dataclasses import dataclass, field

from pcapdiag.base.codes import Framing, Method, Protocol

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
KNOWN = [m.name.encode() for m in Method if m.value > 0]
REQUEST_LINE = re.compile(rb"(%s+) (.*)" % TOKEN, re.DOTALL)
VERSION = re.compile(rb"(.*) (?i:HTTP/)(..)(.)", re.DOTALL)
SCGI = re.compile(rb"[1-9][0-9]{0,4}:CONTENT_LENGTH\0")
STATUS_LINE = re.compile(rb"(?i:HTTP/)([^ ]*) +([0-9]{3})(.*)", re.DOTALL)


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
            if value is None and not head.n_lines and not is_request:
                read_start_line(head, bytes(line), is_request=False)
            head.end = -2
            return head
        if value != 10:
            line.append(value)
            continue
        text = bytes(line[:-1] if line[-1:] == b"\r" else line)
        line.clear()
        if head.n_lines == 0 and text:
            if not read_start_line(head, text, is_request=is_request):
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


def read_start_line(head, text, *, is_request):
    """Fill `head` from a start line; return whether it is one."""
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


def looks_like_request(data, protocol):
    """Whether captured bytes begin a request as far as one can see, on a connection of a protocol."""
    token = re.match(TOKEN + rb"{0,32}", data)[0]
    if not token:
        return False
    if len(token) == len(data) < 8:
        return any(name.startswith(token.upper()) for name in KNOWN)
    if data[len(token) : len(token) + 1] != b" ":
        return False
    line, newline, _ = data[:2048].partition(b"\n")
    if not newline or (protocol == Protocol.HTTP1 and token.upper() in KNOWN):
        return token.upper() in KNOWN
    if token.upper() in KNOWN and b"HTTP/" in line.upper():
        return True
    rest = line.removesuffix(b"\r")[len(token) + 1 :]
    version = VERSION.fullmatch(rest)
    return version is not None and version[2] == b"1." and not rest.startswith(b" HTTP/")


def looks_like_response(data):
    """Whether captured bytes begin ``HTTP/`` as far as one can see."""
    return bool(data) and b"HTTP/".startswith(data[:5].upper())


def looks_like_tls(data):
    """Whether captured bytes begin a TLS record."""
    return len(data) >= 3 and 20 <= data[0] <= 24 and data[1] == 3 and data[2] <= 4


def detect_protocol(data, length):
    """Return the Protocol of an originator's first bytes that are no HTTP/1 request; `length` of them were sent."""
    if looks_like_tls(data):
        return Protocol.TLS
    if data[:5] == b"PRI *":
        return Protocol.HTTP2
    if len(data) >= 8 and data[:2] == b"\x01\x01" and data[4:6] == b"\0\x08":
        return Protocol.FASTCGI
    if len(data) >= 8 and data[:4] == b"\x01\x09\0\0" and data[7] == 0:
        return Protocol.FASTCGI
    if len(data) >= 7 and data[0] == data[3] == 0:
        size = int.from_bytes(data[1:3], "little")
        if 0 < int.from_bytes(data[4:6], "little") < min(size, 256) and data[6:7].isupper():
            return Protocol.UWSGI
    if SCGI.match(data):
        return Protocol.SCGI
    return Protocol.OPAQUE if len(data) >= min(length, 8) else Protocol.UNKNOWN


def is_goodbye(data, length):
    """Whether a whole message says goodbye in its protocol."""
    if len(data) < length or not 2 <= length <= 64:
        return False
    if data in (b"\xe0\0", b"\x01\0\0\0\x01", b"X\0\0\0\x04"):
        return True
    if length > 2 and data[:1] == b"0" and length <= 14 and data[-2:] == b"B\0":
        return True
    line = data.rstrip(b"\r\n")
    return length > 2 and line != data and re.split(rb"[ \n]", line)[-1].lower() in (b"quit", b"exit", b"logout")


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
