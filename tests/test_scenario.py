"""The scenario language means what it says; tshark reads what it writes."""

import pytest

from tests.scenario import Form, Segment, filler, parse, write_capture

RACE = r"""
# One answered exchange, then a request that crosses the upstream's FIN.
+0        > S
+0.08     < S.
+0.080001 > .
+0        > P. 1:19(18) ack 1 "GET / HTTP/1.1\r\n\r\n"
+0.08     < P. "HTTP/1.1 204 \r\n\r\n"
+0        > .
+3.95     > P. "GET / HTTP/1.1\r\n\r\n"
+0.05     < F. 18:18(0) ack 19
+0.0001   > F. ack 19
+0.11     < R 18:18(0) ttl 63 id 7 win 0
"""

FIELDS = ("frame.time_epoch", "tcp.srcport", "tcp.dstport", "tcp.flags", "tcp.seq_raw", "tcp.ack_raw", "tcp.len")


def test_omitted_numbers_continue_where_each_side_is():
    segments = parse(RACE)
    assert [(s.seq, s.ack, s.end) for s in segments[:4]] == [(0, -1, 1), (0, 1, 1), (1, 1, 1), (1, 1, 19)]
    assert segments[6] == Segment(4_190_001_000, 0, 0, 0x18, 19, 18, b"GET / HTTP/1.1\r\n\r\n")
    assert (segments[8].seq, segments[8].end) == (37, 38)
    assert (segments[9].ack, segments[9].ttl, segments[9].ip_id, segments[9].window) == (-1, 63, 7, 0)


def test_filler_repeats_itself_in_a_retransmission():
    first, second = parse("+0 > P. 10:40(30)\n+0.2 > P. 20:30(10)")
    assert second.payload == first.payload[10:20] == filler(20, 10)


def test_a_lost_segment_counts_but_is_not_written(tshark, tmp_path):
    segments = parse('+0 > P. 1:4(3) "abc" lost\n+0.1 < . ack 4\n+0.1 > P. "d"')
    assert segments[2].seq == 4
    path = tmp_path / "lost.pcap"
    path.write_bytes(write_capture(segments))
    assert tshark(path, "tcp.seq_raw", "tcp.len") == [("500000", "0"), ("1004", "1")]


@pytest.mark.parametrize(
    "line", ["0 > S", "+0 S", "+0 > Q", "+0 > P. 1:5(3)", '+0 > P. 1:4(3) "ab"', "+0 > P. 5:1(4)", "+0 > . wine 3"]
)
def test_a_line_that_is_wrong_is_refused_by_its_number(line):
    with pytest.raises(ValueError, match="line 2"):
        parse("+0 > S\n" + line)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("container", ["pcap", "pcap-ns", "pcapng", "pcapng-us"])
@pytest.mark.parametrize("link", ["ethernet", "vlan", "qinq", "sll", "sll2", "raw", "null"])
def test_tshark_reads_every_form_as_the_same_segments(tshark, tmp_path, link, container, order):
    path = tmp_path / "race.pcap"
    path.write_bytes(write_capture(parse(RACE), link=link, container=container, order=order))
    rows = tshark(path, *FIELDS)
    assert len(rows) == 10
    assert rows[6] == ("1700000004.190001000", "40000", "80", "0x0018", "1019", "500018", "18")
    assert rows[9][3:6] == ("0x0004", "500018", "0")


@pytest.mark.parametrize("addresses", [("10.9.0.100", "10.9.0.1"), ("2001:db8::64", "2001:db8::1")])
def test_checksums_are_those_of_the_rfc(tshark, tmp_path, addresses):
    path = tmp_path / "race.pcap"
    path.write_bytes(write_capture(parse(RACE), orig=addresses[0], resp=addresses[1]))
    options = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    rows = tshark(path, "tcp.checksum.status", "ip.checksum.status", options=options)
    assert {tcp for tcp, _ in rows} == {"1"}
    assert {ip for _, ip in rows} <= {"1", ""}


def test_sequence_numbers_wrap_around(tshark, tmp_path):
    path = tmp_path / "wrap.pcap"
    path.write_bytes(write_capture(parse(RACE), orig_isn=2**32 - 10))
    rows = tshark(path, "tcp.seq_raw", "tcp.seq", "http.request.method")
    assert rows[6] == ("9", "19", "GET")


def test_a_snap_length_cuts_frames_and_keeps_their_length(tshark, tmp_path):
    path = tmp_path / "cut.pcap"
    path.write_bytes(write_capture(parse(RACE), Form(snaplen=60)))
    assert tshark(path, "frame.len", "frame.cap_len")[3] == ("72", "60")
