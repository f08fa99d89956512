"""Client and server, where nothing says that a proxy stands here."""

import pytest

from pcapdiag.api.analyze import analyze
from pcapdiag.base.findings import Severity
from pcapdiag.report.headline import headline
from pcapdiag.report.render.terminal import render
from pcapdiag.report.sides import in_plain_words
from tests.scenario import parse, write_capture

RACE = r"""
+0    @0 > S
+0.05 @0 < S.
+0    @0 > .
+0    @0 > P. "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n"
+0.05 @0 < P. "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
+0    @0 > .
+4    @0 > P. "GET /b HTTP/1.1\r\nHost: a.test{more}\r\n\r\n"
+0.01 @0 < F. 39:39(0) ack 35
+0.01 @0 > .
+0.05 @0 < R. 40:40(0)
"""


def report_of(tmp_path, more="", **inputs):
    path = tmp_path / "capture.pcap"
    path.write_bytes(write_capture(parse(RACE.replace("{more}", more))))
    return analyze(path, **inputs).report


def texts(report):
    text = "\n".join(render(report, width=200).split("\n"))
    return text.partition("Remedy")[0] + text.partition("What would have refuted it")[2]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("the proxy's FIN at the upstream, by upstreams", "the client's FIN at the server, by servers"),
        ("an upstream closed; a proxy waited.", "a server closed; a client waited."),
        ("Upstreams and a reverse proxy", "Servers and a client"),
        ("between proxy and upstream", "between client and server"),
        ("proxy_read_timeout, $upstream_addr, --upstream-capture, --proxy", None),
        ("in the upstream block of 10.0.0.1:80", None),
        ("PD204 slow-upstream, PD206 proxy-abort", None),
        ("proxy.pcap, /etc/proxy/nginx.conf, proxy.example.com, http://upstream:80/", None),
    ],
)
def test_only_words_of_prose_give_way(text, plain):
    assert in_plain_words(text) == (plain or text)


def test_one_leg_alone_has_a_client_and_a_server(tmp_path):
    report = report_of(tmp_path)
    assert not report.has_proxy
    assert [f.severity for f in report.findings] == [Severity.ERROR]
    said = texts(report)
    assert "proxy 10.9.0.100" not in said
    assert "client 10.9.0.100" in said
    assert " the proxy" not in said.replace("whether a proxy", "")
    assert "upstream" not in headline(report)


@pytest.mark.parametrize("inputs", [{"proxies": ["10.9.0.100"]}, {"upstreams": ["10.9.0.1:80"]}])
def test_what_the_operator_names_is_a_proxy(tmp_path, inputs):
    report = report_of(tmp_path, **inputs)
    assert report.has_proxy
    assert "proxy 10.9.0.100" in texts(report)


def test_a_request_that_carries_an_identifier_went_through_a_proxy(tmp_path):
    assert report_of(tmp_path, more=r"\r\nX-Request-Id: 7f7f").has_proxy
