"""A recorder tells somebody: of what is new once, again when that failed, and never at the recording's cost."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pcapdiag.watch.messages import Messenger
from pcapdiag.watch.model import KeptIncident
from pcapdiag.watch.state import State
from tests.nightly.tell.listeners import http_server

sys.path.insert(0, str(Path(__file__).parent.parent))
from replay import read_records
from watch_process import ROOT

from tests.waiting import HANG_S, wait_until

ALSO_TESTS = ("tell",)

pytestmark = [pytest.mark.compiled_only]

SECRET = "s3cr3t-t0k3n-of-the-channel"  # noqa: S105 - made up, and looked for in all output
S = 1_000_000_000


def shift(data, seconds):
    """Return a record of a little-endian pcap some seconds later."""
    return (int.from_bytes(data[:4], "little") + seconds).to_bytes(4, "little") + data[4:]


@pytest.mark.lab
def test_a_webhook_is_told_of_a_new_trouble_once_and_metrics_say_how_it_stands(lab, tmp_path, watching, monkeypatch):
    header, records = read_records(lab / "a_idle_race" / "proxy.pcap")
    metrics = tmp_path / "pcapdiag_watch.prom"
    with http_server() as server:
        monkeypatch.setenv("HOOKS", f"json://{server.host}/{SECRET}")
        options = ("--notify-url-env", "HOOKS", "--metrics", str(metrics), "--grace", "1s", "--cool-down", "1s")
        recorder = watching("-", tmp_path / "out", *options, pipe=True)
        recorder.write(header + b"".join(data for _, data in records))
        wait_until(lambda: recorder.incidents and server.requests)
        recorder.write(b"".join(shift(data, 7200) for _, data in records))
        wait_until(lambda: len(recorder.incidents) == 2)
        assert recorder.end() == 1, recorder.errors
        [(path, _, message)] = server.requests
    assert [incident["is_new"] for incident in recorder.incidents] == [True, False]
    assert path == f"/{SECRET}"
    assert message["title"].startswith("pcapdiag: 1 new (20")
    assert message["message"].startswith("NEW: PD101 idle-close-race 10.1.1.")
    assert f"13 failures, {socket.gethostname()}:{tmp_path}/out/{recorder.incidents[0]['path']}" in message["message"]
    assert SECRET not in "".join((*recorder.errors, *recorder.lines))
    files = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert not any(SECRET.encode() in path.read_bytes() for path in files)
    values = dict(line.split(" ") for line in metrics.read_text().splitlines() if line[0] != "#")
    assert float(values["pcapdiag_watch_frames"]) == 2 * len(records)
    assert float(values["pcapdiag_watch_incidents"]) == 2
    assert float(values["pcapdiag_watch_last_frame_timestamp_seconds"]) == pytest.approx(records[-1][0] + 7200)
    zeros = ("frames_lost", "failures_waiting", "messages_owed")
    assert {float(values[f"pcapdiag_watch_{name}"]) for name in zeros} == {0.0}


@pytest.mark.long
@pytest.mark.lab
def test_a_message_that_failed_is_said_and_sent_by_the_next_run(lab, tmp_path, watching, monkeypatch):
    header, records = read_records(lab / "a_idle_race" / "proxy.pcap")
    with http_server() as server:
        monkeypatch.setenv("PCAPDIAG_NOTIFY", f"json://{server.host}/{SECRET}")
        server.status = 503
        first = watching("-", tmp_path / "out", "--grace", "1s", pipe=True)
        first.write(header + b"".join(data for _, data in records))
        assert first.end() == 1, first.errors
        assert any("could not tell json-1: its server answered 503" in line for line in first.errors)
        assert any("the next run tries again" in line for line in first.errors)
        server.status, server.requests = 200, []
        second = watching("-", tmp_path / "out", pipe=True)
        second.write(header)
        assert second.end() == 0, second.errors
        assert len(server.requests) == 1


def test_a_url_that_makes_no_sense_is_refused_before_the_recording_begins(cli, tmp_path):
    done = cli("watch", "-", "--out", tmp_path / "out", "--notify-url-env", "HOOK", env={"HOOK": SECRET})
    assert done.returncode == 2
    assert "URL 1 of those to notify" in done.stderr
    assert SECRET not in done.stderr
    assert not (tmp_path / "out").exists()


def incident(path):
    return KeptIncident(path, "PD101", "race", "error", "s", "m", ("PD101/x",), 1, S, S)


def test_a_channel_that_hangs_holds_nothing_up_and_what_it_is_owed_stays():
    state, said, answer = State(incidents=[incident("a"), incident("b")]), [], threading.Event()
    told, answered = [], []

    def hanging(incidents):
        told.append([one.path for one in incidents])
        answer.wait(HANG_S)
        answered.append(None)
        return ""

    messenger = Messenger({"json-1": hanging}, state, said.append)
    messenger.add(state.incidents[0])
    for _ in range(50):
        messenger.tick()
    messenger.add(state.incidents[1])
    messenger.tick()
    wait_until(lambda: told)
    assert (told, messenger.n_owed, answered) == ([["a"]], 2, [])
    answer.set()
    messenger.finish(HANG_S)
    assert (told, messenger.n_owed, said) == ([["a"], ["b"]], 0, [])


def test_what_was_deleted_before_it_could_be_told_is_said():
    state, said = State(incidents=[incident("b")], owed={"json-1": ["a", "b"], "gone-1": ["b"]}), []
    messenger = Messenger({"json-1": lambda _: "no"}, state, said.append)
    messenger.finish(HANG_S)
    assert messenger.n_owed == 1
    assert state.owed == {"json-1": ["b"]}
    assert "will not be told of 1 incidents" in said[0]
    assert "could not tell json-1: no" in said[1]


@pytest.mark.lab
def test_a_reader_of_stdout_that_has_gone_does_not_end_the_recording(lab, tmp_path):
    command = [sys.executable, "-m", "pcapdiag", "watch", "-", "--out", str(tmp_path / "out"), "--grace", "1s"]
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONPATH": ROOT}
    data = (lab / "a_idle_race" / "proxy.pcap").read_bytes()
    done = subprocess.run(
        command, input=data, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, env=environment, check=False
    )
    os.close(writing)
    assert done.returncode == 1, done.stderr
    assert b"nobody reads stdout any more" in done.stderr
    assert len((tmp_path / "out" / "incidents.jsonl").read_text().splitlines()) == 1
