"""Builds capture files byte by byte, and reads them back with the package."""

import struct
from typing import NamedTuple

from hypothesis import strategies as st

from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches

START_NS = 1_795_218_943_504_123_000


class Record(NamedTuple):
    """One captured frame."""

    ts_ns: int
    data: bytes
    wire_len: int


def pcap_header(*, order="<", magic=0xA1B2C3D4, link_type=1, snaplen=262_144):
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link_type)


def pcap_record(record, *, order="<", magic=0xA1B2C3D4):
    sec, ns = divmod(record.ts_ns, 10**9)
    fraction = ns if magic == 0xA1B23C4D else ns // 1000
    head = struct.pack(order + "4I", sec, fraction, len(record.data), record.wire_len)
    if magic == 0xA1B2CD34:
        head += struct.pack(order + "IHBB", 3, 0x0800, 0, 0)
    return head + record.data


def pcap(records, **kind):
    """Return a pcap file; `kind` is order, magic, link_type and snaplen."""
    record_kind = {key: value for key, value in kind.items() if key in {"order", "magic"}}
    return pcap_header(**kind) + b"".join(pcap_record(record, **record_kind) for record in records)


def option(code, value, order="<"):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(kind, body, order="<"):
    length = 12 + len(body)
    assert length % 4 == 0
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length)


def shb(order="<", section_length=-1):
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, section_length), order)


def idb(order="<", *, link_type=1, snaplen=0, options=b""):
    return block(1, struct.pack(order + "HHI", link_type, 0, snaplen) + options, order)


def epb(record, order="<", *, interface=0, per_s=10**6, options=b""):
    ticks = record.ts_ns * per_s // 10**9
    head = struct.pack(order + "5I", interface, ticks >> 32, ticks % 2**32, len(record.data), record.wire_len)
    return block(6, head + record.data + bytes(-len(record.data) % 4) + options, order)


def old_packet_block(record, order="<", *, interface=0, drops=0xFFFF):
    ticks = record.ts_ns // 1000
    head = struct.pack(order + "HH4I", interface, drops, ticks >> 32, ticks % 2**32, len(record.data), record.wire_len)
    return block(2, head + record.data + bytes(-len(record.data) % 4), order)


def spb(record, order="<"):
    return block(3, struct.pack(order + "I", record.wire_len) + record.data + bytes(-len(record.data) % 4), order)


def isb(order="<", *, interface=0, options=b""):
    return block(5, struct.pack(order + "III", interface, 0, 0) + options, order)


def pcapng(records, order="<", *, nanoseconds=False):
    """Return a pcapng file of one section with one interface and enhanced packet blocks."""
    described = option(9, b"\x09", order) if nanoseconds else b""
    per_s = 10**9 if nanoseconds else 10**6
    return (
        shb(order)
        + idb(order, options=described)
        + b"".join(epb(record, order, per_s=per_s) for record in records)
        + isb(order)
    )


def records(n, *, size=60, step_ns=1_000_000):
    """Return `n` records that differ in time and content."""
    return [
        Record(START_NS + i * step_ns, bytes((i * 7 + j) % 251 for j in range(size + i % 5)), size + i % 5)
        for i in range(n)
    ]


def record_lists(*, min_size=0, max_size=12, step_ns=1000, min_bytes=0):
    """Strategy: records a tool could have written; times rise, and are whole microseconds for `step_ns` 1000."""

    @st.composite
    def build(draw):
        ts_ns = START_NS
        built = []
        for _ in range(draw(st.integers(min_size, max_size))):
            ts_ns += draw(st.integers(1, 10**6)) * step_ns
            data = draw(st.binary(min_size=min_bytes, max_size=80))
            built.append(Record(ts_ns, data, len(data) + draw(st.integers(0 if data else 1, 1500))))
        return built

    return build()


def read(*paths, **options):
    """Return (capture, rows) with rows as (frame, ts_ns, captured bytes, wire_len, link_type, interface)."""
    capture = Capture([CaptureFile(str(path)) for path in paths])
    rows = []
    for batch in read_batches(capture, decode=False, **options):
        for row in batch.frames:
            start = int(row["record_offset"])
            data = batch.buffer[start : start + int(row["cap_len"])].tobytes()
            rows.append(
                (
                    int(row["frame"]),
                    int(row["ts_ns"]),
                    data,
                    int(row["wire_len"]),
                    int(row["link_type"]),
                    int(row["interface"]),
                )
            )
    return capture, rows


def codes(capture):
    return [note.code for note in capture.notes]


def expected(built, *, link_type=1):
    return [(i, r.ts_ns, r.data, r.wire_len, link_type, 0) for i, r in enumerate(built)]
