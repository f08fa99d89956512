"""Writes pcapng: one section, its interfaces, names for addresses, packets with comments.

Knows the blocks of draft-ietf-opsawg-pcapng byte by byte; nothing of what is in the packets or why they were chosen.
Written is little-endian, without a time of writing: the same packets make the same bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.codes import PacketDirection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

Rows = np.ndarray[Any, Any]

_SHB: Final = 0x0A0D0D0A
_IDB: Final = 1
_NRB: Final = 4
_EPB: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D

_OPT_COMMENT: Final = 1
_SHB_USERAPPL: Final = 4
_IF_NAME: Final = 2
_IF_DESCRIPTION: Final = 3
_IF_TSRESOL: Final = 9
_EPB_FLAGS: Final = 2
_EPB_PACKETID: Final = 5
_NRB_IPV4: Final = 1
_NRB_IPV6: Final = 2

_MAX_OPTION_BYTES: Final = 65_535
_HEAD_BYTES: Final = 28
_TAIL_BYTES: Final = 20
"""[bytes] Behind the data: at most 4 of padding, flags, end, length; `_HEAD_BYTES` stand before it."""
MOST_OVERHEAD_BYTES: Final = _HEAD_BYTES + _TAIL_BYTES
"""[bytes] What `packet_blocks` adds to the data of a frame."""
_WAYS: Final = {PacketDirection.INBOUND: 1, PacketDirection.OUTBOUND: 2}


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface as the evidence describes it.

    Attributes
    ----------
    snaplen : int
        [bytes] 0 for no limit.
    time_digits : int
        Decimal digits of the times' fraction of a second, at most 9.
    """

    link_type: int
    snaplen: int
    time_digits: int
    name: bytes = b""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame to write.

    Attributes
    ----------
    interface : int
        Number of its interface, in the order in which they were given.
    ts_ns : int
        [ns] Capture time; -1 for none, which pcapng cannot say and becomes 0.
    packet_id : int
        Wireshark shows it as `frame.packet_id`.
    """

    interface: int
    ts_ns: int
    data: bytes
    wire_len: int
    packet_id: int
    direction: PacketDirection = PacketDirection.UNKNOWN
    comments: tuple[str, ...] = ()


class PcapngWriter:
    """Writes one section; the header goes out at once.

    Parameters
    ----------
    out : binary file
        Where to.
    application : str
        Name and version of the writer.
    comment : str
        What the section says of itself.
    interfaces : sequence of Interface
        All of them, since packets name them by number.
    names : iterable of (str, str)
        Addresses and what they are called.
    """

    def __init__(
        self,
        out: IO[bytes],
        *,
        application: str,
        comment: str,
        interfaces: Sequence[Interface],
        names: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._out = out
        self._units_ns = [10 ** (9 - i.time_digits) for i in interfaces]
        header = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1)
        self._write(_SHB, header + _options((_OPT_COMMENT, _text(comment)), (_SHB_USERAPPL, _text(application))))
        for interface in interfaces:
            self._write(_IDB, struct.pack("<HHI", interface.link_type, 0, interface.snaplen) + _described(interface))
        records = b"".join(_name_record(address, name) for address, name in names)
        if records:
            self._write(_NRB, records + struct.pack("<HH", 0, 0))

    def write(self, packet: Packet) -> None:
        """Append one frame.

        Parameters
        ----------
        packet : Packet
            Its captured bytes may be fewer than `wire_len`.
        """
        ticks = max(packet.ts_ns, 0) // self._units_ns[packet.interface]
        options = [(_OPT_COMMENT, _text(comment)) for comment in packet.comments]
        if packet.direction in _WAYS:
            options.append((_EPB_FLAGS, struct.pack("<I", _WAYS[packet.direction])))
        options.append((_EPB_PACKETID, struct.pack("<Q", packet.packet_id)))
        head = struct.pack("<5I", packet.interface, ticks >> 32, ticks & 0xFFFFFFFF, len(packet.data), packet.wire_len)
        self._write(_EPB, head + _padded(packet.data) + _options(*options))

    def _write(self, kind: int, body: bytes) -> None:
        length = struct.pack("<I", len(body) + 12)
        self._out.write(struct.pack("<I", kind) + length + body + length)


def packet_blocks(buffer: NDArray[np.uint8], frames: Rows, interfaces: Rows, times: Rows) -> bytes:
    """Return many frames at once as enhanced packet blocks, without comments and names.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        What `record_offset` points into.
    frames : ndarray of columns.FRAMES.dtype, shape (n_frame,)
    interfaces : ndarray of uint32, shape (n_frame,)
        Number of each frame's interface, whose times are in ns.
    times : ndarray of int64, shape (n_frame,)
        [ns] None of them negative.
    """
    n_frame = len(frames)
    lengths = frames["cap_len"].astype(np.uint32)
    pads = (0 - lengths) & np.uint32(3)
    flags = np.zeros(n_frame, dtype=np.uint32)
    for way, bits in _WAYS.items():
        flags[frames["packet_direction"] == way] = bits
    total = lengths + pads + np.uint32(MOST_OVERHEAD_BYTES - 4)
    heads = np.empty((n_frame, 7), dtype="<u4")
    heads[:, 0] = _EPB
    heads[:, 1] = total
    heads[:, 2] = interfaces
    heads[:, 3] = times >> 32
    heads[:, 4] = times & 0xFFFFFFFF
    heads[:, 5] = lengths
    heads[:, 6] = np.maximum(frames["wire_len"], 0)
    tails = np.zeros((n_frame, 5), dtype="<u4")
    tails[:, 1] = _EPB_FLAGS | 4 << 16
    tails[:, 2] = flags
    tails[:, 4] = total
    head, tail, data = memoryview(heads.tobytes()), memoryview(tails.tobytes()), buffer.data
    parts: list[memoryview] = []
    h = t = 0
    for start, length, pad in zip(frames["record_offset"].tolist(), lengths.tolist(), pads.tolist(), strict=True):
        parts += (head[h : h + _HEAD_BYTES], data[start : start + length], tail[t + 4 - pad : t + _TAIL_BYTES])
        h += _HEAD_BYTES
        t += _TAIL_BYTES
    return b"".join(parts)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _text(text: str) -> bytes:
    data = text.encode("utf-8", errors="backslashreplace")
    # Cut between characters: what is left must be UTF-8.
    return data[:_MAX_OPTION_BYTES].decode("utf-8", errors="ignore").encode() if len(data) > _MAX_OPTION_BYTES else data


def _options(*options: tuple[int, bytes]) -> bytes:
    written = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options if value)
    return written + struct.pack("<HH", 0, 0) if written else b""


def _described(interface: Interface) -> bytes:
    return _options(
        (_IF_NAME, interface.name),
        (_IF_DESCRIPTION, _text(interface.description)),
        (_IF_TSRESOL, bytes([interface.time_digits])),
    )


def _name_record(address: str, name: str) -> bytes:
    kind, packed = (
        (_NRB_IPV6, IPv6Address(address).packed) if ":" in address else (_NRB_IPV4, IPv4Address(address).packed)
    )
    value = packed + _text(name) + b"\0"
    return struct.pack("<HH", kind, len(value)) + _padded(value)
