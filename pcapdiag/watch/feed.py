"""Where the recording comes from: standard input, or the files that a running capture writes into a folder.

A file of a folder is handed on through a pipe while it grows, so that the reader gets its frames as soon as they are
written; the pipe ends when the capture has moved on to the next file. Files are known by how they begin, not by their
name: a rotation renames, compresses, deletes and overwrites them.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import math
import os
import stat
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import CaptureError, UsageError
from pcapdiag.engine.capture.series import is_capture_name, series_key
from pcapdiag.engine.capture.sniff import container_of
from pcapdiag.engine.capture.sources import STDIN, open_source
from pcapdiag.watch.model import SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.watch.state import State

_HEAD_BYTES: Final = 1024
_LEAST_HEAD_BYTES: Final = 64
"""[bytes] A pcap header, the header of its first record and some of it: the time of a first frame tells files apart."""
_PIECE_BYTES: Final = 1 << 18
_POLL_S: Final = 0.1
_QUIET_S: Final = 0.5
_REST: Final = 4
"""How much longer than a look at the folder the time between two looks is."""
_MOST_REMEMBERED: Final = 100_000
_MOST_SOURCES: Final = 500
"""Each is written to the disk every second."""

_Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stream:
    """Something to be read to its end, once.

    Attributes
    ----------
    path : str
        What to open.
    name : str
        What people call it.
    n_skip : int
        Frames at its beginning that were read before.
    source : SourceFile or None
        The file's record, of which the reader keeps `n_frames` true; None for standard input.
    """

    path: str
    name: str
    n_skip: int = 0
    source: SourceFile | None = None


class PipeFeed:
    """Standard input: one stream, as long as its writer lives."""

    unwatched: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.sources: list[SourceFile] = []

    def streams(self) -> Iterator[Stream]:
        """Yield the one stream."""
        yield Stream(STDIN, "standard input")

    def stop(self) -> None:
        """Nothing to stop: the writer ends the stream."""


class FolderFeed:
    """The files of one rotation series, in the order in which they were begun, the newest followed while it grows.

    Parameters
    ----------
    place : str
        A folder or a glob.
    state : State
        What an earlier run has read, and of which series.

    Raises
    ------
    UsageError
        The folder does not exist, or holds more than one series.
    """

    def __init__(self, place: str, state: State) -> None:
        self._place = place
        self._state = state
        self.sources = state.sources
        self.unwatched: tuple[str, ...] = ()
        """Files that look like captures, and are of another series than the one that is followed."""
        self._stopped = threading.Event()
        self._passed: dict[_Key, _Key] = {}
        self._begun: dict[_Key, tuple[_Key, float]] = {}
        if not glob.has_magic(place) and not Path(place).is_dir():
            msg = f"{place} is no folder; give - for standard input, a folder, or a glob in quotes"
            raise UsageError(msg)
        series = {_series(path) for path in self._named()}
        if len(series) > 1 and state.series not in series:
            examples = " and ".join(sorted(repr(Path(name).name) for name in series)[:2])
            msg = (
                f"{place} holds more than one series of captures ({examples}), and a recorder follows one: name it by "
                "a glob in quotes and start a recorder with an --out of its own for each, or capture with -i any"
            )
            raise UsageError(msg)

    def stop(self) -> None:
        """End the stream that is read, after what is there."""
        self._stopped.set()

    def streams(self) -> Iterator[Stream]:
        """Yield each file as a stream; waits for new files until `stop`."""
        while not self._stopped.is_set():
            begun = time.monotonic()
            following = self._next()
            if following is None:
                self._stopped.wait(max(_POLL_S, _REST * (time.monotonic() - begun)))
            else:
                yield from self._follow(*following)

    def _candidates(self) -> list[str]:
        """Return the files of the series that is followed; the first file decides which that is."""
        by_series: dict[str, list[str]] = {}
        for path in self._named():
            by_series.setdefault(_series(path), []).append(path)
        if self._state.series not in by_series:
            self._state.series = min(by_series, default=self._state.series)
        own = by_series.pop(self._state.series, [])
        self.unwatched = tuple(path for paths in by_series.values() for path in paths)
        return own

    def _named(self) -> list[str]:
        """Return files that look like captures by their name."""
        pattern = self._place if glob.has_magic(self._place) else str(Path(glob.escape(self._place)) / "*")
        found = glob.glob(pattern)  # noqa: PTH207 - as the shell has it
        by_name = glob.has_magic(self._place)
        return [path for path in found if (by_name or is_capture_name(Path(path).name)) and _is_file(path)]

    def _next(self) -> tuple[str, int] | None:
        """Return the oldest file that was not read yet, and when it begins; None if there is none."""
        while True:
            unread = [one for path in self._candidates() if (one := self._look_at(path)) is not None]
            if not unread:
                return None
            first, _, path, key, version = min(unread)
            with contextlib.suppress(OSError, CaptureError):  # gone meanwhile: the next look tells
                source = self._known(path)
                if source is None or not source.is_done:
                    return path, -1 if first == math.inf else int(first)
                self._pass(key, version)  # read meanwhile, under another name

    def _look_at(self, path: str) -> tuple[float, int, str, _Key, _Key] | None:
        """Return what orders files that were not read yet; None if there is nothing to read in this one."""
        try:
            status = Path(path).stat()
            key, version = (status.st_dev, status.st_ino), (status.st_size, status.st_mtime_ns)
            if self._passed.get(key) == version or status.st_size < _LEAST_HEAD_BYTES:
                return None
            begun = self._begun.get(key)
            if begun is None or begun[0] != version:
                source = self._known(path)
                first_ns = -1 if source is not None and source.is_done else _first_ns(path)
                is_read = source is None and first_ns is not None and 0 <= first_ns <= self._state.read_until_ns
                if first_ns is None or is_read or (source is not None and source.is_done):
                    self._pass(key, version)
                    return None
                if len(self._begun) > _MOST_REMEMBERED:
                    self._begun.clear()
                begun = self._begun[key] = version, first_ns if first_ns >= 0 else math.inf
        except (OSError, CaptureError):
            return None  # gone meanwhile, or not to be read: looked at again
        return begun[1], status.st_mtime_ns, path, key, version

    def _pass(self, key: _Key, version: _Key) -> None:
        """Remember that a file needs no look until it changes; files that are gone are forgotten now and then."""
        if len(self._passed) > _MOST_REMEMBERED:
            self._passed.clear()
        self._passed[key] = version

    def _known(self, path: str) -> SourceFile | None:
        """Return the record of a file that begins like this one."""
        head = _head(path)
        for source in reversed(self.sources):
            if source.head_bytes <= len(head) and source.head == _digest(head[: source.head_bytes]):
                return source
        return None

    def _follow(self, path: str, first_ns: int) -> Iterator[Stream]:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # renamed or deleted meanwhile; under its new name it is found again
        source = self._known(path)
        if source is None:
            head = _head(path)
            source = SourceFile(_digest(head), len(head), first_ns=first_ns)
            self._add(source)
        reading, writing = os.pipe()
        pump = threading.Thread(target=self._pump, args=(file, writing), name="pcapdiag-follow", daemon=True)
        try:
            pump.start()
            yield Stream(f"/dev/fd/{reading}", path, source.n_frames, source)
        finally:
            os.close(reading)
            pump.join()
        source.is_done = not self._stopped.is_set()

    def _add(self, source: SourceFile) -> None:
        """Know one more file; of too many the oldest are known by their time."""
        sources = [*self.sources, source]
        dropped = sources[:-_MOST_SOURCES]
        self._state.read_until_ns = max([self._state.read_until_ns, *(old.first_ns for old in dropped)])
        self.sources = sources[-_MOST_SOURCES:]  # another list: the one before may just be read

    def _pump(self, file: int, writing: int) -> None:
        """Copy a file into a pipe until the capture has moved on; the body of a thread."""
        quiet_since = time.monotonic()
        n_copied = 0
        look_at = 0.0
        try:
            while True:
                piece = os.read(file, _PIECE_BYTES)
                if piece:
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[os.write(writing, rest) :]
                    n_copied += len(piece)
                    quiet_since = time.monotonic()
                    continue
                if self._stopped.is_set() or os.fstat(file).st_size < n_copied:
                    return
                # Of what was there before, the file says itself how long it has been quiet.
                quiet_s = max(time.monotonic() - quiet_since, time.time() - os.fstat(file).st_mtime)
                begun = time.monotonic()
                if quiet_s >= _QUIET_S and begun >= look_at:
                    if self._has_newer(file):
                        return
                    look_at = begun + _REST * (time.monotonic() - begun)
                self._stopped.wait(_POLL_S)
        except BrokenPipeError:
            return  # the reader had enough: what it got was no capture
        finally:
            os.close(file)
            os.close(writing)

    def _has_newer(self, file: int) -> bool:
        """Tell whether there is another file to read: the oldest comes first, so it is a newer one."""
        status = os.fstat(file)
        own = (status.st_dev, status.st_ino)
        unread = (self._look_at(path) for path in self._candidates())
        return any(one is not None and one[3] != own for one in unread)


@lru_cache(maxsize=_MOST_REMEMBERED)
def _series(path: str) -> str:
    """Return the folder and what names of one series have in common; a date or number at their end makes no other."""
    folder, _, name = path.rpartition("/")
    stem, _, suffix = series_key(name).rpartition(".")
    return f"{folder}/{stem.rstrip('#-_.') or stem}.{suffix}"


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - many files, often
    except OSError:
        return False


def _head(path: str) -> bytes:
    with open_source(path) as source:
        buffer = bytearray(_HEAD_BYTES)
        return bytes(buffer[: source.fill(memoryview(buffer))])


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()[:32]


def _first_ns(path: str) -> int | None:
    """Return when a capture begins; None if the file is none, -1 if it has no frame yet."""
    from pcapdiag.engine.capture.batch import Capture, CaptureFile  # noqa: PLC0415 - loads the kernels
    from pcapdiag.engine.capture.reader import read_batches  # noqa: PLC0415 - the same

    if not container_of(_head(path)):
        return None
    file = CaptureFile(path)
    for _ in read_batches(Capture([file]), decode=False, block_bytes=_PIECE_BYTES):
        break
    return file.first_ts_ns
