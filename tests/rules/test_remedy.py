"""Remedies: the timeout that is advised, and what to change in the configuration that was given."""

from dataclasses import replace

import pytest

from pcapdiag.base.codes import Key
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.rules._pool import safe_proxy_timeout_ns
from pcapdiag.rules._remedy import nginx_time
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import (
    BEFORE,
    END,
    MS,
    UPSTREAM,
    S,
    Scene,
    Seg,
    acknowledged,
    fin,
    only,
    proxy_fin,
    refused,
    resent,
    rst,
    syn_again,
)

NGINX = """upstream be {
    server 10.1.1.1:80;
    server 10.1.1.2:80;
    keepalive 32;
    keepalive_timeout 300s;
}
server {
    location / { proxy_pass http://be; proxy_read_timeout 2s; proxy_next_upstream off; }
}
"""
APISIX = 'upstreams:\n  - id: be\n    nodes: {"10.1.1.1:80": 1}\n    keepalive_pool:\n      idle_timeout: 300\n'

CONFIG_MAP = "kind: ConfigMap\ndata:\n  upstream-keepalive-timeout: '300'\n"
KONG = "log_level = info\nupstream_keepalive_idle_timeout = 300\n"


@pytest.fixture
def conf(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(text, name="nginx.conf", version=""):
        (tmp_path / name).write_text(text)
        return read_proxy_conf(name, version=version)

    return read


def finding_of(scene, code, *losses, settings, **options):
    analysis = replace(scene.analysis(*losses, **options), settings=settings)
    return next(f for f in diagnose(analysis).findings if f.code == code)


@pytest.mark.parametrize("rtt_ms", [0.1, 0.4, 40, 160])
def test_an_rtt_that_changes_no_digit_is_not_subtracted_in_words(rtt_ms):
    scene = Scene(rtt_ms=rtt_ms)
    remedy = only(diagnose(scene.analysis(scene.lost(fin(0.5 * rtt_ms), idle_ms=4_000 - 0.5 * rtt_ms))), "PD101").remedy
    assert ("less one RTT" in remedy) is (rtt_ms > 1)


@pytest.mark.parametrize("timeout_ms", [500, 1_000, 2_000, 4_000, 5_000, 20_000, 65_000, 75_000, 350_000, 3_600_000])
@pytest.mark.parametrize("rtt_ms", [0.1, 1, 40, 160])
def test_the_advised_timeout_is_below_the_race_window(timeout_ms, rtt_ms):
    scene = Scene(rtt_ms=rtt_ms)
    safe = safe_proxy_timeout_ns(scene.upstream(timeout_ms))
    assert 0 < safe < (timeout_ms - rtt_ms) * MS
    assert safe > 0.3 * (timeout_ms - rtt_ms) * MS


def test_no_timeout_is_short_enough_where_the_path_is_longer():
    assert safe_proxy_timeout_ns(Scene(rtt_ms=300).upstream(250)) == -1


@pytest.mark.parametrize(("ns", "text"), [(3 * S, "3s"), (60 * S, "60s"), (1_500 * MS, "1500ms")])
def test_a_timeout_is_written_as_nginx_reads_it(ns, text):
    assert nginx_time(ns) == text


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        (NGINX, "nginx.conf", "nginx.conf line 5, upstream be: keepalive_timeout 300s -> 3s"),
        (APISIX, "apisix.yaml", "apisix.yaml line 5, upstream object be: keepalive_pool.idle_timeout 300 -> 3"),
        (CONFIG_MAP, "c.yaml", "c.yaml line 3, data of the ConfigMap: upstream-keepalive-timeout 300 -> 3"),
        (KONG, "kong.conf", "kong.conf line 2: upstream_keepalive_idle_timeout 300 -> 3"),
    ],
)
def test_the_race_is_cured_in_the_language_of_the_proxy(conf, text, name, line):
    scene = Scene()
    lost = scene.lost(fin(127), proxy_fin(127.1), rst(160))
    finding = finding_of(scene, "PD101", lost, settings=conf(text, name))
    assert line in finding.remedy
    assert "The same setting elsewhere" not in finding.remedy
    assert f"keeps 300 s ({finding.changes[0].file}:{finding.changes[0].line})" in finding.remedy


def test_without_a_configuration_the_remedy_is_the_general_one():
    scene = Scene()
    lost = scene.lost(fin(127), proxy_fin(127.1), rst(160))
    finding = finding_of(scene, "PD101", lost, settings=None)
    assert finding.changes == ()
    assert "an idle limit of 3 s for connections to 10.1.1.1:80 (in nginx: keepalive_timeout 3s;" in finding.remedy
    assert "The same setting elsewhere: APISIX" in finding.remedy
    assert "the default of nginx" not in finding.remedy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (NGINX.replace("300s", "2s"), "keeps idle connections for 2s (nginx.conf:5): is it the one that runs?"),
        (NGINX.replace("10.1.1.1", "10.7.7.7"), "names no 10.1.1.1:80"),
    ],
)
def test_a_configuration_that_does_not_fit_is_said(conf, text, says):
    scene = Scene()
    lost = scene.lost(fin(127), proxy_fin(127.1), rst(160))
    finding = finding_of(scene, "PD101", lost, settings=conf(text))
    assert finding.changes == ()
    assert says in finding.remedy


def test_a_forgotten_connection_is_given_up_before_the_path_forgets_it(conf):
    scene = Scene()
    lost = [scene.lost(resent(200), idle_ms=idle) for idle in (9_000.0, 12_000.0)]

    def answered(ms):
        return scene.upstream(None, longest_answered_gap_ns=ms * 1_000_000)

    finding = finding_of(scene, "PD104", *lost, settings=conf(NGINX), upstream=answered(8_700))
    assert [change.text for change in finding.changes] == ["keepalive_timeout 8s;"]
    unbracketed = finding_of(scene, "PD104", *lost, settings=conf(NGINX), upstream=answered(10_000))
    assert unbracketed.changes == ()


def test_a_slow_upstream_gets_twice_the_time_where_no_late_answer_says_how_much(conf):
    scene = Scene()
    lost = [scene.lost(acknowledged(160), proxy_fin(2_003), late=100 * n) for n in range(3)]
    finding = finding_of(scene, "PD204", *lost, settings=conf(NGINX))
    assert [(c.line, c.old, c.new) for c in finding.changes] == [(8, "2s", "4s")]


def test_a_refused_connection_may_be_tried_elsewhere(conf):
    scene = Scene()
    finding = finding_of(scene, "PD301", scene.attempt(refused(1)), settings=conf(NGINX))
    assert [(c.setting, c.old, c.new) for c in finding.changes] == [("proxy_next_upstream", "off", "error")]


def test_an_attempt_without_an_answer_costs_less(conf):
    scene = Scene()
    finding = finding_of(scene, "PD302", scene.attempt(syn_again(1_000)), settings=conf(NGINX))
    assert [c.text for c in finding.changes] == ["proxy_connect_timeout 2s;", "proxy_next_upstream error;"]


def test_one_line_gets_the_wait_that_is_enough_for_all_upstreams(conf):
    scene = Scene()
    other = replace(UPSTREAM, address="10.1.1.2")
    quick = [scene.lost(acknowledged(160), proxy_fin(2_003), late=100 * n) for n in range(3)]
    late = Seg(Key.RESPONSE, 9_000, BEFORE, END, 40)
    slow = [scene.lost(acknowledged(160), proxy_fin(2_003), late, late=1_000 + 100 * n, flags=1) for n in range(3)]
    slow = [replace(loss, connection=replace(loss.connection, resp=other)) for loss in slow]
    upstreams = scene.upstream(), replace(scene.upstream(), endpoint=other)
    analysis = replace(scene.analysis(*quick, *slow, upstreams=upstreams), settings=conf(NGINX))
    findings = [f for f in diagnose(analysis).findings if f.code == "PD204"]
    assert len(findings) == 2
    assert {(c.line, c.new) for f in findings for c in f.changes} == {(8, "12s")}


def test_a_configuration_that_the_capture_contradicts_is_doubted(conf):
    scene = Scene(rtt_ms=1)
    lost = scene.lost(fin(0.4), idle_ms=64_999.5)
    upstream = scene.upstream(65_000, longest_gap_ns=65_010 * MS)
    finding = finding_of(scene, "PD101", lost, settings=conf(NGINX.replace("300s", "61s")), upstream=upstream)
    assert "one was used after 65.01 s: is it the one that runs?" in finding.remedy
    assert "keeps 61 s" not in finding.remedy


def raced_at_two(conf, text):
    """Return what is said of losses at two upstreams, of which the second idled 65 s, by their address."""
    scene = Scene(rtt_ms=1)
    other = replace(UPSTREAM, address="10.1.1.2")
    quick = scene.lost(fin(0.4), idle_ms=3_999.5)
    slow = [scene.lost(fin(0.4), idle_ms=64_999.5, late=1_000 + 100 * n) for n in range(2)]
    slow = [replace(loss, connection=replace(loss.connection, resp=other)) for loss in slow]
    upstreams = scene.upstream(), replace(scene.upstream(65_000, longest_gap_ns=65_010 * MS), endpoint=other)
    analysis = replace(scene.analysis(quick, *slow, upstreams=upstreams), settings=conf(text))
    return {f.subject: f.remedy for f in diagnose(analysis).findings if f.code == "PD101"}


def test_a_gap_at_one_server_of_a_block_contradicts_what_is_assumed_of_the_others(conf):
    remedies = raced_at_two(conf, NGINX.replace("keepalive_timeout 300s;", ""))
    assert len(remedies) == 2
    assert not any("while the proxy keeps 60 s" in remedy for remedy in remedies.values())
    assert all("3 of 3 lost requests" in remedy for remedy in remedies.values())


def test_advice_for_one_upstream_counts_what_was_lost_there(conf):
    remedies = raced_at_two(conf, NGINX.replace("10.1.1.", "10.7.7."))
    assert sorted("2 of 2 lost requests" in remedy for remedy in remedies.values()) == [False, True]
    assert not any("3 lost requests" in remedy for remedy in remedies.values())


def test_a_configuration_that_keeps_none_is_not_said_to_keep_them_for_its_default(conf):
    scene = Scene()
    lost = scene.lost(fin(127), proxy_fin(127.1), rst(160))
    text = NGINX.replace("keepalive_timeout 300s;", "").replace("keepalive 32;", "")
    remedy = finding_of(scene, "PD101", lost, settings=conf(text)).remedy
    assert "keeps none" in remedy
    assert "while the proxy keeps" not in remedy
