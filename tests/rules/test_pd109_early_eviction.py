"""PD109: closings that make room for new connections, and those that only come beside one."""

import pytest

from tests.conversations import Conversation, diagnosed
from tests.scenario import ORIG, RESP


@pytest.fixture
def causes(tmp_path):
    """Return a function from conversations to the findings about lost requests, by code."""

    def causes(*conversations):
        return {f.code: f for f in diagnosed(tmp_path, conversations) if f.occurrences}

    return causes


def crowd(*, off_ms=0.0, n_rounds=5, n_lost=2):
    """Return connections of which one is closed as a new one stands, round by round; a request crosses the last ones.

    One connection is answered after a longer idle time than that of any closing.
    """
    patient = Conversation(0, 0)
    patient.ask(200)
    patient.ask(9_000)
    made = [patient]
    for number in range(n_rounds):
        at = 2_000 + 1_000 * number
        old, new = Conversation(10 + number, at - 600), Conversation(30 + number, at)
        end = old.ask(at - 400)
        stands = at + 2 * 160  # where its FIN comes back from
        if number >= n_rounds - n_lost:
            answered = old.next[ORIG]
            old.ask(stands - 30, answered=False)
            old.close(stands + 3 + off_ms, RESP, ack=answered)
        else:
            old.close(stands + 3 + off_ms, RESP)
        assert end < stands
        new.ask(at + 160)
        new.close(at + 900, ORIG)
        made += [old, new]
    return made


def test_closings_behind_handshakes_make_room(causes):
    found = causes(*crowd())
    assert set(found) == {"PD109"}
    assert found["PD109"].count == 2
    assert "each just behind the handshake of a new one" in found["PD109"].message
    assert "no timer was up" in found["PD109"].message


def test_closings_apart_from_handshakes_do_not(causes):
    assert set(causes(*crowd(off_ms=150))) == {"PD101"}


def test_two_moments_are_chance(causes):
    assert "PD109" not in causes(*crowd(n_rounds=2))


def test_where_no_longer_idle_time_was_answered_it_may_be_a_timer(causes):
    made = crowd()
    assert "PD109" not in causes(*made[1:])


def test_what_is_opened_because_of_a_loss_did_not_cause_it(causes):
    """A timer at two seconds on a short path: each loss is tried again on a new connection, others close just then."""
    made = []
    for number in range(6):
        at = 4_000 * number
        pair = [Conversation(100 * k + number, at + k, rtt_ms=1) for k in range(2)]
        for talk in pair:
            end = talk.ask(at + 10)
            answered = talk.next[ORIG]
            talk.ask(end + 1_999.8, answered=False)
            talk.close(end + 2_000, RESP, ack=answered)
        again = Conversation(300 + number, end + 2_000.2, rtt_ms=1)
        again.close(again.ask(end + 2_003) + 50, ORIG)
        made += [*pair, again]
    assert set(causes(*made)) == {"PD101"}
