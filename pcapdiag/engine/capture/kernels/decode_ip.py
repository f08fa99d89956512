"""Steps through IP headers, and the columns they and TCP fill.

The steps have the form of `decode_link`; they fill a row of `columns.FRAMES`, which in the end holds the innermost IP
header that was read whole. ``wire_end`` is where the packet around the header ended on the wire. Steps through IP
headers also return both ends as the header narrows them: it says how long its packet is, and what lies behind is
padding.
"""

import numpy as np

from pcapdiag.base.codes import FrameKind, TcpFlag, UndecodedReason
from pcapdiag.engine.capture.kernels.decode_link import (
    DONE,
    ETHERNET,
    GRE,
    IP_PROTO,
    IPV4,
    IPV6,
    MPLS,
    read_u16,
    read_u32,
    verdict,
)
from pcapdiag.engine.capture.kernels.decode_tunnel import step_udp_tunnel
from pcapdiag.engine.compiler.policy import kernel

PROTO_TCP = 6
PROTO_UDP = 17

_UNDECODED = int(FrameKind.UNDECODED)
_TCP = int(FrameKind.TCP)
_UDP = int(FrameKind.UDP)
_ICMP = int(FrameKind.ICMP)
_OTHER_IP = int(FrameKind.OTHER_IP)
_FRAGMENT = int(FrameKind.FRAGMENT)

_IP_HEADER_CUT = int(UndecodedReason.IP_HEADER_CUT)
_IP_MALFORMED = int(UndecodedReason.IP_MALFORMED)
_TCP_HEADER_CUT = int(UndecodedReason.TCP_HEADER_CUT)
_TCP_MALFORMED = int(UndecodedReason.TCP_MALFORMED)

_ACK = int(TcpFlag.ACK)

_PROTO_ICMP = 1
_PROTO_IPV4 = 4
_PROTO_IPV6 = 41
_PROTO_FRAGMENT = 44
_PROTO_GRE = 47
_PROTO_AH = 51
_PROTO_ICMPV6 = 58
_PROTO_ETHERIP = 97
_PROTO_MPLS = 137
# IPv6 extension headers of one form: hop-by-hop, routing, destination options, mobility, HIP, shim6
_PROTO_EXTENSIONS = (0, 43, 60, 135, 139, 140)

MAX_OFFLOAD_BYTES = 524_288
"""[bytes] The longest packet that segmentation offload makes (Linux's GSO_MAX_SIZE): one whose header states no length
and that claims more, of which not all was captured, has a length that nobody knows."""

_FRAGMENT_BITS = 0x3FFF  # more fragments, or an offset
_IPV4_MAPPED = 0xFFFF00000000
_MAX_WSCALE = 14


@kernel
def _cut_or_malformed(needed_end, wire_end):
    """Tell a header that the snap length cut from one that its own packet is too short for."""
    return verdict(_UNDECODED, _IP_MALFORMED if needed_end > wire_end else _IP_HEADER_CUT)


@kernel
def _is_length_unknown(offset, end, wire_end):
    """Whether a packet that states no length claims, by its record, more than there are packets."""
    return wire_end > end and wire_end - offset > MAX_OFFLOAD_BYTES


@kernel
def step_ipv4(buffer, row, offset, end, wire_end):
    """Read an IPv4 header (RFC 791) into `row`; return the ends as it narrows them as well."""
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
    elif _is_length_unknown(offset, end, wire_end):
        return DONE, verdict(_UNDECODED, _IP_MALFORMED), offset, end, wire_end
    payload = offset + header_len
    if payload > end:
        return DONE, _cut_or_malformed(payload, wire_end), offset, end, wire_end
    proto = np.int64(buffer[offset + 9])
    row["src_hi"] = 0
    row["dst_hi"] = 0
    row["src_lo"] = _IPV4_MAPPED | read_u32(buffer, offset + 12)
    row["dst_lo"] = _IPV4_MAPPED | read_u32(buffer, offset + 16)
    row["ip_id"] = read_u16(buffer, offset + 4)
    row["ttl"] = buffer[offset + 8]
    row["ip_proto"] = proto
    row["src_port"] = -1
    row["dst_port"] = -1
    if read_u16(buffer, offset + 6) & _FRAGMENT_BITS:
        return DONE, verdict(_FRAGMENT, 0), offset, end, wire_end
    return IP_PROTO, proto, payload, end, wire_end


@kernel
def step_ipv6(buffer, row, offset, end, wire_end):
    """Read an IPv6 header (RFC 8200) into `row`; return the ends as it narrows them as well."""
    if offset + 40 > end:
        return DONE, _cut_or_malformed(offset + 40, wire_end), offset, end, wire_end
    if buffer[offset] >> 4 != 6:
        return DONE, verdict(_UNDECODED, _IP_MALFORMED), offset, end, wire_end
    payload_len = read_u16(buffer, offset + 4)
    if payload_len != 0:  # 0: a jumbogram (RFC 2675) or segmentation offload, so the frame's length counts
        wire_end = offset + 40 + payload_len
        end = min(end, wire_end)
    elif _is_length_unknown(offset, end, wire_end):
        return DONE, verdict(_UNDECODED, _IP_MALFORMED), offset, end, wire_end
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
def step_proto(buffer, row, proto, ip_version, offset, end, wire_end):
    """Follow an IP protocol number other than TCP and UDP, in a packet of IP version 4 or 6."""
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
def step_udp(buffer, row, offset, end):
    """Fill the ports and look for a tunnel."""
    if offset + 8 > end:
        return DONE, verdict(_UDP, 0), offset
    dst_port = read_u16(buffer, offset + 2)
    row["src_port"] = read_u16(buffer, offset)
    row["dst_port"] = dst_port
    return step_udp_tunnel(buffer, dst_port, offset + 8, end)


@kernel
def fill_tcp(buffer, row, offset, end, wire_end):
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
    row["payload_offset"] = min(payload, end)  # the snap length may have fallen into the options
    row["payload_cap"] = max(end - payload, 0)
    if header_len > 20:
        _read_options(buffer, row, offset + 20, payload, end)
    return verdict(_TCP, 0)


@kernel
def _read_options(buffer, row, at, stop, end):
    """Read the options in ``[at, stop)`` as far as they were captured and their lengths make sense."""
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
