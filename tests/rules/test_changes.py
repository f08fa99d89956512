"""What to change in the configuration that was given: each cause in its proxy's own words."""

from dataclasses import replace

import pytest

from pcapdiag.conf.read import read_proxy_conf
from pcapdiag.correlate.arrivals import Arrival, ArrivalVerdict
from pcapdiag.diagnose import diagnose
from pcapdiag.findings import Change, Confidence
from pcapdiag.rules._changes import change_block, change_line
from tests.rules.builders import (
    Scene,
    acknowledged,
    fin,
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
CHANGE = Change(
    *("nginx", "nginx.conf", 23, "upstream api", "keepalive_timeout", "60s", "55s"),
    *("keepalive_timeout 60s;", "keepalive_timeout 55s;"),
    old_is_assumed=False,
    is_new=False,
)


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


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "nginx.conf line 23, upstream api: keepalive_timeout 60s -> 55s"),
        (
            {"is_new": True, "old_is_assumed": True, "old_text": ""},
            "nginx.conf line 23, upstream api: add keepalive_timeout 55s; (the default holds, 60s)",
        ),
        ({"new": "", "text": ""}, "nginx.conf line 23, upstream api: remove keepalive_timeout 60s;"),
        ({"file": "", "line": -1}, "upstream api: keepalive_timeout 60s -> 55s"),
        ({"old": ""}, "nginx.conf line 23, upstream api: keepalive_timeout 55s"),
        (
            {"since": "1.15.3", "is_supported": None},
            "nginx.conf line 23, upstream api: keepalive_timeout 60s -> 55s (nginx 1.15.3 or later)",
        ),
        (
            {"setting": "x", "since": "1.15.3", "is_supported": False},
            "nginx.conf line 23, upstream api: x 60s -> 55s; this version does not know it, nginx 1.15.3 does",
        ),
        ({"where": "location /a\n    rm b"}, "nginx.conf line 23, location /a rm b: keepalive_timeout 60s -> 55s"),
    ],
)
def test_a_change_is_one_line(changes, text):
    assert change_line(replace(CHANGE, **changes)) == text


def test_many_changes_are_counted_and_what_they_bring_is_said_once():
    block = change_block([replace(CHANGE, line=n, caution="it costs") for n in range(1, 16)])
    assert block.count("upstream api") == 12
    assert "    and 3 more" in block
    assert block.endswith("Mind that it costs.")


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
    assert "The same setting elsewhere" in finding.remedy


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


def weighed(verdict, *segments):
    scene = Scene()
    lost = scene.lost(*segments)
    analysis = scene.analysis(lost)
    arrival = Arrival(verdict, "request id", "app.log", 9 if verdict is ArrivalVerdict.ARRIVED else -1, (3, 4))
    analysis = replace(analysis, arrivals={(lost.connection.conn, lost.depth): arrival})
    return diagnose(analysis).findings[0]


RACE = fin(127), proxy_fin(127.1), rst(160)
DIED = acknowledged(160), fin(700, ack=247)


def test_a_line_in_the_application_s_log_speaks_against_a_race():
    finding = weighed(ArrivalVerdict.ARRIVED, *RACE)
    assert (finding.code, finding.confidence) == ("PD101", Confidence.POSSIBLE)
    assert "speaks against this cause" in finding.message
    assert finding.occurrences[0].log_lines == ("app.log:9",)


def test_a_missing_line_does_not_make_a_race_less_certain_and_is_named():
    finding = weighed(ArrivalVerdict.NOT_IN_LOG, *RACE)
    assert (finding.code, finding.confidence) == ("PD101", Confidence.CONFIRMED)
    assert "has no line for it, though it has what came before and after (by request id)" in finding.message
    assert "(line 3) and after (line 4)" in finding.occurrences[0].upstream_log


def test_a_line_supports_that_the_upstream_had_the_request():
    with_line, without = (weighed(v, *DIED) for v in (ArrivalVerdict.ARRIVED, ArrivalVerdict.NOT_IN_LOG))
    assert with_line.code == without.code == "PD201"
    assert with_line.confidence >= without.confidence
    assert "written at the end" in without.occurrences[0].upstream_log


def test_what_proves_nothing_changes_nothing():
    finding = weighed(ArrivalVerdict.NOT_COVERED, *RACE)
    assert finding.confidence is Confidence.CONFIRMED
    assert "application" not in finding.message
