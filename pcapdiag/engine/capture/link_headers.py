"""Rarer link headers of machines that run proxies: how many bytes they take, and what a kernel can start with then.

Only header lengths and protocol fields are read here; what follows is the kernels' business. Frames with such links are
rare, so this is plain Python. What no proxy has (Wi-Fi, Token Ring, ATM and their like) is not decoded. Layouts are
those of https://www.tcpdump.org/linktypes.html.
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from pcapdiag.base.codes import PacketDirection
from pcapdiag.engine.capture.kernels.decode_link import LINK_ETHERNET, LINK_PPP, LINK_RAW

MAX_HEADER_BYTES: Final = 512
"""[bytes] No header here is longer; a caller need not pass more of a frame."""

NOT_IP: Final = -1
"""Instead of a link type: the frame carries nothing that could be IP (management, encrypted, empty)."""


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
    read = _READERS.get(link_type)
    return None if read is None else read(head)


def _sent_or_received(sent: bool) -> PacketDirection:  # noqa: FBT001 - the one thing that the header byte says
    return PacketDirection.OUTBOUND if sent else PacketDirection.INBOUND


def _read_pktap(head: bytes) -> Inner:
    """Apple's tap on all interfaces: length, type, DLT, interface name, flags (1 in, 2 out)."""
    length, _, dlt = struct.unpack_from("<III", head, 0)
    (flags,) = struct.unpack_from("<I", head, 36)
    # A DLT_ number is the LINKTYPE_ number for all that matter here.
    direction = _sent_or_received(bool(flags & 2)) if flags & 3 else PacketDirection.UNKNOWN
    return Inner(dlt if dlt < 1 << 16 else NOT_IP, length, direction)


def _read_nflog(head: bytes) -> Inner:
    """Netfilter log: attributes in the byte order of the capturing machine; number 9 is the IP packet."""
    for order in "<", ">":
        at = 4
        while at + 4 <= len(head):
            length, kind = struct.unpack_from(f"{order}HH", head, at)
            if length < 4:
                break
            if kind == 9:
                return Inner(LINK_RAW, at + 4)
            at += (length + 3) & ~3
    return Inner(NOT_IP)


def _read_pflog(head: bytes) -> Inner:
    return Inner(LINK_RAW, (head[0] + 3) & ~3)


def _read_erf(head: bytes) -> Inner:
    """Endace: 16 bytes, extension headers of 8 while the top bit is set; Ethernet lies behind an offset and a pad."""
    kind = head[8]
    at = 16
    more = kind & 0x80
    while more:
        more = head[at] & 0x80
        at += 8
    return Inner(LINK_ETHERNET, at + 2) if kind & 0x7F in {2, 11, 16, 20} else Inner(NOT_IP)


_READERS: Final[dict[int, Callable[[bytes], Inner]]] = {
    109: lambda _: Inner(LINK_RAW, 12),  # OpenBSD enc(4): IPsec
    117: _read_pflog,
    166: lambda head: Inner(LINK_PPP, 2, _sent_or_received(head[0] != 0)),  # pppd: direction, control
    197: _read_erf,
    204: lambda head: Inner(LINK_PPP, 1, _sent_or_received(head[0] != 0)),
    226: lambda _: Inner(LINK_RAW, 24),  # illumos ipnet: zones
    239: _read_nflog,
    258: _read_pktap,
}
