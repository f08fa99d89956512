"""Which logs a capture needs."""

from datetime import UTC, datetime

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.nightly.scan.logs import logs_of

HOUR_NS = 3600 * 10**9


def expand_patterns(patterns, span):
    return logs_of(Inputs(error_logs=tuple(patterns)), span).error_logs


def ns(*when):
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 10**9


@pytest.fixture
def hourly(tmp_path):
    """Return a pattern for which there is a log of every hour of two days."""
    for day in (20, 21):
        for hour in range(24):
            (tmp_path / f"error-2026-11-{day}T{hour:02}.log").write_text("")
    return f"{tmp_path}/error-%Y-%m-%dT%H.log"


def names(*found):
    return [path.rsplit("-", 1)[1] for path in found]


def test_a_pattern_stands_for_the_hours_of_the_capture_and_those_around_it(hourly, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    span = ns(2026, 11, 20, 22, 30), ns(2026, 11, 20, 23, 30)
    assert names(*expand_patterns([hourly], span)) == ["20T21.log", "20T22.log", "20T23.log", "21T00.log"]


def test_a_name_without_a_time_stands_for_itself_once_and_need_not_be_there():
    assert expand_patterns(["b.log", "a.log", "b.log"], (-1, -1)) == ("b.log", "a.log")


def test_only_files_that_are_there_count_also_behind_a_star(hourly, tmp_path):
    (tmp_path / "error-2026-11-20T05.log").unlink()
    (tmp_path / "error-2026-11-20T06.log").unlink()
    (tmp_path / "error-2026-11-20T06.log").mkdir()
    found = expand_patterns([hourly.replace("error", "*")], (ns(2026, 11, 20, 5), ns(2026, 11, 20, 6)))
    assert {"20T04.log", "20T07.log"} >= set(names(*found)) >= {"20T04.log"}


@pytest.mark.parametrize("span", [(-1, -1), (1 << 62, 1 << 62), ((1 << 63) - 1, (1 << 63) - 1)])
def test_a_capture_without_a_time_that_a_calendar_has_needs_none(hourly, span):
    assert expand_patterns([hourly], span) == ()


def test_a_capture_of_years_asks_for_days_and_ends(hourly):
    assert len(expand_patterns([hourly], (ns(2026, 11, 20), ns(2126, 11, 20)))) >= 24
