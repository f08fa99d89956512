"""One failure is one failure, whatever piece of the recording a report reads."""

import json
import struct
import sys
from pathlib import Path

import pytest

import pcapdiag
from pcapdiag.analysis.inputs import Inputs
from pcapdiag.watch import job
from pcapdiag.watch.model import JobOrder

sys.path.insert(0, str(Path(__file__).parent.parent))
from replay import read_records
from watch_process import failures_of

pytestmark = [pytest.mark.lab, pytest.mark.compiled_only]

S = 1_000_000_000


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Return a function that makes a report of records as the recorder's process does."""
    monkeypatch.chdir(tmp_path)
    made = []

    def report(header, records, **order):
        folder = tmp_path / f"job{len(made)}"
        made.append(folder)
        folder.mkdir()
        (folder / "ring-00000001.pcapng").write_bytes(header + b"".join(records))
        job.write_order(folder, JobOrder(("ring-00000001.pcapng",), **order))
        job.run(folder)
        result = job.read_result(folder)
        assert result.error == ""
        path = folder / job.REPORT / "report.json"
        return result, json.loads(path.read_bytes()) if path.exists() else None

    return report


def keys_of(result):
    return tuple(key for finding in result.findings for key in finding.keys)


def cuts(path):
    """Yield for each failure of a capture what comes after its request: the first of that is a retransmission."""
    found = failures_of(pcapdiag.analyze(path).to_json())
    header, records = read_records(path)
    for orig, resp, ts_ns in sorted(found, key=lambda key: key[2]):
        later = [data for ts, data in records if round(ts * S) > ts_ns + 1000]
        yield (orig, resp, ts_ns), header, later


@pytest.mark.parametrize("name", ["c2_middlebox_drop", "h_connect_fail"])
def test_a_retransmission_is_not_taken_for_a_request_that_was_reported(lab, report, name):
    path = lab / name / "proxy.pcap"
    header, records = read_records(path)
    whole, _ = report(header, [data for _, data in records])
    known = keys_of(whole)
    wanted = set(failures_of(pcapdiag.analyze(path).to_json()))
    assert len(known) == len(wanted) > 3
    n_taken = 0
    for (orig, resp, ts_ns), header, later in list(cuts(path))[::3]:
        alone, _ = report(header, later)
        moved = {tuple(key.split(" ")[:2]) for key in keys_of(alone) if key not in known}
        n_taken += (orig, resp) in moved
        after, written = report(header, later, known=known)
        assert (after.findings, after.written, written) == ((), False, None), (orig, resp, ts_ns)
    assert n_taken, "no cut lies before a retransmission"


def test_the_log_of_the_application_is_asked_too(lab, report, tmp_path):
    log = tmp_path / "app.log"
    log.write_text("2026-11-20T00:00:00Z GET /somewhere-else 200\n")
    header, records = read_records(lab / "a_idle_race" / "proxy.pcap")
    _, written = report(header, [data for _, data in records], inputs=Inputs(upstream_logs=(str(log),)))
    assert [file["kind"] for file in written["inputs"]] == ["capture", "upstream_log"]


def test_what_is_left_of_a_known_failure_stands_in_no_later_report(lab, report):
    path = lab / "c2_middlebox_drop" / "proxy.pcap"
    header, records = read_records(path)
    whole, _ = report(header, [data for _, data in records])
    known = keys_of(whole)
    wanted = set(failures_of(pcapdiag.analyze(path).to_json()))
    last = max(known, key=lambda key: int(key.split(" ")[2]))
    without = tuple(key for key in known if key != last)
    n_left_out = 0
    for _, header, later in list(cuts(path))[:-1:3]:
        result, written = report(header, later, known=without)
        assert keys_of(result) == (last,)
        assert set(failures_of(written)) <= wanted
        n_left_out += any("left out" in note["text"] for note in written["notes"])
    assert n_left_out


def test_a_request_of_which_the_beginning_is_gone_is_known_again(lab, report):
    """The piece begins within a request of several segments."""
    path = lab / "c2_middlebox_drop" / "proxy.pcap"
    header, records = read_records(path)
    known = keys_of(report(header, [data for _, data in records])[0])
    (orig, resp, _), header, later = next(iter(cuts(path)))
    port = int(orig.rpartition(":")[2])
    # What is left of each retransmission is its second half: as if the first had been acknowledged meanwhile.
    halved = [second_half(data, port) for data in later]
    alone, _ = report(header, halved)
    assert any(key.startswith(f"{orig} {resp} ") for key in keys_of(alone))
    assert report(header, halved, known=known)[0].findings == ()


def second_half(record, port):
    """Return a record of TCP over IPv4 over Ethernet; data from a port loses its first bytes."""
    ip = 16 + 14
    if record[ip - 2 : ip] != b"\x08\x00" or record[ip + 9] != 6:
        return record
    tcp = ip + (record[ip] & 15) * 4
    data = tcp + (record[tcp + 12] >> 4) * 4
    total = struct.unpack_from(">H", record, ip + 2)[0]
    n_data = ip + total - data
    if struct.unpack_from(">H", record, tcp)[0] != port or n_data < 2:
        return record
    n_cut = n_data // 2
    changed = bytearray(record[:data] + record[data + n_cut :])
    struct.pack_into(">I", changed, tcp + 4, struct.unpack_from(">I", record, tcp + 4)[0] + n_cut & 0xFFFFFFFF)
    struct.pack_into(">H", changed, ip + 2, total - n_cut)
    struct.pack_into("<2I", changed, 8, *(n - n_cut for n in struct.unpack_from("<2I", record, 8)))
    return bytes(changed)


def test_what_is_left_out_is_found_by_its_own_addresses_when_the_report_has_others(lab, tmp_path, monkeypatch):
    path = lab / "c2_middlebox_drop" / "proxy.pcap"
    header, records = read_records(path)
    monkeypatch.chdir(tmp_path)

    def make(name, records, known):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "ring-00000001.pcapng").write_bytes(header + b"".join(records))
        job.write_order(folder, JobOrder(("ring-00000001.pcapng",), Inputs(anonymize=True), known=known))
        job.run(folder)
        return job.read_result(folder)

    known = keys_of(make("whole", [data for _, data in records], ()))
    last = max(known, key=lambda key: int(key.split(" ")[2]))
    _, _, later = list(cuts(path))[3]
    assert keys_of(make("later", later, tuple(key for key in known if key != last))) == (last,)
    assert "10.2.2.1" not in (tmp_path / "later" / job.REPORT / "report.md").read_text()


def test_an_upload_that_is_under_way_when_the_recording_is_looked_at_is_no_failure(report):
    header, records = upload_under_way()
    alone, _ = report(header, records)
    assert [finding.code for finding in alone.findings] == ["PD999"], "what a capture that ended there would say"
    live, written = report(header, records, patience_ns=3 * S)
    assert (live.findings, live.written, written) == ((), False, None)


def upload_under_way():
    """Return a pcap of a request of which the upstream has acknowledged the first half, and no more yet."""
    proxy, upstream = b"\x0a\x01\x01\x64", b"\x0a\x01\x02\x09"
    head = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n"
    body = head + bytes(1000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    first = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    steps = [
        (0, True, 0x02, 100, 0, b""),
        (1, False, 0x12, 500, 101, b""),
        (2, True, 0x10, 101, 501, b""),
        (3, True, 0x18, 101, 501, first),
        (4, False, 0x18, 501, 101 + len(first), answer),
        (1000, True, 0x18, 101 + len(first), 501 + len(answer), body),
        (1001, False, 0x10, 501 + len(answer), 101 + len(first) + len(body), b""),
        (1002, True, 0x18, 101 + len(first) + len(body), 501 + len(answer), bytes(1000)),
        (2500, False, 0x10, 501 + len(answer), 101 + len(first) + len(body), b""),
    ]
    records = []
    for ms, is_orig, flags, seq, ack, data in steps:
        ends, ports = ((proxy, upstream), (40000, 8080)) if is_orig else ((upstream, proxy), (8080, 40000))
        tcp = struct.pack(">HHIIBBHHH", *ports, seq, ack, 0x50, flags, 1000, 0, 0) + data
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + b"".join(ends)
        frame = bytes(12) + b"\x08\x00" + ip + tcp
        records.append(struct.pack("<4I", 1_800_000_000 + ms // 1000, ms % 1000 * 1000, len(frame), len(frame)) + frame)
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1), records
