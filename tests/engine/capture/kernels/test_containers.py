"""Kernels that walk pcap and pcapng, against their plain twins."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.columns import FRAMES
from pcapdiag.engine.capture.kernels import containers, pcapng
from pcapdiag.engine.capture.walker import _time_unit
from tests.engine.capture import files
from tests.engine.capture.kernels import plain_containers as reference

MAGICS = [0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34]


def new_state(**values):
    state = np.zeros(1, dtype=containers.STATE)
    for name, value in ({"first_ts_ns": -1, "last_ts_ns": -1} | values).items():
        state[name] = value
    return state


def as_array(data):
    return np.frombuffer(bytearray(data), dtype=np.uint8)


def as_rows(frames):
    return [
        reference.Row(
            *(
                int(row[name])
                for name in (
                    "ts_ns",
                    "record_offset",
                    "cap_len",
                    "wire_len",
                    "link_type",
                    "interface",
                    "packet_direction",
                )
            )
        )
        for row in frames
    ]


def scan_pcap(data, *, order, magic, link_type=1):
    state = new_state(
        position=24,
        big_endian=order == ">",
        ticks_ns=1 if magic == 0xA1B23C4D else 1000,
        header_bytes=24 if magic == 0xA1B2CD34 else 16,
        link_type=link_type,
    )
    frames = FRAMES.empty(64)
    status = containers.scan_pcap(as_array(data), len(data), True, False, state, frames)
    return status, as_rows(frames[: state["n_rows"][0]]), state


def scan_pcapng(data):
    """Walk a pcapng file whose descriptive blocks the twin's way of reading them fills in."""
    state = new_state()
    interfaces = np.zeros(16, dtype=pcapng.INTERFACE)
    frames = FRAMES.empty(64)
    buffer = as_array(data)
    status = pcapng.BLOCK
    while True:
        status = pcapng.scan_pcapng(buffer, len(data), True, state, interfaces, frames)
        if status != pcapng.BLOCK:
            return status, as_rows(frames[: state["n_rows"][0]]), state
        at = int(state["position"][0])
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            state["big_endian"] = data[at + 8] == 0x1A
            state["n_interfaces"] = 0
        order = ">" if state["big_endian"][0] else "<"
        kind, length = struct.unpack_from(order + "II", data, at)
        if kind == 1:
            link_type, _, snaplen = struct.unpack_from(order + "HHI", data, at + 8)
            said = reference.options(data[at + 16 : at + length - 4], order)
            how, factor = _time_unit(said.get(9, b"\x06")[0])
            offset_s = struct.unpack(order + "q", said.get(14, bytes(8)))[0]
            interfaces[state["n_interfaces"][0]] = (factor, offset_s * 10**9, snaplen, link_type, how)
            state["n_interfaces"] += 1
        state["position"] += length


@given(built=files.record_lists(), order=st.sampled_from("<>"), magic=st.sampled_from(MAGICS), cut=st.data())
def test_pcap_rows_are_those_of_the_twin_wherever_the_file_is_cut(built, order, magic, cut):
    data = files.pcap(built, order=order, magic=magic)
    data = data[: cut.draw(st.integers(24, len(data)))]
    _, rows, _ = scan_pcap(data, order=order, magic=magic)
    assert rows == reference.read_pcap(data)


@given(built=files.record_lists(min_size=1))
def test_the_scan_tells_a_clean_end_from_a_cut_one(built):
    data = files.pcap(built)
    assert scan_pcap(data, order="<", magic=MAGICS[0])[0] == containers.END
    assert scan_pcap(data[:-1], order="<", magic=MAGICS[0])[0] == (containers.CUT)


@st.composite
def pcapng_files(draw):
    """Several sections of either byte order, each with its own interfaces, and every kind of packet block."""
    data = b""
    for _ in range(draw(st.integers(1, 3))):
        order = draw(st.sampled_from("<>"))
        data += files.shb(order, draw(st.sampled_from([-1, 0, 1000])))
        n_interfaces = draw(st.integers(1, 3))
        for _ in range(n_interfaces):
            described = b""
            if draw(st.booleans()):
                described += files.option(9, bytes([draw(st.integers(0, 255))]), order)
            if draw(st.booleans()):
                described += files.option(14, struct.pack(order + "q", draw(st.integers(-(10**9), 10**9))), order)
            data += files.idb(
                order,
                link_type=draw(st.integers(0, 300)),
                snaplen=draw(st.sampled_from([0, 20, 65535])),
                options=described,
            )
        for record in draw(files.record_lists(max_size=5)):
            kind = draw(st.sampled_from(["epb", "old", "spb", "other"]))
            interface = draw(st.integers(0, n_interfaces - 1))
            if kind == "epb":
                way = files.option(2, struct.pack(order + "I", draw(st.integers(0, 2**32 - 1))), order)
                said = files.option(1, b"a comment", order) + way + files.option(0, b"", order)
                data += files.epb(record, order, interface=interface, options=draw(st.sampled_from([b"", said])))
            elif kind == "old":
                data += files.old_packet_block(record, order, interface=interface)
            elif kind == "spb":
                data += files.spb(record, order)
            else:
                data += files.block(draw(st.sampled_from([4, 7, 10, 0xBAD, 0x80000001])), bytes(8), order)
    return data


@given(data=pcapng_files(), cut=st.data())
def test_pcapng_rows_are_those_of_the_twin_wherever_the_file_is_cut(data, cut):
    data = data[: cut.draw(st.integers(28, len(data)))]
    _, rows, _ = scan_pcapng(data)
    assert rows == reference.read_pcapng(data)


@given(
    ticks=st.integers(0, 2**64 - 1),
    resolution=st.integers(0, 255),
    offset_s=st.integers(-(2**62) // 10**9, 2**62 // 10**9),
)
def test_ticks_become_nanoseconds_exactly(ticks, resolution, offset_s):
    kind, factor = _time_unit(resolution)
    ns = pcapng.ticks_to_ns(ticks >> 32, ticks % 2**32, kind, np.uint64(factor), offset_s * 10**9)
    assert int(ns) == reference.to_ns(ticks, resolution, offset_s)


@pytest.mark.parametrize("resolution", [0, 3, 6, 9, 10, 12, 19, 28, 29, 127, 128, 138, 160, 161, 191, 192, 224, 255])
@pytest.mark.parametrize("ticks", [0, 1, 2**32 - 1, 2**32, 1_795_218_943_504_123_456, 2**63, 2**64 - 1])
def test_ticks_become_nanoseconds_exactly_at_the_edges(ticks, resolution):
    kind, factor = _time_unit(resolution)
    ns = pcapng.ticks_to_ns(ticks >> 32, ticks % 2**32, kind, np.uint64(factor), 0)
    assert int(ns) == reference.to_ns(ticks, resolution, 0)


@given(built=files.record_lists(min_size=1), garbage=st.binary(min_size=1, max_size=60), where=st.data())
def test_the_search_finds_what_the_twin_finds(built, garbage, where):
    starts = [24]
    for record in built:
        starts.append(starts[-1] + 16 + len(record.data))
    at = where.draw(st.sampled_from(starts))
    data = files.pcap(built)
    data = data[:at] + garbage + data[at:]
    state = new_state(position=at, header_bytes=16, ticks_ns=1000, searching=1)
    frames = FRAMES.empty(4)
    status = containers.scan_pcap(as_array(data), len(data), True, False, state, frames)
    assert status == containers.RESUMED
    assert int(state["position"][0]) == reference.find_pcap_records(data, at, "<", 1000, [])
    assert int(state["skipped"][0]) == int(state["position"][0]) - at


@given(data=st.binary(max_size=400), at_end=st.booleans(), searching=st.booleans(), eager=st.booleans())
def test_any_bytes_end_a_pcap_scan_and_every_row_lies_inside_them(data, at_end, searching, eager):
    state = new_state(header_bytes=16, ticks_ns=1000, searching=searching)
    frames = FRAMES.empty(8)
    buffer = as_array(data)
    status = containers.scan_pcap(buffer, len(buffer), at_end, eager, state, frames)
    assert containers.FULL <= status <= containers.RESUMED
    assert 0 <= state["position"][0] <= len(data)
    for row in frames[: state["n_rows"][0]]:
        assert row["record_offset"] >= 0
        assert row["record_offset"] + row["cap_len"] <= len(data)


@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=24),
            st.sampled_from([1, 2, 3, 5, 6, 12, 16, 28, 32, 36, 0x0A0D0D0A, 0x1A2B3C4D]).map(
                lambda n: n.to_bytes(4, "little")
            ),
        ),
        max_size=40,
    ),
    at_end=st.booleans(),
    searching=st.booleans(),
)
def test_any_bytes_end_a_pcapng_scan_and_every_row_lies_inside_them(pieces, at_end, searching):
    data = b"".join(pieces)
    state = new_state(searching=searching)
    frames = FRAMES.empty(8)
    buffer = as_array(data)
    interfaces = np.zeros(2, dtype=pcapng.INTERFACE)
    status = pcapng.scan_pcapng(buffer, len(buffer), at_end, state, interfaces, frames)
    assert containers.FULL <= status <= pcapng.BLOCK
    assert 0 <= state["position"][0] <= len(data)
    for row in frames[: state["n_rows"][0]]:
        assert row["cap_len"] >= 0
        assert row["record_offset"] + row["cap_len"] <= len(data)
