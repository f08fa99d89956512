"""HAProxy's configuration, with what its manual says of sections, defaults and units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.conf.haproxy import read_haproxy, time_ns
from pcapdiag.proxy.conf.settings import ProxyKind

S = 10**9
TEXT = """global
  log stdout format raw local0
defaults base
  mode http
  timeout connect 3s
  timeout server 5000
  retries 2
  no option redispatch
defaults other from base
  timeout server 1m  # longer
frontend f
  bind :80
  default_backend b
backend b
  http-reuse always
  default-server pool-max-conn 8
  server s1 10.1.1.1:80 check pool-purge-delay 60s
  server s2 app.internal:8080 pool-purge-delay 0
backend c from base
  retry-on conn-failure empty-response
  server s3 ipv6@[2001:db8::1]:80
  server s4 unix@/run/app.sock
"""


def servers(text=TEXT):
    return {server.name: server for server in read_haproxy(text, "h.cfg").own}


def shown(server):
    return {name: (setting.value, setting.source, setting.assumed) for name, setting in server.settings}


def test_a_server_has_what_its_line_its_section_and_the_defaults_say():
    s1 = servers()["s1"]
    assert (s1.block, s1.address, s1.port, s1.source) == ("b", "10.1.1.1:80", 80, "h.cfg:17")
    held = shown(s1)
    assert held["pool-purge-delay"] == ("60s", "h.cfg:17", False)
    assert held["pool-max-conn"] == ("8", "h.cfg:16", False)
    assert held["http-reuse"] == ("always", "h.cfg:15", False)
    assert held["timeout server"] == ("1m", "h.cfg:10", False)
    assert held["retries"] == ("2", "h.cfg:7", False)
    assert held["option redispatch"] == ("off", "h.cfg:8", False)
    assert held["retry-on"] == ("conn-failure", "", True)
    assert (s1.read_timeout_ns.value, s1.connect_timeout_ns.value) == (60 * S, 3 * S)
    assert s1.pool_limit_ns.value == -1


def test_a_section_takes_the_defaults_that_it_names():
    s3 = servers()["s3"]
    assert shown(s3)["timeout server"] == ("5000ms", "h.cfg:6", False)
    assert (s3.read_timeout_ns.value, s3.retry_on.value) == (5 * S, ("conn-failure", "empty-response"))
    assert shown(s3)["http-reuse"] == ("safe", "", True)


@pytest.mark.parametrize(
    ("name", "address"), [("s2", "app.internal:8080"), ("s3", "[2001:db8::1]:80"), ("s4", "unix:/run/app.sock")]
)
def test_an_address_is_as_logs_and_packets_have_it(name, address):
    assert servers()[name].address == address


@pytest.mark.parametrize(
    ("line", "is_kept"),
    [
        ("http-reuse always", True),
        ("http-reuse never", False),
        ("option httpclose", False),
        ("option http-server-close", False),
        ("no option httpclose", True),
        ("default-server pool-purge-delay 0", False),
    ],
)
def test_whether_connections_are_kept_is_read(line, is_kept):
    (server,) = servers(f"backend b\n  mode http\n  {line}\n  server s 10.1.1.1:80\n").values()
    assert server.reuse.value is is_kept


def test_names_of_the_log_lead_to_addresses_and_addresses_to_servers():
    settings = read_haproxy(TEXT, "h.cfg")
    assert settings.kind is ProxyKind.HAPROXY
    assert settings.addresses() == {"b/s1": "10.1.1.1:80", "c/s3": "[2001:db8::1]:80"}
    assert [s.name for s in settings.servers_of("10.1.1.1:80")] == ["s1"]
    assert [s.name for s in settings.servers_of("10.9.9.9:8080")] == ["s2"]  # a name may mean any address at its port
    assert settings.servers_of("10.9.9.9:81") == ()
    assert settings.waits_for("10.1.1.1:80", "read") == {60 * S}
    assert settings.waits_for("10.1.1.1:80", "connect") == {3 * S}


@pytest.mark.parametrize(
    ("line", "rewrites"),
    [
        ("http-request set-path /x%[path]", True),
        ("http-request replace-uri ^/a(.*) \\1", True),
        ("http-request set-header X-Path y", False),
        ("# http-request set-path /x", False),
    ],
)
def test_whether_requests_are_sent_on_with_another_target_is_read(line, rewrites):
    (server,) = servers(f"frontend f\n  {line}\nbackend b\n  server s 10.1.1.1:80\n").values()
    assert server.rewrites is rewrites


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("75s", 75 * S),
        ("500", S // 2),
        ("250us", 250_000),
        ("2m", 120 * S),
        ("1d", 86400 * S),
        ("x", -1),
        ("", -1),
        ("9" * 12 + "d", -1),
    ],
)
def test_a_time_without_unit_counts_milliseconds(text, value):
    assert time_ns(text) == value


def test_without_a_server_nothing_is_known_and_that_is_said():
    settings = read_haproxy("defaults\n  mode http\n", "h.cfg")
    assert settings.own == ()
    assert "without any server" in settings.notes[0].text


words = st.sampled_from(
    (
        "backend",
        "defaults",
        "server",
        "from",
        "\n",
        "\n  ",
        "s1",
        "10.1.1.1:80",
        "timeout",
        "server",
        "9" * 40,
        "#",
        "no",
    )
)


@given(st.lists(words | st.text(max_size=8)).map(" ".join))
def test_any_text_is_read_without_an_exception(text):
    for server in read_haproxy(text, "h.cfg").own:
        assert server.source.startswith("h.cfg:")
