"""The proxy's own names for how it speaks TLS to upstreams; nginx's as an example where nothing tells what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.rules._dialect import proxy_kind

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis


class TlsWords(NamedTuple):
    """Settings by what they are for, each as the end of a clause that begins with a comma; empty where not known.

    Attributes
    ----------
    speak, plain : str
        That the proxy speaks TLS at all, and that it does not.
    versions, name, trust, own, parameters : str
        Versions that it offers; the name that it sends; whom it trusts, and for which name; the certificate that it
        has of its own; ciphers.
    """

    speak: str = ""
    plain: str = ""
    versions: str = ""
    name: str = ""
    trust: str = ""
    own: str = ""
    parameters: str = ""


_NGINX = TlsWords(
    speak="`https` in place of `http` in `proxy_pass`",
    plain="`http` in place of `https` in `proxy_pass`",
    versions="`proxy_ssl_protocols TLSv1.2 TLSv1.3;`, 1.3 being in its default from 1.23.4 on",
    name="`proxy_ssl_server_name on;` and `proxy_ssl_name NAME;`",
    trust="`proxy_ssl_trusted_certificate` and `proxy_ssl_name`",
    own="`proxy_ssl_certificate` and `proxy_ssl_certificate_key`",
    parameters="`proxy_ssl_ciphers` and `proxy_ssl_conf_command`",
)
_WORDS = {
    ProxyKind.NGINX: _NGINX,
    # Annotations of an Ingress ("Backend Certificate Authentication", "Backend Protocol").
    ProxyKind.INGRESS_NGINX: TlsWords(
        speak="the annotation `backend-protocol: HTTPS`",
        plain="the annotation `backend-protocol: HTTP`",
        versions="the annotation `proxy-ssl-protocols`",
        name="the annotations `proxy-ssl-server-name: on` and `proxy-ssl-name`",
        trust="the annotations `proxy-ssl-secret` and `proxy-ssl-name`",
        own="the annotation `proxy-ssl-secret`",
        parameters="the annotation `proxy-ssl-ciphers`",
    ),
    # Server options in section 5.2 of the configuration manual.
    ProxyKind.HAPROXY: TlsWords(
        speak="`ssl` on the server line",
        plain="no `ssl` on the server line",
        versions="`ssl-min-ver` and `ssl-max-ver` on the server line",
        name="`sni str(NAME)` on the server line",
        trust="`ca-file` and `verifyhost` on the server line",
        own="`crt` on the server line",
        parameters="`ciphers` and `ciphersuites` on the server line",
    ),
    # mod_ssl.
    ProxyKind.APACHE: TlsWords(
        speak="`https` in the URL of the ProxyPass or BalancerMember line, with `SSLProxyEngine on`",
        plain="`http` in the URL of the ProxyPass or BalancerMember line",
        versions="`SSLProxyProtocol`",
        name="the name in the URL of the ProxyPass or BalancerMember line",
        trust="`SSLProxyCACertificateFile`",
        own="`SSLProxyMachineCertificateFile`",
        parameters="`SSLProxyCipherSuite`",
    ),
    # UpstreamTlsContext and CommonTlsContext in the API reference.
    ProxyKind.ENVOY: TlsWords(
        speak="a transport_socket with UpstreamTlsContext in the cluster",
        plain="no transport_socket with UpstreamTlsContext in the cluster",
        versions="tls_params of its UpstreamTlsContext",
        name="sni of its UpstreamTlsContext",
        trust="validation_context of its UpstreamTlsContext",
        own="tls_certificates of its UpstreamTlsContext",
        parameters="cipher_suites in tls_params of its UpstreamTlsContext",
    ),
    # reverse_proxy's http transport in the Caddyfile reference.
    ProxyKind.CADDY: TlsWords(
        speak="`https` as the scheme of the upstream's address",
        plain="`http` as the scheme of the upstream's address, and no `tls` in its transport",
        name="`tls_server_name` in the block transport http of its reverse_proxy",
        trust="`tls_trust_pool` in the block transport http of its reverse_proxy",
        own="`tls_client_auth` in the block transport http of its reverse_proxy",
    ),
    # serversTransport in the reference of the dynamic configuration.
    ProxyKind.TRAEFIK: TlsWords(
        speak="`https` as the scheme of the server's URL",
        plain="`http` as the scheme of the server's URL",
        name="serverName of the serversTransport",
        trust="rootCAs of the serversTransport",
        own="certificates of the serversTransport",
    ),
    ProxyKind.ALB: TlsWords(
        speak="the protocol HTTPS of the target group", plain="the protocol HTTP of the target group"
    ),
}


def tls_words(analysis: Analysis) -> TlsWords:
    """Return how the proxy names what decides about TLS to upstreams.

    Parameters
    ----------
    analysis : Analysis
        With the configuration or the logs, which tell what the proxy is.

    Returns
    -------
    TlsWords
        Each with what it is a setting of: ``in HAProxy `crt` on the server line``. Nothing for a proxy whose names are
        not known here.
    """
    kind = proxy_kind(analysis)
    words = _NGINX if kind is None else _WORDS.get(kind, TlsWords())
    whose = "nginx" if kind is None else kind.value
    return TlsWords(*(f"in {whose} {text}" if text else "" for text in words))
