"""Sentences of what may be: never of what is; and what speaks against a race is said."""

from collections import Counter

import pytest

from pcapdiag.base.triage import FailedTries, TimerOdds
from pcapdiag.proxy.join.symptoms import Symptom
from pcapdiag.proxy.logs.entries import BODY, HEADER
from pcapdiag.triage.meanings import MOST_SENTENCES, likely_and_undecided

ODDS = (TimerOdds("be", 60.0, "nginx.conf:3", "", ("Node.js 5 s",)),)


@pytest.mark.parametrize("symptom", [s for s in Symptom if s is not Symptom.NO_PACKETS])
def test_every_symptom_has_a_sentence_that_claims_nothing(symptom):
    likely, _ = likely_and_undecided(Counter({(symptom, HEADER): 3}), None, (), ())
    assert likely[0].startswith("3 times: ")
    for word in ("because", "proves", "is the cause", "certainly"):
        assert word not in likely[0]


def test_what_no_packet_tells_of_asks_for_none():
    assert likely_and_undecided(Counter({(Symptom.NO_PACKETS, ""): 5}), None, (), ()) == ((), ())


def test_the_most_frequent_come_first_and_are_few():
    counts = Counter({(s, HEADER): n for n, s in enumerate(Symptom, 1)})
    likely, undecided = likely_and_undecided(counts, None, ODDS, ())
    numbers = [int(text.split(" ", 1)[0]) for text in likely]
    assert numbers == sorted(numbers, reverse=True)
    assert len(likely) == MOST_SENTENCES
    assert undecided


def test_an_end_inside_a_response_is_no_race():
    likely, _ = likely_and_undecided(Counter({(Symptom.CLOSED, BODY): 2}), None, (), ("be",))
    assert len(likely) == 1
    assert "inside a response" in likely[0]


def test_what_speaks_against_a_race_is_said():
    closed = Counter({(Symptom.CLOSED, HEADER): 9})
    likely, _ = likely_and_undecided(closed, FailedTries(8, 3), ODDS, ())
    assert "3 of 8 failed tries" in likely[-1]
    likely, _ = likely_and_undecided(closed, None, (), ("be",))
    assert "no connection is kept" in likely[-1]
    likely, _ = likely_and_undecided(closed, FailedTries(8, 0), ODDS, ("other",))
    assert len(likely) == 1
