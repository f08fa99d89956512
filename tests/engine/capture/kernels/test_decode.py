"""Facts about decoding single frames, and the kernel against its plain twin."""

import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.base.codes import FrameKind, PacketDirection, UndecodedReason
from pcapdiag.base.columns import FRAMES
from pcapdiag.engine.capture.kernels import decode_tunnel
from pcapdiag.engine.capture.kernels.decode import MAX_LAYERS, decode_frames
from pcapdiag.engine.capture.kernels.decode_ip import MAX_OFFLOAD_BYTES
from tests.engine.capture.kernels.plain_decode import MAPPED, NOTHING, decode_frame

ETHERNET, RAW, SLL, SLL2 = 1, 101, 113, 276
LINK_TYPES = (0, 1, 9, 12, 14, 50, 51, 101, 108, 113, 228, 229, 276)
CONTAINER = ("frame", "ts_ns", "record_offset", "cap_len", "wire_len", "link_type", "interface", "packet_direction")
SRC, DST = bytes([10, 0, 0, 1]), bytes([192, 168, 200, 255])
SRC6, DST6 = bytes.fromhex("fe80" + "00" * 13 + "01"), bytes.fromhex("20010db8" + "ff" * 12)
PAYLOAD = b"GET / HTTP/1.1\r\n\r\n"


def decode(*frames):
    """Return the rows of frames given as ``(link_type, data)`` or ``(link_type, data, wire_len)``."""
    rows = FRAMES.empty(len(frames))
    rows.view(np.uint8)[:] = 0x55  # whatever the rows held before
    buffer = bytearray(b"\xee" * 7)
    for i, (link_type, data, *wire_len) in enumerate(frames):
        rows[i]["frame"] = i
        rows[i]["record_offset"] = len(buffer)
        rows[i]["cap_len"] = len(data)
        rows[i]["wire_len"] = wire_len[0] if wire_len else len(data)
        rows[i]["link_type"] = link_type
        rows[i]["packet_direction"] = PacketDirection.UNKNOWN
        buffer += data + b"\xee" * 16
    pending = decode_frames(np.frombuffer(bytes(buffer), dtype=np.uint8).copy(), rows, 0, len(rows))
    open_rows = (rows["kind"] == FrameKind.FRAGMENT) | (rows["undecoded_reason"] == UndecodedReason.PENDING)
    assert pending == open_rows.sum()
    return rows


def columns(row):
    """Return what decoding filled, offsets counted from the start of the frame."""
    found = {name: int(row[name]) for name in FRAMES.names if name not in CONTAINER}
    if found["payload_offset"] >= 0:
        found["payload_offset"] -= int(row["record_offset"])
    return found


def tcp(payload=PAYLOAD, *, flags=0x18, options=b"", offset=None, seq=0xFFFFFFFE, ack=0x80000000):
    words = 5 + len(options) // 4 if offset is None else offset
    return struct.pack(">HHIIBBHHH", 443, 51234, seq, ack, words << 4, flags, 65535, 0, 0) + options + payload


def udp(payload, port=9, src_port=40000):
    return struct.pack(">HHHH", src_port, port, 8 + len(payload), 0) + payload


def ipv4(payload, proto=6, *, total=None, fragment=0x4000, options=b"", first=None):
    length = 20 + len(options) + len(payload) if total is None else total
    first = 0x45 + len(options) // 4 if first is None else first
    return struct.pack(">BBHHHBBH", first, 0, length, 4711, fragment, 63, proto, 0) + SRC + DST + options + payload


def ipv6(payload, proto=6, *, length=None):
    return (
        struct.pack(">IHBB", 0x60000000, len(payload) if length is None else length, proto, 127) + SRC6 + DST6 + payload
    )


def ethernet(payload, ethertype=0x0800):
    return b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02" + struct.pack(">H", ethertype) + payload


def vlan(payload, ethertype=0x0800):
    return struct.pack(">HH", 0x2064, ethertype) + payload


def geneve(payload, options=b"", ethertype=0x6558):
    return struct.pack(">BBHI", len(options) // 4, 0x40, ethertype, 77 << 8) + options + payload


VXLAN = b"\x08\0\0\0\0\0\x07\0"
PACKET = ipv4(tcp())
PACKET6 = ipv6(tcp())
EXPECTED = NOTHING | {
    "src_lo": MAPPED | int.from_bytes(SRC, "big"),
    "dst_lo": MAPPED | int.from_bytes(DST, "big"),
    "seq": 0xFFFFFFFE,
    "ack": 0x80000000,
    "payload_len": len(PAYLOAD),
    "payload_cap": len(PAYLOAD),
    "src_port": 443,
    "dst_port": 51234,
    "window": 65535,
    "ip_id": 4711,
    "flags": 0x18,
    "ttl": 63,
    "ip_proto": 6,
    "kind": FrameKind.TCP,
    "undecoded_reason": UndecodedReason.NONE,
}
EXPECTED6 = EXPECTED | {
    "src_hi": 0xFE80 << 48,
    "src_lo": 1,
    "dst_hi": 0x20010DB8FFFFFFFF,
    "dst_lo": 0xFFFFFFFFFFFFFFFF,
    "ip_id": -1,
    "ttl": 127,
}

CARRIERS = {
    "Ethernet": (1, ethernet(PACKET)),
    "802.1Q": (1, ethernet(vlan(PACKET), 0x8100)),
    "QinQ": (1, ethernet(vlan(vlan(PACKET), 0x8100), 0x88A8)),
    "three tags": (1, ethernet(vlan(vlan(vlan(PACKET), 0x8100), 0x9100), 0x9200)),
    "802.1BR": (1, ethernet(b"\0" * 6 + b"\x08\x00" + PACKET, 0x893F)),
    "802.1ah": (1, ethernet(b"\0" * 4 + ethernet(PACKET), 0x88E7)),
    "802.3 with SNAP": (1, ethernet(b"\xaa\xaa\x03\0\0\0\x08\0" + PACKET, 8 + len(PACKET))),
    "802.3 with LLC": (1, ethernet(b"\x06\x06\x03" + PACKET, 3 + len(PACKET))),
    "SNAP bridged (802.1H)": (1, ethernet(b"\xaa\xaa\x03\0\0\xf8\x08\0" + PACKET, 8 + len(PACKET))),
    "SLL": (113, struct.pack(">HHH8sH", 0, 1, 6, b"", 0x0800) + PACKET),
    "SLL with 802.2": (113, struct.pack(">HHH8sH", 0, 1, 6, b"", 4) + b"\xaa\xaa\x03\0\0\0\x08\0" + PACKET),
    "SLL with 802.1Q": (113, struct.pack(">HHH8sH", 0, 1, 6, b"", 0x8100) + vlan(PACKET)),
    "SLL2": (276, struct.pack(">HHIHBB8s", 0x0800, 0, 3, 1, 0, 6, b"") + PACKET),
    "NULL little-endian": (0, struct.pack("<I", 2) + PACKET),
    "NULL big-endian": (0, struct.pack(">I", 2) + PACKET),
    "NULL with EtherType": (0, struct.pack("<I", 0x0800) + PACKET),
    "LOOP": (108, struct.pack(">I", 2) + PACKET),
    "RAW": (101, PACKET),
    "RAW of BSD": (12, PACKET),
    "RAW of OpenBSD": (14, PACKET),
    "IPV4": (228, PACKET),
    "PPP": (9, b"\x00\x21" + PACKET),
    "PPP with address and control": (9, b"\xff\x03\x00\x21" + PACKET),
    "PPP with a compressed protocol": (9, b"\x21" + PACKET),
    "PPP_SERIAL": (50, b"\xff\x03\x00\x21" + PACKET),
    "PPP_SERIAL of Cisco": (50, b"\x0f\x00\x08\x00" + PACKET),
    "PPPoE": (1, ethernet(b"\x11\x00\0\x01\0\x40\x00\x21" + PACKET, 0x8864)),
    "PPP_ETHER": (51, b"\x11\x00\0\x01\0\x40\x00\x21" + PACKET),
    "MPLS": (1, ethernet(b"\0\x01\0\x40\0\x02\x01\x40" + PACKET, 0x8847)),
    "MPLS in PPP": (9, b"\x02\x81\0\x02\x01\x40" + PACKET),
    "MPLS pseudowire with control word": (1, ethernet(b"\0\x02\x01\x40" + b"\0" * 4 + ethernet(PACKET), 0x8847)),
    "MPLS pseudowire without": (1, ethernet(b"\0\x02\x01\x40" + ethernet(PACKET), 0x8848)),
    "GRE": (101, ipv4(b"\0\0\x08\0" + PACKET, 47)),
    "GRE of PPP": (101, ipv4(b"\0\0\x88\x0b\xff\x03\x00\x21" + PACKET, 47)),
    "GRE with all fields": (101, ipv4(b"\xb0\0\x08\0" + b"\x11" * 12 + PACKET, 47)),
    "GRE bridging": (101, ipv4(b"\0\0\x65\x58" + ethernet(PACKET), 47)),
    "GRE of PPTP": (101, ipv4(b"\x30\x81\x88\x0b" + b"\x11" * 12 + b"\xff\x03\x00\x21" + PACKET, 47)),
    "GRE in UDP": (101, ipv4(udp(b"\0\0\x08\0" + PACKET, 4754), 17)),
    "ERSPAN I": (101, ipv4(b"\0\0\x88\xbe" + ethernet(PACKET), 47)),
    "ERSPAN II": (101, ipv4(b"\x10\0\x88\xbe" + b"\0" * 12 + ethernet(PACKET), 47)),
    "WCCP 1": (101, ipv4(b"\0\0\x88\x3e" + PACKET, 47)),
    "WCCP 2": (101, ipv4(b"\0\0\x88\x3e" + b"\0" * 4 + PACKET, 47)),
    "IP in IP": (101, ipv4(PACKET, 4)),
    "IPv4 in IPv6": (101, ipv6(PACKET, 4)),
    "MPLS in IP": (101, ipv4(b"\0\x02\x01\x40" + PACKET, 137)),
    "EtherIP": (101, ipv4(b"\x30\0" + ethernet(PACKET), 97)),
    "VXLAN": (1, ethernet(ipv4(udp(VXLAN + ethernet(PACKET), 4789), 17))),
    "VXLAN in IPv6": (1, ethernet(ipv6(udp(VXLAN + ethernet(PACKET), 4789), 17), 0x86DD)),
    "VXLAN on Linux's old port": (101, ipv4(udp(VXLAN + ethernet(PACKET), 8472), 17)),
    "VXLAN with group policy": (101, ipv4(udp(b"\x88\0\0\x05\0\0\x07\0" + ethernet(PACKET), 4789), 17)),
    "VXLAN with a tag inside": (101, ipv4(udp(VXLAN + ethernet(vlan(PACKET), 0x8100), 4789), 17)),
    "GENEVE": (101, ipv4(udp(geneve(ethernet(PACKET)), 6081), 17)),
    "GENEVE with options": (101, ipv4(udp(geneve(ethernet(PACKET), b"\1" * 12), 6081), 17)),
    "GENEVE of IP": (101, ipv4(udp(geneve(PACKET, ethertype=0x0800), 6081), 17)),
    "GTP-U": (101, ipv4(udp(b"\x30\xff\0\0\0\0\0\1" + PACKET, 2152), 17)),
    "GTP-U with extensions": (101, ipv4(udp(b"\x34\xff\0\0\0\0\0\1\0\0\0\x85\1\0\0\xc0\1\0\0\0" + PACKET, 2152), 17)),
    "GTP-U with a sequence number": (101, ipv4(udp(b"\x32\xff\0\0\0\0\0\1\0\7\0\0" + PACKET, 2152), 17)),
    "AH": (101, ipv4(b"\x06\x04" + b"\0" * 22 + tcp(), 51)),
    "IPv4 options": (101, ipv4(tcp(), options=b"\x94\x04\0\0")),
    "not segmented yet": (1, ethernet(ipv4(tcp(), total=0))),
    "Ethernet padding": (1, ethernet(PACKET) + b"\0" * 20),
    "reserved bit of the fragment field": (101, ipv4(tcp(), fragment=0x8000)),
}
TUNNEL_PORTS = sorted(value for name, value in vars(decode_tunnel).items() if name.startswith("_PORT_"))
CARRIERS6 = {
    "Ethernet": (1, ethernet(PACKET6, 0x86DD)),
    "IPV6": (229, PACKET6),
    "NULL of macOS": (0, struct.pack("<I", 30) + PACKET6),
    "NULL of Linux": (0, struct.pack("<I", 10) + PACKET6),
    "LOOP of OpenBSD": (108, struct.pack(">I", 24) + PACKET6),
    "PPP": (9, b"\x00\x57" + PACKET6),
    "MPLS": (1, ethernet(b"\0\x02\x01\x40" + PACKET6, 0x8847)),
    "GTP-U": (101, ipv4(udp(b"\x30\xff\0\0\0\0\0\1" + PACKET6, 2152), 17)),
    "6in4": (101, ipv4(PACKET6, 41)),
    "GRE": (101, ipv6(b"\0\0\x86\xdd" + PACKET6, 47)),
    "hop-by-hop": (101, ipv6(b"\x06\0\x01\x04\0\0\0\0" + tcp(), 0)),
    "routing, destination": (101, ipv6(b"\x3c\x02" + b"\0" * 22 + b"\x06\0\x01\x04\0\0\0\0" + tcp(), 43)),
    "AH": (101, ipv6(b"\x06\x04" + b"\0" * 22 + tcp(), 51)),
    "atomic fragment": (101, ipv6(b"\x06\0\0\0\0\0\0\x07" + tcp(), 44)),
    "no length yet": (101, ipv6(tcp(), length=0)),
    "jumbogram": (101, ipv6(b"\x06\0\xc2\x04\0\1\0\0" + tcp(), 0, length=0)),
    "Ethernet padding": (1, ethernet(PACKET6, 0x86DD) + b"\0" * 20),
}


@pytest.mark.parametrize("name", CARRIERS)
def test_tcp_over_ipv4_is_found_in(name):
    link_type, data = CARRIERS[name]
    assert columns(decode((link_type, data))[0]) == EXPECTED | {"payload_offset": data.index(PAYLOAD)}


def test_a_tunnel_over_udp_is_among_the_carriers_whatever_its_port():
    over_udp = [data for link_type, data in CARRIERS.values() if link_type == 101 and data[0] == 0x45 and data[9] == 17]
    assert {int.from_bytes(data[22:24]) for data in over_udp} == set(TUNNEL_PORTS)
    assert len(TUNNEL_PORTS) > 4


@pytest.mark.parametrize("name", CARRIERS6)
def test_tcp_over_ipv6_is_found_in(name):
    link_type, data = CARRIERS6[name]
    assert columns(decode((link_type, data))[0]) == EXPECTED6 | {"payload_offset": data.index(PAYLOAD)}


@pytest.mark.parametrize(
    ("kind", "link_type", "data"),
    [
        (FrameKind.UDP, 1, ethernet(ipv4(udp(b"x"), 17))),
        (FrameKind.UDP, 101, ipv4(b"\x01\x02", 17)),
        (FrameKind.UDP, 101, ipv4(udp(b"no VXLAN header at all", 4789), 17)),
        (FrameKind.UDP, 101, ipv4(udp(b"\x08\0\0\1\0\0\x07\0" + ethernet(PACKET), 8472), 17)),
        (FrameKind.UDP, 101, ipv4(udp(VXLAN + ethernet(b"\0" * 28, 0x0806), 4789), 17)),
        (FrameKind.UDP, 101, ipv4(udp(b"\x30\x01\0\0\0\0\0\1" + PACKET, 2152), 17)),
        (FrameKind.UDP, 101, ipv4(udp(b"\0\0\x08", 4754), 17)),
        (FrameKind.UDP, 101, ipv4(udp(b"\x40\0\x08\0\0\0\7\0", 6081), 17)),
        (FrameKind.UDP, 101, ipv4(udp(b"\0\0\0\x05\0\0\7\0", 6081), 17)),
        (FrameKind.UDP, 101, ipv4(udp(b"\x34\xff\0\0\0\0\0\1\0\0\0\x85\0" + PACKET, 2152), 17)),
        (FrameKind.UDP, 101, ipv4(udp(b"\x32\xff\0\0\0\0\0\1\0\0", 2152), 17)),
        (FrameKind.UDP, 101, ipv4(udp(b"\x30\xff\0\0\0\0\0\1", 2152), 17)),
        (FrameKind.UDP, 101, ipv4(udp(b"\x30\xff\0\0\0\0\0\1\x70", 2152), 17)),
        (FrameKind.ICMP, 101, ipv4(b"\x03\x01\0\0\0\0\0\0" + PACKET, 1)),
        (FrameKind.ICMP, 101, ipv6(b"\x86\0\0\0", 58)),
        (FrameKind.OTHER_IP, 101, ipv4(b"\0" * 12, 132)),
        (FrameKind.OTHER_IP, 101, ipv6(b"\0" * 12, 50)),
        (FrameKind.OTHER_IP, 101, ipv6(b"", 59)),
        (FrameKind.OTHER_IP, 101, ipv4(b"\0\0\0\0", 47)),
        (FrameKind.OTHER_IP, 101, ipv4(b"\x40\0\x08\0" + PACKET, 47)),
        (FrameKind.OTHER_IP, 101, ipv4(b"\x20\x81\x88\x0b" + b"\0" * 8, 47)),
        (FrameKind.OTHER_IP, 101, ipv4(tcp(), 0)),
        (FrameKind.NON_IP, 1, ethernet(b"\0" * 28, 0x0806)),
        (FrameKind.NON_IP, 1, ethernet(b"\x42\x42\x03" + b"\0" * 35, 38)),
        (FrameKind.NON_IP, 1, ethernet(b"\xaa\xaa\x03\0\0\x0c\x20\0", 8)),
        (FrameKind.NON_IP, 1, ethernet(b"\x11\x09\0\0\0\0", 0x8863)),
        (FrameKind.NON_IP, 1, ethernet(b"\x11\x09\0\0\0\0\0\x21" + PACKET, 0x8864)),
        (FrameKind.NON_IP, 9, b"\xff\x03\xc0\x21\1\1\0\4"),
        (FrameKind.NON_IP, 0, b"\x07\0\0\0"),
        (FrameKind.NON_IP, 1, ethernet(b"\0\x0d\x01\x01\x10\0\0\7", 0x8847)),
        (FrameKind.FRAGMENT, 1, ethernet(ipv4(tcp(), fragment=0x2000))),
        (FrameKind.FRAGMENT, 1, ethernet(ipv4(b"rest", fragment=0x0003))),
        (FrameKind.FRAGMENT, 101, ipv6(b"\x06\0\0\x01\0\0\0\x07" + tcp(), 44)),
    ],
)
def test_a_frame_without_a_tcp_header_is(kind, link_type, data):
    row = decode((link_type, data))[0]
    assert (row["kind"], row["undecoded_reason"]) == (kind, UndecodedReason.NONE)
    assert (row["seq"], row["window"], row["payload_len"]) == (-1, -1, 0)


@pytest.mark.parametrize(
    ("reason", "link_type", "data", "wire_len"),
    [
        (UndecodedReason.EMPTY, 1, b"", 60),
        (UndecodedReason.PENDING, 127, b"\0\0\x08\0", 4),
        (UndecodedReason.LINK_HEADER_CUT, 1, ethernet(b"")[:13], 60),
        (UndecodedReason.LINK_HEADER_CUT, 1, ethernet(b"\0\1\x08", 0x8100), 60),
        (UndecodedReason.LINK_HEADER_CUT, 113, b"\0" * 15, 60),
        (UndecodedReason.LINK_HEADER_CUT, 276, b"\0" * 19, 60),
        (UndecodedReason.LINK_HEADER_CUT, 0, b"\2\0\0", 60),
        (UndecodedReason.IP_HEADER_CUT, 1, ethernet(PACKET)[:33], len(PACKET) + 14),
        (UndecodedReason.IP_HEADER_CUT, 101, ipv4(tcp(), options=b"\1" * 8)[:24], 66),
        (UndecodedReason.IP_HEADER_CUT, 101, PACKET6[:39], len(PACKET6)),
        (UndecodedReason.IP_HEADER_CUT, 101, ipv6(b"\x06\0\x01\x04\0\0\0\0" + tcp(), 0)[:47], 86),
        (UndecodedReason.IP_HEADER_CUT, 101, ipv4(PACKET, 4)[:39], 20 + len(PACKET)),
        (UndecodedReason.IP_MALFORMED, 101, b"\x10" + PACKET[1:], 58),
        (UndecodedReason.IP_MALFORMED, 1, ethernet(PACKET6), 14 + len(PACKET6)),
        (UndecodedReason.IP_MALFORMED, 1, ethernet(PACKET, 0x86DD), 14 + len(PACKET)),
        (UndecodedReason.IP_MALFORMED, 101, ipv4(tcp(), first=0x44), 58),
        (UndecodedReason.IP_MALFORMED, 101, ipv4(tcp(), total=19), 58),
        (UndecodedReason.IP_MALFORMED, 101, ipv4(tcp(), first=0x4F, total=40), 58),
        (UndecodedReason.IP_MALFORMED, 101, PACKET[:19], 19),
        (UndecodedReason.IP_MALFORMED, 101, ipv6(b"\x06\x09" + b"\0" * 30, 60), 72),
        (UndecodedReason.TCP_HEADER_CUT, 101, PACKET[:39], len(PACKET)),
        (UndecodedReason.TCP_MALFORMED, 101, ipv4(tcp(offset=4)), 58),
        (UndecodedReason.TCP_MALFORMED, 101, ipv4(tcp(b"", offset=6)), 40),
        (UndecodedReason.TCP_MALFORMED, 101, ipv4(tcp(), total=39), 58),
        (UndecodedReason.TOO_DEEP, 1, ethernet(b"\0\1\x81\0" * MAX_LAYERS, 0x8100), 200),
        (UndecodedReason.TOO_DEEP, 1, ethernet(b"\0\0\0\0" * MAX_LAYERS, 0x8847), 200),
    ],
)
def test_a_frame_that_cannot_be_decoded_says_why(reason, link_type, data, wire_len):
    row = decode((link_type, data, wire_len))[0]
    assert (row["kind"], UndecodedReason(row["undecoded_reason"])) == (FrameKind.UNDECODED, reason)


def test_a_snap_length_cuts_the_payload_but_not_its_length():
    row = decode((1, ethernet(ipv4(tcp(b"x" * 1000)))[:96], 1054))[0]
    assert (row["payload_len"], row["payload_cap"]) == (1000, 96 - 54)


def test_an_unsegmented_packet_cut_by_the_snap_length_is_as_long_as_the_frame_was():
    row = decode((1, ethernet(ipv4(tcp(b"x" * 100), total=0)), 65600))[0]
    assert (row["payload_len"], row["payload_cap"]) == (65600 - 54, 100)


def test_a_snap_length_inside_the_options_leaves_a_segment_without_captured_payload():
    data = ethernet(ipv4(tcp(options=b"\x02\x04\x05\xb4\x01\x03\x03\x07")))
    row = decode((1, data[:60], len(data)))[0]
    assert (row["kind"], row["payload_len"], row["payload_cap"]) == (FrameKind.TCP, len(PAYLOAD), 0)
    assert (row["mss"], row["wscale"]) == (1460, -1)
    assert row["payload_offset"] == row["record_offset"] + 60


def test_an_ip_packet_longer_than_its_frame_keeps_the_length_its_header_states():
    """Mirror ports and tunnels slice packets, and the slice's length is all the capturing machine saw."""
    row = decode((1, ethernet(ipv4(tcp(), total=1500))))[0]
    assert (row["payload_len"], row["payload_cap"]) == (1460, len(PAYLOAD))


def test_a_wire_length_below_the_captured_length_is_not_believed():
    row = decode((101, ipv4(tcp(), total=0), 1))[0]
    assert row["payload_len"] == len(PAYLOAD)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (b"\x01\x01\x08\x0a\xff\xff\xff\xff\0\0\0\2", (-1, -1, 0xFFFFFFFF)),
        (b"\x02\x04\x05\xb4\x04\x02\x08\x0a\0\0\0\x09\0\0\0\0\x01\x03\x03\x07", (1460, 7, 9)),
        (b"\x02\x04\xff\xff", (65535, -1, -1)),
        (b"\x03\x03\xff\x00", (-1, 14, -1)),
        (b"\x00\x02\x04\x05\xb4\0\0\0", (-1, -1, -1)),
        (b"\x02\x00\x05\xb4", (-1, -1, -1)),
        (b"\x02\x01\x05\xb4", (-1, -1, -1)),
        (b"\x02\x05\x05\xb4", (-1, -1, -1)),
        (b"\x1e\x04\0\0\x02\x04\x05\xb4", (1460, -1, -1)),
        (b"\x02\x03\x05\x02\x04\x05\xb4\x00", (1460, -1, -1)),
        (b"\x01\x01\x01\x08", (-1, -1, -1)),
        (b"\xfd\xff\x02\x04", (-1, -1, -1)),
    ],
)
def test_options_are_read_as_far_as_their_lengths_make_sense(options, found):
    row = decode((1, ethernet(ipv4(tcp(options=options)))))[0]
    assert (row["mss"], row["wscale"], row["ts_val"]) == found
    assert row["payload_cap"] == len(PAYLOAD)


@pytest.mark.parametrize("packet", [ipv4(tcp(), total=0), ipv6(tcp(), length=0)], ids=["IPv4", "IPv6"])
def test_a_packet_that_states_no_length_is_as_long_as_its_frame_but_no_longer_than_offload_makes_any(packet):
    """Beyond that nobody knows its length; what was captured whole needs no claim."""
    most = MAX_OFFLOAD_BYTES
    whole = packet + bytes(most)
    frames = (packet, most), (packet, most + 1), (packet, 2**31 - 1), (whole, len(whole))
    rows = decode(*((RAW, *given) for given in frames))
    assert rows["kind"].tolist() == [FrameKind.TCP, FrameKind.UNDECODED, FrameKind.UNDECODED, FrameKind.TCP]
    assert set(rows["undecoded_reason"][1:3].tolist()) == {int(UndecodedReason.IP_MALFORMED)}
    assert rows["payload_len"][0] == most - (len(packet) - len(PAYLOAD))
    assert rows["payload_cap"].tolist() == [len(PAYLOAD), 0, 0, len(PAYLOAD) + most]
    for row, (data, wire_len) in zip(rows, frames, strict=True):
        assert columns(row) == decode_frame(data, link_type=RAW, wire_len=wire_len)


def test_the_acknowledgement_number_counts_only_with_the_flag():
    rows = decode(*((1, ethernet(ipv4(tcp(flags=flags)))) for flags in (0x02, 0x12, 0x04, 0xFF)))
    assert rows["ack"].tolist() == [-1, 0x80000000, -1, 0x80000000]
    assert rows["flags"].tolist() == [0x02, 0x12, 0x04, 0xFF]


@pytest.mark.parametrize(
    ("packet_type", "direction"),
    [
        (0, PacketDirection.INBOUND),
        (1, PacketDirection.OTHER),
        (2, PacketDirection.OTHER),
        (3, PacketDirection.OTHER),
        (4, PacketDirection.OUTBOUND),
        (5, PacketDirection.UNKNOWN),
    ],
)
def test_a_cooked_header_says_which_way_the_frame_went(packet_type, direction):
    rows = decode(
        (SLL, struct.pack(">HHH8sH", packet_type, 1, 6, b"", 0x0800) + PACKET),
        (SLL2, struct.pack(">HHIHBB8s", 0x0800, 0, 3, 1, packet_type, 6, b"") + PACKET),
    )
    assert rows["packet_direction"].tolist() == [direction, direction]


def test_the_direction_that_the_container_states_is_kept():
    rows = FRAMES.empty(1)
    rows["link_type"], rows["cap_len"], rows["packet_direction"] = RAW, len(PACKET), PacketDirection.OUTBOUND
    decode_frames(np.frombuffer(PACKET, dtype=np.uint8).copy(), rows, 0, 1)
    assert (rows["kind"][0], rows["packet_direction"][0]) == (FrameKind.TCP, PacketDirection.OUTBOUND)


def test_only_the_rows_asked_for_are_decoded():
    data = np.frombuffer(PACKET, dtype=np.uint8).copy()
    rows = FRAMES.empty(3)
    rows["link_type"], rows["cap_len"] = RAW, len(PACKET)
    assert decode_frames(data, rows, 1, 2) == 0
    assert rows["kind"].tolist() == [FrameKind.UNDECODED, FrameKind.TCP, FrameKind.UNDECODED]


def test_a_record_that_claims_more_than_the_buffer_holds_is_read_to_the_buffer_end():
    data = np.frombuffer(PACKET, dtype=np.uint8).copy()
    rows = FRAMES.empty(1)
    rows["link_type"], rows["cap_len"] = RAW, 2**31 - 1
    decode_frames(data, rows, 0, 1)
    assert (rows["payload_len"][0], rows["payload_cap"][0]) == (len(PAYLOAD), len(PAYLOAD))


def test_a_fragment_row_says_where_its_ip_header_starts():
    rows = decode((1, ethernet(vlan(ipv4(b"rest", fragment=3)), 0x8100)))
    assert rows["payload_offset"][0] - rows["record_offset"][0] == 18


U8, U16 = st.integers(0, 255), st.integers(0, 0xFFFF)
SHORT = st.binary(max_size=24)
OPTION = st.one_of(
    st.just(b"\x01"),
    st.builds(lambda kind, body: bytes([kind, len(body) + 2]) + body, U8, st.binary(max_size=10)),
    st.sampled_from([b"\x02\x04\x05\xb4", b"\x03\x03\x07", b"\x08\x0a\0\0\0\1\0\0\0\2", b"\x00"]),
    st.binary(max_size=4),
)


def padded(data):
    return data + bytes(-len(data) % 4)


def to_tcp(options, payload, flags, offset):
    return 6, tcp(payload, flags=flags, options=padded(b"".join(options))[:40], offset=offset)


TRANSPORT = st.one_of(
    st.builds(to_tcp, st.lists(OPTION, max_size=5), SHORT, U8, st.sampled_from([None] * 7 + [4, 5, 15])),
    st.tuples(st.just(17), st.builds(udp, SHORT, st.sampled_from([9, *TUNNEL_PORTS]))),
    st.tuples(U8, SHORT),
)


def to_ip(transport, version, length, fragment, options, hops):
    proto, data = transport
    if version == 4:
        return 0x0800, ipv4(data, proto, total=length, fragment=fragment, options=padded(options)[:40])
    for kind, size in hops:
        proto, data = kind, bytes([proto, size]) + bytes(6 + 8 * size) + data
    return 0x86DD, ipv6(data, proto, length=length)


def ip(transport):
    return st.builds(
        to_ip,
        transport,
        st.sampled_from([4, 6]),
        st.sampled_from([None] * 8 + [0, 19, 20, 39, 60, 1500, 65535]),
        st.sampled_from([0x4000, 0x4000, 0, 0x8000, 0x2000, 1]),
        st.binary(max_size=12),
        st.lists(st.tuples(st.sampled_from([0, 43, 44, 51, 60, 135]), st.integers(0, 2)), max_size=3),
    )


def tunnelled(inner):
    """Wrap ``(ethertype, packet)`` into something that IP carries: ``(protocol, data)``."""

    def wrap(packet, kind, flags):
        ethertype, data = packet
        ether = ethernet(data, ethertype)
        extra = bytes(4 * sum(bool(flags & bit) for bit in (0x8000, 0x2000, 0x1000)))
        return {
            "ipip": (41 if ethertype == 0x86DD else 4, data),
            "gre": (47, struct.pack(">HH", flags, ethertype) + extra + data),
            "bridge": (47, struct.pack(">HH", flags, 0x6558) + extra + ether),
            "erspan": (47, struct.pack(">HH", flags, 0x88BE) + extra + bytes(8 if flags & 0x1000 else 0) + ether),
            "wccp": (47, struct.pack(">HH", flags, 0x883E) + extra + data),
            "pptp": (47, struct.pack(">HH", flags | 1, 0x880B) + extra + b"\x21" + data),
            "etherip": (97, b"\x30\0" + ether),
            "mpls": (137, b"\0\0\x01\0" + data),
            "vxlan": (17, udp(VXLAN + ether, 4789)),
            "geneve": (17, udp(geneve(ether, bytes(flags >> 13 & 4)), 6081)),
            "gtp": (17, udp(b"\x30\xff" + bytes(6) + data, 2152)),
            "gtp extended": (17, udp(b"\x34\xff" + bytes(9) + b"\x85\1\0\0\0" + data, 2152)),
            "gre in udp": (17, udp(struct.pack(">HH", flags, ethertype) + extra + data, 4754)),
            "ah": (51, b"\x04\x01" + bytes(10) + data),
        }[kind]

    kinds = ["ipip", "gre", "bridge", "erspan", "wccp", "pptp", "etherip", "mpls", "vxlan", "geneve", "gtp", "ah"]
    return st.builds(
        wrap,
        inner,
        st.sampled_from([*kinds, "gtp extended", "gre in udp"]),
        st.sampled_from([0, 0x8000, 0x2000, 0x1000, 0xB000, 0x4000, 0x0002]),
    )


PACKETS = st.recursive(ip(TRANSPORT), lambda inner: ip(tunnelled(inner)), max_leaves=3)
TAG = st.sampled_from(["8100", "88a8", "9100", "893f", "8847", "8864", "88e7", "snap", "llc", "arp"])


def tagged(packet, tags):
    ethertype, data = packet
    for tag in tags:
        ethertype, data = {
            "893f": (0x893F, bytes(6) + struct.pack(">H", ethertype) + data),
            "8847": (0x8847, b"\0\0\0\0\0\0\x01\0" + data),
            "8864": (0x8864, b"\x11\0\0\0\0\0\0\x57" + data if ethertype == 0x86DD else b"\x11\0\0\0\0\0\x21" + data),
            "88e7": (0x88E7, bytes(4) + ethernet(data, ethertype)),
            "snap": (len(data) % 1500, b"\xaa\xaa\x03\0\0\0" + struct.pack(">H", ethertype) + data),
            "llc": (len(data) % 1500, b"\x06\x06\x03" + data),
            "arp": (0x0806, data),
        }.get(tag) or (int(tag, 16), struct.pack(">HH", 1, ethertype) + data)
    return ethertype, data


def framed(packet, link_type, packet_type):
    ethertype, data = packet
    v6 = ethertype == 0x86DD
    head = {
        0: struct.pack("<I" if packet_type % 2 else ">I", 30 if v6 else 2),
        1: ethernet(b"", ethertype),
        9: b"\xff\x03\x00\x57" if v6 else b"\x21",
        50: b"\xff\x03\x00\x57" if v6 else b"\x0f\0" + struct.pack(">H", ethertype),
        51: b"\x11\0\0\0\0\0\0" + (b"\x57" if v6 else b"\x21"),
        108: struct.pack(">I", 24 if v6 else 2),
        113: struct.pack(">HHH8sH", packet_type, 1, 6, b"", ethertype),
        276: struct.pack(">HHIHBB8s", ethertype, 0, 3, 1, packet_type, 6, b""),
    }.get(link_type, b"")
    return link_type, head + data


def damaged(frame, cut, changes, padding, wire_extra):
    link_type, data = frame
    data = bytearray(data + bytes(padding))
    for at, value in changes:
        if data:
            data[at % len(data)] = value
    data = bytes(data)
    return link_type, data[: len(data) - cut] if cut else data, max(len(data) + wire_extra, 0)


BUILT = st.builds(
    damaged,
    st.builds(
        framed, st.builds(tagged, PACKETS, st.lists(TAG, max_size=3)), st.sampled_from(LINK_TYPES), st.integers(0, 6)
    ),
    st.sampled_from([0, 0, 0, 1, 7, 18, 19, 40, 60]),
    st.lists(st.tuples(st.integers(0, 120), U8), max_size=2),
    st.sampled_from([0, 0, 0, 1, 20]),
    st.sampled_from([0, 0, 0, -30, 4, 1460]),
)
RANDOM = st.tuples(st.sampled_from([*LINK_TYPES, 127]), st.binary(max_size=120), st.integers(0, 300))


def assert_agrees_with_twin(frames):
    for row, (link_type, data, wire_len) in zip(decode(*frames), frames, strict=True):
        expected = {"packet_direction": -1} | decode_frame(data, link_type=link_type, wire_len=wire_len)
        assert columns(row) | {"packet_direction": int(row["packet_direction"])} == expected


@given(st.lists(BUILT, min_size=1, max_size=8))
def test_the_kernel_agrees_with_its_twin_on_built_and_damaged_frames(frames):
    assert_agrees_with_twin(frames)


@given(st.lists(RANDOM, min_size=1, max_size=8))
@example([(1, b"\0" * 12 + b"\x08\0\x45" + b"\xff" * 60, 0)])
def test_the_kernel_agrees_with_its_twin_on_random_bytes(frames):
    assert_agrees_with_twin(frames)


@pytest.mark.parametrize("carriers", [CARRIERS, CARRIERS6], ids=["IPv4", "IPv6"])
def test_the_kernel_agrees_with_its_twin_on_every_prefix_of_every_carrier(carriers):
    for link_type, data in carriers.values():
        assert_agrees_with_twin([(link_type, data[:n], len(data)) for n in range(len(data) + 1)])
