"""Sentences about upstreams that failed with a request in hand, and whether a timer can have been behind it."""

from dataclasses import replace

import pytest

from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence
from pcapdiag.rules._claim import Claim
from pcapdiag.rules._failure import (
    failure_message,
    failure_remedy,
    failure_waits,
    is_timer_excluded,
    is_timer_possible,
)
from pcapdiag.rules._rule import Group
from tests.rules.builders import END, MS, Scene, acknowledged, fin

SUBJECT = "10.1.1.1:80"


def group_of(*losses):
    claims = tuple(Claim(Confidence.LIKELY, closing=loss.keys.get(Key.RESP_FIN)) for loss in losses)
    return Group(SUBJECT, "", tuple(losses), claims)


def failed(scene, wait_ms, **changes):
    return scene.lost(acknowledged(160), fin(wait_ms, ack=END), **changes)


def test_it_says_how_many_were_acknowledged_and_how_long_it_took():
    scene = Scene()
    losses = failed(scene, 500), failed(scene, 900), scene.lost(fin(700))
    text = failure_message(scene.analysis(*losses), group_of(*losses), "closed")
    assert text.startswith(f"{SUBJECT} took 3 requests (2 of them acknowledged) and closed without a response, ")
    assert "one RTT is 160 ms" in text
    assert failure_waits(group_of(*losses)) == [500 * MS, 900 * MS, 700 * MS]


@pytest.mark.parametrize(("n", "none"), [(1, "it"), (2, "any")])
def test_what_nothing_acknowledged_is_not_called_taken(n, none):
    scene = Scene()
    losses = [scene.lost(fin(700)) for _ in range(n)]
    text = failure_message(scene.analysis(*losses), group_of(*losses), "closed")
    assert f"without having acknowledged {none}, " in text
    assert "took" not in text


@pytest.mark.parametrize(
    ("depths", "words"), [((0,), "acknowledged, on a fresh connection"), ((0, 1), "1 of them on fresh")]
)
def test_fresh_connections_are_named(depths, words):
    scene = Scene()
    losses = [failed(scene, 500, depth=depth) for depth in depths]
    assert words in failure_message(scene.analysis(*losses), group_of(*losses), "closed")


def test_connections_that_ended_in_one_moment_are_a_process_that_went_away():
    scene = Scene()
    together = [failed(scene, 500, late=i) for i in range(4)]
    assert "4 of them ended within a tenth of a second" in failure_message(
        scene.analysis(*together), group_of(*together), "closed"
    )
    apart = [failed(scene, 500, late=i * 1_000) for i in range(4)]
    assert "tenth of a second" not in failure_message(scene.analysis(*apart), group_of(*apart), "closed")


@pytest.mark.parametrize(("opened_ms", "is_told"), [(600, True), (10, False)])
def test_a_process_that_accepts_a_connection_afterwards_did_not_go_away(opened_ms, is_told):
    """Three end at 500 to 540 ms; the fourth is opened before, or at 510 ms, and ends with them."""
    scene = Scene()
    losses = [failed(scene, 500, late=n * 20) for n in range(3)]
    losses.append(scene.lost(fin(60), late=520, depth=0, opened_ms=opened_ms))
    text = failure_message(scene.analysis(*losses), group_of(*losses), "closed")
    assert ("a process went away" in text) is is_told


def test_streams_of_one_connection_are_no_connections_that_ended_together():
    scene = Scene()
    losses = [failed(scene, 500, late=n) for n in range(4)]
    same = [replace(loss, connection=losses[0].connection) for loss in losses]
    assert "ended within" not in failure_message(scene.analysis(*same), group_of(*same), "closed")


@pytest.mark.parametrize(("idle_ms", "is_possible"), [(5_000, True), (3_000, False)])
def test_connections_that_an_idle_timer_may_have_ended_together_are_not_said_to_show_the_end_of_a_process(
    idle_ms, is_possible
):
    """The longest gap that was answered is four seconds."""
    scene = Scene()
    losses = [failed(scene, 200, late=n * 20, idle_ms=idle_ms) for n in range(3)]
    text = failure_message(scene.analysis(*losses), group_of(*losses), "closed")
    assert ("a process went away, or a timer that they share was up." in text) is is_possible
    assert ("a process went away." in text) is not is_possible


@pytest.mark.parametrize(
    ("wait_ms", "idle_ms", "depth", "excluded", "possible"),
    [
        (200, 5_000, 1, False, True),
        (200, 3_000, 1, True, False),  # a longer gap was answered
        (2_000, 5_000, 1, True, False),  # long after it had the request
        (200, 5_000, 0, True, False),  # on a fresh connection
        (200, -1, 1, False, False),  # the gap is not known
    ],
)
def test_when_a_timer_is_excluded_and_when_possible(wait_ms, idle_ms, depth, excluded, possible):
    scene = Scene()
    loss = failed(scene, wait_ms, idle_ms=idle_ms, depth=depth)
    analysis, group = scene.analysis(loss), group_of(loss)
    assert is_timer_excluded(analysis, group) is excluded
    assert is_timer_possible(analysis, group) is possible
    remedy = failure_remedy(group, analysis)
    assert ("No timer at the proxy helps." in remedy) is excluded
    assert ("An idle timer is not excluded" in remedy) is possible


def test_gaps_of_milliseconds_speak_of_no_timer():
    scene = Scene()
    loss = failed(scene, 200, idle_ms=80)
    analysis = scene.analysis(loss, upstream=scene.upstream(longest_answered_gap_ns=60 * MS))
    assert not is_timer_possible(analysis, group_of(loss))


def test_a_retry_is_warned_of_only_where_the_upstream_had_the_request():
    scene = Scene()
    had, not_had = failed(scene, 200), scene.lost(fin(200))
    assert "may run one twice" in failure_remedy(group_of(had), scene.analysis(had))
    assert "may run one twice" not in failure_remedy(group_of(not_had), scene.analysis(not_had))


def test_of_an_upstream_that_nothing_is_known_of_no_timer_is_possible():
    scene = Scene()
    loss = failed(scene, 200, idle_ms=5_000)
    analysis = scene.analysis(loss, upstreams=())
    assert not is_timer_possible(analysis, group_of(loss))
    assert "RTT" not in failure_message(analysis, group_of(loss), "closed")
