"""Tunnels that are not opened are counted, and what was opened is not."""

import struct

import pytest

import pcapdiag


def ipv4(protocol, payload):
    total = 20 + len(payload)
    return struct.pack(">BBHHHBBH4s4s", 0x45, 0, total, 1, 0, 64, protocol, 0, b"\x0a\0\0\1", b"\x0a\0\0\2") + payload


def udp(port, payload):
    return struct.pack(">HHHH", 40000, port, 8 + len(payload), 0) + payload


SYN = struct.pack(">HHIIBBHHH", 40000, 80, 1, 0, 0x50, 2, 1000, 0, 0)
ETHERNET = bytes(12) + b"\x08\x00"
VXLAN = struct.pack(">II", 0x08000000, 5 << 8)


def notes_of(tmp_path, frame, link_type=101):
    path = tmp_path / "a.pcap"
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link_type)
    path.write_bytes(head + struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame)
    notes = pcapdiag.analyze(path).to_json()["captures"][0]["notes"]
    return [note["text"] for note in notes if note["code"] == "tunnel-not-opened"]


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (ipv4(17, udp(2152, b"\x30\xff\0\x04data")), "GTP-U"),
        (ipv4(17, udp(51820, b"\4\0\0\0data")), "WireGuard"),
        (ipv4(17, udp(4790, b"?" * 8)), "VXLAN-GPE"),
        (ipv4(50, b"\0" * 16), "IPsec ESP"),
        (ipv4(115, b"\0" * 16), "L2TPv3"),
    ],
)
def test_a_tunnel_that_is_not_opened_is_named(tmp_path, frame, name):
    (text,) = notes_of(tmp_path, frame)
    assert text.startswith(f"1 frame of {name}")


def test_an_opened_tunnel_is_not(tmp_path):
    assert notes_of(tmp_path, ipv4(17, udp(4789, VXLAN + ETHERNET + ipv4(6, SYN)))) == []


def test_cisco_hdlc_under_the_link_type_of_ppp_is_named(tmp_path):
    (text,) = notes_of(tmp_path, b"\x0f\x00\x08\x00" + ipv4(6, SYN), link_type=9)
    assert "Cisco HDLC" in text


def test_ppp_itself_is_not(tmp_path):
    assert notes_of(tmp_path, b"\xff\x03\x00\x21" + ipv4(6, SYN), link_type=9) == []
