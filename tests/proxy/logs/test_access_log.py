"""Access logs by format, recognised or guessed, and the tries in their lists."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.base.errors import LogError, UsageError
from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.entries import Try
from pcapdiag.proxy.logs.log_format import COMBINED, compile_format

LAB = (
    '$msec $connection $connection_requests "$upstream_addr" "$upstream_status" "$upstream_response_time" '
    '"$upstream_connect_time" "$upstream_header_time" $request_id $status $request_time $remote_addr:$remote_port '
    '"$request"'
)
LINE = (
    '1795218948.814 9 1 "10.1.1.1:80, 10.1.1.2:80, be" "502, 502, 502" "0.160, 0.161, 0.000" "0.000, 0.000, -" '
    '"-, -, -" eae9e88dbc1d1202a50f48c2fd19f506 502 0.321 192.0.2.2:52982 "GET /api HTTP/1.1"'
)
MS = 10**6


def read(tmp_path, text, log_format=None):
    path = tmp_path / "access.log"
    path.write_bytes(text.encode())
    log = read_access_log(str(path), log_format)
    return list(log), log.counts


def test_a_line_is_read_by_nginxs_own_log_format(tmp_path):
    (entry,), counts = read(tmp_path, LINE + "\n", LAB)
    assert (entry.ts_ns, entry.ts_width_ns, entry.log_conn) == (1795218948_814 * MS, MS, 9)
    assert (entry.method, entry.target, entry.protocol) == ("GET", "/api", "HTTP/1.1")
    assert (entry.status, entry.request_time_ns, entry.client) == (502, 321 * MS, "192.0.2.2:52982")
    assert entry.request_id == "eae9e88dbc1d1202a50f48c2fd19f506"
    assert entry.tries == (
        Try("10.1.1.1:80", 502, 160 * MS, 0, -1, 0),
        Try("10.1.1.2:80", 502, 161 * MS, 0, -1, 0),
        Try("be", 502, 0, -1, -1, 0),
    )
    assert (counts.n_lines, counts.n_records, counts.n_unparsed) == (1, 1, 0)


@pytest.mark.parametrize(
    "directive",
    [
        f"log_format lab '{LAB}';",
        "log_format  lab  escape=default\n  " + "\n  ".join(f"'{part} '" for part in LAB.split(" ")) + ";",
        f"escape=default {LAB}",
        LAB.replace("$msec", "${msec}"),
    ],
)
def test_a_format_may_be_given_as_in_the_configuration(tmp_path, directive):
    assert read(tmp_path, LINE, directive)[0] == read(tmp_path, LINE, LAB)[0]


def test_an_internal_redirect_starts_a_new_group_of_tries(tmp_path):
    text = LINE.replace(
        '"10.1.1.1:80, 10.1.1.2:80, be" "502, 502, 502"', '"10.1.1.1:80 : [::1]:80, unix:/run/a" "404 : 502, 200"'
    )
    (entry,), _ = read(tmp_path, text, LAB)
    tries = [(t.addr, t.status, t.redirect) for t in entry.tries]
    assert tries[:3] == [("10.1.1.1:80", 404, 0), ("[::1]:80", 502, 1), ("unix:/run/a", 200, 1)]


def test_a_request_without_an_upstream_has_no_tries(tmp_path):
    (entry,), _ = read(
        tmp_path, '1795218948.814 9 1 "-" "-" "-" "-" "-" abc 200 0.000 192.0.2.2:1 "GET / HTTP/1.1"', LAB
    )
    assert entry.tries == ()


def test_combined_is_recognised(tmp_path):
    text = '192.0.2.2 - a b [20/Nov/2026:23:56:28 +0100] "GET /a%20b HTTP/1.1" 502 157 "-" "x \\x22y\\x22"\n'
    (entry,), _ = read(tmp_path, text)
    assert (entry.ts_ns, entry.ts_width_ns) == (1795215388 * 10**9, 10**9)
    assert (entry.client, entry.target, entry.status, entry.tries) == ("192.0.2.2", "/a%20b", 502, ())


def test_the_formats_of_ingress_nginx_and_apisix_are_recognised(tmp_path):
    ingress = (
        '192.168.64.14 - - [07/Feb/2020:12:02:42 +0000] "GET /v2/some HTTP/1.1" 200 61 "-" "Mozilla/5.0" 348 0.001 '
        "[default-web2-8080] [] 172.17.0.6:8080, 172.17.0.7:8080 61, 100 0.100, 0.004 502, 203 "
        "835136ae24486dbb4156dcbe21f5d402\n"
    )
    apisix = (
        '192.0.2.2 - - [20/Nov/2026:23:56:28 +0000] gw.example.test "GET /a HTTP/1.1" 200 5 0.123 "-" "curl/8" '
        '10.0.0.1:80, 10.0.0.2:80 502, 200 0.001, 0.120 "http://gw.example.test/a"\n'
    )
    (first, second), counts = read(tmp_path, ingress + apisix)
    assert [(t.addr, t.status) for t in first.tries] == [("172.17.0.6:8080", 502), ("172.17.0.7:8080", 203)]
    assert first.request_id == "835136ae24486dbb4156dcbe21f5d402"
    assert [(t.status, t.response_time_ns) for t in second.tries] == [(502, MS), (200, 120 * MS)]
    assert (second.host, second.request_time_ns, counts.n_unparsed) == ("gw.example.test", 123 * MS, 0)


def test_json_is_recognised_by_its_keys(tmp_path):
    record = {
        "time_iso8601": "2026-11-20T23:56:28+00:00",
        "msec": "1795218988.123",
        "connection": 16,
        "request": 'GET /a"b HTTP/1.1',
        "status": 502,
        "upstream_addr": "10.1.1.1:80, 10.1.1.2:80",
        "upstream_status": "502, 502",
        "x-request-id": "r1",
    }
    wrapped = {"log": json.dumps(record) + "\n", "stream": "stdout", "time": "2026-11-20T23:56:29Z"}
    entries, counts = read(tmp_path, json.dumps(record) + "\n" + json.dumps(wrapped) + "\n")
    assert [e.ts_ns for e in entries] == [1795218988_123 * MS] * 2
    assert [(e.log_conn, e.target, e.status, e.request_id) for e in entries] == [(16, '/a"b', 502, "r1")] * 2
    assert [t.addr for t in entries[0].tries] == ["10.1.1.1:80", "10.1.1.2:80"]
    assert counts.n_unparsed == 0


def test_json_may_also_be_given_as_a_format(tmp_path):
    form = """log_format j escape=json '{"t":"$time_iso8601","r":"$request","s":$status,"u":"$upstream_addr"}';"""
    text = r'{"t":"2026-11-20T23:56:28+00:00","r":"GET /a\"b HTTP/1.1","s":200,"u":""}'
    (entry,), _ = read(tmp_path, text, form)
    assert (entry.target, entry.status, entry.tries) == ('/a"b', 200, ())


def test_what_nginx_escaped_is_what_it_was_before(tmp_path):
    (entry,), _ = read(tmp_path, LINE.replace("/api", r"/a\x22b\x5Cc\xC3\xA9"), LAB)
    assert entry.target == '/a"b\\c\xe9'


def test_any_line_with_a_request_is_read_as_far_as_possible(tmp_path):
    text = (
        'Mar 24 14:02:50 web1 tomcat.log: 127.0.0.1 - - "GET /bad.foo HTTP/1.1" 404 65508 4.386\n'
        'v:443 178.20.184.42 1j0 u [26/Jul/2023:00:01:26 -0700] "GET /a HTTP/2.0" 200 17163 "-" "M" 116075 urt="0.5"\n'
    )
    (first, second), counts = read(tmp_path, text)
    assert (first.ts_ns, first.target, first.status) == (-1, "/bad.foo", 404)
    assert (second.ts_ns, second.status) == (1690354886 * 10**9, 200)
    assert second.tries[0].response_time_ns == 500 * MS
    assert counts.n_unparsed == 0


def test_lines_of_another_format_are_counted_and_shown(tmp_path):
    entries, counts = read(tmp_path, f"{LINE}\nsomething else\n\n{LINE}\n", LAB)
    assert len(entries) == 2
    assert (counts.n_lines, counts.n_unparsed, counts.unparsed) == (4, 1, [(2, "something else")])


def test_a_container_runtimes_prefix_is_taken_off(tmp_path):
    prefix = "2026-11-20T23:56:28.1Z stdout"
    entries, counts = read(tmp_path, f"{prefix} F {LINE}\n{prefix} P {LINE[:50]}\n{prefix} F {LINE[50:]}\n", LAB)
    assert [e.log_conn for e in entries] == [9, 9]
    assert counts.n_unparsed == 0


def test_a_format_without_variables_is_refused(tmp_path):
    with pytest.raises(UsageError, match="without variables"):
        read(tmp_path, LINE, "combinde")
    with pytest.raises(LogError, match="cannot open"):
        read_access_log(str(tmp_path / "missing"))


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=30)


def escaped(text):
    """Return a value as nginx's default escaping writes it (ngx_http_log_escape)."""
    return "".join(f"\\x{b:02X}" if b < 32 or b > 126 or b in b'"\\' else chr(b) for b in text.encode())


@given(
    agent=TEXT,
    target=TEXT.filter(lambda t: " " not in t),
    addrs=st.lists(st.sampled_from(["10.0.0.1:80", "be"]), max_size=4),
)
def test_what_nginx_writes_is_read_back(agent, target, addrs):
    form = compile_format(f'{COMBINED} "$upstream_addr"')
    line = (
        f'1.2.3.4 - - [20/Nov/2026:23:56:28 +0000] "GET /{escaped(target)} HTTP/1.1" 200 1 "-" "{escaped(agent)}" '
        f'"{", ".join(addrs) or "-"}"'
    )
    values = form.match(line)
    assert values is not None
    assert f"GET /{target} HTTP/1.1" in values
    assert ", ".join(addrs) in values


@pytest.mark.parametrize("text", ["a,b", "a,b\nc,d", "x,@", "@timestamp,message\n?"])
def test_names_of_columns_are_those_of_a_table_that_follows(tmp_path, text):
    entries, counts = read(tmp_path, text)
    assert (len(entries), counts.n_unparsed) == (0, 1)


@given(st.text(max_size=200))
@example(text=",@")
def test_any_text_is_read_or_counted(tmp_path, text):
    entries, counts = read(tmp_path, "x" + text.replace("\n", " ").replace("\r", " "))
    assert len(entries) + counts.n_unparsed == counts.n_lines == 1
