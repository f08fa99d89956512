"""Frames whose bytes are kept: ICMP messages, TLS hellos and alerts; a bounded number of bounded pieces."""

import struct

import pytest

from pcapdiag.analysis.build import build_analysis, read_shard
from pcapdiag.engine.asides import collect
from pcapdiag.engine.asides.collect import MOST_BYTES, AsideKind
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.engine.tcp.tracker import Shard
from tests.scenario import parse, write_capture

ALERT = '"\\x15\\x03\\x03\\x00\\x02\\x02\\x46"'
SCRIPT = f"""
+0     >  S
+0.01  <  S.
+0     >  .
+0     >  P.  "\\x16\\x03\\x01\\x00\\x05hello"
+0.01  <  P.  {ALERT}
+0     >  P.  "GET / HTTP/1.1\\r\\n\\r\\n"
"""


def icmp_record(data, ts=1):
    """Return a pcap record of raw IPv4 that carries an ICMP message."""
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(data), 7, 0, 64, 1, 0, bytes([10, 0, 0, 9]), bytes([10, 0, 0, 1])
    )
    return struct.pack("<IIII", ts, 0, 20 + len(data), 20 + len(data)) + header + data


def asides_of(path, **options):
    return build_analysis(group_captures([str(path)]), **options).asides


def test_hellos_and_alerts_are_kept_and_requests_are_not(tmp_path):
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(SCRIPT)))
    hello, alert = asides_of(path)
    assert (hello.kind, hello.frame, hello.data) == (AsideKind.TLS, 3, b"\x16\x03\x01\x00\x05hello")
    assert (alert.frame, alert.data, alert.length) == (4, b"\x15\x03\x03\x00\x02\x02\x46", 7)
    assert (hello.src, hello.dst) == (alert.dst, alert.src)


@pytest.mark.parametrize("status", ["HTTP/1.1 400 ", "HTTP/1.0 400"])
def test_an_answer_of_status_400_is_kept_from_its_first_byte(tmp_path, status):
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(f'+0 > S\n+0.01 < S.\n+0 > .\n+0.1 < P. "{status}No\\r\\n\\r\\nwhy"\n')))
    (aside,) = asides_of(path)
    assert (aside.kind, aside.frame, aside.data) == (AsideKind.REFUSAL, 3, f"{status}No\r\n\r\nwhy".encode())


@pytest.mark.parametrize("text", ["HTTP/1.1 401 ", "HTTP/1.1 40", "HTTP/2.1 400", "XTTP/1.1 400"])
def test_other_answers_are_not_kept(tmp_path, text):
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(f'+0 > S\n+0.01 < S.\n+0 > .\n+0.1 < P. "{text}"\n')))
    assert asides_of(path) == ()


def test_answers_of_status_400_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "MOST_REFUSALS", 2)
    path = tmp_path / "a.pcap"
    answers = '+0.1 < P. "HTTP/1.1 400 No"\n' * 3
    path.write_bytes(write_capture(parse(f"+0 > S\n+0.01 < S.\n+0 > .\n{answers}")))
    assert [aside.frame for aside in asides_of(path)] == [3, 4]


def test_an_icmp_message_is_kept_from_its_first_byte(tmp_path):
    path = tmp_path / "a.pcap"
    message = bytes([3, 3, 0, 0, 0, 0, 0, 0]) + b"quoted"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + icmp_record(message))
    (aside,) = asides_of(path)
    assert (aside.kind, aside.data, aside.src[2], aside.ip_proto) == (AsideKind.ICMP, message, -1, 1)


@pytest.mark.parametrize("size", [0, 7])
def test_an_icmp_message_without_its_header_is_left(tmp_path, size):
    path = tmp_path / "a.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + icmp_record(bytes(size)))
    assert asides_of(path) == ()


def test_a_flood_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "MOST_KEPT", 3)
    path = tmp_path / "a.pcap"
    records = b"".join(icmp_record(bytes([3, 1]) + bytes(4000), ts) for ts in range(10))
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + records)
    kept = asides_of(path)
    assert [len(aside.data) for aside in kept] == [MOST_BYTES] * 3


def test_shards_keep_each_frame_once(tmp_path):
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(SCRIPT)))
    shards = [read_shard(group_captures([str(path)]), Shard(n, 2, 12345)) for n in range(2)]
    assert asides_of(path, shards=shards) == asides_of(path)
