"""Records of an error log: where they begin, continue and end, and what they say."""

import bz2
import gzip
import json
import lzma
import random

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import LogError
from pcapdiag.proxy.logs.entries import MOST_UNPARSED, LogKind
from pcapdiag.proxy.logs.error_log import container_zone_s, parse_record, read_error_log
from pcapdiag.proxy.logs.lines import LONGEST_LINE

CONTEXT = ', client: 192.0.2.2, server: api.example.test, request: "GET /api?x=1 HTTP/1.1"'
UPSTREAM = ', upstream: "http://10.1.1.1:80/api?x=1", host: "api.example.test"'
HEAD = "2026/11/20 23:56:28 [error] 23400#23401: *16 "
CLOSED = (
    HEAD + "upstream prematurely closed connection while reading response header from upstream" + CONTEXT + UPSTREAM
)
NONE_LEFT = HEAD + "no live upstreams while connecting to upstream" + CONTEXT + UPSTREAM.replace("10.1.1.1:80", "be")


def read(tmp_path, text):
    path = tmp_path / "error.log"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    log = read_error_log(str(path))
    return list(log), log.counts


def test_a_record_is_taken_apart(tmp_path):
    (entry,), counts = read(tmp_path, CLOSED + ', referrer: "https://a.example/b"\n')
    assert (entry.line, entry.ts_s, entry.level) == (1, 1795218988, "error")
    assert (entry.pid, entry.tid, entry.log_conn) == (23400, 23401, 16)
    assert (entry.kind, entry.action) == (LogKind.PREMATURE_CLOSE, "reading response header from upstream")
    assert entry.message == "upstream prematurely closed connection"
    assert (entry.errno, entry.errno_name) == (-1, "")
    assert (entry.client, entry.server, entry.host) == ("192.0.2.2", "api.example.test", "api.example.test")
    assert (entry.method, entry.target, entry.protocol) == ("GET", "/api?x=1", "HTTP/1.1")
    assert (entry.upstream_schema, entry.upstream_peer, entry.upstream_uri) == ("http", "10.1.1.1:80", "/api?x=1")
    assert entry.referrer == "https://a.example/b"
    assert entry.concerns_upstream
    assert (counts.n_lines, counts.n_records, counts.n_other, counts.n_unparsed) == (1, 1, 0, 0)


def test_two_records_glued_on_one_line_are_two_entries_of_one_connection(tmp_path):
    story = (
        "2024/03/05 06:46:13 [error] 45#45: *362914597 upstream prematurely closed connection while reading response "
        'header from upstream, client: 10.0.0.9, server: _, request: "GET /v1/a HTTP/1.1", upstream: '
        '"http://10.0.0.1:9080/v1/a", host: "gw.example.test"'
    )
    second = story.replace(
        "upstream prematurely closed connection while reading response header from upstream",
        "no live upstreams while connecting to upstream",
    ).replace("10.0.0.1:9080", "backend")
    for glue in ("", " ", "  ", "\t"):
        entries, counts = read(tmp_path, story + glue + second)
        assert [e.kind for e in entries] == [LogKind.PREMATURE_CLOSE, LogKind.NO_LIVE_UPSTREAMS]
        assert {e.log_conn for e in entries} == {362914597}
        assert [e.upstream_peer for e in entries] == ["10.0.0.1:9080", "backend"]
        assert [e.host for e in entries] == ["gw.example.test"] * 2
        assert (counts.n_records, counts.n_unparsed) == (2, 0)


def test_glued_records_may_lack_date_and_process(tmp_path):
    text = (
        "*362914597 upstream prematurely closed connection while reading response header from upstream, client: "
        '10.0.0.9, server: _, request: "GET / HTTP/1.1", upstream: "http://10.0.0.1:80/", host: "h" '
        "*362914597 no live upstreams while connecting to upstream"
    )
    first, second = read(tmp_path, text)[0]
    assert (first.log_conn, second.log_conn) == (362914597, 362914597)
    assert (first.kind, second.kind) == (LogKind.PREMATURE_CLOSE, LogKind.NO_LIVE_UPSTREAMS)
    assert (first.ts_s, first.pid, first.level) == (-1, -1, "")


def test_a_glued_record_without_a_date_has_that_of_the_record_before():
    first, second = parse_record(CLOSED + " *16 no live upstreams while connecting to upstream")
    assert (second.ts_s, second.pid, second.level) == (first.ts_s, first.pid, "error")


def test_a_record_without_context_may_have_another_glued_to_it():
    notice = "2026/11/20 23:56:28 [notice] 1#1: signal process started"
    assert [e.kind for e in parse_record(notice + CLOSED)] == [LogKind.PROCESS, LogKind.PREMATURE_CLOSE]


def test_a_head_within_a_value_is_the_clients_text(tmp_path):
    (entry,), _ = read(tmp_path, CLOSED + f', referrer: "https://x/#{NONE_LEFT.split(",")[0]}"\n')
    assert entry.kind == LogKind.PREMATURE_CLOSE
    assert "no live upstreams" in entry.referrer


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_end_of_a_line_may_be_of_either_kind(tmp_path, end):
    entries, counts = read(tmp_path, CLOSED + end + NONE_LEFT + end)
    assert [e.host for e in entries] == ["api.example.test"] * 2
    assert counts.n_lines == 2


def test_a_line_without_a_connection_number_is_a_record(tmp_path):
    (entry,), counts = read(tmp_path, "2026/11/20 23:56:28 [notice] 7#7: signal process started\n")
    assert (entry.log_conn, entry.kind, entry.concerns_upstream) == (-1, LogKind.PROCESS, False)
    assert counts.n_other == 0


def test_an_unknown_message_is_kept_as_other(tmp_path):
    (entry,), counts = read(tmp_path, HEAD + "something new (5: It broke) while doing things" + CONTEXT + UPSTREAM)
    assert (entry.kind, entry.action, entry.errno_name) == (LogKind.OTHER, "doing things", "EIO")
    assert entry.message == "something new (5: It broke)"
    assert entry.concerns_upstream
    assert counts.n_other == 1


def test_lines_that_are_no_log_lines_are_counted_and_shown(tmp_path):
    entries, counts = read(tmp_path, "not a log\n" + CLOSED + "\nneither\n\n" + "x\n" * 50)
    assert len(entries) == 1
    assert counts.n_unparsed == 52
    assert counts.unparsed[:2] == [(1, "not a log"), (3, "neither")]
    assert len(counts.unparsed) == MOST_UNPARSED


def test_a_lua_traceback_belongs_to_its_record_and_its_context_is_at_the_end(tmp_path):
    text = (
        HEAD + "lua entry thread aborted: runtime error: a.lua:15: attempt to perform arithmetic\nstack traceback:\n"
        "coroutine 0:\n\ta.lua: in function <a.lua:1>" + CONTEXT + "\n" + NONE_LEFT + "\n"
    )
    entries, counts = read(tmp_path, text)
    assert [e.kind for e in entries] == [LogKind.LUA, LogKind.NO_LIVE_UPSTREAMS]
    assert entries[0].message.endswith("<a.lua:1>")
    assert (entries[0].target, entries[1].line) == ("/api?x=1", 5)
    assert (counts.n_lines, counts.n_unparsed) == (5, 0)


def test_what_an_application_writes_to_stderr_may_span_lines(tmp_path):
    text = HEAD + 'FastCGI sent in stderr: "PHP message: one\n\nPHP message: two" while reading upstream' + CONTEXT
    (entry,), counts = read(tmp_path, text + ', upstream: "fastcgi://unix:/run/php.sock:", host: "h"\n')
    assert (entry.kind, entry.action) == (LogKind.UPSTREAM_STDERR, "reading upstream")
    assert (entry.upstream_schema, entry.upstream_peer, entry.upstream_uri) == ("fastcgi", "unix:/run/php.sock", "")
    assert not entry.concerns_upstream
    assert counts.n_unparsed == 0


def test_lines_of_other_logs_in_the_same_stream_do_not_continue_a_record(tmp_path):
    notice = "2026/11/20 23:56:28 [notice] 7#7: signal process started\n"
    foreign = (
        '192.0.2.2 - - [20/Nov/2026:23:56:28 +0000] "GET / HTTP/1.1" 200 5 "-" "-"\n',
        "I1120 23:56:28.123456       7 controller.go:213] Backend successfully reloaded\n",
        '{"level":"info"}\n',
    )
    for line in foreign:
        (entry,), counts = read(tmp_path, notice + line)
        assert entry.message == "signal process started"
        assert counts.n_unparsed + counts.n_foreign == 1


def test_a_record_that_never_ends_is_bounded(tmp_path):
    (entry,), counts = read(tmp_path, HEAD + "lua: \n" + "some text\n" * 20000)
    assert len(entry.message) < 70_000
    assert [note.code for note in counts.notes] == ["long-record"]
    assert counts.n_lines == 20001


WRAPPERS = {
    "docker": lambda line: json.dumps({"log": line + "\n", "stream": "stderr", "time": "2026-11-20T23:56:28.1Z"}),
    "fluentd": lambda line: json.dumps({"kubernetes": {"pod": "a"}, "message": line}),
    "journald": lambda line: json.dumps({"MESSAGE": line, "_PID": "7"}),
    "cri": lambda line: f"2026-11-20T23:56:28.123456789Z stderr F {line}",
    "cri-zone": lambda line: f"2026-11-21T07:56:28.123456789+08:00 stderr F {line}",
    "kubectl": lambda line: f"2026-11-20T23:56:28.123456789Z {line}",
    "kubectl-prefix": lambda line: f"[pod/gw-7d9/nginx] {line}",
    "compose": lambda line: f"\x1b[36mnginx-1  | \x1b[0m{line}",
    "syslog": lambda line: f"<187>Nov 20 23:56:28 host nginx: {line}",
    "syslog-5424": lambda line: f"<187>1 2026-11-20T23:56:28Z host nginx 7 - - {line}",
    "journalctl": lambda line: f"Nov  2 23:56:28 host nginx[7]: {line}",
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_containers_and_collectors_wrap_around_a_line_is_taken_off(tmp_path, name):
    wrap = WRAPPERS[name]
    lua = HEAD + "lua entry thread aborted: x"
    lines = (CLOSED, lua, "\tcontinued" + CONTEXT, NONE_LEFT)
    entries, counts = read(tmp_path, "".join(wrap(line) + "\n" for line in lines))
    assert [e.kind for e in entries] == [LogKind.PREMATURE_CLOSE, LogKind.LUA, LogKind.NO_LIVE_UPSTREAMS]
    assert [e.host for e in entries] == ["api.example.test", "", "api.example.test"]
    assert entries[1].target == "/api?x=1"
    assert counts.n_unparsed == 0


def test_the_parts_of_a_line_that_a_container_runtime_cut_are_joined(tmp_path):
    stamp = "2026-11-20T23:56:28.1Z stderr"
    (entry,), counts = read(tmp_path, f"{stamp} P {CLOSED[:100]}\n{stamp} F {CLOSED[100:]}\n")
    assert entry.host == "api.example.test"
    assert counts.n_lines == 2


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress, lz4.frame.compress])
def test_a_compressed_log_is_read_as_if_it_were_not(tmp_path, pack):
    entries, _ = read(tmp_path, pack(f"{CLOSED}\n{NONE_LEFT}\n".encode()))
    assert [e.kind for e in entries] == [LogKind.PREMATURE_CLOSE, LogKind.NO_LIVE_UPSTREAMS]


def test_a_compressed_log_that_ends_too_early_gives_what_is_there_and_a_note(tmp_path):
    rng = random.Random(1)
    data = gzip.compress("".join(f'{CLOSED[:-1]}{rng.random()}"\n' for _ in range(2000)).encode())
    entries, counts = read(tmp_path, data[: len(data) // 2])
    assert 100 < len(entries) < 2000
    assert [note.code for note in counts.notes] == ["truncated-compression"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_any_encoding_will_do(tmp_path, encoding):
    (entry, second), counts = read(tmp_path, (CLOSED.replace("/api", "/caf\xe9") + f"\n{NONE_LEFT}\n").encode(encoding))
    assert entry.upstream_uri == "/caf\xe9?x=1"
    assert second.kind == LogKind.NO_LIVE_UPSTREAMS
    assert counts.n_unparsed == 0


def test_zeros_where_a_log_in_use_was_truncated_do_no_harm(tmp_path):
    (entry,), counts = read(tmp_path, b"\0" * 3000 + CLOSED.encode() + b"\n")
    assert entry.log_conn == 16
    assert counts.n_unparsed == 0


def test_a_line_without_end_is_cut(tmp_path):
    entries, counts = read(tmp_path, CLOSED + "\n" + "x" * (3 * LONGEST_LINE) + "\n" + NONE_LEFT + "\n")
    assert [e.kind for e in entries] == [LogKind.PREMATURE_CLOSE, LogKind.NO_LIVE_UPSTREAMS]
    assert counts.n_unparsed >= 3
    assert max(len(text) for _, text in counts.unparsed) <= 500


def test_a_date_that_does_not_exist_leaves_the_time_unknown(tmp_path):
    (entry,), _ = read(tmp_path, CLOSED.replace("2026/11/20", "2026/13/20"))
    assert entry.ts_s == -1


def test_a_log_can_be_read_again(tmp_path):
    path = tmp_path / "error.log"
    path.write_text(f"{CLOSED}\n{NONE_LEFT}\n")
    log = read_error_log(str(path))
    assert list(log) == list(log)
    assert log.counts.n_lines == 2


@pytest.mark.parametrize("name", ["missing.log", "."])
def test_what_cannot_be_opened_is_refused_at_once(tmp_path, name):
    with pytest.raises(LogError, match=r"cannot open|folder"):
        read_error_log(str(tmp_path / name))


@given(st.lists(st.sampled_from([CLOSED, NONE_LEFT, "text", "", "\tmore" + CONTEXT, HEAD + "lua x"]), max_size=12))
def test_every_head_gives_one_entry_in_order(tmp_path, lines):
    entries, counts = read(tmp_path, "".join(line + "\n" for line in lines))
    heads = [n for n, line in enumerate(lines, 1) if line.startswith("2026")]
    assert [e.line for e in entries] == heads
    assert counts.n_lines == len(lines)


@given(cut=st.integers(min_value=len(HEAD) + 5, max_value=len(CLOSED)))
def test_a_cut_record_says_what_is_left_of_it(cut):
    """Nginx cuts a record at 2048 bytes, anywhere."""
    (entry,) = parse_record(CLOSED[:cut])
    (whole,) = parse_record(CLOSED)
    for name in ("client", "server", "method", "upstream_peer"):
        assert getattr(whole, name).startswith(getattr(entry, name)), name
    if CLOSED[:cut].endswith(('"', '", ')) and "upstream: " in CLOSED[: cut - 5]:
        assert entry.upstream_uri == whole.upstream_uri
    assert entry.request == "" or CONTEXT.split('"')[1].startswith(entry.request)


@pytest.mark.parametrize("text", ["a,b", "a,b\nc,d", "@timestamp,message\n?"])
def test_names_of_columns_are_those_of_a_table_that_follows(tmp_path, text):
    entries, counts = read(tmp_path, text)
    assert (len(entries), counts.n_unparsed) == (0, 1)


@given(st.binary(max_size=400))
def test_any_bytes_are_counted_line_by_line(tmp_path, data):
    _, counts = read(tmp_path, b"x" + data)  # no magic number begins so
    assert counts.n_lines == data.count(b"\n") + (not data.endswith(b"\n"))


@pytest.mark.parametrize(
    ("wrapped", "zone_s"),
    [
        ('{{"log":"{}\\n","stream":"stderr","time":"2026-11-20T15:56:28.7Z"}}', 8 * 3600),
        ("2026-11-21T00:56:28.7+01:00 stderr F {}", 0),
        ("2026-11-20T18:26:29.1Z {}", 5 * 3600 + 1800),
        ("web-1 nginx 2026-11-20T15:56:28.1Z {}", 8 * 3600),
        ('2026-11-21T00:56:28+01:00 {{app="nginx"}} {}', 0),
        ("2026-11-20T15:56:28.1Z host1 nginx: {}", 8 * 3600),
        ('{{"textPayload":"{}","timestamp":"2026-11-20T15:56:28Z"}}', 8 * 3600),
        ("web-1 nginx 2026-11-20T15:36:29.1Z {}", None),
        ("{}", None),
        ("2026-11-20T15:36:29.1Z {}", None),
    ],
)
def test_the_stamp_of_a_container_tells_the_zone_of_the_log(tmp_path, wrapped, zone_s):
    line = "2026/11/20 23:56:28 [error] 7#7: *1 no live upstreams while connecting to upstream"
    (tmp_path / "error.log").write_text(wrapped.format(line) + "\n" + wrapped.format(line) + "\n")
    assert container_zone_s(str(tmp_path / "error.log")) == zone_s
