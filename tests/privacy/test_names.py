"""What may stand as a name or a word, and what no word looks like."""

import pytest

from pcapdiag.privacy.names import KNOWN_TOKEN, is_name, is_opaque, is_plain_word, is_telling, is_telling_segment


@pytest.mark.parametrize(
    "name", ["user_id", "filter[0][name]", "X-Api-Key", "utf8", "a", "utm_source", "q1", "$arg_x"[1:]]
)
def test_what_people_call_parameters_is_a_name(name):
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["c2VjcmV0", "a1b2c3", "x" * 65, "", "a b", "eyJhbGciOiJIUzI1NiJ9", "a=b", "d41d8cd98f"]
)
def test_what_a_token_looks_like_is_no_name(name):
    assert not is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "sid",
        "PHPSESSID",
        "JSESSIONID",
        "api_key",
        "client_secret",
        "DB_PASSWORD",
        "X-CSRF-Token",
        "sig",
        "code",
    ],
)
def test_names_that_tell_of_a_secret(name):
    assert is_telling(name)


@pytest.mark.parametrize(
    "name", ["client", "keepalive", "upstream", "status_code", "monkey", "keepalive_requests", "encode", "assign"]
)
def test_names_that_tell_of_none(name):
    assert not is_telling(name)


@pytest.mark.parametrize(
    ("segment", "is_telling_one"),
    [("token", True), ("reset-password", True), ("orders", False), ("x" * 70 + "token", False)],
)
def test_segments_that_announce_a_secret(segment, is_telling_one):
    assert is_telling_segment(segment) is is_telling_one


@pytest.mark.parametrize(
    ("text", "is_it"),
    [
        ("3f2b8c1e-5d4a-4c3b-9a2f-1e0d9c8b7a6f", False),
        ("10-ways-to-improve-your-nginx-config-2023", False),
        ("507f1f77bcf86cd799439011", False),
        ("internationalization", False),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", False),
        ("dGhpcyBpcyBhIHNlY3JldA1", True),
        ("9b74c9897bac770ffc029102a200c5de", True),
    ],
)
def test_what_nobody_would_write_by_hand(text, is_it):
    assert is_opaque(text) is is_it


@pytest.mark.parametrize("text", ["refresh", "introspect", "v2", "12345", "sign-in", ""])
def test_words_are_plain(text):
    assert is_plain_word(text)


@pytest.mark.parametrize("text", ["a1b2c3", "3f2b8c1e", "abcdefghijklmnopqrstuvwxyz"])
def test_tokens_are_not_plain(text):
    assert not is_plain_word(text)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("x eyJhbGciOiJIUzI1NiJ9.e30.abc y", "eyJhbGciOiJIUzI1NiJ9.e30.abc"),
        ("/ghp_0123456789abcdef0123/", "ghp_0123456789abcdef0123"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("xoxb-1234567890-abc", "xoxb-1234567890-abc"),
    ],
)
def test_tokens_say_what_they_are(text, secret):
    assert KNOWN_TOKEN.search(text)["secret"] == secret
