"""Advice names settings of the proxy and the server that are there, and of no other."""

import re
from dataclasses import replace

import pytest

from pcapdiag.base.codes import Protocol
from pcapdiag.proxy.conf.haproxy import read_haproxy
from pcapdiag.proxy.conf.httpd import read_httpd
from pcapdiag.proxy.conf.nginx import read_nginx
from pcapdiag.proxy.conf.settings import OF_OTHER_KIN, ProxyKind
from pcapdiag.rules._again import runs_twice
from pcapdiag.rules._dialect import group_of_peers, of_nginx, server_words, wait_setting
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import Scene, acknowledged, fin, only, proxy_fin, resent, rst

NGINX_WORDS = re.compile(r"keepalive_timeout|proxy_next_upstream|proxy_read_timeout|max_fails|upstream block|nginx")


def losses(s):
    """Return one lost request for each cause that has something to say about the pool."""
    return [
        s.lost(fin(127), proxy_fin(127.1)),
        s.lost(fin(90), idle_ms=250),
        s.lost(fin(-30), idle_ms=4030),
        s.lost(acknowledged(160), fin(161, ack=247), idle_ms=3990),
        s.lost(resent(360), resent(12_000), retransmissions=7, idle_ms=9000),
        s.lost(rst(160), idle_ms=2212),
        s.lost(rst(160, ttl=60), idle_ms=2212, resp_ttl=63),
        s.lost(acknowledged(160), fin(700, ack=247), idle_ms=17),
        s.lost(acknowledged(160), rst(700, ack=247), depth=0),
    ]


def remedies(kind, text="", **changes):
    scene = Scene()
    made = [replace(loss, connection=replace(loss.connection, **changes)) for loss in losses(scene)]
    read = {ProxyKind.HAPROXY: read_haproxy, ProxyKind.APACHE: read_httpd}.get(kind)
    given = {"settings": read(text, "p.cfg")} if read is not None else {}
    upstream = scene.upstream(server_field=changes.get("server", ""))
    analysis = scene.analysis(*made, upstream=upstream, proxy_kind=kind, **given)
    return [f"{f.message} {f.remedy}" for f in diagnose(analysis).findings]


@pytest.mark.parametrize(("kind", "own"), [(ProxyKind.HAPROXY, "pool-purge-delay"), (ProxyKind.APACHE, "ttl=3")])
def test_another_proxy_gets_none_of_the_settings_of_nginx(kind, own):
    texts = remedies(kind, server="uvicorn")
    assert len(texts) >= 6
    assert [found for text in texts for found in NGINX_WORDS.findall(text)] == []
    assert any(own in text for text in texts)


HAPROXY = (
    "defaults\n  mode http\n  retry-on all-retryable-errors\nbackend b\n  server s1 10.1.1.1:80 pool-purge-delay 60s\n"
)
HTTPD = "ProxyPass /a http://10.1.1.1:80/ ttl=120\nProxyPass /b http://10.1.1.2:80/\n"


@pytest.mark.parametrize(
    ("kind", "text", "own"),
    [
        (ProxyKind.HAPROXY, HAPROXY, "the server line of 10.1.1.1:80 (p.cfg:5, now pool-purge-delay 60s): pool-purge"),
        (ProxyKind.HAPROXY, HAPROXY, "retry-on conn-failure empty-response, as p.cfg:3 has it"),
        (ProxyKind.HAPROXY, "", "retry-on conn-failure empty-response, with"),
        (ProxyKind.HAPROXY, HAPROXY.replace("  retry-on all-retryable-errors\n", ""), "(now conn-failure, the default"),
        (ProxyKind.APACHE, HTTPD, "line of 10.1.1.1:80 (p.cfg:1, now ttl 120): ttl=3"),
        (ProxyKind.APACHE, HTTPD.replace(" ttl=120", ""), "(p.cfg:1, now ttl none, the default of mod_proxy): ttl=3"),
    ],
)
def test_what_is_configured_is_named_with_its_line(kind, text, own):
    assert any(own in found for found in remedies(kind, text))


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (ProxyKind.ALB, "idle_timeout.timeout_seconds=3"),
        (ProxyKind.ENVOY, "idle_timeout 3s;"),
        (ProxyKind.CADDY, "transport http of its reverse_proxy to 10.1.1.1:80: keepalive 3s,"),
        (ProxyKind.TRAEFIK, "forwardingTimeouts.idleConnTimeout: 3s,"),
        (ProxyKind.CLB, "an idle timeout of 3 s"),
    ],
)
def test_a_proxy_whose_configuration_is_not_read_has_its_words_all_the_same(kind, own):
    texts = remedies(kind, server="uvicorn")
    assert [found for text in texts for found in NGINX_WORDS.findall(text)] == []
    assert any(own in text for text in texts)


def test_a_limit_that_nobody_can_set_is_not_advised():
    for text in remedies(ProxyKind.GCP, server="uvicorn"):
        assert "Let the proxy give up" not in text
        assert NGINX_WORDS.findall(text) == []
    assert any("uvicorn --timeout-keep-alive) from 4 s" in text for text in remedies(ProxyKind.GCP, server="uvicorn"))
    assert any("600 s (fixed by GCP)" in text for text in remedies(ProxyKind.GCP, server="uvicorn"))


_DEFAULTS = {ProxyKind.NGINX: "60 s", ProxyKind.CADDY: "120 s", ProxyKind.TRAEFIK: "90 s", ProxyKind.CLB: "60 s"}


@pytest.mark.parametrize("kind", [kind for kind in ProxyKind if kind not in {ProxyKind.HAPROXY, ProxyKind.APACHE}])
def test_no_proxy_is_told_the_default_of_another(kind):
    said = " ".join(remedies(kind, server="uvicorn"))
    for other, keeps in _DEFAULTS.items():
        assert (f"keeps {keeps} (the default of {other.value})" in said) is (other is kind)


def test_where_nothing_tells_the_proxy_its_settings_are_examples():
    for text in remedies(None, server="uvicorn"):
        without = re.sub(r"\(in nginx: [^)]*\)|ingress-nginx", "", text)
        assert NGINX_WORDS.findall(without) == []
        assert "the default of nginx" not in text


def test_nginx_keeps_its_own_words():
    assert any(
        "in the upstream block of 10.1.1.1:80: keepalive_timeout 3s;" in text for text in remedies(ProxyKind.NGINX)
    )


@pytest.mark.parametrize(
    ("changes", "own", "foreign"),
    [
        ({"protocol": Protocol.FASTCGI, "server": ""}, "request_terminate_timeout", "gunicorn"),
        ({"protocol": Protocol.UWSGI, "server": ""}, "harakiri", "gunicorn"),
        ({"server": "gunicorn"}, "--timeout", "php-fpm"),
        ({"server": "Apache/2.4"}, "MaxConnectionsPerChild", "gunicorn"),
        ({"server": "Jetty(9.4)"}, "", "gunicorn"),
    ],
)
def test_a_server_is_spoken_of_in_its_own_words(changes, own, foreign):
    scene = Scene()
    words = server_words(replace(scene.connection(0, first_ts_ns=0), **changes))
    assert own in " ".join(words)
    assert foreign not in " ".join(words)
    loss = scene.lost(acknowledged(160), fin(700, ack=247), idle_ms=17, **changes)
    (finding,) = [f for f in diagnose(scene.analysis(loss)).findings if f.code == "PD201"]
    assert own in finding.remedy
    assert foreign not in finding.remedy


@pytest.mark.parametrize("is_taken", [True, False])
def test_what_was_never_acknowledged_is_not_called_delivered(is_taken):
    scene = Scene()
    loss = scene.lost(acknowledged(160), fin(700, ack=247), depth=0) if is_taken else scene.lost(fin(700), depth=0)
    causes = [f for f in diagnose(scene.analysis(loss)).findings if f.occurrences]
    assert ["may run one twice" in f.remedy for f in causes] == [is_taken]


@pytest.mark.parametrize(
    ("protocol", "module"),
    [
        (Protocol.FASTCGI, "fastcgi"),
        (Protocol.UWSGI, "uwsgi"),
        (Protocol.SCGI, "scgi"),
        (Protocol.HTTP1, "proxy"),
    ],
)
def test_directives_are_those_of_the_module_that_speaks_the_protocol(protocol, module):
    scene = Scene()
    loss = scene.lost(acknowledged(160), proxy_fin(60_000), depth=0, protocol=protocol)
    finding = only(diagnose(scene.analysis(loss, proxy_kind=ProxyKind.NGINX)), "PD204")
    assert f"{module}_next_upstream error;" in finding.remedy
    assert f"set {module}_read_timeout" in finding.remedy


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (None, "group of servers"),
        (ProxyKind.NGINX, "upstream block"),
        (ProxyKind.HAPROXY, "backend"),
        (ProxyKind.ALB, "target group"),
        (ProxyKind.CADDY, "reverse_proxy"),
        (ProxyKind.TRAEFIK, "service"),
        (ProxyKind.GCP, "backend service"),
    ],
)
def test_a_group_of_servers_has_the_name_that_the_proxy_has_for_it(kind, word):
    assert group_of_peers(Scene().analysis(proxy_kind=kind)) == word


@pytest.mark.parametrize(
    ("kind", "read", "twice"),
    [
        (ProxyKind.NGINX, "proxy_read_timeout", "proxy_next_upstream error;"),
        (ProxyKind.HAPROXY, "timeout server", "retry-on names response-timeout"),
        (ProxyKind.APACHE, "timeout on the ProxyPass line", ""),
        (ProxyKind.ENVOY, "the timeout of the route", ""),
        (ProxyKind.CADDY, "response_header_timeout in the block transport http of its reverse_proxy", ""),
        (ProxyKind.TRAEFIK, "forwardingTimeouts.responseHeaderTimeout of the serversTransport", ""),
        (ProxyKind.CLB, "the idle timeout of the load balancer", ""),
        (ProxyKind.GCP, "timeoutSec of the backend service", ""),
    ],
)
def test_what_limits_the_wait_has_the_name_that_the_proxy_has_for_it(kind, read, twice):
    scene = Scene()
    loss = losses(scene)[0]
    analysis = scene.analysis(loss, proxy_kind=kind)
    assert wait_setting(analysis, loss, "read") == read
    said = runs_twice(analysis, loss)
    assert twice in said
    assert bool(said) is bool(twice)


@pytest.mark.parametrize(
    ("servers", "directive", "words"),
    [
        ("server 10.1.1.1:80; server 10.9.0.2:80;", "", "GET is sent to the next peer"),
        ("server 10.1.1.1:80; server 10.9.0.2:80;", "proxy_next_upstream off;", ""),
        ("server 10.1.1.1:80; server 10.9.0.2:80;", "proxy_next_upstream error;", ""),
        ("server 10.1.1.1:80; server 10.9.0.2:80;", "proxy_next_upstream_tries 1;", ""),
        ("server 10.1.1.1:80;", "", ""),
        ("server 10.1.1.1:80; server 10.9.0.2:80 backup;", "", "GET is sent to the next peer"),
        ("server app.example:80;", "", "GET may be sent to the next peer"),
    ],
)
def test_a_request_is_called_sent_to_the_next_peer_only_where_there_is_one(tmp_path, servers, directive, words):
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"http {{ upstream u {{ {servers} }} server {{ location / {{ proxy_pass http://u; {directive} }} }} }}"
    )
    scene = Scene()
    loss = scene.lost(acknowledged(160), proxy_fin(60_000), depth=0)
    settings = read_nginx(conf, conf.read_text())
    said = runs_twice(scene.analysis(loss, settings=settings), loss)
    assert words in said
    assert bool(said) is bool(words)


def test_of_a_proxy_that_nothing_names_no_directive_is_said():
    scene = Scene()
    loss = losses(scene)[0]
    assert "next_upstream" not in runs_twice(scene.analysis(loss), loss)
    assert "may be sent" in runs_twice(scene.analysis(loss, proxy_kind=ProxyKind.NGINX), loss)


@pytest.mark.parametrize("kind", [None, *ProxyKind])
def test_words_about_nginx_are_left_out_where_the_proxy_is_another(kind):
    said = of_nginx(Scene().analysis(proxy_kind=kind), "proxy_buffering")
    assert bool(said) is (kind not in OF_OTHER_KIN)


@pytest.mark.parametrize("kind", sorted(OF_OTHER_KIN, key=lambda kind: kind.value))
@pytest.mark.parametrize("seen", [(acknowledged(160), proxy_fin(723)), (acknowledged(160), proxy_fin(60_000))])
def test_what_a_proxy_of_another_kind_gave_up_is_told_without_words_of_nginx(kind, seen):
    scene = Scene()
    loss = scene.lost(*seen, depth=0)
    findings = [f for f in diagnose(scene.analysis(loss, proxy_kind=kind)).findings if f.occurrences]
    assert findings
    for finding in findings:
        text = f"{finding.message} {finding.remedy} {finding.refuted_by}"
        assert not re.search(r"proxy_[a-z_]+|gunicorn|php-fpm|nginx|status 499|worker_shutdown", text) or (
            kind is ProxyKind.TRAEFIK and "nginx" not in text and "proxy_" not in text
        )
