"""Who was told what: once per channel, state and day, and a failure is made good."""

import dataclasses

import pytest

from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.nightly.store.announcements import findings_to_announce, write_announcements
from pcapdiag.nightly.store.model import FindingRow, FindingState

NEW = FindingRow(
    *("PD101/a", "PD101", "race", "Race", "10.0.0.1:80", Severity.ERROR, Confidence.CONFIRMED, "1 request"),
    *(1, 1, 0, 1, FindingState.NEW, "2026-11-20", 1, "key"),
)


def later(state, day="2026-11-21"):
    return dataclasses.replace(NEW, state=state, state_day=day)


def test_a_channel_is_told_once_and_another_one_for_itself(store):
    assert findings_to_announce(store, "slack-1", [NEW]) == (NEW,)
    write_announcements(store, "slack-1", [NEW], is_owed=False)
    assert findings_to_announce(store, "slack-1", [NEW]) == ()
    assert findings_to_announce(store, "json-1", [NEW]) == (NEW,)


@pytest.mark.parametrize(
    ("state", "is_told"),
    [
        (FindingState.NEW, True),
        (FindingState.WORSE, True),
        (FindingState.ONGOING, False),
        (FindingState.QUIET, False),
        (FindingState.GONE, False),
    ],
)
def test_on_another_day_only_what_changed_for_the_worse_is_told(store, state, is_told):
    write_announcements(store, "slack-1", [NEW], is_owed=False)
    assert bool(findings_to_announce(store, "slack-1", [later(state)])) is is_told


@pytest.mark.parametrize("state", FindingState)
def test_what_is_owed_is_told_later_unless_it_is_gone_by_then(store, state):
    write_announcements(store, "slack-1", [NEW], is_owed=True)
    told = findings_to_announce(store, "slack-1", [later(state)])
    assert bool(told) is (state is not FindingState.GONE)
    write_announcements(store, "slack-1", told, is_owed=False)
    assert findings_to_announce(store, "slack-1", [later(state)]) == ()
