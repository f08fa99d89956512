"""The summary of a scan."""

import json

from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.nightly.scan.model import FileOutcome, ScanSummary
from pcapdiag.nightly.scan.summary import render
from pcapdiag.nightly.store.model import FindingRow, FindingState
from pcapdiag.nightly.store.store import ScanTotals

HOSTILE = "/c/\x1b[2Jx\n.pcap"


def row(state, code="PD101"):
    return FindingRow(
        *(f"{code}/a", code, "race", "Race", "10.0.0.1:80", Severity.ERROR, Confidence.CONFIRMED, "It closes."),
        *(7, 7, 0, 1, state, "2026-11-20", 2, "key"),
    )


def summary(*findings, outside=0, failed=1, waiting=0):
    totals = ScanTotals(9, 3, 3 - failed, 0, failed, 6, waiting)
    files = (FileOutcome(HOSTILE, "failed", (("garbage", "is no capture"),)),) if failed else ()
    return ScanSummary(4, totals, outside, findings, files, ("key",))


def test_text_names_what_is_there_and_leaves_out_what_is_gone():
    states = (FindingState.NEW, FindingState.QUIET, FindingState.GONE)
    text = render(summary(*(row(state, f"PD10{n}") for n, state in enumerate(states))), "text")
    lines = text.splitlines()
    assert lines[0] == "scan 4: 9 files: 3 read (2 ok, 0 partial, 1 failed), 6 unchanged"
    assert lines[2] == "findings: 1 new, 1 gone, 1 quiet"
    assert [line for line in lines if "PD10" in line] == [
        "  new      PD100 error    10.0.0.1:80  2 on 2026-11-20, 7 in all"
    ]
    assert text.endswith("\n")


def test_text_is_short_where_there_is_nothing_to_say():
    assert render(summary(failed=0), "text") == "scan 4: 9 files: 3 read, 6 unchanged\nnothing found\n"
    more = render(summary(failed=0, waiting=2, outside=1), "text")
    assert "2 left for later, 1 outside of the time range" in more


def test_no_name_of_a_file_speaks_to_the_terminal():
    text = render(summary(), "text")
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3


def test_json_lines_are_the_same_facts_as_json():
    plain = json.loads(render(summary(row(FindingState.NEW)), "json"))
    *records, last = [json.loads(line) for line in render(summary(row(FindingState.NEW)), "jsonl").splitlines()]
    by_kind = {kind: [r for r in records if r.pop("kind") == kind] for kind in ("file",)}
    assert by_kind["file"] == plain["files"]
    assert last == {"kind": "scan"} | {k: v for k, v in plain.items() if k not in {"files", "findings"}}
    assert plain["states"] == {"new": 1, "worse": 0, "ongoing": 0, "quiet": 0, "gone": 0} | plain["states"]
    assert plain["files"][0]["notes"] == [{"code": "garbage", "text": "is no capture"}]
    assert plain["findings"][0]["last_seen"] == "1970-01-01T00:00:00.000000001Z"
