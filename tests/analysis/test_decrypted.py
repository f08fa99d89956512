"""Lost requests inside TLS, named with keys; what tshark sees with the same keys is the oracle."""

import os
import re
import ssl
import struct
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import pcapdiag
from pcapdiag.analysis import decrypted
from pcapdiag.analysis.inputs import Inputs
from pcapdiag.base.codes import Direction, Method
from pcapdiag.base.errors import MissingExtraError, UsageError
from tests.engine.capture import files
from tests.engine.decryption.talks import talk
from tests.scenario import ORIG, RESP, Segment, write_capture
from tests.waiting import HANG_S

CASE = Path(__file__).resolve().parents[2] / "captures" / "requests_lost_inside_tls"
CAPTURE, KEYS = CASE / "proxy.pcap", CASE / "keys.log"
MS = 1_000_000
TLSK = 0x544C534B
TLS_12, TLS_13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
GET = b"GET /named?token=s3cr3t HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: id-1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def names(analysis):
    return [(loss.request_frame + 1, loss.method_name, loss.target, loss.request_id) for loss in analysis.losses]


def notes(result, code="tls-not-decrypted"):
    return [note.text for note in result.analysis.notes if note.code == code]


def with_block(keys, order="<"):
    """Return the case's capture as pcapng with a block of keys."""
    data, at, blocks = CAPTURE.read_bytes(), 24, []
    while at < len(data):
        sec, us, n_cap, n_wire = struct.unpack_from("<4I", data, at)
        record = files.Record((sec * 10**6 + us) * 1000, data[at + 16 : at + 16 + n_cap], n_wire)
        blocks.append(files.epb(record, order))
        at += 16 + n_cap
    secrets = struct.pack(order + "II", TLSK, len(keys)) + keys + bytes(-len(keys) % 4)
    return b"".join((files.shb(order), files.idb(order), files.block(10, secrets, order), *blocks))


def pieces(data, n_bytes):
    """Yield segments of so many bytes; where that is 0, a record each."""
    at = 0
    while at < len(data):
        end = at + (n_bytes or 5 + int.from_bytes(data[at + 3 : at + 5], "big"))
        yield data[at:end]
        at = end


def captured(said, *, last="FIN", n_bytes=1400, snap=0):
    """Return a capture of a talk, which the server ends without an answer."""
    sent = {ORIG: 1, RESP: 1}
    segments = [Segment(0, 0, ORIG, 2, 0, -1), Segment(MS, 0, RESP, 0x12, 0, 1), Segment(MS, 0, ORIG, 0x10, 1, 1)]
    now = 2 * MS
    for direction, data in said.flights:
        side = ORIG if direction is Direction.ORIG else RESP
        for piece in pieces(data, n_bytes):
            now += MS
            segments.append(Segment(now, 0, side, 0x18, sent[side], sent[1 - side], piece))
            sent[side] += len(piece)
    flags = {"FIN": 0x11, "RST": 0x14}[last]
    segments.append(Segment(now + 100 * MS, 0, RESP, flags, sent[RESP], sent[ORIG], b""))
    return write_capture(segments, container="pcap-ns", snaplen=snap)


@pytest.fixture
def analysed(tmp_path):
    """Return a function that analyses a talk with its own keys, or with others."""

    def run(said, key_log=None, **more):
        (tmp_path / "a.pcap").write_bytes(captured(said, **more))
        (tmp_path / "keys").write_bytes(said.key_log if key_log is None else key_log)
        return pcapdiag.analyze(tmp_path / "a.pcap", tls_keys=tmp_path / "keys", proxies=["10.9.0.100"])

    return run


def test_lost_requests_have_the_names_that_tshark_sees(tshark):
    found = names(pcapdiag.analyze(CAPTURE, tls_keys=KEYS).analysis)
    options = ("-o", f"tls.keylog_file:{KEYS}", "-d", "tcp.port==80,tls")
    head = ("frame.number", "http.request.method", "http.request.uri")
    rows = tshark(CAPTURE, *head, display_filter="http.request", options=options)
    seen = {int(frame): (method, target) for frame, method, target in rows}
    assert len(found) == 8
    # A request whose body came in other segments is one, for tshark, in the last of them.
    ends = {frame: min(at for at in seen if at >= frame) for frame, *_ in found}
    assert sum(ends[frame] == frame for frame in ends) == 6
    assert [(method, target) for _, method, target, _ in found] == [seen[ends[frame]] for frame, *_ in found]


def test_they_are_those_that_the_proxys_log_has_lost():
    failed = re.findall(r" (tls_keys-\d+) 50\d ", (CASE / "access.log").read_text())
    found = names(pcapdiag.analyze(CAPTURE, tls_keys=[KEYS]).analysis)
    assert sorted(request_id for *_, request_id in found) == sorted(failed)


def test_nothing_but_the_names_differs_without_keys():
    with_keys, without = pcapdiag.analyze(CAPTURE, tls_keys=KEYS), pcapdiag.analyze(CAPTURE)
    causes = [
        [(f.code, f.subject, f.count, [o.request_frame for o in f.occurrences]) for f in result.report.findings]
        for result in (with_keys, without)
    ]
    assert causes[0] == causes[1]
    assert {(method, target) for _, method, target, _ in names(without.analysis)} == {("", "")}
    assert without.analysis.notes == ()


@pytest.mark.parametrize("order", ["<", ">"])
def test_keys_inside_a_pcapng_are_used_without_being_asked_for(tmp_path, order):
    (tmp_path / "a.pcapng").write_bytes(with_block(KEYS.read_bytes(), order))
    result = pcapdiag.analyze(tmp_path / "a.pcapng")
    assert names(result.analysis) == names(pcapdiag.analyze(CAPTURE, tls_keys=KEYS).analysis)
    assert result.analysis.captures[0].files[0].n_secrets == 1


def test_keys_and_plaintext_are_in_nothing_that_leaves(tmp_path):
    keys = KEYS.read_bytes()
    (tmp_path / "a.pcapng").write_bytes(with_block(keys))
    result = pcapdiag.analyze(tmp_path / "a.pcapng")
    result.write_bundle(tmp_path / "b.zip")
    with (tmp_path / "e.pcapng").open("wb") as out:
        result.write_evidence(out, keep_bodies=True)
    texts = [(tmp_path / "e.pcapng").read_bytes(), result.to_html().encode(), repr(result.analysis).encode()]
    with zipfile.ZipFile(tmp_path / "b.zip") as bundle:
        texts += [bundle.read(name) for name in bundle.namelist()]
    secrets = [line.split()[2] for line in keys.splitlines()]
    assert len(secrets) == 41
    for text in texts:
        for secret in secrets:
            assert secret not in text
            assert bytes.fromhex(secret.decode()) not in text
        assert b"x" * 100 not in text
    # Block by block: none of them holds keys.
    evidence, at = texts[0], 0
    while at < len(evidence):
        kind, length = struct.unpack_from("<II", evidence, at)
        assert kind != 10
        at += length


def test_targets_are_masked_as_those_in_clear_are(analysed):
    result = analysed(talk(GET))
    assert [loss.target for loss in result.analysis.losses] == ["/named?token=s3cr3t"]
    assert "s3cr3t" not in result.to_text(show=None)
    assert "/named" in result.to_text(show=None)


@pytest.mark.parametrize("version", [TLS_12, TLS_13])
@pytest.mark.parametrize("last", ["FIN", "RST"])
def test_head_and_end_of_a_request_are_read(analysed, version, last):
    (loss,) = analysed(talk(GET, OK, GET, version=version), last=last).analysis.losses
    assert (loss.method, loss.host, loss.request_id, loss.is_framed) == (Method.GET, "a.test", "id-1", True)
    assert loss.depth > 0


@pytest.mark.parametrize(
    ("fields", "body", "is_whole"),
    [
        (b"Content-Length: 4000", bytes(4000), True),
        (b"Content-Length: 4001", bytes(4000), False),
        (b"Content-Length: +1", b"x", False),
        (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n", True),
        (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n", False),
    ],
)
def test_an_upload_is_whole_if_its_head_says_so(analysed, fields, body, is_whole):
    (loss,) = analysed(talk(b"PUT /up HTTP/1.1\r\n" + fields + b"\r\n\r\n" + body)).analysis.losses
    assert (loss.target, loss.is_framed) == ("/up", is_whole)


@pytest.mark.parametrize("version", [TLS_12, TLS_13])
def test_bytes_of_a_body_behind_a_gap_are_no_name(analysed, version):
    """The second record of an upload begins as a request would; of the first the capture has the beginning only."""
    head = b"PUT /up HTTP/1.1\r\nContent-Length: 20000\r\n\r\n"
    upload = head + bytes(16_384 - len(head)) + b"GET /evil HTTP/1.1\r\nHost: evil\r\n\r\n"
    said = talk(GET, OK, upload, version=version)
    (whole,) = analysed(said, n_bytes=0).analysis.losses
    assert whole.target == "/up"
    (cut,) = analysed(said, n_bytes=0, snap=8000).analysis.losses
    assert cut.target == ""
    assert "evil" not in repr(cut)


def test_bytes_that_are_no_http_keep_their_want_of_a_name(analysed):
    result = analysed(talk(*[b"no HTTP" * 40] * 3))
    assert [(loss.target, loss.method) for loss in result.analysis.losses] == [("", Method.NONE)]
    assert notes(result, "tls-decrypted") == notes(result) == []


def test_http2_that_tls_13_hid_is_known_and_so_is_that_it_is_none(analysed):
    """The client offers both, and only the keys say what the server chose."""
    turns = GET, OK, GET
    assert [loss.target for loss in analysed(talk(*turns, alpn=["http/1.1"])).analysis.losses] == [
        GET.split()[1].decode()
    ]
    said = talk(*turns, alpn=["http/1.1", "h2"])
    without = analysed(said, b"")
    assert without.analysis.losses == ()
    assert [loss.target for loss in analysed(said).analysis.losses] == [GET.split()[1].decode()]
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
    assert analysed(talk(preface, bytes(9), bytes(20), alpn=["h2"])).analysis.losses == ()


@pytest.mark.parametrize("version", [TLS_12, TLS_13])
def test_a_missing_key_is_said_with_the_connections_and_how_many(analysed, version):
    other = talk(GET, OK, GET, version=version).key_log
    (text,) = notes(analysed(talk(GET, OK, GET, version=version), other))
    assert text.startswith("1 of 1 connections with failed requests inside TLS are not decrypted: no key was given")
    assert "(10.9.0.100:40000 to 10.9.0.1:80)" in text


@pytest.mark.parametrize("version", [TLS_12, TLS_13])
def test_a_wrong_key_is_said_and_is_no_name(analysed, version):
    said = talk(GET, OK, GET, version=version)
    wrong = re.sub(rb"[0-9a-f]{2}\n", b"00\n", said.key_log)
    result = analysed(said, wrong)
    assert [loss.target for loss in result.analysis.losses] == [""]
    (text,) = notes(result)
    assert "the key that was given for them does not open their records" in text


def test_some_keys_name_some_requests_and_the_others_are_counted(tmp_path):
    lines = KEYS.read_bytes().splitlines(keepends=True)
    (tmp_path / "keys").write_bytes(b"".join(line for line in lines if line.startswith(b"CLIENT_RANDOM")))
    result = pcapdiag.analyze(CAPTURE, tls_keys=tmp_path / "keys")
    n_named = sum(bool(target) for _, _, target, _ in names(result.analysis))
    assert 0 < n_named < 8
    assert notes(result, "tls-decrypted")[0].startswith(f"{n_named} failed requests")
    assert notes(result)[0].startswith(f"{8 - n_named} of 8 connections")


def cut_capture(path, n_bytes):
    """Write the case's capture with no more than so many bytes of a frame."""
    command = ["editcap", "-F", "pcap", "-s", str(n_bytes), str(CAPTURE), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=HANG_S)


def test_of_a_capture_with_short_frames_some_requests_have_names_and_the_others_are_told(tmp_path, tshark):
    assert tshark
    cut_capture(tmp_path / "cut.pcap", 200)
    result = pcapdiag.analyze(tmp_path / "cut.pcap", tls_keys=KEYS)
    named = [name for name in names(result.analysis) if name[2]]
    assert named
    assert set(named) < set(names(pcapdiag.analyze(CAPTURE, tls_keys=KEYS).analysis))
    (text,) = notes(result)
    n_lost = len(result.analysis.losses)
    assert text.startswith(f"{n_lost - len(named)} of {n_lost} connections")
    assert "bytes of them are missing" in text


def test_what_began_before_the_capture_is_said(tmp_path, tshark):
    assert tshark
    command = ["editcap", "-F", "pcap", "-r", str(CAPTURE), str(tmp_path / "late.pcap"), "30-1000"]
    subprocess.run(command, check=True, capture_output=True, timeout=HANG_S)
    result = pcapdiag.analyze(tmp_path / "late.pcap", tls_keys=KEYS)
    assert sum("their handshake was not captured" in text for text in notes(result)) == 1
    assert sum(bool(target) for _, _, target, _ in names(result.analysis)) == 7


def test_a_pipe_cannot_be_read_twice_and_that_is_said(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(CAPTURE.read_bytes()), daemon=True).start()
    result = pcapdiag.analyze(tmp_path / "pipe", tls_keys=KEYS)
    assert len(result.analysis.losses) == 8
    assert "cannot be read twice" in notes(result)[0]


def test_no_more_connections_are_opened_than_the_bound(monkeypatch):
    monkeypatch.setattr(decrypted, "MOST_CONNECTIONS", 5)
    result = pcapdiag.analyze(CAPTURE, tls_keys=KEYS)
    assert sum(bool(target) for _, _, target, _ in names(result.analysis)) == 5
    assert notes(result) == [
        "3 of 8 connections with failed requests inside TLS are not decrypted: more than 5 are not opened"
    ]


def test_without_the_library_keys_are_refused_and_those_of_a_capture_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(decrypted, "has_library", lambda: False)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'pcapdiag[tls]'")):
        pcapdiag.analyze(CAPTURE, tls_keys=KEYS)
    (tmp_path / "a.pcapng").write_bytes(with_block(KEYS.read_bytes()))
    (text,) = notes(pcapdiag.analyze(tmp_path / "a.pcapng"))
    assert "keys of TLS, which are not used" in text


def test_nothing_is_loaded_where_no_keys_were_given():
    code = "import pcapdiag, sys; pcapdiag.analyze(sys.argv[1]); print('cryptography' in sys.modules)"
    command = [sys.executable, "-c", code, str(CAPTURE)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=HANG_S)
    assert done.stdout == "False\n"


def test_what_is_no_key_log_is_refused_before_the_capture_is_read(tmp_path):
    with pytest.raises(UsageError, match="no key log"):
        pcapdiag.analyze(tmp_path / "missing.pcap", tls_keys=CAPTURE)


def test_shares_of_the_connections_are_named_as_all_of_them(tmp_path):
    from pcapdiag.analysis.build import build_analysis, read_shard
    from pcapdiag.engine.capture.series import group_captures
    from pcapdiag.engine.tcp.tracker import Shard

    (tmp_path / "a.pcapng").write_bytes(with_block(KEYS.read_bytes()))
    captures = group_captures([str(tmp_path / "a.pcapng")])
    shards = [read_shard(group_captures([str(tmp_path / "a.pcapng")]), Shard(n, 2, 1)) for n in range(2)]
    analysis = build_analysis(captures, replace(Inputs(), tls_keys=()), shards=shards)
    assert names(analysis) == names(pcapdiag.analyze(CAPTURE, tls_keys=KEYS).analysis)
    secret = KEYS.read_bytes().split()[2]
    assert all(secret not in repr(shard).encode() for shard in shards)
