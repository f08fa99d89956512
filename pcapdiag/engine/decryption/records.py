"""Cuts TLS records, whole ones, out of the segments of one direction of a connection.

Knows sequence numbers and the five bytes before a record; the rest is the keys' affair. Bounded: what waits for a
missing segment is little, and a missing byte ends it, since records are numbered from the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pcapdiag.base.sequence import sequence_difference

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES: Final = 5
MOST_RECORD_BYTES: Final = 16_384 + 2_048
"""[bytes] RFC 5246 section 6.2.3: no record is longer."""
MOST_WAITING_BYTES: Final = 1 << 18
"""[bytes] Kept of segments that came before one that is missing; no more is on its way at one time, mostly."""
MOST_WAITING: Final = 1_024
"""Such segments; those of a single byte weigh more than it."""
_FIRST_TYPE, _LAST_TYPE = 20, 24


class WholeRecord(NamedTuple):
    """One record.

    Attributes
    ----------
    seq : int
        Sequence number of its first byte.
    header : bytes
        Type, version and length.
    body : bytes
        What follows, all of it; hostile.
    """

    seq: int
    header: bytes
    body: bytes

    @property
    def type(self) -> int:
        """Its content's type, as far as that is in clear."""
        return self.header[0]


class RecordCutter:
    """Takes segments in the order of the capture and gives the records that are whole.

    Parameters
    ----------
    first_seq : int
        Sequence number of the first byte of the first record.

    Attributes
    ----------
    is_broken : bool
        Bytes are missing, or are no records: there are no more.
    """

    def __init__(self, first_seq: int) -> None:
        self.is_broken = False
        self._next_seq = first_seq & 0xFFFFFFFF
        self._buffer = bytearray()
        self._waiting: list[tuple[int, bytes, int]] = []
        self._n_waiting = 0

    def take(self, seq: int, data: bytes, length: int) -> Iterator[WholeRecord]:
        """Yield the records that are whole with a segment.

        Parameters
        ----------
        seq : int
            Sequence number of the segment.
        data : bytes
            What was captured of it.
        length : int
            [bytes] What it had on the wire.
        """
        if self.is_broken or length <= 0:
            return
        if sequence_difference(seq, self._next_seq) > 0:
            self._wait(seq, data, length)
            return
        yield from self._join(seq, data, length)
        while self._waiting and not self.is_broken:
            at = min(range(len(self._waiting)), key=lambda n: sequence_difference(self._waiting[n][0], self._next_seq))
            if sequence_difference(self._waiting[at][0], self._next_seq) > 0:
                return
            segment = self._waiting.pop(at)
            self._n_waiting -= len(segment[1])
            yield from self._join(*segment)

    def _wait(self, seq: int, data: bytes, length: int) -> None:
        self._waiting.append((seq, data, length))
        self._n_waiting += len(data)
        if self._n_waiting > MOST_WAITING_BYTES or len(self._waiting) > MOST_WAITING:
            self._break()

    def _break(self) -> None:
        self.is_broken = True
        self._waiting.clear()
        self._buffer.clear()

    def _join(self, seq: int, data: bytes, length: int) -> Iterator[WholeRecord]:
        """Add a segment that begins no later than the bytes that are wanted next."""
        n_known = sequence_difference(self._next_seq, seq)
        if n_known >= length:
            return
        new = data[n_known:length]
        is_cut = len(data) < length
        self._buffer += new
        self._next_seq = (self._next_seq + len(new)) & 0xFFFFFFFF
        yield from self._cut()
        if is_cut:
            self._break()

    def _cut(self) -> Iterator[WholeRecord]:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= HEADER_BYTES:
            header = bytes(buffer[at : at + HEADER_BYTES])
            length = header[3] << 8 | header[4]
            if not _FIRST_TYPE <= header[0] <= _LAST_TYPE or header[1] != 3 or length > MOST_RECORD_BYTES:
                self._break()
                return
            end = at + HEADER_BYTES + length
            if end > len(buffer):
                break
            seq = (self._next_seq - (len(buffer) - at)) & 0xFFFFFFFF
            yield WholeRecord(seq, header, bytes(buffer[at + HEADER_BYTES : end]))
            at = end
        del buffer[:at]
