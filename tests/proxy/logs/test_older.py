"""What was rotated away from logs of other proxies is read where the log in use begins too late, as nginx's is."""

import gzip
from pathlib import Path

import pytest

import pcapdiag

CASES = Path(__file__).parents[3] / "captures"
LOGS = {
    "caddy_as_proxy": ("caddy.log", ""),
    "haproxy_as_proxy": ("haproxy.log", "haproxy.cfg"),
    "httpd_as_proxy": ("error.log", "httpd.conf"),
}


def verdicts(case, log, conf):
    option = "error_logs" if case.name.startswith("httpd") else "access_logs"
    given = {"proxy_conf": str(case / conf)} if conf else {}
    report = pcapdiag.analyze(case / "proxy.pcap", **{option: [str(log)]}, **given).to_json()
    entries = [(e["kind"], e["verdict"], e["code"]) for e in report["log"]["entries"]]
    return sorted(entries), [f["verdict"] for f in report["log"]["failures"]], report


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("suffix", [".1", ".1.gz", "-20261202"])
def test_a_log_that_was_rotated_in_between_tells_the_same(tmp_path, name, suffix):
    log, conf = LOGS[name]
    whole_entries, whole_failures, _ = verdicts(CASES / name, CASES / name / log, conf)
    lines = (CASES / name / log).read_text().splitlines(keepends=True)
    cut = next(n for n in range(len(lines) // 2, len(lines)) if "GET" in lines[n] or name.startswith("httpd"))
    old, new = "".join(lines[:cut]).encode(), "".join(lines[cut:])
    (tmp_path / (log + suffix)).write_bytes(gzip.compress(old) if suffix.endswith(".gz") else old)
    (tmp_path / log).write_text(new)
    entries, failures, report = verdicts(CASES / name, tmp_path / log, conf)
    assert len(entries) == len(whole_entries)
    assert {verdict for _, verdict, _ in entries} == {"explained"}
    assert failures == whole_failures
    notes = [note["text"] for note in report["notes"] if note["code"] == "rotated-log-added"]
    assert len(notes) == 1
    assert notes[0].count(log + suffix) == 1
    assert [file["path"] for file in report["inputs"]].count(str(tmp_path / (log + suffix))) == 1


def test_a_file_of_another_proxy_beside_it_is_no_part_of_the_log(tmp_path):
    name, log = "caddy_as_proxy", "caddy.log"
    lines = (CASES / name / log).read_text().splitlines(keepends=True)
    (tmp_path / log).write_text("".join(lines[20:]))
    (tmp_path / f"{log}.1").write_text((CASES / "haproxy_as_proxy" / "haproxy.log").read_text())
    _, _, report = verdicts(CASES / name, tmp_path / log, "")
    assert not any(note["code"] == "rotated-log-added" for note in report["notes"])
