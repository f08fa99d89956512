"""The settings that lose nothing at the least cost, and what else people do about a race."""

from dataclasses import replace

import pytest

from pcapdiag.base.scenarios import Quantity
from pcapdiag.whatif.compute import compute
from pcapdiag.whatif.group import GroupSettings, MeasuredUpstream, Outage, Peer, ServerGroup
from pcapdiag.whatif.recommend import MARGIN_NS, field_remedies, recommend, rounded_down, safe_timeout_ns
from tests.whatif.kernels.test_replay import arrivals

pytestmark = pytest.mark.slow

MS, S = 10**6, 10**9
PLACES = tuple(MeasuredUpstream(f"10.0.0.{n}:80", timeout_ns=5 * S, rtt_ns=100 * MS) for n in (1, 2))
SETTINGS = GroupSettings(tuple(Peer(place.endpoint, n) for n, place in enumerate(PLACES)))


def make_group(gap_s, places=PLACES, **settings):
    """Return a group to whose peers requests come in pairs, so that each peer gets one every `gap_s`."""
    rows = [(round(i * gap_s * S) + j * MS, 0, {}) for i in range(30) for j in range(2)]
    return ServerGroup(
        "app", replace(SETTINGS, **settings), places, arrivals(rows, places), (), {"longest_gap_ns": 99 * S}
    )


def recommended(group):
    answer = compute([group], [], draws=40)
    return recommend([group], answer, None, seed=1)


def test_the_safe_limit_is_the_timeout_less_a_round_trip_and_a_margin():
    assert safe_timeout_ns([make_group(3)]) == 5 * S - 100 * MS - MARGIN_NS


def test_the_safe_limit_is_that_of_the_most_hasty_place():
    def limit(answered_ns):
        forgetful = replace(PLACES[1], timeout_ns=60 * S, drop_ns=2 * S, answered_ns=answered_ns)
        return safe_timeout_ns([make_group(3, (PLACES[0], forgetful))])

    # A firewall's limit lies between what was answered and what was lost: only the one is safe.
    assert limit(1500 * MS) == 1500 * MS - MARGIN_NS
    assert limit(1999 * MS) == 2 * S - 100 * MS - MARGIN_NS
    assert limit(-1) == 0
    endless = tuple(replace(place, timeout_ns=-1) for place in PLACES)
    assert safe_timeout_ns([make_group(3, endless)]) == -1


@pytest.mark.parametrize(
    ("ns", "rounded"),
    [(64_700 * MS, 64 * S), (4800 * MS, 4500 * MS), (9990 * MS, 9500 * MS), (870 * MS, 800 * MS), (9, 0)],
)
def test_times_are_rounded_down_to_what_people_write(ns, rounded):
    assert rounded_down(ns) == rounded


def test_all_that_people_do_is_weighed():
    named = [asked.name for asked in field_remedies([make_group(3)])]
    assert named == [
        "proxy.keepalive_timeout=4.5s",
        "upstream.keepalive_timeout=75s",
        "max_fails=10",
        "max_fails=0",
        "backup=+10.0.0.1:80 backup=+10.0.0.2:80",
        "next_upstream=error,timeout,non_idempotent",
        "proxy.keepalive=8",
        "proxy.keepalive=128",
        "proxy.keepalive=0",
    ]


def test_what_is_done_already_or_makes_no_difference_is_not_weighed():
    done = make_group(
        3, keepalive_timeout_ns=3 * S, next_upstream=frozenset({"error", "non_idempotent"}), peers=SETTINGS.peers[:1]
    )
    keys = {key for asked in field_remedies([done]) for key, _ in asked.settings}
    assert keys == {"upstream.keepalive_timeout", "proxy.keepalive"}


def test_without_a_configuration_no_size_of_the_pool_is_larger_or_smaller():
    named = [asked.name for asked in field_remedies([make_group(5.04, is_picked=False, keepalive=1024)])]
    assert named == ["proxy.keepalive_timeout=4.5s", "upstream.keepalive_timeout=75s", "proxy.keepalive=0"]


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"balance": "hash"}, {"backup"}),
        ({"balance": "ip_hash"}, {"backup"}),
        ({"balance": "random two"}, {"backup"}),
        ({"version": (1, 14, 0)}, {"proxy.keepalive_timeout"}),
        ({"version": (1, 9, 0)}, {"proxy.keepalive_timeout", "next_upstream"}),
    ],
)
def test_what_this_proxy_cannot_do_is_not_weighed_and_ends_nothing(settings, missing):
    group = make_group(5.04, **settings)
    everything = {key for asked in field_remedies([make_group(5.04)]) for key, _ in asked.settings}
    assert {key for asked in field_remedies([group]) for key, _ in asked.settings} == everything - missing
    assert not missing & recommended(group).settings.keys()


def test_a_shorter_timeout_is_recommended_where_it_loses_nothing():
    assert recommended(make_group(5.04)).settings == {"proxy.keepalive_timeout": "4.5s"}


def make_alternating(**settings):
    """Return a group of which one server after the other takes no connections, so that tries are lost in any case."""
    downs = (((10, 14), (40, 44)), ((15, 19), (45, 49)))
    places = tuple(
        replace(place, timeout_ns=-1, outages=tuple(Outage(a * S, b * S, MS, is_silent=False) for a, b in down))
        for place, down in zip(PLACES, downs, strict=True)
    )
    return make_group(1, places, keepalive=0, **settings)


def test_two_settings_are_combined_where_no_single_one_will_do():
    """Without retries each failure is a client's; with them alone the one that failed last is still put out."""
    best = recommended(make_alternating(next_upstream=frozenset({"off"})))
    assert best.settings == {"max_fails": "10", "next_upstream": "error,timeout,non_idempotent"}
    singles = [s for s in best.tried if len(s.settings) == 1]
    assert singles
    assert all(s.client_failures.high > 0 for s in singles)
    (chosen, *_) = (s for s in best.tried if s.settings == best.settings)
    assert chosen.name == "max_fails=10 next_upstream=error,timeout,non_idempotent"
    assert chosen.client_failures.high == 0
    assert chosen.lost_tries.low > 0
    assert best.warnings[0].startswith("tries are lost all the same")
    assert any("non_idempotent sends a POST again" in text for text in best.warnings)


def test_who_hides_nothing_is_told_of_nothing_that_hides():
    """Tries are lost that no setting saves, and no client sees it: there is nothing to change."""
    calm = make_alternating(peers=tuple(replace(peer, max_fails=0) for peer in SETTINGS.peers))
    best = recommended(calm)
    assert best.settings == {}
    assert best.changes == ()


def test_where_nothing_is_lost_nothing_is_recommended():
    assert recommended(make_group(3)) is None


def test_what_it_costs_is_the_difference_of_the_rows_that_a_reader_sees():
    """Not that of a replay and of what was counted, which stand in one table beside it."""
    group = make_group(6)
    answer = compute([group], [], draws=40)
    observed, replayed = answer.scenarios
    observed = replace(observed, connections_opened=Quantity(7, 7, 7), lost_tries=Quantity(3, 3, 3))
    replayed = replace(replayed, connections_opened=Quantity(1, 1.4, 2))
    best = recommend([group], replace(answer, scenarios=(observed, replayed)), None, seed=1)
    (chosen,) = [s for s in best.tried if s.settings == best.settings]
    extra = round(chosen.connections_opened.expected) - 1
    assert extra > 6
    assert any(text.startswith(f"it opens {extra} connections more") for text in best.warnings)
