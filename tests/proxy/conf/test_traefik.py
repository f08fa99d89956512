"""Traefik's configuration: static and dynamic, in YAML and TOML, and its objects in Kubernetes."""

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind

S = 10**9
TOML = """# dynamic
[http.routers.r]
  rule = "PathPrefix(`/`)"
[http.services]
  [http.services.app.loadBalancer]
    serversTransport = "slow@file"
    [[http.services.app.loadBalancer.servers]]
      url = "http://10.0.0.1:3000/"
    [[http.services.app.loadBalancer.servers]]
      url = "https://[2001:db8::1]"
  [http.services.plain.loadBalancer]
    servers = [{ url = "http://app.internal" }]
[http.serversTransports.slow]
  maxIdleConnsPerHost = -1
  [http.serversTransports.slow.forwardingTimeouts]
    idleConnTimeout = "1m30s"
    dialTimeout = 5
    responseHeaderTimeout = "0s"
[http.middlewares.again.retry]
  attempts = 4
"""
YAML = """
http:
  routers:
    r: {rule: "PathPrefix(`/`)"}
  services:
    app:
      loadBalancer:
        serversTransport: slow@file
        servers:
        - url: "http://10.0.0.1:3000/"
        - url: "https://[2001:db8::1]"
    plain:
      loadBalancer:
        servers:
        - url: http://app.internal
  serversTransports:
    slow:
      maxIdleConnsPerHost: -1
      forwardingTimeouts:
        idleConnTimeout: 1m30s
        dialTimeout: 5
        responseHeaderTimeout: 0s
  middlewares:
    again:
      retry: {attempts: 4}
"""


def read(tmp_path, text, name="traefik.yaml"):
    path = tmp_path / name
    path.write_text(text)
    settings = read_proxy_conf(path)
    assert settings.kind is ProxyKind.TRAEFIK
    return settings


@pytest.mark.parametrize(("name", "text"), [("d.toml", TOML), ("d.conf", TOML), ("d.yml", YAML)])
def test_a_server_has_its_transport_or_the_defaults(tmp_path, name, text):
    settings = read(tmp_path, text, name)
    (first,) = settings.servers_of("10.0.0.1:3000")
    assert (first.block, first.reuse.value, first.pool_limit_ns.value) == ("app", False, 90 * S)
    assert (first.connect_timeout_ns.value, first.read_timeout_ns.value) == (5 * S, -1)
    assert first.retry_on.value == ("retry",)
    assert dict(first.settings)["forwardingTimeouts.dialTimeout"].value == "5s"
    assert settings.servers_of("[2001:db8::1]:443")[0].pool_limit_ns == first.pool_limit_ns
    (plain,) = (server for server in settings.own if server.block == "plain")
    assert (plain.address, plain.reuse.value) == ("app.internal:80", True)
    assert (plain.pool_limit_ns.value, plain.pool_limit_ns.assumed) == (90 * S, True)
    lines = text.split("\n")
    for server in settings.own:
        sources = [(held.source, name.rpartition(".")[2].split()[-1]) for name, held in server.settings if held.source]
        for source, word in sources:
            assert word in lines[int(source.rpartition(":")[2]) - 1]


@pytest.mark.parametrize(("name", "text"), [("d.toml", TOML), ("d.yml", YAML)])
def test_each_server_of_a_list_has_a_line_of_its_own(tmp_path, name, text):
    first, second = (server for server in read(tmp_path, text, name).own if server.block == "app")
    assert int(second.source.rpartition(":")[2]) > int(first.source.rpartition(":")[2])


def test_the_static_configuration_names_no_server_and_says_where_they_are(tmp_path):
    text = "entryPoints: {web: {address: ':80'}}\nserversTransport: {forwardingTimeouts: {idleConnTimeout: 5s}}\n"
    settings = read(tmp_path, text)
    assert settings.own == ()
    assert "dynamic" in settings.notes[0].text


def test_both_in_one_file_the_static_transport_holds_for_services_without_one(tmp_path):
    text = f"serversTransport: {{forwardingTimeouts: {{idleConnTimeout: 7s}}}}\n{YAML}"
    settings = read(tmp_path, text)
    assert {server.block: server.pool_limit_ns.value for server in settings.own} == {"app": 90 * S, "plain": 7 * S}


def test_a_transport_that_is_not_in_the_file_is_said_to_be_assumed(tmp_path):
    settings = read(tmp_path, YAML.replace("slow@file", "elsewhere@file"))
    (server,) = settings.servers_of("10.0.0.1:3000")
    assert server.pool_limit_ns.assumed
    assert server.pool_limit_ns.why.endswith("is not in the file")
    assert "elsewhere" not in server.pool_limit_ns.why  # a name may tell whose it is


@pytest.mark.parametrize("reference", ["very-slow", "default-very-slow@kubernetescrd"])
def test_objects_of_kubernetes_name_services_and_their_transport(tmp_path, reference):
    text = f"""
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {{name: r}}
spec:
  routes:
  - match: PathPrefix(`/`)
    services:
    - {{name: app, port: 3000, serversTransport: {reference}}}
---
apiVersion: traefik.io/v1alpha1
kind: ServersTransport
metadata: {{name: slow}}
spec:
  forwardingTimeouts: {{idleConnTimeout: 3s}}
---
apiVersion: traefik.io/v1alpha1
kind: ServersTransport
metadata: {{name: very-slow}}
spec:
  forwardingTimeouts: {{idleConnTimeout: 4s}}
"""
    (server,) = read(tmp_path, text).servers_of("10.42.0.9:3000")
    assert (server.address, server.pool_limit_ns.value) == ("app:3000", 4 * S)


@pytest.mark.parametrize("text", ["[a]\nb = 1\n", "[a\n", "x = 1\n", "a = [[[["])
def test_other_toml_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match="TOML"):
        read_proxy_conf(path)
