"""What of a target, a URL or a host is secret; and how long it takes to know."""

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.privacy.redact import Redactor

PLAIN = [
    "/",
    "/api/v1/users/42",
    "/orders/3f2b8c1e-5d4a-4c3b-9a2f-1e0d9c8b7a6f/items",
    "/static/app.3f9a8b7c.js",
    "/@alice/post",
    "/mail/a@b.example",
    "/api/token/refresh",
    "/oauth/token",
    "/v1/users:batchGet",
    "/caf%C3%A9/%E6%97%A5",
    "http://10.1.1.1:80/a/b",
    "fastcgi://unix:/run/php-fpm.sock:",
    "http://unix:/run/app.sock:/x",
    "http://[2001:db8::1]:8080/x",
    "shop.example.test:443",
    "*",
]


@pytest.mark.parametrize("target", PLAIN)
def test_what_holds_no_secret_stays_readable(target):
    assert Redactor().target(target) == target


@pytest.mark.parametrize(
    ("target", "redacted"),
    [
        ("/x#access_token=s3&state=1", "/x#access_token=***&state=***"),
        ("/x?a=1#t=s3", "/x?a=***"),
        ("/x?c2VjcmV0Cg==", "/x?***"),
        ("/x?SGVsbG9Xb3JsZA=", "/x?***"),
        ("/x?name=", "/x?name="),
        ("/token=s3cr3t/x", "/token=***/x"),
        ("/a;jsessionid=A1/b", "/a;jsessionid=***/b"),
        ("/a%3Bjsessionid%3DA1/b", "/a%3Bjsessionid%3D***/b"),
        ("/a%253Fapi_key%253DA1", "/a%253Fapi_key%253D***"),
        ("/reset/a1b2c3d4", "/reset/***"),
        ("/x/eyJhbGciOiJIUzI1NiJ9.e30.abc/y", "/x/***/y"),
        ("/go/https:/u:p@h/x", "/go/https:/***@h/x"),
        ("/go/https:u:p@h/x", "/go/***@h/x"),
        ("/go/https://u:p/q@h/x", "/go/https://***@h/x"),
        ("/go/https%3A%2F%2Fu%3Ap%40h/x", "/go/https%3A%2F%2F***%40h/x"),
        ("https://u:p?w@h.example/x", "https://***?***"),
    ],
)
def test_what_is_secret_is_masked_and_what_names_it_stays(target, redacted):
    assert Redactor().target(target) == redacted


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("shop.example.test:8080", "shop.example.test:8080"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("10.1.1.1", "10.1.1.1"),
        ("u:p@shop.example.test", "***@shop.example.test"),
        ("shop.example.test?token=a", "shop.example.test***"),
        ("shop.example.test:s3cr3t", "***"),
        ("u%3Ap%40shop.example.test", "***"),
        ("", ""),
    ],
)
def test_of_a_host_name_and_port_stay(host, shown):
    assert Redactor().field("host", host) == shown


@given(
    st.text(max_size=60), st.text(st.characters(categories=["Ll", "Lu"], max_codepoint=0x7E), min_size=12, max_size=20)
)
def test_whatever_stands_before_a_value_of_a_query_or_a_fragment_it_is_masked(before, secret):
    for mark in "?#":
        shown = Redactor().target(f"/{before}{mark}key={secret}")
        assert secret not in shown.removeprefix(f"/{before}")
        assert secret not in Redactor().target(f"/{before}{quote(f'{mark}key={secret}', safe='')}").removeprefix(
            f"/{before}"
        )


REPEATED = [
    *("/", "//", ":/", "https:", "@", "//@", "a@", "%25", "%", "eyJ", "-eyJaaaaaaaa", "=", ";=", "a=b;", "?", "#", "."),
    *("a.", "http://a", "SG.", "\\x", "A1b2", "token=", "token/", "u:p@"),
]


@pytest.mark.parametrize("unit", REPEATED)
def test_time_grows_no_faster_than_the_target(unit):
    """A quarter of a million bytes; anything quadratic would take minutes."""
    text = (unit * (1 << 18))[: 1 << 18]
    start = time.process_time()
    Redactor().target(text)
    Redactor().text(text)
    Redactor().field("host", text)
    assert time.process_time() - start < 20
