"""Whose configuration a file is, for each proxy whose configuration is read."""

import pytest

from pcapdiag.proxy.conf.read import CONFIGURATIONS, read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind

SAMPLES = {
    ProxyKind.NGINX: "events {}\nhttp { upstream be { server 10.0.0.1; } }\n",
    ProxyKind.APISIX: "upstreams:\n- {id: a, nodes: {'10.0.0.1:80': 1}}\n",
    ProxyKind.INGRESS_NGINX: "kind: ConfigMap\ndata: {upstream-keepalive-timeout: '5'}\n",
    ProxyKind.KONG: "_format_version: '3.0'\nservices: [{name: a, url: 'http://10.0.0.1'}]\n",
    ProxyKind.HAPROXY: "backend b\n  mode http\n  server s 10.0.0.1:80\n",
    ProxyKind.APACHE: "LoadModule proxy_module a.so\nProxyPass / http://10.0.0.1/\n",
    ProxyKind.ENVOY: "static_resources: {clusters: []}\n",
    ProxyKind.TRAEFIK: "http: {services: {}}\n",
    ProxyKind.CADDY: "a.test {\n  reverse_proxy 10.0.0.1:80\n}\n",
}


def test_every_proxy_of_the_documentation_has_its_sample():
    assert set(SAMPLES) == set(CONFIGURATIONS)


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.name)
def test_a_configuration_is_told_by_its_content(kind, tmp_path):
    path = tmp_path / "proxy.conf"
    path.write_text(SAMPLES[kind])
    assert read_proxy_conf(path).kind is kind
