"""A ring of recent frames: pcapng files of bounded size in a private folder, the oldest deleted for the newest.

Written by the thread that reads the capture, linked from by the one that orders reports: a link keeps a file readable
when the ring has gone on. Knows frames and files; nothing of connections.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.disk import is_no_room
from pcapdiag.base.errors import CaptureError
from pcapdiag.engine.capture.pcapng_writer import MOST_OVERHEAD_BYTES, Interface, PcapngWriter, packet_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from pcapdiag.engine.capture.batch import FrameBatch

_NAME: Final = re.compile(r"ring-(\d{8,})\.pcapng")
_SEGMENTS: Final = 64
_LEAST_SEGMENT_BYTES: Final = 1 << 18
_MOST_INTERFACES: Final = 1024
_LEAST_SEGMENTS: Final = 4

Rows = np.ndarray[Any, Any]


@dataclass(slots=True)
class RingFile:
    """A file of the ring; times in ns, -1 while it holds no frame."""

    number: int
    path: Path
    n_bytes: int = 0
    first_ts_ns: int = -1
    last_ts_ns: int = -1


class Ring:
    """The ring in its folder; what an earlier run left there belongs to it.

    Parameters
    ----------
    folder : Path
        Private to this ring.
    max_bytes : int
        [bytes] Bound on all its files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes
        self._limit_bytes = max_bytes
        self._segment_bytes = max(_LEAST_SEGMENT_BYTES, max_bytes // _SEGMENTS)
        self._lock = threading.Lock()
        self._interfaces: dict[tuple[int, int], int] = {}
        self._file: IO[bytes] | None = None
        self._last_ts_ns = 0
        self._has_dropped = False
        self.n_lost = 0
        """Frames for which the disk had no room."""
        self.n_frames = 0
        self._segments = deque(_found(folder))
        self._next = self._segments[-1].number + 1 if self._segments else 1

    def go_back(self, number: int, n_bytes: int) -> None:
        """Forget what was written after a `mark`: it is going to be read once more.

        Parameters
        ----------
        number, n_bytes : int
            As `mark` gave them to an earlier run.
        """
        with self._lock:
            while self._segments and self._segments[-1].number > number:
                self._segments.pop().path.unlink(missing_ok=True)
            if self._segments and self._segments[-1].number == number:
                os.truncate(self._segments[-1].path, n_bytes)
                self._segments[-1].n_bytes = n_bytes
            self._next = max(self._next, number + 1)

    def mark(self) -> tuple[int, int]:
        """Return how far the ring is written: the number of its newest file and its bytes."""
        newest = self._segments[-1] if self._segments else None
        return (self._next - 1, 0) if newest is None else (newest.number, newest.n_bytes)

    @property
    def n_bytes(self) -> int:
        """[bytes] All files together."""
        return sum(segment.n_bytes for segment in tuple(self._segments))

    @property
    def oldest_ts_ns(self) -> int:
        """[ns] How far the ring reaches back; -1 if it holds nothing."""
        return next((s.first_ts_ns for s in tuple(self._segments) if s.first_ts_ns >= 0), -1)

    @property
    def is_full(self) -> bool:
        """Whether the newest frames cost the oldest ones."""
        return self._has_dropped or self.n_bytes + self._segment_bytes > self._limit_bytes

    def write(self, batch: FrameBatch) -> None:
        """Append the frames of a batch, whole records only.

        Parameters
        ----------
        batch : FrameBatch
            As the reader hands it out.
        """
        frames = batch.frames
        with self._lock:
            self.n_frames += len(frames)
            at = 0
            while at < len(frames):
                room = self._segment_bytes - (self._segments[-1].n_bytes if self._file is not None else 0)
                sizes = np.cumsum(frames["cap_len"][at:].astype(np.int64) + MOST_OVERHEAD_BYTES)
                n = max(1, int(np.searchsorted(sizes, max(room, 1), side="right")))
                self._append(batch.buffer, frames[at : at + n])
                at += n

    def _append(self, buffer: Rows, frames: Rows) -> None:
        """Write frames into the present file; without room on the disk, into what the oldest ones leave."""
        while True:
            try:
                self._write(buffer, frames)
            except OSError as error:
                if not is_no_room(error):
                    raise
                self._cut_short()
                if not self._segments:
                    self.n_lost += len(frames)
                    return
                self._drop_oldest()
            else:
                return

    def _write(self, buffer: Rows, frames: Rows) -> None:
        numbers = self._numbers(frames)
        if self._file is None:
            self._open()
        file, segment = self._file, self._segments[-1]
        assert file is not None  # noqa: S101 - for the type checker; it was opened above
        times = self._times(frames)
        records = memoryview(packet_blocks(buffer, frames, numbers, times))
        rest = records
        while rest:
            rest = rest[file.write(rest) :]
        segment.n_bytes += len(records)
        first, last = int(times.min()), int(times.max())
        segment.first_ts_ns = first if segment.first_ts_ns < 0 else min(first, segment.first_ts_ns)
        segment.last_ts_ns = max(last, segment.last_ts_ns)
        if segment.n_bytes >= self._segment_bytes:
            self._close()

    def _times(self, frames: Rows) -> Rows:
        """Return the frames' times; one that has none gets that of the frame before."""
        times = frames["ts_ns"].copy()
        if (times < 0).any():
            known = np.where(times >= 0, np.arange(len(times)), -1)
            before = np.maximum.accumulate(known)
            times = np.where(before >= 0, times[np.maximum(before, 0)], self._last_ts_ns)
        self._last_ts_ns = int(times[-1])
        return times

    def _numbers(self, frames: Rows) -> Rows:
        """Return the number of each frame's interface in the ring's files; a new one begins a new file."""
        pairs = np.unique(frames[["interface", "link_type"]])
        known = len(self._interfaces)
        for interface, link_type in pairs.tolist():
            if (interface, link_type) not in self._interfaces and len(self._interfaces) < _MOST_INTERFACES:
                self._interfaces[interface, link_type] = len(self._interfaces)
        if len(self._interfaces) != known:
            self._close()
        numbers = np.zeros(len(frames), dtype=np.uint32)
        if len(pairs) > 1 or self._interfaces.get(pairs.tolist()[0]):
            for interface, link_type in pairs.tolist():
                same = (frames["interface"] == interface) & (frames["link_type"] == link_type)
                numbers[same] = self._interfaces.get((interface, link_type), 0)
        return numbers

    def _open(self) -> None:
        segment = RingFile(self._next, self._folder / f"ring-{self._next:08d}.pcapng")
        # The bytes of a file that is not full count as if it were: the bound holds at every moment.
        while self._segments and self.n_bytes + self._segment_bytes > self._limit_bytes:
            self._drop_oldest()
        handle = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        file = os.fdopen(handle, "wb", buffering=0)
        self._next += 1
        self._segments.append(segment)
        self._file = file
        self._write_head(file)
        segment.n_bytes = file.tell()

    def _write_head(self, file: IO[bytes]) -> None:
        links = {number: link_type for (_, link_type), number in self._interfaces.items()}
        PcapngWriter(
            file,
            application="pcapdiag watch",
            comment="A part of the ring of a flight recorder.",
            interfaces=[Interface(links[number], 0, 9) for number in range(len(links))],
        )

    def _drop_oldest(self) -> None:
        self._has_dropped = True
        self._segments.popleft().path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def _cut_short(self) -> None:
        """End the present file behind its last whole record: the disk had no room for the rest."""
        file, self._file = self._file, None
        if file is None:
            return
        with file:
            file.truncate(self._segments[-1].n_bytes)
        if self._segments[-1].first_ts_ns < 0:
            self._segments.pop().path.unlink(missing_ok=True)

    def link(self, folder: Path, since_ns: int) -> tuple[str, ...]:
        """Give the files from a time on a second name, which lasts when the ring goes on.

        Parameters
        ----------
        folder : Path
            On the same file system.
        since_ns : int
            [ns] From when on.

        Returns
        -------
        tuple of str
            Names in `folder`, oldest first.
        """
        with self._lock:
            self._close()
            held = [s for s in self._segments if s.first_ts_ns >= 0]
            first = next((i for i, s in enumerate(held) if s.last_ts_ns >= since_ns), len(held))
            names = []
            for segment in held[first:]:
                os.link(segment.path, folder / segment.path.name)
                names.append(segment.path.name)
            return tuple(names)

    def give_way(self, keep_from_ns: int, least_bytes: int = 0) -> int:
        """Leave a quarter of what the ring takes to others, from now on.

        Parameters
        ----------
        keep_from_ns : int
            [ns] What is needed: only older files are deleted now; -1 if nothing is.
        least_bytes : int
            [bytes] What it keeps in any case.

        Returns
        -------
        int
            [bytes] What was deleted at once; a file that a report reads goes when the report is made.
        """
        with self._lock:
            n_before = self.n_bytes
            least_bytes = max(least_bytes, _LEAST_SEGMENTS * self._segment_bytes)
            self._limit_bytes = min(self._limit_bytes, max(least_bytes, n_before - n_before // 4))
            while len(self._segments) > 1 and self.n_bytes > self._limit_bytes:
                if keep_from_ns >= 0 and self._segments[0].last_ts_ns >= keep_from_ns:
                    break
                self._drop_oldest()
            return n_before - self.n_bytes

    def grow(self) -> None:
        """Take twice as much again, up to the bound."""
        with self._lock:
            self._limit_bytes = min(2 * self._limit_bytes, self._max_bytes)

    def close(self) -> None:
        """End the present file; the ring stays for the next run."""
        with self._lock:
            self._close()


def _found(folder: Path) -> list[RingFile]:
    """Return what an earlier run left, oldest first; what cannot be read is deleted."""
    from pcapdiag.engine.capture.peek import peek_times  # noqa: PLC0415 - loads the kernels

    segments = []
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        n_bytes = path.stat().st_size
        try:
            first, last = peek_times(str(path), n_bytes, is_packed=False)
        except CaptureError:
            path.unlink()
            continue
        segments.append(RingFile(int(match[1]), path, n_bytes, first, last))
    return segments
