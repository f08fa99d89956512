"""What of free text is secret: lines of logs, configuration, prose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.privacy.redact import Redactor


@pytest.mark.parametrize(
    "text",
    [
        "An idle connection was closed 12 ms after the request (keepalive_timeout 65s): shorten it.",
        "Is it the log of this proxy? Its zone is not known (--log-zone).",
        "upstream prematurely closed connection while reading response header from upstream",
        "SSL_do_handshake() failed (SSL: error:0A000086:SSL routines::certificate verify failed) while SSL handshaking",
        'open() "/usr/share/nginx/html/a b.txt" failed (2: No such file or directory)',
        "2023/11/14 22:13:24 [error] 7#7: *1 connect() failed (111: Connection refused), client: 10.0.0.1",
        'proxy_set_header Connection ""; keepalive 32; max_fails=3 fail_timeout=10s',
        "proxy_set_header Authorization $http_authorization;",
        "basic settings, and digest of the day",
        "request_id=0123456789abcdef0123456789abcdef status=502 rt=0.005 host=shop.example.test:80",
        "1:LQU9qZlK+B5F3KDmev6m5PMibrg=@1700000000000000000 was reset",
        "/data/date=2026-01-01/proxy.pcap, frame 12",
    ],
)
def test_what_is_no_secret_stays(text):
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc", "Authorization: ***"),
        ('{"authorization": "Bearer abcdef", "status": 1}', '{"authorization": "***", "status": 1}'),
        ("password='a b c' x", "password='***' x"),
        ("sid=1; theme=dark", "sid=***; theme=dark"),
        ('request: "GET /a b?t=c d HTTP/1.1"', 'request: "GET /a b?t=*** HTTP/1.1"'),
        ('"https://a.example/#t=x"', '"https://a.example/#t=***"'),
        ("see https://u:p@h.example/x", "see https://***@h.example/x"),
        ('proxy_set_header X-Api-Key "abc";', "proxy_set_header X-Api-Key ***;"),
        ("fastcgi_param DB_PASSWORD abc;", "fastcgi_param DB_PASSWORD ***;"),
        ("id a1b2c3 v=Zk93kd82Lq0", "id a1b2c3 v=***"),
        ("AUTH hunter2", "AUTH ***"),
        ('header line: "X-A: b"', 'header line: "X-A: ***"'),
        ("token%3Dabc%20def end", "token%3D*** end"),
    ],
)
def test_what_is_a_secret_is_masked(text, shown):
    assert Redactor().text(text) == shown


@given(st.text(max_size=120))
def test_masking_twice_is_masking_once(text):
    once = Redactor().text(text)
    assert Redactor().text(once) == once


def test_what_was_masked_is_counted_once_and_not_again():
    redactor = Redactor()
    once = redactor.text("token=abc and token=def")
    assert redactor.counts == (("value in a log line", "token", 2),)
    redactor.text(once)
    assert redactor.counts == (("value in a log line", "token", 2),)


def test_a_secret_does_not_become_the_name_of_what_was_masked():
    redactor = Redactor()
    redactor.target("/x?c2VjcmV0a2V5=1&a1b2c3d4=2")
    assert [name for _, name, _ in redactor.counts] == [""]
