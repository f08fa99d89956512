"""From groups and wishes to the answer: what is summed up, bounded, warned of, and when nothing is predicted."""

from dataclasses import replace

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.base.scenarios import Quantity, Scenario
from pcapdiag.whatif.compute import compute, find_disagreement, predict, race_window
from pcapdiag.whatif.group import GroupSettings, MeasuredUpstream, Peer, ServerGroup
from pcapdiag.whatif.keys import parse_case, parse_sweep
from pcapdiag.whatif.replay import run
from tests.whatif.kernels.test_replay import arrivals

pytestmark = pytest.mark.slow

MS, S = 10**6, 10**9
PLACES = tuple(MeasuredUpstream(f"10.0.0.{n}:80", timeout_ns=5 * S, rtt_ns=100 * MS, spread_ns=2 * MS) for n in (1, 2))
SETTINGS = GroupSettings(tuple(Peer(place.endpoint, n) for n, place in enumerate(PLACES)))


def make_group(gap_s=4.95, n=40, **observed):
    """Return a group to which one client sends a request now and then."""
    rows = [(round(i * gap_s * S), 0, {}) for i in range(n)]
    return ServerGroup("app", SETTINGS, PLACES, arrivals(rows, PLACES), ("1 worker process (as configured)",), observed)


def answer(group, *cases, **more):
    return compute([group], [parse_case(case) for case in cases], draws=50, **more)


def test_observed_and_replayed_come_first_and_then_what_was_asked_for():
    made = answer(make_group(lost_tries=3), "max_fails=0", "proxy.keepalive_timeout=3s", must_agree=False)
    names = [scenario.name for scenario in made.scenarios]
    assert names == ["observed", "replayed", "max_fails=0", "proxy.keepalive_timeout=3s"]
    assert made.scenarios[3].settings == {"proxy.keepalive_timeout": "3s"}
    assert made.scenarios[3].lost_tries == Quantity(0, 0, 0)
    assert made.scenarios[0].lost_tries == Quantity(3, 3, 3)
    assert made.scenarios[0].client_failures is None, "what nobody counted is unknown"


def test_what_is_set_already_is_said_to_change_nothing():
    made = answer(make_group(), "proxy.keepalive=32", "proxy.keepalive=31", must_agree=False)
    held = make_group().settings.keepalive
    said = {s.settings["proxy.keepalive"]: any("set already" in w for w in s.warnings) for s in made.scenarios[2:]}
    assert said == {"32": held == 32, "31": held == 31}
    assert any(said.values())


def test_a_sweep_follows_the_cases_and_is_named():
    sweep = parse_sweep("proxy.keepalive_timeout=1s:3s:1s")
    made = answer(make_group(), "max_fails=0", sweep=sweep, must_agree=False)
    assert (made.sweep, made.first_swept) == ("proxy.keepalive_timeout", 3)
    assert [s.settings["proxy.keepalive_timeout"] for s in made.scenarios[3:]] == ["1s", "2s", "3s"]


def test_where_replay_and_capture_disagree_nothing_is_predicted():
    sweep = parse_sweep("proxy.keepalive=1:2:1")
    made = answer(make_group(lost_tries=39), "proxy.keepalive_timeout=3s", sweep=sweep)
    assert "39 were observed" in made.disagreement
    assert "nothing is predicted" in made.disagreement
    names = [scenario.name for scenario in made.scenarios[2:]]
    assert names == ["proxy.keepalive_timeout=3s", "proxy.keepalive=1", "proxy.keepalive=2"]
    for scenario in made.scenarios[2:]:
        assert (scenario.lost_tries, scenario.client_failures, scenario.connections_opened) == (None, None, None)
        assert "nothing is predicted" in scenario.warnings[0]
    assert (made.sweep, made.first_swept) == ("proxy.keepalive", 3)


@pytest.mark.parametrize(("seen", "agrees"), [(10, True), (15, True), (21, False), (0, False)])
def test_a_little_beyond_the_interval_still_agrees(seen, agrees):
    observed = Scenario("observed", lost_tries=Quantity(seen, seen, seen))
    replayed = Scenario("replayed", lost_tries=Quantity(8, 10, 13))
    assert (find_disagreement(observed, replayed) == "") is agrees


def test_groups_are_added_up():
    one, both = (compute([make_group(3)] * n, [], draws=20).scenarios[1] for n in (1, 2))
    assert both.connections_opened.expected == 2 * one.connections_opened.expected
    assert both.reuse_ratio.expected == pytest.approx(one.reuse_ratio.expected)


def test_an_address_of_no_group_is_refused_before_anything_is_replayed():
    with pytest.raises(UsageError, match="no server"):
        answer(make_group(), "backup=10.9.9.9:80")


def test_keeping_connections_for_longer_than_was_seen_is_a_lower_bound():
    """The capture shows gaps up to 4 s; beyond, other things may end connections."""
    group = make_group(3, longest_gap_ns=4 * S)
    longer = predict([group], parse_case("upstream.keepalive_timeout=75s"), draws=10)
    assert longer.bound == "lower"
    assert any("cannot show" in text for text in longer.warnings)
    shorter = predict([group], parse_case("proxy.keepalive_timeout=3s"), draws=10)
    assert shorter.bound == ""
    covered = replace(group, observed={"longest_gap_ns": 80 * S})
    assert predict([covered], parse_case("upstream.keepalive_timeout=75s"), draws=10).bound == ""


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("next_upstream=error,timeout,non_idempotent", "done twice"),
        ("proxy.keepalive=64", "larger pool"),
        ("proxy.keepalive=4", "TIME_WAIT"),
        ("max_fails=0", "really down"),
        ("proxy.keepalive_timeout=4950ms", "may be lost"),
    ],
)
def test_what_belongs_to_a_setting_is_said_with_it(case, said):
    warnings = predict([make_group(3)], parse_case(case), draws=10).warnings
    assert any(said in text for text in warnings), warnings
    assert not any(said in text for text in predict([make_group(3)], parse_case("zone=on"), draws=10).warnings)


def test_the_race_window_spans_a_round_trip_before_the_timeout_and_what_both_vary():
    place = replace(PLACES[0], rtt_tail_ns=1 * MS, late_ns=1 * S)
    group = replace(make_group(), places=(place, PLACES[1]))
    assert race_window(group, SETTINGS, place.endpoint) == (5 * S - 8 * MS - 103 * MS, 6 * S + 8 * MS)
    asked = replace(SETTINGS, upstream_timeout_ns=9 * S)
    assert race_window(group, asked, place.endpoint)[1] == 10 * S + 8 * MS
    endless = replace(group, places=(replace(place, timeout_ns=-1), PLACES[1]))
    assert race_window(endless, SETTINGS, place.endpoint) is None


def test_the_model_says_how_its_numbers_came_about():
    model = answer(make_group(3)).model
    assert (model.workers.value, model.workers.source) == (1, "1 worker process (as configured)")
    assert model.draws == 50
    assert model.window_ns == race_window(make_group(), SETTINGS, PLACES[0].endpoint)
    assert any("50 replays" in text for text in model.assumptions)


def test_progress_is_told_for_each_scenario():
    told = []
    answer(make_group(), "max_fails=0", "zone=on", must_agree=False, on_progress=lambda *n: told.append(n))
    assert told == [(3, 4), (4, 4)]


def test_an_interval_that_was_cut_is_said_to_be():
    """One request in two is lost, and takes the only server out for all that come in the ten seconds after it."""
    place = replace(PLACES[0], spread_ns=50 * MS)
    settings = replace(SETTINGS, peers=(SETTINGS.peers[0], replace(SETTINGS.peers[1], is_down=True)))
    starts_s = [0, 0.201 + 4.9, *(6 + n / 10 for n in range(60))]
    rows = [(round(s * S), n, {}) for n, s in enumerate(starts_s)]
    group = ServerGroup("app", settings, (place, PLACES[1]), arrivals(rows, PLACES, len(rows)))
    made = predict([group], parse_case("zone=on"), draws=100)
    told = made.client_failures
    assert 20 < told.expected < 40
    assert told.high - told.low <= told.expected
    assert any("failed requests of clients" in text and "of the replays" in text for text in made.scattered)
    assert not any("lost tries" in text for text in made.warnings)


def forgetful(answered_s, forgets_s=4):
    """Return a group whose second server was forgotten by a firewall after so long, and answered after so long."""
    places = (PLACES[0], replace(PLACES[1], timeout_ns=-1, drop_ns=forgets_s * S, answered_ns=round(answered_s * S)))
    return replace(make_group(), places=places)


def test_between_what_was_answered_and_what_was_forgotten_nobody_knows():
    made = answer(
        forgetful(2), "proxy.keepalive_timeout=3s", "proxy.keepalive_timeout=2s", "max_fails=0", must_agree=False
    )
    assert [scenario.bound for scenario in made.scenarios[2:]] == ["lower", "", ""]
    assert "what happens in between nobody knows" in made.scenarios[2].warnings[0]
    assert answer(forgetful(-1), "proxy.keepalive_timeout=1s", must_agree=False).scenarios[2].bound == "lower"
    assert not answer(forgetful(-1), "proxy.keepalive=0", must_agree=False).scenarios[2].bound


def test_what_was_forgotten_before_others_answered_was_forgotten_for_another_reason():
    made = answer(forgetful(4.5), "proxy.keepalive_timeout=3s")
    assert "idle time does not explain it, so nothing is predicted" in made.disagreement
    assert [s.lost_tries for s in made.scenarios[2:]] == [None]


def test_where_nothing_idle_was_ever_used_a_longer_time_is_a_bound():
    made = answer(make_group(longest_gap_ns=-1), "upstream.keepalive_timeout=75s", must_agree=False)
    assert made.scenarios[2].bound == "lower"


def test_servers_that_become_backups_stand_together_in_the_settings():
    (scenario,) = answer(make_group(), "backup=+10.0.0.1:80 backup=+10.0.0.2:80", must_agree=False).scenarios[2:]
    assert scenario.settings == {"backup": "+10.0.0.1:80 +10.0.0.2:80"}


def test_a_forecast_that_is_not_what_was_seen_goes_on_and_tells():
    made = answer(make_group(lost_tries=39), "max_fails=0", must_agree=False)
    assert (len(made.scenarios), made.agrees, made.disagreement) == (3, False, "")


@pytest.mark.parametrize(
    ("text", "n_replayed"),
    [
        ("proxy.keepalive_timeout=1s:9s:1s", 6),  # the upstreams close after 5 s
        ("proxy.keepalive=0:9:1", 3),  # one client never keeps more than one connection to each of two peers
        ("proxy.keepalive_requests=10:50:10", 3),  # each peer gets 20 requests, so that 30 is never met
        ("proxy.keepalive_time=50s:250s:50s", 2),  # all 40 requests take 94 s
        ("next_upstream_tries=1:5:1", 5),
    ],
)
def test_points_beyond_a_limit_that_no_connection_meets_are_replayed_once(text, n_replayed, monkeypatch):
    group = make_group(gap_s=5.0 if "timeout" in text else 2.4)
    sweep = parse_sweep(text)
    alone = [predict([group], one, draws=20) for one in sweep[1]]
    replayed = []

    def counted(group, settings, **more):
        replayed.append(settings)
        return run(group, settings, **more)

    monkeypatch.setattr("pcapdiag.whatif.compute.run", counted)
    made = compute([group], [], sweep=sweep, draws=20, must_agree=False)
    assert list(made.scenarios[2:]) == alone
    assert len(replayed) == 1 + n_replayed, "the captured settings, and the points that may differ"
