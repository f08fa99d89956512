"""ICMP errors, and the TCP packet that each quotes: who could not be reached, and who says so.

Bytes are hostile: whatever a message is not, it is not an error that anybody is told of.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from pcapdiag.engine.asides.collect import AsideKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.engine.asides.collect import Aside

_PROTO_ICMP, _PROTO_TCP, _PROTO_ICMPV6 = 1, 6, 58
_MAPPED = 0xFFFF00000000
_QUOTED = (2, 4, 8)
"""[bytes] Of the quoted TCP header: the sender's port, both, both and the sequence number (RFC 792 quotes no more)."""
_LEAST_MTU = {4: 68, 6: 1280}
"""[bytes] RFC 791 and RFC 8200; less is no limit of a path."""
# What a library raises on bytes that are not what they say.
_NOT_READABLE = (
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    UnboundLocalError,
)


class IcmpKind(Enum):
    """What an error says of the packet that it quotes."""

    PORT = "port unreachable"
    HOST = "host unreachable"
    NETWORK = "network unreachable"
    PROHIBITED = "administratively prohibited"
    TOO_BIG = "too big"
    EXPIRED = "hop limit exceeded"
    OTHER = "another error"


@dataclass(frozen=True, slots=True)
class IcmpError:
    """One ICMP or ICMPv6 error about a TCP segment.

    Attributes
    ----------
    frame : int
        0-based index in its capture.
    sender : tuple of (int, int)
        Who sent it, upper and lower half of the address: a router or packet filter, or the addressee itself.
    version : int
        4 or 6, of IP; it tells what `type` and `code` mean.
    mtu : int
        [bytes] Next hop's, of a packet that was too big; -1 if it is not said.
    src, dst : tuple of (int, int, int)
        Of the quoted segment: address (upper and lower half) and port; -1 for a port that the capture cut off.
    seq : int
        Its sequence number; -1 if the capture cut it off, which a short snap length does.
    """

    capture_idx: int
    frame: int
    ts_ns: int
    sender: tuple[int, int]
    ttl: int
    version: int
    type: int
    code: int
    kind: IcmpKind
    words: str
    errno: int
    mtu: int
    src: tuple[int, int, int]
    dst: tuple[int, int, int]
    seq: int

    @property
    def is_cut(self) -> bool:
        """Whether not all of what tells the quoted segment from others was captured."""
        return self.seq < 0

    @property
    def name(self) -> str:
        """How people and Wireshark call it, with its numbers."""
        return f"ICMP{'v6' if self.version == 6 else ''} {self.words} (type {self.type} code {self.code})"


# By type and code; a code of -1 is any other. The errno is what Linux gives connect() (icmp_err_convert, tcp_v6_err).
_MEANINGS: dict[int, dict[tuple[int, int], tuple[IcmpKind, str, int]]] = {
    4: {
        (3, 0): (IcmpKind.NETWORK, "network unreachable", 101),
        (3, 1): (IcmpKind.HOST, "host unreachable", 113),
        (3, 2): (IcmpKind.OTHER, "protocol unreachable", 92),
        (3, 3): (IcmpKind.PORT, "port unreachable", 111),
        (3, 4): (IcmpKind.TOO_BIG, "fragmentation needed", 90),
        (3, 5): (IcmpKind.OTHER, "source route failed", 95),
        (3, 6): (IcmpKind.NETWORK, "network unknown", 101),
        (3, 7): (IcmpKind.HOST, "host unknown", 112),
        (3, 8): (IcmpKind.HOST, "source host isolated", 64),
        (3, 9): (IcmpKind.PROHIBITED, "network administratively prohibited", 101),
        (3, 10): (IcmpKind.PROHIBITED, "host administratively prohibited", 113),
        (3, 11): (IcmpKind.NETWORK, "network unreachable for this type of service", 101),
        (3, 12): (IcmpKind.HOST, "host unreachable for this type of service", 113),
        (3, 13): (IcmpKind.PROHIBITED, "communication administratively prohibited", 113),
        (3, 14): (IcmpKind.PROHIBITED, "host precedence violation", 113),
        (3, 15): (IcmpKind.PROHIBITED, "precedence cutoff in effect", 113),
        (11, 0): (IcmpKind.EXPIRED, "time to live exceeded", 113),
        (12, -1): (IcmpKind.OTHER, "parameter problem", 71),
    },
    6: {
        (1, 0): (IcmpKind.NETWORK, "no route to destination", 101),
        (1, 1): (IcmpKind.PROHIBITED, "communication administratively prohibited", 13),
        (1, 2): (IcmpKind.HOST, "beyond scope of source address", 113),
        (1, 3): (IcmpKind.HOST, "address unreachable", 113),
        (1, 4): (IcmpKind.PORT, "port unreachable", 111),
        (1, 5): (IcmpKind.PROHIBITED, "source address failed policy", 13),
        (1, 6): (IcmpKind.PROHIBITED, "reject route to destination", 13),
        (2, -1): (IcmpKind.TOO_BIG, "packet too big", 90),
        (3, 0): (IcmpKind.EXPIRED, "hop limit exceeded", 113),
        (4, -1): (IcmpKind.OTHER, "parameter problem", 71),
    },
}


def read_icmp_errors(asides: Iterable[Aside]) -> Iterator[IcmpError]:
    """Yield the ICMP errors about TCP segments among some asides.

    Parameters
    ----------
    asides : iterable of Aside
        Of any kind.

    Yields
    ------
    IcmpError
        In the order of the asides; echoes, errors about anything but TCP, and what cannot be read are passed over.
    """
    for aside in asides:
        if aside.kind is AsideKind.ICMP:
            error = _read_error(aside)
            if error is not None:
                yield error


def _read_error(aside: Aside) -> IcmpError | None:
    version = {_PROTO_ICMP: 4, _PROTO_ICMPV6: 6}.get(aside.ip_proto)
    if version is None or len(aside.data) < 8:
        return None
    its_type, code = aside.data[0], aside.data[1]
    meanings = _MEANINGS[version]
    meaning = meanings.get((its_type, code), meanings.get((its_type, -1)))
    if meaning is None:
        return None
    kind, words, errno = meaning
    try:
        quoted, mtu = _read_quoted(aside.data, version, is_too_big=kind is IcmpKind.TOO_BIG)
    except _NOT_READABLE:
        return None
    if quoted is None:
        return None
    src, dst, seq = quoted
    return IcmpError(
        capture_idx=aside.capture_idx,
        frame=aside.frame,
        ts_ns=aside.ts_ns,
        sender=aside.src[:2],
        ttl=aside.ttl,
        version=version,
        type=its_type,
        code=code,
        kind=kind,
        words=words,
        errno=errno,
        mtu=mtu if mtu >= _LEAST_MTU[version] else -1,
        src=src,
        dst=dst,
        seq=seq,
    )


_Quoted = tuple[tuple[int, int, int], tuple[int, int, int], int]


def _read_quoted(data: bytes, version: int, *, is_too_big: bool) -> tuple[_Quoted | None, int]:
    """Return endpoints and sequence number of the TCP segment that a message quotes, and the MTU that it names."""
    import dpkt  # noqa: PLC0415 - most captures hold no such message

    try:
        return _quoted(dpkt, data, version, is_too_big=is_too_big)
    except dpkt.Error as error:
        raise ValueError(str(error)) from error


def _quoted(dpkt: Any, data: bytes, version: int, *, is_too_big: bool) -> tuple[_Quoted | None, int]:
    message = dpkt.icmp.ICMP(data) if version == 4 else dpkt.icmp6.ICMP6(data)
    body = message.data
    if isinstance(body, bytes):
        # A kind of message whose quotation the library leaves alone (a parameter problem).
        body = body[4:]
        packet = dpkt.ip.IP(body) if version == 4 else dpkt.ip6.IP6(body)
    else:
        packet = body.ip if version == 4 else body.ip6
    mtu = int(body.mtu) if is_too_big else -1
    if packet.v != version or packet.p != _PROTO_TCP or _is_later_fragment(packet, version):
        return None, mtu
    src_port, dst_port, seq = _ports_and_sequence(packet.data)
    src, dst = (_halves(address) for address in (packet.src, packet.dst))
    return ((*src, src_port), (*dst, dst_port), seq), mtu


def _is_later_fragment(packet: Any, version: int) -> bool:
    if version == 4:
        return bool(packet.offset)
    return any(getattr(header, "frag_off", 0) for header in packet.all_extension_headers)


def _ports_and_sequence(segment: Any) -> tuple[int, int, int]:
    """Return ports and sequence number of a TCP header that may be cut anywhere; -1 for each that is not whole."""
    if hasattr(segment, "sport"):
        return int(segment.sport), int(segment.dport), int(segment.seq)
    known = len(segment) if isinstance(segment, bytes) else 0
    found = struct.unpack(">HHI", segment[:8].ljust(8, b"\0") if known else bytes(8))
    src_port, dst_port, seq = (n if known >= least else -1 for n, least in zip(found, _QUOTED, strict=True))
    return src_port, dst_port, seq


def _halves(address: bytes) -> tuple[int, int]:
    if len(address) == 4:
        return 0, _MAPPED | int.from_bytes(address, "big")
    return int.from_bytes(address[:8], "big"), int.from_bytes(address[8:], "big")
