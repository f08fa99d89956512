"""Link headers that the kernels do not know: how many bytes they take, and what a kernel can start with after them.

Only header lengths and protocol fields are read here; what follows is the kernels' business. Frames with such links are
rare, so this is plain Python. Layouts are those of https://www.tcpdump.org/linktypes.html.
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from pcapdiag.codes import PacketDirection

MAX_HEADER_BYTES: Final = 512
"""[bytes] No header here is longer; a caller need not pass more of a frame."""

NOT_IP: Final = -1
"""Instead of a link type: the frame carries nothing that could be IP (management, encrypted, empty)."""

_ETHERNET: Final = 1
_PPP: Final = 9
_LLC: Final = 100
_RAW: Final = 101
_ETHERTYPE: Final = 104
"""Cisco HDLC: two bytes of no interest, then an EtherType."""


class Inner(NamedTuple):
    """What a kernel can go on with: a link type it knows, how many bytes to skip, and the frame's direction."""

    link_type: int
    skip: int = 0
    direction: PacketDirection = PacketDirection.UNKNOWN


def find_inner(link_type: int, head: bytes) -> Inner | None:
    """Find what a frame of a rare link type carries.

    Parameters
    ----------
    link_type : int
        LINKTYPE_ number.
    head : bytes
        The frame, or its first `MAX_HEADER_BYTES`.

    Returns
    -------
    Inner or None
        None if the link type is not known here either. `skip` may lie beyond the end of `head`.

    Raises
    ------
    IndexError, struct.error
        If `head` ends inside the header.
    """
    fixed = _FIXED.get(link_type)
    if fixed is not None:
        return fixed
    read = _READERS.get(link_type)
    return None if read is None else read(head)


def _sent_or_received(sent: bool) -> PacketDirection:  # noqa: FBT001 - the one thing that the header byte says
    return PacketDirection.OUTBOUND if sent else PacketDirection.INBOUND


def _read_802_11(head: bytes, *, padded: bool = False) -> Inner:
    """IEEE 802.11-2020 section 9.3.2.1: only unprotected data frames carry LLC in the clear."""
    control, flags = head[0], head[1]
    if control & 0x0F != 0x08 or control & 0x40 or flags & 0x40:
        return Inner(NOT_IP)
    length = 30 if flags & 0x03 == 0x03 else 24
    aggregated = False
    if control & 0x80:  # QoS data
        aggregated = bool(head[length] & 0x80)
        length += 2
        if flags & 0x80:  # HT control
            length += 4
    if padded:
        length = (length + 3) & ~3
    # Of aggregated subframes, each with an Ethernet-like header, only the first is followed.
    return Inner(_LLC, length + 14 if aggregated else length)


def _read_radiotap(head: bytes) -> Inner:
    """Radiotap: only the flags field matters, which says whether the 802.11 header is padded to 4 bytes."""
    (length,) = struct.unpack_from("<H", head, 2)
    at = 4
    (present,) = struct.unpack_from("<I", head, at)
    last = present
    at += 4
    while last & 0x80000000:
        (last,) = struct.unpack_from("<I", head, at)
        at += 4
    padded = False
    if present & 0x02:
        if present & 0x01:
            at = ((at + 7) & ~7) + 8
        padded = bool(head[at] & 0x20)
    return _behind(_read_802_11(head[length:], padded=padded), length)


def _behind(inner: Inner, length: int) -> Inner:
    return inner._replace(skip=inner.skip + length)


def _read_prism(head: bytes) -> Inner:
    """Step over a Prism header of fixed length, or AVS under Prism's number, which its magic number tells."""
    if head[:3] == b"\x80\x21\x10":
        return _read_avs(head)
    return _behind(_read_802_11(head[144:]), 144)


def _read_avs(head: bytes) -> Inner:
    (length,) = struct.unpack_from(">I", head, 4)
    return _behind(_read_802_11(head[length:]), length)


def _read_ppi(head: bytes) -> Inner:
    length, dlt = struct.unpack_from("<HI", head, 2)
    return _of_dlt(dlt, length)


def _read_pktap(head: bytes) -> Inner:
    """Apple's tap on all interfaces: length, type, DLT, interface name, flags (1 in, 2 out)."""
    length, _, dlt = struct.unpack_from("<III", head, 0)
    (flags,) = struct.unpack_from("<I", head, 36)
    inner = _of_dlt(dlt, length)
    return inner._replace(direction=_sent_or_received(bool(flags & 2))) if flags & 3 else inner


def _of_dlt(dlt: int, skip: int) -> Inner:
    """Take a DLT_ number for a LINKTYPE_ number: they are the same for all that matter here."""
    return Inner(dlt if dlt < 1 << 16 else NOT_IP, skip)


def _read_nflog(head: bytes) -> Inner:
    """Netfilter log: attributes in the byte order of the capturing machine; number 9 is the IP packet."""
    for order in "<", ">":
        at = 4
        while at + 4 <= len(head):
            length, kind = struct.unpack_from(f"{order}HH", head, at)
            if length < 4:
                break
            if kind == 9:
                return Inner(_RAW, at + 4)
            at += (length + 3) & ~3
    return Inner(NOT_IP)


def _read_frame_relay(head: bytes) -> Inner:
    """RFC 2427 behind a Q.922 address of any length, or Cisco's EtherType behind one of two bytes."""
    at = 0
    while not head[at] & 1:
        at += 1
    at += 1
    if head[at] != 0x03:
        return Inner(_ETHERTYPE, at - 2) if at == 2 else Inner(NOT_IP)
    at += 1
    if head[at] == 0x00:  # pad
        at += 1
    nlpid = head[at]
    if nlpid in {0xCC, 0x8E}:
        return Inner(_RAW, at + 1)
    if nlpid == 0x80 and head[at + 1 : at + 4] == b"\0\0\0":  # SNAP
        return Inner(_ETHERTYPE, at + 2)
    return Inner(NOT_IP)


def _read_token_ring(head: bytes) -> Inner:
    return Inner(_LLC, 14 + (head[14] & 0x1F if head[8] & 0x80 else 0))


def _read_pflog(head: bytes) -> Inner:
    return Inner(_RAW, (head[0] + 3) & ~3)


def _read_sun_atm(head: bytes) -> Inner:
    direction = _sent_or_received(bool(head[0] & 0x80))
    traffic = head[0] & 0x0F
    if traffic == 2:
        return Inner(_LLC, 4, direction)
    return Inner(_ETHERNET, 6, direction) if traffic == 1 else Inner(NOT_IP)


def _read_erf(head: bytes) -> Inner:
    """Endace: 16 bytes, extension headers of 8 while the top bit is set; Ethernet lies behind an offset and a pad."""
    kind = head[8]
    at = 16
    more = kind & 0x80
    while more:
        more = head[at] & 0x80
        at += 8
    return Inner(_ETHERNET, at + 2) if kind & 0x7F in {2, 11, 16, 20} else Inner(NOT_IP)


def _read_ip_over_infiniband(head: bytes) -> Inner:
    """Step over a pseudo header of 40 bytes, the EtherType, and two reserved bytes."""
    (ethertype,) = struct.unpack_from(">H", head, 40)
    return Inner(_RAW, 44) if ethertype in {0x0800, 0x86DD} else Inner(NOT_IP)


def _read_direction_byte(link_type: int) -> Callable[[bytes], Inner]:
    return lambda head: Inner(link_type, 1, _sent_or_received(head[0] != 0))


def _read_frame_relay_direction(head: bytes) -> Inner:
    return _behind(_read_frame_relay(head[1:]), 1)._replace(direction=_sent_or_received(head[0] != 0))


_FIXED: Final[dict[int, Inner]] = {
    10: Inner(_LLC, 13),  # FDDI
    109: Inner(_RAW, 12),  # OpenBSD enc(4)
    122: Inner(_LLC, 16),  # IP over Fibre Channel
    138: Inner(_ETHERTYPE, 14),  # IP over IEEE 1394
    226: Inner(_RAW, 24),  # Solaris ipnet
    240: Inner(_ETHERNET, 4),  # netANALYZER
    241: Inner(_ETHERNET, 12),  # netANALYZER, transparent
    281: Inner(_ETHERTYPE, 14),  # Broadcom switch tag
    282: Inner(_ETHERNET, 4),  # Broadcom switch tag, prepended
    284: Inner(_ETHERTYPE, 14),  # Marvell DSA tag
    285: Inner(_ETHERTYPE, 18),  # Marvell EtherType DSA tag
}

_READERS: Final[dict[int, Callable[[bytes], Inner]]] = {
    6: _read_token_ring,
    8: lambda head: Inner(_RAW, 16, _sent_or_received(head[0] != 0)),  # SLIP
    105: _read_802_11,
    107: _read_frame_relay,
    117: _read_pflog,
    119: _read_prism,
    123: _read_sun_atm,
    127: _read_radiotap,
    163: _read_avs,
    166: lambda head: Inner(_PPP, 2, _sent_or_received(head[0] != 0)),  # pppd: direction, control
    192: _read_ppi,
    197: _read_erf,
    204: _read_direction_byte(_PPP),
    205: _read_direction_byte(_ETHERTYPE),
    206: _read_frame_relay_direction,
    239: _read_nflog,
    242: _read_ip_over_infiniband,
    258: _read_pktap,
}
