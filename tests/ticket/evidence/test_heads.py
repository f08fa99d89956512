"""Heads keep their length, their structure and what is harmless; nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.privacy.redact import Redactor
from pcapdiag.ticket.evidence.heads import MAX_HEAD_BYTES, find_end, mask_head
from tests.ticket.evidence.scenes import REQUEST, RESPONSE, SECRETS

TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
NAME = st.from_regex(r"[A-Za-z]{1,10}(-[A-Za-z]{1,9}[0-9]{0,2}){0,2}", fullmatch=True)


def masked(text, *, is_request=True, anonymize=False):
    head = mask_head(text.encode("latin-1"), Redactor(), is_request=is_request, anonymize=anonymize)
    return head.data.decode("latin-1")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Host: a.example", "Host: a.example"),
        ("Host: user:pw@a.example", "Host: *******@a.example"),
        ("Content-Length: 12", "Content-Length: 12"),
        ("content-length:12", "content-length:12"),
        ("Authorization: Basic abcd", "Authorization: **********"),
        ("Proxy-Authorization:x", "Proxy-Authorization:*"),
        ("Cookie: a=b; c=d", "Cookie: ********"),
        ("X-Api-Key: 1", "X-Api-Key: *"),
        ("X-Nobody-Heard-Of-It: 1 2", "X-Nobody-Heard-Of-It: ***"),
        ("Cookie:", "Cookie:"),
        ("Referer: https://u:p@a.example/x?k=v&w", "Referer: https://***@a.example/x?k=*&*"),
        ("Via: 1.1 Bearer abcdefgh", "Via: *******************"),
        ("User-Agent: curl/8", "User-Agent: curl/8"),
        ("no field at all", "***************"),
        ("Bad Name: 1", "***********"),
        (" folded", "*******"),
        ("\tfolded", "*******"),
    ],
)
def test_a_field_is_kept_masked_or_looked_into(line, shown):
    assert masked(f"GET / HTTP/1.1\r\nAccept: */*\r\n{line}\r\n\r\n") == (
        f"GET / HTTP/1.1\r\nAccept: */*\r\n{shown}\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("GET /a?b=c HTTP/1.1", "GET /a?b=* HTTP/1.1"),
        ("GET http://u:p@h/a;jsessionid=42?b HTTP/1.0", "GET http://***@h/a;jsessionid=**?* HTTP/1.0"),
        ("CONNECT u:p@h:443 HTTP/1.1", "CONNECT ***@h:443 HTTP/1.1"),
    ],
)
def test_a_target_keeps_its_keys_and_its_length(line, shown):
    assert masked(f"{line}\r\n\r\n") == f"{shown}\r\n\r\n"


@pytest.mark.parametrize(
    "line", ["", "\x16\x03\x01", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2", "HTTP/1.1 200 OK", "GET /", "G"]
)
def test_what_does_not_begin_like_a_request_is_not_kept(line):
    head = mask_head(line.encode("latin-1"), Redactor(), is_request=True)
    assert head.data.strip(b"\r\n") == b""


def test_empty_lines_before_a_request_are_kept():
    assert masked("\r\n\r\nGET / HTTP/1.1\r\nCookie: a\r\n\r\n") == "\r\n\r\nGET / HTTP/1.1\r\nCookie: *\r\n\r\n"


def test_the_end_of_a_head_that_was_cut_is_masked():
    assert (
        masked("GET / HTTP/1.1\r\nHost: a.example\r\nAccept: tex") == "GET / HTTP/1.1\r\nHost: a.example\r\n***********"
    )


def test_a_head_that_no_server_accepts_is_not_kept():
    assert masked("GET / HTTP/1.1\r\nAccept: " + "a" * MAX_HEAD_BYTES + "\r\n\r\n") == ""


def test_a_long_reason_is_masked():
    shown = masked("HTTP/1.1 500 " + "x" * 100 + "\r\n\r\n", is_request=False)
    assert shown == "HTTP/1.1 500 " + "*" * 100 + "\r\n\r\n"


@pytest.mark.parametrize(("status", "is_interim"), [(100, True), (103, True), (101, False), (200, False)])
def test_an_interim_response_is_followed_by_another_head(status, is_interim):
    head = mask_head(f"HTTP/1.1 {status} x\r\n\r\n".encode(), Redactor(), is_request=False)
    assert (head.is_whole, head.is_interim) == (True, is_interim)


def test_values_that_name_machines_are_kept_back_only_where_they_must_be():
    text = "GET / HTTP/1.1\r\nX-Forwarded-For: 10.1.2.3\r\nHost: a\r\n\r\n"
    assert masked(text) == text
    assert masked(text, anonymize=True) == "GET / HTTP/1.1\r\nX-Forwarded-For: ********\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(("message", "is_request"), [(REQUEST, True), (RESPONSE, False)])
def test_no_secret_survives_wherever_the_head_is_cut(message, is_request):
    end = find_end(message)
    for stop in range(end + 1):
        shown = mask_head(message[:stop], Redactor(), is_request=is_request).data
        assert len(shown) in {0, stop}
        assert not any(secret[:6].encode() in shown for secret in SECRETS)


@given(st.lists(st.tuples(NAME, TEXT), max_size=6), TEXT, st.booleans())
def test_only_fields_that_are_known_are_shown(fields, secret, is_known):
    name = "Accept" if is_known else "X-Q"
    text = "".join(f"{n}: {v}\r\n" for n, v in [*fields, (name, secret)])
    shown = masked(f"GET / HTTP/1.1\r\n{text}\r\n")
    assert len(shown) == len(f"GET / HTTP/1.1\r\n{text}\r\n")
    assert [line.partition(":")[0] for line in shown.split("\r\n")] == [
        line.partition(":")[0] for line in f"GET / HTTP/1.1\r\n{text}\r\n".split("\r\n")
    ]
    if not is_known:
        assert shown.split("\r\n")[-3] == f"X-Q: {'*' * len(secret)}"


@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_a_head_of_any_bytes_keeps_its_length_or_goes(data, is_request, anonymize):
    shown = mask_head(data, Redactor(), is_request=is_request, anonymize=anonymize).data
    assert len(shown) in {0, len(data)}


@given(st.binary(max_size=200))
def test_the_end_is_found_wherever_the_search_begins_before_it(data):
    end = find_end(data)
    assert end == (find_end(data, max(end - 4, 0)) if end >= 0 else -1)
