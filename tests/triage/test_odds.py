"""What a configuration keeps longer than servers do, in nginx's words and in those of others."""

import pytest

from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.triage.odds import timers_at_odds

CONF = (
    "http {{ upstream be {{ server 10.1.1.1:80; {pool} }} server {{ location / {{ proxy_pass http://be;"
    " proxy_http_version 1.1; proxy_set_header Connection ''; }} }} }}"
)


@pytest.fixture
def odds(tmp_path):
    def of(text, name="nginx.conf"):
        path = tmp_path / name
        path.write_text(text)
        return timers_at_odds(read_proxy_conf(path))

    return of


def test_without_a_configuration_nothing_is_said():
    assert timers_at_odds(None) == ((), ())


def test_a_pool_is_held_against_what_servers_ship_with(odds):
    ((kept,), unkept) = odds(CONF.format(pool="keepalive 8; keepalive_timeout 10s;"))
    assert (kept.upstream, kept.keeps_s, unkept) == ("be", 10.0, ())
    assert kept.source.endswith("nginx.conf:1")
    assert "Node.js 5 s" in kept.sooner
    assert not any(server.startswith("Jetty") for server in kept.sooner)


def test_a_pool_that_gives_up_first_is_at_odds_with_nobody(odds):
    assert odds(CONF.format(pool="keepalive 8; keepalive_timeout 1s;")) == ((), ())


def test_where_nothing_is_kept_there_is_no_timer(odds):
    path = CONF.replace(" proxy_http_version 1.1; proxy_set_header Connection '';", " proxy_http_version 1.0;")
    assert odds(path.format(pool="keepalive 8;")) == ((), ("be",))


def test_a_pool_without_a_limit_outlives_every_server(odds):
    (kept, *_), _ = odds(
        "defaults\n  mode http\nbackend b\n  server s 10.1.1.1:80\nfrontend f\n  bind :80\n  default_backend b\n",
        "haproxy.cfg",
    )
    assert (kept.upstream, kept.keeps_s) == ("b/s", -1)
    assert any(server.startswith("Tornado") for server in kept.sooner)
