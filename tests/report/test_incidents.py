"""Several failures at one upstream at one moment are told as one event; what is apart is not."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.api.analyze import analyze
from pcapdiag.base.findings import Exposure, RuleFacts, Severity
from pcapdiag.report import incidents
from pcapdiag.rules.diagnose import diagnose
from tests.report import builders
from tests.scenario import parse, write_capture

CAPTURES = Path(__file__).resolve().parents[2] / "captures"

S = 10**9
CODES = ("PD101", "PD106", "PD301")


def find_incidents(findings, alive=(), limits=None):
    return incidents.find_incidents(findings, {"10.1.1.1:80": np.array(alive, dtype=np.int64)}, limits or {})


def finding(code, *times, resp="10.1.1.1:80", severity=Severity.ERROR, goes_down=True, exposure=Exposure.REQUEST):
    occurrences = tuple(
        builders.occurrence(request_ts_ns=t, resp=resp, request_frame=n + 1, evidence=()) for n, t in enumerate(times)
    )
    facts = RuleFacts(goes_down=goes_down, exposure=exposure)
    return builders.finding(
        code=code, identifier=f"{code}/{resp}", severity=severity, occurrences=occurrences, facts=facts
    )


def test_resets_and_refusals_of_one_moment_are_one_event():
    found = find_incidents((finding("PD106", S, 2 * S), finding("PD301", 3 * S, 4 * S)))
    (incident,) = found
    assert (incident.start_ts_ns, incident.end_ts_ns) == (S, 4 * S)
    assert incident.endpoints == ("10.1.1.1:80",)
    assert incident.identifiers == ("PD106/10.1.1.1:80", "PD301/10.1.1.1:80")
    assert "4 failures within 3 s" in incident.message
    assert "2 x PD106" in incident.message


def test_one_cause_alone_is_told_by_its_finding():
    assert find_incidents((finding("PD301", S, 2 * S, 3 * S, 4 * S),)) == ()


def test_what_is_apart_in_time_or_place_is_no_event():
    assert find_incidents((finding("PD106", S, 2 * S), finding("PD301", 60 * S))) == ()
    assert find_incidents((finding("PD106", S, 2 * S), finding("PD301", S, resp="10.1.1.2:80"))) == ()


def test_what_is_told_for_information_makes_no_event():
    found = find_incidents((finding("PD106", S, 2 * S), finding("PD999", S, S + 1, severity=Severity.INFO)))
    assert found == ()


@given(st.lists(st.tuples(st.integers(0, 100), st.sampled_from(CODES)), max_size=30))
def test_an_event_holds_no_pause_and_no_failure_twice(events):
    findings = tuple(
        finding(code, *sorted(t * S for t, c in events if c == code)) for code in ("PD101", "PD106", "PD301")
    )
    found = find_incidents(tuple(f for f in findings if f.occurrences))
    assert all(a.end_ts_ns + 2 * S < b.start_ts_ns for a, b in pairwise(found))
    for incident in found:
        inside = sorted(t * S for t, _ in events if incident.start_ts_ns <= t * S <= incident.end_ts_ns)
        assert all(b - a <= 2 * S for a, b in pairwise(inside))
        assert len(inside) >= 3


def test_what_was_answered_in_between_ends_an_event():
    """Failures of the same two seconds are independent where the upstream served others meanwhile."""
    findings = (finding("PD106", S, 2 * S), finding("PD301", 3 * S, 4 * S))
    assert find_incidents(findings, [3 * S - 1]) == ()
    assert find_incidents(findings, [S + 1, 2 * S + 1]) == ()
    assert len(find_incidents(findings, [S - 1, S, 4 * S, 4 * S + 1])) == 1


def test_only_what_a_server_that_goes_down_leaves_is_one_event():
    slow = finding("PD204", S, 2 * S, goes_down=False)
    assert find_incidents((slow, finding("PD301", 3 * S, 4 * S))) == ()
    assert len(find_incidents((slow, finding("PD106", S), finding("PD301", 3 * S, 4 * S)))) == 1


def test_a_race_with_the_known_timer_is_no_part_of_an_event():
    """A server that is stopped half a second later had nothing to do with it."""
    race = finding("PD101", S, exposure=Exposure.RACE)
    after = finding("PD301", 3 * S // 2, 3 * S // 2 + 1)
    idle_ns = race.occurrences[0].idle_before_ns
    assert len(find_incidents((race, after))) == 1
    assert len(find_incidents((race, after), limits={"10.1.1.1:80": idle_ns + 1})) == 1
    assert len(find_incidents((race, after), limits={"10.1.1.2:80": idle_ns})) == 1
    assert find_incidents((race, after), limits={"10.1.1.1:80": idle_ns}) == ()


def test_only_races_are_left_to_the_timer():
    lost = (finding("PD106", S, exposure=Exposure.REUSE), finding("PD301", S + 1, S + 2))
    assert len(find_incidents(lost, limits={"10.1.1.1:80": 0})) == 1


def test_failures_are_placed_where_they_ended():
    """Two that were sent at different times end together, whatever was served in between; a third follows."""
    end = builders.evidence(9, 0, 1, 0x11, 0, 0, 0, "FIN")
    ends = replace(end, ts_ns=5 * S)
    both = finding("PD201", S, 4 * S)
    both = replace(both, occurrences=tuple(replace(o, closing_frame=9, evidence=(ends,)) for o in both.occurrences))
    (incident,) = find_incidents((both, finding("PD301", 6 * S)), [2 * S, 3 * S])
    assert (incident.start_ts_ns, incident.end_ts_ns) == (5 * S, 6 * S)
    assert find_incidents((both, finding("PD301", 6 * S)), [5 * S + 1]) == ()


def test_a_connection_or_an_answer_that_begins_is_a_sign_of_life(tmp_path):
    """Three requests that fail one after the other, each on a connection of its own, are three failures."""
    request = '+0.1 @{c} > P. "GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"\n+0.01 @{c} < .\n'
    opened = "+0.1 @{c} > S\n+0.01 @{c} < S.\n+0 @{c} > .\n"
    reset, closed = "+0.1 @{c} < R.\n", "+0.1 @{c} < F.\n+0.001 @{c} > F.\n"
    refused = "+0.3 @2 > S\n+0.001 @2 < R.\n"
    apart = "".join((opened + request + end).format(c=c) for c, end in enumerate((reset, closed)))
    together = "".join((opened + request).format(c=c) for c in (0, 1)) + reset.format(c=0) + closed.format(c=1)
    for script, n in ((apart + refused, 0), (together + refused, 1)):
        path = tmp_path / "a.pcap"
        path.write_bytes(write_capture(parse(script)))
        assert len(analyze(path, proxies=["10.9.0.100"]).report.incidents) == n


def test_an_idle_limit_is_the_least_timeout_less_a_round_trip():
    analysis = analyze(CAPTURES / "idle_close_race_65s" / "proxy.pcap").analysis
    limits = incidents.idle_limits(analysis)
    timed = [u for u in analysis.upstreams if u.idle_timeout is not None]
    assert limits == {str(u.endpoint): u.idle_timeout.earliest_ns - u.rtt_p99_ns for u in timed}
    assert limits


def test_what_was_answered_is_read_from_the_exchanges(tmp_path):
    """Two connections die, and a third is refused: one event, unless the server answered someone in between."""
    answered = (
        '+0.1 @{c} > S\n+0 @{c} < S.\n+0 @{c} > .\n+0 @{c} > P. "GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"\n'
        '+0.01 @{c} < P. "HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n"\n+0 @{c} > .\n'
    )
    lost = '+0.2 @{c} > P. "GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"\n+0.04 @{c} < .\n+0.1 @{c} < R.\n'
    refused = "+0.3 @3 > S\n+0.001 @3 < R.\n"
    begin = "".join(answered.format(c=c) for c in (0, 1)) + lost.format(c=0) + lost.format(c=1)
    for script, n in ((begin + refused, 1), (begin + answered.format(c=2) + refused, 0)):
        path = tmp_path / "a.pcap"
        path.write_bytes(write_capture(parse(script)))
        assert len(analyze(path, proxies=["10.9.0.100"]).report.incidents) == n


def test_every_upstream_of_a_capture_with_answers_is_found_however_different_its_connections():
    """Of connections on which failures were seen, 27 in all: the bytes beside their addresses differ."""
    report = analyze(CAPTURES / "idle_close_race_65s" / "proxy.pcap")
    findings = diagnose(report.analysis).findings
    alive = incidents.signs_of_life(report.analysis, findings)
    exchanges = report.exchanges
    for endpoint, times in alive.items():
        answered = exchanges[(exchanges["resp"] == endpoint) & (exchanges["outcome"] == "answered")]
        assert len(times) >= (answered["status_code"] < 500).sum() > 0
        assert (np.diff(times) >= 0).all()
    assert set(alive) == {str(o.resp) for f in findings for o in f.occurrences}
