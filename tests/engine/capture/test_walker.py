"""What the walk says about a file beside its rows."""

import struct

import pytest

from pcapdiag.base.columns import FRAMES
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches
from tests.engine.capture import files

COUNTS = struct.Struct("<Q")


def read(tmp_path, *parts):
    path = tmp_path / "x"
    path.write_bytes(b"".join(parts))
    return files.read(path)


def columns(tmp_path, *parts):
    path = tmp_path / "x"
    path.write_bytes(b"".join(parts))
    rows = [batch.frames.copy() for batch in read_batches(Capture([CaptureFile(str(path))]), decode=False)]
    return rows[0] if rows else FRAMES.empty()


def drops(interface, *, by_interface=None, by_system=None):
    options = b""
    if by_interface is not None:
        options += files.option(5, COUNTS.pack(by_interface))
    if by_system is not None:
        options += files.option(7, COUNTS.pack(by_system))
    return files.isb(interface=interface, options=options)


def test_sections_of_both_byte_orders_have_interfaces_of_their_own(tmp_path):
    built = files.records(4)
    capture, rows = read(
        tmp_path,
        files.shb("<") + files.idb("<", link_type=1) + files.idb("<", link_type=113),
        files.epb(built[0]) + files.epb(built[1], interface=1),
        files.shb(">") + files.idb(">", link_type=276, options=files.option(9, b"\x03", ">")),
        files.epb(built[2], ">", per_s=1000) + files.epb(built[3], ">", per_s=1000),
    )
    assert [(row[4], row[5]) for row in rows] == [(1, 0), (113, 1), (276, 0), (276, 0)]
    assert [row[1] for row in rows[2:]] == [record.ts_ns // 10**6 * 10**6 for record in built[2:]]
    assert capture.files[0].link_types == [1, 113, 276]
    assert capture.notes == []


def secrets(content, order="<", *, kind=0x544C534B, claimed=None):
    head = struct.pack(order + "II", kind, len(content) if claimed is None else claimed)
    return files.block(10, head + content + bytes(-len(content) % 4), order)


@pytest.mark.parametrize("order", ["<", ">"])
def test_keys_are_counted_and_kept_only_for_who_asks(tmp_path, order):
    (record,) = files.records(1)
    parts = files.shb(order), files.idb(order), secrets(b"keys\n", order), files.epb(record, order)
    capture, rows = read(tmp_path, *parts, secrets(b"more\n", order))
    assert (capture.files[0].n_secrets, capture.files[0].secrets, len(rows)) == (2, None, 1)
    asked = Capture([CaptureFile(str(tmp_path / "x"), secrets=[])])
    assert sum(len(batch.frames) for batch in read_batches(asked)) == 1
    assert asked.files[0].secrets == [b"keys\n", b"more\n"]
    assert "more" not in repr(asked)


def test_secrets_of_other_protocols_and_lengths_that_lie_are_no_matter(tmp_path):
    (record,) = files.records(1)
    odd = secrets(b"wireguard", kind=0x57474B4C), secrets(b"abcd", claimed=1 << 31), files.block(10, bytes(4))
    path = tmp_path / "x"
    path.write_bytes(b"".join((files.shb(), files.idb(), *odd[:2], files.epb(record))))
    asked = Capture([CaptureFile(str(path), secrets=[])])
    assert sum(len(batch.frames) for batch in read_batches(asked)) == 1
    # What claims more than waits at one time is not kept, and nothing beyond a block ever is.
    assert asked.files[0].secrets == []
    assert asked.files[0].n_secrets == 1
    capture, _ = read(tmp_path, files.shb(), files.idb(), odd[2], files.epb(record))
    assert "skipped-bytes" in {note.code for note in capture.notes}


def test_more_interfaces_than_the_table_begins_with_are_kept(tmp_path):
    built = files.records(50)
    described = b"".join(files.idb(link_type=i) for i in range(50))
    packets = b"".join(files.epb(record, interface=i) for i, record in enumerate(built))
    _, rows = read(tmp_path, files.shb(), described, packets)
    assert [row[4] for row in rows] == list(range(50))


def test_an_offset_moves_the_time_by_whole_seconds(tmp_path):
    (record,) = files.records(1)
    offset = files.option(14, struct.pack("<q", -3600))
    _, rows = read(tmp_path, files.shb(), files.idb(options=offset), files.epb(record))
    assert rows[0][1] == record.ts_ns - 3600 * 10**9


def test_times_that_cannot_be_represented_are_unknown_and_noted(tmp_path):
    built = files.records(2)
    far = files.option(14, struct.pack("<q", 2**62))
    before_1970 = files.option(14, struct.pack("<q", -2 * 10**9))
    capture, rows = read(
        tmp_path,
        files.shb() + files.idb(options=far) + files.idb(options=before_1970),
        files.epb(built[0]) + files.epb(built[1], interface=1),
    )
    assert [row[1] for row in rows] == [-1, -1]
    assert files.codes(capture) == ["odd-interface", "bad-timestamps"]
    assert (capture.files[0].first_ts_ns, capture.files[0].last_ts_ns) == (-1, -1)


def test_simple_packets_have_no_time_and_that_is_noted_once(tmp_path):
    built = files.records(3)
    capture, rows = read(tmp_path, files.shb(), files.idb(snaplen=32), *map(files.spb, built))
    assert [(row[1], len(row[2])) for row in rows] == [(-1, 32)] * 3
    (note,) = capture.notes
    assert (note.code, note.frame) == ("no-timestamps", 0)


def test_drops_of_the_last_statistics_of_each_interface_are_added(tmp_path):
    capture, _ = read(
        tmp_path,
        files.shb() + files.idb() + files.idb(),
        drops(0, by_interface=3, by_system=1),
        *map(files.epb, files.records(2)),
        drops(0, by_interface=10, by_system=5),
        drops(1, by_interface=100),
    )
    assert capture.files[0].dropped == 115
    assert files.codes(capture) == ["interface-drops"]
    assert "115 packets" in capture.notes[0].text


def test_drops_of_several_sections_are_added(tmp_path):
    section = files.shb() + files.idb() + drops(0, by_interface=7)
    capture, _ = read(tmp_path, section, section)
    assert capture.files[0].dropped == 14


def test_drops_between_packets_count_where_there_are_no_statistics(tmp_path):
    built = files.records(3)
    capture, _ = read(
        tmp_path,
        files.shb() + files.idb(),
        files.epb(built[0], options=files.option(4, COUNTS.pack(6)) + files.option(0, b"")),
        files.old_packet_block(built[1], drops=2),
        files.old_packet_block(built[2]),
    )
    assert capture.files[0].dropped == 8


def test_no_drops_are_told_from_unknown_drops(tmp_path):
    assert read(tmp_path, files.shb(), files.idb(), drops(0, by_interface=0))[0].files[0].dropped == 0
    assert read(tmp_path, files.shb(), files.idb(), files.isb())[0].files[0].dropped == -1
    assert read(tmp_path, files.pcap(files.records(1)))[0].files[0].dropped == -1


def test_the_direction_of_a_packet_is_taken_from_its_flags(tmp_path):
    built = files.records(5)
    ways = [0, 1, 2, 3, 0xFFFF_FFFD]
    blocks = [
        files.epb(record, options=files.option(2, struct.pack("<I", way)) + files.option(0, b""))
        for record, way in zip(built, ways, strict=True)
    ]
    rows = columns(tmp_path, files.shb(), files.idb(), *blocks)
    assert rows["packet_direction"].tolist() == [-1, 0, 1, -1, 0]


def test_the_check_sequence_bits_are_no_part_of_the_link_type(tmp_path):
    capture, rows = read(tmp_path, files.pcap(files.records(1), link_type=1 | 0x1400_0000))
    assert rows[0][4] == 1
    assert capture.files[0].link_types == [1]


def test_a_wire_length_beyond_31_bits_is_clamped(tmp_path):
    (record,) = files.records(1)
    _, rows = read(tmp_path, files.shb(), files.idb(), files.epb(record._replace(wire_len=2**32 - 1)))
    assert rows[0][3] == 2**31 - 1


def test_a_block_that_claims_more_than_it_holds_is_clipped_and_noted(tmp_path):
    built = files.records(2, size=64)
    claims = bytearray(files.epb(built[0]))
    claims[20:24] = (2**31).to_bytes(4, "little")
    capture, rows = read(tmp_path, files.shb(), files.idb(), bytes(claims), files.epb(built[1]))
    assert [len(row[2]) for row in rows] == [64, 65]
    assert files.codes(capture) == ["clipped-record"]


def test_frames_of_an_unknown_interface_stay_and_are_noted(tmp_path):
    built = files.records(2)
    capture, rows = read(tmp_path, files.shb(), files.idb(), files.epb(built[0], interface=9), files.epb(built[1]))
    assert [row[4] for row in rows] == [-1, 1]
    assert rows[0][1] == built[0].ts_ns
    assert files.codes(capture) == ["unknown-interface"]


def test_statistics_of_an_unknown_interface_are_noted(tmp_path):
    capture, _ = read(tmp_path, files.shb(), files.idb(), drops(4, by_interface=9), files.epb(files.records(1)[0]))
    assert files.codes(capture) == ["odd-interface"]


@pytest.mark.parametrize("kind", [4, 10, 11, 0xBAD, 0x4000_0BAD, 0x8000_0001])
def test_other_blocks_are_passed_over_in_silence(tmp_path, kind):
    built = files.records(2)
    other = files.block(kind, b"secret data!")
    capture, rows = read(tmp_path, files.shb(), files.idb(), files.epb(built[0]), other, files.epb(built[1]))
    assert rows == files.expected(built)
    assert capture.notes == []


def test_a_block_with_two_lengths_is_passed_over_and_noted(tmp_path):
    built = files.records(4)
    damaged = bytearray(files.epb(built[1]))
    damaged[-4:] = b"\xff\xff\xff\xff"
    capture, rows = read(
        tmp_path, files.shb(), files.idb(), files.epb(built[0]), bytes(damaged), *map(files.epb, built[2:])
    )
    assert [row[1] for row in rows] == [built[0].ts_ns, built[2].ts_ns, built[3].ts_ns]
    assert files.codes(capture) == ["skipped-bytes"]


def test_options_that_run_out_of_their_block_are_left(tmp_path):
    (record,) = files.records(1)
    endless = struct.pack("<HH", 2, 60_000) + b"\x01\x00\x00\x00"
    capture, rows = read(tmp_path, files.shb(), files.idb(options=endless), files.epb(record, options=endless))
    assert rows == files.expected([record])
    assert capture.notes == []


def test_a_snaplen_is_kept_for_the_file(tmp_path):
    assert read(tmp_path, files.pcap([], snaplen=96))[0].files[0].snaplen == 96
    assert read(tmp_path, files.shb(), files.idb(snaplen=200), files.idb(snaplen=100))[0].files[0].snaplen == 200
