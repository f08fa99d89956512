"""What a remedy would have done, in a sentence."""

from dataclasses import replace

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.api.analyze import analyze_captures
from pcapdiag.api.whatif import groups_of
from pcapdiag.base.units import NS_PER_S
from pcapdiag.whatif.effects import MOST_REQUESTS, effect_of_timeout
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

CASE = ROOT / "captures" / "idle_close_race_before"
INPUTS = Inputs(access_logs=(str(CASE / "access.log"),), proxy_conf=str(CASE / "nginx.conf"))


def groups():
    return groups_of(analyze_captures([str(CASE / "proxy.pcap")], INPUTS), INPUTS)


def test_a_timeout_below_the_upstreams_loses_nothing_and_says_what_it_costs():
    said = effect_of_timeout(groups(), 3 * NS_PER_S)
    assert said.startswith(
        "Replayed with that, of 11 lost tries 0 remain and of 12 failed requests of clients 0 remain; "
    )
    assert "connections more (" in said


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
