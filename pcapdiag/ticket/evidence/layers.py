"""The headers of one frame, outermost first, as the decoding kernels step through them; and their checksums.

Knows headers; not what may leave the machine. Offsets are into the frame's captured bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from pcapdiag.base.columns import FRAMES
from pcapdiag.engine.capture.kernels.decode import LAYER, MAX_LAYERS, walk_headers
from pcapdiag.engine.capture.kernels.decode_ip import PROTO_TCP, PROTO_UDP
from pcapdiag.engine.capture.kernels.decode_link import (
    DONE,
    ETHERNET,
    GRE,
    IP_PROTO,
    IPV4,
    IPV6,
    LINK_ETHERNET,
    enter_link,
)
from pcapdiag.engine.capture.link_headers import MAX_HEADER_BYTES, NOT_IP, find_inner

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_LINKS: Final = 4
_GRE_CHECKSUM: Final = 0x80


class Layer(NamedTuple):
    """One header: `kind` is a constant of `kernels.decode_link`, `value` its EtherType or IP protocol number.

    `end` is where its captured bytes end, `wire_end` where they ended on the wire.
    """

    kind: int
    value: int
    start: int
    end: int
    wire_end: int


def trace_layers(data: bytes, link_type: int, wire_len: int) -> tuple[Layer, ...]:
    """Return the headers of a frame, as far as the kernels know them.

    Parameters
    ----------
    data : bytes
        Captured bytes.
    link_type : int
        LINKTYPE_ number.
    wire_len : int
        [bytes] On the wire.

    Returns
    -------
    tuple of Layer
        An Ethernet link header is one; other link headers are not. The last one is TCP where the frame is TCP.
    """
    start = 0
    try:
        for _ in range(_MAX_LINKS):
            inner = find_inner(link_type, data[start : start + MAX_HEADER_BYTES])
            if inner is None:
                break
            if inner.link_type == NOT_IP or start + inner.skip >= len(data):
                return ()
            link_type, start = inner.link_type, start + inner.skip
    except (IndexError, struct.error):
        return ()
    if start >= len(data):
        return ()
    buffer = np.frombuffer(data, dtype=np.uint8).copy()
    wire_end = max(len(data), wire_len)
    layers = [Layer(ETHERNET, 0, start, len(data), wire_end)] if link_type == LINK_ETHERNET else []
    layer, value, offset = map(int, enter_link(buffer, link_type, start, len(data)))
    trace = np.zeros(MAX_LAYERS, dtype=LAYER)
    walk_headers(buffer, FRAMES.empty(1)[0], layer, value, offset, len(data), wire_end, trace)
    return (*layers, *(Layer(*header) for header in trace[trace["kind"] != DONE].tolist()))


def tcp_layer(layers: Sequence[Layer]) -> Layer | None:
    """Return the TCP header, if there is one."""
    return layers[-1] if layers and layers[-1].kind == IP_PROTO and layers[-1].value == PROTO_TCP else None


def repair_checksums(data: bytearray, layers: Sequence[Layer]) -> None:
    """Make every checksum of a frame agree with its bytes, from the innermost header outwards.

    Bytes that are on the wire only count as zero: a checksum over what was cut off would tell of it.

    Parameters
    ----------
    data : bytearray
        The frame, changed in place.
    layers : sequence of Layer
        From `trace_layers`.
    """
    for number in range(len(layers) - 1, -1, -1):
        layer = layers[number]
        if layer.kind == IPV4:
            header_end = layer.start + (data[layer.start] & 0x0F) * 4
            _put(data, layer.start + 10, checksum(_without(data, layer.start, header_end, 10)))
        elif layer.kind == GRE and data[layer.start] & _GRE_CHECKSUM:
            _put(data, layer.start + 4, checksum(_without(data, layer.start, layer.wire_end, 4)))
        elif layer.kind == IP_PROTO and layer.value in {PROTO_TCP, PROTO_UDP}:
            ip = next((outer for outer in reversed(layers[:number]) if outer.kind in {IPV4, IPV6}), None)
            if ip is not None:
                _repair_transport(data, layer, ip)


def _repair_transport(data: bytearray, layer: Layer, ip: Layer) -> None:
    is_tcp = layer.value == PROTO_TCP
    at = 16 if is_tcp else 6
    if layer.start + at + 2 > min(len(data), layer.end) or layer.wire_end - layer.start > 0xFFFF:
        return
    # 0 says that there is no checksum: usual in tunnels.
    if not is_tcp and data[layer.start + 6 : layer.start + 8] == b"\0\0":
        return
    first, last = (12, 20) if ip.kind == IPV4 else (8, 40)
    addresses = bytes(data[ip.start + first : ip.start + last])
    length = layer.wire_end - layer.start
    pseudo = addresses + struct.pack(">HH", layer.value, length)
    value = checksum(pseudo + _without(data, layer.start, layer.wire_end, at))
    _put(data, layer.start + at, value or (0 if is_tcp else 0xFFFF))


def _without(data: bytearray, start: int, end: int, at: int) -> bytes:
    """Return the bytes with the checksum field at `at` zeroed."""
    part = bytearray(data[start:end])
    part[at : at + 2] = b"\0\0"
    return bytes(part)


def _put(data: bytearray, at: int, value: int) -> None:
    if at + 2 <= len(data):
        struct.pack_into(">H", data, at, value)


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of `data`."""
    if len(data) % 2:
        data += b"\0"
    total = int(np.frombuffer(data, dtype=">u2").sum(dtype=np.int64))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
