"""How each proxy is told to keep connections, how many, and for how many requests: in its own words.

Sources: nginx ngx_http_upstream_module (`keepalive`, `keepalive_requests`: 1000, 100 before 1.19.10); HAProxy
configuration manual 4.2 (`http-reuse`) and 5.2 (`pool-max-conn`, `max-reuse`); Apache mod_proxy (`disablereuse`, `max`,
`proxy-nokeepalive`); Envoy `Cluster` (`max_requests_per_connection`); Caddy `reverse_proxy` transport http
(`keepalive_idle_conns_per_host`); Traefik serversTransport (`maxIdleConnsPerHost`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.rules._dialect import is_tcp_mode, proxy_kind

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis

TCP_MODE = "the proxy hands on bytes (HAProxy in TCP mode): it keeps no connections of its own"
"""Why nothing is said of its pool."""
_REUSE: dict[ProxyKind | None, str] = {
    ProxyKind.NGINX: (
        "At the proxy, in the upstream block of {peer}: keepalive 32; and where requests are passed to it:"
        ' proxy_http_version 1.1; proxy_set_header Connection "";'
    ),
    ProxyKind.APISIX: "At the proxy (APISIX), in the upstream object of {peer}: keepalive_pool with a size.",
    ProxyKind.INGRESS_NGINX: "At the proxy (ingress-nginx), in its ConfigMap: upstream-keepalive-connections above 0.",
    ProxyKind.KONG: "At the proxy (Kong), in kong.conf: upstream_keepalive_pool_size above 0.",
    ProxyKind.HAPROXY: (
        "At the proxy (HAProxy), for {peer}: http-reuse safe, and neither option httpclose nor pool-max-conn 0."
    ),
    ProxyKind.APACHE: (
        "At the proxy (Apache httpd), where {peer} is named: no disablereuse=On, and no SetEnv proxy-nokeepalive or"
        " force-proxy-request-1.0."
    ),
    ProxyKind.ENVOY: "At the proxy (Envoy), in the cluster of {peer}: max_requests_per_connection is not 1.",
    ProxyKind.CADDY: "At the proxy (Caddy), in the block transport http to {peer}: no keepalive off.",
    ProxyKind.TRAEFIK: "At the proxy (Traefik), in the serversTransport of {peer}: maxIdleConnsPerHost is not -1.",
}
_SIZE: dict[ProxyKind | None, str] = {
    ProxyKind.NGINX: "At the proxy, in the upstream block of {peer}: keepalive {n}; for each worker",
    ProxyKind.APISIX: "At the proxy (APISIX), in the upstream object of {peer}: keepalive_pool.size {n}",
    ProxyKind.INGRESS_NGINX: "At the proxy (ingress-nginx), in its ConfigMap: upstream-keepalive-connections: {n}",
    ProxyKind.KONG: "At the proxy (Kong), in kong.conf: upstream_keepalive_pool_size = {n}",
    ProxyKind.HAPROXY: "At the proxy (HAProxy), on the server line of {peer}: pool-max-conn {n}",
    ProxyKind.APACHE: (
        "At the proxy (Apache httpd), on the ProxyPass or BalancerMember line of {peer}: max={n} (for each process),"
        " and no smax below it"
    ),
    ProxyKind.CADDY: "At the proxy (Caddy), in the block transport http to {peer}: keepalive_idle_conns_per_host {n}",
    ProxyKind.TRAEFIK: "At the proxy (Traefik), in the serversTransport of {peer}: maxIdleConnsPerHost: {n}",
}
_LIMIT: dict[ProxyKind | None, str] = {
    ProxyKind.NGINX: "At the proxy, in the upstream block of {peer}: keepalive_requests {n};",
    ProxyKind.APISIX: "At the proxy (APISIX), in the upstream object of {peer}: keepalive_pool.requests {n}",
    ProxyKind.INGRESS_NGINX: "At the proxy (ingress-nginx), in its ConfigMap: upstream-keepalive-requests: {n}",
    ProxyKind.KONG: "At the proxy (Kong), in kong.conf: upstream_keepalive_max_requests = {n}",
    ProxyKind.HAPROXY: "At the proxy (HAProxy), on the server line of {peer}: max-reuse {before}",
    ProxyKind.ENVOY: "At the proxy (Envoy), in the cluster of {peer}: max_requests_per_connection: {n}",
}


def reuse_advice(analysis: Analysis, peer: str) -> str:
    """Return how the proxy is told to keep connections to a peer."""
    kind = proxy_kind(analysis)
    blocks = (block for end, held in analysis.blocks_by_endpoint.items() if str(end) == peer for block in held)
    kept = next((block.keepalive for block in blocks if block.keepalive.value > 0), None)
    if kept is not None and kind is ProxyKind.NGINX:
        return (
            f"The configuration that was given keeps up to {kept.value:,} idle connections to {peer}"
            f" ({kept.why if kept.assumed else kept.source}), and none is kept in the capture: see whether that one"
            ' runs, and whether requests are passed on with proxy_http_version 1.1 and proxy_set_header Connection "".'
        )
    text = _REUSE[kind].format(peer=peer) if kind in _REUSE else f"Let the proxy keep connections to {peer}."
    if kind is None:
        example = 'in nginx: keepalive in the upstream block, proxy_http_version 1.1, proxy_set_header Connection ""'
        text = f"Let the proxy keep connections to {peer} ({example})."
    return f"{text} Then keep its idle limit below that of the upstream, or requests will meet closed connections."


def pool_size_advice(analysis: Analysis, peer: str, n: int) -> str:
    """Return how the proxy is told to keep `n` idle connections to a peer."""
    kind = proxy_kind(analysis)
    if kind in _SIZE:
        text = f"{_SIZE[kind].format(peer=peer, n=n)}: so many were open at once."
    else:
        example = f" (in nginx: keepalive {n}; in the upstream block)" if kind is None else ""
        text = f"Let the proxy keep up to {n} idle connections to {peer}{example}: so many were open at once."
    return f"{text} A larger pool holds more connections when the upstream closes them all, and costs it as many."


def request_limit_advice(analysis: Analysis, peer: str, n: int) -> str:
    """Return how the proxy is told to give a connection to a peer up after `n` requests itself."""
    kind = proxy_kind(analysis)
    if is_tcp_mode(analysis):
        return f"The proxy hands on bytes: its clients themselves may send {n} requests on a connection at most."
    if kind in _LIMIT:
        return _LIMIT[kind].format(peer=peer, n=n, before=n - 1)
    if kind is not None:
        return f"{kind.value} as proxy has no limit of requests per connection that is known here."
    return (
        f"At the proxy: at most {n} requests per connection to {peer} (in nginx: keepalive_requests {n}; in the"
        " upstream block)."
    )
