"""The JSON report: every name of the contract, times in two forms, frames as Wireshark counts, bytes that repeat."""

import json
from types import SimpleNamespace

import pytest

from pcapdiag.base.codes import CapturePoint
from pcapdiag.base.findings import Note
from pcapdiag.engine.capture.batch import Capture
from pcapdiag.report.render.json import render
from tests.report import builders

CONTRACT = {
    "": {
        *("schema_version", "tool", "inputs", "captures", "totals", "upstreams", "findings", "verdicts", "log"),
        "notes",
    },
    "tool": {"name", "version"},
    "inputs": {"path", "kind", "bytes", "sha256"},
    "captures": {
        *("paths", "format", "link_types", "frames", "bytes", "first_ts_ns", "last_ts_ns", "capture_point", "notes"),
    },
    "totals": {"frames", "undecoded_frames", "connections", "exchanges", "unanswered"},
    "upstreams": {
        *("endpoint", "name", "connections", "exchanges", "rtt_ns", "server_field", "idle_timeout_ns"),
        *("requests_per_connection_limit", "race_window_ns", "near_misses"),
    },
    "upstreams.rtt_ns": {"min", "p50", "p99"},
    "upstreams.idle_timeout_ns": {"value", "spread", "samples", "confidence", "named_as"},
    "findings": {
        *("code", "name", "title", "severity", "confidence", "subject", "message", "identifier", "count"),
        *("first_ts_ns", "last_ts_ns", "refuted_by", "remedy", "occurrences"),
    },
    "findings.occurrences": {
        *("uid", "orig", "resp", "depth", "request_frame", "request_ts_ns", "idle_before_ns", "method", "target"),
        *("closing_frame", "closing_kind", "log_lines", "evidence", "capture"),
    },
    "verdicts": {"code", "verdict", "reason"},
    "log": {"clock_offset_ns", "clock_offset_width_ns", "zone_offset_s", "pairs", "entries"},
}


def first_at(value, path):
    for name in filter(None, path.split(".")):
        value = value[name]
        value = value[0] if isinstance(value, list) else value
    return value


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="Out of range"):
        render(SimpleNamespace(to_json=lambda: {"share": float("nan")}))


def walk(value):
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(child)


@pytest.mark.parametrize("path", CONTRACT)
def test_every_name_of_the_contract_is_there(path):
    assert CONTRACT[path] <= first_at(builders.race_report().to_json(), path).keys()


def test_every_absolute_time_has_its_text_beside_it():
    objects = [v for v in walk(builders.race_report().to_json()) if isinstance(v, dict)]
    times = [(o, name) for o in objects for name in o if name == "ts_ns" or name.endswith("_ts_ns")]
    assert len(times) > 10
    for holder, name in times:
        text = holder[name.removesuffix("_ns")]
        assert (text is None) == (holder[name] < 0)
    finding = builders.race_report().to_json()["findings"][0]
    assert finding["first_ts_ns"] == builders.T0
    assert finding["first_ts"] == "2026-11-20T23:55:56.886114000Z"


def test_nanoseconds_are_integers():
    for holder in walk(builders.race_report().to_json()):
        if isinstance(holder, dict):
            for name, value in holder.items():
                if name.endswith("_ns") and not isinstance(value, (dict, list)) and value is not None:
                    assert type(value) is int, name


def test_enumerations_are_lower_case_words():
    report = builders.race_report().to_json()
    finding = report["findings"][0]
    assert (finding["severity"], finding["confidence"]) == ("error", "confirmed")
    assert [v["verdict"] for v in report["verdicts"]] == ["found", "clean", "clean", "not_evaluated"]
    assert report["captures"][0]["capture_point"] == "proxy"
    assert finding["occurrences"][0]["evidence"][2]["flags"] == ["FIN", "ACK"]
    assert finding["occurrences"][0]["evidence"][2]["dir"] == "resp"


def test_a_mirror_port_is_an_unknown_capture_point_to_programs():
    report = builders.report(capture_points=(CapturePoint.BETWEEN,)).to_json()
    assert report["captures"][0]["capture_point"] == "unknown"


def test_frames_count_from_one():
    occurrence = builders.race_report().to_json()["findings"][0]["occurrences"][0]
    assert (occurrence["request_frame"], occurrence["closing_frame"]) == (106, 109)
    assert [e["frame"] for e in occurrence["evidence"]] == [98, 106, 109, 116]
    assert occurrence["display_filter"] == "frame.number in {98, 106, 109, 116}"


def test_frames_count_from_one_in_each_file_of_a_series():
    files = [
        builders.capture_file(path="a.pcap", first_frame=0, n_frames=106),
        builders.capture_file(path="b.pcap", first_frame=106, n_frames=10),
        builders.capture_file(path="empty.pcap", first_frame=116, n_frames=0),
        builders.capture_file(path="c.pcap", first_frame=116, n_frames=500),
    ]
    report = builders.report(builders.finding(), captures=(Capture(files, [Note("odd", "text", frame=116)]),)).to_json()
    occurrence = report["findings"][0]["occurrences"][0]
    assert (occurrence["capture"], occurrence["request_frame"]) == ("a.pcap", 106)
    assert (occurrence["closing_capture"], occurrence["closing_frame"]) == ("b.pcap", 3)
    assert [(e["capture"], e["frame"]) for e in occurrence["evidence"]] == [
        ("a.pcap", 98),
        ("a.pcap", 106),
        ("b.pcap", 3),
        ("b.pcap", 10),
    ]
    assert occurrence["display_filter"] == "frame.number in {98, 106}"
    note = report["captures"][0]["notes"][0]
    assert (note["capture"], note["frame"]) == ("c.pcap", 1)


def test_what_is_not_known_is_minus_one():
    bare = builders.occurrence(closing_frame=-1, closing_kind="", idle_before_ns=-1, depth=-1, evidence=())
    report = builders.report(
        builders.finding(occurrences=(bare,)),
        upstreams=(builders.upstream(idle_timeout=None, race_window_ns=(-1, -1)),),
    ).to_json()
    occurrence = report["findings"][0]["occurrences"][0]
    assert (occurrence["closing_frame"], occurrence["closing_capture"]) == (-1, "")
    assert (occurrence["idle_before_ns"], occurrence["depth"]) == (-1, -1)
    timeout = report["upstreams"][0]["idle_timeout_ns"]
    assert timeout == {"value": -1, "spread": -1, "samples": 0, "confidence": None, "named_as": []}
    assert report["upstreams"][0]["race_window_ns"] == [-1, -1]


def test_targets_are_redacted_unless_asked():
    assert builders.race_report().findings[0].occurrences[0].target == "/api?token=***&page=***"
    shown = builders.report(builders.finding(), redact=False)
    assert shown.findings[0].occurrences[0].target == "/api?token=secret&page=2"
    assert "secret" not in render(builders.race_report())


def test_the_same_input_gives_the_same_bytes():
    assert render(builders.race_report()) == render(builders.race_report())


def test_hostile_text_is_printable_ascii_and_valid_json():
    text = render(builders.hostile_report())
    assert all(" " <= c <= "~" or c == "\n" for c in text)
    parsed = json.loads(text)
    target = parsed["findings"][0]["occurrences"][0]["target"]
    assert target.replace("\\xff", "\udcff") == builders.HOSTILE
    json.dumps(parsed, ensure_ascii=False).encode()
