"""Logs as people have them: whatever was written around its lines, a log gives the entries of the bare one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.error_log import read_error_log
from pcapdiag.proxy.logs.lines import LONGEST_LINE
from tests.proxy.logs.wrappers import NESTED, OBJECTS, PREFIXES, WRAPPERS, any_prefix

CASES = Path(__file__).parents[3] / "captures"
SEEDS = range(60)


def real_lines(name, head, at_most=6):
    """Return lines that servers wrote, some of each case."""
    found = []
    for path in sorted(CASES.glob(f"*/{name}")):
        lines = [line for line in path.read_text().splitlines() if head in line]
        found += lines[:: max(len(lines) // at_most, 1)]
    return found


ERRORS = real_lines("error.log", "#")
ACCESSES = [line for line in real_lines("access.log", '"') if " - " in line[:60] and not line.startswith("{")]


def read(reader, path, text):
    path.write_text(text, newline="")
    log = reader(str(path))
    return [nowhere(entry) for entry in log], log.counts


def nowhere(entry):
    """Return an entry without the place where it stands, which a wrapper may change."""
    return replace(entry, path="", line=0) if not hasattr(entry, "_replace") else entry._replace(path="", line=0)


@pytest.fixture(scope="module", params=["error", "access"])
def bare(request, tmp_path_factory):
    reader, lines = {"error": (read_error_log, ERRORS), "access": (read_access_log, ACCESSES)}[request.param]
    path = tmp_path_factory.mktemp("bare") / "x.log"
    entries, _ = read(reader, path, "".join(f"{line}\n" for line in lines))
    assert len(entries) == len(lines) > 20
    return reader, lines, entries, path


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_log_gives_the_entries_of_the_bare_one(bare, name):
    reader, lines, entries, path = bare
    wrapped, counts = read(reader, path, WRAPPERS[name](lines))
    assert wrapped == entries
    assert counts.n_unparsed == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_so_does_one_behind_names_and_stamps_of_any_kind(bare, seed):
    reader, lines, entries, path = bare
    prefix = any_prefix(seed)
    some = lines[seed % 7 :: 7]
    wrapped, counts = read(reader, path, "".join(f"{prefix}{line}\n" for line in some))
    assert wrapped == entries[seed % 7 :: 7], prefix
    assert counts.n_unparsed == 0


RECORD = ERRORS[0]
DUMPED = json.dumps(RECORD)
QUOTING = {
    "a sentence": f"the proxy said: {RECORD}",
    "a sentence of a logger": f"2026-11-20 23:56:28,101 ERROR checker found in log: {RECORD}",
    "a sentence behind a level": f"2026-11-20T23:56:28Z WARN health said: {RECORD}",
    "an application in a pod": f"web-7c6d9-x2 app proxy answered 502 because of {RECORD}",
    "logfmt": f'time=2026-11-20T23:56:28Z level=error msg="{RECORD}"',
    "logfmt, escaped": f"time=2026-11-20T23:56:28Z level=error msg={DUMPED}",
    "JSON of another program": json.dumps({"level": "error", "msg": "502 from the proxy", "detail": RECORD}),
    "JSON of it in docker": json.dumps(
        {"log": json.dumps({"msg": "502", "detail": RECORD}) + "\n", "stream": "stdout", "time": "2026-11-20T23:56:28Z"}
    ),
    "JSON that says more": json.dumps({"message": f"the proxy said: {RECORD}"}),
    "a user agent": f'192.0.2.2 - - [20/Nov/2026:23:56:28 +0000] "GET / HTTP/1.1" 200 5 "-" "{RECORD}"',
    "a target": f'192.0.2.2 - - [20/Nov/2026:23:56:28 +0000] "GET /{RECORD}',
    "a Python list": f"['{RECORD[:20]}', 1]",
    "a request of another log": f"POST /log {RECORD}",
}


@pytest.mark.parametrize("name", QUOTING)
def test_who_quotes_a_record_is_no_log(tmp_path, name):
    entries, _ = read(read_error_log, tmp_path / "x.log", QUOTING[name] + "\n")
    assert entries == []


ACCESS = '192.0.2.2 - - [20/Nov/2026:23:56:28 +0000] "GET /a HTTP/1.1" 502 157 "-" "curl/8"'


@pytest.mark.parametrize("name", [*PREFIXES, *OBJECTS, *NESTED])
def test_both_logs_of_one_stream_are_told_apart_whatever_is_around_them(tmp_path, name):
    lines = [RECORD, ACCESS, ACCESS, ERRORS[1], ACCESS]
    text = WRAPPERS[name](lines)
    errors, counts = read(read_error_log, tmp_path / "x.log", text)
    assert (len(errors), counts.n_unparsed, counts.n_foreign) == (2, 0, 3)
    accesses, counts = read(read_access_log, tmp_path / "x.log", text)
    assert [(a.target, a.status) for a in accesses] == [("/a", 502)] * 3
    assert counts.n_unparsed == 0


LUA = (
    "2026/11/20 23:56:28 [error] 7#7: *9 lua entry thread aborted: runtime error: x.lua:1: boom",
    "stack traceback:",
    '\t[C]: in function \'error\', client: 192.0.2.2, server: a.test, request: "GET /l HTTP/1.1", host: "a.test"',
)


@pytest.mark.parametrize("name", sorted(PREFIXES.keys() - {"grep -C"}))
def test_a_record_goes_on_behind_the_same_prefix(tmp_path, name):
    (bare,), _ = read(read_error_log, tmp_path / "x.log", "\n".join(LUA) + "\n")
    (entry,), counts = read(read_error_log, tmp_path / "x.log", WRAPPERS[name](LUA))
    assert (entry.kind, entry.host, entry.target) == (bare.kind, "a.test", "/l")
    if name not in {"stern, two pods", "k9s", "papertrail", "gcloud text"}:  # pods take turns; blanks may be its own
        assert entry == bare
    assert counts.n_unparsed == 0


def test_a_field_of_a_table_goes_on_with_the_next_line(tmp_path):
    text = WRAPPERS["Kibana CSV"](["\n".join(LUA), RECORD, "\n".join(LUA)])
    entries, counts = read(read_error_log, tmp_path / "x.log", text)
    bare, _ = read(read_error_log, tmp_path / "x.log", "\n".join((*LUA, RECORD, *LUA)) + "\n")
    assert entries == bare
    assert counts.n_unparsed == 0


def test_a_field_that_never_ends_takes_no_other_record(tmp_path):
    text = "".join(f'"x","{line}\n' for line in (LUA[0], RECORD, RECORD))
    entries, _ = read(read_error_log, tmp_path / "x.log", text)
    assert len(entries) == 3


FORMAT = '$msec $connection $status "$upstream_addr" "$request"'


@pytest.mark.parametrize("name", sorted(PREFIXES.keys() | {"GCP JSON", "docker"}))
def test_a_format_that_was_given_is_found_behind_names_and_stamps(tmp_path, name):
    line = '1795219518.851 3 502 "10.1.1.1:80, 10.1.1.2:80" "GET /a HTTP/1.1"'
    text = WRAPPERS[name]([line] * 3)
    entries, counts = read(lambda path: read_access_log(path, FORMAT), tmp_path / "x.log", text)
    assert [(e.ts_ns, e.log_conn, e.status, len(e.tries)) for e in entries] == [(1795219518851000000, 3, 502, 2)] * 3
    assert counts.n_unparsed == 0


def test_a_record_in_json_is_found_behind_names_and_stamps(tmp_path):
    line = json.dumps({"time": "2026-11-20T23:56:28Z", "request": "GET /a HTTP/1.1", "status": 502})
    for prefix in ("web-1 nginx ", "2026-11-20T23:56:28+0000 host1 nginx[7]: ", "web.1@node-1    | ", "a/b.log:17:"):
        (entry,), counts = read(read_access_log, tmp_path / "x.log", prefix + line + "\n")
        assert (entry.target, entry.status, counts.n_unparsed) == ("/a", 502, 0)


def test_an_export_of_one_endless_line_loses_nothing(tmp_path):
    lines = ERRORS * 40
    text = json.dumps([{"insertId": str(n), "textPayload": line} for n, line in enumerate(lines)])
    assert len(text) > 8 * LONGEST_LINE
    entries, counts = read(read_error_log, tmp_path / "x.log", text)
    assert len(entries) == len(lines)
    assert counts.n_unparsed == 0


@given(st.text(max_size=200), st.sampled_from([*WRAPPERS]))
def test_what_is_around_a_line_may_be_anything(tmp_path, text, name):
    wrapped = WRAPPERS[name]([f"{text} {RECORD}", text])
    for reader in (read_error_log, read_access_log):
        read(reader, tmp_path / "x.log", wrapped.encode("utf-8", "replace").decode())


@pytest.mark.parametrize("escape", [r"\x", r"\u12", r"\uZZZZ", r"\8", "\\\t"])
def test_half_an_export_with_a_damaged_escape_loses_only_what_is_damaged(tmp_path, escape):
    damaged = RECORD.replace("while", f"while {escape}")
    line = f'{{"a": "{RECORD}", "b": "{damaged}", "c": "{RECORD}", "d": "cut'
    for reader in (read_error_log, read_access_log):
        entries, counts = read(reader, tmp_path / "x.log", line)
        assert counts.n_unparsed <= counts.n_lines == 1
        assert len(entries) == 2 * (reader is read_error_log)


@given(
    st.lists(st.text(alphabet='\\"u{}[]:, x0aé\x01', max_size=20), max_size=6),
    st.sampled_from([read_error_log, read_access_log]),
)
def test_half_an_export_may_hold_anything(tmp_path, texts, reader):
    line = '{"log": ' + ", ".join(f'"2026/11/20 23:56:28 [error] {text}"' for text in texts)
    entries, counts = read(reader, tmp_path / "x.log", f"{line}\n" * 2)
    assert counts.n_unparsed <= counts.n_lines == 2
    assert len(entries) == counts.n_records


def test_a_line_that_holds_several_texts_is_one_line_that_was_not_understood(tmp_path):
    line = json.dumps({"events": [f"2026/11/20 23:56:28 [error] nothing {n}" for n in range(5)]})
    _, counts = read(read_access_log, tmp_path / "x.log", f"{line}\n{line}\n")
    assert counts.n_unparsed <= counts.n_lines == 2
    assert len({number for number, _ in counts.unparsed}) == len(counts.unparsed)
