"""Reads a capture in a thread of its own and hands batches of frames to the consumer, which works meanwhile.

Knows buffers, threads and the order of the stages (read, walk the records, decode); the stages themselves lie in
`sources`, `walker`, `kernels.decode` and `slowpath`. A fixed number of buffers and row arrays goes round, so memory
does not depend on the size of the capture.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.columns import FRAMES
from pcapdiag.base.findings import Note
from pcapdiag.engine.capture.batch import FrameBatch
from pcapdiag.engine.capture.digest import BlockDigest, start_digest
from pcapdiag.engine.capture.kernels.containers import END, FULL
from pcapdiag.engine.capture.notes import NoteBook
from pcapdiag.engine.capture.sources import Source, open_source
from pcapdiag.engine.capture.walker import Walker

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcapdiag.engine.capture.batch import Capture

BLOCK_BYTES: Final = 4 << 20
"""[bytes] Four such blocks fit into a usual third-level cache: measured twice as fast as blocks of 16 MiB."""

BATCH_FRAMES: Final = 65_536
SLACK_BYTES: Final = 1 << 20
"""[bytes] Room behind a block's bytes, for datagrams put together from fragments."""

_N_BUFFERS: Final = 4  # one is read into, one walked and hashed, one worked on, one waits
_HEADROOM_BYTES: Final = 1 << 18  # the part of a record that a block leaves to the next one is seldom longer
_Progress = Callable[[int, int], None]


class _Stopped(Exception):  # noqa: N818 - no error: the consumer has gone
    """The consumer wants no more batches."""


@dataclass(slots=True)
class _Block:
    """A buffer that goes round; it returns to the producer when every batch that points into it is done with."""

    buffer: NDArray[np.uint8]
    n_users: int = 0


@dataclass(slots=True)
class _Message:
    """What the producer hands over: a batch, or notes alone, or the end (perhaps with an error)."""

    batch: FrameBatch | None = None
    rows: np.ndarray[Any, Any] | None = None
    block: _Block | None = None
    notes: list[Note] = field(default_factory=list)
    error: BaseException | None = None
    is_last: bool = False


def read_batches(
    capture: Capture,
    *,
    decode: bool = True,
    with_digest: bool = False,
    block_bytes: int = BLOCK_BYTES,
    follow_s: float = 0.0,
    on_progress: _Progress | None = None,
) -> Iterator[FrameBatch]:
    """Yield the frames of all files of `capture`, in order.

    While this runs, the entries of `capture.files` and `capture.notes` are filled in; they are complete when the
    iterator is exhausted. Closing the iterator early stops the reading thread.

    Parameters
    ----------
    capture : Capture
        What to read.
    decode : bool
        Fill all columns; without, only those that the container knows (frame, ts_ns, record_offset, cap_len,
        wire_len, link_type, interface, packet_direction) hold values.
    with_digest : bool
        Compute the SHA-256 of every file as stored, in `capture.files`; of a growing one, of what was read.
    block_bytes : int
        [bytes] How much to read at a time; it never changes the result.
    follow_s : float
        [s] Wait for a growing file until nothing was added for so long; 0 reads what is there.
    on_progress : callable, optional
        Called with the bytes read so far (as stored, so compressed where compressed) and their total, -1 if unknown.

    Yields
    ------
    FrameBatch
        At most 65,536 frames; valid until the next batch is asked for.

    Raises
    ------
    CaptureError
        A file cannot be opened, or is not a capture.
    """
    producer = _Producer(capture, decode=decode, with_digest=with_digest, block_bytes=block_bytes, follow_s=follow_s)
    thread = threading.Thread(target=producer.run, name="pcapdiag-reader", daemon=True)
    thread.start()
    sizes = [file.size for file in capture.files]
    try:
        while True:
            message = producer.output.get()
            capture.notes.extend(message.notes)
            if message.error is not None:
                raise message.error
            if message.batch is not None:
                if on_progress is not None:
                    if min(sizes, default=-1) < 0:
                        sizes = [file.size for file in capture.files]
                    on_progress(message.batch.bytes_read, sum(sizes) if min(sizes, default=-1) >= 0 else -1)
                yield message.batch
                producer.give_back(message)
            if message.is_last:
                return
    finally:
        producer.stop()
        thread.join()


class _Decoder:
    """Fills the columns that lie behind the container: the kernels first, then the slow path for what they left."""

    def __init__(self) -> None:
        from pcapdiag.engine.capture.kernels.decode import decode_frames  # noqa: PLC0415
        from pcapdiag.engine.capture.slowpath import SlowPath  # noqa: PLC0415 - looking at containers alone needs neither

        self._decode_frames = decode_frames
        self._slow_path = SlowPath()

    def decode(self, buffer: NDArray[np.uint8], used: int, frames: np.ndarray[Any, Any], notes: NoteBook) -> int:
        """Finish `frames` and return where the buffer's free room begins now."""
        if self._decode_frames(buffer, frames, 0, len(frames)):
            used = self._slow_path.finish(buffer, used, frames, notes)
        return used

    def close(self, notes: NoteBook) -> None:
        """Say what was still open at the end of the capture."""
        self._slow_path.close(notes)


class _Producer:
    """The reading thread and the queues around it."""

    def __init__(self, capture: Capture, *, decode: bool, with_digest: bool, block_bytes: int, follow_s: float) -> None:
        self.output: SimpleQueue[_Message] = SimpleQueue()
        self._capture = capture
        self._decode = decode
        self._with_digest = with_digest
        self._digest: BlockDigest | None = None
        self._block_bytes = max(1, block_bytes)
        self._follow_s = follow_s
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        # None wakes a producer that waits for something to come back and tells it to stop.
        self._blocks: SimpleQueue[_Block | None] = SimpleQueue()
        self._rows: SimpleQueue[np.ndarray[Any, Any] | None] = SimpleQueue()
        for _ in range(_N_BUFFERS):
            self._blocks.put(_Block(np.empty(0, dtype=np.uint8)))
            self._rows.put(FRAMES.empty(0))
        self._notes = NoteBook()
        self._walker = Walker(self._notes)
        self._bytes_before = 0
        self._source: Source | None = None

    def stop(self) -> None:
        """Make the thread end soon, whatever it waits for."""
        self._stopped.set()
        self._blocks.put(None)
        self._rows.put(None)

    def give_back(self, message: _Message) -> None:
        """Let the buffer and the rows of a batch go round again."""
        if message.rows is not None:
            self._rows.put(message.rows)
        if message.block is not None:
            self._release(message.block)

    def _release(self, block: _Block) -> None:
        with self._lock:
            block.n_users -= 1
            is_free = block.n_users == 0
        if is_free:
            self._blocks.put(block)

    def run(self) -> None:
        """Read everything; the body of the thread."""
        try:
            self._read_capture()
        except _Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - it is raised again where the batches are consumed
            self.output.put(_Message(notes=self._notes.take_rest(), error=error, is_last=True))
            return
        self.output.put(_Message(notes=self._notes.take_rest(), is_last=True))

    def _read_capture(self) -> None:
        decoder = _Decoder() if self._decode else None
        for i, file in enumerate(self._capture.files):
            is_last = i == len(self._capture.files) - 1
            follow_s = self._follow_s if is_last else 0.0
            hashed = self._with_digest
            with open_source(file.path, follow_s=follow_s, stopped=self._stopped, is_hashed=hashed) as source:
                self._source = source
                file.size = source.size
                self._walker.begin_file(file, source.compression)
                file.sha256 = self._read_and_hash(source, decoder)
                file.n_bytes = source.n_bytes
                if source.compression:
                    file.format += f"+{source.compression}"
                self._bytes_before += source.bytes_read
        if decoder is not None:
            decoder.close(self._notes)
        if not any(file.n_frames for file in self._capture.files):
            self._notes.append(Note("no-frames", "the capture holds no frame", file=self._capture.files[0].path))

    def _read_and_hash(self, source: Source, decoder: _Decoder | None) -> str:
        """Read one file and return its digest, empty if none is wanted.

        A pipe and a remote file are hashed where they are read; a compressed one as a whole, because unpacking may end
        before the file does; any other from the blocks that are read anyway.
        """
        if not self._with_digest or source.is_hashed:
            self._read_file(source, decoder)
            return source.sha256 if self._with_digest else ""
        if source.compression:
            whole = start_digest([source.path])
            try:
                self._read_file(source, decoder)
                return whole.result()[source.path].sha256
            finally:
                whole.cancel()
        self._digest = BlockDigest()
        try:
            self._read_file(source, decoder)
        finally:
            digest = self._digest.finish()
            self._digest = None
        return digest

    def _take_block(self, n_bytes: int) -> _Block:
        block = self._blocks.get()
        if block is None or self._stopped.is_set():
            raise _Stopped
        if len(block.buffer) < n_bytes:
            block.buffer = np.empty(n_bytes + _HEADROOM_BYTES, dtype=np.uint8)
        block.n_users = 1
        return block

    def _take_rows(self) -> np.ndarray[Any, Any]:
        rows = self._rows.get()
        if rows is None or self._stopped.is_set():
            raise _Stopped
        return rows if len(rows) else FRAMES.empty(BATCH_FRAMES)

    def _read_file(self, source: Source, decoder: _Decoder | None) -> None:
        walker = self._walker
        old: _Block | None = None
        stop = 0
        at_end = False
        while not at_end:
            # What the last block left over moves to the front of the next one.
            keep_from = walker.position
            n_kept = stop - keep_from
            block = self._take_block(n_kept + self._block_bytes + SLACK_BYTES)
            if old is not None:
                block.buffer[:n_kept] = old.buffer[keep_from:stop]
                walker.shift(keep_from)
                self._release(old)
            old = block
            n_read = source.fill(block.buffer.data[n_kept : n_kept + self._block_bytes])
            at_end = source.at_end
            stop = n_kept + n_read
            if self._digest is not None and n_read:
                with self._lock:
                    block.n_users += 1
                self._digest.add(block.buffer.data[n_kept:stop], partial(self._release, block))
            self._walk_block(source, block, stop, decoder, at_end=at_end)
        if old is not None:
            self._release(old)

    def _walk_block(self, source: Source, block: _Block, stop: int, decoder: _Decoder | None, *, at_end: bool) -> None:
        used = stop
        status = FULL
        while status == FULL:
            rows = self._take_rows()
            status = self._walker.walk(block.buffer, stop, rows, at_end=at_end, eager=source.is_live)
            n_rows = self._walker.n_rows
            if status == END:
                for note in source.notes():
                    self._notes.append(note)
            if n_rows == 0:
                self._rows.put(rows)
                continue
            frames = rows[:n_rows]
            if decoder is not None:
                used = decoder.decode(block.buffer, used, frames, self._notes)
            with self._lock:
                block.n_users += 1
            batch = FrameBatch(block.buffer[:used], frames, self._bytes_before + source.bytes_read)
            self.output.put(_Message(batch, rows, block, self._notes.take()))
