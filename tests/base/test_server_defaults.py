"""Names for measured timeouts: only verified defaults, and only what the Server field allows."""

import pytest

from pcapdiag.base.server_defaults import (
    DEFAULTS,
    HTTPD,
    idle_timeout_setting,
    lateness_ns,
    name_idle_timeout,
    names_server,
)

MS, S = 1_000_000, 1_000_000_000


@pytest.mark.parametrize("default", DEFAULTS, ids=lambda d: d.name)
def test_every_default_names_itself(default):
    assert default.name in name_idle_timeout(default.idle_s * S + 5 * MS, 10 * MS, default.token)


@pytest.mark.parametrize("default", DEFAULTS, ids=lambda d: d.name)
def test_every_default_says_where_it_was_read_and_what_changes_it(default):
    assert default.source
    assert default.setting


def test_several_servers_may_share_a_default():
    names = name_idle_timeout(5 * S, 5 * MS)
    assert {"Uvicorn", "Apache httpd", "Node.js", "Hypercorn"} <= set(names)


def test_the_server_field_narrows_the_names():
    assert name_idle_timeout(65 * S, 60 * MS, "nginx/1.22.1") == ("nginx (shipped nginx.conf)",)
    assert name_idle_timeout(2 * S, 5 * MS, "uvicorn") == ("Gunicorn with Uvicorn worker",)


def test_a_value_that_no_server_ships_with_has_no_name():
    assert name_idle_timeout(4 * S, 5 * MS) == ()
    assert name_idle_timeout(4 * S, 5 * MS, "nginx/1.22.1") == ()


@pytest.mark.parametrize("field", ["h2o/2.2.5", "granian", "a-word-of-the-application/1"])
def test_a_server_that_names_itself_otherwise_is_none_that_would_say_its_name(field):
    shared = name_idle_timeout(5 * S, 5 * MS, field)
    assert {d.token for d in DEFAULTS if d.name in shared} <= {""}
    assert name_idle_timeout(2 * S, 5 * MS, field) == ()
    assert "gunicorn" not in idle_timeout_setting(field, ("Gunicorn",))


@pytest.mark.parametrize("field", ["something/1", "thinner", "my-iisd", "h2osd/1", "tornado-cache/2"])
def test_a_name_within_another_word_is_no_name(field):
    assert idle_timeout_setting(field) == ""


EXACT = [
    "Jetty(9.4.57)",
    "nginx/1.22.1",
    "Caddy",
    "Varnish",
    "h2o/2.2.5",
    "TwistedWeb/26.10.0",
    "Cheroot/11.1.2",
    "granian",
]
"""Recorded: servers of which each closed at its timeout, to some milliseconds."""


@pytest.mark.parametrize("field", EXACT)
def test_servers_that_were_seen_to_be_exact_are_not_taken_for_late(field):
    assert lateness_ns(field) == 0


def test_a_sweep_is_late_by_a_different_time_each_time():
    assert "waitress" in name_idle_timeout(121 * S, 25 * S)
    assert name_idle_timeout(135 * S, 5 * MS) == ()


@pytest.mark.parametrize(
    ("server", "names", "setting"),
    [
        ("nginx/1.22.1", (), "nginx keepalive_timeout"),
        ("openresty/1.25.3.1", (), "nginx keepalive_timeout"),
        ("uvicorn", ("Gunicorn with Uvicorn worker",), "gunicorn --keep-alive"),
        ("uvicorn", (), "gunicorn --keep-alive or uvicorn --timeout-keep-alive"),
        ("uvicorn", ("Uvicorn",), "uvicorn --timeout-keep-alive"),
        ("", ("Node.js",), "Node server.keepAliveTimeout"),
        ("", ("Node.js", "Cowboy"), "Node server.keepAliveTimeout or Cowboy request_timeout"),
        ("", ("Node.js", "Cowboy", "Hypercorn"), ""),
        ("hand-made", (), ""),
    ],
)
def test_the_setting_is_that_of_the_server(server, names, setting):
    assert idle_timeout_setting(server, names) == setting


@pytest.mark.parametrize(
    "field", ["Apache", "Apache/2.4.57 (Debian)", "Apache/2.4.57 (Unix) OpenSSL/3.0 PHP/8.2", "apache"]
)
def test_httpd_names_itself(field):
    assert names_server(field, HTTPD)
    assert idle_timeout_setting(field) == "Apache KeepAliveTimeout"


@pytest.mark.parametrize(
    "field", ["Apache-Coyote/1.1", "Apache Tomcat/9.0.1", "Apache Traffic Server/9.2", "my-apache/1"]
)
def test_other_servers_of_that_name_are_not_httpd(field):
    assert not names_server(field, HTTPD)
    assert "Apache KeepAliveTimeout" not in idle_timeout_setting(field)
    assert not any("httpd" in name for name in name_idle_timeout(5_000_000_000, 0, field + " coyote"))


def test_old_tomcat_says_coyote():
    assert idle_timeout_setting("Apache-Coyote/1.1") == "Tomcat keepAliveTimeout"
    assert name_idle_timeout(20_200_000_000, 200_000_000, "Apache-Coyote/1.1") == ("Tomcat (shipped server.xml)",)
