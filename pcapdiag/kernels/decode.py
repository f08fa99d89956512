"""Frames to rows: from the link header down to the innermost TCP header.

`decode_frames` fills every column of a frame's row that the reader of the container could not know. Each frame gets one
kind and one reason; what the kernels leave open (link types they do not know, fragments) is counted for the slow path.
This module knows headers of single frames, not connections.
"""

import numpy as np

from pcapdiag.codes import FrameKind, TcpFlag, UndecodedReason
from pcapdiag.kernels._kernel import kernel
from pcapdiag.kernels.decode_link import (
    DONE,
    ETHERNET,
    ETHERTYPE,
    GRE,
    IP_PROTO,
    IPV4,
    IPV6,
    LINK_ETHERNET,
    LLC,
    MPLS,
    PPP,
    PPPOE,
    RAW_IP,
    enter_link,
    packet_direction,
    read_u16,
    read_u32,
    step_ethernet,
    step_ethertype,
    step_llc,
    step_mpls,
    step_ppp,
    step_pppoe,
    step_raw_ip,
    verdict,
)
from pcapdiag.kernels.decode_tunnel import step_gre, step_udp_tunnel

MAX_LAYERS = 32
"""Headers followed in one frame, tags, labels and IPv6 extension headers included."""

_UNDECODED = int(FrameKind.UNDECODED)
_TCP = int(FrameKind.TCP)
_UDP = int(FrameKind.UDP)
_ICMP = int(FrameKind.ICMP)
_OTHER_IP = int(FrameKind.OTHER_IP)
_FRAGMENT = int(FrameKind.FRAGMENT)
_NON_IP = int(FrameKind.NON_IP)

_LINK_HEADER_CUT = int(UndecodedReason.LINK_HEADER_CUT)
_IP_HEADER_CUT = int(UndecodedReason.IP_HEADER_CUT)
_IP_MALFORMED = int(UndecodedReason.IP_MALFORMED)
_TCP_HEADER_CUT = int(UndecodedReason.TCP_HEADER_CUT)
_TCP_MALFORMED = int(UndecodedReason.TCP_MALFORMED)
_TOO_DEEP = int(UndecodedReason.TOO_DEEP)
_EMPTY = int(UndecodedReason.EMPTY)
_PENDING = int(UndecodedReason.PENDING)

_ACK = int(TcpFlag.ACK)

_PROTO_ICMP = 1
_PROTO_IPV4 = 4
_PROTO_TCP = 6
_PROTO_UDP = 17
_PROTO_IPV6 = 41
_PROTO_FRAGMENT = 44
_PROTO_GRE = 47
_PROTO_AH = 51
_PROTO_ICMPV6 = 58
_PROTO_ETHERIP = 97
_PROTO_MPLS = 137
# IPv6 extension headers of one form: hop-by-hop, routing, destination options, mobility, HIP, shim6
_PROTO_EXTENSIONS = (0, 43, 60, 135, 139, 140)

_MAX_WSCALE = 14


@kernel
def decode_frames(buffer, frames, start, stop):
    """Decode frames `start` to `stop` - 1.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        Captured bytes.
    frames : ndarray of columns.FRAMES.dtype, shape (n_frame,)
        Rows; ``frame, ts_ns, record_offset, cap_len, wire_len, link_type, interface`` are read, every other column of
        the rows is overwritten. In a FRAGMENT row ``payload_offset`` is where its IP header starts, until
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
        _clear(row)
        offset = np.int64(row["record_offset"])
        cap_len = np.int64(row["cap_len"])
        wire_end = offset + max(cap_len, np.int64(row["wire_len"]))
        end = min(offset + cap_len, np.int64(len(buffer)))
        if end <= offset:
            row["undecoded_reason"] = _EMPTY
            continue
        link_type = np.int64(row["link_type"])
        if link_type == LINK_ETHERNET and offset + 14 <= end:
            layer, value, offset = ETHERTYPE, read_u16(buffer, offset + 12), offset + 14
        else:
            row["packet_direction"] = packet_direction(buffer, link_type, offset, end)
            layer, value, offset = enter_link(buffer, link_type, offset, end)
        outcome = _walk(buffer, row, layer, value, offset, end, wire_end)
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
    row["packet_direction"] = -1


@kernel
def _walk(buffer, row, layer, value, offset, end, wire_end):
    """Follow headers until one ends the walk; return its verdict.

    `end` and `wire_end` bound the current layer, captured and on the wire; each IP header that states a length narrows
    the first and replaces the second.
    """
    ip_version = 0
    ip_offset = offset
    for _ in range(MAX_LAYERS):
        if layer == ETHERTYPE:
            layer, value, offset = step_ethertype(buffer, value, offset, end)
        elif layer == IPV4:
            ip_offset = offset
            ip_version = 4
            layer, value, offset, end, wire_end = _step_ipv4(buffer, row, offset, end, wire_end)
        elif layer == IP_PROTO:
            if value == _PROTO_TCP:
                return _fill_tcp(buffer, row, offset, end, wire_end)
            if value == _PROTO_UDP:
                layer, value, offset = _step_udp(buffer, row, offset, end)
            else:
                layer, value, offset = _step_proto(buffer, row, value, ip_version, offset, end, wire_end)
        elif layer == IPV6:
            ip_offset = offset
            ip_version = 6
            layer, value, offset, end, wire_end = _step_ipv6(buffer, row, offset, end, wire_end)
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
            elif ip_version and (value == verdict(_NON_IP, 0) or value == verdict(_UNDECODED, _LINK_HEADER_CUT)):
                # Nothing more inside, or a tunnel that carries something else: the last IP header says what it is.
                return verdict(_UDP if row["ip_proto"] == _PROTO_UDP else _OTHER_IP, 0)
            return value
    return verdict(_UNDECODED, _TOO_DEEP)


@kernel
def _cut_or_malformed(needed_end, wire_end):
    """Tell a header that the snap length cut from one that its own packet is too short for."""
    return verdict(_UNDECODED, _IP_MALFORMED if needed_end > wire_end else _IP_HEADER_CUT)


@kernel
def _step_ipv4(buffer, row, offset, end, wire_end):
    if offset + 20 > end:
        return DONE, _cut_or_malformed(offset + 20, wire_end), offset, end, wire_end
    first = np.int64(buffer[offset])
    header_len = (first & 0x0F) * 4
    total_len = read_u16(buffer, offset + 2)
    if first >> 4 != 4 or header_len < 20 or (total_len != 0 and total_len < header_len):
        return DONE, verdict(_UNDECODED, _IP_MALFORMED), offset, end, wire_end
    if total_len != 0:  # 0: captured before segmentation offload filled it in, so the frame's length counts
        wire_end = offset + total_len
        end = min(end, wire_end)
    payload = offset + header_len
    if payload > end:
        return DONE, _cut_or_malformed(payload, wire_end), offset, end, wire_end
    proto = np.int64(buffer[offset + 9])
    row["src_hi"] = 0
    row["dst_hi"] = 0
    row["src_lo"] = 0xFFFF00000000 | read_u32(buffer, offset + 12)
    row["dst_lo"] = 0xFFFF00000000 | read_u32(buffer, offset + 16)
    row["ip_id"] = read_u16(buffer, offset + 4)
    row["ttl"] = buffer[offset + 8]
    row["ip_proto"] = proto
    row["src_port"] = -1
    row["dst_port"] = -1
    if read_u16(buffer, offset + 6) & 0x3FFF:  # more fragments, or an offset
        return DONE, verdict(_FRAGMENT, 0), offset, end, wire_end
    return IP_PROTO, proto, payload, end, wire_end


@kernel
def _step_ipv6(buffer, row, offset, end, wire_end):
    if offset + 40 > end:
        return DONE, _cut_or_malformed(offset + 40, wire_end), offset, end, wire_end
    if buffer[offset] >> 4 != 6:
        return DONE, verdict(_UNDECODED, _IP_MALFORMED), offset, end, wire_end
    payload_len = read_u16(buffer, offset + 4)
    if payload_len != 0:  # 0: a jumbogram (RFC 2675) or segmentation offload, so the frame's length counts
        wire_end = offset + 40 + payload_len
        end = min(end, wire_end)
    proto = np.int64(buffer[offset + 6])
    row["src_hi"] = _read_u64(buffer, offset + 8)
    row["src_lo"] = _read_u64(buffer, offset + 16)
    row["dst_hi"] = _read_u64(buffer, offset + 24)
    row["dst_lo"] = _read_u64(buffer, offset + 32)
    row["ip_id"] = -1
    row["ttl"] = buffer[offset + 7]
    row["ip_proto"] = proto
    row["src_port"] = -1
    row["dst_port"] = -1
    return IP_PROTO, proto, offset + 40, end, wire_end


@kernel
def _read_u64(buffer, at):
    # Both halves become unsigned before they meet: the upper bit must not turn into a sign.
    return np.uint64(read_u32(buffer, at)) << np.uint64(32) | np.uint64(read_u32(buffer, at + 4))


@kernel
def _step_proto(buffer, row, proto, ip_version, offset, end, wire_end):
    """Follow an IP protocol number other than TCP and UDP; ``(layer, value, offset)``."""
    if proto in (_PROTO_ICMP, _PROTO_ICMPV6):
        return DONE, verdict(_ICMP, 0), offset
    if proto == _PROTO_IPV4:
        return IPV4, 0, offset
    if proto == _PROTO_IPV6:
        return IPV6, 0, offset
    if proto == _PROTO_GRE:
        return GRE, 0, offset
    if proto == _PROTO_MPLS:
        return MPLS, 0, offset
    if proto == _PROTO_ETHERIP:
        return ETHERNET, 0, offset + 2
    is_fragment = ip_version == 6 and proto == _PROTO_FRAGMENT
    is_extension = ip_version == 6 and proto in _PROTO_EXTENSIONS
    if not (is_fragment or is_extension or proto == _PROTO_AH):
        return DONE, verdict(_OTHER_IP, 0), offset
    if offset + 8 > end:
        return DONE, _cut_or_malformed(offset + 8, wire_end), offset
    proto_inside = np.int64(buffer[offset])
    row["ip_proto"] = proto_inside
    if is_fragment:
        # An offset or more fragments; with neither it is an atomic fragment, whole by itself (RFC 6946).
        if read_u16(buffer, offset + 2) & 0xFFF9:
            return DONE, verdict(_FRAGMENT, 0), offset
        return IP_PROTO, proto_inside, offset + 8
    # The length excludes the first 8 bytes and counts units of 8; AH counts units of 4, and excludes two of them.
    length = np.int64(buffer[offset + 1])
    inner = offset + ((length + 2) * 4 if proto == _PROTO_AH else (length + 1) * 8)
    if inner > end:
        return DONE, _cut_or_malformed(inner, wire_end), offset
    return IP_PROTO, proto_inside, inner


@kernel
def _step_udp(buffer, row, offset, end):
    if offset + 8 > end:
        return DONE, verdict(_UDP, 0), offset
    dst_port = read_u16(buffer, offset + 2)
    row["src_port"] = read_u16(buffer, offset)
    row["dst_port"] = dst_port
    return step_udp_tunnel(buffer, dst_port, offset + 8, end)


@kernel
def _fill_tcp(buffer, row, offset, end, wire_end):
    """Fill the TCP columns; return the verdict. RFC 9293 section 3.1."""
    if offset + 20 > wire_end:
        return verdict(_UNDECODED, _TCP_MALFORMED)
    if offset + 20 > end:
        return verdict(_UNDECODED, _TCP_HEADER_CUT)
    header_len = (np.int64(buffer[offset + 12]) >> 4) * 4
    payload = offset + header_len
    if header_len < 20 or payload > wire_end:
        return verdict(_UNDECODED, _TCP_MALFORMED)
    flags = np.int64(buffer[offset + 13])
    row["src_port"] = read_u16(buffer, offset)
    row["dst_port"] = read_u16(buffer, offset + 2)
    row["seq"] = read_u32(buffer, offset + 4)
    if flags & _ACK:
        row["ack"] = read_u32(buffer, offset + 8)
    row["flags"] = flags
    row["window"] = read_u16(buffer, offset + 14)
    row["payload_len"] = wire_end - payload
    if payload <= end:
        row["payload_offset"] = payload
        row["payload_cap"] = end - payload
        if header_len > 20:
            _read_options(buffer, row, offset + 20, payload, end)
    else:  # the snap length fell into the options
        row["payload_offset"] = end
        _read_options(buffer, row, offset + 20, payload, end)
    return verdict(_TCP, 0)


@kernel
def _read_options(buffer, row, at, stop, end):
    """Read the options in ``[at, stop)`` as far as they were captured and their lengths make sense."""
    # The layout of RFC 7323 appendix A, which nearly every segment of a connection with timestamps has
    if stop == at + 12 and stop <= end and read_u32(buffer, at) == 0x0101080A:
        row["ts_val"] = read_u32(buffer, at + 4)
        return
    while at + 1 < stop and at + 1 < end:  # each round takes at least one byte
        option = buffer[at]
        if option == 1:
            at += 1
            continue
        length = np.int64(buffer[at + 1])
        if option == 0 or length < 2 or at + length > stop:
            return
        if option == 8 and length == 10 and at + 6 <= end:
            row["ts_val"] = read_u32(buffer, at + 2)
        elif option == 2 and length == 4 and at + 4 <= end:
            row["mss"] = read_u16(buffer, at + 2)
        elif option == 3 and length == 3 and at + 3 <= end:
            # RFC 7323 section 2.3: a larger shift must be taken for 14.
            row["wscale"] = min(np.int64(buffer[at + 2]), _MAX_WSCALE)
        at += length
