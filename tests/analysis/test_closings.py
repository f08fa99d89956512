"""Which closings say something of an idle timer."""

import numpy as np
import pytest

from pcapdiag.analysis.closings import closed_at_once, from_losses
from pcapdiag.base.codes import ExchangeFlag, Framing, Outcome, Protocol
from tests.analysis.test_upstreams import conn, gap, idle_closes, measure
from tests.rules.builders import END, MS, Scene, acknowledged, fin, rst


@pytest.mark.parametrize(
    "exchange",
    [
        {"flags": ExchangeFlag.CONNECTION_CLOSE},
        {"flags": ExchangeFlag.UPGRADE},
        {"protocol": Protocol.UPGRADED},
        {"outcome": Outcome.TRUNCATED},
        {"protocol": Protocol.HTTP1, "response_framing": Framing.UNTIL_CLOSE},
        {"protocol": Protocol.HTTP1, "status_code": -1},
    ],
    ids=["close announced", "upgrade", "upgraded", "truncated", "until close", "invalid"],
)
def test_connections_that_were_not_to_be_kept_measure_nothing(exchange):
    exchanges = [gap(100, conn=n, status_code=200) | exchange for n in range(3)]
    exchanges += [gap(100, conn=3, status_code=200, protocol=Protocol.HTTP1)] * 4
    (upstream,) = measure(*idle_closes(300, 301, 302), conn(), exchanges=exchanges)
    assert upstream.idle_timeout is None
    assert upstream.idle_closes_by_upstream == 0


def test_what_was_closed_at_once_with_a_request_in_hand_is_told_from_a_death():
    scene = Scene()
    losses = [
        scene.lost(acknowledged(160), fin(161, ack=END), idle_ms=3990),
        scene.lost(acknowledged(160), rst(2_364, ack=END), idle_ms=56),
        scene.lost(fin(127), idle_ms=3877),
        scene.lost(acknowledged(160), fin(161, ack=END), depth=0),
    ]
    lost, unanswered = from_losses(losses, np.zeros(4, dtype=np.int64), 1, np.ones(4, dtype=np.bool_))
    assert unanswered.tolist() == [4]
    assert [age for _, age, _ in lost[0].raced] == [4_004 * MS]
    assert len(lost[0].deaths) == 3
    at_once = closed_at_once(lost[0], 160 * MS)
    assert at_once[:, (1, 3, 4)].tolist() == [[4_151 * MS, 161 * MS, 3_990 * MS], [-1, 161 * MS, -1]]


def test_where_most_responses_are_cut_off_by_the_capture_their_closings_count():
    exchanges = [gap(100, conn=n, status_code=-1, protocol=Protocol.HTTP1) for n in range(3)]
    (upstream,) = measure(*idle_closes(4_000, 4_001, 4_002), exchanges=exchanges)
    assert upstream.idle_timeout.value_ns == 4_001 * MS


def test_a_closing_that_was_crossed_after_an_announced_close_measures_nothing():
    scene = Scene()
    lost = [scene.lost(fin(127), idle_ms=300, late=10_000 * n) for n in range(3)]
    exchanges = [gap(100, conn=n, status_code=200, flags=ExchangeFlag.CONNECTION_CLOSE) for n in range(3)]
    (upstream,) = measure(conn(), conn(), conn(), exchanges=exchanges, losses=lost)
    assert upstream.idle_timeout is None


@pytest.mark.parametrize(("protocol", "is_measured"), [(Protocol.UNKNOWN, False), (Protocol.HTTP1, True)])
def test_what_may_have_been_upgraded_before_the_capture_began_measures_nothing(protocol, is_measured):
    rows = idle_closes(30_000, 30_001, 30_002, protocol=protocol, orig_isn=-1)
    (upstream,) = measure(*rows, conn(protocol=Protocol.HTTP1))
    assert (upstream.idle_timeout is not None) == is_measured
    (upstream,) = measure(*rows)
    assert upstream.idle_timeout is not None
