"""Records behind what something else wrote before them, and lines that only look as if they held one."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.error_log import read_error_log
from pcapdiag.proxy.logs.heads import find_access_record, find_error_record

ERROR = (
    "2026/11/20 23:56:28 [error] 7#8: *16 upstream prematurely closed connection while reading response header from"
    ' upstream, client: 192.0.2.2, server: a.test, request: "GET /a?x=""y HTTP/1.1", upstream: "http://10.1.1.1:80/a",'
    ' host: "a.test"'
).replace('x=""y', "x=1")
ACCESS = '192.0.2.2 - - [20/Nov/2026:23:56:28 +0000] "GET /a HTTP/1.1" 502 157 "-" "curl/8"'
WRAPS = [
    "pod-7c6d9-x2 controller {}",
    "web.1.abc@node-1    | {}",
    "/var/log/nginx/error.log:{}",
    "/var/log/nginx/error.log:17:{}",
    "error.log-{}",
    "2026-11-20T23:56:28+0000 host1 nginx[23400]: {}",
    "2026-11-20T23:56:28.101000+00:00 ecs/nginx/0a1b2c {}",
    '2026-11-20T23:56:28Z {{app="nginx", pod="x"}} {}',
    "Nov 20 23:56:28 host nginx: {}",
    "   {}",
    "\t{}",
    "[web-1] [stderr] {}",
]


def csv_line(*fields):
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(fields)
    return file.getvalue().rstrip("\n")


WRAPPED = [
    *(wrap.format(ERROR) for wrap in WRAPS),
    csv_line("2026-11-20 23:56:28.101", ERROR),
    csv_line("2026-11-20 23:56:28", ERROR, "1"),
    csv_line(ERROR, "2026-11-20T23:56:28.000+0000", "h1"),
    *(json.dumps({key: ERROR, "severity": "ERROR"}) for key in ("textPayload", "line", "@message", "body", "_raw")),
    json.dumps({"jsonPayload": {"message": ERROR}, "timestamp": "x"}),
    ERROR.replace('"', "&quot;"),
]


def read(reader, tmp_path, text):
    path = tmp_path / "log"
    path.write_text(text)
    log = reader(str(path))
    return list(log), log.counts


@pytest.mark.parametrize("line", WRAPPED)
def test_a_record_is_the_same_whatever_stands_before_it(tmp_path, line):
    (plain,), _ = read(read_error_log, tmp_path, ERROR + "\n")
    entries, counts = read(read_error_log, tmp_path, f"{line}\n" * 8)
    assert [(e.kind, e.log_conn, e.target, e.upstream_peer, e.host) for e in entries] == [
        (plain.kind, 16, "/a?x=1", "10.1.1.1:80", "a.test")
    ] * 8
    assert counts.n_unparsed == 0


@pytest.mark.parametrize(
    "line",
    [
        f'192.0.2.2 - - [20/Nov/2026:23:56:28 +0000] "GET / HTTP/1.1" 200 5 "-" "{ERROR}"',
        '{app="nginx} ' + ERROR,
        f"GET /{ERROR}",
        "x" * 400 + ERROR,
    ],
)
def test_what_a_client_may_have_written_begins_no_record(tmp_path, line):
    assert find_error_record(line) is None
    assert read(read_error_log, tmp_path, line + "\n")[0] == []


def test_both_logs_in_one_stream_are_told_apart(tmp_path):
    text = f"{ERROR}\n{ACCESS}\npod x {ACCESS}\n"
    entries, counts = read(read_error_log, tmp_path, text)
    assert (len(entries), counts.n_foreign, counts.n_unparsed) == (1, 2, 0)
    entries, counts = read(read_access_log, tmp_path, text)
    assert [(e.target, e.status) for e in entries] == [("/a", 502)] * 2
    assert (counts.n_foreign, counts.n_unparsed) == (1, 0)


@given(st.text(max_size=400), st.sampled_from([ERROR, ACCESS, ERROR.replace('"', '""'), ""]))
def test_no_prefix_breaks_the_search(prefix, record):
    for find in (find_error_record, find_access_record):
        found = find(prefix + record)
        assert found is None or len(found) <= len(prefix + record)
