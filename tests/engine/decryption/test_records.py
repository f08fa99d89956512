"""Records, cut out of segments however those lie."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.engine.decryption.records import (
    HEADER_BYTES,
    MOST_RECORD_BYTES,
    MOST_WAITING,
    MOST_WAITING_BYTES,
    RecordCutter,
)
from tests.hellos import record

# Of zeros: none of it looks like the header of a record.
bodies = st.lists(st.integers(0, 60).map(bytes), min_size=1, max_size=6)


def segments(stream, cuts, first_seq):
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    return [((first_seq + a) & 0xFFFFFFFF, stream[a:b], b - a) for a, b in pairwise(edges) if a < b]


def taken(cutter, parts):
    return [(r.seq, r.type, r.body) for part in parts for r in cutter.take(*part)]


def wanted(contents, first_seq):
    found, at = [], first_seq
    for kind, body in contents:
        found.append((at & 0xFFFFFFFF, kind, body))
        at += HEADER_BYTES + len(body)
    return found


@given(
    st.lists(st.tuples(st.integers(20, 24), st.binary(max_size=60)), min_size=1, max_size=6),
    st.lists(st.integers(0, 500), max_size=12),
    st.integers(0, 2**32 - 1),
    st.randoms(use_true_random=False),
)
def test_records_are_the_same_however_segments_are_cut_ordered_and_repeated(contents, cuts, first_seq, dice):
    stream = b"".join(record(kind, body) for kind, body in contents)
    parts = segments(stream, cuts, first_seq)
    parts += dice.sample(parts, dice.randint(0, len(parts)))
    dice.shuffle(parts)
    cutter = RecordCutter(first_seq)
    assert taken(cutter, parts) == wanted(contents, first_seq)
    assert list(cutter.finish()) == []


@given(bodies, st.lists(st.integers(0, 500), min_size=1, max_size=12), st.data())
def test_behind_a_missing_segment_records_go_on_where_a_segment_begins_one(contents, cuts, data):
    stream = b"".join(record(23, body) for body in contents)
    parts = segments(stream, cuts, 7)
    missing = data.draw(st.integers(0, len(parts) - 1))
    cutter = RecordCutter(7)
    found = [r for part in parts[:missing] + parts[missing + 1 :] for r in cutter.take(*part)]
    found += cutter.finish()
    every = wanted([(23, body) for body in contents], 7)
    ends = [seq + HEADER_BYTES + len(body) for seq, _, body in every]
    n_before = sum(end <= parts[missing][0] for end in ends)
    # By less than a header nothing tells that a record begins.
    starts = {seq for seq, _, length in parts[missing + 1 :] if length >= HEADER_BYTES}
    behind = [n for n in range(n_before, len(every)) if every[n][0] in starts]
    kept = every[:n_before] + (every[behind[0] :] if behind else [])
    assert [(r.seq, r.type, r.body) for r in found] == kept
    assert [r.is_behind_gap for r in found] == [False] * n_before + [n == 0 for n in range(len(kept) - n_before)]


@given(bodies, st.integers(0, 60))
def test_behind_a_segment_that_was_cut_when_captured_the_next_one_is_tried(contents, n_kept):
    stream = b"".join(record(23, body) for body in contents)
    n_kept = min(n_kept, len(stream) - 1)
    parts = [(0, stream[:n_kept], len(stream)), (len(stream), record(23, b"more"), 9)]
    cutter = RecordCutter(0)
    *found, last = [r for part in parts for r in cutter.take(*part)]
    assert (last.body, last.is_behind_gap) == (b"more", True)
    assert sum(HEADER_BYTES + len(r.body) for r in found) <= n_kept


@pytest.mark.parametrize("head", [b"GET / HTTP", b"\x17\x02\x00\x00\x01", b"\x17\x03\x03\xff\xff"])
def test_what_is_no_record_is_passed_over_with_its_segment(head):
    cutter = RecordCutter(0)
    first = record(23, b"one") + head
    assert taken(cutter, [(0, first, len(first))]) == [(0, 23, b"one")]
    (behind,) = cutter.take(len(first), record(23, b"two"), 8)
    assert (behind.body, behind.is_behind_gap) == (b"two", True)


def test_what_waits_for_a_missing_segment_is_bounded_by_bytes_and_by_number():
    for size in (1, 1400):
        cutter = RecordCutter(0)
        for n in range(1, 10_000):
            list(cutter.take(n * 1400, bytes(size), size))
            assert len(cutter._waiting) <= MOST_WAITING + 1
            assert cutter._n_waiting <= MOST_WAITING_BYTES + 1400
        assert cutter._n_waiting == sum(len(waiting[1]) for waiting in cutter._waiting)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=30), st.integers(0, 70_000)), max_size=40))
def test_any_segments_are_taken_without_error(parts):
    cutter = RecordCutter(0)
    for found in taken(cutter, parts):
        assert len(found[2]) <= MOST_RECORD_BYTES


def test_segments_that_go_round_the_end_of_sequence_numbers_are_in_order():
    stream = b"".join(record(23, bytes([n]) * 1000) for n in range(20))
    parts = segments(stream, range(0, len(stream), 700), 2**32 - 5000)
    random.Random(1).shuffle(parts)
    assert [body[0] for _, _, body in taken(RecordCutter(2**32 - 5000), parts)] == list(range(20))
