"""`pcapdiag slice` as its callers see it: a file only they can read, or a stream; remarks on stderr; exit codes."""

import json
import re
import stat

import pytest

from pcapdiag.analysis import candidates
from tests import floods
from tests.conftest import ROOT
from tests.ticket.evidence.scenes import SECRETS, frames_of, in_time, race, write

RACE = ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap"


@pytest.fixture
def capture(tmp_path):
    return write(tmp_path / "proxy.pcap", in_time(race([90]), race(conn=1, start_ns=5_000)))


def test_the_evidence_is_for_its_owner_alone_and_never_overwritten(invoke, tmp_path):
    target = tmp_path / "e.pcapng"
    done = invoke("slice", RACE, "-o", target)
    assert (done.returncode, done.stdout) == (0, "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "(PD101); report " in done.stderr
    before = target.read_bytes()
    done = invoke("slice", RACE, "-o", target)
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert invoke("slice", RACE, "-o", target, "--force", "-q").stderr == ""
    assert target.read_bytes() == before


def test_standard_output_holds_the_capture_and_nothing_else(cli, tmp_path):
    target = tmp_path / "e.pcapng"
    assert cli("slice", RACE, "-o", target, "-q").returncode == 0
    done = cli("slice", RACE, "-q", stdin=b"")
    assert done.stdout == target.read_bytes()


def test_standard_input_is_refused_with_what_to_do(cli):
    done = cli("slice", "-", "-o", "never.pcapng", stdin=RACE.read_bytes())
    assert done.returncode == 2
    assert b"standard input cannot be read twice" in done.stderr
    assert b"write the capture to a file" in done.stderr


def test_what_was_masked_is_told_by_name_and_number(invoke, capture, tmp_path):
    done = invoke("slice", capture, "-o", tmp_path / "e.pcapng")
    assert "4 x field value authorization" in done.stderr
    assert "query value token" in done.stderr
    assert not any(secret in done.stderr for secret in SECRETS)


def test_a_file_that_is_not_redacted_is_said_to_be_none(invoke, capture, tmp_path):
    done = invoke("slice", capture, "-o", tmp_path / "e.pcapng", "--no-redact")
    assert "NOT REDACTED" in done.stderr
    assert frames_of(tmp_path / "e.pcapng") == frames_of(capture)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--no-redact", "--anonymize"], "--no-redact"),
        (["--keep-bodies", "--anonymize"], "--keep-bodies"),
        (["--code", "PD9"], "PD9 was not found"),
        (["--frame", "99999"], "has"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_no_file(options, told, invoke, capture, tmp_path):
    done = invoke("slice", capture, "-o", tmp_path / "e.pcapng", *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "e.pcapng").exists()


def test_nothing_found_is_said(invoke, tmp_path):
    done = invoke("slice", ROOT / "captures" / "healthy_keepalive" / "proxy.pcap", "-o", tmp_path / "e.pcapng")
    assert done.returncode == 0
    assert "nothing to prove" in done.stderr


def test_the_key_of_the_environment_gives_report_and_evidence_the_same_addresses(invoke, capture, tmp_path):
    env = {"PCAPDIAG_ANONYMIZE_KEY": "a key that is long enough"}
    done = invoke("analyze", capture, "--anonymize", "--format", "json", "-q", env=env)
    report = json.loads(done.stdout)
    assert invoke("slice", capture, "--anonymize", "-o", tmp_path / "e.pcapng", "-q", env=env).returncode == 0
    again = json.loads(invoke("analyze", tmp_path / "e.pcapng", "--format", "json", "-q").stdout)
    pairs = [
        sorted((o["uid"], o["orig"], o["resp"]) for f in r["findings"] for o in f["occurrences"])
        for r in (report, again)
    ]
    assert pairs[0] == pairs[1] != []
    assert "10.9.0." not in done.stdout
    assert "a key that" not in done.stdout + done.stderr


def test_the_filters_of_the_report_select_the_same_frames_in_capture_and_evidence(cli, tshark, tmp_path):
    case = ROOT / "captures" / "idle_close_race_65s" / "proxy.pcap"
    report = cli("analyze", case, "--format", "markdown").stdout
    in_capture = re.findall(r"frame\.number in \{[\d, ]+\}", report)[0]
    in_evidence = re.findall(r"frame\.packet_id in \{[\d, ]+\}", report)[0]
    assert cli("slice", case, "-o", tmp_path / "evidence.pcapng").returncode == 0
    names = ("frame.time_epoch", "tcp.srcport", "tcp.seq_raw", "tcp.ack_raw", "tcp.flags")
    of_capture = tshark(case, *names, display_filter=in_capture)
    assert len(of_capture) >= 5
    assert tshark(tmp_path / "evidence.pcapng", *names, display_filter=in_evidence) == of_capture


@pytest.mark.parametrize("n", [9, 400])
def test_evidence_of_a_flood_says_that_it_holds_a_part(n, invoke, tshark, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "MOST_JUDGED", 100)
    kinds = [(floods.CLOSED, n), (floods.ANSWERED, 5)]
    path, target = floods.write_flood(tmp_path / "flood.pcap", kinds), tmp_path / "e.pcapng"
    done = invoke("slice", path, "-o", target)
    found = re.search(r"a part only: ([\d,]+) of 400 of (PD\d+); the others are like them", done.stderr)
    comment = f"It holds a part: {found[1]} of 400 of {found[2]}".encode() if found else b"It holds a part"
    assert bool(found) == (comment in target.read_bytes()) == (n == 400)
    opened = tshark(target, "frame.number", display_filter="tcp.flags.syn == 1 && tcp.flags.ack == 0")
    assert len(opened) == (int(found[1]) if found else n)
