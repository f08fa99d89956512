"""Reassembly of IP datagrams from fragments (RFC 791, RFC 8200), within bounds that a hostile capture cannot exceed.

A datagram is kept in units of 8 bytes, as fragment offsets count them, and is whole when every unit up to its last
fragment's end has been seen. Where fragments overlap, the first one seen wins: what most receivers do, and whatever was
there later cannot change what has been read. This module sees bytes, not rows.
"""

import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MAX_BYTES: Final = 4 << 20
MAX_DATAGRAMS: Final = 4096
TIMEOUT_NS: Final = 30 * 10**9
"""[ns] Capture time after which the rest of a datagram will not come (Linux waits as long)."""

_UNIT: Final = 8
_MAX_DATAGRAM_BYTES: Final = 65535

_MISSING: Final = 0
_CAPTURED: Final = 1
_CUT: Final = 2
"""Was on the wire, but the snap length cut it off."""

_Key = tuple[bytes, int, int]


class Fragment(NamedTuple):
    """One fragment, taken apart.

    `key` names its datagram, `head` is the header that the whole datagram would have (lengths not yet right), `offset`
    and `wire_len` say which bytes it carries, `data` are those that were captured.
    """

    key: _Key
    head: bytes
    offset: int
    wire_len: int
    data: bytes
    is_last: bool


@dataclass(slots=True)
class _Datagram:
    first_ts_ns: int
    head: bytes = b""
    """Header of the fragment at offset 0; empty until it is seen."""
    total: int = -1
    data: bytearray = field(default_factory=bytearray)
    units: bytearray = field(default_factory=bytearray)

    def add(self, fragment: Fragment) -> None:
        """Take in what is new of a fragment."""
        end = fragment.offset + fragment.wire_len
        if fragment.is_last and self.total < 0:
            self.total = end
        if fragment.offset == 0 and not self.head:
            self.head = fragment.head
        first, last = fragment.offset // _UNIT, -(-end // _UNIT)
        if len(self.units) < last:
            self.data.extend(bytes(last * _UNIT - len(self.data)))
            self.units.extend(bytes(last - len(self.units)))
        if fragment.wire_len <= len(fragment.data) and not any(
            self.units[first:last]
        ):  # all of it new, as nearly always
            self.data[fragment.offset : end] = fragment.data[: fragment.wire_len]
            self.units[first:last] = bytes([_CAPTURED]) * (last - first)
            return
        for unit in range(first, last):
            if self.units[unit] != _MISSING:
                continue
            start = unit * _UNIT - fragment.offset
            stop = min(start + _UNIT, fragment.wire_len)
            if stop <= len(fragment.data):
                self.data[unit * _UNIT : unit * _UNIT + stop - start] = fragment.data[start:stop]
                self.units[unit] = _CAPTURED
            else:
                self.units[unit] = _CUT

    def is_whole(self) -> bool:
        """Return whether nothing is missing, header and end included."""
        if not self.head or self.total < 0:
            return False
        return self.units.find(_MISSING, 0, -(-self.total // _UNIT)) < 0

    def captured(self) -> bytes:
        """Return the bytes before the first one that was not captured."""
        cut = self.units.find(_CUT, 0, -(-self.total // _UNIT))
        return bytes(self.data[: self.total if cut < 0 else cut * _UNIT])


class Whole(NamedTuple):
    """A reassembled datagram, header first: the bytes that were captured, and its length on the wire."""

    data: bytes
    wire_len: int


def parse_fragment(packet: bytes) -> Fragment | None:
    """Take an IP packet apart that is a fragment.

    Parameters
    ----------
    packet : bytes
        From the IP header on, as far as captured; padding may follow.

    Returns
    -------
    Fragment or None
        None if it cannot be part of any datagram: headers cut or contradictory, a length that is no multiple of 8
        before the end, bytes beyond the largest datagram, nothing inside.
    """
    if not packet:
        return None
    fragment = _parse_v4(packet) if packet[0] >> 4 == 4 else _parse_v6(packet)
    if fragment is None or fragment.wire_len <= 0:
        return None
    if not fragment.is_last and fragment.wire_len % _UNIT:
        return None
    if len(fragment.head) + fragment.offset + fragment.wire_len > _MAX_DATAGRAM_BYTES:
        return None
    return fragment


def _parse_v4(packet: bytes) -> Fragment | None:
    header_len = (packet[0] & 0x0F) * 4
    if header_len < 20 or len(packet) < header_len:
        return None
    total_len, identification, flags_offset = struct.unpack_from(">HHH", packet, 2)
    key = packet[12:20], packet[9], identification
    head = packet[:6] + b"\0\0" + packet[8:header_len]
    return Fragment(
        key,
        head,
        (flags_offset & 0x1FFF) * _UNIT,
        total_len - header_len,
        packet[header_len:total_len],
        not flags_offset & 0x2000,
    )


def _parse_v6(packet: bytes) -> Fragment | None:
    """Walk the headers before the fragment header; they belong to every fragment and to the whole (RFC 8200 4.5)."""
    if len(packet) < 40:
        return None
    (payload_len,) = struct.unpack_from(">H", packet, 4)
    next_field, at = 6, 40
    while packet[next_field] != 44:
        if packet[next_field] not in {0, 43, 51, 60, 135, 139, 140} or len(packet) < at + 8:
            return None
        words = packet[at + 1]
        length = (words + 2) * 4 if packet[next_field] == 51 else (words + 1) * 8
        next_field, at = at, at + length
        if len(packet) <= at:
            return None
    if len(packet) < at + 8:
        return None
    offset_more, identification = struct.unpack_from(">HI", packet, at + 2)
    head = bytearray(packet[:at])
    head[next_field] = packet[at]
    return Fragment(
        # RFC 8200: the addresses and the identification name the datagram, not the protocol.
        (packet[8:40], -1, identification),
        bytes(head),
        offset_more & 0xFFF8,
        40 + payload_len - at - 8,
        packet[at + 8 : 40 + payload_len],
        not offset_more & 1,
    )


class Reassembler:
    """Datagrams whose fragments are still coming in.

    Attributes
    ----------
    n_given_up : int
        Datagrams dropped because the rest did not come in time, or because too many were open at once.
    """

    def __init__(self) -> None:
        self.n_given_up = 0
        self._open: OrderedDict[_Key, _Datagram] = OrderedDict()
        self._n_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, fragment: Fragment, ts_ns: int) -> Whole | None:
        """Take in a fragment; return the whole datagram if it was the last one missing.

        Parameters
        ----------
        fragment : Fragment
            From `parse_fragment`.
        ts_ns : int
            [ns] Its capture time.

        Returns
        -------
        Whole or None
            The datagram, with lengths put right; checksums are not.
        """
        self._expire(ts_ns)
        datagram = self._open.get(fragment.key)
        if datagram is None:
            datagram = self._open[fragment.key] = _Datagram(ts_ns)
        self._n_bytes -= len(datagram.data)
        datagram.add(fragment)
        self._n_bytes += len(datagram.data)
        if not datagram.is_whole():
            while self._n_bytes > MAX_BYTES or len(self._open) > MAX_DATAGRAMS:
                self._drop_oldest()
            return None
        del self._open[fragment.key]
        self._n_bytes -= len(datagram.data)
        return _assemble(datagram)

    def _expire(self, ts_ns: int) -> None:
        while self._open and next(iter(self._open.values())).first_ts_ns < ts_ns - TIMEOUT_NS:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, datagram = self._open.popitem(last=False)
        self._n_bytes -= len(datagram.data)
        self.n_given_up += 1


def _assemble(datagram: _Datagram) -> Whole:
    head = bytearray(datagram.head)
    wire_len = len(head) + datagram.total
    if head[0] >> 4 == 4:
        struct.pack_into(">H", head, 2, wire_len)
    else:
        struct.pack_into(">H", head, 4, wire_len - 40)
    return Whole(bytes(head) + datagram.captured(), wire_len)
