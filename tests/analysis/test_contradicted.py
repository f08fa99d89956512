"""Defaults that the capture contradicts are not told as what holds."""

import pytest

import pcapdiag
from tests.scenario import parse, write_capture

CONF = """events {}
http { upstream be { server 192.0.2.80:80; keepalive 8;%s }
 server { listen 8080;
  location / { proxy_pass http://be; proxy_http_version 1.1; proxy_set_header Connection "";%s } } }
"""
OPENED = "+0 > S\n+0.001 < S.\n+0.001 > .\n"
ASKED = '> P. "GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"\n'
ANSWER = '< P. "HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n"\n+0.001 > .\n'


@pytest.fixture
def settings_of(tmp_path):
    """Return a function from a script and lines of a configuration to the settings that an analysis has."""

    def run(script, pool="", place=""):
        (tmp_path / "a.pcap").write_bytes(write_capture(parse(script), container="pcap-ns", resp="192.0.2.80"))
        (tmp_path / "nginx.conf").write_text(CONF % (pool, place))
        result = pcapdiag.analyze(tmp_path / "a.pcap", proxy_conf=tmp_path / "nginx.conf")
        return result, result.captured.analysis.settings

    return run


def used_after(gap_s):
    return f"{OPENED}+0.01 {ASKED}+0.01 {ANSWER}+{gap_s} {ASKED}+0.01 {ANSWER}"


@pytest.mark.parametrize(("gap_s", "is_known"), [(59, True), (60.5, True), (65, False)])
def test_a_connection_that_was_used_after_the_default_contradicts_it(settings_of, gap_s, is_known):
    _, settings = settings_of(used_after(gap_s))
    held = settings.upstreams[0].keepalive_timeout_ns
    assert (held.value == 60_000_000_000) == is_known
    assert held.is_contradicted != is_known
    if not is_known:
        assert held.why.endswith("is 60s, but a connection was used after it had idled for 65 s")


def test_what_was_read_is_no_default(settings_of):
    _, settings = settings_of(used_after(65), pool=" keepalive_timeout 60s;")
    assert settings.upstreams[0].keepalive_timeout_ns.value == 60_000_000_000


@pytest.mark.parametrize(("wait_s", "is_known"), [(59, True), (75, False)])
def test_an_answer_that_came_after_the_default_contradicts_it(settings_of, wait_s, is_known):
    _, settings = settings_of(f"{OPENED}+0.01 {ASKED}+{wait_s} {ANSWER}")
    held = settings.locations[0].read_timeout_ns
    assert held.is_contradicted != is_known
    _, read = settings_of(f"{OPENED}+0.01 {ASKED}+{wait_s} {ANSWER}", place=" proxy_read_timeout 60s;")
    assert read.locations[0].read_timeout_ns.value == 60_000_000_000


def test_more_requests_on_a_connection_than_the_default_allows(settings_of):
    many = OPENED + f"+0.001 {ASKED}+0.001 {ANSWER}" * 1001
    assert settings_of(many)[1].upstreams[0].keepalive_requests.is_contradicted
    assert not settings_of(many, pool=" keepalive_requests 5000;")[1].upstreams[0].keepalive_requests.is_contradicted


def test_the_remedy_says_what_was_measured(settings_of):
    # The upstream closes after 70 s of idleness, three times, and once a request crosses that.
    closed = "+70 < F.\n+0.001 > F.\n+0.001 < .\n"
    one = f"{OPENED}+0.01 {ASKED}+0.01 {ANSWER}"
    lost = f"+69.999 {ASKED}+0.001 < F. 39:39(0) ack 28\n+0.0005 < R 40:40(0)\n"
    script = "".join(
        part.replace("> ", f"@{n} > ").replace("< ", f"@{n} < ")
        for n, part in enumerate([*[one + closed] * 3, one + lost])
    )
    result, settings = settings_of(script)
    assert settings.upstreams[0].keepalive_timeout_ns.is_contradicted
    (found,) = [f for f in result.captured.findings if f.code == "PD101"]
    assert "the default holds" not in found.remedy
    assert "add keepalive_timeout 65s;" in found.remedy
    assert "is 60s, but a connection was used after it had idled for 70 s" in found.remedy


CADDY = "a {{\n reverse_proxy 192.0.2.80:80 {{\n  transport http {{\n   {}\n  }}\n }}\n}}\n"
ENVOY = """static_resources:
  routes: {virtual_hosts: [{routes: [{route: {cluster: be}}]}]}
  clusters:
  - name: be
    load_assignment:
      endpoints:
      - lb_endpoints: [{endpoint: {address: {socket_address: {address: 192.0.2.80, port_value: 80}}}}]
"""


@pytest.fixture
def rows_of(tmp_path):
    """Return a function from a script and a configuration of another proxy to its settings, as they are shown."""

    def run(script, conf):
        (tmp_path / "a.pcap").write_bytes(write_capture(parse(script), container="pcap-ns", resp="192.0.2.80"))
        (tmp_path / "proxy.conf").write_text(conf)
        result = pcapdiag.analyze(tmp_path / "a.pcap", proxy_conf=tmp_path / "proxy.conf")
        (server,) = result.captured.analysis.settings.own
        return server, {name: (held.value, held.why) for name, held in server.settings}

    return run


@pytest.mark.parametrize(("gap_s", "is_known"), [(119, True), (130, False)])
def test_the_pool_of_another_proxy_is_held_against_the_capture_too(rows_of, gap_s, is_known):
    server, shown = rows_of(used_after(gap_s), CADDY.format(""))
    assert server.pool_limit_ns.is_contradicted != is_known
    value, why = shown["keepalive"]
    assert (value == "2m") == is_known
    if not is_known:
        assert (value, why) == ("not known", server.pool_limit_ns.why)
        assert why == "the default of Caddy is 120s, but a connection was used after it had idled for 130 s"
    assert rows_of(used_after(gap_s), CADDY.format("keepalive 2m"))[1]["keepalive"] == ("2m", "")


@pytest.mark.parametrize(("wait_s", "value"), [(14, "15s"), (20, "not known")])
def test_so_is_the_wait_of_a_route_of_envoy(rows_of, wait_s, value):
    server, shown = rows_of(f"{OPENED}+0.01 {ASKED}+{wait_s} {ANSWER}", ENVOY)
    assert shown["route timeout"][0] == value
    assert server.read_timeout_ns.is_contradicted == (value == "not known")


def test_a_pool_that_is_off_is_contradicted_by_nothing(rows_of):
    server, shown = rows_of(used_after(130), CADDY.format("keepalive off"))
    assert (server.pool_limit_ns.value, shown["keepalive"][0]) == (0, "off")
