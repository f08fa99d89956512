"""The first sentence names the cause of what clients suffered by the access log, where that tells statuses."""

import dataclasses
from types import SimpleNamespace

import pytest

from pcapdiag.base.findings import Effect, Role, RuleFacts, Severity
from pcapdiag.report.headline import headline, main_cause
from pcapdiag.report.impact import CLIENT_LEG
from pcapdiag.report.model import Impact
from pcapdiag.report.render.terminal import render
from tests.report import builders

LOG = Impact("access_log", 100, 6, 0, 0, 6, 0)


def of(code, n, effect=Effect.FAILS, unserved=None, severity=Severity.ERROR, failures=None):
    """Return a finding of a report: so many failures, after so many of which a client had an error."""
    made = builders.report(builders.finding(code=code, name=code.lower(), title=f"Title of {code}")).findings[0]
    return dataclasses.replace(
        made,
        count=n,
        failures=n if failures is None else failures,
        unserved=n if unserved is None else unserved,
        effect=effect,
        severity=severity,
    )


def report_of(*findings, impact=LOG, truncated=0):
    made = builders.report()
    lost = sum(f.failures for f in findings) - truncated
    totals = dataclasses.replace(made.totals, unanswered=lost, failed_connects=0, truncated=truncated)
    return dataclasses.replace(made, totals=totals, findings=findings, impact=impact)


def cause_of(report):
    return main_cause(report).head.code


CUT = of("PD203", 9, Effect.CUT_OFF, unserved=0)
SLOW = of("PD204", 3)


def test_what_was_cut_off_after_its_status_is_not_the_cause_of_logged_errors():
    report = report_of(CUT, SLOW, truncated=9)
    assert cause_of(report) == "PD204"
    assert headline(report).startswith("6 of 100 client requests failed; 3 of ")
    assert "title of PD204 (PD204 pd204, confirmed, 3 times)" in headline(report)
    assert "9 x PD203 pd203 (after their status: likely not among those failures)" in headline(report)


@pytest.mark.parametrize(
    "impact",
    [Impact(unknown="no log"), dataclasses.replace(LOG, source=CLIENT_LEG), dataclasses.replace(LOG, failures=0)],
)
def test_where_no_log_tells_of_errors_most_failures_count(impact):
    report = report_of(CUT, SLOW, truncated=9, impact=impact)
    assert cause_of(report) == "PD203"
    assert "after their status" not in headline(report)


LEFT = of("PD206", 2, Effect.CUT_OFF, unserved=0, severity=Severity.INFO)


def test_responses_whose_clients_left_are_not_cut_off():
    report = report_of(CUT, LEFT, truncated=11)
    beside = "(2 responses that the proxy ended are told for information only)"
    assert f"9 responses were cut off {beside}" in headline(report)


def test_where_clients_left_and_nothing_else_happened_no_request_is_lost():
    report = report_of(LEFT, truncated=2, impact=Impact(unknown="no log"))
    assert headline(report).startswith("No request is known to be lost; for information: ")
    assert "cut off" not in headline(report)


def test_requests_and_responses_that_clients_left_are_counted_apart():
    asked = of("PD206", 1, Effect.LEFT, severity=Severity.INFO)
    report = report_of(LEFT, asked, truncated=2, impact=Impact(unknown="no log"))
    assert "cut off" not in headline(report)
    assert "got no answer" not in headline(report)


def test_what_was_cut_off_in_its_head_is_an_error_of_a_client():
    report = report_of(dataclasses.replace(CUT, unserved=9), SLOW, truncated=9)
    assert cause_of(report) == "PD203"
    assert "after their status" not in headline(report)


def test_what_was_cut_off_alone_does_not_explain_the_errors_either():
    assert "(PD203 pd203, confirmed), after their status: likely not among those failures" in headline(
        report_of(CUT, truncated=9)
    )


@pytest.mark.parametrize(("failures", "code"), [(3, "PD204"), (12, "PD206")])
def test_clients_that_went_away_are_the_cause_of_errors_only_where_nothing_else_is(failures, code):
    left = of("PD206", 9, Effect.LEFT, severity=Severity.WARNING)
    assert cause_of(report_of(left, SLOW, impact=dataclasses.replace(LOG, failures=failures))) == code


def test_what_retries_hid_gives_way_to_what_clients_saw():
    assert cause_of(report_of(of("PD101", 40, unserved=0), SLOW)) == "PD204"


def test_an_answer_that_failed_most_clients_stands_before_the_tries_without_one():
    answered = of("PD403", 6, Effect.ANSWERED, failures=0, severity=Severity.WARNING)
    report = report_of(answered, SLOW)
    assert cause_of(report) == "PD403"
    assert headline(report).startswith(
        "6 of 100 client requests failed: title of PD403 (PD403 pd403, confirmed, 6 times); besides, 3 of "
    )
    assert "PD403" not in headline(report).partition("besides")[2]
    # More errors than clients saw: retries hid some, and nobody knows which.
    assert cause_of(report_of(dataclasses.replace(answered, unserved=50), SLOW)) == "PD204"
    assert cause_of(report_of(dataclasses.replace(answered, unserved=3), SLOW)) == "PD204"


@pytest.mark.parametrize(
    ("effect", "is_head_whole", "status", "unserved"),
    [
        (Effect.CUT_OFF, True, 200, 0),
        (Effect.CUT_OFF, False, -1, 1),
        (Effect.CUT_OFF, True, 503, 1),
        (Effect.FAILS, True, 200, 1),
        (Effect.ANSWERED, True, 200, 1),
    ],
)
def test_a_report_counts_after_what_a_client_had_an_error(effect, is_head_whole, status, unserved):
    lost = SimpleNamespace(
        connection=SimpleNamespace(conn=0),
        depth=4,
        stands_for=1,
        is_head_whole=is_head_whole,
        status_code=status,
    )
    made = builders.finding(occurrences=(builders.occurrence(),), facts=RuleFacts(effect=effect))
    (found,) = builders.report(made, truncated=(lost,)).findings
    assert (found.failures, found.unserved) == (1, unserved)


@pytest.mark.parametrize(("status", "unserved"), [(200, 0), (502, 1)])
def test_what_a_retry_answered_failed_no_client(status, unserved):
    retry = SimpleNamespace(wire=SimpleNamespace(key=(0, 4)), access=SimpleNamespace(status=status))
    base = builders.with_log([], [])
    told = dataclasses.replace(base.log, retries=(retry,))
    lost = SimpleNamespace(
        connection=SimpleNamespace(conn=0), depth=4, stands_for=1, is_head_whole=True, status_code=200
    )
    made = builders.finding(occurrences=(builders.occurrence(),))
    (found,) = builders.report(made, truncated=(lost,), log=told).findings
    assert (found.failures, found.unserved) == (1, unserved)


@pytest.mark.parametrize(("late_s", "is_beyond"), [(20, False), (2000, True)])
def test_requests_without_a_peer_that_were_logged_at_another_time_are_said_to_be(late_s, is_beyond):
    shown = builders.occurrence(conn=-1, uid="", evidence=(), request_ts_ns=builders.T0 + late_s * builders.S)
    no_peer = builders.finding(
        code="PD601", name="no-live-upstreams", occurrences=(shown,), facts=RuleFacts(role=Role.NO_PEER)
    )
    made = builders.report(no_peer, builders.finding())
    first, last = made.captures[0].first_ts_ns, made.captures[0].last_ts_ns
    assert first <= builders.T0 + 20 * builders.S <= last < builders.T0 + 1990 * builders.S
    words = "1 x PD601 no-live-upstreams" + " (1 of them logged before or after the capture)" * is_beyond
    assert headline(made).endswith(f" Other errors: {words}.")


def test_where_bodies_were_cut_off_a_log_without_an_error_is_no_word_that_nothing_failed():
    none = dataclasses.replace(LOG, failures=0)
    assert headline(report_of(CUT, truncated=9, impact=none)).startswith("None of 100 client requests got an error; ")
    assert headline(report_of(SLOW, impact=none)).startswith("None of 100 client requests failed; ")


def test_the_page_says_what_the_access_log_has_of_another_time():
    made = report_of(SLOW, impact=dataclasses.replace(LOG, failures_beyond=7))
    assert "7 failures in the access log came before or after the capture: not counted here" in render(made, show=())
    assert "before or after the capture" not in render(report_of(SLOW), show=())


def test_beside_nothing_to_judge_stands_what_clients_saw():
    seen = Impact(CLIENT_LEG, 9, 4, 0, 0, 4, 0)
    made = dataclasses.replace(builders.report(n_unanswered=0, upstreams=()), impact=seen)
    assert "Clients saw 4 failures of 9 requests" in headline(made)
    well = dataclasses.replace(made, impact=dataclasses.replace(seen, failures=0))
    assert headline(well) == "There is nothing to judge: 1 connection, no request to an upstream."


@pytest.mark.parametrize(("failures", "words"), [(3, ", 2 of them"), (9, ", at least 2 of them")])
def test_requests_without_a_peer_are_at_least_so_many_where_failures_are_left_over(failures, words):
    shown = [builders.occurrence(conn=-1, uid="", evidence=(), request_ts_ns=builders.T0 + builders.S)] * 2
    facts = RuleFacts(role=Role.NO_PEER)
    no_peer = builders.finding(code="PD601", name="no-live-upstreams", occurrences=shown, facts=facts)
    told = dataclasses.replace(LOG, failures=failures)
    made = builders.report(no_peer, builders.finding())
    cause = next(f for f in made.findings if f.role is Role.CAUSE)
    findings = [dataclasses.replace(f, unserved=1 if f is cause else 0) for f in made.findings]
    assert f"{words} because no upstream was live" in headline(
        dataclasses.replace(made, impact=told, findings=tuple(findings))
    )
