"""Walks the records of a capture's files, one file after the other, and says in notes what is odd about them.

Knows file headers, pcapng's rare blocks and which note each oddity deserves; the records themselves are the kernels'
business. Knows nothing of how the bytes come into the buffer.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.errors import CaptureError
from pcapdiag.base.findings import Note
from pcapdiag.engine.capture.batch import CaptureInterface
from pcapdiag.engine.capture.kernels import containers as kernels
from pcapdiag.engine.capture.kernels import pcapng
from pcapdiag.engine.capture.sniff import HEAD_BYTES, PCAP_MAGICS, container_of, not_a_capture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcapdiag.engine.capture.batch import CaptureFile
    from pcapdiag.engine.capture.notes import NoteBook

_PCAP_HEADER_BYTES: Final = 24
_LINK_TYPE_MASK: Final = 0x03FF_FFFF  # the bits above tell the length of a frame check sequence
_MAX_INTERFACES: Final = 65_536  # per section; a hostile file could describe millions
_MAX_NAME_BYTES: Final = 256
_MAX_SECTION_HEADER_BYTES: Final = 1 << 16
_MAX_SECRETS_BYTES: Final = 64 << 20  # that wait for who reads them
_KEY_LOG: Final = 0x544C534B
_MAX_SECONDS: Final = 2**62 // 10**9
_IF_NAME: Final = 2
_IF_TSRESOL: Final = 9
_IF_TSOFFSET: Final = 14
_ISB_IFDROP: Final = 5
_ISB_OSDROP: Final = 7


class Walker:
    """State of the walk over one capture.

    Parameters
    ----------
    notes : NoteBook
        Gets a note for everything odd.
    """

    def __init__(self, notes: NoteBook) -> None:
        self._notes = notes
        self._state = np.zeros(1, dtype=kernels.STATE)
        self._state["first_ts_ns"] = -1
        self._state["last_ts_ns"] = -1
        self._interfaces = np.zeros(8, dtype=pcapng.INTERFACE)
        self._drops: dict[int, int] = {}
        self._section_drops = -1
        self._container = ""
        self._compression = ""
        self._base = 0
        self._file: CaptureFile | None = None

    @property
    def position(self) -> int:
        """Offset in the buffer of the first byte that is still needed."""
        return int(self._state["position"][0])

    @property
    def n_rows(self) -> int:
        """Rows that the last `walk` has written."""
        return int(self._state["n_rows"][0])

    def begin_file(self, file: CaptureFile, compression: str = "") -> None:
        """Make `file` the one whose bytes come next, at offset 0 of the buffer."""
        self._file = file
        self._compression = compression
        self._container = ""
        self._base = 0
        self._state["position"] = 0
        self._state["searching"] = 0
        file.first_frame = int(self._state["frame"][0])

    def begin_tail(self) -> None:
        """Go on somewhere further in the same file, at offset 0 of the buffer: the next record is searched for.

        The interfaces are those of the file's beginning; times may be anywhere.
        """
        self._state["first_ts_ns"] = -1
        self._state["last_ts_ns"] = -1
        self._state["position"] = 0
        self._state["searching"] = 1
        self._state["skipped"] = 0

    def shift(self, n_bytes: int) -> None:
        """Take note that the first `n_bytes` of the buffer are gone and the rest has moved to its start."""
        self._base += n_bytes
        self._state["position"] -= n_bytes

    def walk(
        self,
        buffer: NDArray[np.uint8],
        stop: int,
        frames: np.ndarray[Any, Any],
        *,
        at_end: bool,
        eager: bool,
    ) -> int:
        """Fill `frames` from its first row on.

        Parameters
        ----------
        buffer : ndarray of uint8, shape (n_byte,)
            [bytes] The file from where `shift` left it.
        stop : int
            [bytes] End of the valid bytes.
        frames : ndarray of columns.FRAMES.dtype, shape (n_row,)
            Rows to fill; `n_rows` tells how many were.
        at_end : bool
            Whether the file ends at `stop`.
        eager : bool
            Hand out frames as soon as they are whole, for a live pipe.

        Returns
        -------
        int
            `kernels.containers` FULL (call again with other rows), MORE (call again with more bytes) or END.

        Raises
        ------
        CaptureError
            The file does not begin like a capture.
        """
        state = self._state
        state["n_rows"] = 0
        status = self._walk(buffer, stop, frames, at_end=at_end, eager=eager)
        file = self._here
        n_rows = self.n_rows
        if n_rows:
            file.n_frames += n_rows
            times = frames["ts_ns"][:n_rows]
            times = times[times >= 0]
            if len(times):
                first, last = int(times.min()), int(times.max())
                file.first_ts_ns = first if file.first_ts_ns < 0 else min(first, file.first_ts_ns)
                file.last_ts_ns = max(last, file.last_ts_ns)
        if status == kernels.END:
            self._end_file()
        return status

    @property
    def _here(self) -> CaptureFile:
        if self._file is None:
            msg = "begin_file comes first"
            raise RuntimeError(msg)
        return self._file

    def _walk(
        self, buffer: NDArray[np.uint8], stop: int, frames: np.ndarray[Any, Any], *, at_end: bool, eager: bool
    ) -> int:
        state = self._state
        while True:
            if not self._container:
                status = self._read_header(buffer, stop, at_end=at_end)
                if status is not None:
                    return status
            if self._container == "pcap":
                status = int(kernels.scan_pcap(buffer, stop, at_end, eager, state, frames))
            else:
                status = int(pcapng.scan_pcapng(buffer, stop, at_end, state, self._interfaces, frames))
            if status in {kernels.FULL, kernels.MORE, kernels.END}:
                return status
            position = self.position
            if status == pcapng.BLOCK:
                state["position"] += self._read_block(buffer, position)
            elif status == kernels.RESUMED:
                skipped = int(state["skipped"][0])
                what = "up to the end of the file" if at_end and position == stop else "until records go on"
                self._note_at("skipped-bytes", f"{skipped} bytes are no records, {what}", position - skipped)
            elif self._begins_other_file(buffer, position, stop):
                self._note_at("joined-files", "another capture file begins here", position)
                self._container = ""
            elif status == kernels.CUT:
                self._note_at(
                    "truncated-file",
                    f"the file ends inside a record: {stop - position} bytes of it are there",
                    position,
                )
                state["position"] = stop
                return kernels.END
            else:
                # The caller of the kernel knows no better: pass over bytes until records go on.
                state["searching"] = 1
                state["skipped"] = 1
                state["position"] += 1

    def _note_at(self, code: str, text: str, position: int) -> None:
        self._notes.append(
            Note(code, text, int(self._state["frame"][0]), self._base + position, self._here.path),
        )

    def _begins_other_file(self, buffer: NDArray[np.uint8], position: int, stop: int) -> bool:
        """Tell whether the header of another capture file stands where a record should."""
        head = buffer[position : min(stop, position + 16)].tobytes()
        container = container_of(head)
        if len(head) < 12 or not container:
            return False
        if container == "pcap":
            order = ">" if PCAP_MAGICS[head[:4]][0] else "<"
            return bool(struct.unpack_from(order + "HH", head, 4) == (2, 4))
        # Within pcapng a sound section header is a block like any other; this one was refused.
        if self._container == "pcapng" or len(head) < 16:
            return False
        order = ">" if head[8] == 0x1A else "<"
        (n_bytes,) = struct.unpack_from(order + "I", head, 4)
        (major,) = struct.unpack_from(order + "H", head, 12)
        return bool(28 <= n_bytes <= _MAX_SECTION_HEADER_BYTES and major == 1)

    def _read_header(self, buffer: NDArray[np.uint8], stop: int, *, at_end: bool) -> int | None:
        """Read what a file begins with; return a status if the walk cannot go on yet."""
        position = self.position
        available = stop - position
        if available < _PCAP_HEADER_BYTES and not at_end:
            return kernels.MORE
        head = buffer[position : min(stop, position + HEAD_BYTES)].tobytes()
        container = container_of(head)
        if not container:
            msg = not_a_capture(self._here.path, head, self._compression)
            raise CaptureError(msg)
        file = self._here
        if container == "pcapng":
            file.format = file.format or "pcapng"
            self._container = container
            self._start_section()
            return None
        if available < _PCAP_HEADER_BYTES:
            file.format = file.format or "pcap"
            self._note_at("truncated-file", f"the file ends inside its header, after {available} bytes", position)
            self._state["position"] = stop
            return kernels.END
        big_endian, ticks_ns, header_bytes = PCAP_MAGICS[head[:4]]
        snaplen, link_type = struct.unpack_from(">II" if big_endian else "<II", head, 16)
        link_type &= _LINK_TYPE_MASK
        traits = [
            trait
            for trait, holds in (("ns", ticks_ns == 1), ("modified", header_bytes > 16), ("big-endian", big_endian))
            if holds
        ]
        file.format = file.format or ("pcap" + (f" ({', '.join(traits)})" if traits else ""))
        file.snaplen = max(file.snaplen, snaplen)
        self._add_link_type(link_type)
        self._state["big_endian"] = big_endian
        self._state["ticks_ns"] = ticks_ns
        self._state["header_bytes"] = header_bytes
        self._state["link_type"] = link_type
        self._describe_interface(0, link_type, snaplen, b"", 9 if ticks_ns == 1 else 6)
        self._state["position"] += _PCAP_HEADER_BYTES
        self._container = container
        return None

    def _add_link_type(self, link_type: int) -> None:
        if link_type not in self._here.link_types:
            self._here.link_types.append(link_type)

    def _describe_interface(self, index: int, link_type: int, snaplen: int, name: bytes, time_digits: int) -> None:
        if len(self._here.interfaces) < _MAX_INTERFACES:
            first_frame = int(self._state["frame"][0])
            self._here.interfaces.append(
                CaptureInterface(first_frame, index, link_type, snaplen, name[:_MAX_NAME_BYTES], time_digits)
            )

    def _start_section(self) -> None:
        if self._drops:
            self._section_drops = max(self._section_drops, 0) + sum(self._drops.values())
            self._drops.clear()
        self._state["n_interfaces"] = 0

    def _read_block(self, buffer: NDArray[np.uint8], position: int) -> int:
        """Read the block that the kernel left to us and return its padded length."""
        if buffer[position : position + 4].tobytes() == pcapng.SHB.to_bytes(4, "big"):
            self._start_section()
            is_big = buffer[position + 8] == 0x1A
            self._state["big_endian"] = is_big
            order = ">" if is_big else "<"
            if is_big and self._here.format == "pcapng":
                self._here.format = "pcapng (big-endian)"
        else:
            order = ">" if self._state["big_endian"][0] else "<"
        block_type, n_bytes = struct.unpack_from(order + "II", buffer.data, position)
        n_bytes = n_bytes + 3 & ~3
        if block_type != pcapng.SHB:
            block = buffer[position : position + n_bytes - 4].tobytes()
            if block_type == pcapng.IDB:
                self._read_interface(block, order, position)
            elif block_type == pcapng.DSB:
                self._read_secrets(block, order)
            else:
                self._read_statistics(block, order, position)
        return int(n_bytes)

    def _read_interface(self, block: bytes, order: str, position: int) -> None:
        index = int(self._state["n_interfaces"][0])
        if index >= _MAX_INTERFACES:
            self._note_at("odd-interface", f"more than {_MAX_INTERFACES} interfaces in one section", position)
            return
        if index >= len(self._interfaces):
            self._interfaces = np.concatenate([self._interfaces, np.zeros_like(self._interfaces)])
        link_type, _, snaplen = struct.unpack_from(order + "HHI", block, 8)
        kind, factor = pcapng.TIME_MULTIPLY, 1000
        offset_s = 0
        name, time_digits = b"", 6
        for code, value in _options(block, 16, order):
            if code == _IF_TSRESOL and len(value) == 1:
                kind, factor = _time_unit(value[0])
                time_digits = min(value[0], 9) if value[0] < 0x80 else 9
            elif code == _IF_NAME:
                name = value
            elif code == _IF_TSOFFSET and len(value) == 8:
                (offset_s,) = struct.unpack(order + "q", value)
        if abs(offset_s) > _MAX_SECONDS:
            self._note_at("odd-interface", f"interface {index}: time offset of {offset_s} s", position)
            kind, offset_s = pcapng.TIME_UNKNOWN, 0
        self._describe_interface(index, link_type, snaplen, name, time_digits)
        self._interfaces[index] = (factor, offset_s * 10**9, snaplen, link_type, kind)
        self._state["n_interfaces"] = index + 1
        self._here.snaplen = max(self._here.snaplen, snaplen)
        self._add_link_type(link_type)

    def _read_secrets(self, block: bytes, order: str) -> None:
        """Count a block of keys; keep what it holds only for who asked for it."""
        kind, n_bytes = struct.unpack_from(order + "II", block, 8)
        if kind != _KEY_LOG:
            return
        self._here.n_secrets += 1
        kept = self._here.secrets
        if kept is not None and sum(map(len, kept)) + n_bytes <= _MAX_SECRETS_BYTES:
            kept.append(block[16 : 16 + n_bytes])

    def _read_statistics(self, block: bytes, order: str, position: int) -> None:
        (interface,) = struct.unpack_from(order + "I", block, 8)
        if interface >= self._state["n_interfaces"][0]:
            self._note_at("odd-interface", f"statistics of interface {interface}, which is not described", position)
            return
        counts = [
            struct.unpack(order + "Q", value)[0]
            for code, value in _options(block, 20, order)
            if code in {_ISB_IFDROP, _ISB_OSDROP} and len(value) == 8
        ]
        if counts:  # counted since the capture began, so the last block of an interface says it all
            self._drops[interface] = max(sum(counts), self._drops.get(interface, 0))

    def _end_file(self) -> None:
        """Write the notes that are counted over a whole file."""
        state = self._state
        file = self._here
        self._start_section()
        if self._section_drops >= 0 or state["n_drops"][0]:
            file.dropped = max(self._section_drops, int(state["n_drops"][0]))
        if file.dropped > 0:
            self._notes.append(
                Note("interface-drops", f"the capturing machine dropped {file.dropped} packets", file=file.path)
            )
        n_steps_back = int(state["n_steps_back"][0])
        if n_steps_back:
            widest_s = int(state["step_back_ns"][0]) / 1e9
            what = "1 frame is" if n_steps_back == 1 else f"{n_steps_back} frames are"
            text = f"{what} more than a second older than the frame before (up to {widest_s:.3f} s)"
            self._notes.append(Note("clock-step-back", text, int(state["step_back_frame"][0]), file=file.path))
        for code, count, frame, text in (
            ("no-timestamps", "n_no_time", "no_time_frame", "{} frames have no time (simple packet blocks)"),
            ("bad-timestamps", "n_bad_time", "bad_time_frame", "{} frames have a time that cannot be represented"),
            ("clipped-record", "n_clipped", "clipped_frame", "{} packet blocks hold less than they claim"),
            (
                "unknown-interface",
                "n_no_interface",
                "no_interface_frame",
                "{} frames are of an interface that the file does not describe",
            ),
        ):
            n = int(state[count][0])
            if n:
                self._notes.append(Note(code, text.format(n), int(state[frame][0]), file=file.path))
            state[count] = 0
        for name in ("n_steps_back", "step_back_ns", "n_drops"):
            state[name] = 0
        self._section_drops = -1


def _time_unit(resolution: int) -> tuple[int, int]:
    """Return (kind, factor) for an if_tsresol value: a negative power of ten or, with the high bit set, of two."""
    if resolution & 0x80:
        return pcapng.TIME_SHIFT, resolution & 0x7F
    if resolution <= 9:
        return pcapng.TIME_MULTIPLY, 10 ** (9 - resolution)
    divisor = 10 ** (resolution - 9)
    return pcapng.TIME_DIVIDE, divisor if divisor < 2**64 else 0


def _options(block: bytes, position: int, order: str) -> list[tuple[int, bytes]]:
    """Return the (code, value) pairs of a block's options, as far as they are whole."""
    options = []
    while position + 4 <= len(block):
        code, n_bytes = struct.unpack_from(order + "HH", block, position)
        position += 4
        if code == 0 or position + n_bytes > len(block):
            break
        options.append((code, block[position : position + n_bytes]))
        position += n_bytes + 3 & ~3
    return options
