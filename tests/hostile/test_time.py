"""No line, and no configuration, chooses how long it takes: sixteen times as much takes some sixteen times as long.

What is compared is the time of the processor that the same code takes for little and for much; both are asked several
times. What grows with the square would take 256 times as long, and a machine that is busy makes both slower.
"""

import time
from functools import partial

import pytest

from pcapdiag.base.errors import PcapdiagError
from pcapdiag.privacy.anonymize import KEY_BYTES, Anonymizer
from pcapdiag.privacy.redact import Redactor
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.join.places import CaptureSpan
from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.error_log import read_error_log
from pcapdiag.proxy.logs.foreign import FOREIGN_LOGS, ForeignLog, read_failures, recognise_log
from pcapdiag.proxy.logs.upstream_log import read_upstream_log
from pcapdiag.report.render import jira, markdown, slack
from pcapdiag.report.summary import _NUMBER
from tests.proxy.join.builders import MS, PEER, T0, access, entry, wire

MORE = 16
MOST = 80
LEAST_S = 0.004
"""[s] What is quicker than this says nothing of how it grows."""


def cpu_s(work):
    """Return the least time of the processor that some calls took."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def assert_grows_with_its_size(work_of, n):
    little, much = cpu_s(work_of(n)), cpu_s(work_of(MORE * n))
    assert much < MOST * max(little, LEAST_S)


PIECES = {
    "stars": "*1 a",
    "heads without dates": "1#1: *1 a ",
    "heads": "2026/11/20 23:55:43 [error] 1#1: *1 a ",
    "quotes": '"',
    "quotes and stars": '" *1 ab',
    "contexts": ", client: ",
    "servers": ", server: ",
    "requests": ', request: "',
    "upstreams": ', upstream: "',
    "referrers": '", referrer: "',
    "whole contexts": ', client: a, server: b, request: "c", ',
    "brackets": "(1: (",
    "actions": " while ",
    "ends of requests": ' HTTP/1.1"',
    "pairs": 'aa="',
    "pairs in other quotes": "aa='",
    "bare pairs": "aa=b ",
    "request lines": "GET /a ",
    "quoted request lines": '"GET ',
    "targets": " /a",
    "addresses": "1.1.1.1",
    "colons": "::",
    "ids": "aaaaaaaa-aaaa-",
    "colours": "\x1b[m",
    "digits": "1",
    "records of Fluent Bit": '[0] a: [1, {"log"=>"',
    "pairs of rubydebug": '"a" => "',
    "messages": "client closed recv() upstream ",
    "objects": '{"a":',
    "arrays": "[",
    "wrapped": '{"log":"',
    "objects behind words": ' {"a',
    "fields": '","',
    "fields of objects": ',"{""a"":""',
    "members": '"log": "a", ',
    "records in strings": '"2026/11/20 23:55:43 [error] 1#1: *1 a", ',
    "escaped quotes": '\\"',
    "words": "it said that ",
    "levels": "ERROR a ",
    "tags": "2026-11-20T23:55:43Z a b: ",
    "access records": "1.1.1.1 - - [20/Nov/2026:23:55:43 +0000] ",
    "entities": "&quot;",
    "pods": "[pod/a] ",
    "pipes": "a | ",
    "times": "2026-11-20T23:55:43Z ",
    "blanks": " ",
    "zeros": "\0",
    "carriage returns": "\r",
}


OF_OTHERS = {
    "a word": "a",
    "words": "a ",
    "numbers": "1/",
    "quotes": '" ',
    "brackets": "[1] ",
    "statuses": "(1)a: ",
    "clients": "[client a] ",
    "codes": "AH01102: remote server ",
    "flags": "UC,",
    "objects": '{"a":',
}


@pytest.mark.parametrize("read", [read_error_log, read_access_log, read_upstream_log, recognise_log])
def test_a_line_of_a_log_takes_time_of_its_length(read, tmp_path):
    log = tmp_path / "x.log"

    def work_of(piece):
        def of_size(n):
            def work():
                text = (piece * (n // len(piece) + 1))[:n]
                log.write_text(f"2026/11/20 23:55:43 [error] 1#1: *1 {text}\n{text}\n1.2.3.4 - {text}\n")
                found = read(str(log))
                return sum(1 for _ in found) if hasattr(found, "__iter__") else found

            return work

        return of_size

    for piece in PIECES.values():
        assert_grows_with_its_size(work_of(piece), 4096)


@pytest.mark.parametrize("known", FOREIGN_LOGS, ids=lambda known: known.proxy)
def test_a_line_of_another_proxys_log_takes_time_of_its_length(known, tmp_path):
    log = tmp_path / "x.log"
    sample = known.kinds[0].sample

    def work_of(piece):
        def of_size(n):
            text = (piece * (n // len(piece) + 1))[:n]
            lines = (f"{sample[:at]}{text}{sample[at:]}" for at in range(0, len(sample), 17))
            log.write_text("\n".join(lines))
            return lambda: sum(1 for _ in read_failures(ForeignLog(str(log), known), {}))

        return of_size

    for piece in OF_OTHERS.values():
        assert_grows_with_its_size(work_of(piece), 512)


LINES = {
    "empty": "\n",
    "records and nothing": "2026/11/20 23:55:43 [error] 1#1: *1 a\n\n",
    "records that go on": "a\n",
    "parts of lines": "2026-11-20T23:55:43.1Z stdout P x\n",
    "parts in objects": '{"log":"' + "x" * 16000 + '","stream":"stdout","time":"2026-11-20T23:55:43Z"}\n',
}


@pytest.mark.parametrize("name", LINES)
def test_lines_that_go_on_take_time_of_their_number(name, tmp_path):
    log = tmp_path / "x.log"

    def of_size(n):
        log.write_text("2026/11/20 23:55:43 [error] 1#1: *1 a\n" + LINES[name] * (n // (1 + len(LINES[name]) // 100)))
        return lambda: [sum(1 for _ in read(str(log))) for read in (read_error_log, read_access_log)]

    assert_grows_with_its_size(of_size, 2000)


CONFIGURATIONS = {
    "includes": lambda n: "http {" + "".join(f"include a{i}.conf;\n" for i in range(n)) + "}",
    "includes with stars": lambda n: "http {" + "".join(f"include a{i}*.conf;\n" for i in range(n)) + "}",
    "arguments": lambda n: "http { server { server_name " + "a " * n + ";}}",
    "one word": lambda n: "http { a " + "a" * n * 20 + ";}",
    "escapes": lambda n: 'http { a "' + '\\"' * n * 10 + '";}',
    "blocks in blocks": lambda n: "a {" * n + "}" * n,
    "braces": lambda n: "a" + "{" * n,
    "Lua": lambda n: "http { content_by_lua_block {" + '{ "a" } -- x\n' * n + "} }",
    "Lua that does not end": lambda n: "http { content_by_lua_block {" + "{" * n,
    "locations": lambda n: (
        "http{server{" + "".join(f"location /{i} {{proxy_pass http://a;}}\n" for i in range(n)) + "}}"
    ),
    "upstreams": lambda n: "http {" + "".join(f"upstream u{i} {{server 10.0.0.1;}}\n" for i in range(n)) + "}",
    "servers": lambda n: "http { upstream u {" + "".join(f"server 10.0.0.1:{i};\n" for i in range(n)) + "}}",
    "sections of HAProxy": lambda n: (
        "defaults\n  mode http\n" * (n // 4) + "backend b\n  server s 1.1.1.1:1\n" * (n // 4)
    ),
    "servers of HAProxy": lambda n: "backend b\n  mode http\n" + "  server s a:80 pool-max-conn 1\n" * (n // 4),
    "words of HAProxy": lambda n: "backend b\n  mode http\n  server s a:80 " + "pool-max-conn " * n,
    "upstreams of httpd": lambda n: "LoadModule a b\n" + "ProxyPass / http://a/ ttl=1\n" * (n // 4),
    "balancers of httpd": lambda n: (
        "LoadModule a b\nProxyPass / http://a/\n" + "<Proxy balancer://a>\nProxySet a=b\n" * (n // 4)
    ),
    "a line of httpd": lambda n: "LoadModule a b\nProxyPass / http://a/\n" + "ProxyPass a=b \\\n" * n,
    "a section of HAProxy": lambda n: "global" + " " * n * 20 + "{}\n",
    "a value of Kong": lambda n: "proxy_listen = a\nb = " + (" " * 50 + "x") * n + "\n",
    "a comment of Kong": lambda n: "proxy_listen = a\nb = " + "\\#" * n * 20 + "\n",
    "sections of a dump": lambda n: "".join(f"# configuration file /etc/{i}.conf:\nhttp {{}}\n" for i in range(n)),
    "heads of a dump": lambda n: "# configuration file /a:" + ": " * n * 10 + "x\n",
    "brackets of YAML": lambda n: "a: " + "[" * n,
    "lines of brackets of YAML": lambda n: "a:\n" + "  - [[[[[]]]]]\n" * (n // 8),
    "proxies of a Caddyfile": lambda n: "a {\n" + "reverse_proxy b:1-65535\n" * (n // 8) + "}\n",
    "blocks of a Caddyfile": lambda n: "reverse_proxy b:1\n" + "a {\n" * n,
    "snippets of a Caddyfile": lambda n: (
        "reverse_proxy b:1\n" + "".join(f"(s{i}) {{\nimport s{i + 1}\nimport s{i + 1}\n}}\n" for i in range(n // 8))
    ),
    "clusters of Envoy": lambda n: "static_resources: {clusters: [" + "{name: a, type: EDS}, " * (n // 8) + "]}",
    "routes of Envoy": lambda n: (
        "static_resources:\n  virtual_hosts:\n  - routes:\n"
        + "".join(f"    - route: {{cluster: a, timeout: {i}s}}\n" for i in range(n // 16))
        + "  clusters:\n  - name: a\n    load_assignment:\n"
        + "    - socket_address: {address: a, port_value: 1}\n" * (n // 16)
    ),
    "aliases of Envoy": lambda n: (
        "static_resources:\n  a0: &a0 {b: c}\n"
        + "".join(f"  a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, n // 8))
    ),
    "transports of Traefik": lambda n: (
        "http:\n  services:\n"
        + "".join(
            f"    s{i}: {{loadBalancer: {{serversTransport: t-{i}, servers: [{{url: 'http://a'}}]}}}}\n"
            for i in range(n // 16)
        )
        + "  serversTransports:\n"
        + "".join(f"    x-t{i}: {{}}\n" for i in range(n // 16))
    ),
    "tables of TOML": lambda n: "[http.services.a.loadBalancer]\n" + "[[http.services.b]]\nurl = 1\n" * n,
    "entries of YAML": lambda n: "services:\n" + "  - name: a\n" * (n // 8),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_takes_time_of_its_length(name, tmp_path):
    conf = tmp_path / "proxy.conf"

    def of_size(n):
        def work():
            conf.write_text(CONFIGURATIONS[name](n))
            try:
                read_proxy_conf(conf)
            except PcapdiagError as refused:
                return refused
            return None

        return work

    assert_grows_with_its_size(of_size, 250)


def test_a_folder_of_many_files_is_looked_through_a_bounded_number_of_times(tmp_path):
    """Each include with a star looks at all names; a hundred times as many includes look no more often."""
    for i in range(300):
        (tmp_path / f"{i}.conf").write_text("gzip on;\n")

    def of_size(n):
        (tmp_path / "nginx.conf").write_text("".join(f"include [0-9]*{i}x.conf;\n" for i in range(n)))
        return lambda: read_proxy_conf(tmp_path / "nginx.conf")

    assert_grows_with_its_size(of_size, 400)
    assert [note.text for note in read_proxy_conf(tmp_path / "nginx.conf").notes][-1].startswith("include [0-9]*201x")


MARKUP = {
    "hexadecimal digits": "a",
    "colons": "::",
    "groups": "a:",
    "groups of four": "1:aaaa",
    "dots": ".",
    "brackets": "[",
    "closing brackets": "]",
    "underscores": "_",
    "stars": "*",
    "back-quotes": "`",
    "back-quotes and text": "`a",
    "backslashes": "\\",
    "keys of issues": "A_",
    "keys with dashes": "AA-",
    "mentions": "@a",
    "entities": "&amp",
    "addresses of pages": "http://a",
    "names": "a-b.c-",
    "words of hosts": "a.a",
    "addresses": "1.1.1.1.",
    "other addresses": "0300.",
    "hexadecimal addresses": "0x1.",
    "numbers": "12345678 ",
    "users": "a:a@",
    "percent signs": "%25",
    "escapes": "\\x61",
    "quotations": '"GET /',
    "fields": "a: ",
    "pairs": "a=b;",
    "tokens": "/token/",
    "JSON Web Tokens": "eyJ.",
    "schemes": "Bearer ",
    "homes": "/home/",
    "hardware": "ff:",
    "identifiers": "1:a=@",
}
WRITERS = {
    "markdown": markdown.prose,
    "code": markdown.code_span,
    "jira": jira.wiki_text,
    "slack": slack.mrkdwn_text,
    "numbers": partial(_NUMBER.sub, "0"),
    "masked": lambda text: Redactor().text(text),
    "masked target": lambda text: Redactor().target("/" + text),
    "anonymous": lambda text: Anonymizer(bytes(KEY_BYTES)).text(text),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_leaves_takes_time_of_its_length(name):
    write = WRITERS[name]
    for piece in MARKUP.values():
        for end in ("", "!"):
            assert_grows_with_its_size(lambda n, p=piece, e=end: lambda: write((p * n)[:n] + e), 1024)


@pytest.mark.parametrize("kind", ["one second", "a minute", pytest.param("with an access log", marks=pytest.mark.long)])
def test_a_flood_with_a_log_takes_time_of_its_entries_and_failures(kind):
    """Each of the entries may be each of the failures: sixteen times as much are 256 times as many pairs."""

    def of_size(n):
        each = 60_000 / n if kind == "a minute" else 500 / n
        wires = [wire(int(k * each), conn=k) for k in range(n)]
        entries = [entry(int(k * each * 4) // 1000, line=k + 1, conn=k) for k in range(n // 4)]
        lines = [access(int(k * each * 4) + 100, (PEER, 502, 100), conn=k, status=502) for k in range(n // 4)]
        span = CaptureSpan(T0, T0 + 70_000 * MS, frozenset({PEER}))
        return lambda: join_logs(wires, span, entries, lines if kind == "with an access log" else ())

    # The access log's clock is estimated from samples: of few lines from all pairs, of more from no more pairs.
    assert_grows_with_its_size(of_size, 400 if kind == "with an access log" else 100)
