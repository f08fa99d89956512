"""What the decoding kernels leave open: rare link types and fragments.

Works on rows that `decode_frames` has filled: it rewrites copies of them so that the kernel can go on, behind the rare
link header or in the reassembled datagram, and copies the results back. It reads no header itself.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.codes import FrameKind, PacketDirection, UndecodedReason
from pcapdiag.base.findings import Note
from pcapdiag.engine.capture.fragments import Reassembler, parse_fragment
from pcapdiag.engine.capture.kernels.decode import decode_frames
from pcapdiag.engine.capture.kernels.decode_link import LINK_RAW
from pcapdiag.engine.capture.link_headers import MAX_HEADER_BYTES, NOT_IP, find_inner
from pcapdiag.engine.capture.link_types import describe_link_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcapdiag.engine.capture.notes import NoteBook

_MAX_ROUNDS: Final = 4
"""Rare headers inside rare headers (PKTAP around pflog), fragments of tunnels around fragments."""

_MAX_NOTED_LINKS: Final = 64

_AS_ON_DISK: Final = ("record_offset", "cap_len", "wire_len", "link_type")

Rows = np.ndarray[Any, Any]


class SlowPath:
    """Finishes rows that the kernel could not; keeps fragments from batch to batch."""

    def __init__(self) -> None:
        self._reassembler = Reassembler()
        self._n_given_up = 0
        self._unknown_links: set[int] = set()

    def finish(self, buffer: NDArray[np.uint8], used_bytes: int, frames: Rows, notes: NoteBook) -> int:
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
        notes : NoteBook
            Where notes are appended.

        Returns
        -------
        int
            [bytes] Where the room that is left starts.
        """
        self._finish_links(buffer, frames, notes)
        for index in np.flatnonzero(frames["kind"] == FrameKind.FRAGMENT):
            used_bytes = self._finish_fragment(buffer, used_bytes, frames[index : index + 1], notes)
        if self._reassembler.n_given_up > self._n_given_up:
            _note_incomplete(notes, self._reassembler.n_given_up - self._n_given_up)
            self._n_given_up = self._reassembler.n_given_up
        return used_bytes

    def close(self, notes: NoteBook) -> None:
        """Note the datagrams that the end of the capture leaves incomplete.

        Parameters
        ----------
        notes : NoteBook
            As given to `finish`.
        """
        if self._reassembler:
            _note_incomplete(notes, len(self._reassembler))

    def _finish_links(self, buffer: NDArray[np.uint8], frames: Rows, notes: NoteBook) -> None:
        index = np.flatnonzero(frames["undecoded_reason"] == UndecodedReason.PENDING)
        if not len(index):
            return
        rows = frames[index]
        pending = np.arange(len(rows))
        for _ in range(_MAX_ROUNDS):
            pending = np.array([i for i in pending if _enter_link(buffer, rows[i])], dtype=np.int64)
            entered = rows[pending]
            decode_frames(buffer, entered, 0, len(entered))
            rows[pending] = entered
            pending = pending[entered["undecoded_reason"] == UndecodedReason.PENDING]
            if not len(pending):
                break
        rows["undecoded_reason"][pending] = UndecodedReason.TOO_DEEP
        unknown = rows["undecoded_reason"] == UndecodedReason.LINK_TYPE
        for link_type in {int(n) for n in rows["link_type"][unknown]} - self._unknown_links:
            if len(self._unknown_links) < _MAX_NOTED_LINKS:
                self._unknown_links.add(link_type)
                first = int(rows["frame"][unknown & (rows["link_type"] == link_type)][0])
                name = describe_link_type(link_type)
                notes.append(Note("unknown-link-type", f"frames of {name} are not decoded, this is the first", first))
        _copy_results(rows, frames, index)

    def _finish_fragment(self, buffer: NDArray[np.uint8], used_bytes: int, row: Rows, notes: NoteBook) -> int:
        """Give one fragment to the reassembler; `row` is the one-row view to finish."""
        frame = int(row["frame"][0])
        scratch = row.copy()
        for _ in range(_MAX_ROUNDS):
            end = int(scratch["record_offset"][0]) + int(scratch["cap_len"][0])
            fragment = parse_fragment(buffer[int(scratch["payload_offset"][0]) : end].tobytes())
            if fragment is None:
                notes.append(Note("malformed-fragment", "an IP fragment that can belong to no datagram", frame))
                break
            whole = self._reassembler.add(fragment, int(row["ts_ns"][0]))
            if whole is None:
                break
            if used_bytes + len(whole.data) > len(buffer):
                notes.append(Note("dropped-datagram", "no room in the buffer for a reassembled IP datagram", frame))
                break
            buffer[used_bytes : used_bytes + len(whole.data)] = np.frombuffer(whole.data, dtype=np.uint8)
            scratch["record_offset"] = used_bytes
            scratch["cap_len"] = len(whole.data)
            scratch["wire_len"] = whole.wire_len
            scratch["link_type"] = LINK_RAW
            used_bytes += len(whole.data)
            decode_frames(buffer, scratch, 0, 1)
            if scratch["kind"][0] != FrameKind.FRAGMENT:
                break
        if scratch["kind"][0] == FrameKind.FRAGMENT:
            scratch["payload_offset"] = -1
        _copy_results(scratch, row, np.zeros(1, dtype=np.int64))
        return used_bytes


def _note_incomplete(notes: NoteBook, n_datagram: int) -> None:
    notes.append(Note("incomplete-fragments", f"IP datagrams of which some fragment never came: {n_datagram}"))


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
