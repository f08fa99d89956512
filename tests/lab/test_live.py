"""What pcapdiag says of incidents that real servers made a minute ago, against what they say themselves."""

import json
import re
from functools import cache

import pytest

from tests.lab.oracle import Recording
from tests.lab.record import record_apart
from tests.lab.scenarios import SCENARIOS
from tests.lab_truth import CAUSES_NOT_OF_UNANSWERED, run_report

pytestmark = pytest.mark.live

JUDGED = [name for name, scenario in SCENARIOS.items() if scenario.is_judged]
RACES = [name for name in JUDGED if "PD101" in SCENARIOS[name].codes.values()]
GRPC = [name for name in SCENARIOS if name not in JUDGED]
# Which remedy takes which harm away, and what of it.
REMEDIES = {
    "idle_race_fixed": ("idle_race", "lost tries"),
    "gunicorn_fixed": ("gunicorn_race", "lost tries"),
    "cascade_without_max_fails": ("cascade", "no live upstreams"),
    "upstream_reload_retried": ("upstream_reload", "failures"),
    "silent_drop_fixed": ("silent_drop", "lost tries"),
    "tls_fixed": ("tls_mismatch", "failures"),
    "early_413_lost_fixed": ("early_413_lost", "lost tries"),
    "grpc_goaway_fixed": ("grpc_goaway", "failures"),
}
# What the upstream's own capture may prove of a request, by cause; a recording ends soon after the last request, so it
# cannot always be known that one did not arrive.
FAR_ENDS = {
    "PD101": {"closed_first"},
    "PD103": {"request_first", "closed_first"},
    "PD104": {"not_arrived", "undecided"},
    "PD105": {"forged_rst", "undecided"},
    "PD201": {"request_first"},
    "PD202": {"request_first"},
    "PD301": {"refused"},
}
NEVER_RAN, RAN = {"PD101", "PD104", "PD105"}, {"PD201", "PD202", "PD207"}


@cache
def _report(folder, *more):
    logs = ("--error-log", folder / "error.log", "--access-log", folder / "access.log")
    return run_report([folder / "proxy.pcap"], *map(str, (*logs, "--proxy-conf", folder / "nginx.conf", *more)))


def report_of(recording):
    """Return the report on the proxy's capture, logs and configuration."""
    return _report(recording.folder)


def report_of_both_ends(recording):
    """Return the same with the captures that were made at the upstreams."""
    captures = sorted(recording.folder.glob("upstream_*.pcap"))
    return _report(recording.folder, *(word for capture in captures for word in ("--upstream-capture", capture)))


def causes(report):
    """Return the occurrences that stand for a lost request, each with its code."""
    found = [f for f in report["findings"] if f["code"] not in CAUSES_NOT_OF_UNANSWERED]
    return [{"code": f["code"], **occurrence} for f in found for occurrence in f["occurrences"]]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_capture_holds_every_frame_that_the_hub_carried(recordings, tshark, name):
    recording = recordings(name)
    # A connection that is dead may have repeated itself once more before tcpdump ended.
    assert len(tshark(recording.folder / "proxy.pcap", "frame.number")) >= recording.meta["frames_at_proxy"]
    assert "\n0 packets dropped by kernel" in (recording.folder / "proxy.pcap.log").read_text()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_client_got_what_the_proxy_says_it_sent(recordings, name):
    recording = recordings(name)
    got = {request_id: answer["status"] for request_id, answer in recording.client.items()}
    if SCENARIOS[name].is_judged:
        assert got == {request_id: line.status for request_id, line in recording.access.items()}
    else:  # gRPC has a status of its own, behind a 200 or in place of the proxy's 502
        assert {i for i, status in got.items() if status != 200} == set(recording.lost_tries)


@pytest.mark.parametrize("name", JUDGED)
def test_the_proxy_lost_what_the_packets_say(recordings, name):
    """The two accounts of the truth agree before anything is held against them."""
    recording = recordings(name)
    on_the_wire = [lost.request_id for lost in recording.wire.lost]
    if all(on_the_wire):
        assert sorted(on_the_wire) == sorted(recording.lost_tries)
    else:  # no request was sent where no connection came about
        assert len(on_the_wire) == len(recording.lost_tries)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if SCENARIOS[name].codes])
def test_the_incident_came_about(recordings, name):
    assert recordings(name).wire.lost


@pytest.mark.parametrize("name", JUDGED)
def test_every_lost_request_has_its_cause_and_frames(recordings, name):
    recording, codes = recordings(name), SCENARIOS[name].codes
    report = report_of(recording)
    wanted = [(codes[lost.kind], lost.frame) for lost in recording.wire.lost]
    occurrences = causes(report)
    assert sorted((o["code"], o["request_frame"]) for o in occurrences) == sorted(wanted)
    assert report["totals"]["unanswered"] == len(wanted)
    closings = {lost.frame: lost.closing_frame or -1 for lost in recording.wire.lost}
    assert {o["request_frame"]: o["closing_frame"] for o in occurrences} == closings


@pytest.mark.parametrize("name", JUDGED)
def test_nothing_else_is_found(recordings, name):
    recording, scenario = recordings(name), SCENARIOS[name]
    wanted = {scenario.codes[lost.kind] for lost in recording.wire.lost} | scenario.beside
    found = {finding["code"] for finding in report_of(recording)["findings"]}
    assert wanted <= found <= wanted | scenario.may


@pytest.mark.parametrize("name", JUDGED)
def test_every_log_entry_leads_to_its_request(recordings, name):
    recording = recordings(name)
    frames = {}
    for lost in recording.wire.lost:
        frames.setdefault(lost.request_id, set()).add(lost.frame)
    entries = {entry["line"]: entry for entry in report_of(recording)["log"]["entries"]}
    about_upstreams = [(line, request_id) for line, request_id in recording.errors if ", upstream: " in line.message]
    assert sorted(entries) == [line.number for line, _ in about_upstreams]
    for line, request_id in about_upstreams:
        entry = entries[line.number]
        if line.has_no_peer:
            assert (entry["verdict"], entry["code"], entry["request_frame"]) == ("no_packets_expected", "PD601", -1)
        else:
            # Where no connection came about no id is on the wire; the entries are in the order of the attempts.
            of_it = frames.get(request_id) or frames[""]
            assert entry["verdict"] == "explained", entry
            assert entry["request_frame"] in of_it, (line, entry["request_frame"])
    explained = [entry["request_frame"] for entry in entries.values() if entry["verdict"] == "explained"]
    assert set(explained) == {lost.frame for lost in recording.wire.lost}


@pytest.mark.parametrize("name", JUDGED)
def test_servers_took_up_what_the_cause_says_and_nothing_else(recordings, name):
    """By their own logs: what raced, or was dropped on the way, ran only where a retry brought it."""
    recording, codes = recordings(name), SCENARIOS[name].codes
    answered = {i for i, line in recording.access.items() if not line.is_failure}
    by_code = [(codes[lost.kind], lost.request_id) for lost in recording.wire.lost]
    assert [i for code, i in by_code if code in NEVER_RAN and i in recording.served - answered] == []
    assert [i for code, i in by_code if code in RAN and i not in recording.served] == []


@pytest.mark.parametrize("name", [n for n in JUDGED if set(SCENARIOS[n].codes.values()) & set(FAR_ENDS)])
def test_the_other_end_proves_it(recordings, name):
    recording = recordings(name)
    occurrences = causes(report_of_both_ends(recording))
    kinds = [(o["code"], o["far_end"]["kind"]) for o in occurrences]
    assert [(code, kind) for code, kind in kinds if kind not in FAR_ENDS[code]] == []
    assert any(o["far_end"]["is_certain"] for o in occurrences)
    for o in occurrences:
        if o["far_end"]["kind"] in {"not_arrived", "forged_rst"}:
            captures = recording.folder.glob("upstream_*.pcap")
            assert not any(o["request_id"].encode() in capture.read_bytes() for capture in captures)


@pytest.mark.parametrize("name", JUDGED)
def test_a_timer_is_measured_where_there_is_one(recordings, name):
    recording = recordings(name)
    measured_s = [u["idle_timeout_ns"]["value"] / 1e9 for u in report_of(recording)["upstreams"]]
    if SCENARIOS[name].has_timer:
        gaps_s = recording.wire.idle_closings_s
        assert all(min(gaps_s) - 0.001 <= value <= max(gaps_s) + 0.001 for value in measured_s), gaps_s
    else:
        assert all(value < 0 for value in measured_s)


@pytest.mark.parametrize("name", JUDGED)
def test_what_clients_saw_is_what_they_say(recordings, name):
    """What the proxy logged at either end, within what is known of its clock, may be counted or not."""
    recording = recordings(name)
    report = report_of(recording)
    impact, lines, frames = report["impact"], list(recording.access.values()), recording.wire.frames
    slack_s = (report["log"]["clock_offset_width_ns"] or 0) / 1e9
    from_s, until_s = frames[0].time_s + slack_s, frames[-1].time_s - slack_s
    for key, chosen in (
        ("requests", lines),
        ("failures", [line for line in lines if line.is_failure]),
        ("hidden_by_retries", [line for line in lines if line.is_saved]),
    ):
        assert sum(from_s < line.at_s < until_s for line in chosen) <= impact[key] <= len(chosen), key


def test_the_last_request_counts_although_its_line_comes_after_its_packets(recordings, tmp_path):
    """Each line is written some time after the last packet of its request, in milliseconds cut off."""
    recording = recordings("idle_race")
    *lines, last = (recording.folder / "access.log").read_text().splitlines()
    written_s = recording.wire.frames[-1].time_s + 0.002
    log = tmp_path / "access.log"
    log.write_text("\n".join([*lines, re.sub(r"^[\d.]+", f"{written_s:.3f}", last)]) + "\n")
    conf = recording.folder / "nginx.conf"
    report = run_report([recording.folder / "proxy.pcap"], "--access-log", str(log), "--proxy-conf", str(conf))
    assert report["impact"]["requests"] == len(recording.client)
    assert report["impact"]["hidden_by_retries"] == sum(line.is_saved for line in recording.access.values())


@pytest.mark.parametrize("name", ["cascade"])
def test_every_request_without_a_live_peer_is_in_the_chain(recordings, name):
    recording = recordings(name)
    (chain,) = [finding for finding in report_of(recording)["findings"] if finding["code"] == "PD601"]
    assert chain["count"] == sum(line.has_no_peer for line, _ in recording.errors) > 0


@pytest.mark.parametrize("name", ["refused"])
def test_what_was_refused_is_answered_once_the_server_runs(recordings, name):
    assert [answer["status"] for answer in recordings(name).client.values()] == [502, 502, 200]


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_takes_the_harm_away(recordings, name):
    harmed, what = REMEDIES[name]
    with_it, without_it = (
        {
            "lost tries": len(recording.lost_tries),
            "failures": len(recording.failures),
            "no live upstreams": sum(line.has_no_peer for line, _ in recording.errors),
        }[what]
        for recording in (recordings(name), recordings(harmed))
    )
    assert (with_it, without_it > 0) == (0, True)


@pytest.mark.parametrize("name", ["idle_race"])
def test_the_advice_of_the_report_ends_the_race(recordings, name, tmp_path):
    """What the report says to change is changed, and requests after the same silence get their answers."""
    report = report_of(recordings(name))
    changes = [change for finding in report["findings"] for change in finding.get("changes", [])]
    (advised,) = {c["new"] for c in changes if c["setting"] == "keepalive_timeout"}
    again = Recording(record_apart("idle_race_fixed", tmp_path, "--keepalive-timeout", advised))
    assert f"keepalive_timeout {advised};" in (again.folder / "nginx.conf").read_text()
    assert {answer["status"] for answer in again.client.values()} == {200}
    assert again.lost_tries == again.wire.lost == []


@pytest.mark.parametrize("name", ["bad_path", "idle_race_on_a_bad_path"])
def test_a_bad_path_was_one(recordings, tshark, name):
    recording = recordings(name)
    assert recording.meta["frames_lost"] > 0
    shaken = "tcp.analysis.retransmission or tcp.analysis.out_of_order or tcp.analysis.lost_segment"
    assert tshark(recording.folder / "proxy.pcap", "frame.number", display_filter=shaken)


@pytest.mark.parametrize("name", GRPC)
def test_what_goaway_took_is_found_stream_by_stream(recordings, tshark, name):
    """Which calls failed is told by the client's record; that GOAWAY was said, by tshark."""
    recording = recordings(name)
    options = ("-d", "tcp.port==80,http2")
    assert tshark(recording.folder / "proxy.pcap", "frame.number", display_filter="http2.type == 7", options=options)
    asked = map(json.loads, (recording.folder / "client.jsonl").read_text().splitlines())
    failed = {one["request_id"] for one in asked if one["status"] != 200}
    found = causes(report_of(recording))
    assert {one["request_id"] for one in found} == failed
    assert bool(failed) == (name == "grpc_goaway")
    # Beyond the last stream of the GOAWAY; or that one had been accepted, and was cut off when the time was over.
    assert {one["code"] for one in found} <= {"PD404", "PD201", "PD202"}


@pytest.mark.parametrize("name", ["grpc_goaway"])
def test_an_entry_about_a_stream_is_explained(recordings, name):
    report = report_of(recordings(name))
    assert report["log"]["entries"]
    assert {entry["verdict"] for entry in report["log"]["entries"]} == {"explained"}
