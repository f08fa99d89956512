"""What a remedy would have done, in a sentence."""

from dataclasses import replace

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.api.analyze import analyze_captures
from pcapdiag.api.whatif import groups_of
from pcapdiag.base.units import NS_PER_S
from pcapdiag.whatif import replay
from pcapdiag.whatif.effects import IN_ROTATION, MOST_REQUESTS, effects, timeout_of_proxy
from tests.conftest import ROOT
from tests.whatif.days import make_day

pytestmark = pytest.mark.slow

CASE = ROOT / "captures" / "idle_close_race_before"
INPUTS = Inputs(access_logs=(str(CASE / "access.log"),), proxy_conf=str(CASE / "nginx.conf"))


def effect_of_timeout(of, timeout_ns):
    return effects(of, [timeout_of_proxy(timeout_ns)]).get(timeout_of_proxy(timeout_ns), "")


def groups():
    return groups_of(analyze_captures([str(CASE / "proxy.pcap")], INPUTS), INPUTS)


def test_a_timeout_below_the_upstreams_loses_nothing_and_says_what_it_costs():
    said = effect_of_timeout(groups(), 3 * NS_PER_S)
    assert said.startswith(
        "Replayed with that, of 11 lost tries 0 remain, of 9 requests without a live upstream 0 remain, "
        "of 12 failed requests of clients 0 remain; "
    )
    assert "connections more (" in said


def test_each_wish_is_replayed_alone():
    both = effects(groups(), [timeout_of_proxy(3 * NS_PER_S), IN_ROTATION])
    assert both[IN_ROTATION].startswith("Replayed with that, of 11 lost tries ")
    assert not both[IN_ROTATION].split(",")[1].endswith(" 0 remain")
    assert both[timeout_of_proxy(3 * NS_PER_S)] == effect_of_timeout(groups(), 3 * NS_PER_S)


def test_where_only_a_bound_is_known_nothing_is_claimed():
    """Something forgets connections, at an idle time between what was answered and this wish, or beyond."""
    (group,) = groups()
    doubtful = [replace(place, drop_ns=50 * NS_PER_S, answered_ns=2 * NS_PER_S) for place in group.places]
    assert effect_of_timeout([replace(group, places=doubtful)], 3 * NS_PER_S) == ""
    assert effect_of_timeout([replace(group, places=doubtful)], 2 * NS_PER_S)


def test_where_nothing_was_lost_yet_it_says_what_is_due():
    (group,) = groups()
    quiet = replace(group, observed=group.observed | {"lost_tries": 0, "client_failures": 0})
    assert effect_of_timeout([quiet], 3 * NS_PER_S) == ""  # the replay loses some: it does not hold


def test_a_timeout_inside_the_window_leaves_some():
    assert " to " in effect_of_timeout(groups(), 39 * NS_PER_S // 10).split(";")[0]


def test_of_very_many_requests_nobody_waits_for_an_effect():
    (group,) = groups()
    many = type("Many", (), {"requests": range(MOST_REQUESTS + 1)})()
    assert effect_of_timeout([replace(group, arrivals=many)], NS_PER_S) == ""


@pytest.mark.parametrize("change", ["old", "many"])
def test_a_proxy_that_cannot_be_replayed_has_no_effect(change):
    (group,) = groups()
    settings = group.settings
    if change == "old":
        settings = replace(settings, version=(1, 14, 0))
    else:
        settings = replace(settings, peers=settings.peers * 30)
    assert effect_of_timeout([replace(group, settings=settings)], 3 * NS_PER_S) == ""


def test_what_no_request_of_the_log_carries_remains_whatever_is_set():
    (group,) = groups()
    stopped = replace(group, lost_beside=1, observed=group.observed | {"lost_tries": group.observed["lost_tries"] + 1})
    assert "of 12 lost tries 1 remains, " in effect_of_timeout([stopped], 3 * NS_PER_S)


def test_what_met_no_closing_is_never_counted_as_saved():
    """A refused connection, say, is no arrival: that the replay has none of them is no merit of the setting."""
    (group,) = groups()
    assert group.observed["lost_otherwise"] == 0
    refused = group.observed | {"lost_tries": group.observed["lost_tries"] + 1, "lost_otherwise": 1}
    assert effect_of_timeout([replace(group, observed=refused)], 3 * NS_PER_S) == ""
    assert "of 12 lost tries 1 remains, " in effect_of_timeout(
        [replace(group, observed=refused, lost_beside=1)], 3 * NS_PER_S
    )


@pytest.mark.parametrize("factor", [0.4, 1.8])
def test_a_replay_that_opens_other_connections_than_were_seen_claims_nothing(factor):
    (group,) = groups()
    seen = round(factor * group.observed["connections_opened"])
    other = replace(group, observed=group.observed | {"connections_opened": seen})
    assert effect_of_timeout([other], 3 * NS_PER_S) == ""


@pytest.mark.parametrize("wishes", [[timeout_of_proxy(3 * NS_PER_S)], [timeout_of_proxy(3 * NS_PER_S), IN_ROTATION]])
def test_of_a_hundred_thousand_requests_few_replays_are_made_while_somebody_waits(wishes, monkeypatch):
    """What half a second has room for, on one core: 300 ns for a request, and a tenth for all else."""
    replayed = []
    draw = replay.Prepared.draw

    def counted(prepared, *more):
        replayed.append(len(prepared.requests))
        return draw(prepared, *more)

    monkeypatch.setattr(replay.Prepared, "draw", counted)
    effects([make_day(100_000)], wishes)
    assert len(replayed) >= 5 * (1 + len(wishes))
    assert sum(replayed) <= 1_500_000
