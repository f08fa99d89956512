"""What may be shown of each stream: HTTP/1 heads with their secrets masked, the headers of TLS records, nothing else.

Where messages begin is known from the first reading; the bytes come from the frames that are kept. Only bytes that
were understood as part of a head or of a record header are ever handed out, and from here, not from the frame: what a
segment repeats, splits or contradicts makes no difference. Knows streams, not frames' headers.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pcapdiag.base.codes import Direction, ExchangeFlag, Protocol
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.ticket.evidence.heads import FILLER, MAX_HEAD_BYTES, find_end, mask_head

if TYPE_CHECKING:
    from pcapdiag.privacy.anonymize import Anonymizer
    from pcapdiag.privacy.redact import Redactor
    from pcapdiag.ticket.evidence.heads import Head
    from pcapdiag.ticket.evidence.selection import Kept
    from pcapdiag.ticket.evidence.spool import SpooledFrame

_MAX_AHEAD_BYTES: Final = 256 << 10
"""[bytes] Out-of-order bytes of one message that are kept until those before them come."""

_TLS_HEADER_BYTES: Final = 5
_MAX_FASTCGI_TYPE: Final = 11
_TLS_TYPES: Final = range(20, 25)
_MAX_TLS_RECORD: Final = (1 << 14) + 2048
_FOREVER: Final = 1 << 62


class StreamHeads:
    """An HTTP/1 message: its head, and the interim responses before it.

    Parameters
    ----------
    redactor : Redactor
        Counts what is masked.
    is_request : bool
        Whether it begins with a request line.
    anonymizer : Anonymizer, optional
        Gives other names; further values that name machines are masked.

    Attributes
    ----------
    body_at : int
        Offset of the body within the message, when the head was whole; else -1.
    """

    def __init__(self, redactor: Redactor, *, is_request: bool, anonymizer: Anonymizer | None) -> None:
        self.is_done = False
        self.body_at = -1
        self._redactor = redactor
        self._is_request = is_request
        self._anonymizer = anonymizer
        self._data = bytearray()
        self._searched = 0
        self._shown: list[tuple[int, bytes]] = []
        self._offset = 0

    def read(self, data: bytes) -> None:
        """Take in the bytes that follow."""
        self._data += data
        while not self.is_done:
            # An empty line before the start line does not end a head.
            skip = len(self._data) - len(self._data.lstrip(b"\r\n"))
            end = find_end(bytes(self._data), max(self._searched, skip))
            if end < 0:
                self._searched = max(len(self._data) - 3, 0)
                self.is_done = len(self._data) > MAX_HEAD_BYTES
                return
            head = self._mask(bytes(self._data[:end]))
            self._searched = 0
            del self._data[:end]
            self._offset += end
            self.is_done = not head.is_interim
            if self.is_done and head.is_whole:
                self.body_at = self._offset

    def _mask(self, data: bytes) -> Head:
        """Note what may be shown of a head, and return it."""
        anonymizer = self._anonymizer
        head = mask_head(data, self._redactor, is_request=self._is_request, anonymize=anonymizer is not None)
        shown = head.data
        if shown and anonymizer is not None:
            shown = anonymizer.text(shown.decode("latin-1"), same_length=True).encode("latin-1")
        if shown:
            self._shown.append((self._offset, shown))
        return head

    def finish(self) -> list[tuple[int, bytes]]:
        """Return what may be shown: offsets within the message, and bytes."""
        if not self.is_done and self._data:
            self._mask(bytes(self._data))
            self._data.clear()
            self.is_done = True
        return self._shown


class RecordReader:
    """TLS: the header of each record, and unencrypted alerts."""

    header_bytes = _TLS_HEADER_BYTES

    def __init__(self) -> None:
        self.is_done = False
        self._header = b""
        self._to_skip = 0
        self._offset = 0
        self._shown: list[tuple[int, bytes]] = []

    def read(self, data: bytes) -> None:
        """Take in the bytes that follow."""
        at = 0
        while at < len(data) and not self.is_done:
            if self._to_skip:
                step = min(self._to_skip, len(data) - at)
                self._to_skip -= step
            else:
                step = min(self.header_bytes - len(self._header), len(data) - at)
                self._header += data[at : at + step]
                if len(self._header) == self.header_bytes:
                    self._take_header(self._offset + step - self.header_bytes)
            at += step
            self._offset += step

    def _take_header(self, offset: int) -> None:
        header, self._header = self._header, b""
        length = int.from_bytes(header[3:], "big")
        if header[0] not in _TLS_TYPES or header[1] != 3 or length > _MAX_TLS_RECORD:
            self.is_done = True
            return
        self._shown.append((offset, header))
        self._to_skip = length

    def skip(self, n_bytes: int) -> bool:
        """Pass over bytes that were not captured, if they lie within one record; return whether that is so."""
        if n_bytes > self._to_skip:
            self.is_done = True
            return False
        self._to_skip -= n_bytes
        self._offset += n_bytes
        return True

    def finish(self) -> list[tuple[int, bytes]]:
        """Return what may be shown: offsets within the message, and bytes."""
        return self._shown


class FastCgiReader(RecordReader):
    """FastCGI: the header of each record; parameters and content are masked."""

    header_bytes = 8

    def _take_header(self, offset: int) -> None:
        header, self._header = self._header, b""
        if header[0] != 1 or not 1 <= header[1] <= _MAX_FASTCGI_TYPE:
            self.is_done = True
            return
        self._shown.append((offset, header))
        self._to_skip = int.from_bytes(header[4:6], "big") + header[6]


@dataclass(slots=True)
class _HttpMessage:
    """A message and where it lies in its stream; offsets are relative to the stream's first message."""

    start: int
    seq: int
    frame: int
    end: int
    reader: StreamHeads | RecordReader
    read_to: int = 0
    ahead: list[tuple[int, bytes]] = field(default_factory=list)
    ahead_bytes: int = 0
    shown: list[tuple[int, bytes]] = field(default_factory=list)

    def feed(self, offset: int, data: bytes) -> None:
        """Take in bytes at an offset of the stream, in whatever order they come."""
        offset -= self.start
        if offset < 0:
            data, offset = data[-offset:], 0
        data = data[: max(self.end - self.start - offset, 0)]
        if not data or self.reader.is_done or offset + len(data) <= self.read_to:
            return
        if offset > self.read_to:
            if self.ahead_bytes + len(data) <= _MAX_AHEAD_BYTES:
                self.ahead_bytes += len(data)
                insort(self.ahead, (offset, data))
            return
        self._read(data[self.read_to - offset :])
        while self.ahead and self.ahead[0][0] <= self.read_to:
            offset, data = self.ahead.pop(0)
            self.ahead_bytes -= len(data)
            self._read(data[self.read_to - offset :])

    def _read(self, data: bytes) -> None:
        self.reader.read(data)
        self.read_to += len(data)

    def finish(self) -> None:
        """Read what lies behind holes, where that is possible, and settle what may be shown."""
        while self.ahead and isinstance(self.reader, RecordReader) and not self.reader.is_done:
            offset, data = self.ahead.pop(0)
            if offset > self.read_to:
                if not self.reader.skip(offset - self.read_to):
                    break
                self.read_to = offset
            self._read(data[self.read_to - offset :])
        self.ahead.clear()
        self.shown = [(self.start + offset, data) for offset, data in self.reader.finish()]

    @property
    def body(self) -> tuple[int, int]:
        """Where the body lies in the stream: begin and end; nothing if the head was not whole."""
        if isinstance(self.reader, RecordReader) or self.reader.body_at < 0:
            return self.end, self.end
        return self.start + self.reader.body_at, self.end


class _Stream:
    """One direction of a connection: its messages in order."""

    def __init__(self) -> None:
        self.messages: list[_HttpMessage] = []

    def add(self, seq: int, frame: int, length: int, reader: StreamHeads | RecordReader) -> None:
        """Append a message; `length` is how many bytes at most belong to it."""
        if not self.messages:
            self.messages.append(_HttpMessage(0, seq, frame, length, reader))
            return
        before = self.messages[-1]
        start = before.start + (seq - before.seq & 0xFFFFFFFF)
        if start == before.start or seq == before.seq:
            return
        before.end = min(before.end, start)
        self.messages.append(_HttpMessage(start, seq, frame, start + length, reader))

    def offset_of(self, seq: int, frame: int) -> int:
        """Return where a segment lies: near the last message that began at or before its frame."""
        place = max(bisect_right(self.messages, frame, key=lambda m: m.frame) - 1, 0)
        message = self.messages[place]
        return message.start + sequence_difference(seq, message.seq)

    def touching(self, start: int, end: int) -> list[_HttpMessage]:
        """Return the messages that a range of the stream may belong to."""
        first = max(bisect_right(self.messages, start, key=lambda m: m.start) - 1, 0)
        last = bisect_right(self.messages, end - 1, key=lambda m: m.start)
        return self.messages[first:last]


class StreamReader:
    """Both streams of one connection.

    Parameters
    ----------
    kept : Kept
        The connection and its exchanges.
    redactor : Redactor
        Counts what is masked.
    anonymizer : Anonymizer, optional
        Gives other names; further values that name machines are masked.
    keep_bodies : bool
        Whether what follows a whole HTTP/1 head is kept as captured.
    """

    def __init__(
        self, kept: Kept, redactor: Redactor, *, anonymizer: Anonymizer | None = None, keep_bodies: bool = False
    ) -> None:
        self._redactor = redactor
        self._anonymizer = anonymizer
        self._keep_bodies = keep_bodies
        self._streams = (_Stream(), _Stream())
        row = kept.row
        self._response_end = (int(row["resp_isn"]) + 1) & 0xFFFFFFFF if row["resp_isn"] >= 0 else -1
        is_tls = int(row["protocol"]) == Protocol.TLS
        is_whole = kept.spans[0][0] <= int(row["first_frame"])
        for direction, name in ((Direction.ORIG, "orig_isn"), (Direction.RESP, "resp_isn")):
            if is_tls and is_whole and row[name] >= 0:
                first_byte = (int(row[name]) + 1) & 0xFFFFFFFF
                self._streams[direction].add(first_byte, int(row["first_frame"]), _FOREVER, RecordReader())
        for exchange in kept.exchanges:
            self._add_exchange(exchange, is_tls=is_tls, is_whole=is_whole)

    def _add_exchange(self, exchange: Any, *, is_tls: bool, is_whole: bool) -> None:
        protocol = Protocol(int(exchange["protocol"]))
        is_fastcgi = protocol is Protocol.FASTCGI
        if protocol not in {Protocol.HTTP1, Protocol.UPGRADED} and not is_tls and not is_fastcgi:
            return
        for direction, side in ((Direction.ORIG, "request"), (Direction.RESP, "response")):
            seq, frame = int(exchange[f"{side}_seq"]), int(exchange[f"{side}_frame"])
            if seq < 0 or frame < 0:
                continue
            if is_fastcgi:
                if not self._streams[direction].messages:
                    self._streams[direction].add(seq, frame, _FOREVER, FastCgiReader())
                continue
            if is_tls:
                if not is_whole or not self._streams[direction].messages:
                    # A turn is known from its first encrypted byte on, behind the header of its record.
                    self._streams[direction].add(seq - _TLS_HEADER_BYTES & 0xFFFFFFFF, frame, _FOREVER, RecordReader())
                continue
            is_request = direction == Direction.ORIG
            if not is_request:
                seq = self._begin_of_response(exchange, seq)
            reader = StreamHeads(self._redactor, is_request=is_request, anonymizer=self._anonymizer)
            self._streams[direction].add(seq, frame, max(int(exchange[f"{side}_bytes"]), 0), reader)

    def _begin_of_response(self, exchange: Any, seq: int) -> int:
        """Return where a response begins with the interim ones before it: where the response before it ended."""
        is_late = int(exchange["flags"]) & ExchangeFlag.INTERIM and self._response_end >= 0
        if is_late and 0 < (seq - self._response_end & 0xFFFFFFFF) <= MAX_HEAD_BYTES:
            seq = self._response_end
        self._response_end = seq + int(exchange["response_bytes"]) & 0xFFFFFFFF
        return seq

    def feed(self, frame: SpooledFrame) -> None:
        """Take in the payload of a frame."""
        stream = self._streams[frame.dir]
        payload = frame.data[frame.payload_at : frame.payload_at + min(frame.payload_cap, frame.payload_len)]
        if not payload or not stream.messages:
            return
        start = stream.offset_of(frame.seq, frame.frame)
        for message in stream.touching(start, start + len(payload)):
            message.feed(start, payload)

    def finish(self) -> None:
        """Settle what may be shown, when every frame was fed."""
        for message in (m for stream in self._streams for m in stream.messages):
            message.finish()

    def shown(self, frame: SpooledFrame) -> bytes:
        """Return what may be shown of a frame's payload, from its first byte on; what is behind it is to be cut off.

        Parameters
        ----------
        frame : SpooledFrame
            One that was fed.

        Returns
        -------
        bytes
            As long as or shorter than what was captured; filled where something in the middle is not shown.
        """
        stream = self._streams[frame.dir]
        n_captured = min(frame.payload_cap, frame.payload_len)
        if n_captured <= 0 or not stream.messages:
            return b""
        start = stream.offset_of(frame.seq, frame.frame)
        end = start + n_captured
        shown = bytearray()
        for message in stream.touching(start, end):
            pieces = message.shown
            if self._keep_bodies:
                low, high = max(message.body[0], start), min(message.body[1], end)
                at = frame.payload_at + low - start
                pieces = [*pieces, (low, frame.data[at : at + max(high - low, 0)])]
            for offset, data in pieces:
                low, high = max(offset, start), min(offset + len(data), end)
                if low < high:
                    shown += FILLER * (low - start - len(shown))
                    shown[low - start : high - start] = data[low - offset : high - offset]
        return bytes(shown)
