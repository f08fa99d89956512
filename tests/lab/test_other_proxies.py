"""What pcapdiag makes of incidents at a proxy that is not nginx, against what the client and that proxy say."""

import re

import pytest

from tests.lab_truth import run_report

pytestmark = pytest.mark.live

LINE = re.compile(r"be/s1 [\d/-]+ (?P<status>\d+) .* (?P<state>\w\w|--)-- .*\{(?P<id>[\w-]+)\}")
HAPROXY = ["haproxy_as_proxy"]
CODES = {"SH": "PD101", "sH": "PD204", "SC": "PD301"}


def failures_of(folder):
    """Return line number, state and request id of the failures in HAProxy's log."""
    lines = [(n, LINE.search(line)) for n, line in enumerate((folder / "haproxy.log").read_text().splitlines(), 1)]
    return [(n, m["state"], m["id"]) for n, m in lines if m is not None and m["state"] != "--"]


@pytest.mark.parametrize("name", HAPROXY)
@pytest.mark.parametrize("conf", [True, False], ids=["with configuration", "log alone"])
def test_every_failure_of_haproxys_log_leads_to_its_request(recordings, name, conf):
    recording = recordings(name).folder
    more = ("--proxy-conf", str(recording / "haproxy.cfg")) if conf else ()
    report = run_report([recording / "proxy.pcap"], "--access-log", str(recording / "haproxy.log"), *more)
    failures = failures_of(recording)
    entries = {entry["line"]: entry for entry in report["log"]["entries"]}
    assert sorted(entries) == [line for line, _, _ in failures]
    assert {state for _, state, _ in failures} == set(CODES)
    sent = {o["request_id"]: o for f in report["findings"] for o in f["occurrences"] if o["request_id"]}
    for line, state, request_id in failures:
        entry = entries[line]
        assert (entry["verdict"], entry["code"]) == ("explained", CODES[state]), entry
        if state != "SC":  # no request was sent where no connection came about
            assert entry["request_frame"] == sent[request_id]["request_frame"]


@pytest.mark.parametrize("name", HAPROXY)
def test_the_log_has_the_failures_of_the_client(recordings, name):
    recording = recordings(name).folder
    report = run_report([recording / "proxy.pcap"], "--access-log", str(recording / "haproxy.log"))
    assert report["impact"]["failures"] == len(failures_of(recording))


@pytest.mark.parametrize("name", HAPROXY)
def test_the_remedy_names_the_line_of_the_server(recordings, name):
    recording = recordings(name).folder
    conf = recording / "haproxy.cfg"
    report = run_report([recording / "proxy.pcap"], "--proxy-conf", str(conf))
    (race,) = [finding for finding in report["findings"] if finding["code"] == "PD101"]
    number = next(n for n, line in enumerate(conf.read_text().splitlines(), 1) if line.startswith("  server s1"))
    assert f"{conf}:{number}, now pool-purge-delay 60s" in race["remedy"]
    assert "nginx" not in race["remedy"].replace("(nginx keepalive_timeout)", "")


@pytest.mark.parametrize("name", ["httpd_as_proxy"])
def test_every_entry_of_httpds_error_log_leads_to_its_request(recordings, name):
    """By the client's account: the nth request that failed is the nth that httpd says it gave up."""
    recording = recordings(name)
    folder = recording.folder
    conf = ("--proxy-conf", str(folder / "httpd.conf"))
    report = run_report([folder / "proxy.pcap"], "--error-log", str(folder / "error.log"), *conf)
    told = [n for n, line in enumerate((folder / "error.log").read_text().splitlines(), 1) if "[proxy" in line]
    entries = report["log"]["entries"]
    assert [entry["line"] for entry in entries] == told
    assert {entry["verdict"] for entry in entries} == {"explained"}
    by_request = [{e["request_frame"] for e in pair} for pair in zip(entries[::2], entries[1::2], strict=True)]
    assert [len(frames) for frames in by_request] == [1] * len(by_request)
    sent = {
        o["request_id"]: o["request_frame"] for f in report["findings"] for o in f["occurrences"] if o["request_id"]
    }
    failed = [request_id for request_id, answer in recording.client.items() if answer["status"] >= 500]
    assert [sent[request_id] for request_id in failed[:-1]] == [min(frames) for frames in by_request[:-1]]
    assert [entry["code"] for entry in entries[1::2]] == ["PD101"] * (len(failed) - 2) + ["PD204", "PD301"]


CADDY = ["caddy_as_proxy"]
CADDY_CODES = {"premature_close": "PD101", "timed_out": "PD204", "connect_failed": "PD301"}


@pytest.mark.parametrize("name", CADDY)
@pytest.mark.parametrize("loggers", [("handlers", "error", "access"), ("error", "access"), ("error",)])
def test_every_failure_of_caddys_log_leads_to_its_request(recordings, name, loggers, tmp_path):
    """With the lines about tries, and as it is without them; by request id, as the client has it."""
    recording = recordings(name)
    lines = (recording.folder / "caddy.log").read_text().splitlines()
    log = tmp_path / "caddy.log"
    log.write_text("".join(f"{line}\n" for line in lines if any(f".{logger}" in line[:120] for logger in loggers)))
    report = run_report([recording.folder / "proxy.pcap"], "--access-log", str(log))
    entries = [entry for entry in report["log"]["entries"] if entry["kind"] != "given_up"]
    failed = [request_id for request_id, answer in recording.client.items() if answer["status"] >= 500]
    assert [entry["code"] for entry in entries] == [CADDY_CODES[entry["kind"]] for entry in entries]
    assert {entry["verdict"] for entry in report["log"]["entries"]} == {"explained"}
    assert len(entries) == len(failed)
    sent = {
        o["request_id"]: o["request_frame"] for f in report["findings"] for o in f["occurrences"] if o["request_id"]
    }
    assert [sent[request_id] for request_id in failed[:-1]] == [entry["request_frame"] for entry in entries[:-1]]
