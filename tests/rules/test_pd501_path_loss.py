"""PD501: what lost segments cost, and what only looks like loss."""

import pytest

from pcapdiag.base.findings import Severity
from tests.conversations import ACK, SYN, Conversation, diagnosed
from tests.scenario import ORIG, RESP


@pytest.fixture
def found(tmp_path):
    """Return a function from conversations to the finding, if there is one."""

    def found(*conversations):
        return next((f for f in diagnosed(tmp_path, conversations) if f.code == "PD501"), None)

    return found


def asking(n, again_ms, *, healthy=0):
    """Return connections with a request that was sent again, and others."""
    made = [Conversation(number, 100 * number) for number in range(n + healthy)]
    for number, talk in enumerate(made):
        talk.ask(1_000 + 100 * number, again_ms=again_ms if number < n else ())
    return made


def test_requests_that_were_sent_again_are_told_with_the_time_that_cost(found):
    finding = found(*asking(4, (300, 900), healthy=4))
    assert finding.count == 4
    assert finding.details["stalled_ns"] == 4 * 900 * 10**6
    assert finding.details["orig_retransmissions"] == 8
    assert finding.details["share_of_time"] == pytest.approx(4 * 900 / (8 * 160 + 8 * 160 + 4 * 900), rel=1e-3)
    assert finding.severity is Severity.INFO


def test_much_of_it_on_many_connections_is_a_warning(found):
    assert found(*asking(10, (300,))).severity is Severity.WARNING


@pytest.mark.parametrize("again_ms", [(), (40,)])
def test_nothing_or_what_costs_no_time_is_none(found, again_ms):
    assert found(*asking(6, again_ms)) is None


def test_two_connections_are_none(found):
    assert found(*asking(2, (300,))) is None


def test_a_repeated_syn_may_be_a_server_that_accepts_too_slowly(found):
    talks = []
    for number in range(5):
        talk = Conversation(number, 0, is_opened=False)
        talk.send(100 * number, ORIG, SYN)
        talk.send(100 * number + 1_000, ORIG, SYN, seq=0)
        talk.send(100 * number + 1_160, RESP, SYN | ACK)
        talk.send(100 * number + 1_160, ORIG, ACK)
        talk.ask(100 * number + 1_161, again_ms=(300,))
        talks.append(talk)
    assert found(*talks) is None


def test_connections_with_a_lost_request_leave_that_to_its_cause(found):
    talks = asking(4, (300, 900))
    for talk in talks:
        talk.ask(9_000, again_ms=(300, 900, 2_100), answered=False)
    assert found(*talks) is None
