"""How each proxy names what decides about TLS to upstreams."""

import pytest

from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.rules._tls_words import tls_words
from tests.rules.builders import Scene


def words_of(kind):
    return tls_words(Scene().analysis(proxy_kind=kind))


@pytest.mark.parametrize("kind", ProxyKind)
def test_every_name_stands_with_whose_it_is(kind):
    assert {text.startswith(f"in {kind.value} ") for text in words_of(kind) if text} <= {True}


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (ProxyKind.NGINX, "proxy_ssl_protocols"),
        (ProxyKind.INGRESS_NGINX, "proxy-ssl-protocols"),
        (ProxyKind.HAPROXY, "ssl-min-ver"),
        (ProxyKind.APACHE, "SSLProxyProtocol"),
        (ProxyKind.ENVOY, "tls_params"),
    ],
)
def test_versions_have_the_name_of_the_proxy(kind, own):
    assert own in words_of(kind).versions


def test_where_nothing_tells_the_proxy_nginx_is_the_example_and_named():
    assert all(text.startswith("in nginx ") for text in words_of(None))


@pytest.mark.parametrize("kind", [ProxyKind.CLB, ProxyKind.GCP, ProxyKind.KONG, ProxyKind.APISIX])
def test_whose_names_are_not_known_has_none(kind):
    assert not any(words_of(kind))
