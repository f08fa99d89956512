"""Apache httpd's configuration as a proxy, with what mod_proxy's manual says of parameters and defaults."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.conf.httpd import read_httpd, time_ns
from pcapdiag.proxy.conf.settings import ProxyKind

S = 10**9
TEXT = r"""ServerRoot /etc/httpd
Timeout 30
<Proxy "balancer://app">
  BalancerMember http://10.1.1.1:8080 ttl=30 retry=5
  BalancerMember "http://app.internal:8080" \
    disablereuse=On timeout=7
  ProxySet keepalive=On ttl=60
</Proxy>
<VirtualHost *:80>
  ProxyTimeout 20
  ProxyPass /static !
  ProxyPass /app balancer://app/
  ProxyPass /plain http://10.1.1.2/ connectiontimeout=500ms
  <Location /php>
    ProxyPass fcgi://10.1.1.3:9000/srv
  </Location>
  ProxyPass /sock unix:/run/app.sock|http://localhost/
</VirtualHost>
"""


def servers(text=TEXT):
    return {server.name: server for server in read_httpd(text, "httpd.conf").own}


def shown(server):
    return {name: (setting.value, setting.source) for name, setting in server.settings}


def test_a_member_has_what_its_line_and_its_balancer_say():
    first = servers()["http://10.1.1.1:8080"]
    assert (first.block, first.address, first.source) == ("balancer://app", "10.1.1.1:8080", "httpd.conf:4")
    assert shown(first)["ttl"] == ("30", "httpd.conf:4")
    assert shown(first)["keepalive"] == ("On", "httpd.conf:7")
    assert shown(first)["timeout"] == ("20", "httpd.conf:10")
    assert (first.pool_limit_ns.value, first.read_timeout_ns.value, first.reuse.value) == (30 * S, 20 * S, True)


def test_a_line_that_goes_on_is_one_line():
    second = servers()["http://app.internal:8080"]
    assert (second.address, second.endpoint, second.port, second.source) == (
        *("app.internal:8080", None, 8080),
        "httpd.conf:5",
    )
    assert (second.reuse.value, second.reuse.source, second.read_timeout_ns.value) == (False, "httpd.conf:5", 7 * S)


def test_without_ttl_connections_are_kept_without_a_limit_and_that_is_assumed():
    plain = servers()["http://10.1.1.2/"]
    assert (plain.block, plain.address) == ("/plain", "10.1.1.2:80")
    assert (plain.pool_limit_ns.value, plain.pool_limit_ns.assumed) == (-1, True)
    assert plain.connect_timeout_ns.value == S // 2
    assert dict(plain.settings)["ttl"].why == "the default of mod_proxy"


def test_a_pass_within_a_location_has_its_path():
    php = servers()["fcgi://10.1.1.3:9000/srv"]
    assert (php.block, php.address, php.reuse.value) == ("/php", "10.1.1.3:9000", False)


def test_a_socket_is_no_endpoint():
    assert servers()["unix:/run/app.sock|http://localhost/"].address == "unix:"


def test_what_is_not_passed_on_is_no_server():
    assert len(servers()) == 5


@pytest.mark.parametrize(
    ("line", "is_kept"),
    [("SetEnv proxy-nokeepalive 1", False), ("SetEnvIf Host x proxy-nokeepalive=1", True), ("", True)],
)
def test_an_environment_that_forbids_reuse_is_read(line, is_kept):
    (server,) = servers(f"{line}\nProxyPass / http://10.1.1.1/\n").values()
    assert server.reuse.value is is_kept
    assert ("SetEnv proxy-nokeepalive" in shown(server)) is bool(line)


def test_what_was_not_followed_is_said():
    settings = read_httpd("Include conf.d/*.conf\n", "httpd.conf")
    assert settings.kind is ProxyKind.APACHE
    assert [note.source for note in settings.notes] == ["httpd.conf:1", "httpd.conf"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5 * S), ("500ms", S // 2), ("2mi", 120 * S), ("1H", 3600 * S), ("x", -1), ("9" * 9 + "h", -1)],
)
def test_a_time_without_unit_counts_seconds(text, value):
    assert time_ns(text) == value


words = st.sampled_from(
    (
        "ProxyPass",
        "/",
        "http://10.1.1.1",
        "ttl=5",
        "\n",
        "<Proxy",
        "balancer://b>",
        "</Proxy>",
        "\\\n",
        "ProxySet",
        "://",
    )
)


@given(st.lists(words | st.text(max_size=8)).map(" ".join))
def test_any_text_is_read_without_an_exception(text):
    for server in read_httpd(text, "httpd.conf").own:
        assert server.source.startswith("httpd.conf:")
