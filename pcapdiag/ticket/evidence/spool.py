"""The second reading: the frames of a selection, taken out of the capture files and kept in a private temporary file.

Knows files and frames; not what is done with them. Memory does not grow with the capture: what is kept lies in memory
up to a bound, beyond it in an unlinked file.
"""

from __future__ import annotations

import struct
import tempfile
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from pcapdiag.base.codes import FrameKind, PacketDirection, TcpFlag
from pcapdiag.base.disk import naming
from pcapdiag.base.errors import CaptureError, UsageError
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.engine.capture.sources import STDIN
from pcapdiag.ticket.evidence.selection import WHOLE_FRAMES, endpoints_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from pcapdiag.engine.capture.batch import CaptureInterface, FrameBatch
    from pcapdiag.ticket.evidence.selection import Endpoints, Kept, Selection

_MEMORY_BYTES: Final = 32 << 20
_HEAD: Final = struct.Struct("<qqqiiiiiiiibb")
_CLOSES: Final = int(TcpFlag.SYN | TcpFlag.FIN | TcpFlag.RST)
_NO_INTERFACE: Final = -1


class SpooledFrame(NamedTuple):
    """A frame of the selection, as captured.

    Attributes
    ----------
    frame : int
        0-based in its capture.
    conn : int
        Its connection; -1 if it was asked for by itself.
    source : int
        Number of its file and interface in `Spool.sources`.
    seq : int
        Sequence number of its first payload byte; -1 if it is not TCP.
    payload_at : int
        Where the payload begins in `data`; -1 if it is not there, as in a fragment.
    """

    capture_idx: int
    frame: int
    ts_ns: int
    conn: int
    dir: int
    source: int
    seq: int
    payload_at: int
    payload_len: int
    payload_cap: int
    wire_len: int
    kind: FrameKind
    direction: PacketDirection
    data: bytes


@dataclass(frozen=True, slots=True)
class SpooledInterface:
    """A file and one of its interfaces."""

    path: str
    first_frame: int
    interface: CaptureInterface


class Spool:
    """Frames in capture order, to be read as often as wanted.

    Attributes
    ----------
    sources : list of SpooledInterface
        Files and interfaces in order of their first frame.
    n_frames : int
        How many frames there are.
    n_left_out : int
        Frames of the selected spans that were too many.
    """

    def __init__(self) -> None:
        self.sources: list[SpooledInterface] = []
        self.n_frames = 0
        self.n_left_out = 0
        self._numbers: dict[tuple[int, int, int], int] = {}
        self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES, prefix="pcapdiag-")  # noqa: SIM115 - lives as long as the spool

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def append(self, frame: SpooledFrame) -> None:
        """Add a frame at the end."""
        head = _HEAD.pack(
            frame.frame,
            frame.ts_ns,
            frame.seq,
            frame.capture_idx,
            frame.conn,
            frame.source,
            frame.payload_at,
            frame.payload_len,
            frame.payload_cap,
            frame.wire_len,
            len(frame.data),
            frame.dir << 4 | frame.kind,
            frame.direction,
        )
        with naming(tempfile.gettempdir()):
            self._file.write(head + frame.data)
        self.n_frames += 1

    def __iter__(self) -> Iterator[SpooledFrame]:
        self._file.seek(0)
        for _ in range(self.n_frames):
            frame, ts_ns, seq, capture_idx, conn, source, at, length, cap, wire_len, size, what, way = _HEAD.unpack(
                self._file.read(_HEAD.size)
            )
            data = self._file.read(size)
            yield SpooledFrame(
                capture_idx=capture_idx,
                frame=frame,
                ts_ns=ts_ns,
                conn=conn,
                dir=what >> 4,
                source=source,
                seq=seq,
                payload_at=at,
                payload_len=length,
                payload_cap=cap,
                wire_len=wire_len,
                kind=FrameKind(what & 15),
                direction=PacketDirection(way),
                data=data,
            )

    def source_of(self, capture_idx: int, file_idx: int, file: CaptureFile, frame: int, interface: int) -> int:
        """Return the number of a frame's file and interface, a new one if it is the first frame of it."""
        described = _describing(file, frame, interface)
        key = (capture_idx, file_idx, described)
        if key not in self._numbers:
            self._numbers[key] = len(self.sources)
            known = file.interfaces[described] if described >= 0 else None
            self.sources.append(SpooledInterface(file.path, file.first_frame, known or _unknown(interface)))
        return self._numbers[key]


def _describing(file: CaptureFile, frame: int, interface: int) -> int:
    """Return the place of the description that holds for a frame: the last one of its interface before it."""
    place = bisect_right(file.interfaces, frame, key=lambda i: i.first_frame) - 1
    while place >= 0 and file.interfaces[place].number != interface:
        place -= 1
    return place if place >= 0 else _NO_INTERFACE


def _unknown(interface: int) -> CaptureInterface:
    from pcapdiag.engine.capture.batch import CaptureInterface  # noqa: PLC0415 - needed for damaged files only

    return CaptureInterface(0, interface, 0, 0, b"", 9)


def reject_pipes(captures: Sequence[Capture]) -> None:
    """Raise `UsageError` if a capture can be read only once.

    Parameters
    ----------
    captures : sequence of Capture
        What the evidence is to be taken from.

    Raises
    ------
    UsageError
        One of them is standard input or a pipe.
    """
    for file in (f for c in captures for f in c.files):
        if file.path == STDIN or file.size < 0:
            what = "standard input" if file.path == STDIN else f"{file.path} is a pipe and"
            msg = f"{what} cannot be read twice, as the evidence needs it: write the capture to a file and name that"
            raise UsageError(msg)


def spool_frames(
    captures: Sequence[Capture],
    selection: Selection,
    on_progress: Callable[[int, int, int], None] | None = None,
) -> Spool:
    """Read the captures again and keep the frames of a selection.

    Parameters
    ----------
    captures : sequence of Capture
        As they were analysed.
    selection : Selection
        What to keep.
    on_progress : callable, optional
        Called with bytes done, bytes in total (-1 if unknown) and frames.

    Returns
    -------
    Spool

    Raises
    ------
    CaptureError
        A file cannot be read, or is not what it was when it was analysed.
    """
    spool = Spool()
    try:
        for capture_idx, capture in enumerate(captures):
            _Collector(capture_idx, capture, selection, spool).collect(on_progress)
    except BaseException:
        spool.close()
        raise
    return spool


def read_endpoints(
    captures: Sequence[Capture], frames: Collection[tuple[int, int]]
) -> dict[tuple[int, int], tuple[Endpoints, Endpoints]]:
    """Return the endpoints of frames, in both orders.

    Parameters
    ----------
    captures : sequence of Capture
        As they were analysed.
    frames : collection of (int, int)
        Capture and 0-based frame.

    Returns
    -------
    dict
        Without the frames that are not TCP.
    """
    found = {}
    for capture_idx in sorted({capture_idx for capture_idx, _ in frames}):
        wanted = np.array(sorted(f for c, f in frames if c == capture_idx), dtype=np.int64)
        for batch in read_batches(Capture([CaptureFile(f.path) for f in captures[capture_idx].files])):
            rows = batch.frames
            for row in rows[np.isin(rows["frame"], wanted) & (rows["kind"] == FrameKind.TCP)]:
                found[capture_idx, int(row["frame"])] = _row_endpoints(row), _row_endpoints(row, swapped=True)
            if len(rows) and rows["frame"][-1] >= wanted[-1]:
                break
    return found


class _Collector:
    """Takes the wanted frames out of one capture."""

    def __init__(self, capture_idx: int, capture: Capture, selection: Selection, spool: Spool) -> None:
        self._capture_idx = capture_idx
        self._files = [CaptureFile(f.path) for f in capture.files]
        self._analysed = capture.files
        self._spool = spool
        self._by_endpoints: dict[Endpoints, list[tuple[int, Kept]]] = {}
        self._n_kept: dict[int, int] = {}
        self._single = np.array(sorted(f for c, f in selection.frames if c == capture_idx), dtype=np.int64)
        self._key_frames = {f for c, f in selection.comments if c == capture_idx}
        for conn, kept in selection.connections.items():
            if int(kept.row["capture_idx"]) == capture_idx:
                self._by_endpoints.setdefault(endpoints_of(kept.row), []).append((conn, kept))
        self._hashes = np.unique(np.array([_hash_of(*e) for e in self._by_endpoints], dtype=np.uint64))
        ends = [end for group in self._by_endpoints.values() for _, kept in group for _, end in kept.spans]
        self._last = max([*ends, *self._single.tolist()], default=-1)

    def collect(self, on_progress: Callable[[int, int, int], None] | None) -> None:
        """Read up to the last wanted frame."""
        if self._last < 0:
            return
        total = sum(f.size for f in self._analysed) if all(f.size >= 0 for f in self._analysed) else -1
        for batch in read_batches(Capture(self._files)):
            if len(batch.frames):
                self._take(batch)
                if on_progress is not None:
                    on_progress(batch.bytes_read, total, int(batch.frames["frame"][-1]) + 1)
                if batch.frames["frame"][-1] >= self._last:
                    return
        msg = f"{self._files[0].path} ends earlier than when it was analysed; let nobody write to it and try again"
        raise CaptureError(msg)

    def _take(self, batch: FrameBatch) -> None:
        rows = batch.frames
        is_wanted = (rows["kind"] == FrameKind.TCP) & np.isin(_hash(rows), self._hashes)
        is_single = np.isin(rows["frame"], self._single)
        for index in np.flatnonzero(is_wanted | is_single):
            row = rows[index]
            found = self._connection_of(row) if is_wanted[index] else None
            if found is not None or is_single[index]:
                self._spool.append(self._spooled(batch.buffer, row, found))

    def _connection_of(self, row: Any) -> tuple[int, int] | None:
        """Return connection and direction of a wanted frame; None if it is not wanted."""
        frame = int(row["frame"])
        for endpoints, direction in ((_row_endpoints(row), 0), (_row_endpoints(row, swapped=True), 1)):
            for conn, kept in self._by_endpoints.get(endpoints, ()):
                if any(start <= frame <= end for start, end in kept.spans):
                    return (conn, direction) if self._has_room(conn, row) else None
        return None

    def _has_room(self, conn: int, row: Any) -> bool:
        """Bound what is kept of one connection: beyond it, only its key frames and what opens or closes it."""
        n_kept = self._n_kept[conn] = self._n_kept.get(conn, 0) + 1
        if n_kept <= 2 * WHOLE_FRAMES or int(row["flags"]) & _CLOSES or int(row["frame"]) in self._key_frames:
            return True
        self._spool.n_left_out += 1
        return False

    def _spooled(self, buffer: NDArray[np.uint8], row: Any, found: tuple[int, int] | None) -> SpooledFrame:
        frame, start, cap_len = int(row["frame"]), int(row["record_offset"]), int(row["cap_len"])
        file_idx = bisect_right(self._analysed, frame, key=lambda f: f.first_frame) - 1
        at = int(row["payload_offset"]) - start
        is_tcp = int(row["kind"]) == FrameKind.TCP
        is_here = is_tcp and 0 <= at <= cap_len
        syn = bool(int(row["flags"]) & TcpFlag.SYN)
        return SpooledFrame(
            capture_idx=self._capture_idx,
            frame=frame,
            ts_ns=int(row["ts_ns"]),
            conn=found[0] if found else -1,
            dir=found[1] if found else 0,
            source=self._spool.source_of(
                self._capture_idx, file_idx, self._files[file_idx], frame, int(row["interface"])
            ),
            seq=(int(row["seq"]) + syn) & 0xFFFFFFFF if is_tcp else -1,
            payload_at=at if is_here else -1,
            payload_len=int(row["payload_len"]),
            payload_cap=int(row["payload_cap"]) if is_tcp else 0,
            wire_len=int(row["wire_len"]),
            kind=FrameKind(int(row["kind"])),
            direction=PacketDirection(int(row["packet_direction"])),
            data=buffer[start : start + cap_len].tobytes(),
        )


def _row_endpoints(row: Any, *, swapped: bool = False) -> Endpoints:
    sides = ("dst", "src") if swapped else ("src", "dst")
    a, b, c, d, e, f = (int(row[f"{side}_{part}"]) for side in sides for part in ("hi", "lo", "port"))
    return a, b, c, d, e, f


def _hash(rows: np.ndarray[Any, Any]) -> NDArray[np.uint64]:
    """Return a number per frame that both directions of a connection share; others may, too."""
    return _mix(rows["src_hi"], rows["src_lo"], rows["src_port"]) + _mix(
        rows["dst_hi"], rows["dst_lo"], rows["dst_port"]
    )


def _mix(hi: NDArray[Any], lo: NDArray[Any], port: NDArray[Any]) -> NDArray[np.uint64]:
    mixed = (hi * np.uint64(0x9E3779B97F4A7C15)) ^ (lo * np.uint64(0xC2B2AE3D27D4EB4F))
    mixed = (mixed ^ port.astype(np.uint64)) * np.uint64(0xFF51AFD7ED558CCD)
    return mixed ^ (mixed >> np.uint64(29))


def _hash_of(*endpoints: int) -> int:
    a = [np.array([value], dtype=np.uint64) for value in endpoints]
    return int((_mix(*a[:3]) + _mix(*a[3:]))[0])
