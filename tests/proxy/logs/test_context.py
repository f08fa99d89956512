"""The context behind a message, whatever clients put into it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.logs.context import parse_context, split_request, split_upstream

BASE = ', client: 192.0.2.2, server: s, request: "GET {} HTTP/1.1", upstream: "http://10.1.1.1:80{}", host: "{}"'


def test_quotes_that_nothing_escapes_stay_in_their_field():
    target = '/a"b", host: "evil'
    got = parse_context(
        BASE.format(target.replace(" ", ""), '/a"b', 'h"') + ', referrer: "r"s", upstream: "http://evil/"'
    )
    assert got.request == 'GET /a"b",host:"evil HTTP/1.1'
    assert (got.upstream, got.host) == ('http://10.1.1.1:80/a"b', 'h"')
    assert got.referrer.startswith('r"s')


def test_a_fake_upstream_in_a_target_with_spaces_does_not_count():
    got = parse_context(BASE.format('/", upstream: "http://evil/', "/x", "h"))
    assert got.upstream == "http://10.1.1.1:80/x"


def test_unknown_pairs_at_the_end_are_kept():
    got = parse_context(BASE.format("/", "/", "h") + ', referrer: "r", request_id: "ab12", ctx: "c d"')
    assert got.extra == (("request_id", "ab12"), ("ctx", "c d"))
    assert (got.host, got.referrer) == ("h", "r")


def test_a_stream_session_has_bytes_instead_of_a_request():
    text = (
        ', udp client: 192.0.2.2, server: 0.0.0.0:53, upstream: "10.0.0.1:53", bytes from/to client:30/0, '
        "bytes from/to upstream:0/30"
    )
    got = parse_context(text)
    assert (got.client, got.server, got.upstream) == ("192.0.2.2", "0.0.0.0:53", "10.0.0.1:53")
    assert got.extra == (("bytes from/to client", "30/0"), ("bytes from/to upstream", "0/30"))


def test_every_field_is_read():
    text = (
        ', client: unix:, server: ~^(a,b)$, request: "GET / HTTP/1.1", subrequest: "/auth", upstream: '
        '"http://unix:/run/a.sock:/auth", host: "h", referrer: "r"'
    )
    assert parse_context(text) == (
        *("unix:", "~^(a,b)$", "GET / HTTP/1.1", "/auth", "http://unix:/run/a.sock:/auth", "h", "r"),
        (),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://10.1.1.1:80/api", ("http", "10.1.1.1:80", "/api")),
        ("https://[2001:db8::1]:443/a?u=http://x/", ("https", "[2001:db8::1]:443", "/a?u=http://x/")),
        ("http://unix:/run/app.sock:/a:b", ("http", "unix:/run/app.sock", "/a:b")),
        ("fastcgi://127.0.0.1:9000", ("fastcgi", "127.0.0.1:9000", "")),
        ("fastcgi://unix:/run/php.sock:", ("fastcgi", "unix:/run/php.sock", "")),
        ("grpc://be/pkg.S/M", ("grpc", "be", "/pkg.S/M")),
        ("http://be/api", ("http", "be", "/api")),
        ("10.0.0.1:53", ("", "10.0.0.1:53", "")),
        ("unix:/run/x.sock", ("", "unix:/run/x.sock", "")),
        ("http://10.1.1.1:80?a=1", ("http", "10.1.1.1:80", "?a=1")),
    ],
)
def test_an_upstream_is_schema_peer_and_uri(text, expected):
    assert split_upstream(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /api HTTP/1.1", ("GET", "/api", "HTTP/1.1")),
        ("GET /a b HTTP/1.0", ("GET", "/a b", "HTTP/1.0")),
        ("GET /", ("GET", "/", "")),
        ("GET /cut HT", ("GET", "/cut HT", "")),
        ("\\x16\\x03\\x01", ("\\x16\\x03\\x01", "", "")),
        ("/only", ("", "/only", "")),
        ("", ("", "", "")),
    ],
)
def test_a_request_line_is_method_target_and_protocol(text, expected):
    assert split_request(text) == expected


@pytest.mark.parametrize(
    "piece", ['", upstream: "', '", a: "', ", client: ", ' HTTP/1.1"', '"', '", request: "', ", server: "]
)
def test_a_context_of_nothing_but_delimiters_comes_to_an_end(piece):
    got = parse_context(', client: c, server: s, request: "' + piece * 6000)
    assert (got.client, got.server) == ("c", "s")


FIELD = st.text(st.characters(codec="utf-8", exclude_characters='"\n\r,'), max_size=20)


@given(FIELD, FIELD, FIELD, FIELD.filter(lambda t: " " not in t))
def test_fields_without_quotes_are_read_exactly(host, referrer, extra, target):
    text = BASE.format(target, f"/{target}", host) + f', referrer: "{referrer}", request_id: "{extra}"'
    got = parse_context(text)
    assert (got.request, got.upstream) == (f"GET {target} HTTP/1.1", f"http://10.1.1.1:80/{target}")
    assert (got.host, got.referrer, got.extra) == (host, referrer, (("request_id", extra),))


@given(st.text(alphabet='", :clientserverqupstamhofx/1\n', max_size=120))
def test_any_text_is_a_context(text):
    assert len(parse_context(", client: " + text)) == 8
