"""What becomes of a cause: each outcome, and each reason not to decide."""

import pytest

import pcapdiag
from pcapdiag.report.compare.model import Judgement
from tests.report.compare.builders import CODES, MS, S, finding, proxy_first, report, risk, upstream


def judged(before, after, **options):
    """Return the comparison, and the one cause of its one upstream."""
    comparison = pcapdiag.compare_reports(before, after, **options)
    (change,) = comparison.upstreams
    (cause,) = change.causes
    assert cause.outcome == change.outcome == comparison.outcome
    return comparison, cause


def test_a_race_is_fixed_where_the_proxy_closes_first():
    comparison, cause = judged(report(finding()), report(upstreams=[proxy_first()]))
    assert cause.outcome is Judgement.FIXED
    assert "closes idle connections first, 3.000 s old (18 times" in cause.reason
    assert comparison.headline == "Fixed: PD101 name-of-pd101 (8 before, 0 after) at 10.1.1.1:80."


@pytest.mark.parametrize(
    "changes",
    [
        {"idle_closes_by_proxy": 2},  # two closings may have had other reasons
        {"proxy_idle_close_ns": 3_900 * MS},  # within one RTT of the upstream's timer
        {"idle_closes_by_upstream": 1},
    ],
)
def test_a_proxy_that_does_not_clearly_close_first_proves_nothing(changes):
    _, cause = judged(report(finding()), report(upstreams=[proxy_first() | changes]))
    assert cause.outcome is Judgement.CANNOT_TELL
    assert "the longest idle gap used in AFTER was 1.500 s" in cause.reason
    assert "begins at 3.840 s" in cause.reason


def test_a_race_is_fixed_where_the_upstream_answers_after_longer_gaps():
    now = upstream(timeout_s=None, longest_answered_gap_ns=30 * S, longest_gap_ns=30 * S, idle_closes_by_upstream=0)
    _, cause = judged(report(finding()), report(upstreams=[now]))
    assert cause.outcome is Judgement.FIXED
    assert "it answered after 30.00 s idle, before it closed them after 4.000 s" in cause.reason
    assert "Gaps beyond 30.00 s were not seen" in cause.reason


def test_longer_gaps_in_too_few_requests_decide_nothing():
    now = upstream(
        timeout_s=None, longest_answered_gap_ns=30 * S, longest_gap_ns=30 * S, idle_closes_by_upstream=0, reused=2
    )
    _, cause = judged(report(finding(failures=1)), report(upstreams=[now]))
    assert cause.outcome is Judgement.CANNOT_TELL
    assert "AFTER is too short" in cause.reason
    # 100 s for two of them.
    assert "570 reused requests without a loss would decide, about 28500 s of AFTER's traffic" in cause.reason


def test_a_race_is_fixed_where_no_connection_is_reused():
    now = upstream(timeout_s=None, reused=0, longest_gap_ns=-1, longest_answered_gap_ns=-1, idle_closes_by_upstream=0)
    _, cause = judged(report(finding()), report(upstreams=[now]))
    assert cause.outcome is Judgement.FIXED
    assert "not reused any more" in cause.reason


def test_a_few_requests_without_reuse_decide_nothing():
    now = upstream(timeout_s=None, reused=0, exchanges=2, longest_gap_ns=-1)
    _, cause = judged(report(finding()), report(upstreams=[now]))
    assert cause.outcome is Judgement.CANNOT_TELL
    assert "Too few requests" in cause.reason


def test_a_race_that_goes_on_is_still_exposed_and_its_trend_is_said():
    _, cause = judged(report(finding(failures=20)), report(finding(failures=2)))
    assert cause.outcome is Judgement.STILL_EXPOSED
    assert cause.reason.endswith("fewer than before.")
    _, cause = judged(report(finding(failures=2)), report(finding(failures=20)))
    assert cause.reason.endswith("more than before.")
    _, cause = judged(report(finding(failures=3)), report(finding(failures=2)))
    assert cause.reason.endswith("no clear change.")


def test_a_race_without_a_victim_is_still_exposed():
    _, cause = judged(report(finding()), report(risk()))
    assert cause.code == "PD101"
    assert cause.outcome is Judgement.STILL_EXPOSED
    assert "still closes idle connections after 4.000 s while the proxy holds them" in cause.reason


def test_a_risk_that_is_gone_is_fixed():
    _, cause = judged(report(risk()), report(upstreams=[proxy_first()]))
    assert (cause.code, cause.outcome) == ("PD110", Judgement.FIXED)


def test_a_risk_whose_end_was_not_shown_is_undecided():
    now = upstream(timeout_s=None, idle_closes_by_upstream=0, longest_gap_ns=3_990 * MS)
    _, cause = judged(report(risk()), report(upstreams=[now]))
    assert cause.outcome is Judgement.CANNOT_TELL
    assert "proves nothing" in cause.reason


def test_new_trouble_is_newly_exposed():
    comparison, cause = judged(report(), report(finding("PD201", 4)))
    assert cause.outcome is Judgement.NEWLY_EXPOSED
    assert comparison.headline.startswith("Newly exposed: PD201")


def test_trouble_at_a_new_upstream_is_newly_exposed():
    other = upstream("10.1.1.9:80")
    comparison = pcapdiag.compare_reports(
        report(), report(finding(subject="10.1.1.9:80"), upstreams=[upstream(), other])
    )
    assert [c.subject for c in comparison.upstreams] == ["10.1.1.9:80", "10.1.1.1:80"]
    assert "BEFORE does not hold this upstream" in comparison.upstreams[0].causes[0].reason


def test_nothing_on_either_side_is_not_exposed():
    comparison, cause = judged(report(), report())
    assert cause.outcome is Judgement.NOT_EXPOSED
    assert "Nothing was lost in 40 requests" in cause.reason
    assert comparison.headline == "Not exposed: nothing was lost at 10.1.1.1:80."


def test_a_side_without_requests_decides_nothing():
    silent = upstream(exchanges=0, reused=0)
    for now in ([silent], [upstream("10.1.1.2:80")]):
        comparison = pcapdiag.compare_reports(
            report(finding(), upstreams=[upstream(), upstream("10.1.1.2:80")]), report(upstreams=now)
        )
        change = next(c for c in comparison.upstreams if c.subject == "10.1.1.1:80")
        assert change.outcome is Judgement.CANNOT_TELL
        assert "AFTER holds no request to it" in change.causes[0].reason


def test_what_after_could_not_evaluate_is_undecided():
    before = report(finding("PD601", 3, subject="backend"), not_evaluated=())
    comparison = pcapdiag.compare_reports(before, report())
    change = next(c for c in comparison.upstreams if c.subject == "backend")
    assert change.outcome is Judgement.CANNOT_TELL
    assert "needs the error log" in change.causes[0].reason


def test_what_after_was_not_asked_is_undecided():
    _, cause = judged(report(finding()), report(codes=("PD201",)))
    assert cause.outcome is Judgement.CANNOT_TELL
    assert "--select" in cause.reason


@pytest.mark.parametrize(("code", "noun"), [("PD106", "reused request"), ("PD201", "request"), ("PD301", "connection")])
def test_other_causes_are_judged_by_what_could_have_been_lost(code, noun):
    many = upstream(exchanges=4000, reused=3000, connections=1000)
    _, cause = judged(report(finding(code, 9)), report(upstreams=[many]))
    assert cause.outcome is Judgement.FIXED
    assert f"{noun}s, AFTER none of" in cause.reason
    few = upstream(exchanges=4, reused=3, connections=2)
    _, cause = judged(report(finding(code, 1)), report(upstreams=[few]))
    assert cause.outcome is Judgement.CANNOT_TELL
    assert "AFTER is too short" in cause.reason


def test_upstreams_whose_addresses_all_changed_are_compared_as_one():
    after = report(upstreams=[proxy_first(endpoint="10.9.9.9:80")])
    comparison, cause = judged(report(finding()), after)
    assert comparison.upstreams[0].subject == "all upstreams"
    assert comparison.as_one
    assert cause.outcome is Judgement.FIXED


def test_upstreams_are_compared_as_one_where_that_is_asked():
    both = [upstream(), upstream("10.1.1.2:80", timeout_s=5.0)]
    before = report(finding(), finding(subject="10.1.1.2:80", failures=2), upstreams=both)
    comparison, cause = judged(before, report(finding(failures=1), upstreams=both), as_one=True)
    assert (cause.before, cause.after) == (10, 1)
    assert comparison.upstreams[0].before.requests == 80
    assert comparison.upstreams[0].before.idle_timeout_ns == 4 * S


def test_two_captures_without_any_upstream_decide_nothing():
    comparison = pcapdiag.compare_reports(report(upstreams=[]), report(upstreams=[]))
    assert comparison.outcome is Judgement.CANNOT_TELL


def test_what_needs_somebody_comes_first():
    endpoints = [upstream(f"10.1.1.{n}:80") for n in (1, 2, 3)]
    before = report(finding(subject="10.1.1.2:80"), upstreams=endpoints)
    after = report(finding(subject="10.1.1.3:80"), upstreams=endpoints)
    outcomes = [c.outcome for c in pcapdiag.compare_reports(before, after).upstreams]
    assert outcomes == sorted(outcomes, reverse=True)
    assert outcomes[0] is Judgement.NEWLY_EXPOSED


def test_requests_that_found_no_live_upstream_are_counted_beside_those_that_reached_one():
    before = report(finding("PD601", 60, subject="backend"), not_evaluated=())
    comparison = pcapdiag.compare_reports(before, report(not_evaluated=()))
    change = next(c for c in comparison.upstreams if c.subject == "backend")
    assert change.outcome is Judgement.FIXED
    assert "BEFORE lost 60 of 100 requests, AFTER none of 40" in change.causes[0].reason
    assert change.before is change.after is None


def test_the_headline_names_what_else_became_of_other_causes():
    before = report(finding(), finding("PD201", 9), finding("PD601", 60, subject="backend"), not_evaluated=())
    after = report(finding(failures=7), upstreams=[upstream(exchanges=4000)], not_evaluated=())
    assert pcapdiag.compare_reports(before, after).headline == (
        "Still exposed: PD101 name-of-pd101 (8 before, 7 after) at 10.1.1.1:80; "
        "fixed: PD201 name-of-pd201, PD601 name-of-pd601."
    )


def test_losses_of_one_moment_are_one_event():
    burst = finding("PD301", 9, occurrences=[{"request_ts_ns": n * S, "idle_before_ns": -1} for n in range(9)])
    _, cause = judged(report(burst), report(upstreams=[upstream(connections=80)]))
    assert cause.outcome is Judgement.CANNOT_TELL
    assert "BEFORE lost 9 of 14 connections at 1 moment, AFTER none of 80" in cause.reason
    assert "266 connections without a loss would decide" in cause.reason


def test_a_race_that_no_timer_explains_is_undecided_without_another_restart():
    many = upstream(timeout_s=None, exchanges=4000, reused=3000, idle_closes_by_upstream=0)
    _, cause = judged(report(finding(), upstreams=[upstream(timeout_s=None)]), report(upstreams=[many]))
    assert cause.outcome is Judgement.CANNOT_TELL
    assert "if a reload, a deployment or a restart closed the connections" in cause.reason


@pytest.mark.parametrize("code", ["PD104", "PD105"])
def test_a_path_that_forgets_connections_is_judged_by_gaps_as_long(code):
    long = upstream(timeout_s=None, longest_answered_gap_ns=40 * S, longest_gap_ns=40 * S)
    assert judged(report(finding(code)), report(upstreams=[long]))[1].outcome is Judgement.FIXED
    short = upstream(exchanges=4000, reused=3000, longest_answered_gap_ns=3 * S)
    _, cause = judged(report(finding(code)), report(upstreams=[short]))
    assert cause.outcome is Judgement.CANNOT_TELL
    assert "from 11.00 s idle on; the longest idle gap answered in AFTER was 3.000 s" in cause.reason


def test_a_path_that_forgets_connections_does_no_harm_where_the_proxy_closes_first():
    _, cause = judged(report(finding("PD104")), report(upstreams=[proxy_first()]))
    assert cause.outcome is Judgement.FIXED
    assert "closes idle connections 3.000 s old (18 times)" in cause.reason


def test_a_race_rule_without_a_timeout_leaves_it_to_the_numbers():
    after = report(upstreams=[proxy_first()], not_evaluated=("PD103", "PD110"))
    assert judged(report(risk()), after)[1].outcome is Judgement.FIXED
    assert judged(report(finding("PD103")), after)[1].outcome is Judgement.FIXED


def test_a_risk_is_gone_where_the_upstream_waits_longer_and_the_proxy_closes_first():
    now = proxy_first() | {"longest_answered_gap_ns": 9 * S, "longest_gap_ns": 9 * S, "proxy_idle_close_ns": 10 * S}
    _, cause = judged(report(risk()), report(upstreams=[now]))
    assert cause.outcome is Judgement.FIXED
    assert "The proxy closed 18 idle connections first." in cause.reason
    assert judged(report(risk()), report(upstreams=[now | {"idle_closes_by_proxy": 2}]))[1].outcome is (
        Judgement.CANNOT_TELL
    )


def test_a_cause_of_another_version_is_judged_by_the_number_of_requests():
    codes = (*CODES, "PD777")
    before, after = report(finding("PD777", 30), codes=codes), report(upstreams=[upstream(exchanges=400)], codes=codes)
    _, cause = judged(before, after)
    assert (cause.code, cause.outcome) == ("PD777", Judgement.FIXED)
    assert "BEFORE lost 30 of 40 requests" in cause.reason


@pytest.mark.parametrize("code", ["PD301", "PD302", "PD303", "PD304", "PD305"])
def test_what_strikes_connections_is_judged_by_connections_whether_or_not_they_carried_requests(code):
    """Inside TLS no request is seen: a reason that speaks of requests would be none."""
    lost, codes = finding(code, 9), (code,)
    for n_connections, told in ((0, "AFTER holds no connection to it."), (3, "AFTER none of 3: ")):
        _, cause = judged(
            report(lost, codes=codes), report(upstreams=[upstream(exchanges=0, connections=n_connections)], codes=codes)
        )
        assert cause.outcome is Judgement.CANNOT_TELL
        assert told in cause.reason
        assert "request" not in cause.reason
    _, cause = judged(report(lost, codes=codes), report(upstreams=[upstream(exchanges=0, connections=80)], codes=codes))
    assert cause.outcome is Judgement.FIXED
    assert "BEFORE lost 9 of 14 connections, AFTER none of 80" in cause.reason


@pytest.mark.parametrize(("code", "noun"), [("PD101", "request"), ("PD106", "request"), ("PD201", "request")])
def test_what_strikes_requests_is_not_judged_by_connections(code, noun):
    _, cause = judged(report(finding(code, 9)), report(upstreams=[upstream(exchanges=0, reused=0, connections=80)]))
    assert cause.outcome is Judgement.CANNOT_TELL
    assert cause.reason == f"AFTER holds no {noun} to it."
