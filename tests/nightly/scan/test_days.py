"""What one capture says of each upstream on each day."""

import pytest

import pcapdiag
from pcapdiag.nightly.scan.days import day_of, upstream_days
from tests.nightly.scan import places

DAY_S = 86_400
S = 10**9


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    """Return the analysis of two upstreams, one of them seen on two days."""
    folder = tmp_path_factory.mktemp("days")
    paths = [
        places.capture(folder / "a.pcap", races=2, answered=3, resp="10.9.0.1"),
        places.capture(folder / "b.pcap", races=1, answered=3, resp="10.9.0.1", at_s=DAY_S, orig_port=41_000),
        places.capture(folder / "c.pcap", races=0, answered=4, resp="10.9.0.2", orig_port=42_000),
    ]
    return pcapdiag.analyze(*paths).analysis


def rows(analysis, after_ns=-1, until_ns=-1):
    return {
        (row.endpoint, row.day): (row.connections, row.exchanges, row.lost)
        for row in upstream_days(analysis, after_ns=after_ns, until_ns=until_ns)
    }


def test_every_upstream_has_a_row_for_every_day_on_which_it_was_seen(analysis):
    assert rows(analysis) == {
        ("10.9.0.1:80", "2023-11-14"): (5, 10, 2),
        ("10.9.0.1:80", "2023-11-15"): (4, 8, 1),
        ("10.9.0.2:80", "2023-11-14"): (4, 8, 0),
    }


def test_what_lies_at_a_bound_counts_on_one_side_only(analysis):
    for at_ns in (places.START_NS + 2 * S, places.START_NS + DAY_S * S, analysis.losses[0].request_ts_ns):
        before, after = rows(analysis, until_ns=at_ns), rows(analysis, after_ns=at_ns)
        both = {
            key: tuple(sum(pair) for pair in zip(before.get(key, (0, 0, 0)), after.get(key, (0, 0, 0)), strict=True))
            for key in {*before, *after}
        }
        assert both == rows(analysis)


def test_what_is_measured_over_the_whole_capture_stands_on_every_day(analysis):
    made = [row for row in upstream_days(analysis, after_ns=-1, until_ns=-1) if row.endpoint == "10.9.0.1:80"]
    assert len({row.idle_timeout_ns for row in made}) == 1
    assert all(row.opened <= row.connections and row.reused <= row.exchanges for row in made)


def test_a_night_says_how_close_the_race_was_and_how_much_was_watched(analysis):
    made = {(r.endpoint, r.day): r for r in upstream_days(analysis, after_ns=-1, until_ns=-1)}
    first, second = made["10.9.0.1:80", "2023-11-14"], made["10.9.0.1:80", "2023-11-15"]
    assert (first.lost_near, second.lost_near) == (2, 1)
    assert first.lost_near <= first.gaps_near <= first.near_misses + 2
    assert first.race_window_ns <= first.near_width_ns
    # All captures are one here, from the first evening to the second: part of each day.
    assert 0 < second.watched_ppm < 1_000_000
    span_ns = analysis.last_ts_ns - analysis.first_ts_ns
    assert (first.watched_ppm + second.watched_ppm) / 1e6 == pytest.approx(span_ns / (DAY_S * S), abs=1e-5)
    assert made["10.9.0.2:80", "2023-11-14"].gaps_near in (-1, 0)


@pytest.mark.parametrize(
    ("ts_ns", "day"),
    [(0, "1970-01-01"), (DAY_S * S - 1, "1970-01-01"), (DAY_S * S, "1970-01-02"), (-1, "unknown"), (10**21, "unknown")],
)
def test_a_day_is_that_of_utc(ts_ns, day):
    assert day_of(ts_ns) == day
