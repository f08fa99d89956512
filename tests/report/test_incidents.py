"""Several failures at one upstream at one moment are told as one event; what is apart is not."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.findings import Severity
from pcapdiag.report.incidents import find_incidents
from tests.report import builders

S = 10**9
CODES = ("PD101", "PD106", "PD301")


def finding(code, *times, resp="10.1.1.1:80", severity=Severity.ERROR):
    occurrences = tuple(
        builders.occurrence(request_ts_ns=t, resp=resp, request_frame=n + 1, evidence=()) for n, t in enumerate(times)
    )
    return builders.finding(code=code, identifier=f"{code}/{resp}", severity=severity, occurrences=occurrences)


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
