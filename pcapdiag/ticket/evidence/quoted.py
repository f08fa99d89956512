"""What may leave of an ICMP error: its header, and of what it quotes the IP header, ports and sequence number.

The rest of the quotation is somebody's payload. Offsets are into the frame's captured bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from pcapdiag.engine.capture.kernels.decode_ip import PROTO_TCP
from pcapdiag.engine.capture.kernels.decode_link import IP_PROTO, IPV4
from pcapdiag.ticket.evidence.layers import checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pcapdiag.ticket.evidence.layers import Layer

_PROTO_ICMP: Final = 1
_PROTO_ICMPV6: Final = 58
_ERRORS: Final = {_PROTO_ICMP: frozenset((3, 11, 12)), _PROTO_ICMPV6: frozenset((1, 2, 3, 4))}
_HEADER_BYTES: Final = 8
_TCP_BYTES: Final = 8
"""[bytes] Ports and sequence number: what RFC 792 quotes, and no byte of options or payload."""


def icmp_error_layer(data: bytes | bytearray, layers: Sequence[Layer]) -> Layer | None:
    """Return the ICMP header of a frame, if it is an error that quotes a packet.

    Parameters
    ----------
    data : bytes or bytearray
        Captured bytes.
    layers : sequence of Layer
        From `trace_layers`.

    Returns
    -------
    Layer or None
    """
    last = layers[-1] if layers else None
    if last is None or last.kind != IP_PROTO or last.value not in _ERRORS or last.start >= min(len(data), last.end):
        return None
    return last if data[last.start] in _ERRORS[last.value] else None


def end_of_quoted(data: bytes, layer: Layer) -> int:
    """Return where what may leave of an ICMP error ends."""
    start, is_v4, header_end = _quoted_ip(data, layer)
    end = min(layer.end, len(data))
    if start >= end or data[start] >> 4 != (4 if is_v4 else 6):
        return min(start, end)
    at_protocol = start + (9 if is_v4 else 6)
    is_later = is_v4 and start + 8 <= end and bool(struct.unpack_from(">H", data, start + 6)[0] & 0x1FFF)
    is_tcp = at_protocol < end and data[at_protocol] == PROTO_TCP and not is_later
    return min(header_end + (_TCP_BYTES if is_tcp else 0), end)


def replace_quoted_addresses(data: bytearray, layer: Layer, put: Callable[[int, int], None]) -> None:
    """Put other addresses into the quoted IP header, and nothing where an option might have one.

    Parameters
    ----------
    data : bytearray
        The frame, cut at `end_of_quoted`; changed in place.
    layer : Layer
        The ICMP header.
    put : callable
        Replaces an address, given its place and length.
    """
    start, is_v4, header_end = _quoted_ip(data, layer)
    if start >= len(data):
        return
    first, length = (12, 4) if is_v4 else (8, 16)
    for at in (start + first, start + first + length):
        if at < len(data):
            put(at, length)
    if is_v4:
        data[start + 20 : header_end] = b"\1" * len(data[start + 20 : header_end])
        if header_end <= len(data):
            data[start + 10 : start + 12] = b"\0\0"
            struct.pack_into(">H", data, start + 10, checksum(bytes(data[start:header_end])))


def repair_icmp_checksum(data: bytearray, layer: Layer, ip: Layer) -> None:
    """Make the checksum agree with what is left; bytes that were cut off count as zero."""
    at = layer.start + 2
    if at + 2 > len(data):
        return
    data[at : at + 2] = b"\0\0"
    pseudo = b""
    if ip.kind != IPV4:
        pseudo = bytes(data[ip.start + 8 : ip.start + 40])
        pseudo += struct.pack(">II", max(layer.wire_end - layer.start, 0) & 0xFFFFFFFF, _PROTO_ICMPV6)
    struct.pack_into(">H", data, at, checksum(pseudo + bytes(data[layer.start : layer.end])))


def _quoted_ip(data: bytes | bytearray, layer: Layer) -> tuple[int, bool, int]:
    """Return where the quoted IP header begins, whether it is IPv4, and where it ends."""
    start = layer.start + _HEADER_BYTES
    is_v4 = layer.value == _PROTO_ICMP
    if not is_v4:
        return start, False, start + 40
    return start, True, start + (max((data[start] & 0x0F) * 4, 20) if start < len(data) else 20)
