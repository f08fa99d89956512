"""Frames to rows: from the link header down to the innermost TCP header.

`decode_frames` fills every column of a frame's row that the reader of the container could not know. Each frame gets one
kind and one reason; what the kernels leave open (link types they do not know, fragments) is counted for the slow path.
This module knows headers of single frames, not connections.
"""

from typing import Annotated

import numpy as np

from pcapdiag.base.codes import FrameKind, PacketDirection, UndecodedReason
from pcapdiag.base.columns import FRAMES
from pcapdiag.engine.capture.kernels.decode_ip import (
    PROTO_TCP,
    PROTO_UDP,
    fill_tcp,
    step_ipv4,
    step_ipv6,
    step_proto,
    step_udp,
)
from pcapdiag.engine.capture.kernels.decode_link import (
    DONE,
    ETHERNET,
    ETHERTYPE,
    GRE,
    IP_PROTO,
    IPV4,
    IPV6,
    LINK_SLL,
    LINK_SLL2,
    LLC,
    MPLS,
    PPP,
    PPPOE,
    RAW_IP,
    enter_link,
    packet_direction,
    step_ethernet,
    step_ethertype,
    step_llc,
    step_mpls,
    step_ppp,
    step_pppoe,
    step_raw_ip,
    verdict,
)
from pcapdiag.engine.capture.kernels.decode_tunnel import step_gre
from pcapdiag.engine.compiler.arguments import ArrayOf, Bytes
from pcapdiag.engine.compiler.policy import entry_kernel, kernel

MAX_LAYERS = 32
"""Headers followed in one frame, tags, labels and IPv6 extension headers included."""

LAYER = np.dtype([("kind", "i8"), ("value", "i8"), ("start", "i8"), ("end", "i8"), ("wire_end", "i8")])
"""A header of a frame: a constant of `decode_link`, its EtherType or IP protocol number, and [bytes] where it starts,
where its captured bytes end, and where they ended on the wire."""

_NO_TRACE = np.zeros(0, dtype=LAYER)
_UNDECODED = int(FrameKind.UNDECODED)
_UDP = int(FrameKind.UDP)
_OTHER_IP = int(FrameKind.OTHER_IP)
_FRAGMENT = int(FrameKind.FRAGMENT)
_ICMP = int(FrameKind.ICMP)
_NON_IP = int(FrameKind.NON_IP)

_LINK_HEADER_CUT = int(UndecodedReason.LINK_HEADER_CUT)
_TOO_DEEP = int(UndecodedReason.TOO_DEEP)
_EMPTY = int(UndecodedReason.EMPTY)
_PENDING = int(UndecodedReason.PENDING)
_UNKNOWN = int(PacketDirection.UNKNOWN)


@entry_kernel
def decode_frames(buffer: Bytes, frames: Annotated[np.ndarray, ArrayOf(FRAMES.dtype)], start: int, stop: int):
    """Decode frames `start` to `stop` - 1.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        Captured bytes.
    frames : ndarray of columns.FRAMES.dtype, shape (n_frame,)
        Rows; the columns that the container fills (``frame, ts_ns, record_offset, cap_len, wire_len, link_type,
        interface, packet_direction``) are read, every other column is overwritten, and ``packet_direction`` where a
        Linux cooked header states it. In a FRAGMENT row ``payload_offset`` is where its IP header starts, until
        `SlowPath.finish` has seen it.
    start, stop : int
        Rows to decode.

    Returns
    -------
    int
        How many rows the slow path has to look at: link types that are not known here, and fragments.
    """
    n_open = 0
    for i in range(start, stop):
        row = frames[i]
        offset = np.int64(row["record_offset"])
        cap_len = np.int64(row["cap_len"])
        end = min(offset + cap_len, np.int64(len(buffer)))
        _clear(row)
        if end <= offset:
            row["undecoded_reason"] = _EMPTY
            continue
        wire_end = offset + max(cap_len, np.int64(row["wire_len"]))
        link_type = np.int64(row["link_type"])
        if link_type in (LINK_SLL, LINK_SLL2):
            direction = packet_direction(buffer, link_type, offset, end)
            if direction != _UNKNOWN:
                row["packet_direction"] = direction
        layer, value, offset = enter_link(buffer, link_type, offset, end)
        outcome = walk_headers(buffer, row, layer, value, offset, end, wire_end, _NO_TRACE)
        kind = outcome >> 8
        reason = outcome & 0xFF
        row["kind"] = kind
        row["undecoded_reason"] = reason
        if kind == _FRAGMENT or reason == _PENDING:
            n_open += 1
    return n_open


@kernel
def _clear(row):
    row["payload_offset"] = -1
    row["src_hi"] = 0
    row["src_lo"] = 0
    row["dst_hi"] = 0
    row["dst_lo"] = 0
    row["seq"] = -1
    row["ack"] = -1
    row["ts_val"] = -1
    row["payload_len"] = 0
    row["payload_cap"] = 0
    row["src_port"] = -1
    row["dst_port"] = -1
    row["window"] = -1
    row["ip_id"] = -1
    row["mss"] = -1
    row["flags"] = 0
    row["ttl"] = -1
    row["ip_proto"] = -1
    row["wscale"] = -1
    row["kind"] = _UNDECODED
    row["undecoded_reason"] = 0


@kernel
def walk_headers(buffer, row, layer, value, offset, end, wire_end, trace):
    """Follow headers until one ends the walk; return its verdict.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        Captured bytes.
    row : record of columns.FRAMES.dtype
        Gets what the headers say.
    layer, value, offset : int
        The first header, as `enter_link` returns it.
    end, wire_end : int
        [bytes] Where the captured bytes end, and where they ended on the wire; each IP header that states a length
        narrows the first and replaces the second.
    trace : ndarray of LAYER, shape (n_layer,)
        Gets the headers, as many as it has room for.

    Returns
    -------
    int
        What `verdict` packs.
    """
    ip_version = 0
    ip_offset = offset
    for n in range(MAX_LAYERS):
        if n < len(trace):
            trace[n]["kind"] = layer
            trace[n]["value"] = value
            trace[n]["start"] = offset
            trace[n]["end"] = end
            trace[n]["wire_end"] = wire_end
        if layer == ETHERTYPE:
            layer, value, offset = step_ethertype(buffer, value, offset, end)
        elif layer == IPV4:
            ip_offset = offset
            ip_version = 4
            layer, value, offset, end, wire_end = step_ipv4(buffer, row, offset, end, wire_end)
            if n < len(trace):
                trace[n]["end"] = end
                trace[n]["wire_end"] = wire_end
        elif layer == IP_PROTO:
            if value == PROTO_TCP:
                return fill_tcp(buffer, row, offset, end, wire_end)
            if value == PROTO_UDP:
                layer, value, offset = step_udp(buffer, row, offset, end)
            else:
                layer, value, offset = step_proto(buffer, row, value, ip_version, offset, end, wire_end)
        elif layer == IPV6:
            ip_offset = offset
            ip_version = 6
            layer, value, offset, end, wire_end = step_ipv6(buffer, row, offset, end, wire_end)
            if n < len(trace):
                trace[n]["end"] = end
                trace[n]["wire_end"] = wire_end
        elif layer == ETHERNET:
            layer, value, offset = step_ethernet(buffer, offset, end)
        elif layer == GRE:
            layer, value, offset = step_gre(buffer, offset, end)
        elif layer == LLC:
            layer, value, offset = step_llc(buffer, offset, end)
        elif layer == MPLS:
            layer, value, offset = step_mpls(buffer, offset, end)
        elif layer == PPPOE:
            layer, value, offset = step_pppoe(buffer, offset, end)
        elif layer == PPP:
            layer, value, offset = step_ppp(buffer, offset, end)
        elif layer == RAW_IP:
            layer, value, offset = step_raw_ip(buffer, offset, end)
        if layer == DONE:
            if value == verdict(_FRAGMENT, 0):
                row["payload_offset"] = ip_offset
            elif value == verdict(_ICMP, 0):
                row["payload_offset"] = min(offset, end)
                row["payload_cap"] = max(end - offset, 0)
            elif ip_version and (value == verdict(_NON_IP, 0) or value == verdict(_UNDECODED, _LINK_HEADER_CUT)):
                # Nothing more inside, or a tunnel that carries something else: the last IP header says what it is.
                return verdict(_UDP if row["ip_proto"] == PROTO_UDP else _OTHER_IP, 0)
            return value
    return verdict(_UNDECODED, _TOO_DEEP)
