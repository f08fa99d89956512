"""PD302: attempts that nothing answered, what they need to be believed, and what else was seen of the upstream."""

import pytest

from pcapdiag.analysis.model import AttemptSign, Endpoint
from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.proxy.join.ledger import JoinedTry, Ledger, WireVerdict
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules.diagnose import assign_causes, diagnose
from tests.proxy.join.builders import CONNECTING, entry, wire
from tests.rules.builders import (
    Scene,
    acknowledged,
    found,
    only,
    proxy_fin,
    refused,
    syn_again,
    with_connections,
    with_icmp,
)

REPEATED, WITNESSED = AttemptSign.REPEATED, AttemptSign.WITNESSED


def logged(*losses, errno_name="ETIMEDOUT"):
    told = entry(0, kind=LogKind.CONNECT_FAILED, action=CONNECTING, errno_name=errno_name)
    tries = [JoinedTry(wire(0, conn=x.connection.conn, depth=-1), WireVerdict.LOGGED, (told,)) for x in losses]
    return Ledger(clock=None, entries=(), tries=tuple(tries))


@pytest.mark.parametrize(
    ("sign", "confidence", "severity"),
    [
        (REPEATED | WITNESSED, Confidence.CONFIRMED, Severity.ERROR),
        (REPEATED, Confidence.LIKELY, Severity.ERROR),
        (WITNESSED, Confidence.POSSIBLE, Severity.WARNING),
    ],
)
def test_silence_needs_a_kernel_that_repeats_or_a_witness(sign, confidence, severity):
    scene = Scene()
    again = [syn_again(1000)] if sign & REPEATED else []
    analysis = scene.analysis(scene.attempt(*again, sign=sign))
    ((_, claim),) = assign_causes(analysis)["PD302"]
    assert (claim.confidence, only(diagnose(analysis), "PD302").severity) == (confidence, severity)


@pytest.mark.parametrize("sign", [AttemptSign.NONE, AttemptSign.MADE_UP | WITNESSED])
def test_without_either_nothing_is_known(sign):
    scene = Scene()
    (finding,) = found(scene.analysis(scene.attempt(sign=sign)))
    assert (finding.code, finding.severity) == ("PD999", Severity.INFO)


def test_a_syn_that_met_an_older_connection_was_answered():
    """RFC 5961 section 4: who still holds a connection between these ports acknowledges that one."""
    scene = Scene()
    (finding,) = found(scene.analysis(scene.attempt(syn_again(1000), resp_ttl=64)))
    assert (finding.code, finding.severity) == ("PD999", Severity.WARNING)
    assert "segments of an older connection between the same ports" in finding.message


@pytest.mark.parametrize(("again", "is_down"), [([], False), ([syn_again(1000)], True)])
def test_of_a_syn_that_no_kernel_repeated_nobody_says_that_its_target_is_down(again, is_down):
    scene = Scene()
    sign = WITNESSED | (REPEATED if again else AttemptSign.NONE)
    finding = only(diagnose(scene.analysis(scene.attempt(*again, sign=sign))), "PD302")
    assert ("it is down" in finding.message, "the capture lacks the repetitions" in finding.message) == (
        is_down,
        not is_down,
    )


def test_a_single_syn_that_the_proxy_logs_as_timed_out_is_one():
    scene = Scene()
    loss = scene.attempt(sign=AttemptSign.NONE)
    finding = only(diagnose(scene.analysis(loss, log=logged(loss))), "PD302")
    assert (finding.confidence, finding.severity) == (Confidence.LIKELY, Severity.ERROR)


def test_attempts_that_were_sent_once_stand_beside_those_that_were_repeated():
    scene = Scene()
    losses = scene.attempt(syn_again(1000)), scene.attempt()
    assert only(diagnose(scene.analysis(*losses)), "PD302").count == 2


def test_attempts_of_endpoints_without_a_witness_are_told_once():
    scene = Scene()
    losses = [scene.attempt(sign=AttemptSign.NONE, resp=Endpoint("10.1.1.1", port)) for port in range(1000, 1020)]
    (finding,) = found(scene.analysis(*losses))
    assert (finding.code, finding.count) == ("PD999", 20)
    assert "20 endpoints" in finding.message


def test_a_scan_is_one_finding_for_information():
    scene = Scene()
    losses = [
        scene.attempt(*answer, sign=AttemptSign.SCAN, resp=Endpoint("10.1.1.1", port), late=port / 10)
        for port, answer in enumerate([()] * 30 + [(refused(1),)] * 3)
    ]
    (finding,) = found(scene.analysis(*losses))
    assert (finding.code, finding.severity, finding.count) == ("PD302", Severity.INFO, 33)
    assert "33 ports of 10.1.1.1" in finding.message
    assert "3 refused" in finding.message


def test_what_the_proxy_logs_is_no_scan():
    scene = Scene()
    loss = scene.attempt(sign=AttemptSign.SCAN)
    finding = only(diagnose(scene.analysis(loss, log=logged(loss))), "PD302")
    assert finding.severity is Severity.ERROR


@pytest.mark.parametrize(("errno_name", "is_told"), [("EHOSTUNREACH", True), ("ETIMEDOUT", False)])
def test_an_attempt_that_icmp_refused_is_told_from_one_that_nothing_answered(errno_name, is_told):
    scene = Scene()
    loss = scene.attempt(syn_again(1000))
    finding = only(diagnose(scene.analysis(loss, log=logged(loss, errno_name=errno_name))), "PD302")
    assert ("ICMP" in finding.message) == is_told


def test_an_upstream_from_which_nothing_comes_is_down_and_not_slow():
    scene = Scene()
    before = scene.lost(acknowledged(160), proxy_fin(4000), depth=0, last_ts_ns=scene.t0 + 14_000_000_000)
    losses = [before, *(scene.attempt(syn_again(1000), late=5_000 + n) for n in range(3))]
    finding = only(diagnose(scene.analysis(*losses)), "PD302")
    assert "down, cut off" in finding.message
    assert "not slow" in finding.message
    assert "is up and can be reached" in finding.remedy


def test_a_machine_that_goes_on_acknowledging_is_there():
    scene = Scene()
    late = scene.lost(acknowledged(1_000), proxy_fin(9_001), late=0, idle_ms=17)
    finding = only(diagnose(scene.analysis(scene.attempt(syn_again(1000), late=100), late)), "PD302")
    assert "The machine itself was there" in finding.message


def test_other_attempts_that_icmp_answered_name_what_drops():
    scene = Scene()
    losses = scene.attempt(syn_again(1000)), with_icmp(scene.attempt(), code=13)
    finding = only(diagnose(scene.analysis(*losses)), "PD302")
    assert finding.count == 1
    assert "answered by ICMP communication administratively prohibited" in finding.message


def test_it_counts_connections_that_opened():
    scene = Scene()
    analysis = scene.analysis(scene.attempt(syn_again(1000)))
    unopened, opened = with_connections(analysis), with_connections(analysis, syn_ack_frames=1)
    assert "none to it opened" in only(diagnose(unopened), "PD302").message
    assert "1 other connection to it opened" in only(diagnose(opened), "PD302").message


def test_the_silent_half_of_happy_eyeballs_is_information():
    scene = Scene()
    loss = scene.attempt(sign=AttemptSign.RACED | WITNESSED)
    finding = only(diagnose(scene.analysis(loss)), "PD302")
    assert (finding.severity, "happy eyeballs" in finding.message) == (Severity.INFO, True)
    finding = only(diagnose(scene.analysis(loss, log=logged(loss))), "PD302")
    assert finding.severity is Severity.ERROR
