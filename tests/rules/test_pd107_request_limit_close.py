"""PD107: a constant number of requests per connection, and what only looks like one."""

import pytest

from tests.conversations import LAST, RESPONSE, Conversation, diagnosed
from tests.scenario import ORIG, RESP


@pytest.fixture
def causes(tmp_path):
    """Return a function from conversations to the findings about lost requests, by code."""

    def causes(*conversations):
        return {f.code: f for f in diagnosed(tmp_path, conversations) if f.occurrences}

    return causes


def ending(number, n_requests, *, lag_ms=2.0, crossed=False, gap_ms=1.0, side=RESP, last=RESPONSE):
    """Return a connection that one side closes `lag_ms` behind the last of its answers, which a request may cross."""
    at = 5_000 * number
    talk = Conversation(number, at)
    end = at + 160
    for depth in range(n_requests):
        end = talk.ask(end + 1, response=last if depth == n_requests - 1 else RESPONSE)
    if crossed:
        answered = talk.next[ORIG]
        talk.ask(end + gap_ms, answered=False)
        talk.close(end + lag_ms, side, ack=answered)
    else:
        talk.close(end + lag_ms, side)
    return talk


def test_a_request_behind_the_last_that_is_allowed_met_the_limit(causes):
    talks = [ending(n, 4) for n in range(3)] + [ending(3, 4, crossed=True), ending(4, 4, crossed=True)]
    found = causes(*talks)
    assert set(found) == {"PD107"}
    finding = found["PD107"]
    assert finding.count == 2
    assert finding.details["requests_per_connection"] == 4
    assert "keepalive_requests 4" in finding.remedy
    assert "No idle timeout helps" in finding.remedy


def test_the_lost_requests_alone_show_it_as_well(causes):
    assert set(causes(*(ending(n, 7, crossed=True) for n in range(3)))) == {"PD107"}


@pytest.mark.parametrize(
    "others",
    [
        [(1, 4), (2, 5), (3, 2)],
        [(1, 4), (2, 4), (3, 9)],
        [(1, 4)],
    ],
    ids=["any number", "more on another", "too few"],
)
def test_numbers_that_differ_are_no_limit(causes, others):
    talks = [ending(0, 4, crossed=True), *(ending(n, requests) for n, requests in others)]
    assert "PD107" not in causes(*talks)


def test_one_request_per_connection_is_no_kept_connection(causes):
    assert "PD107" not in causes(*(ending(n, 1) for n in range(4)), ending(5, 1, crossed=True))


def test_closings_at_an_age_are_a_timer_although_each_connection_carried_as_many(causes):
    idle = [ending(n, 4, lag_ms=2_000.0) for n in range(4)]
    found = causes(*idle, ending(4, 4, lag_ms=2_000.0, crossed=True, gap_ms=1_900))
    assert set(found) == {"PD101"}


def test_a_proxy_that_closes_first_is_no_limit_of_the_upstream(causes):
    talks = [ending(n, 4, side=ORIG) for n in range(4)]
    assert "PD107" not in causes(*talks, ending(5, 4, crossed=True))


def test_an_end_that_was_announced_is_no_limit_without_a_word(causes):
    talks = [ending(n, 4, last=LAST) for n in range(4)]
    assert "PD107" not in causes(*talks, ending(5, 4, crossed=True, last=LAST))
    assert "PD107" not in causes(*talks, ending(5, 4, crossed=True))
