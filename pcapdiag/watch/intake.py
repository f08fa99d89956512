"""The thread that takes the recording in: it reads, writes the ring and looks for failures, and nothing else.

Whatever takes longer than that happens elsewhere, so that the pipe never waits for it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import CaptureError
from pcapdiag.engine.capture.batch import Capture, CaptureFile, FrameBatch
from pcapdiag.engine.capture.reader import read_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pcapdiag.base.findings import Note
    from pcapdiag.watch.detect import Detector
    from pcapdiag.watch.feed import FolderFeed, PipeFeed, Stream
    from pcapdiag.watch.model import Failure, SourceFile
    from pcapdiag.watch.ring import Ring

_LIVE_NS: Final = 3_600_000_000_000
"""What was captured so long ago is no live capture, and not behind it."""
_SHOWN_NOTES: Final = frozenset({"read-error", "skipped-bytes", "corrupt-compression", "interface-drops"})


class Intake:
    """The thread and what it tells.

    Parameters
    ----------
    feed : PipeFeed or FolderFeed
        Where the recording comes from.
    ring : Ring
        Where it goes.
    detector : Detector
        What looks at it.
    say : callable
        Called with remarks, by the thread.
    """

    def __init__(self, feed: PipeFeed | FolderFeed, ring: Ring, detector: Detector, say: Callable[[str], None]) -> None:
        self._feed = feed
        self._ring = ring
        self._detector = detector
        self._say = say
        self._engine = threading.Lock()
        self._books = threading.Lock()
        self._failures: SimpleQueue[Failure] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="pcapdiag-intake", daemon=True)
        self._clock = (0, 0.0)
        self._is_unlooked = False
        self.error: BaseException | None = None
        self.behind_ns = 0
        self.n_frames = 0

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to read."""
        return not self._thread.is_alive()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it came."""
        self._thread.join(timeout_s)
        return self.has_ended

    @property
    def latest_ns(self) -> int:
        """[ns] Time of the newest frame; 0 before the first one."""
        return self._clock[0]

    @property
    def now_ns(self) -> int:
        """[ns] The capture's clock, which goes on where the capture is quiet; that of the machine before any frame."""
        latest_ns, seen_at = self._clock
        return time.time_ns() if not latest_ns else latest_ns + int((time.monotonic() - seen_at) * 1e9)

    def books(self) -> tuple[list[SourceFile], tuple[int, int]]:
        """Return what was read of each file and how far the ring was written, at one and the same moment."""
        with self._books:
            return [replace(source) for source in self._feed.sources], self._ring.mark()

    def failures(self) -> Iterator[Failure]:
        """Yield what has failed since the last call."""
        if self._is_unlooked:
            with self._engine:
                self._is_unlooked = False
                late = self._detector.look()
            yield from late
        while True:
            try:
                yield self._failures.get_nowait()
            except Empty:
                return

    def _run(self) -> None:
        try:
            for stream in self._feed.streams():
                self._read(stream)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the recorder waits
            self.error = error

    def _read(self, stream: Stream) -> None:
        capture = Capture([CaptureFile(stream.path)])
        n_read = n_noted = 0
        try:
            for batch in read_batches(capture):
                n_before, n_read = n_read, n_read + len(batch.frames)
                n_skip = min(max(stream.n_skip - n_before, 0), len(batch.frames))
                if n_skip < len(batch.frames):
                    self._take(FrameBatch(batch.buffer, batch.frames[n_skip:], batch.bytes_read), stream, n_read)
                self._tell(capture.notes[n_noted:], stream)
                n_noted = len(capture.notes)
        except CaptureError:
            if stream.source is None:
                raise
            self._say(f"{stream.name} is no capture and is passed over")
        self._tell(capture.notes[n_noted:], stream)

    def _take(self, batch: FrameBatch, stream: Stream, n_read: int) -> None:
        with self._books:
            self._ring.write(batch)
            if stream.source is not None:
                stream.source.n_frames = n_read
        with self._engine:
            found = self._detector.update(batch)
            self._is_unlooked = True
        self.n_frames += len(batch.frames)
        latest_ns = self._detector.latest_ns
        behind_ns = time.time_ns() - latest_ns
        self.behind_ns = behind_ns if 0 < behind_ns < _LIVE_NS else 0
        self._clock = (latest_ns, time.monotonic())
        for failure in found:
            self._failures.put(failure)

    def _tell(self, notes: list[Note], stream: Stream) -> None:
        for note in notes:
            if note.code in _SHOWN_NOTES:
                self._say(f"{stream.name}: {note.text}")
