"""Hostile text: nothing that a terminal, an editor or a spreadsheet would obey survives."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.privacy.escape import first_words, shorten, storable, visible

UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/api?a=1&b=%20", "/api?a=1&b=%20"),
        ("größe/日本語", "größe/日本語"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\r\nb\tc\0", "a\\x0d\\x0ab\\x09c\\x00"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2066\u2069\u200b\ufeff", "\\u2066\\u2069\\u200b\\ufeff"),
        ("\u2028\u2029\xa0\u3000", "\\u2028\\u2029\\xa0\\u3000"),
        ("\U000e0041", "\\U000e0041"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("a" + "\u0301" * 6, "a" + "\u0301" * 4 + "\\u0301\\u0301"),
    ],
)
def test_only_what_is_plainly_visible_stays(text, shown):
    assert visible(text) == shown


@given(st.text(st.characters(), max_size=50))
def test_no_unsafe_character_survives(text):
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in UNSAFE]
    shown.encode()


@given(st.text(st.characters(), max_size=50))
def test_escaping_twice_is_escaping_once(text):
    assert visible(visible(text)) == visible(text)


@given(st.text(st.characters(), max_size=50))
def test_storable_text_can_be_encoded_and_keeps_every_character_that_is_one(text):
    stored = storable(text)
    stored.encode()
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert stored == text


def test_a_cut_is_marked():
    assert shorten("abcdefgh", 8) == "abcdefgh"
    assert shorten("abcdefghi", 8) == "abcde..."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short enough", "short enough"),
        ("It gave up after two seconds. It was a timeout.", "It gave up after two seconds."),
        ("No. It waited until all of it had come, and more", "No. It waited until all of it had..."),
        ("It closes after five seconds (one timer, looked at)", "It closes after five seconds..."),
        ("It closes (FIN) after five seconds, the proxy later", "It closes (FIN) after five seconds..."),
        ("x" * 50, "x" * 37 + "..."),
    ],
)
def test_the_first_words_end_where_a_reader_stops(text, shown):
    assert first_words(text, 40) == shown
    assert len(shown) <= 40
