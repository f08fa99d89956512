"""The zone of a log that names none, from answered requests of both; near misses say nothing."""

import pytest

from pcapdiag.proxy.join import served_zone
from pcapdiag.proxy.join.arrivals import AnsweredRequest
from pcapdiag.proxy.join.served_zone import ServedLines, find_zone_s
from tests.proxy.join.builders import MS, PEER, T0, S, access

HOUR_S = 3600
TIMES_MS = (0, 530, 1_900, 3_310, 7_050)


def served(at_ms, *, target="/api", took_ms=160):
    start = T0 + at_ms * MS
    return AnsweredRequest(PEER, "10.1.1.100:40000", start, start + took_ms * MS, "GET", target, "")


def lines_of(times_ms, *, zone_s=0, late_ms=1, early_ms=161, took_ms=160, **changes):
    """Return lines of requests to upstreams that were sent so many ms after T0."""
    lines = ServedLines()
    entries = []
    for at in times_ms:
        entry = access(at + took_ms + late_ms, (PEER, 200, took_ms), status=200)
        entry = entry._replace(
            ts_ns=entry.ts_ns + zone_s * S, request_time_ns=(early_ms + took_ms + late_ms) * MS, **changes
        )
        entries.append(entry)
    assert list(lines.watch(entries)) == entries
    return lines


@pytest.mark.parametrize("zone_s", [0, 2 * HOUR_S, -8 * HOUR_S, 5 * HOUR_S + 1_800, 14 * HOUR_S])
@pytest.mark.parametrize(("late_ms", "early_ms"), [(1, 0), (400, 3), (1, 900)])
def test_answered_requests_tell_the_zone(zone_s, late_ms, early_ms):
    lines = lines_of(TIMES_MS, zone_s=zone_s, late_ms=late_ms, early_ms=early_ms)
    assert find_zone_s(lines, list(map(served, TIMES_MS))) == zone_s


def test_lines_beyond_the_capture_and_requests_without_a_line_do_not_matter():
    others = [at + 400_000 for at in range(0, 90_000, 7_700)]
    lines = lines_of([*TIMES_MS, *others], zone_s=HOUR_S)
    assert find_zone_s(lines, [*map(served, TIMES_MS), served(9_000), served(11_000)]) == HOUR_S


@pytest.mark.parametrize(
    ("times_ms", "changes"),
    [
        (TIMES_MS[:2], {}),  # too few
        ((0, 10, 20, 30, 40), {}),  # one burst is one witness
        (TIMES_MS, {"zone_s": HOUR_S + 60}),  # the log of another time, or of another clock
        (TIMES_MS, {"zone_s": 15 * HOUR_S}),
        (TIMES_MS, {"target": "/other"}),
        (TIMES_MS, {"status": -1}),  # what failed is no answered request
        (TIMES_MS, {"early_ms": 5_000}),  # so long a request holds an answer of any time
    ],
)
def test_less_than_that_tells_nothing(times_ms, changes):
    assert find_zone_s(lines_of(times_ms, **changes), list(map(served, times_ms))) is None


def test_where_the_log_goes_on_at_the_same_pace_each_zone_fits():
    lines = lines_of(range(-2_000_000, 2_000_000, 1_000))
    assert find_zone_s(lines, [served(at) for at in range(0, 9_000, 1_000)]) is None


def test_most_requests_must_agree():
    lines = lines_of(TIMES_MS[:3])
    strangers = [served(at) for at in range(60_000, 70_000, 1_300)]
    assert find_zone_s(lines, [*map(served, TIMES_MS[:3]), *strangers]) is None


def test_of_a_log_that_is_too_long_nothing_is_said(monkeypatch):
    monkeypatch.setattr(served_zone, "MOST_LINES", 4)
    lines = lines_of(TIMES_MS)
    assert (lines.n_lines, sum(map(len, lines.spans.values()))) == (5, 4)
    assert find_zone_s(lines, list(map(served, TIMES_MS))) is None
