"""Envoy's configuration as its API (v3) has it: bootstrap, resources in files, dumps, both ways to write names."""

import json
import re

import pytest
import yaml

from pcapdiag.proxy.conf.envoy import is_envoy
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.conf.tree import read_tree

S = 10**9
TYPES = "type.googleapis.com/envoy"
BOOTSTRAP = f"""
static_resources:
  listeners:
  - name: l
    address: {{socket_address: {{address: 0.0.0.0, port_value: 10000}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          route_config:
            virtual_hosts:
            - name: b
              domains: ["*"]
              retry_policy: {{retry_on: 5xx}}
              routes:
              - match: {{prefix: /slow}}
                route: {{cluster: app, timeout: 60s}}
              - match: {{prefix: /}}
                route:
                  prefix_rewrite: /v1
                  weighted_clusters:
                    clusters: [{{name: app, weight: 90}}, {{name: once, weight: 10}}]
                  retry_policy: {{retry_on: "connect-failure, reset", num_retries: 2}}
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": {TYPES}.extensions.filters.network.tcp_proxy.v3.TcpProxy
          cluster: bytes
          idle_timeout: 10m
  clusters:
  - name: app
    connect_timeout: 0.25s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": {TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options:
          idle_timeout: 30s
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 10.0.0.1, port_value: 8080}}}}}}
        - endpoint: {{address: {{socket_address: {{address: "2001:db8::1", port_value: 8080}}}}}}
  - name: once
    type: STATIC
    max_requests_per_connection: 1
    load_assignment:
      cluster_name: once
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{pipe: {{path: /run/app.sock}}}}}}
        - endpoint: {{address: {{socket_address: {{address: app.internal, port_value: 81}}}}}}
  - name: bytes
    load_assignment:
      cluster_name: bytes
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 10.0.0.2, port_value: 5432}}}}}}
  - name: found_elsewhere
    type: EDS
    common_http_protocol_options: {{idle_timeout: 0s}}
"""


def read(tmp_path, text):
    path = tmp_path / "envoy.yaml"
    path.write_text(text)
    settings = read_proxy_conf(path)
    assert settings.kind is ProxyKind.ENVOY
    return settings


def camel(value):
    """Write the keys as protobuf's JSON does, but for those that are no names of fields."""
    if isinstance(value, dict):
        return {re.sub(r"_(\w)", lambda m: m[1].upper(), key): camel(inner) for key, inner in value.items()}
    return [camel(inner) for inner in value] if isinstance(value, list) else value


def as_dump(tree):
    made = tree["static_resources"]
    return {
        "configs": [
            {"@type": f"{TYPES}.admin.v3.ClustersConfigDump", "static_clusters": [{"cluster": c}]}
            for c in made["clusters"]
        ]
        + [{"@type": f"{TYPES}.admin.v3.ListenersConfigDump", "static_listeners": [{"listener": made["listeners"][0]}]}]
    }


@pytest.mark.parametrize("form", ["yaml", "json", "camel", "dump", "dump in camel"])
def test_a_cluster_has_its_endpoints_and_what_its_routes_say(tmp_path, form):
    tree = yaml.safe_load(BOOTSTRAP)
    tree = as_dump(tree) if "dump" in form else tree
    tree = camel(tree) if "camel" in form else tree
    settings = read(tmp_path, BOOTSTRAP if form == "yaml" else json.dumps(tree, indent=1))
    ways = settings.servers_of("10.0.0.1:8080")
    assert [(s.read_timeout_ns.value, s.retry_on.value) for s in ways] == [
        (60 * S, ("5xx",)),
        (15 * S, ("connect-failure", "reset")),
    ]
    assert {(s.block, s.pool_limit_ns.value, s.connect_timeout_ns.value, s.rewrites) for s in ways} == {
        ("app", 30 * S, S // 4, True)
    }
    assert settings.waits_for("[2001:db8::1]:8080", "read") == {60 * S, 15 * S}
    (once,) = settings.servers_of("10.9.9.9:81")  # a name may be any address
    assert (once.address, once.reuse.value, once.pool_limit_ns.value) == ("app.internal:81", False, 3600 * S)
    assert "unix:/run/app.sock" in {server.address for server in settings.own}
    (bytes_,) = settings.servers_of("10.0.0.2:5432")
    assert (bytes_.pool_limit_ns.value, bytes_.read_timeout_ns.value) == (600 * S, -1)
    assert [note.text for note in settings.notes] == [
        "1 cluster without endpoints in it: they are discovered elsewhere"
    ]


def test_settings_keep_their_lines(tmp_path):
    settings = read(tmp_path, BOOTSTRAP)
    lines = BOOTSTRAP.split("\n")
    server = settings.servers_of("10.0.0.1:8080")[0]
    for name, held in server.settings:
        if held.source:
            line = lines[int(held.source.rpartition(":")[2]) - 1]
            assert held.value in line, name
    assert "10.0.0.1" in lines[int(server.source.rpartition(":")[2]) - 1]


def test_zero_is_no_limit_and_endpoints_may_stand_beside_their_cluster(tmp_path):
    text = f"""
resources:
- "@type": {TYPES}.config.cluster.v3.Cluster
  name: app
  type: EDS
  common_http_protocol_options: {{idle_timeout: 0s}}
- "@type": {TYPES}.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: app
  endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 10.0.0.7, port_value: 80}}}}}}}}]}}]
"""
    (server,) = read(tmp_path, text).servers_of("10.0.0.7:80")
    assert (server.pool_limit_ns.value, server.pool_limit_ns.assumed) == (-1, False)
    assert (server.read_timeout_ns.value, server.read_timeout_ns.why) == (-1, "no route to it is in the file")


def test_what_istioctl_prints_is_a_list_of_clusters(tmp_path):
    settings = read(tmp_path, json.dumps([{"name": "outbound|80||app", "type": "EDS", "connectTimeout": "10s"}]))
    assert settings.own == ()
    assert "include_eds" in settings.notes[0].text


@pytest.mark.parametrize(
    "text", ["a: 1", "upstreams: [{nodes: {'a:1': 1}}]", "[]", "- name: x", "- {name: x, type: y}", "apps: {http: {}}"]
)
def test_what_is_not_envoys_is_told_from_it(text):
    documents, _ = read_tree(text, "x.yaml")
    assert not any(map(is_envoy, documents))


def test_aliases_that_repeat_each_other_cost_no_more_than_they_are_long(tmp_path):
    text = "static_resources:\n  a0: &a0 [x]\n"
    text += "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    assert read(tmp_path, text).own == ()
