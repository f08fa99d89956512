"""PD302: attempts that nothing answered, and those that ICMP ended."""

import pytest

from pcapdiag.base.findings import Confidence
from pcapdiag.proxy.join.ledger import JoinedTry, Ledger, WireVerdict
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules.diagnose import diagnose
from tests.proxy.join.builders import CONNECTING, entry, wire
from tests.rules.builders import Scene, only, syn_again


def test_an_attempt_watched_for_a_second_is_unanswered():
    scene = Scene()
    assert only(diagnose(scene.analysis(scene.attempt())), "PD302").confidence is Confidence.LIKELY
    assert only(diagnose(scene.analysis(scene.attempt(syn_again(1000)))), "PD302").confidence is Confidence.CONFIRMED


@pytest.mark.parametrize(("errno_name", "is_told"), [("EHOSTUNREACH", True), ("ETIMEDOUT", False)])
def test_an_attempt_that_icmp_refused_is_told_from_one_that_nothing_answered(errno_name, is_told):
    scene = Scene()
    loss = scene.attempt(syn_again(1000))
    told = entry(0, kind=LogKind.CONNECT_FAILED, action=CONNECTING, errno_name=errno_name)
    tries = (JoinedTry(wire(0, conn=loss.connection.conn, depth=-1), WireVerdict.LOGGED, (told,)),)
    diagnosis = diagnose(scene.analysis(loss, log=Ledger(clock=None, entries=(), tries=tries)))
    (finding,) = [f for f in diagnosis.findings if f.code == "PD302"]
    assert ("ICMP" in finding.message) == is_told
