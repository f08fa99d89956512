"""What clients noticed, and why it is not known."""

from dataclasses import replace

import pytest

from pcapdiag.api.analyze import analyze
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.join.clients import ClientTally
from pcapdiag.proxy.join.ledger import Ledger, LogClock
from pcapdiag.report.impact import impact_line, measure_impact
from tests.conftest import ROOT
from tests.proxy.join.builders import MS, PEER, T0, access
from tests.rules.builders import Scene


def given(kind, *lines):
    tally = ClientTally()
    assert len(list(tally.watch(lines))) == len(lines)
    ledger = replace(Ledger(clock=None, entries=(), tries=()), clients=tally)
    return measure_impact(Scene().analysis(log=ledger, proxy_kind=kind))


@pytest.mark.parametrize("kind", [ProxyKind.APACHE])
@pytest.mark.parametrize("lines", [(), (access(700_000_000, (PEER, 200, 100)),)])
def test_an_access_log_of_another_proxy_that_was_not_understood_is_called_that(kind, lines):
    impact = given(kind, *lines)
    assert impact.failures < 0
    assert (
        impact_line(impact)
        == f"What clients saw is not known: the access log is one of {kind.value}, which is not read."
    )


def test_of_a_log_of_nginx_it_says_what_is_missing():
    assert "holds no request of the time of the capture" in impact_line(
        given(ProxyKind.NGINX, access(700_000_000, (PEER, 200, 100)))
    )
    assert "holds no request that could be read" in impact_line(given(None))


@pytest.mark.parametrize(
    ("hours", "words"), [(8, "it begins 8.0 hours after its end"), (-49, "it ends 2.0 days before")]
)
def test_an_access_log_that_is_hours_off_is_told_by_how_far(hours, words):
    assert words in local(0, access(hours * 3_600_000 + 500, (PEER, 200, 10))).unknown
    beside = (access(hours * 3_600_000, (PEER, 200, 10)), access(-hours * 3_600_000, (PEER, 200, 10)))
    assert local(0, *beside).unknown == "the access log holds no request of the time of the capture"


def local(zone_s, *lines):
    """Return the impact of lines of HAProxy, whose stamps are of a zone that only the ledger may know."""
    tally = ClientTally(has_zone=False)
    assert len(list(tally.watch(lines))) == len(lines)
    ledger = replace(Ledger(clock=None, entries=(), tries=(), zone_s=zone_s), clients=tally)
    analysis = Scene().analysis(log=ledger, proxy_kind=ProxyKind.HAPROXY)
    return measure_impact(replace(analysis, first_ts_ns=T0, last_ts_ns=T0 + 999 * MS))


def test_lines_without_a_zone_count_where_the_zone_is_known():
    line = access(3_600_500, (PEER, 200, 10))
    assert local(3600, line).requests == 1
    assert "--log-zone" in local(None, line).unknown
    assert "holds no request of the time" in local(0, line).unknown


def test_haproxy_logs_no_line_for_some_failures_and_that_is_said():
    told = impact_line(local(0, access(500, (PEER, 502, 10), status=502), access(600, (PEER, 200, 10))))
    assert told.startswith("Clients saw at least 1 failure of 2 requests")
    assert "logs nothing" in told


def test_answers_of_haproxy_without_a_status_are_no_format_that_was_not_understood():
    impact = local(0, access(500, (PEER, -1, 10), status=-1), access(600, (PEER, 200, 10)))
    assert impact.failures < 0
    assert "no status of many answers" in impact_line(impact)


def test_where_none_is_logged_of_perhaps_more_it_is_not_at_least_none():
    told = impact_line(local(0, access(500, (PEER, 200, 10)), access(600, (PEER, 200, 10))))
    assert told.startswith("No client of the 2 requests that were logged saw a failure")
    assert "logs nothing" in told


def test_a_log_without_tries_that_were_repeated_does_not_say_that_none_was():
    tally = ClientTally(counts_retries=False)
    assert len(list(tally.watch([access(500, (PEER, 200, 10))]))) == 1
    analysis = Scene().analysis(log=replace(Ledger(clock=None, entries=(), tries=()), clients=tally))
    impact = measure_impact(replace(analysis, first_ts_ns=T0, last_ts_ns=T0 + 999 * MS))
    assert (impact.requests, impact.hidden_by_retries) == (1, -1)


def counted(*lines, last_ms, clock=None):
    """Return the impact of lines beside a capture from T0 on."""
    tally = ClientTally()
    assert len(list(tally.watch(lines))) == len(lines)
    ledger = replace(Ledger(clock=clock, entries=(), tries=()), clients=tally)
    analysis = replace(Scene().analysis(log=ledger), first_ts_ns=T0, last_ts_ns=T0 + last_ms * MS)
    return measure_impact(analysis)


def test_a_request_that_began_in_the_capture_counts_although_its_line_was_written_after_the_last_packet():
    lines = [
        access(500, (PEER, 200, 10)),
        access(1003, (PEER, 502, 4), status=502),  # its packets ended at 999
        access(2500, (PEER, 200, 2000)),
        access(2500, (PEER, 200, 400)),  # began after the capture
        access(7000, (PEER, 200, 9000)),  # from before the capture to after it
    ]
    impact = counted(*lines, last_ms=999)
    assert (impact.requests, impact.failures) == (3, 1)
    assert (impact.failing_s, impact.unavailable_s) == (1, 1)


@pytest.mark.parametrize(("offset_ms", "requests"), [(-400, 2), (400, 2), (1400, 1)])
def test_a_clock_that_whole_seconds_leave_open_is_not_taken_for_one_that_differs(offset_ms, requests):
    """An error log alone tells its offset to a second: the middle of what is possible moves no edge."""
    clock = LogClock(offset_ns=offset_ms * MS, width_ns=1000 * MS, zone_s=0, pairs=3)
    lines = access(100, (PEER, 200, 1)), access(1001, (PEER, 200, 1))
    assert counted(*lines, last_ms=1005, clock=clock).requests == requests


@pytest.mark.parametrize(("inside", "beyond"), [(2, 3), (2, 0), (0, 3)])
def test_failures_of_another_time_are_told_apart(inside, beyond):
    lines = [access(100 + n, (PEER, 502, 10), status=502) for n in range(inside)]
    lines += [access(700_000 + n, (PEER, 502, 10), status=502) for n in range(beyond)]
    lines += [access(700_100, (PEER, 200, 10))]
    impact = local(0, *lines)
    assert impact.failures == (inside or -1)
    assert impact.failures_beyond == beyond
    text = impact_line(impact)
    assert ("; 3 more failures it has before or after that, not counted here" in text) == bool(inside and beyond)
    assert ("its 3 failures came before or after it" in text) == bool(not inside)


CASE = ROOT / "captures" / "idle_close_race_65s"
LINES = (CASE / "access.log").read_text().splitlines(keepends=True)


def with_log(lines, folder):
    log = folder / "access.log"
    log.write_text("".join(lines))
    given = {"error_logs": [CASE / "error.log"], "access_logs": [log], "proxy_conf": CASE / "nginx.conf"}
    return analyze(CASE / "proxy.pcap", **given)


@pytest.mark.parametrize("lines", [LINES[:14], LINES[-14:], LINES[:36], LINES[-36:]], ids=len)
def test_a_log_of_a_part_of_the_capture_s_time_is_not_taken_for_all_of_it(tmp_path, lines):
    result = with_log(lines, tmp_path)
    report = result.report
    n = report.impact.tries_unlogged
    assert 10 < n < 63
    assert f" of {len(lines)} logged client requests failed" in result.headline
    assert f" (the access log lacks the time of {n} tries)" in result.headline
    assert f"the access log lacks the time of {n} tries" in impact_line(report.impact)


def test_a_log_of_all_of_the_capture_s_time_lacks_nothing(tmp_path):
    for lines in (LINES, LINES[:-2], LINES[2:], LINES[::-1]):
        result = with_log(lines, tmp_path)
        assert result.report.impact.tries_unlogged == 0
        assert "lack" not in result.headline
