"""Many connections closed at one moment at different ages are one event; those of one timer are none."""

from dataclasses import replace

import numpy as np
import pytest

from pcapdiag.base.codes import ClosingKind, Direction, Leg
from pcapdiag.base.columns import CONNECTIONS
from pcapdiag.base.findings import Severity
from pcapdiag.base.tables import Table
from pcapdiag.proxy.join.ledger import Ledger
from pcapdiag.rules._moments import mass_closings
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import MS, Scene, fin, rst

ADDRESS = 0xFFFF0A010101


def closed(scene, ages_ms, *, at_ms=30_000, every_ms=0.1, side=Direction.RESP, n_open=0, timeout_ms=None, losses=()):
    """Return an analysis of connections closed one after the other, and of others that stay open."""
    rows = CONNECTIONS.empty(len(ages_ms) + n_open)
    rows["conn"] = np.arange(len(rows))
    rows["resp_lo"], rows["resp_port"], rows["n_exchanges"], rows["orig_frames"] = ADDRESS, 80, 3, 9
    rows["orig_lo"] = 0xFFFF0A010164
    rows["first_ts_ns"], rows["last_ts_ns"] = scene.t0, scene.t0 + 90_000 * MS
    rows["closing_ts_ns"] = rows["idle_at_close_ns"] = rows["first_closer"] = -1
    for n, age in enumerate(ages_ms):
        row = rows[n : n + 1]
        row["first_closer"], row["closing_kind"] = side, ClosingKind.FIN
        row["closing_ts_ns"] = scene.t0 + round((at_ms + n * every_ms) * MS)
        row["idle_at_close_ns"] = round(age * MS)
    legs = np.full(len(rows), Leg.UPSTREAM, dtype=np.int8)
    return scene.analysis(*losses, connections=Table(CONNECTIONS, rows), legs=legs, upstream=scene.upstream(timeout_ms))


def test_all_at_once_at_any_age_is_an_event():
    analysis = closed(Scene(), (200, 900, 1_900, 4_000, 12_000))
    (event,) = mass_closings(analysis)
    assert (event.subject, event.is_upstream, len(event.moments[0].conns)) == ("10.1.1.1:80", True, 5)
    (finding,) = [f for f in diagnose(analysis).findings if f.code == "PD108"]
    assert finding.severity is Severity.INFO
    assert "closed 5 connections of 5 open ones within 400 us, idle for 200 ms to 12 s" in finding.message
    assert "keepalive_timeout" not in finding.remedy


@pytest.mark.parametrize(
    ("ages_ms", "changes"),
    [
        ((4_000, 4_001, 4_003, 4_000, 4_002), {}),
        ((5_000, 5_300, 5_600, 5_900, 6_000), {}),
        ((120_000, 128_000, 133_000, 140_000, 150_000), {}),
        ((200, 900, 1_900, 4_000, 12_000), {"every_ms": 400}),
        ((200, 900), {}),
        ((200, 900, 1_900, 4_000, 12_000), {"n_open": 6}),
        ((1, 2, 30, 4, 5), {}),
        ((3_995, 4_000, 4_003, 250, 12_000), {"timeout_ms": 4_000}),
    ],
    ids=["one timer", "late timer", "slow sweep", "one by one", "two", "few of many", "at responses", "timer and two"],
)
def test_what_a_timer_or_chance_explains_is_none(ages_ms, changes):
    assert mass_closings(closed(Scene(), ages_ms, **changes)) == ()


def test_a_proxy_that_stops_closes_all_and_no_client_went_away():
    (event,) = mass_closings(closed(Scene(), (200, 900, 1_900, 4_000, 12_000), side=Direction.ORIG))
    assert (event.subject, event.is_upstream) == ("10.1.1.100", False)
    analysis = closed(Scene(), (200, 900, 1_900, 4_000, 12_000), side=Direction.ORIG)
    for log, is_proxy in ((Ledger(clock=None, entries=(), tries=()), True), (None, False)):
        (finding,) = [f for f in diagnose(replace(analysis, log=log)).findings if f.code == "PD108"]
        assert ("no client went away" in finding.message) == is_proxy
        assert finding.message.startswith("The proxy 10.1.1.100 closed 5" if is_proxy else "10.1.1.100 closed 5")


def test_a_request_lost_to_it_keeps_its_own_cause_and_gets_no_timeout_for_advice():
    scene = Scene()
    loss = scene.lost(fin(90), rst(160), idle_ms=310)
    analysis = closed(scene, (200, 900, 1_900, 4_000, 12_000), losses=(loss,))
    found = {f.code: f for f in diagnose(analysis).findings}
    assert found["PD101"].count == 1
    assert found["PD108"].severity is Severity.WARNING
    assert "1 request was on these connections" in found["PD108"].message
    assert not found["PD101"].remedy.startswith(("At the proxy", "Let the proxy"))
