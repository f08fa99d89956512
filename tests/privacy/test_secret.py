"""Escapes are undone however deep they are, and places are found again."""

import itertools
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.privacy.secret import Secret, decode, find_decoded, without_overlaps

PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\"'<>%\\"), min_size=1)


@given(PRINTABLE, st.integers(1, 6))
def test_what_was_escaped_is_read_as_it_was(text, times):
    escaped = f"%41{text}"
    for _ in range(times):
        escaped = quote(escaped, safe="%25" if not times else "")
    decoded = decode(escaped)
    assert decoded.text == f"A{text}"
    assert len(decoded.places) == len(decoded.text) + 1
    assert decoded.places[-1] == len(escaped)


def test_every_notation_of_a_byte_is_read():
    for escape in ("%3D", "%3d", "%253D", "%25253D", "%u003D", r"\x3D", r"\u003D", r"\\x3D"):
        assert decode(f"a{escape}b").text == "a=b", escape


def test_a_text_without_escapes_is_not_read_again():
    assert decode("100% plain \\ text") is None


def test_what_would_end_a_word_does_not_end_it_where_it_is_escaped():
    assert decode("a%20b%0A%22c").text == "a\0b\0\0c"


def test_a_secret_lies_where_its_escapes_lie():
    (found,) = find_decoded("a%3Dsecret%26", lambda text: [Secret(2, 8, "k", "")] if text.startswith("a=") else [])
    assert (found.start, found.end) == (4, 10)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))))
def test_secrets_come_in_order_and_cover_the_same(pairs):
    found = list(without_overlaps(Secret(min(p), max(p), "", "") for p in pairs))
    covered = {at for a, b in pairs for at in range(min(a, b), max(a, b))}
    assert {at for s in found for at in range(s.start, s.end)} == covered
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
