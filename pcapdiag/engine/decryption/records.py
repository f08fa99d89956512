"""Cuts TLS records, whole ones, out of the segments of one direction of a connection.

Knows sequence numbers and the five bytes before a record; the rest is the keys' affair. Bounded: what waits for a
missing segment is little.
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
    is_behind_gap : bool
        Whether records before it may be missing.
    """

    seq: int
    header: bytes
    body: bytes
    is_behind_gap: bool = False

    @property
    def type(self) -> int:
        """Its content's type, as far as that is in clear."""
        return self.header[0]


class RecordCutter:
    """Takes segments in the order of the capture and gives the records that are whole.

    Behind bytes that are missing it goes on with the next segment that begins a record, as most do.

    Parameters
    ----------
    first_seq : int
        Sequence number of the first byte of the first record.
    """

    def __init__(self, first_seq: int) -> None:
        self._next_seq = first_seq & 0xFFFFFFFF
        self._buffer = bytearray()
        self._is_lost = False
        self._is_behind_gap = False
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
        if length <= 0:
            return
        if sequence_difference(seq, self._next_seq) > 0:
            self._waiting.append((seq, data, length))
            self._n_waiting += len(data)
            if self._n_waiting > MOST_WAITING_BYTES or len(self._waiting) > MOST_WAITING:
                yield from self.finish()
            return
        yield from self._join(seq, data, length)
        yield from self._drain()

    def finish(self) -> Iterator[WholeRecord]:
        """Yield the records among what waits for a segment that does not come."""
        while self._waiting:
            self._lose(min((s[0] for s in self._waiting), key=self._distance))
            yield from self._drain()

    def _distance(self, seq: int) -> int:
        return sequence_difference(seq, self._next_seq)

    def _drain(self) -> Iterator[WholeRecord]:
        """Join what waited and follows now."""
        while self._waiting:
            at = min(range(len(self._waiting)), key=lambda n: self._distance(self._waiting[n][0]))
            if self._distance(self._waiting[at][0]) > 0:
                return
            segment = self._waiting.pop(at)
            self._n_waiting -= len(segment[1])
            yield from self._join(*segment)

    def _lose(self, next_seq: int) -> None:
        """Go on somewhere else, where a record begins."""
        self._next_seq = next_seq
        self._buffer.clear()
        self._is_lost = True

    def _join(self, seq: int, data: bytes, length: int) -> Iterator[WholeRecord]:
        """Add a segment that begins no later than the bytes that are wanted next."""
        n_known = sequence_difference(self._next_seq, seq)
        if n_known >= length:
            return
        new, end = data[n_known:length], (seq + length) & 0xFFFFFFFF
        if self._is_lost:
            if not _is_header(new[:HEADER_BYTES]):
                self._next_seq = end
                return
            self._is_lost, self._is_behind_gap = False, True
        self._buffer += new
        self._next_seq = (self._next_seq + len(new)) & 0xFFFFFFFF
        yield from self._cut()
        if len(data) < length or self._is_lost:
            self._lose(end)

    def _cut(self) -> Iterator[WholeRecord]:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= HEADER_BYTES:
            header = bytes(buffer[at : at + HEADER_BYTES])
            if not _is_header(header):
                self._is_lost = True
                return
            end = at + HEADER_BYTES + (header[3] << 8 | header[4])
            if end > len(buffer):
                break
            seq = (self._next_seq - (len(buffer) - at)) & 0xFFFFFFFF
            yield WholeRecord(seq, header, bytes(buffer[at + HEADER_BYTES : end]), self._is_behind_gap)
            self._is_behind_gap = False
            at = end
        del buffer[:at]


def _is_header(data: bytes) -> bool:
    is_long = len(data) == HEADER_BYTES and data[1] == 3
    return is_long and _FIRST_TYPE <= data[0] <= _LAST_TYPE and (data[3] << 8 | data[4]) <= MOST_RECORD_BYTES
