"""The evidence proves what the report says: to Wireshark, to a reader, and to this program itself."""

import bz2
import gzip
import hashlib
import io
import lzma
import re
import struct
import subprocess
from dataclasses import replace

import pytest

import pcapdiag
from pcapdiag.analysis.model import IdleTimeout
from pcapdiag.base.errors import CaptureError, UsageError
from pcapdiag.ticket.evidence import selection, spool
from tests.conftest import ROOT
from tests.scenario import Form, build_frame, parse, write_frames
from tests.ticket.evidence.scenes import SECRETS, evidence, frames_of, in_time, losses_of, race, write
from tests.waiting import HANG_S

ALSO_TESTS = ("write",)

pytestmark = pytest.mark.compiled_only

CASES = {
    p.parent.name: p
    for p in sorted((ROOT / "captures").glob("*/[cps][!_]*.pcap*"))
    if p.parent.name
    in {
        *("idle_close_race_65s", "idle_close_race_ipv6", "idle_close_race_tls", "idle_close_race_vlan"),
        *("connect_refused_and_timeout", "fin_lost_rst_alone", "middlebox_reset_on_reuse"),
        *("race_lost_in_server", "reset_on_reuse_state_lost", "reuse_after_fin", "silent_drop_on_reuse"),
        *("icmp_prohibited", "icmp_port_unreachable", "path_mtu_icmp"),
        *("slow_upstream_read_timeout", "truncated_response", "worker_exit", "worker_killed_reset", "client_abort"),
    }
}
S = 1_000_000_000
CHECKS = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
UNVERIFIED, GOOD = "2", "1"


@pytest.fixture
def proxy(tmp_path):
    """Return a capture of two races, on connections that are open at the same time."""
    return write(tmp_path / "proxy.pcap", in_time(race([90]), race([10, 200], conn=1, start_ns=5_000_000)))


@pytest.mark.parametrize("case", CASES)
def test_the_same_requests_are_lost_in_the_evidence(case, tmp_path):
    target = tmp_path / "e.pcapng"
    _, summary = evidence(CASES[case], write_to=target)
    assert losses_of(target) == losses_of(CASES[case]) != []
    assert summary.left_out == 0


@pytest.mark.parametrize("case", ["idle_close_race_65s", "idle_close_race_ipv6", "idle_close_race_vlan"])
def test_the_same_requests_are_lost_in_anonymous_evidence(case, tmp_path):
    target = tmp_path / "e.pcapng"
    evidence(CASES[case], write_to=target, anonymize=True)
    assert losses_of(target) == losses_of(CASES[case]) != []


@pytest.mark.parametrize("anonymize", [False, True])
@pytest.mark.parametrize("case", ["idle_close_race_65s", "idle_close_race_ipv6", "idle_close_race_vlan", "worker_exit"])
def test_every_checksum_is_good_or_the_frame_was_cut(case, anonymize, tmp_path, tshark):
    target = tmp_path / "e.pcapng"
    evidence(CASES[case], write_to=target, anonymize=anonymize)
    rows = tshark(target, "tcp.checksum.status", "ip.checksum.status", "frame.len", "frame.cap_len", options=CHECKS)
    assert rows
    for tcp, ip, length, captured in rows:
        assert tcp == (GOOD if length == captured else UNVERIFIED)
        assert ip in {GOOD, ""}


@pytest.mark.parametrize("link", ["ethernet", "vlan", "qinq", "sll", "sll2", "raw", "null"])
@pytest.mark.parametrize("container", ["pcap", "pcap-ns", "pcapng", "pcapng-us"])
def test_link_type_and_time_are_those_of_the_capture(link, container, tmp_path):
    segments = [replace(s, ts_ns=s.ts_ns + (0 if container in {"pcap", "pcapng-us"} else 7)) for s in race([40])]
    path = write(tmp_path / "p.cap", segments, link=link, container=container)
    evidence(path, write_to=tmp_path / "e.pcapng")
    before, after = frames_of(path), frames_of(tmp_path / "e.pcapng")
    assert [(ts, kind) for ts, kind, _ in before] == [(ts, kind) for ts, kind, _ in after]
    assert all(b.startswith(a[:28]) for (_, _, a), (_, _, b) in zip(after, before, strict=True))


@pytest.mark.parametrize("link", ["ethernet", "vlan", "sll", "sll2", "raw"])
@pytest.mark.parametrize("addresses", [{}, {"orig": "2001:db8::1", "resp": "2001:db8::2"}])
def test_no_address_survives_anonymising_in_any_form(link, addresses, tmp_path):
    form = Form(link=link, **addresses)
    path = write(tmp_path / "p.pcap", race([40]), link=link, **addresses)
    data, _ = evidence(path, write_to=tmp_path / "e.pcapng", anonymize=True)
    frame = build_frame(parse("+0 > S")[0], form)
    ends = {"ethernet": 12, "vlan": 12, "sll": 12, "sll2": 18, "raw": 0}
    macs = frame[: ends[link]][-12:]
    for hidden in (
        *([macs[:6], macs[6:]] if link in {"ethernet", "vlan"} else []),
        b"shop.example.test",
        b"\x0a\x09\0\x64",
    ):
        assert hidden not in data
    assert b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0" not in data
    assert losses_of(tmp_path / "e.pcapng") == losses_of(path) != []


def test_wireshark_shows_what_each_key_frame_proves(proxy, tmp_path, tshark):
    target = tmp_path / "e.pcapng"
    _, summary = evidence(proxy, write_to=target)
    rows = tshark(target, "frame.number", "frame.packet_id", "frame.comment", display_filter=summary.display_filter)
    assert [int(n) for n, _, _ in rows] == [f.frame for f in summary.frames if f.is_key]
    assert all(re.match(r"PD101, request 2, [\w ,]+", comment) for _, _, comment in rows if "SYN" not in comment)
    report = pcapdiag.analyze(proxy).report
    wanted = {e.frame for f in report.findings for o in f.occurrences for e in o.evidence}
    assert {int(packet) for _, packet, _ in rows} == wanted
    assert all(f"Frame {packet} of proxy.pcap." in comment for _, packet, comment in rows)


def test_a_connection_that_shows_the_timer_says_so_and_is_told_apart_from_lost_ones(tmp_path, tshark):
    target = tmp_path / "e.pcapng"
    path = CASES["idle_close_race_65s"]
    data, summary = evidence(path, write_to=target)
    rows = tshark(target, "tcp.stream", "frame.comment", display_filter="frame.comment")
    showing = {
        stream
        for stream, comment in rows
        if re.match(r"closed by the upstream after [\d.]+ s idle: shows T\.", comment)
    }
    lost = {stream for stream, comment in rows if comment.startswith("PD")}
    assert len(showing) == summary.showing > 3
    assert len(lost) == summary.lost
    assert not showing & lost
    told = (
        f"It holds {summary.lost} connections with what the findings name, {summary.showing} connections that nothing"
    )
    assert f"{told} was lost on, to show T" in data.decode("utf-8", "replace")
    streams = set(tshark(target, "tcp.stream"))
    assert {(s,) for s in showing | lost} == streams, "each connection says why it is there"


def test_of_each_upstream_so_many_connections_show_its_timer_as_are_asked_for():
    shown = [evidence(CASES["idle_close_race_65s"], n_samples=n)[1].showing for n in (0, 1, 5)]
    assert shown[0] == 0
    assert shown[1] == 3, "one of each of three upstreams"
    assert 3 < shown[2] <= 15


def test_a_connection_closed_at_another_age_does_not_claim_to_show_the_timer():
    timer = IdleTimeout(value_ns=4 * S, spread_ns=10_000_000, samples=9, confidence=3)
    ages = (3_900_000_000, 4_000_000_000, 4_060_000_000, 4_200_000_000, 60 * S)
    assert [selection._is_at(age, timer) for age in ages] == [False, True, True, False, False]


def test_the_comment_of_a_request_names_the_fin_by_its_number_here(proxy, tmp_path, tshark):
    target = tmp_path / "e.pcapng"
    evidence(proxy, write_to=target)
    comments = dict(tshark(target, "frame.number", "frame.comment", display_filter="frame.comment"))
    fins = {n for n, comment in comments.items() if "FIN of the server:" in comment}
    named = {match[1] for c in comments.values() if (match := re.search(r"The FIN is frame (\d+)\.", c))}
    assert named == fins != set()


def test_the_filter_of_the_report_selects_the_same_frames_in_the_capture(proxy, tmp_path, tshark):
    target = tmp_path / "e.pcapng"
    evidence(proxy, write_to=target)
    report = pcapdiag.analyze(proxy).report
    for occurrence in (o for f in report.findings for o in f.occurrences):
        original = tshark(proxy, "frame.number", "frame.time_epoch", display_filter=occurrence.display_filter)
        packets = occurrence.display_filter.replace("frame.number", "frame.packet_id")
        assert tshark(target, "frame.packet_id", "frame.time_epoch", display_filter=packets) == original


def test_the_section_says_what_it_is_the_evidence_of(proxy):
    data, summary = evidence(proxy)
    report = pcapdiag.analyze(proxy).report
    assert summary.identifier == report.identifier
    assert f"Evidence of report {report.identifier} by pcapdiag {pcapdiag.__version__}.".encode() in data[:2000]
    assert report.findings[0].message.encode() in data[:2000]


def test_upstreams_have_the_name_that_only_they_are_asked_under(proxy, tmp_path):
    data, _ = evidence(proxy)
    assert b"\x0a\x09\0\x01shop.example.test\0" in data
    other = write(tmp_path / "other.pcap", race(conn=2, start_ns=1), resp="10.9.0.2")
    data, _ = evidence(proxy, other)
    assert b"shop.example.test\0" not in data.replace(b"Host: shop.example.test", b"")


def test_the_same_capture_gives_the_same_bytes(proxy, monkeypatch):
    assert evidence(proxy)[0] == evidence(proxy)[0]
    monkeypatch.setenv("PCAPDIAG_ANONYMIZE_KEY", "sixteen characters")
    assert evidence(proxy, anonymize=True)[0] == evidence(proxy, anonymize=True)[0]
    monkeypatch.delenv("PCAPDIAG_ANONYMIZE_KEY")
    assert evidence(proxy, anonymize=True)[0] != evidence(proxy, anonymize=True)[0]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_capture_gives_the_same_packets(pack, proxy, tmp_path):
    packed = tmp_path / "proxy.pcap.packed"
    packed.write_bytes(pack(proxy.read_bytes()))
    evidence(proxy, write_to=tmp_path / "a.pcapng")
    evidence(packed, write_to=tmp_path / "b.pcapng")
    assert frames_of(tmp_path / "a.pcapng") == frames_of(tmp_path / "b.pcapng") != []


def test_a_rotated_capture_gives_the_same_packets_and_their_numbers_in_each_file(proxy, tmp_path, tshark):
    frames = [(ts, data) for ts, _, data in frames_of(proxy)]
    middle = len(frames) // 2
    for number, part in enumerate((frames[:middle], frames[middle:])):
        (tmp_path / f"rot_0000{number}_2023111422132{number}.pcap").write_bytes(write_frames(part, Form()))
    series = sorted(tmp_path.glob("rot*"))
    _, summary = evidence(*series, write_to=tmp_path / "b.pcapng")
    evidence(proxy, write_to=tmp_path / "a.pcapng")
    assert [d for _, _, d in frames_of(tmp_path / "a.pcapng")] == [d for _, _, d in frames_of(tmp_path / "b.pcapng")]
    rows = tshark(tmp_path / "b.pcapng", "frame.packet_id", "frame.interface_description")
    assert rows == [(str(f.original_frame), f.capture) for f in summary.frames]
    assert {f.capture for f in summary.frames} == {path.name for path in series}


def test_interfaces_keep_name_snaplen_and_resolution(tmp_path):
    data = write(tmp_path / "p", race(), container="pcapng", snaplen=400).read_bytes()
    name = struct.pack("<HH", 2, 4) + b"eth7"
    at = data.index(struct.pack("<HHB3xHH", 9, 1, 9, 0, 0))
    start = data.index(struct.pack("<I", 1), 28)
    length = struct.unpack_from("<I", data, start + 4)[0]
    block = struct.pack("<II", 1, length + 8) + data[start + 8 : at] + name + data[at : start + length - 4]
    path = tmp_path / "named.pcapng"
    path.write_bytes(data[:start] + block + struct.pack("<I", length + 8) + data[start + length :])
    for anonymize in (False, True):
        written, _ = evidence(path, anonymize=anonymize)
        assert struct.pack("<HHI", 1, 0, 400) + name in written
    odd = path.read_bytes().replace(b"eth7", b"acme")
    path.write_bytes(odd)
    assert b"acme" in evidence(path)[0]
    assert b"acme" not in evidence(path, anonymize=True)[0]


def test_tls_secrets_comments_and_names_of_the_capture_stay_behind(tmp_path):
    data = write(tmp_path / "p", race(), container="pcapng").read_bytes()
    secrets = b"CLIENT_RANDOM a5ecret0 a5ecret0".ljust(32)

    def block(kind, body):
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    keys = block(10, struct.pack("<II", 0x544C534B, len(secrets)) + secrets)
    names = block(4, struct.pack("<HH", 1, 16) + b"\x0a\x09\0\x01a5ecret0....".ljust(16) + bytes(4))
    path = tmp_path / "p.pcapng"
    path.write_bytes(data[:28] + data[28:] + keys + names)
    written, _ = evidence(path)
    assert not any(s.encode() in written for s in SECRETS)
    assert b"CLIENT_RANDOM" not in written


def test_without_redaction_every_frame_is_as_captured_and_the_file_says_so(proxy, tmp_path):
    data, summary = evidence(proxy, write_to=tmp_path / "e.pcapng", redact=False)
    assert frames_of(tmp_path / "e.pcapng") == frames_of(proxy)
    assert b"NOT REDACTED" in data
    assert not summary.redacted


def test_frames_that_need_no_change_keep_a_wrong_checksum(tmp_path):
    """Offloading leaves sums unfinished: to put them right would hide it, where nothing was masked."""
    path = write(tmp_path / "p.pcap", race(), checksums=False)
    evidence(path, write_to=tmp_path / "e.pcapng")
    for (_, _, a), (_, _, b) in zip(frames_of(path), frames_of(tmp_path / "e.pcapng"), strict=True):
        assert b == a or len(b) < len(a) or b"*" in b


def test_the_trailer_of_a_short_frame_is_cleared(tmp_path):
    frames = [(Form().start_ns + s.ts_ns, build_frame(s, Form()) + b"a5ecret0") for s in race()]
    (tmp_path / "p.pcap").write_bytes(write_frames(frames, Form()))
    assert b"a5ecret0" not in evidence(tmp_path / "p.pcap")[0]


def test_a_fragmented_segment_shows_no_payload(tmp_path):
    form = Form()
    frames = []
    for s in race():
        whole = build_frame(s, form)
        if len(s.payload) < 64:
            frames.append((form.start_ns + s.ts_ns, whole))
            continue
        ip, cut = whole[14:34], 40
        for at, more in ((0, 0x2000), (cut, 0)):
            piece = whole[34:][at : at + cut] if more else whole[34:][at:]
            head = bytearray(ip)
            struct.pack_into(">H", head, 2, 20 + len(piece))
            struct.pack_into(">H", head, 6, more | at // 8)
            frames.append((form.start_ns + s.ts_ns + bool(at), whole[:14] + bytes(head) + piece))
    (tmp_path / "p.pcap").write_bytes(write_frames(frames, form))
    data, _ = evidence(tmp_path / "p.pcap", frames=[str(n) for n in range(1, len(frames) + 1)])
    assert not any(s[:6].encode() in data for s in SECRETS)


def test_a_long_connection_is_kept_from_its_last_exchanges_on(tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "WHOLE_FRAMES", 8)
    path = CASES["idle_close_race_65s"]
    _, summary = evidence(path, write_to=tmp_path / "e.pcapng")
    assert losses_of(tmp_path / "e.pcapng") == losses_of(path)
    assert len(summary.frames) < len(evidence(path, connections=())[1].frames) + 1


def test_more_frames_than_are_kept_of_a_connection_are_counted(proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "WHOLE_FRAMES", 1)
    _, summary = evidence(proxy, write_to=tmp_path / "e.pcapng")
    assert summary.left_out > 0
    keys = {e.frame for f in pcapdiag.analyze(proxy).report.findings for o in f.occurrences for e in o.evidence}
    assert keys <= {f.original_frame for f in summary.frames}


def test_a_spool_beyond_its_memory_lies_in_a_file_and_gives_the_same(proxy, monkeypatch):
    before = evidence(proxy)[0]
    monkeypatch.setattr(spool, "_MEMORY_BYTES", 100)
    assert evidence(proxy)[0] == before


def test_what_is_asked_for_is_kept_with_its_connection(tmp_path):
    path = write(tmp_path / "p.pcap", in_time(race(), race(conn=1, start_ns=7)))
    uids = set(pcapdiag.analyze(path).connections["uid"])
    for uid in uids:
        _, summary = evidence(path, connections=[uid])
        assert (summary.connections, summary.codes) == (1, ())
    _, summary = evidence(path, frames=["1"])
    assert summary.connections == 1
    _, summary = evidence(path, codes=["PD1"], frames=["p.pcap:2"])
    assert (summary.connections, summary.codes) == (2, ("PD101",))


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"codes": ["PD2"]}, "PD2 was not found in this capture; found are: PD101"),
        ({"connections": ["1:x=@5"]}, "no connection '1:x=@5'"),
        ({"connections": ["nonsense"]}, "show connections"),
        ({"frames": ["0"]}, "has 20 frames"),
        ({"frames": ["21"]}, "has 20 frames"),
        ({"frames": ["other.pcap:1"]}, "no file of that name"),
        ({"frames": ["x"]}, "as Wireshark shows it"),
    ],
)
def test_what_is_not_there_is_said(choice, told, tmp_path):
    path = write(tmp_path / "p.pcap", in_time(race(), race(conn=1, start_ns=7)))
    with pytest.raises(UsageError, match=re.escape(told)):
        evidence(path, **choice)


def test_a_capture_that_has_changed_is_not_mistaken_for_itself(proxy):
    result = pcapdiag.analyze(proxy)
    proxy.write_bytes(proxy.read_bytes()[:400])
    with pytest.raises(CaptureError, match="ends earlier than when it was analysed"):
        result.write_evidence(io.BytesIO())
    proxy.write_bytes(write(proxy, race([90], start_ns=3_000)).read_bytes())
    with pytest.raises(CaptureError):
        result.write_evidence(io.BytesIO())


def test_capinfos_finds_nothing_wrong(proxy, tmp_path):
    evidence(proxy, write_to=tmp_path / "e.pcapng", anonymize=True)
    done = subprocess.run(
        ["capinfos", tmp_path / "e.pcapng"], capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr
    assert "Capture application: pcapdiag" in done.stdout


def test_nothing_found_gives_an_empty_capture(tmp_path):
    data, summary = evidence(ROOT / "captures" / "healthy_keepalive" / "proxy.pcap", write_to=tmp_path / "e.pcapng")
    assert (summary.frames, summary.codes) == ((), ())
    assert hashlib.sha256(data).hexdigest()
    assert frames_of(tmp_path / "e.pcapng") == []
