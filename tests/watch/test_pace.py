"""What is said when the recorder and the capture do not keep up with each other."""

import pytest

from pcapdiag.watch import pace
from pcapdiag.watch.pace import BEHIND_NS, Pace

S = 1_000_000_000


@pytest.fixture
def state(monkeypatch):
    """Return what the clock and the pipe say; to be changed by the test."""
    state = {"now_s": 0.0, "is_full": False}
    monkeypatch.setattr(pace.time, "monotonic", lambda: state["now_s"])
    monkeypatch.setattr(pace, "_pipe_is_full", lambda: state["is_full"])
    return state


def look(one, state, n, behind_ns):
    for _ in range(n):
        state["now_s"] += 1
        one.look(behind_ns)


def test_frames_that_arrive_late_are_said_once_a_minute(state):
    said = []
    one = Pace(said.append, is_pipe=True)
    look(one, state, 60, BEHIND_NS)
    assert said == []
    look(one, state, 121, 7 * S + 1)
    assert len(said) == 3
    assert said[0].startswith("frames arrive 7 s late")


def test_a_pipe_that_stays_full_is_the_captures_loss(state):
    said = []
    one = Pace(said.append, is_pipe=True)
    state["is_full"] = True
    look(one, state, 9, 7 * S)
    assert said == [], "it may have been full by chance"
    look(one, state, 1, 7 * S)
    assert said[0].startswith("the pipe is full")


def test_a_pipe_that_was_emptied_in_between_is_not_full(state):
    said = []
    one = Pace(said.append, is_pipe=True)
    for _ in range(4):
        state["is_full"] = True
        look(one, state, 9, 1)
        state["is_full"] = False
        look(one, state, 1, 1)
    assert said == []


def test_a_folder_has_no_pipe(state):
    said = []
    state["is_full"] = True
    look(Pace(said.append, is_pipe=False), state, 30, 1)
    assert said == []
