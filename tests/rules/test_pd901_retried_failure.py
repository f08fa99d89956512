"""PD901: retries that hid a failure."""

from dataclasses import replace

from pcapdiag.base.findings import Severity
from pcapdiag.proxy.join.clients import ClientTally
from pcapdiag.proxy.join.ledger import Ledger
from pcapdiag.rules.pd901_retried_failure import RetriedFailure
from tests.proxy.join.builders import OTHER, PEER, access, entry, wire
from tests.report.builders import analysis, with_log


def test_a_retry_that_failed_too_hid_nothing():
    lines = [access(700, (PEER, 502, 100), (OTHER, 502, 100), status=502)]
    assert list(RetriedFailure().check(with_log([wire(500)], [entry(0)], lines))) == []


def test_a_retry_that_succeeded_is_shown_and_a_post_that_may_have_run_twice_warns():
    tries = (PEER, 502, 100), (OTHER, 200, 321)
    line = access(921, *tries)
    (finding,) = RetriedFailure().check(with_log([wire(500)], [entry(0)], [line]))
    assert finding.severity is Severity.INFO
    assert finding.details["delay_ns_total"] == 100_000_000
    post = access(921, *tries, method="POST")
    wires = [wire(500, method="POST", is_acknowledged=True)]
    given = replace(with_log(wires, [entry(0, method="POST")], [post]), losses=())
    (finding,) = RetriedFailure().check(given)
    assert finding.severity is Severity.WARNING


def test_without_the_tries_of_requests_it_can_say_nothing():
    assert "--access-log" in RetriedFailure().missing(analysis())
    assert list(RetriedFailure().check(analysis())) == []
    with_tries, without = ClientTally(), ClientTally()
    assert list(with_tries.watch([access(700, (PEER, 200, 100))]))
    assert list(without.watch([access(700)]))
    ledger = Ledger(clock=None, entries=(), tries=())
    assert RetriedFailure().missing(analysis(log=replace(ledger, clients=with_tries))) == ""
    assert "names no upstreams" in RetriedFailure().missing(analysis(log=replace(ledger, clients=without)))
