"""Steps through link layers, tags, labels and tunnel headers, down to the next IP header.

Every step looks at the header that stands at ``offset`` in the uint8 array ``buffer`` and returns
``(layer, value, offset)``: which header comes next, what is already known of it (an EtherType, an IP protocol number),
and where it starts. ``layer`` is `DONE` when nothing follows; ``value`` is then what `verdict` packs. A step reads no
byte at or beyond ``end``, the end of the captured bytes. This module does not know IP headers, TCP, or the rows that
results go to.
"""

import numpy as np

from pcapdiag.base.codes import FrameKind, PacketDirection, UndecodedReason
from pcapdiag.engine.compiler.policy import kernel

DONE = 0
ETHERNET = 1
ETHERTYPE = 2
LLC = 3
PPP = 4
PPPOE = 5
MPLS = 6
RAW_IP = 7
IPV4 = 8
IPV6 = 9
IP_PROTO = 10
GRE = 11

LINK_NULL = 0
LINK_ETHERNET = 1
LINK_PPP = 9
LINK_RAW_BSD = 12
LINK_RAW_OPENBSD = 14
LINK_PPP_SERIAL = 50
LINK_PPP_ETHER = 51
LINK_RAW = 101
LINK_LOOP = 108
LINK_SLL = 113
LINK_IPV4 = 228
LINK_IPV6 = 229
LINK_SLL2 = 276

_UNDECODED = int(FrameKind.UNDECODED)
_NON_IP = int(FrameKind.NON_IP)
_LINK_HEADER_CUT = int(UndecodedReason.LINK_HEADER_CUT)
_IP_HEADER_CUT = int(UndecodedReason.IP_HEADER_CUT)
_IP_MALFORMED = int(UndecodedReason.IP_MALFORMED)
_PENDING = int(UndecodedReason.PENDING)
_UNKNOWN = int(PacketDirection.UNKNOWN)
_INBOUND = int(PacketDirection.INBOUND)
_OUTBOUND = int(PacketDirection.OUTBOUND)
_OTHER = int(PacketDirection.OTHER)

# LINKTYPE_LINUX_SLL: "protocol" values below 1536 are not EtherTypes; 4 announces an 802.2 header.
_SLL_802_2 = 4
_SLL_PACKET_OUTGOING = 4
_MIN_ETHERTYPE = 0x600
# 802.1Q, 802.1ad, and the two numbers that QinQ used before it had one
_ETHERTYPES_VLAN = (0x8100, 0x88A8, 0x9100, 0x9200)
_ETHERTYPES_MPLS = (0x8847, 0x8848)
_ETHERTYPES_PLAUSIBLE = (0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8, 0x8847, 0x8864)
_PPP_MPLS = (0x0281, 0x0283)
_AF_INET = 2
# Linux, Windows, NetBSD and OpenBSD, Solaris, FreeBSD, macOS
_AF_INET6 = (10, 23, 24, 26, 28, 30)
# RFC 1042, and 802.1H for bridged Ethernet; other organisations number their protocols themselves.
_OUIS_ETHERTYPE = (0x000000, 0x0000F8)


@kernel
def verdict(kind, reason):
    """Pack a FrameKind and an UndecodedReason into the value of a `DONE` step."""
    return kind << 8 | reason


@kernel
def read_u16(buffer, at):
    """Return the big-endian 16-bit number at `at`, which the caller has checked, as int64."""
    return np.int64(buffer[at]) << 8 | np.int64(buffer[at + 1])


@kernel
def read_u32(buffer, at):
    """Return the big-endian 32-bit number at `at`, which the caller has checked, as int64."""
    return (
        np.int64(buffer[at]) << 24
        | np.int64(buffer[at + 1]) << 16
        | np.int64(buffer[at + 2]) << 8
        | np.int64(buffer[at + 3])
    )


@kernel
def _non_ip(offset):
    return DONE, verdict(_NON_IP, 0), offset


@kernel
def _cut(offset):
    return DONE, verdict(_UNDECODED, _LINK_HEADER_CUT), offset


@kernel
def packet_direction(buffer, link_type, offset, end):
    """Return the PacketDirection that a Linux cooked header states, UNKNOWN for other link types.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        Captured bytes.
    link_type : int
        LINKTYPE_ number.
    offset, end : int
        [bytes] The frame in `buffer`.

    Returns
    -------
    int
        PacketDirection.
    """
    if link_type == LINK_SLL and offset + 2 <= end:
        packet_type = read_u16(buffer, offset)
    elif link_type == LINK_SLL2 and offset + 11 <= end:
        packet_type = np.int64(buffer[offset + 10])
    else:
        return _UNKNOWN
    if packet_type == 0:
        return _INBOUND
    if packet_type == _SLL_PACKET_OUTGOING:
        return _OUTBOUND
    if packet_type < _SLL_PACKET_OUTGOING:
        return _OTHER  # broadcast, multicast, somebody else's
    return _UNKNOWN


@kernel
def enter_link(buffer, link_type, offset, end):
    """Step over what is particular to a link type.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        Captured bytes.
    link_type : int
        LINKTYPE_ number.
    offset, end : int
        [bytes] The frame in `buffer`.

    Returns
    -------
    tuple of int
        ``(layer, value, offset)``.
    """
    if link_type == LINK_ETHERNET:
        return step_ethernet(buffer, offset, end)
    if link_type in (LINK_RAW, LINK_RAW_BSD, LINK_RAW_OPENBSD):
        return RAW_IP, 0, offset
    if link_type == LINK_IPV4:
        return IPV4, 0, offset
    if link_type == LINK_IPV6:
        return IPV6, 0, offset
    if link_type == LINK_SLL:
        if offset + 16 > end:
            return _cut(offset)
        return _cooked(read_u16(buffer, offset + 14), offset + 16)
    if link_type == LINK_SLL2:
        if offset + 20 > end:
            return _cut(offset)
        return _cooked(read_u16(buffer, offset), offset + 20)
    if link_type in (LINK_NULL, LINK_LOOP):
        return _address_family(buffer, offset, end)
    if link_type == LINK_PPP:
        return PPP, 0, offset
    if link_type == LINK_PPP_SERIAL:
        if offset + 4 > end:
            return _cut(offset)
        if buffer[offset] == 0xFF:
            return PPP, 0, offset
        return ETHERTYPE, read_u16(buffer, offset + 2), offset + 4  # Cisco HDLC
    if link_type == LINK_PPP_ETHER:
        return PPPOE, 0, offset
    return DONE, verdict(_UNDECODED, _PENDING), offset


@kernel
def _cooked(protocol, offset):
    if protocol == _SLL_802_2:
        return LLC, 0, offset
    return ETHERTYPE, protocol, offset


@kernel
def _address_family(buffer, offset, end):
    """Step over the 4 bytes of NULL and LOOP: an address family in the byte order of whoever captured."""
    if offset + 4 > end:
        return _cut(offset)
    family = read_u32(buffer, offset)
    if family > 0xFFFF:
        family = (family & 0xFF) << 24 | (family & 0xFF00) << 8 | (family & 0xFF0000) >> 8 | family >> 24
    if family == _AF_INET:
        return IPV4, 0, offset + 4
    if family in _AF_INET6:
        return IPV6, 0, offset + 4
    if _MIN_ETHERTYPE <= family <= 0xFFFF:
        return ETHERTYPE, family, offset + 4
    return _non_ip(offset)


@kernel
def step_ethernet(buffer, offset, end):
    """Step over an Ethernet header."""
    if offset + 14 > end:
        return _cut(offset)
    return ETHERTYPE, read_u16(buffer, offset + 12), offset + 14


@kernel
def step_ethertype(buffer, ethertype, offset, end):
    """Choose by EtherType (or 802.3 length, below 1536), and step over the tag where it is one."""
    if ethertype == 0x0800:
        return IPV4, 0, offset
    if ethertype == 0x86DD:
        return IPV6, 0, offset
    if ethertype in _ETHERTYPES_VLAN:
        if offset + 4 > end:
            return _cut(offset)
        return ETHERTYPE, read_u16(buffer, offset + 2), offset + 4
    if ethertype < _MIN_ETHERTYPE:
        return LLC, 0, offset
    if ethertype == 0x8864:
        return PPPOE, 0, offset
    if ethertype in _ETHERTYPES_MPLS:
        return MPLS, 0, offset
    if ethertype == 0x6558:  # transparent Ethernet bridging (in GRE, GENEVE)
        return ETHERNET, 0, offset
    if ethertype == 0x880B:
        return PPP, 0, offset
    if ethertype == 0x88E7:  # 802.1ah: a service tag of 4 bytes, then the customer's Ethernet header
        return ETHERNET, 0, offset + 4
    if ethertype == 0x893F:  # 802.1BR: an E-tag of 6 bytes, then the next EtherType
        if offset + 8 > end:
            return _cut(offset)
        return ETHERTYPE, read_u16(buffer, offset + 6), offset + 8
    return _non_ip(offset)


@kernel
def step_llc(buffer, offset, end):
    """Step over 802.2 LLC and SNAP."""
    if offset + 3 > end:
        return _cut(offset)
    dsap = buffer[offset]
    if dsap == 0xAA and buffer[offset + 1] == 0xAA and buffer[offset + 2] == 0x03:
        if offset + 8 > end:
            return _cut(offset)
        oui = read_u16(buffer, offset + 3) << 8 | np.int64(buffer[offset + 5])
        ethertype = read_u16(buffer, offset + 6)
        if oui in _OUIS_ETHERTYPE and ethertype >= _MIN_ETHERTYPE:
            return ETHERTYPE, ethertype, offset + 8
        return _non_ip(offset)
    if dsap == 0x06 and buffer[offset + 1] == 0x06 and buffer[offset + 2] == 0x03:
        return IPV4, 0, offset + 3
    return _non_ip(offset)


@kernel
def step_ppp(buffer, offset, end):
    """Step over PPP, with or without HDLC address and control (RFC 1661, RFC 1662)."""
    if offset + 2 <= end and buffer[offset] == 0xFF and buffer[offset + 1] == 0x03:
        offset += 2
    if offset + 1 > end:
        return _cut(offset)
    # Protocol numbers have an odd low byte and an even high byte: an odd first byte is a compressed field.
    if buffer[offset] & 1:
        protocol = np.int64(buffer[offset])
        offset += 1
    elif offset + 2 > end:
        return _cut(offset)
    else:
        protocol = read_u16(buffer, offset)
        offset += 2
    if protocol == 0x0021:
        return IPV4, 0, offset
    if protocol == 0x0057:
        return IPV6, 0, offset
    if protocol in _PPP_MPLS:
        return MPLS, 0, offset
    return _non_ip(offset)


@kernel
def step_pppoe(buffer, offset, end):
    """Step over a PPPoE session header (RFC 2516); discovery is not IP."""
    if offset + 6 > end:
        return _cut(offset)
    if buffer[offset] != 0x11 or buffer[offset + 1] != 0:
        return _non_ip(offset)
    return PPP, 0, offset + 6


@kernel
def _looks_like_ethernet(buffer, offset, end):
    """Return whether a well-known EtherType stands where an Ethernet header at `offset` would have it."""
    if offset + 14 > end:
        return False
    return read_u16(buffer, offset + 12) in _ETHERTYPES_PLAUSIBLE


@kernel
def step_mpls(buffer, offset, end):
    """Step over one MPLS label; below the last one guess what it carries, since nothing says so."""
    if offset + 4 > end:
        return _cut(offset)
    if not buffer[offset + 2] & 1:
        return MPLS, 0, offset + 4
    offset += 4
    if offset + 1 > end:
        return _cut(offset)
    nibble = buffer[offset] >> 4
    if nibble == 4:
        return IPV4, 0, offset
    if nibble == 6:
        return IPV6, 0, offset
    # RFC 4385: a pseudowire's control word starts with 0, an associated channel (OAM) with 1. An address of an
    # Ethernet pseudowire without control word often starts with 0 too, so its EtherType decides.
    if nibble == 0 and (_looks_like_ethernet(buffer, offset + 4, end) or not _looks_like_ethernet(buffer, offset, end)):
        return ETHERNET, 0, offset + 4
    if nibble == 1 and not _looks_like_ethernet(buffer, offset, end):
        return _non_ip(offset)
    return ETHERNET, 0, offset


@kernel
def step_raw_ip(buffer, offset, end):
    """Choose IPv4 or IPv6 by the version nibble."""
    if offset + 1 > end:
        return DONE, verdict(_UNDECODED, _IP_HEADER_CUT), offset
    version = buffer[offset] >> 4
    if version == 4:
        return IPV4, 0, offset
    if version == 6:
        return IPV6, 0, offset
    return DONE, verdict(_UNDECODED, _IP_MALFORMED), offset
