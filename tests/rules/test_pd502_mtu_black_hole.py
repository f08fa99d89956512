"""PD502: large segments that vanish, with a router's word or by their size alone, and what looks like it."""

from dataclasses import replace

import pytest

from pcapdiag.base.codes import ExchangeFlag, Key, Outcome
from pcapdiag.base.columns import EXCHANGES
from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.base.tables import Table
from pcapdiag.rules.diagnose import assign_causes, diagnose
from tests.rules.builders import (
    MS,
    Scene,
    acknowledged,
    causes_of,
    fin,
    only,
    proxy_fin,
    resent,
    with_connections,
    with_icmp,
)


def stuck(scene, n_bytes=1460, last_bytes=None, retransmissions=5, **changes):
    """Return a request of which one segment was sent again and again."""
    last = replace(resent(9_000, Key.LAST_RETRANSMISSION), length=last_bytes or n_bytes)
    again = replace(resent(300), length=n_bytes)
    return scene.lost(again, last, retransmissions=retransmissions, **{"depth": 0, "idle_ms": -1} | changes)


def with_answered(scene, *losses, requests=((-5_000, 90), (15_000, 90)), **changes):
    """Return an analysis with answered requests: (ms after the first lost request, bytes)."""
    rows = EXCHANGES.empty(len(requests))
    rows["request_ts_ns"] = [losses[0].request_ts_ns + at * MS for at, _ in requests]
    rows["request_bytes"] = [n for _, n in requests]
    rows["outcome"] = Outcome.ANSWERED
    return with_connections(scene.analysis(*losses, exchanges=Table(EXCHANGES, rows), **changes))


def codes_of(analysis):
    return list(causes_of(analysis))


def test_a_router_says_so_and_names_the_mtu():
    scene = Scene()
    analysis = scene.analysis(with_icmp(stuck(scene), code=4, mtu=1400))
    finding = only(diagnose(analysis), "PD502")
    ((_, claim),) = assign_causes(analysis)["PD502"]
    assert (claim.confidence, finding.severity) == (Confidence.CONFIRMED, Severity.ERROR)
    assert "1400 bytes (1,360 bytes of payload at most)" in finding.message
    assert finding.details == {"mtu_bytes": 1400}


def test_it_is_the_cause_on_a_reused_connection_as_well():
    scene = Scene()
    loss = stuck(scene, depth=2, idle_ms=5_000)
    assert codes_of(scene.analysis(loss)) == ["PD104"]
    assert codes_of(scene.analysis(with_icmp(loss, code=4, mtu=1400))) == ["PD502"]


def test_what_was_sent_smaller_after_it_is_no_black_hole():
    scene = Scene()
    loss = with_icmp(stuck(scene, last_bytes=1300), code=4, mtu=1400)
    assert codes_of(scene.analysis(loss)) == ["PD999"]


@pytest.mark.parametrize("end", [(acknowledged(400), proxy_fin(60_000)), (acknowledged(400), fin(500, ack=247))])
def test_what_got_through_in_the_end_has_another_cause(end):
    scene = Scene()
    loss = scene.lost(resent(300), *end, depth=0, flags=ExchangeFlag.ACKNOWLEDGED)
    assert "PD502" not in codes_of(scene.analysis(with_icmp(loss, code=4, mtu=1400)))


def test_an_error_about_the_response_says_nothing_of_the_request():
    scene = Scene()
    loss = with_icmp(stuck(scene), code=4, mtu=1400)
    (error,) = loss.icmp
    back = replace(loss, icmp=(replace(error, src=error.dst, dst=error.src),))
    assert codes_of(scene.analysis(back)) == ["PD999"]


def test_by_size_alone_it_is_likely_and_only_possible_of_one_request():
    scene = Scene()
    one = only(diagnose(with_answered(scene, stuck(scene))), "PD502")
    two = only(diagnose(with_answered(scene, stuck(scene), stuck(scene, late=20))), "PD502")
    assert (one.confidence, one.severity) == (Confidence.POSSIBLE, Severity.WARNING)
    assert (two.confidence, two.severity) == (Confidence.LIKELY, Severity.ERROR)
    assert "No ICMP" in two.message


@pytest.mark.parametrize(
    "requests",
    [
        (),
        ((-5_000, 90),),
        ((15_000, 90),),
        ((-5_000, 90), (15_000, 90), (16_000, 5_000)),
    ],
)
def test_by_size_it_needs_small_ones_before_and_after_and_no_large_one_at_all(requests):
    scene = Scene()
    losses = stuck(scene), stuck(scene, late=20)
    assert codes_of(with_answered(scene, *losses, requests=requests)) == ["PD999"]


def test_where_small_segments_vanish_as_well_size_explains_nothing():
    scene = Scene()
    losses = stuck(scene), stuck(scene, late=20), stuck(scene, n_bytes=123, late=40)
    assert set(codes_of(with_answered(scene, *losses))) == {"PD999"}


def test_after_a_long_idle_gap_the_path_may_have_forgotten_the_connection():
    scene = Scene()
    losses = [stuck(scene, depth=2, idle_ms=60_000, late=late) for late in (0, 20)]
    assert codes_of(with_answered(scene, *losses)) == ["PD104"]
