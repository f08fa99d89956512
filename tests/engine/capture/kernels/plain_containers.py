"""The containers in plain Python: slow, whole files only, no bounds to think of.

Written from the format descriptions (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng), not from the kernels.
"""

import struct
from fractions import Fraction
from typing import NamedTuple

INT64_MAX = 2**63 - 1


class Row(NamedTuple):
    """One frame as a container describes it."""

    ts_ns: int
    offset: int
    cap_len: int
    wire_len: int
    link_type: int
    interface: int = 0
    direction: int = -1


PCAP_KINDS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000, 16),
    b"\xa1\xb2\xc3\xd4": (">", 1000, 16),
    b"\x4d\x3c\xb2\xa1": ("<", 1, 16),
    b"\xa1\xb2\x3c\x4d": (">", 1, 16),
    b"\x34\xcd\xb2\xa1": ("<", 1000, 24),
    b"\xa1\xb2\xcd\x34": (">", 1000, 24),
}


def read_pcap(data):
    """Return the rows of an undamaged pcap file, the last record perhaps cut off."""
    order, tick_ns, header = PCAP_KINDS[data[:4]]
    link_type = struct.unpack_from(order + "I", data, 20)[0] % 2**26
    rows = []
    at = 24
    while at + header <= len(data):
        sec, fraction, cap_len, wire_len = struct.unpack_from(order + "4I", data, at)
        at += header
        if at + cap_len > len(data):
            break
        rows.append(Row(sec * 10**9 + fraction * tick_ns, at, cap_len, min(wire_len, 2**31 - 1), link_type))
        at += cap_len
    return rows


def to_ns(ticks, resolution, offset_s):
    """Return the nanoseconds of a pcapng timestamp, rounded down as the kernel does it; -1 if they do not fit."""
    unit = Fraction(1, 2 ** (resolution & 0x7F)) if resolution & 0x80 else Fraction(1, 10**resolution)
    since_offset = ticks * unit * 10**9 // 1
    ns = since_offset + offset_s * 10**9
    return int(ns) if since_offset <= INT64_MAX and 0 <= ns <= INT64_MAX else -1


def options(body, order):
    """Return {code: value} of the options in `body`."""
    found = {}
    while len(body) >= 4:
        code, length = struct.unpack_from(order + "HH", body)
        if code == 0 or 4 + length > len(body):
            break
        found[code] = body[4 : 4 + length]
        body = body[4 + (length + 3) // 4 * 4 :]
    return found


def read_pcapng(data):
    """Return the rows of an undamaged pcapng file, the last block perhaps cut off."""
    rows = []
    interfaces = []
    order = "<"
    at = 0
    while at + 12 <= len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}[data[at + 8 : at + 12]]
            interfaces = []
        kind, length = struct.unpack_from(order + "II", data, at)
        if at + length > len(data):
            break
        body = data[at + 8 : at + length - 4]
        if kind == 1:
            link_type, _, snaplen = struct.unpack_from(order + "HHI", body)
            said = options(body[8:], order)
            resolution = said.get(9, b"\x06")[0]
            offset_s = struct.unpack(order + "q", said.get(14, bytes(8)))[0]
            interfaces.append((link_type, snaplen, resolution, offset_s))
        elif kind in {2, 6}:
            if kind == 6:
                interface, high, low, cap_len, wire_len = struct.unpack_from(order + "5I", body)
            else:
                interface, _, high, low, cap_len, wire_len = struct.unpack_from(order + "HH4I", body)
            link_type, _, resolution, offset_s = interfaces[interface]
            said = options(body[20 + (cap_len + 3) // 4 * 4 :], order)
            way = struct.unpack(order + "I", said.get(2, bytes(4)))[0] % 4
            rows.append(
                Row(
                    to_ns(high * 2**32 + low, resolution, offset_s),
                    at + 28,
                    cap_len,
                    min(wire_len, 2**31 - 1),
                    link_type,
                    interface,
                    {1: 0, 2: 1}.get(way, -1),
                )
            )
        elif kind == 3:
            (wire_len,) = struct.unpack_from(order + "I", body)
            link_type, snaplen, _, _ = interfaces[0]
            cap_len = min(wire_len, snaplen or wire_len, len(body) - 4)
            rows.append(Row(-1, at + 12, cap_len, min(wire_len, 2**31 - 1), link_type))
        at += length
    return rows


def is_certain_pcap_record(data, at, order, tick_ns, near_s):
    """Return (whether a record beyond doubt stands at `at`, its second, where the next would stand)."""
    sec, fraction, cap_len, wire_len = struct.unpack_from(order + "4I", data, at)
    is_certain = (
        wire_len <= 2**24
        and 0 < cap_len <= min(wire_len, 262_144)
        and fraction * tick_ns < 10**9
        and (not near_s or any(abs(sec - other) <= 7 * 86_400 for other in near_s))
    )
    return is_certain, sec, at + 16 + cap_len


def find_pcap_records(data, start, order, tick_ns, near_s):
    """Return where, from `start` on, records beyond doubt follow one another or end the file; else its end.

    Three are enough, two at the end of the file, and one that ends it if others tell of its time.
    """
    for candidate in range(start, len(data)):
        at, near, n_certain = candidate, near_s, 0
        while n_certain < 3 and at + 16 <= len(data):
            is_certain, sec, at = is_certain_pcap_record(data, at, order, tick_ns, near)
            if not is_certain:
                n_certain = -1
                break
            n_certain += 1
            near = [sec]
        if n_certain in {2, 3} or (n_certain == 1 and at == len(data) and near_s):
            return candidate
    return len(data)
