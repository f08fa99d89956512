"""Listed fields are shown as far as they fit; what an operator needs of them fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.privacy.fields import FieldPolicy, field_policy, find_in_field, is_known_reason

ORDINARY = [
    ("Server", "nginx/1.22.1"),
    ("Server", "Apache/2.4.41 (Ubuntu) OpenSSL/1.1.1f mod_wsgi/4.9.4"),
    ("Server", "Microsoft-IIS/10.0"),
    ("Server", "gunicorn"),
    ("Server", "Werkzeug/2.3.7 Python/3.11.4"),
    ("User-Agent", "curl/8.5.0"),
    ("User-Agent", "kube-probe/1.27"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    ),
    ("User-Agent", "Go-http-client/1.1"),
    ("X-Powered-By", "PHP/8.1.2-1ubuntu2.14"),
    ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("Expires", "-1"),
    ("Retry-After", "120"),
    ("Content-Length", "12"),
    ("Content-Type", "application/json; charset=utf-8"),
    ("Content-Type", "application/vnd.github.v3+json"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "de-CH,de;q=0.9,en;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Cache-Control", "private, max-age=0, must-revalidate"),
    ("Connection", "keep-alive, Upgrade"),
    ("Keep-Alive", "timeout=5, max=100"),
    ("Transfer-Encoding", "chunked"),
    ("Upgrade", "websocket"),
    ("Via", "1.1 proxy-1.example.test:8080, 1.0 fred (squid/3.5.27)"),
    ("Forwarded", 'for=192.0.2.60;proto=http;by="[2001:db8::1]:80"'),
    ("X-Forwarded-For", "203.0.113.7, 2001:db8::1, 10.0.0.1:4000"),
    ("X-Forwarded-Proto", "https"),
    ("X-Real-IP", "203.0.113.7"),
    ("X-Request-ID", "3f2b8c1e-5d4a-4c3b-9a2f-1e0d9c8b7a6f"),
    ("X-Request-ID", "0123456789abcdef0123456789abcdef"),
    ("X-Cache", "HIT from cache-1.example.test"),
    ("X-Upstream-Addr", "10.0.0.1:80, 10.0.0.2:80"),
    ("X-Upstream-Status", "502, 200"),
    ("X-Response-Time", "12ms"),
    ("Alt-Svc", 'h3=":443"; ma=86400'),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
    ("Range", "bytes=0-1023"),
    ("Content-Range", "bytes 0-1023/2048"),
    ("Allow", "GET, HEAD, OPTIONS"),
    ("Vary", "Accept-Encoding, Origin"),
    ("Location", "/done"),
    ("Referer", "https://a.example.test/orders/7"),
    ("Host", "shop.example.test:8080"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]


@pytest.mark.parametrize(("name", "value"), ORDINARY)
def test_what_an_operator_needs_stays_readable(name, value):
    assert find_in_field(name, value) == []


@pytest.mark.parametrize("name", sorted({name for name, _ in ORDINARY} - {"X-Request-ID"}))
@given(
    secret=st.from_regex(r"q[0-9]{3}Zk[0-9a-f]{12}", fullmatch=True),
    glue=st.sampled_from(["", " ", ",", ";", "; x=", "?t=", "#"]),
)
def test_what_does_not_fit_is_masked(name, secret, glue):
    """Whatever it is appended to, and whatever glues it to that."""
    for value in {value for known, value in ORDINARY if known == name}:
        text = f"{value}{glue}{secret}"
        shown = list(text)
        for found in find_in_field(name, text):
            shown[found.start : found.end] = "*" * (found.end - found.start)
        plain = name in {"Host", "Location", "Referer", "Via", "X-Cache"} and glue in {"", " ", ",", ";"}
        assert len(shown) == len(text)
        assert plain or secret not in "".join(shown)


def test_what_is_not_listed_is_masked_as_a_whole():
    assert field_policy("X-Nobody-Heard-Of-It") is FieldPolicy.MASK
    (found,) = find_in_field("X-Nobody-Heard-Of-It", "1 2")
    assert (found.start, found.end) == (0, 3)


def test_names_of_machines_are_masked_where_they_are_to_be_anonymous():
    assert field_policy("X-Forwarded-For", anonymize=True) is FieldPolicy.MASK
    assert field_policy("Referer", anonymize=True) is FieldPolicy.MASK
    assert field_policy("Host", anonymize=True) is FieldPolicy.KEEP


@pytest.mark.parametrize(
    ("reason", "is_known"), [("OK", True), ("Gateway Time-out", True), ("", True), ("OK t=1", False)]
)
def test_reasons_are_those_that_servers_send(reason, is_known):
    assert is_known_reason(reason) is is_known
