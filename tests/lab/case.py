"""Make a case of captures/ of a recording: what the report must say comes from the truth, never from pcapdiag."""

import datetime as dt
import json
import subprocess
from collections import Counter

from tests.lab.oracle import Recording


def write_case(name, scenario, folder):
    """Write case.toml and README.md; what only the lab's own tests need stays beside them."""
    recording = Recording(folder)
    if not scenario.is_judged:
        _write_case_of_http2(name, scenario, recording)
        return
    codes = Counter(scenario.codes[lost.kind] for lost in recording.wire.lost)
    captures = sorted(path.name for path in folder.glob("upstream_*.pcap"))
    lines = [
        f'title = "{scenario.title}"',
        'captures = ["proxy.pcap"]',
        f"also_found = {json.dumps(sorted(scenario.beside | scenario.may))}",
        f"near_miss = {json.dumps([] if codes else ['PD101', 'PD104', 'PD201', 'PD999'])}",
        "",
        "[logs]",
        'error-log = "error.log"',
        'access-log = "access.log"',
        'proxy-conf = "nginx.conf"',
        f"upstream-capture = {json.dumps(captures)}",
        *_check("totals", {"unanswered": sum(codes.values())}, 1),
    ]
    for code, n in sorted(codes.items()):
        lines += _check("findings.occurrences", {"code": code}, n)
    (folder / "case.toml").write_text("\n".join(lines) + "\n")
    (folder / "README.md").write_text(_readme(name, scenario, recording, _look(recording)))


def _write_case_of_http2(name, scenario, recording):
    ids = sorted(set(recording.lost_tries))
    lost = ", ".join(ids) or "none"
    lines = [
        f'title = "{scenario.title}"',
        'captures = ["proxy.pcap"]',
        'near_miss = ["PD101", "PD104", "PD999"]',
        "",
        "[logs]",
        'error-log = "error.log"',
        'access-log = "access.log"',
        'proxy-conf = "nginx.conf"',
        *_check("totals", {"unanswered": len(ids)}, 1),
        *_check("verdicts", {"code": "PD101", "verdict": "clean"}, 1),
    ]
    (recording.folder / "case.toml").write_text("\n".join(lines) + "\n")
    look = (
        f"Lost are, by the access log and the client's record (`client.jsonl`): {lost}. Whether a stream lies beyond\n"
        "the last one of a GOAWAY is for who commits the case to read, and to check."
    )
    (recording.folder / "README.md").write_text(_readme(name, scenario, recording, look))


def _look(recording):
    lost = [
        f"- frame {lost.frame}: {lost.kind}" + (f", ended by frame {lost.closing_frame}" if lost.closing_frame else "")
        for lost in recording.wire.lost
    ]
    return "\n".join(lost) or "Nothing is lost: the report must stay silent."


def _check(where, match, count):
    wanted = ", ".join(f"{key} = {json.dumps(value)}" for key, value in match.items())
    return ["", "[[check]]", f'in = "{where}"', f"match = {{ {wanted} }}", f"count = {count}"]


def _readme(name, scenario, recording, look):
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.split("/")[-1].strip()
    began_s = min(answer["sent_s"] for answer in recording.client.values())
    day = dt.datetime.fromtimestamp(began_s, dt.UTC).date()
    statuses = Counter(answer["status"] for answer in recording.client.values())
    got = ", ".join(f"{n} x {status}" for status, n in sorted(statuses.items()))
    upstreams = ", ".join(sorted({upstream.name for upstream in scenario.upstreams}))
    return f"""# {scenario.title}

The client got {got}.

## What to look at

{look}

## Where it comes from

Scenario `{name}` of the live lab (`docs/lab.md`), recorded {day}. nginx {version} as proxy (10.77.0.100),
{upstreams} as upstream (10.77.0.1 and on), tcpdump at both ends, 160 ms of round trip. Logs are in UTC; all
files are as the programs wrote them.
"""
