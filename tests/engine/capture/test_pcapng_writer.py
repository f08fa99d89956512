"""pcapng as it is written: what goes in comes out, to the nanosecond and with its comments."""

import io
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.codes import PacketDirection
from pcapdiag.engine.capture.pcapng_writer import Interface, Packet, PcapngWriter
from tests.engine.capture import files

ETHERNET = Interface(1, 0, 9, b"eth0", "the proxy's own")
RAW = Interface(101, 96, 6)
packets = st.builds(
    Packet,
    interface=st.integers(0, 1),
    ts_ns=st.integers(0, 2**62).map(lambda ns: ns // 1000 * 1000),
    data=st.binary(max_size=90),
    wire_len=st.integers(90, 2000),
    packet_id=st.integers(0, 2**64 - 1),
    direction=st.sampled_from(PacketDirection),
    comments=st.lists(st.text(max_size=20), max_size=2).map(tuple),
)


def written(*made, **changes):
    out = io.BytesIO()
    given_ = {"application": "pcapdiag", "comment": "c", "interfaces": [ETHERNET, RAW]} | changes
    writer = PcapngWriter(out, **given_)
    for packet in made:
        writer.write(packet)
    return out.getvalue()


@given(st.lists(packets, max_size=5))
def test_frames_are_read_back_with_time_length_and_link(tmp_path, made):
    path = tmp_path / "x"
    path.write_bytes(written(*made))
    _, rows = files.read(path)
    links = [ETHERNET.link_type, RAW.link_type]
    assert rows == [
        (n, packet.ts_ns, packet.data, packet.wire_len, links[packet.interface], packet.interface)
        for n, packet in enumerate(made)
    ]
    assert written(*made) == written(*made)


def test_every_block_says_its_length_at_both_ends_and_is_whole_words():
    data, at = (
        written(Packet(0, 5, b"abc", 3, 1, comments=("why",)), names=[("10.0.0.1", "a"), ("2001:db8::1", "b")]),
        0,
    )
    kinds = []
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        assert length % 4 == 0
        assert data[at + length - 4 : at + length] == data[at + 4 : at + 8]
        kinds.append(int.from_bytes(data[at : at + 4], "little"))
        at += length
    assert kinds == [0x0A0D0D0A, 1, 1, 4, 6]


def test_a_comment_that_is_too_long_is_cut_between_characters():
    data = written(comment="\u00e9" * 40_000)
    assert b"\xc3\xa9" * 32_767 + b"\0" in data
    assert b"\xc3\xa9" * 32_768 not in data


def test_wireshark_reads_it(tmp_path, tshark):
    path = tmp_path / "x.pcapng"
    frame = bytes(12) + b"\x88\xb5" + bytes(46)
    path.write_bytes(written(Packet(0, 1_700_000_000_123_456_789, frame, 60, 77, comments=("one", "two"))))
    done = subprocess.run(["capinfos", path], capture_output=True, text=True, check=False)
    assert (done.returncode, "Capture comment:     c" in done.stdout) == (0, True), done.stdout
    (row,) = tshark(path, "frame.time_epoch", "frame.packet_id", "frame.comment", "frame.len")
    assert row[0].startswith("1700000000.123456789") or row[0].startswith("2023-11-14T22:13:20.123456789")
    assert (row[1], row[3]) == ("77", "60")


@pytest.mark.parametrize("ts_ns", [-1, 0])
def test_a_frame_without_a_time_is_at_the_beginning_of_time(tmp_path, ts_ns):
    path = tmp_path / "x"
    path.write_bytes(written(Packet(0, ts_ns, b"a" * 20, 20, 1)))
    assert files.read(path)[0].files[0].n_frames == 1
