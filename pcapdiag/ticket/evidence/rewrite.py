"""One frame as it may leave: its payload replaced by what may be shown of it, its addresses by others, if wanted.

Knows headers and where addresses and payload lie; what may be shown of a payload is decided elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pcapdiag.base.codes import FrameKind
from pcapdiag.engine.capture.kernels.decode_ip import PROTO_UDP
from pcapdiag.engine.capture.kernels.decode_link import (
    ETHERNET,
    ETHERTYPE,
    IP_PROTO,
    IPV4,
    IPV6,
    LINK_RAW,
    LINK_SLL,
    LINK_SLL2,
)
from pcapdiag.engine.capture.link_headers import MAX_HEADER_BYTES, find_inner
from pcapdiag.ticket.evidence.layers import repair_checksums, tcp_layer, trace_layers
from pcapdiag.ticket.evidence.quoted import (
    end_of_quoted,
    icmp_error_layer,
    repair_icmp_checksum,
    replace_quoted_addresses,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.privacy.anonymize import Anonymizer
    from pcapdiag.ticket.evidence.layers import Layer
    from pcapdiag.ticket.evidence.spool import SpooledFrame

_ETHERTYPE_ARP: Final = 0x0806
_ARP_BYTES: Final = 28
_UDP_HEADER_BYTES: Final = 8
_PROTO_ROUTING: Final = 43
_MAC_BYTES: Final = 6
# RFC 9293 and what every stack sends: end, no operation, MSS, window scale, SACK, timestamps. Others may name machines.
_PLAIN_TCP_OPTIONS: Final = frozenset((0, 1, 2, 3, 4, 5, 8))


def rewrite_frame(frame: SpooledFrame, link_type: int, payload: bytes, anonymizer: Anonymizer | None = None) -> bytes:
    """Return the bytes of a frame with another payload.

    Parameters
    ----------
    frame : SpooledFrame
        As captured.
    link_type : int
        LINKTYPE_ number of its interface.
    payload : bytes
        What may be shown from the payload's first byte on, no longer than what was captured; the rest is cut off.
    anonymizer : Anonymizer, optional
        Gives other addresses.

    Returns
    -------
    bytes
        As captured where nothing had to change; with checksums that agree with its bytes where something had.
    """
    layers = trace_layers(frame.data, link_type, frame.wire_len)
    tcp = tcp_layer(layers)
    icmp = icmp_error_layer(frame.data, layers)
    if icmp is not None:
        data = bytearray(frame.data[: end_of_quoted(frame.data, icmp)])
    elif frame.kind != FrameKind.TCP or frame.payload_at < 0 or tcp is None:
        data = bytearray(frame.data[: _end_of_headers(frame.data, layers)])
    else:
        end = frame.payload_at + frame.payload_cap
        data = bytearray(frame.data[: frame.payload_at] + payload)
        if len(data) == end:
            # Padding of short frames is whatever lay in the sender's memory.
            data += bytes(len(frame.data) - end)
    if anonymizer is not None:
        _replace_addresses(data, layers, link_type, anonymizer)
    if data != frame.data and icmp is not None:
        repair_icmp_checksum(data, icmp, next(layer for layer in reversed(layers) if layer.kind in {IPV4, IPV6}))
    if data != frame.data and (tcp is not None or icmp is not None):
        repair_checksums(data, layers)
    if anonymizer is not None and anonymous_link_type(link_type) != link_type:
        first_ip = next((layer.start for layer in layers if layer.kind in {IPV4, IPV6}), len(data))
        return bytes(data[first_ip:])
    return bytes(data)


def anonymous_link_type(link_type: int) -> int:
    """Return the link type under which an anonymous frame is written.

    Of the rarer ones nobody here knows where they keep addresses, so that they leave as bare IP packets.
    """
    return link_type if find_inner(link_type, bytes(MAX_HEADER_BYTES)) is None else LINK_RAW


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


def _replace_addresses(data: bytearray, layers: Sequence[Layer], link_type: int, anonymizer: Anonymizer) -> None:
    """Put other addresses wherever a header has one, and nothing where an option might have one."""

    def put(start: int, length: int) -> None:
        if start + length <= len(data):
            data[start : start + length] = anonymizer.packed(bytes(data[start : start + length]))
        else:  # cut in the middle of an address
            data[start:] = bytes(max(len(data) - start, 0))

    if link_type in {LINK_SLL, LINK_SLL2}:
        at, length_at = (6, 5) if link_type == LINK_SLL else (12, 11)
        if len(data) >= at + 8 and data[length_at] == _MAC_BYTES:
            put(at, _MAC_BYTES)
        else:
            data[at : at + 8] = bytes(len(data[at : at + 8]))
    for layer in layers:
        start = layer.start
        if layer.kind == ETHERNET:
            put(start, _MAC_BYTES)
            put(start + _MAC_BYTES, _MAC_BYTES)
        elif layer.kind == IPV4:
            header_end = start + (data[start] & 0x0F) * 4
            put(start + 12, 4)
            put(start + 16, 4)
            data[start + 20 : header_end] = b"\1" * len(data[start + 20 : header_end])
        elif layer.kind == IPV6:
            put(start + 8, 16)
            put(start + 24, 16)
        elif layer.kind == IP_PROTO and layer.value == _PROTO_ROUTING and start + 2 <= len(data):
            end = start + (data[start + 1] + 1) * 8
            data[start + 8 : end] = bytes(len(data[start + 8 : end]))
        elif layer.kind == ETHERTYPE and layer.value == _ETHERTYPE_ARP:
            for offset, length in ((8, 6), (14, 4), (18, 6), (24, 4)):
                put(start + offset, length)
    icmp = icmp_error_layer(data, layers)
    if icmp is not None:
        replace_quoted_addresses(data, icmp, put)
    tcp = tcp_layer(layers)
    if tcp is not None:
        _blank_options(data, tcp.start)


def _blank_options(data: bytearray, tcp: int) -> None:
    """Turn options of TCP that may name machines (MPTCP's addresses, a balancer's note of the client) into nothing."""
    at, end = tcp + 20, min(tcp + (data[tcp + 12] >> 4) * 4, len(data))
    while at < end and data[at] != 0:
        length = 1 if data[at] == 1 else data[at + 1] if at + 1 < end else 0
        if length < 1 or (length < 2 and data[at] != 1) or at + length > end:
            data[at:end] = b"\1" * (end - at)
            return
        if data[at] not in _PLAIN_TCP_OPTIONS:
            data[at : at + length] = b"\1" * length
        at += length
