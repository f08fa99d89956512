"""What the decoding kernels leave open: rare link types and fragments.

Works on rows that `decode_frames` has filled: it rewrites copies of them so that the kernel can go on, behind the rare
link header or in the reassembled datagram, and copies the results back. It reads no header itself.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.capture.fragments import Reassembler, parse_fragment
from pcapdiag.capture.link_headers import MAX_HEADER_BYTES, NOT_IP, find_inner
from pcapdiag.capture.link_types import describe_link_type
from pcapdiag.codes import FrameKind, PacketDirection, UndecodedReason
from pcapdiag.findings import Note
from pcapdiag.kernels.decode import decode_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RAW: Final = 101
_MAX_ROUNDS: Final = 4
"""Rare headers inside rare headers (PPI around radiotap), fragments of tunnels around fragments."""

_AS_ON_DISK: Final = ("record_offset", "cap_len", "wire_len", "link_type")

Rows = np.ndarray[Any, Any]


class SlowPath:
    """Finishes rows that the kernel could not; keeps fragments from batch to batch."""

    def __init__(self) -> None:
        self._reassembler = Reassembler()
        self._counts: dict[tuple[str, str], int] = {}
        self._notes: dict[tuple[str, str], Note] = {}

    def finish(self, buffer: NDArray[np.uint8], used_bytes: int, frames: Rows, notes: list[Note]) -> int:
        """Finish the rows of one batch, after `decode_frames` has seen them all.

        A frame that completes a fragmented datagram becomes the row of that datagram, except for ``record_offset,
        cap_len, wire_len, link_type``, which stay as they were on disk. Its ``payload_offset`` points to the copy that
        is written behind `used_bytes`. Every other fragment stays FRAGMENT.

        Parameters
        ----------
        buffer : ndarray of uint8, shape (n_byte,)
            Captured bytes, and room for reassembled datagrams behind them; writable.
        used_bytes : int
            [bytes] Where that room starts.
        frames : ndarray of columns.FRAMES.dtype, shape (n_frame,)
            Rows of the batch in capture order, changed in place.
        notes : list of Note
            Notes are appended, one per kind of trouble and link type; later calls bring its count up to date.

        Returns
        -------
        int
            [bytes] Where the room that is left starts.
        """
        self._finish_links(buffer, frames, notes)
        for index in np.flatnonzero(frames["kind"] == FrameKind.FRAGMENT):
            used_bytes = self._finish_fragment(buffer, used_bytes, frames[index : index + 1], notes)
        if self._reassembler.n_given_up > self._counts.get(("fragments-incomplete", ""), 0):
            new = self._reassembler.n_given_up - self._counts.get(("fragments-incomplete", ""), 0)
            self._count(notes, "fragments-incomplete", "{} fragmented IP datagrams never completed", n_new=new)
        return used_bytes

    def close(self, notes: list[Note]) -> None:
        """Note the datagrams that the end of the capture leaves incomplete.

        Parameters
        ----------
        notes : list of Note
            As given to `finish`.
        """
        if self._reassembler:
            text = "{} fragmented IP datagrams never completed"
            self._count(notes, "fragments-incomplete", text, n_new=len(self._reassembler))

    def _finish_links(self, buffer: NDArray[np.uint8], frames: Rows, notes: list[Note]) -> None:
        index = np.flatnonzero(frames["undecoded_reason"] == UndecodedReason.PENDING)
        if not len(index):
            return
        rows = frames[index]
        pending = np.arange(len(rows))
        for _ in range(_MAX_ROUNDS):
            pending = np.array([i for i in pending if _enter_link(buffer, rows[i])], dtype=np.int64)
            entered = rows[pending]
            directions = entered["packet_direction"].copy()
            decode_frames(buffer, entered, 0, len(entered))
            unsaid = entered["packet_direction"] == PacketDirection.UNKNOWN
            entered["packet_direction"][unsaid] = directions[unsaid]
            rows[pending] = entered
            pending = pending[entered["undecoded_reason"] == UndecodedReason.PENDING]
            if not len(pending):
                break
        rows["undecoded_reason"][pending] = UndecodedReason.TOO_DEEP
        unknown = rows["undecoded_reason"] == UndecodedReason.LINK_TYPE
        for link_type in np.unique(rows["link_type"][unknown]):
            of_type = unknown & (rows["link_type"] == link_type)
            name = describe_link_type(int(link_type))
            self._count(
                notes,
                "unknown-link-type",
                f"{{}} frames not decoded: no decoder for {name}",
                subject=name,
                n_new=int(of_type.sum()),
                frame=int(rows["frame"][of_type][0]),
            )
        _copy_results(rows, frames, index)

    def _finish_fragment(self, buffer: NDArray[np.uint8], used_bytes: int, row: Rows, notes: list[Note]) -> int:
        """Give one fragment to the reassembler; `row` is the one-row view to finish."""
        frame = int(row["frame"][0])
        scratch = row.copy()
        for _ in range(_MAX_ROUNDS):
            end = int(scratch["record_offset"][0]) + int(scratch["cap_len"][0])
            fragment = parse_fragment(buffer[int(scratch["payload_offset"][0]) : end].tobytes())
            if fragment is None:
                self._count(notes, "fragments-malformed", "{} IP fragments that fit no datagram", frame=frame)
                break
            whole = self._reassembler.add(fragment, int(row["ts_ns"][0]))
            if whole is None:
                break
            if used_bytes + len(whole.data) > len(buffer):
                text = "{} reassembled IP datagrams dropped for want of room in the buffer"
                self._count(notes, "fragments-no-room", text, frame=frame)
                break
            buffer[used_bytes : used_bytes + len(whole.data)] = np.frombuffer(whole.data, dtype=np.uint8)
            scratch["record_offset"] = used_bytes
            scratch["cap_len"] = len(whole.data)
            scratch["wire_len"] = whole.wire_len
            scratch["link_type"] = _RAW
            used_bytes += len(whole.data)
            decode_frames(buffer, scratch, 0, 1)
            if scratch["kind"][0] != FrameKind.FRAGMENT:
                break
        if scratch["kind"][0] == FrameKind.FRAGMENT:
            scratch["payload_offset"] = -1
        scratch["packet_direction"] = row["packet_direction"]
        _copy_results(scratch, row, np.zeros(1, dtype=np.int64))
        return used_bytes

    def _count(
        self, notes: list[Note], code: str, text: str, *, subject: str = "", n_new: int = 1, frame: int = -1
    ) -> None:
        """Append a note, or replace the one of an earlier call by one with the new count."""
        key = code, subject
        self._counts[key] = count = self._counts.get(key, 0) + n_new
        old = self._notes.get(key)
        self._notes[key] = note = Note(code, text.format(count), frame if old is None else old.frame)
        for i, known in enumerate(notes):
            if known is old:
                notes[i] = note
                return
        notes.append(note)


def _enter_link(buffer: NDArray[np.uint8], row: np.void) -> bool:
    """Move a row behind its rare link header; return whether the kernel can go on with it."""
    start, cap_len = int(row["record_offset"]), int(row["cap_len"])
    try:
        inner = find_inner(int(row["link_type"]), buffer[start : start + min(cap_len, MAX_HEADER_BYTES)].tobytes())
    except (IndexError, struct.error):
        row["undecoded_reason"] = UndecodedReason.LINK_HEADER_CUT
        return False
    if inner is None:
        row["undecoded_reason"] = UndecodedReason.LINK_TYPE
        return False
    if inner.direction != PacketDirection.UNKNOWN:
        row["packet_direction"] = inner.direction
    if inner.link_type == NOT_IP:
        row["kind"] = FrameKind.NON_IP
        row["undecoded_reason"] = UndecodedReason.NONE
        return False
    if inner.skip >= cap_len:
        row["undecoded_reason"] = UndecodedReason.LINK_HEADER_CUT
        return False
    row["record_offset"] = start + inner.skip
    row["cap_len"] = cap_len - inner.skip
    row["wire_len"] = max(int(row["wire_len"]) - inner.skip, 0)
    row["link_type"] = inner.link_type
    return True


def _copy_results(rows: Rows, frames: Rows, index: NDArray[np.int64]) -> None:
    """Copy finished rows to ``frames[index]``, where what the file said stays."""
    for name in _AS_ON_DISK:
        rows[name] = frames[name][index]
    frames[index] = rows
