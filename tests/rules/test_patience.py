"""Who lost patience, the proxy or its client, as the logs have it."""

import pytest

from pcapdiag.base.codes import ExchangeFlag
from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.proxy.join.ledger import JoinedTry, Ledger, WireVerdict
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules.diagnose import diagnose
from tests.proxy.join.builders import PEER, access, entry, wire
from tests.rules.builders import Scene, acknowledged, proxy_fin


@pytest.mark.parametrize(
    ("wait_ms", "kind", "status", "code"),
    [
        (1500, LogKind.TIMED_OUT, 504, "PD204"),
        (1500, None, 499, "PD206"),
        (1500, None, 200, "PD206"),
        (2000, LogKind.CLIENT_CLOSED, 499, "PD206"),
        (2000, None, 499, "PD206"),
        (2000, None, 200, "PD204"),
    ],
)
def test_the_log_knows_who_lost_patience_whatever_the_wait(monkeypatch, wait_ms, kind, status, code):
    monkeypatch.setattr("pcapdiag.rules._rule.most_certain", lambda *_: Confidence.CONFIRMED)
    scene = Scene()
    loss = scene.lost(acknowledged(160), proxy_fin(wait_ms), idle_ms=17)
    entries = (entry(0, kind=kind),) if kind is not None else ()
    attempt = wire(0, conn=loss.connection.conn, depth=loss.depth)
    line = access(wait_ms, (PEER, status, wait_ms), status=status)
    tries = (JoinedTry(attempt, WireVerdict.LOGGED, entries, line),)
    diagnosis = diagnose(scene.analysis(loss, log=Ledger(clock=None, entries=(), tries=tries)))
    (finding,) = [f for f in diagnosis.findings if f.code in ("PD204", "PD206")]
    assert finding.code == code
    assert (finding.confidence is Confidence.CONFIRMED) == (kind is not None or status == 499)


def test_who_closes_at_once_each_time_has_no_timeout_of_so_little():
    scene = Scene()
    losses = [scene.lost(acknowledged(0.05), proxy_fin(0.1), depth=0, opened_ms=opened) for opened in (1, 200, 900)]
    assert {f.code for f in diagnose(scene.analysis(*losses)).findings} & {"PD204", "PD206"} == {"PD206"}


@pytest.mark.parametrize(
    ("waits", "code"),
    [
        ([5_030, 5_110, 5_240, 5_390], {"PD204"}),
        ([5_030, 5_110, 5_240], {"PD206"}),
        ([4_600, 5_030, 5_110, 5_240, 5_390], {"PD206"}),
        ([5_030, 5_110, 5_240, 5_390, 5_800], {"PD204", "PD206"}),
    ],
)
def test_a_timer_that_fires_late_is_still_a_timer(waits, code):
    """Varnish looks at its timers now and then: several waits just above a whole second, and none just below."""
    scene = Scene()
    losses = [scene.lost(acknowledged(160), proxy_fin(w), idle_ms=17, late=i * 10_000) for i, w in enumerate(waits)]
    found = {f.code for f in diagnose(scene.analysis(*losses)).findings if f.code in ("PD204", "PD206")}
    assert found == code


@pytest.mark.parametrize("wait_ms", [0.02, 377, 60_000])
@pytest.mark.parametrize("status", [None, 499])
def test_where_nothing_of_the_upstream_was_captured_only_a_log_says_that_it_was_given_up(wait_ms, status):
    scene = Scene()
    loss = scene.lost(proxy_fin(wait_ms), idle_ms=-1, resp_ttl=-1)
    attempt = wire(0, conn=loss.connection.conn, depth=loss.depth)
    line = access(wait_ms, (PEER, status or 200, wait_ms), status=status or 200)
    tries = (JoinedTry(attempt, WireVerdict.LOGGED, (), line),)
    found = diagnose(scene.analysis(loss, log=Ledger(clock=None, entries=(), tries=tries))).findings
    (finding,) = [f for f in found if f.code != "PD110"]
    assert finding.code == ("PD206" if status else "PD999")
    assert finding.severity is (Severity.WARNING if status else Severity.INFO)


@pytest.mark.parametrize("n_late", [1, 2])
def test_an_answer_that_came_after_the_sender_had_closed_is_not_said_to_be_missing(n_late):
    scene = Scene()
    flags = [ExchangeFlag.LATE_ANSWER if n < n_late else ExchangeFlag(0) for n in range(2)]
    losses = [scene.lost(proxy_fin(0.4), acknowledged(160), depth=0, opened_ms=1, flags=f) for f in flags]
    (finding,) = [f for f in diagnose(scene.analysis(*losses)).findings if f.code == "PD206"]
    assert "got no answer" not in finding.message
    assert ("answered 1 of them all the same" in finding.message) is (n_late == 1)
    assert ("answered them all the same" in finding.message) is (n_late == 2)
    assert ("whether it had an answer" in finding.remedy) is (n_late == 1)
