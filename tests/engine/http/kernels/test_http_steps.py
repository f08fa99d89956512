"""Busy connections of which frames were not captured: nothing is invented, and no answer goes to another request."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.codes import ExchangeFlag, Key, Outcome
from pcapdiag.engine.http.kernels import http_steps
from tests.engine.http.kernels.test_http import run
from tests.engine.tcp.kernels.plain_tcp import ACK, CLIENT, FIN, MOD, MS, ORIG, PSH, RESP, SERVER, SYN, Segment

CLOSINGS = {Key.RESP_FIN, Key.RESP_RST, Key.ORIG_FIN, Key.ORIG_RST}

ALSO_TESTS = ("http_hole",)


def begun():
    """Return the segments of a handshake, and what adds one of either side, in step with all before it."""
    ends, isns = (CLIENT, SERVER), (MOD - 100, 500_000)
    now_ns, sent, segments = 10**9, [0, 0], []

    def add(side, flags, payload=b"", step_ns=MS, rest_ns=0):
        nonlocal now_ns
        now_ns += step_ns
        seq = (isns[side] + sent[side]) % MOD
        ack = (isns[1 - side] + sent[1 - side]) % MOD if flags & ACK else -1
        segments.append(Segment(now_ns, ends[side], ends[1 - side], flags, seq, ack, payload))
        sent[side] += len(payload) + bool(flags & (FIN | SYN))
        now_ns += rest_ns

    add(ORIG, SYN)
    add(RESP, SYN | ACK)
    add(ORIG, ACK)
    return segments, add


def busy(n_exchange, *, pieces=1, body=10, posts=False, heads=False, closer=ORIG, acks_apart=False):
    """Return the segments of a connection on which request `n` is answered with status 200 + n % 90."""
    segments, add = begun()
    for n in range(n_exchange):
        if posts:
            add(ORIG, ACK | PSH, b"POST /%d HTTP/1.1\r\nContent-Length: 20\r\n\r\n" % n)
            add(ORIG, ACK | PSH, b"x" * 20)
        else:
            add(ORIG, ACK | PSH, b"%s /%d HTTP/1.1\r\n\r\n" % (b"HEAD" if heads else b"GET", n))
        if acks_apart:
            add(RESP, ACK)
        data = b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n" % (200 + n % 90, body)
        data += b"" if heads else b"y" * body
        for k in range(pieces):
            add(RESP, ACK | PSH, data[len(data) * k // pieces : len(data) * (k + 1) // pieces], MS if k else 9 * MS)
        add(ORIG, ACK, step_ns=20_000, rest_ns=80 * MS)
    if closer is not None:
        add(closer, FIN | ACK)
        add(1 - closer, FIN | ACK)
        add(closer, ACK)
    return segments


def told(segments):
    """Return what is said of each known request: (target, outcome, status, whether it was not the last or ended)."""
    exchanges, keys, _conns = run(segments)
    last = max(exchanges, default=(0, 0))
    return [
        (
            int(x["target"][1:]),
            Outcome(x["outcome"]),
            x["status_code"],
            at < last or bool(CLOSINGS & set(keys.get(at, ()))),
        )
        for at, x in exchanges.items()
        if x["target"][1:].isdigit()
    ]


def assert_nothing_is_invented(segments):
    for target, outcome, status, is_over in told(segments):
        assert not is_over or outcome not in (Outcome.UNANSWERED, Outcome.TRUNCATED)
        assert outcome != Outcome.ANSWERED or status in (-1, 200 + target % 90)


@st.composite
def captured(draw):
    """Return a busy connection less any frames: some, all of a time, or most of one side."""
    n_exchange = draw(st.integers(2, 12))
    segments = busy(
        n_exchange,
        pieces=draw(st.sampled_from([1, 1, 2, 4])),
        body=draw(st.sampled_from([0, 10, 300])),
        posts=draw(st.booleans()),
        closer=draw(st.sampled_from([ORIG, RESP, None])),
        acks_apart=draw(st.booleans()),
    )
    lacks = draw(
        st.sets(st.integers(0, len(segments) - 1))
        | st.builds(lambda a, n: set(range(a, a + n)), st.integers(0, len(segments) - 1), st.integers(1, len(segments)))
    )
    kept = [s for n, s in enumerate(segments) if n not in lacks]
    return kept or segments


@given(captured())
def test_missing_frames_invent_no_loss_and_mix_up_no_answers(segments):
    assert_nothing_is_invented(segments)


@pytest.mark.parametrize("acks_apart", [False, True])
@pytest.mark.parametrize("closer", [ORIG, RESP, None])
@pytest.mark.parametrize("length", [1, 2, 5, 13, 40])
def test_a_gap_anywhere_costs_only_what_lies_in_it(length, closer, acks_apart):
    segments = busy(12, closer=closer, acks_apart=acks_apart)
    per_exchange = 4 if acks_apart else 3
    for first in range(3, 3 + 12 * per_exchange - length):
        kept = segments[:first] + segments[first + length :]
        assert_nothing_is_invented(kept)
        read = {target for target, _outcome, status, _over in told(kept) if status >= 0}
        touched = length // per_exchange + 2
        assert len(read) >= 12 - touched - 1  # the first behind the gap may be known as answered, and no more


@pytest.mark.parametrize("acks_apart", [False, True])
def test_what_answers_a_head_request_that_was_not_captured_swallows_no_other_answer(acks_apart):
    segments = busy(6, body=500, heads=True, acks_apart=acks_apart)
    for lacking in range(3, len(segments)):
        assert_nothing_is_invented(segments[:lacking] + segments[lacking + 1 :])


@pytest.mark.parametrize("acks_apart", [False, True])
def test_of_several_head_requests_in_a_row_that_were_not_captured_each_answer_ends_the_one_before(acks_apart):
    segments = busy(6, body=500, heads=True, acks_apart=acks_apart)
    requests = [n for n, s in enumerate(segments) if s.payload.startswith(b"HEAD")]
    for first, second in itertools.pairwise(requests):
        assert_nothing_is_invented([s for n, s in enumerate(segments) if n not in (first, second)])


def test_the_end_that_an_unseen_answer_left_is_no_lost_request():
    segments = busy(2, closer=RESP)
    answer = max(n for n, s in enumerate(segments) if s.payload.startswith(b"HTTP/1.1 201"))
    kept = segments[:answer] + [s for s in segments[answer + 1 :] if s.src == SERVER]
    assert [(target, outcome) for target, outcome, _status, _over in told(kept)] == [
        (0, Outcome.ANSWERED),
        (1, Outcome.ANSWERED),
    ]


def test_near_miss_an_end_right_behind_what_was_seen_answers_nothing():
    segments = busy(2, closer=None)
    answer = max(n for n, s in enumerate(segments) if s.payload.startswith(b"HTTP/1.1 201"))
    end = Segment(segments[-1].ts_ns, SERVER, CLIENT, FIN | ACK, segments[answer].seq, segments[answer].ack, b"")
    assert told([*segments[:answer], end])[-1][:2] == (1, Outcome.UNANSWERED)


def test_near_miss_a_request_behind_a_gap_that_gets_no_answer_is_lost():
    segments = busy(6, closer=None)
    answer = max(n for n, s in enumerate(segments) if s.payload.startswith(b"HTTP/1.1 205"))
    end = Segment(segments[-1].ts_ns, SERVER, CLIENT, FIN | ACK, segments[answer].seq, segments[answer].ack, b"")
    assert told([*segments[:7], *segments[13:answer], end])[-1][:2] == (5, Outcome.UNANSWERED)


def test_what_was_answered_unseen_says_so():
    exchanges, _keys, _conns = run(busy(8)[:7] + busy(8)[18:])
    assert any(x["flags"] & ExchangeFlag.HOLE for x in exchanges.values())
    assert http_steps.HOLE == ExchangeFlag.HOLE


def pipelining(n_burst, size, *, closer=ORIG, acks_apart=False):
    """Return a connection on which bursts of requests are sent at once; request `n` is answered with status 500 + n."""
    segments, add = begun()
    for burst in range(n_burst):
        numbers = range(burst * size, (burst + 1) * size)
        for n in numbers:
            add(ORIG, ACK | PSH, b"GET /%d HTTP/1.1\r\n\r\n" % n)
        if acks_apart:
            add(RESP, ACK)
        for n in numbers:
            add(RESP, ACK | PSH, b"HTTP/1.1 %d OK\r\nContent-Length: 10\r\n\r\n" % (500 + n) + b"y" * 10)
        add(ORIG, ACK, step_ns=20_000, rest_ns=80 * MS)
    if closer is not None:
        add(closer, FIN | ACK)
        add(1 - closer, FIN | ACK)
        add(closer, ACK)
    return segments


def pipelined(segments):
    """Return what is said of each known request: (number, outcome, status, whether it waits no more)."""
    exchanges, keys, _conns = run(segments)
    read = [at for at, x in exchanges.items() if x["outcome"] == Outcome.ANSWERED and x["status_code"] >= 0]
    answered = max(read, default=(0, -1))
    return [
        (
            int(x["target"][1:]),
            Outcome(x["outcome"]),
            x["status_code"],
            at < answered or bool(CLOSINGS & set(keys.get(at, ()))),
        )
        for at, x in exchanges.items()
        if x["target"][1:].isdigit()
    ]


def assert_nothing_is_invented_of_pipelined(segments):
    for number, outcome, status, is_over in pipelined(segments):
        assert not is_over or outcome not in (Outcome.UNANSWERED, Outcome.TRUNCATED)
        assert outcome != Outcome.ANSWERED or status in (-1, 500 + number)


@st.composite
def captured_pipelining(draw):
    """Return a pipelining connection, of which its first two requests show that it is one, less any other frames."""
    closer, acks_apart = draw(st.sampled_from([ORIG, RESP, None])), draw(st.booleans())
    segments = pipelining(draw(st.integers(1, 5)), draw(st.integers(2, 4)), closer=closer, acks_apart=acks_apart)
    any_frame = st.integers(5, len(segments) - 1)
    lacks = draw(
        st.sets(any_frame, max_size=6)
        | st.builds(lambda a, n: set(range(a, a + n)), any_frame, st.integers(1, len(segments)))
    )
    return [s for n, s in enumerate(segments) if n not in lacks]


@given(captured_pipelining())
def test_missing_frames_of_pipelined_requests_invent_no_loss_and_mix_up_no_answers(segments):
    assert_nothing_is_invented_of_pipelined(segments)


@pytest.mark.parametrize("closer", [ORIG, RESP, None])
@pytest.mark.parametrize(("n_burst", "size"), [(1, 3), (3, 2), (2, 4)])
def test_a_gap_anywhere_in_pipelined_requests_invents_nothing(n_burst, size, closer):
    segments = pipelining(n_burst, size, closer=closer)
    for first in range(5, len(segments)):
        for length in range(1, len(segments) - first + 1):
            assert_nothing_is_invented_of_pipelined(segments[:first] + segments[first + length :])


def test_a_first_request_in_a_hole_may_be_owed_the_answer_to_the_second():
    segments = pipelining(1, 2)
    assert [(n, status) for n, _outcome, status, _over in pipelined(segments[:3] + segments[4:])] == [(1, -1)]


def test_without_holes_pipelined_requests_are_read_as_before():
    told_of = [(n, outcome, status) for n, outcome, status, _over in pipelined(pipelining(3, 4))]
    assert told_of == [(n, Outcome.ANSWERED, 500 + n) for n in range(12)]


def test_near_miss_pipelined_requests_that_the_end_leaves_are_lost():
    segments = pipelining(1, 3, closer=None)
    second = next(n for n, s in enumerate(segments) if s.payload.startswith(b"HTTP/1.1 501"))
    end = Segment(segments[-1].ts_ns, SERVER, CLIENT, FIN | ACK, segments[second].seq, segments[second].ack, b"")
    outcomes = [outcome for _n, outcome, _status, _over in pipelined([*segments[:second], end])]
    assert outcomes == [Outcome.ANSWERED, Outcome.UNANSWERED, Outcome.UNANSWERED]
