"""PD901: retries that hid a failure."""

from dataclasses import replace

from pcapdiag.base.findings import Severity
from pcapdiag.proxy.join.clients import ClientTally
from pcapdiag.proxy.join.ledger import Ledger
from pcapdiag.rules.pd901_retried_failure import RetriedFailure, can_have_run
from tests.proxy.join.builders import OTHER, PEER, access, entry, wire
from tests.report.builders import analysis, with_log
from tests.rules.builders import END, Scene, acknowledged, fin, proxy_fin, refused, rst


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


def test_what_met_an_idle_close_did_not_run_twice():
    scene = Scene()
    lost = [
        (scene.lost(acknowledged(200), fin(127), proxy_fin(127.1)), False),
        (scene.lost(acknowledged(160), fin(161, ack=END), idle_ms=3990), False),
        (scene.lost(acknowledged(160), fin(700, ack=END), idle_ms=17), True),
        (scene.lost(rst(160), idle_ms=2212), False),
        (scene.attempt(refused(40)), False),
    ]
    analysis_ = scene.analysis(*(loss for loss, _ in lost))
    assert [can_have_run(analysis_, loss) for loss, _ in lost] == [has_run for _, has_run in lost]
