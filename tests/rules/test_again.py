"""What is sent once more: by the configuration where there is one, and never against it."""

import re
from dataclasses import replace

import pytest

from pcapdiag.base.codes import Method
from pcapdiag.proxy.conf.haproxy import read_haproxy
from pcapdiag.proxy.conf.nginx import read_nginx
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.rules._again import not_a_cure, retries, runs_twice, sends_again
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import Scene, acknowledged, fin

NGINX = (
    "http {{ upstream b {{ server 10.1.1.1:80; {more} }} server {{ location / {{ proxy_pass http://b; {line} }} }} }}"
)
SECOND = "server 10.1.1.2:80;"
HAPROXY = "defaults\n  mode {mode}\n{line}backend b\n  server s1 10.1.1.1:80\n"


def nginx(line="", more=SECOND):
    """Return what reads such a configuration in a folder."""

    def read(folder):
        path = folder / "nginx.conf"
        path.write_text(NGINX.format(more=more, line=line))
        return read_nginx(path, path.read_text())

    return read


def haproxy(line="", mode="http"):
    return lambda _folder: read_haproxy(HAPROXY.format(mode=mode, line=line and f"  {line}\n"), "h.cfg")


def made(folder, reads=None, kind=None, **changes):
    scene = Scene()
    loss = replace(scene.lost(acknowledged(160), fin(700, ack=247), idle_ms=17), **changes)
    return scene.analysis(loss, settings=reads and reads(folder), proxy_kind=kind), loss


GET = {"method": Method.GET}


@pytest.mark.parametrize(
    ("settings", "changes", "expected"),
    [
        (None, GET, None),
        (nginx(), GET, True),
        (nginx(), {}, False),
        (nginx("proxy_next_upstream error non_idempotent;"), {}, True),
        (nginx("proxy_next_upstream off;"), GET, False),
        (nginx("proxy_next_upstream_tries 1;"), GET, False),
        (nginx(more=""), GET, False),
        (haproxy(), GET, False),
        (haproxy("retry-on conn-failure empty-response"), GET, True),
        (haproxy("retry-on all-retryable-errors"), {}, True),
        (haproxy("retry-on all-retryable-errors", mode="tcp"), GET, False),
    ],
)
def test_a_request_goes_out_again_only_as_the_configuration_has_it(tmp_path, settings, changes, expected):
    analysis, loss = made(tmp_path, settings, **changes)
    assert sends_again(analysis, loss) is expected
    (finding,) = (f for f in diagnose(analysis).findings if f.code == "PD201")
    assert ("may run one twice" in finding.remedy) is (expected is not False)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (nginx(), "can be retried: proxy_next_upstream error timeout (the default)"),
        (nginx("proxy_next_upstream off;"), "sends no such request on to another peer"),
        (nginx("proxy_next_upstream_tries 1;"), "sends no such request on to another peer"),
        (nginx(more=""), "There is no second peer"),
        (haproxy(), "retry-on conn-failure empty-response (now conn-failure"),
        (haproxy(mode="tcp"), "In TCP mode HAProxy"),
    ],
)
def test_how_to_retry_holds_against_the_configuration(tmp_path, settings, says):
    assert says in retries(*made(tmp_path, settings))


def test_in_tcp_mode_nothing_of_http_is_named(tmp_path):
    analysis, loss = made(tmp_path, haproxy(mode="tcp"))
    text = f"{not_a_cure(analysis)} {retries(analysis, loss)}"
    assert re.findall(r"http-reuse|retry-on|pool-purge-delay|l7", text) == []
    text = " ".join(f"{f.message} {f.remedy}" for f in diagnose(analysis).findings)
    assert re.findall(r"http-reuse|retry-on|pool-purge-delay", text) == []


def test_what_timed_out_is_not_said_to_run_twice_where_nothing_sends_it_again(tmp_path):
    assert runs_twice(*made(tmp_path, nginx("proxy_next_upstream error;"))) == ""
    assert runs_twice(*made(tmp_path, kind=ProxyKind.CADDY)) == ""
    assert "may be sent" in runs_twice(*made(tmp_path, kind=ProxyKind.NGINX))
