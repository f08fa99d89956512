"""One frame as it may leave: its payload replaced by what may be shown of it, everything else as captured.

Knows headers and where the payload lies; what may be shown of a payload is decided elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pcapdiag.codes import FrameKind
from pcapdiag.evidence.layers import repair_checksums, tcp_layer, trace_layers
from pcapdiag.kernels.decode_ip import PROTO_UDP
from pcapdiag.kernels.decode_link import ETHERNET, ETHERTYPE, IP_PROTO, IPV4, IPV6

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.evidence.layers import Layer
    from pcapdiag.evidence.spool import SpooledFrame

_ETHERTYPE_ARP: Final = 0x0806
_ARP_BYTES: Final = 28
_UDP_HEADER_BYTES: Final = 8


def rewrite_frame(frame: SpooledFrame, link_type: int, payload: bytes) -> bytes:
    """Return the bytes of a frame with another payload.

    Parameters
    ----------
    frame : SpooledFrame
        As captured.
    link_type : int
        LINKTYPE_ number of its interface.
    payload : bytes
        What may be shown from the payload's first byte on, no longer than what was captured; the rest is cut off.

    Returns
    -------
    bytes
        As captured where nothing had to change; with checksums that agree with its bytes where something had.
    """
    layers = trace_layers(frame.data, link_type, frame.wire_len)
    tcp = tcp_layer(layers)
    if frame.kind != FrameKind.TCP or frame.payload_at < 0 or tcp is None:
        return frame.data[: _end_of_headers(frame.data, layers)]
    end = frame.payload_at + frame.payload_cap
    data = bytearray(frame.data[: frame.payload_at] + payload)
    if len(data) == end:
        # Padding of short frames is whatever lay in the sender's memory.
        data += bytes(len(frame.data) - end)
    if data != frame.data:
        repair_checksums(data, layers)
    return bytes(data)


def _end_of_headers(data: bytes, layers: Sequence[Layer]) -> int:
    """Return where the headers of a frame end that is not TCP, or no whole datagram."""
    if not layers:
        return 0
    last = layers[-1]
    end = last.start
    if last.kind in {IPV4, IPV6}:
        end += (data[last.start] & 0x0F) * 4 if last.kind == IPV4 else 40
    elif last.kind == IP_PROTO and last.value == PROTO_UDP:
        end += _UDP_HEADER_BYTES
    elif last.kind == ETHERTYPE and last.value == _ETHERTYPE_ARP:
        end += _ARP_BYTES
    elif last.kind == ETHERNET:
        end += 14
    return min(end, len(data))
