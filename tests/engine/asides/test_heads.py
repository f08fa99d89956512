"""Header blocks of requests: read alone, in a row, cut short, and hostile."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.engine.asides.heads import MOST_TABLE_BYTES, HeadReader, RequestHead, read_alone

FIELDS = [(":method", "POST"), (":scheme", "http"), (":path", "/p.S/Call"), (":authority", "h.test")]
HEAD = RequestHead("POST", "/p.S/Call", "h.test", "")


@pytest.mark.parametrize("huffman", [False, True])
def test_a_first_block_is_read_alone(huffman):
    block = hpack.Encoder().encode([*FIELDS, ("x-request-id", "7-7")], huffman=huffman)
    assert read_alone(block) == HEAD._replace(request_id="7-7")


def test_a_later_block_is_read_with_those_before_it_and_never_alone():
    encoder = hpack.Encoder()
    first, second = encoder.encode(FIELDS), encoder.encode(FIELDS)
    assert read_alone(second) is None
    reader = HeadReader()
    assert [reader.read(block) for block in (first, second)] == [HEAD, HEAD]


def test_a_block_without_entries_of_its_own_is_read_alone_wherever_it_stands():
    """So nginx sends requests: nothing that it says is entered into a table."""
    fields = [hpack.NeverIndexedHeaderTuple(*field) for field in FIELDS]
    encoder = hpack.Encoder()
    assert [read_alone(encoder.encode(fields)) for _ in range(3)] == [HEAD] * 3


def test_what_cannot_be_read_ends_the_reading():
    encoder, reader = hpack.Encoder(), HeadReader()
    assert reader.read(encoder.encode(FIELDS)) == HEAD
    assert reader.read(b"\xff\xff\xff") is None
    assert reader.read(encoder.encode(FIELDS)) is None


def test_host_stands_for_authority():
    block = hpack.Encoder().encode([(":method", "GET"), (":path", "/"), ("host", "old.test")])
    assert read_alone(block) == RequestHead("GET", "/", "old.test", "")


def test_a_bomb_of_entries_named_again_and_again_is_not_unfolded():
    entry = b"\x40\x01a\x7f\xe1\x1e" + b"b" * 4000  # one entry of 4 kB
    assert read_alone(entry + b"\xbe" * 10_000) is None


def test_a_table_larger_than_is_kept_is_not_made():
    encoder = hpack.Encoder()
    encoder.header_table_size = MOST_TABLE_BYTES + 1
    assert read_alone(encoder.encode(FIELDS)) is None
    encoder = hpack.Encoder()
    encoder.header_table_size = MOST_TABLE_BYTES
    assert read_alone(encoder.encode(FIELDS)) == HEAD


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes_are_read_or_not_and_nothing_else_happens(blocks):
    reader = HeadReader()
    for block in blocks:
        head = reader.read(block)
        assert head is None or all(isinstance(part, str) for part in head)
