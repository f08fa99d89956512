"""One plan for the proxy's pool: each line of the configuration once, every value held against the capture."""

from dataclasses import replace

import pytest

from pcapdiag.analysis.model import Endpoint, IdleTimeout
from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.rules._pool import SHORTEST_NS, pool_plan, safe_proxy_timeout_ns
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import MS, S, Scene, fin, only, resent

CONF = """upstream a { server 10.1.1.1:80; server 10.1.1.2:80; keepalive 8; keepalive_timeout 300s; }
upstream b { server 10.1.1.3:80; keepalive 8; keepalive_timeout 300s; }
server { location / { proxy_pass http://a; } location /b { proxy_pass http://b; } }
"""
PEERS = [Endpoint(f"10.1.1.{n}", 80) for n in (1, 2, 3)]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nginx.conf").write_text(CONF)
    return read_proxy_conf("nginx.conf")


def lost_at(scene, peer, *segments, **changes):
    loss = scene.lost(*segments, **changes)
    return replace(loss, connection=replace(loss.connection, resp=peer))


def three(scene, timeouts_ms, **changes):
    pairs = zip(PEERS, timeouts_ms, strict=True)
    return tuple(replace(scene.upstream(ms, **changes), endpoint=peer) for peer, ms in pairs)


def test_every_finding_names_the_whole_patch_and_counts_the_requests_of_all(settings):
    scene = Scene()
    losses = [
        lost_at(scene, peer, fin(127), idle_ms=ms - 123) for peer, ms in zip(PEERS, (4_000, 6_000, 9_000), strict=True)
    ]
    upstreams = three(scene, (4_000, 6_000, 9_000))
    findings = diagnose(scene.analysis(*losses, settings=settings, upstreams=upstreams)).findings
    races = [f for f in findings if f.code == "PD101"]
    assert len(races) == 3
    for finding in races:
        assert [(c.line, c.new) for c in finding.changes] == [(1, "3s"), (2, "8s")]
        assert "3 of 3 lost requests" in finding.remedy


def test_a_line_has_one_value_whatever_wants_it_shorter(settings):
    scene = Scene()
    forgotten = [lost_at(scene, PEERS[1], resent(360), retransmissions=7, idle_ms=ms) for ms in (9_000, 9_500)]
    race = lost_at(scene, PEERS[0], fin(127), idle_ms=11_900)
    upstreams = three(scene, (12_000, None, None), longest_answered_gap_ns=8_200 * MS)
    analysis = scene.analysis(race, *forgotten, settings=settings, upstreams=upstreams)
    values = {(c.line, c.new) for f in diagnose(analysis).findings for c in f.changes}
    assert values == {(1, "8s")}


@pytest.mark.parametrize("timeout_ms", [120, 300, 600, 1_000])
def test_a_pool_that_keeps_nothing_is_never_advised(settings, timeout_ms):
    scene = Scene(rtt_ms=1)
    loss = scene.lost(fin(0.5), idle_ms=timeout_ms - 0.6)
    upstream = scene.upstream(timeout_ms)
    assert safe_proxy_timeout_ns(upstream) < SHORTEST_NS
    finding = only(diagnose(scene.analysis(loss, settings=settings, upstream=upstream)), "PD101")
    assert finding.changes == ()
    assert "raise" in finding.remedy


def test_a_change_that_saves_none_of_the_requests_is_not_advised():
    scene = Scene()
    upstream = replace(scene.upstream(None), idle_timeout=IdleTimeout(4 * S, 0, 12, 2))
    early = scene.lost(fin(127), idle_ms=4_000, late=0)
    plan = pool_plan(scene.analysis(early, upstream=upstream))
    assert plan.saved(plan.raced) == 1
    assert plan.saved((replace(early, idle_before_ns=2 * S),)) == 0


def test_what_the_proxy_is_said_to_keep_is_not_less_than_a_gap_after_which_it_used_a_connection():
    scene = Scene(rtt_ms=1)
    loss = scene.lost(fin(0.4), idle_ms=64_999.5)
    for kind in (ProxyKind.NGINX, None):
        upstream = scene.upstream(65_000, longest_gap_ns=65_010 * MS)
        finding = only(diagnose(scene.analysis(loss, upstream=upstream, proxy_kind=kind)), "PD101")
        assert "keeps 60 s" not in finding.remedy
        assert "more than 65.01 s: so long a connection idled before it was used" in finding.remedy
    short = scene.upstream(4_000, longest_gap_ns=4_001 * MS, proxy_idle_close_ns=300 * MS, idle_closes_by_proxy=3)
    finding = only(diagnose(scene.analysis(scene.lost(fin(0.4), idle_ms=3_999.5), upstream=short)), "PD101")
    assert "300 ms" not in finding.remedy


def test_a_limit_between_two_gaps_is_called_that_and_a_guess_a_guess(settings):
    scene = Scene()
    losses = [scene.lost(resent(360), retransmissions=7, idle_ms=ms) for ms in (9_000, 12_000)]
    for longest, words in ((8_700 * MS, "somewhere between 8.7 s"), (-1, "a guess")):
        upstream = scene.upstream(None, longest_answered_gap_ns=longest)
        finding = only(diagnose(scene.analysis(*losses, settings=settings, upstream=upstream)), "PD104")
        assert words in finding.remedy
        (change,) = finding.changes
        assert int(change.new.removesuffix("s")) * NS_PER_S < (longest if longest > 0 else 9 * S)


def test_the_limit_of_a_late_server_is_the_least_that_its_timeout_may_be():
    scene = Scene()
    timeout = IdleTimeout(5_340 * MS, 740 * MS, 19, 2, ("lighttpd",), late_ns=1_100 * MS)
    upstream = replace(scene.upstream(None), idle_timeout=timeout)
    losses = [scene.lost(fin(100), idle_ms=ms, late=1_000 * n) for n, ms in enumerate((5_250, 5_600, 6_000))]
    finding = only(diagnose(scene.analysis(*losses, upstream=upstream)), "PD101")
    assert finding.count == 3
    assert finding.identifier.endswith("/idle-5s")
    assert finding.details["proxy_keepalive_timeout_ns"] == 4 * S
    assert "5.34 s to 6.08 s (one timer, which is looked at now and then)" in finding.message
