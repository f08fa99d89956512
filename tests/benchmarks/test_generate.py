"""The benchmark capture is what a real stack could have sent, and holds what its JSON file says."""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import dpkt
import pytest

from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only

GENERATE = Path(__file__).resolve().parents[2] / "benchmarks" / "generate.py"
CONNECTIONS = 300  # two windows, so that frames of one are merged into the other
CHECKSUMS = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")


def generate(path):
    subprocess.run(
        [sys.executable, str(GENERATE), str(path), "--connections", str(CONNECTIONS), "--races", "4"],
        check=True,
        capture_output=True,
        timeout=HANG_S,
    )
    return path


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("benchmark") / "bench.pcap")


@pytest.fixture(scope="module")
def truth(capture):
    return json.loads(capture.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def segments(capture):
    found = []
    with capture.open("rb") as stream:
        for ts, frame in dpkt.pcap.Reader(stream):
            ip = dpkt.ethernet.Ethernet(frame).data
            found.append((ts, ip, ip.data))
    return found


def flow_of(ip):
    return ip.src, ip.data.sport, ip.dst, ip.data.dport


def test_the_same_arguments_give_the_same_bytes(capture, tmp_path):
    assert generate(tmp_path / "again.pcap").read_bytes() == capture.read_bytes()


def test_frames_and_bytes_are_as_stated(capture, segments, truth):
    assert len(segments) == truth["frames"]
    assert capture.stat().st_size == truth["bytes"]


def test_times_never_fall(segments):
    times = [ts for ts, _, _ in segments]
    assert times == sorted(times)


def test_connections_overlap(segments):
    flows = [flow_of(ip) for _, ip, tcp in segments if not tcp.flags & dpkt.tcp.TH_RST]
    last = {flow: n for n, flow in enumerate(flows)}
    opened = [n for n, (_, _, tcp) in enumerate(segments) if tcp.flags == dpkt.tcp.TH_SYN]
    assert len(opened) == CONNECTIONS
    assert sum(last[flow_of(segments[n][1])] > opened[-1] for n in opened) > CONNECTIONS // 4


def test_all_checksums_are_valid(capture, tshark, truth):
    status = Counter(tshark(capture, "ip.checksum.status", "tcp.checksum.status", options=CHECKSUMS))
    assert status == {("1", "1"): truth["frames"]}


def test_tshark_finds_nothing_wrong_with_the_segments(capture, tshark):
    assert tshark(capture, "frame.number", display_filter="tcp.analysis.flags") == []


def test_every_connection_negotiates_scaling_sack_and_timestamps(capture, tshark):
    fields = ("tcp.options.mss_val", "tcp.options.wscale.shift", "tcp.options.sack_perm", "tcp.options.timestamp.tsval")
    opening = tshark(capture, *fields, display_filter="tcp.flags.syn == 1")
    assert len(opening) == 2 * CONNECTIONS
    assert all(mss == "1460" and shift == "7" and sack and ts for mss, shift, sack, ts in opening)


def test_timestamps_rise_with_time_and_echo_what_was_sent(segments):
    first = {}
    newest = {}
    for ts, ip, tcp in segments:
        if tcp.flags & dpkt.tcp.TH_RST:
            continue
        options = dict(dpkt.tcp.parse_opts(tcp.opts))
        value, echo = (int.from_bytes(options[dpkt.tcp.TCP_OPT_TIMESTAMP][k : k + 4]) for k in (0, 4))
        flow = flow_of(ip)
        start_ts, start_value = first.setdefault(flow, (ts, value))
        elapsed_ms = float(ts - start_ts) * 1000
        assert abs((value - start_value & 0xFFFFFFFF) - elapsed_ms) <= 1.01
        peer = (*flow[2:], *flow[:2])
        if tcp.flags & dpkt.tcp.TH_ACK:
            assert (newest[peer] - echo & 0xFFFFFFFF) < 1 << 31
        newest[flow] = value


def test_ip_identification_rises_by_one_per_flow(segments):
    of_flow = defaultdict(list)
    for _, ip, tcp in segments:
        if not tcp.flags & (dpkt.tcp.TH_RST | dpkt.tcp.TH_SYN):
            of_flow[flow_of(ip)].append(ip.id)
    for ids in of_flow.values():
        assert all((b - a) & 0xFFFF == 1 for a, b in pairwise(ids))


def test_tshark_reads_the_stated_exchanges(capture, tshark, truth):
    methods = tshark(capture, "http.request.method", display_filter="http.request")
    statuses = tshark(capture, "http.response.code", display_filter="http.response")
    assert Counter(m for (m,) in methods) == truth["methods"]
    assert Counter(s for (s,) in statuses) == truth["statuses"]
    assert len(methods) == truth["exchanges"]
    assert len(statuses) == truth["exchanges"] - truth["unanswered"]


def test_some_responses_are_chunked(capture, tshark):
    assert tshark(capture, "frame.number", display_filter="http.transfer_encoding == chunked")


def test_every_connection_closes_and_only_races_reset(capture, tshark, truth):
    closers = Counter(
        tshark(capture, "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", display_filter="tcp.flags.fin == 1")
    )
    resets = tshark(capture, "ip.dst", "tcp.dstport", display_filter="tcp.flags.reset == 1")
    assert set(closers.values()) == {1}
    assert len(closers) == 2 * CONNECTIONS
    assert Counter(":".join(r) for r in resets) == {race["orig"]: 2 for race in truth["races"]}


def test_a_raced_request_and_its_fin_do_not_acknowledge_each_other(segments, truth):
    assert len(truth["races"]) == truth["unanswered"] == 4
    for race in truth["races"]:
        ts, ip, request = segments[race["request_frame"] - 1]
        assert int(ts * 1_000_000) * 1000 == race["request_ts_ns"]
        peer = (*flow_of(ip)[2:], *flow_of(ip)[:2])
        (fin,) = [t for _, i, t in segments if flow_of(i) == peer and t.flags & dpkt.tcp.TH_FIN]
        assert request.data.startswith(b"POST ")
        assert fin.ack == request.seq
        assert fin.seq == request.ack
