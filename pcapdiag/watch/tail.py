"""Follows a log that grows: what was added since a time can be cut out, whatever rotation did to the file.

A log is followed by its open descriptor. When another file appears under its name, the old one is kept open as long
as somebody may want its lines. Knows bytes, lines and when they arrived; not what they say.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PIECE_BYTES: Final = 1 << 20
_MOST_PER_POLL: Final = 64 << 20
_LONGEST_LINE: Final = 1 << 18
_MOST_MARKS: Final = 4096
_MOST_CUT_BYTES: Final = 128 << 20
_MOST_NUMBERED: Final = 2_000_000
_MOST_COUNTED_BYTES: Final = 1 << 30
_MOST_OLD: Final = 3


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where an earlier run stood in a log: which file, and from which byte on its lines may still be wanted."""

    device: int
    inode: int
    offset: int
    line: int


@dataclass(slots=True)
class _Generation:
    """One file that was or is the log; marks are (arrival in ns, offset, line) of what was added."""

    fd: int
    device: int
    inode: int
    offset: int = 0
    line: int = 1
    marks: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=_MOST_MARKS))
    carry: bytes = b""


class LogTail:
    """One log.

    Parameters
    ----------
    path : str
        Its name; it need not exist yet.
    known : LogPosition, optional
        Where an earlier run stood.
    backfill_bytes : int
        [bytes] How much of what is there already counts as added now.
    """

    def __init__(self, path: str, *, known: LogPosition | None = None, backfill_bytes: int = 0) -> None:
        self.path = path
        self._old: deque[_Generation] = deque()
        self._now: _Generation | None = None
        self._known = known
        self._backfill_bytes = backfill_bytes
        self._is_first = True

    def poll(self, now_ns: int) -> Iterator[bytes]:
        """Take in what was added and yield the whole lines of it.

        Parameters
        ----------
        now_ns : int
            [ns] By the capture's clock.

        Yields
        ------
        bytes
            A line without its end.
        """
        if self._now is not None:
            yield from self._read(self._now, now_ns)
        if self._is_current():
            return
        opened = self._open(now_ns)
        if opened is None:
            return
        if self._now is not None:
            self._retire(self._now, opened)
        self._now = opened
        yield from self._read(opened, now_ns)

    def _is_current(self) -> bool:
        """Tell whether the log's name still leads to the file that is followed, and it was not emptied."""
        if self._now is None:
            return False
        try:
            status = os.stat(self.path)  # noqa: PTH116 - several times a second
        except OSError:
            return True  # between two files; the old one may still be written to
        same = (status.st_dev, status.st_ino) == (self._now.device, self._now.inode)
        return same and status.st_size >= self._now.offset

    def _open(self, now_ns: int) -> _Generation | None:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            self._is_first = False  # what is there when it appears was added since
            return None
        status = os.fstat(fd)
        opened = _Generation(fd, status.st_dev, status.st_ino)
        known, self._known = self._known, None
        if known is not None and (known.device, known.inode) == (status.st_dev, status.st_ino):
            if known.offset <= status.st_size:
                opened.offset, opened.line = known.offset, known.line
        elif self._is_first and known is None:
            opened.offset = max(0, status.st_size - self._backfill_bytes)
            opened.offset, opened.line = _line_start(fd, opened.offset)
        self._is_first = False
        opened.marks.append((now_ns, opened.offset, opened.line))
        return opened

    def _read(self, log: _Generation, now_ns: int) -> Iterator[bytes]:
        n_left = _MOST_PER_POLL
        begun = False
        while n_left > 0 and (piece := os.pread(log.fd, _PIECE_BYTES, log.offset)):
            if not begun:
                begun = True
                begins_at = log.offset - len(log.carry)
                if log.marks and log.marks[-1][1] == begins_at:
                    log.marks.pop()  # nothing whole had come since
                log.marks.append((now_ns, begins_at, log.line))
            log.offset += len(piece)
            n_left -= len(piece)
            lines = (log.carry + piece).split(b"\n")
            log.carry = lines.pop()
            log.line += len(lines)
            if len(log.carry) > _LONGEST_LINE:
                log.carry = b""
            yield from lines

    def _retire(self, log: _Generation, opened: _Generation) -> None:
        """Keep the file that was the log; one that was emptied in place has nothing left to keep."""
        if (log.device, log.inode) == (opened.device, opened.inode):
            os.close(log.fd)
            return
        self._old.append(log)
        while len(self._old) > _MOST_OLD:
            os.close(self._old.popleft().fd)

    def forget(self, before_ns: int) -> None:
        """Let go of what arrived before a time.

        Parameters
        ----------
        before_ns : int
            [ns] Nobody will ask for older lines.
        """
        while self._old and (not self._old[0].marks or self._old[0].marks[-1][0] < before_ns):
            os.close(self._old.popleft().fd)
        if self._now is not None:
            marks = self._now.marks
            while len(marks) > 1 and marks[1][0] < before_ns:
                marks.popleft()

    def position(self) -> LogPosition | None:
        """Return from where on a later run has to read."""
        log = self._now
        if log is None:
            return None
        _, offset, line = log.marks[0] if log.marks else (0, log.offset - len(log.carry), log.line)
        return LogPosition(log.device, log.inode, offset, line)

    def cut(self, folder: Path, name: str, since_ns: int) -> tuple[str, ...]:
        """Copy what has arrived since a time; lines keep the numbers that they have in the log.

        Parameters
        ----------
        folder : Path
            Where to.
        name : str
            What to call the copy; older files get a number behind it, as rotation does.
        since_ns : int
            [ns] From when on.

        Returns
        -------
        tuple of str
            Names in `folder`, the oldest first.
        """
        logs = [*self._old, *([self._now] if self._now is not None else [])]
        names = []
        for age, log in zip(range(len(logs) - 1, -1, -1), logs, strict=True):
            marks = [mark for mark in log.marks if mark[0] >= since_ns]
            if not marks:
                continue
            _, start, line = marks[0]
            copy = f"{name}.{age}" if age else name
            if _copy(log.fd, start, log.offset, line, folder / copy):
                names.append(copy)
        return tuple(names)

    def close(self) -> None:
        """Close all files."""
        for log in (*self._old, *([self._now] if self._now is not None else [])):
            os.close(log.fd)
        self._old.clear()
        self._now = None


def _line_start(fd: int, offset: int) -> tuple[int, int]:
    """Return where the first line begins at or after a byte, and its number; 1 where counting would take too long."""
    at, n_lines = 0, 0
    if offset > _MOST_COUNTED_BYTES:
        return offset, 1
    while at < offset and (piece := os.pread(fd, min(_PIECE_BYTES, offset - at), at)):
        n_lines += piece.count(b"\n")
        at += len(piece)
    if offset == 0 or os.pread(fd, 1, offset - 1) == b"\n":
        return offset, n_lines + 1
    end = os.pread(fd, _LONGEST_LINE, offset).find(b"\n")
    return (offset, n_lines + 1) if end < 0 else (offset + end + 1, n_lines + 2)


def _copy(fd: int, start: int, stop: int, line: int, to: Path) -> bool:
    """Write bytes of a log behind as many empty lines as stand before them; return whether there were any."""
    if stop - start > _MOST_CUT_BYTES:
        start, line = stop - _MOST_CUT_BYTES, 1
    if stop <= start:
        return False
    handle = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as out:
        if line <= _MOST_NUMBERED:
            out.write(b"\n" * (line - 1))
        while start < stop and (piece := os.pread(fd, min(_PIECE_BYTES, stop - start), start)):
            out.write(piece)
            start += len(piece)
    return True
