"""Facts about rare link types and fragments, beginning with rows as the kernel leaves them."""

import random
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.codes import FrameKind, PacketDirection, UndecodedReason
from pcapdiag.base.columns import FRAMES
from pcapdiag.engine.capture import fragments
from pcapdiag.engine.capture.kernels.decode import decode_frames
from pcapdiag.engine.capture.link_types import describe_link_type
from pcapdiag.engine.capture.notes import NOTE_CODES, NoteBook
from pcapdiag.engine.capture.slowpath import SlowPath

RAW, ETHERNET = 101, 1
SRC, DST = b"\x0a\0\0\1", b"\x0a\0\0\2"
SRC6, DST6 = b"\xfe\x80" + b"\0" * 13 + b"\1", b"\xfe\x80" + b"\0" * 13 + b"\2"
S = 10**9


def tcp(n_payload=1000):
    payload = bytes(i % 251 for i in range(n_payload))
    return struct.pack(">HHIIBBHHH", 80, 40000, 1000, 2000, 5 << 4, 0x18, 500, 0, 0) + payload


def ipv4(payload, proto=6, *, field=0, ident=7):
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), ident, field, 64, proto, 0) + SRC + DST + payload


def ipv6(payload, proto=6):
    return struct.pack(">IHBB", 6 << 28, len(payload), proto, 64) + SRC6 + DST6 + payload


def pieces_v4(payload, cuts, proto=6, ident=7):
    """Cut the payload of a datagram at multiples of 8; return the fragments as packets."""
    edges = [0, *sorted(cuts), len(payload)]
    return [
        ipv4(payload[a:b], proto, field=a // 8 | (0x2000 if b < len(payload) else 0), ident=ident)
        for a, b in pairwise(edges)
    ]


def pieces_v6(payload, cuts, proto=6, ident=7, before=b""):
    edges = [0, *sorted(cuts), len(payload)]
    return [
        ipv6(
            before + struct.pack(">BBHI", proto, 0, a | (b < len(payload)), ident) + payload[a:b],
            proto=0 if before else 44,
        )
        for a, b in pairwise(edges)
    ]


class Reader:
    """Decodes frames the way the reader of a capture does: a batch in a buffer, its slack for the slow path."""

    def __init__(self, slack=200_000):
        self.slow_path = SlowPath()
        self.notes = NoteBook()
        self.slack = slack
        self.n_frame = 0

    def read(self, packets, link_type=RAW, ts_ns=0, cap=None):
        rows = FRAMES.empty(len(packets))
        data = bytearray()
        for i, packet in enumerate(packets):
            rows[i]["frame"] = self.n_frame + i
            rows[i]["ts_ns"] = ts_ns
            rows[i]["record_offset"] = len(data)
            rows[i]["cap_len"] = len(packet[:cap])
            rows[i]["wire_len"] = len(packet)
            rows[i]["link_type"] = link_type
            rows[i]["packet_direction"] = PacketDirection.UNKNOWN
            data += packet[:cap]
        on_disk = rows.copy()
        used = len(data)
        self.buffer = np.frombuffer(bytes(data) + bytes(self.slack), dtype=np.uint8).copy()
        self.n_open = decode_frames(self.buffer, rows, 0, len(rows))
        if self.n_open:
            self.used = self.slow_path.finish(self.buffer, used, rows, self.notes)
            assert used <= self.used <= len(self.buffer)
        assert bytes(self.buffer[:used]) == bytes(data)
        for name in ("frame", "ts_ns", "record_offset", "cap_len", "wire_len", "link_type", "interface"):
            assert rows[name].tolist() == on_disk[name].tolist()
        assert UndecodedReason.PENDING not in rows["undecoded_reason"]
        self.n_frame += len(rows)
        return rows

    def payload(self, row):
        start = int(row["payload_offset"])
        return bytes(self.buffer[start : start + int(row["payload_cap"])])

    def note_codes(self):
        self.slow_path.close(self.notes)
        codes = [note.code for note in self.notes.take_rest()]
        assert set(codes) <= set(NOTE_CODES)
        return codes


RESULT = ("src_hi", "src_lo", "dst_hi", "dst_lo", "seq", "ack", "payload_len", "payload_cap", "src_port", "dst_port",
          "window", "flags", "ttl", "ip_proto", "kind", "undecoded_reason")  # fmt: skip


def result(row):
    return {name: int(row[name]) for name in RESULT}


def whole_result(packet):
    return result(Reader().read([packet])[0])


@st.composite
def shuffled_pieces(draw):
    """Draw a datagram's payload, its cuts, and in which order its fragments come, some again, until none is missing."""
    payload = tcp(draw(st.integers(0, 1500)))
    cuts = draw(st.sets(st.integers(1, (len(payload) - 1) // 8).map(lambda unit: unit * 8), min_size=1, max_size=8))
    order = draw(st.permutations(range(len(cuts) + 1)))
    again = draw(st.lists(st.sampled_from(order), max_size=3))
    order = [*again, *order]
    n_needed = next(n for n in range(len(order) + 1) if len(set(order[:n])) == len(cuts) + 1)
    return payload, cuts, order[:n_needed]


@given(shuffled_pieces(), st.sampled_from(["IPv4", "IPv6", "IPv6 behind options"]), st.booleans())
def test_fragments_in_any_order_make_the_row_of_their_datagram(case, kind, in_batches):
    payload, cuts, order = case
    if kind == "IPv4":
        pieces, whole = pieces_v4(payload, cuts), ipv4(payload)
    else:
        before = b"\x2c\0\x01\x04\0\0\0\0" if kind != "IPv6" else b""
        pieces, whole = pieces_v6(payload, cuts, before=before), ipv6(payload)
    reader = Reader()
    batches = [[i] for i in order] if in_batches else [order]
    *parts, last = [row for batch in batches for row in reader.read([pieces[i] for i in batch])]
    assert result(last) == whole_result(whole)
    assert reader.payload(last) == payload[20:]
    assert all(row["kind"] == FrameKind.FRAGMENT and row["payload_offset"] == -1 for row in parts)
    assert reader.note_codes() == []


def test_a_datagram_that_lacks_a_fragment_stays_in_fragments_and_is_noted():
    reader = Reader()
    rows = reader.read(pieces_v4(tcp(), [80, 160])[:2])
    assert rows["kind"].tolist() == [FrameKind.FRAGMENT] * 2
    assert rows["payload_offset"].tolist() == [-1, -1]
    assert reader.note_codes() == ["incomplete-fragments"]


def test_two_datagrams_do_not_mix():
    one, two = pieces_v4(tcp(100), [40], ident=1), pieces_v4(tcp(200), [40], ident=2)
    rows = Reader().read([one[0], two[1], two[0], one[1]])
    assert rows["payload_len"].tolist() == [0, 0, 200, 100]


def test_the_first_fragment_wins_where_two_overlap():
    payload = tcp(100)
    forged = ipv4(b"\xff" * 48, field=24 // 8 | 0x2000)
    reader = Reader()
    pieces = pieces_v4(payload, [48])
    rows = reader.read([pieces[0], forged, pieces[1]])
    assert rows["kind"].tolist() == [FrameKind.FRAGMENT, FrameKind.FRAGMENT, FrameKind.TCP]
    assert reader.payload(rows[2]) == payload[20:48] + b"\xff" * 24 + payload[72:]


def test_a_second_last_fragment_does_not_change_where_the_datagram_ends():
    payload = tcp(100)
    first, last = pieces_v4(payload, [48])
    longer = ipv4(b"\xff" * 40, field=200 // 8)
    reader = Reader()
    rows = reader.read([last, longer, first])
    assert reader.payload(rows[2]) == payload[20:]


def test_fragments_cut_by_the_snap_length_keep_their_length_on_the_wire():
    payload = tcp(1000)
    reader = Reader()
    rows = reader.read(pieces_v4(payload, [480]), cap=96)
    assert (rows["kind"][1], rows["payload_len"][1]) == (FrameKind.TCP, 1000)
    assert reader.payload(rows[1]) == payload[20:72], "up to the last whole unit of 8 bytes"


def test_fragments_are_found_under_ethernet_and_its_padding():
    head = b"\x02\0\0\0\0\1\x02\0\0\0\0\2\x08\0"
    reader = Reader()
    pieces = pieces_v4(tcp(10), [24])
    rows = reader.read([(head + piece).ljust(60, b"\0") for piece in pieces], link_type=ETHERNET)
    assert (rows["kind"][1], reader.payload(rows[1])) == (FrameKind.TCP, tcp(10)[20:])


def test_a_tunnel_packet_in_fragments_shows_the_segment_inside():
    inner = ipv4(tcp(100), ident=9)
    rows = Reader().read(pieces_v4(b"\0\0\x08\0" + inner, [64], proto=47))
    assert result(rows[1]) == whole_result(inner)


def test_fragments_in_fragments_are_put_together_layer_by_layer():
    inner = pieces_v4(tcp(100), [64], ident=9)
    outer = [piece for n, packet in enumerate(inner) for piece in pieces_v4(packet, [40], proto=4, ident=20 + n)]
    rows = Reader().read(outer)
    assert rows["kind"].tolist() == [FrameKind.FRAGMENT] * 3 + [FrameKind.TCP]
    assert rows["payload_offset"].tolist()[:3] == [-1] * 3
    assert rows["payload_len"][3] == 100


def test_udp_in_fragments_is_udp():
    udp = struct.pack(">HHHH", 53, 4000, 108, 0) + bytes(100)
    rows = Reader().read(pieces_v4(udp, [64], proto=17))
    assert (rows["kind"][1], rows["src_port"][1], rows["payload_len"][1]) == (FrameKind.UDP, 53, 0)


def test_the_rest_of_a_datagram_counts_for_thirty_seconds_of_capture_time():
    for wait_ns, kind in ((30 * S, FrameKind.TCP), (30 * S + 1, FrameKind.FRAGMENT)):
        reader = Reader()
        first, last = pieces_v4(tcp(), [80])
        reader.read([first], ts_ns=100 * S)
        assert reader.read([last], ts_ns=100 * S + wait_ns)["kind"][0] == kind
        assert reader.note_codes() == ([] if kind == FrameKind.TCP else ["incomplete-fragments"] * 2)


@pytest.mark.parametrize("size", [8, 60_000])
def test_fragments_that_never_complete_do_not_exhaust_memory(size):
    reassembler = fragments.Reassembler()
    for ident in range(6000 if size == 8 else 200):
        packet = ipv4(bytes(8), field=(size - 8) // 8 | 0x2000, ident=ident)
        assert reassembler.add(fragments.parse_fragment(packet), 0) is None
        assert reassembler._n_bytes <= fragments.MAX_BYTES
        assert len(reassembler) <= fragments.MAX_DATAGRAMS
    assert reassembler.n_given_up > 0
    assert reassembler._n_bytes == sum(len(datagram.data) for datagram in reassembler._open.values())


def test_a_datagram_without_room_is_noted_and_the_next_one_is_not_harmed():
    reader = Reader(slack=300)
    big, small = pieces_v4(tcp(400), [80], ident=1), pieces_v4(tcp(40), [24], ident=2)
    rows = reader.read([*big, *small])
    assert rows["kind"].tolist() == [FrameKind.FRAGMENT] * 3 + [FrameKind.TCP]
    assert reader.note_codes() == ["dropped-datagram"]


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(bytes(9), field=0x2000),
        ipv4(b"", field=0x2000),
        ipv4(bytes(16), field=0x1FFF),
        struct.pack(">BBHHHBBH", 0x45, 0, 0, 7, 0x2000, 64, 6, 0) + SRC + DST + bytes(8),
        ipv6(struct.pack(">BBHI", 6, 0, 1, 7) + bytes(7), 44),
        ipv6(struct.pack(">BBHI", 6, 0, 0xFFF9, 7) + bytes(8), 44),
    ],
    ids=["odd length", "nothing inside", "beyond the end", "no length", "odd length, IPv6", "beyond the end, IPv6"],
)
def test_a_fragment_that_fits_no_datagram_is_noted(packet):
    reader = Reader()
    assert reader.read([packet])["kind"].tolist() == [FrameKind.FRAGMENT]
    assert reader.note_codes() == ["malformed-fragment"]


def test_every_prefix_of_a_fragment_is_a_fragment_or_nothing():
    for packet in (*pieces_v4(tcp(), [80]), *pieces_v6(tcp(), [80], before=b"\x2c\0\x01\x04\0\0\0\0")):
        parsed = [fragments.parse_fragment(packet[:n]) for n in range(len(packet) + 1)]
        assert {(f.offset, f.wire_len, f.is_last) for f in parsed if f} == {parsed[-1][2:4] + parsed[-1][5:]}
        assert parsed[: packet.index(parsed[-1].data)] == [None] * packet.index(parsed[-1].data)


def test_a_packet_without_a_fragment_header_is_no_fragment():
    assert fragments.parse_fragment(ipv6(tcp())) is None
    assert fragments.parse_fragment(ipv6(b"\x2c\xff" + bytes(40), 0)) is None
    assert fragments.parse_fragment(b"\x44" + ipv4(tcp())[1:]) is None


PACKET = ipv4(tcp(30))
IN, OUT, UNKNOWN = PacketDirection.INBOUND, PacketDirection.OUTBOUND, PacketDirection.UNKNOWN
ETHER = b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0"
RARE = {
    "enc": (109, bytes(12), UNKNOWN),
    "pflog": (117, b"\x3d" + bytes(63), UNKNOWN),
    "pppd": (166, b"\1\x03\0\x21", OUT),
    "ERF": (197, bytes(8) + b"\x02" + bytes(9) + ETHER, UNKNOWN),
    "ERF, extended": (197, bytes(8) + b"\x82" + bytes(7) + b"\x80" + bytes(7) + bytes(8) + bytes(2) + ETHER, UNKNOWN),
    "PPP, received": (204, b"\0\xff\x03\0\x21", IN),
    "ipnet": (226, bytes(24), UNKNOWN),
    "NFLOG": (239, b"\2\0\0\0" + struct.pack("<HHI", 8, 1, 5) + struct.pack("<HH", 54, 9), UNKNOWN),
    "NFLOG, big-endian": (239, b"\2\0\0\0" + struct.pack(">HHI", 7, 1, 5) + struct.pack(">HH", 54, 9), UNKNOWN),
    "PKTAP, sent": (258, struct.pack("<III", 108, 1, 1) + bytes(24) + b"\2\0\0\0" + bytes(68) + ETHER, OUT),
    "PKTAP": (258, struct.pack("<III", 108, 1, 12) + bytes(96), UNKNOWN),
}


@pytest.mark.parametrize("name", RARE)
def test_tcp_is_found_behind(name):
    link_type, head, direction = RARE[name]
    reader = Reader()
    row = reader.read([head + PACKET], link_type)[0]
    assert result(row) == whole_result(PACKET)
    assert (reader.payload(row), row["packet_direction"]) == (tcp(30)[20:], direction)
    assert reader.note_codes() == []


@pytest.mark.parametrize("name", RARE)
def test_a_rare_header_cut_anywhere_is_undecoded_or_not_ip(name):
    """A cut header is never taken for a segment, and no frame is left to the slow path for ever."""
    link_type, head, _ = RARE[name]
    rows = Reader().read([head[:n] for n in range(len(head))], link_type)
    assert set(rows["kind"].tolist()) <= {FrameKind.UNDECODED, FrameKind.NON_IP}
    assert rows["undecoded_reason"][0] == UndecodedReason.EMPTY


@pytest.mark.parametrize(
    ("link_type", "data"),
    [
        (197, bytes(8) + b"\x01" + bytes(9)),
        (239, b"\2\0\0\0" + struct.pack("<HHI", 8, 1, 5)),
        (239, b"\2\0\0\0" + bytes(8)),
        (258, struct.pack("<III", 108, 1, 1 << 16) + bytes(96)),
    ],
    ids=["no Ethernet", "no packet", "no length", "no link type"],
)
def test_a_rare_frame_without_ip_is_not_ip(link_type, data):
    row = Reader().read([data], link_type)[0]
    assert (row["kind"], row["undecoded_reason"]) == (FrameKind.NON_IP, UndecodedReason.NONE)


def pktap(link_type):
    return struct.pack("<III", 108, 1, link_type) + bytes(96)


@pytest.mark.parametrize(
    ("link_type", "name"), [(6, "IEEE802_5"), (10, "FDDI"), (105, "IEEE802_11"), (127, "IEEE802_11_RADIOTAP")]
)
def test_a_link_layer_that_no_proxy_has_is_undecoded_and_noted_once_by_its_name(link_type, name):
    reader = Reader()
    for _ in range(2):
        rows = reader.read([PACKET, PACKET], link_type)
        assert rows["undecoded_reason"].tolist() == [UndecodedReason.LINK_TYPE] * 2
    reader.read([pktap(link_type) + PACKET], 258)
    notes = reader.notes.take_rest()
    assert [(note.code, note.text) for note in notes] == [
        ("unknown-link-type", f"frames of {name} are not decoded, this is the first")
    ]


def test_headers_that_nest_too_deep_are_undecoded():
    row = Reader().read([pktap(258) * 9 + PACKET], 258)[0]
    assert (row["kind"], row["undecoded_reason"]) == (FrameKind.UNDECODED, UndecodedReason.TOO_DEEP)


def test_fragments_are_found_behind_a_rare_link():
    reader = Reader()
    rows = reader.read([bytes(12) + piece for piece in pieces_v4(tcp(50), [24])], 109)
    assert (rows["kind"].tolist(), reader.payload(rows[1])) == ([FrameKind.FRAGMENT, FrameKind.TCP], tcp(50)[20:])


@pytest.mark.parametrize("link_type", sorted({link_type for link_type, _, _ in RARE.values()}))
def test_every_rare_link_has_a_name(link_type):
    assert describe_link_type(link_type).isupper()


def test_a_link_type_without_a_name_is_its_number():
    assert (describe_link_type(149), describe_link_type(65000)) == ("USER2", "link type 65000")


@given(st.sampled_from(sorted({link_type for link_type, _, _ in RARE.values()})), st.binary(max_size=80))
def test_random_bytes_behind_a_rare_link_get_one_kind(link_type, data):
    rows = Reader().read([data, data], link_type)
    assert rows["kind"][0] in set(FrameKind)
    assert (rows["kind"][0] == FrameKind.UNDECODED) == (rows["undecoded_reason"][0] != UndecodedReason.NONE)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_damaged_fragments_never_raise_and_never_leave_a_row_open(seed, n_change):
    rng = random.Random(seed)
    packets = [bytearray(p) for p in (*pieces_v4(tcp(200), [40, 96]), *pieces_v6(tcp(200), [40, 96]))]
    for _ in range(n_change):
        packet = rng.choice(packets)
        packet[rng.randrange(min(len(packet), 60))] = rng.randrange(256)
    rng.shuffle(packets)
    rows = Reader(slack=1000).read([bytes(p[: rng.choice([None, 30, 60])]) for p in packets])
    fragment_rows = rows["kind"] == FrameKind.FRAGMENT
    assert (rows["payload_offset"][fragment_rows] == -1).all()
