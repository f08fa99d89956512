"""The language of advice: settings of the proxy and of the server that are there, by their own names.

What they are is told by the configuration, the logs and the Server field; where nothing tells, no setting is assumed
to be there, and several are named as what they are: examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pcapdiag.base.codes import Protocol
from pcapdiag.base.server_defaults import HTTPD, names_server
from pcapdiag.base.units import NS_PER_S, about
from pcapdiag.proxy.conf.settings import OF_OTHER_KIN, ProxyKind
from pcapdiag.proxy.conf.values import nginx_time, seconds

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis, Connection, Loss
    from pcapdiag.proxy.conf.change import Wait

_POOL_DEFAULTS = {
    # keepalive_timeout of ngx_http_upstream_keepalive_module
    ProxyKind.NGINX: (60 * NS_PER_S, "the default of nginx"),
    # keepalive of reverse_proxy's http transport (Caddyfile reference)
    ProxyKind.CADDY: (120 * NS_PER_S, "the default of Caddy"),
    # serversTransport.forwardingTimeouts.idleConnTimeout (Traefik's reference of static configuration)
    ProxyKind.TRAEFIK: (90 * NS_PER_S, "the default of Traefik"),
    # HTTP keepalive timeout between load balancer and backends ("Backend services overview")
    ProxyKind.GCP: (600 * NS_PER_S, "fixed by GCP"),
    # idle timeout ("Configure the idle connection timeout for your Classic Load Balancer")
    ProxyKind.CLB: (60 * NS_PER_S, "the default of AWS CLB"),
}
"""How long idle connections to servers are kept where nothing else is set, each by its own documentation."""
_CADDY_BLOCK = "in the block transport http of its reverse_proxy"
_TRAEFIK_KEY = "forwardingTimeouts.idleConnTimeout"
_ENVOY_KEY = "common_http_protocol_options.idle_timeout"
_SET_BY_NOBODY = "the idle limit of the load balancer (GCP fixes it at 600 s, so raise that of the other side instead)"

_FAMILY = (
    "APISIX keepalive_pool.idle_timeout, ingress-nginx upstream-keepalive-timeout, Kong upstream_keepalive_idle_timeout"
)


def proxy_kind(analysis: Analysis) -> ProxyKind | None:
    """Return what the proxy is; None where neither configuration nor logs tell."""
    return analysis.settings.kind if analysis.settings is not None else analysis.proxy_kind


def nginx_module(analysis: Analysis, loss: Loss) -> str:
    """Return the prefix of nginx's directives for the location of a request: ``proxy``, ``fastcgi``, ``uwsgi``, ..."""
    settings = analysis.settings
    if settings is not None and settings.kind is ProxyKind.NGINX:
        places = settings.locations_of(settings.blocks_of_peer(str(loss.connection.resp)))
        modules = {place.module for place in places}
        if len(modules) == 1:
            return modules.pop()
    return {Protocol.FASTCGI: "fastcgi", Protocol.UWSGI: "uwsgi", Protocol.SCGI: "scgi", Protocol.HTTP2: "grpc"}.get(
        loss.connection.protocol, "proxy"
    )


def names_no_server(analysis: Analysis) -> bool:
    """Tell whether the proxy's log has words for a request that found no server up: HAProxy, <NOSRV> with SC."""
    return proxy_kind(analysis) is ProxyKind.HAPROXY


def is_tcp_mode(analysis: Analysis) -> bool:
    """Tell whether the proxy is a HAProxy that hands on bytes to these upstreams: it pools and repeats nothing."""
    settings = analysis.settings
    if settings is None or settings.kind is not ProxyKind.HAPROXY:
        return False
    servers = [server for u in analysis.upstreams for server in settings.servers_of(str(u.endpoint))] or settings.own
    modes = {held.value for server in servers for name, held in server.settings if name == "mode"}
    return modes == {"tcp"}


def pool_default(analysis: Analysis) -> tuple[int, str]:
    """Return how long [ns] the proxy keeps idle connections if nothing else is set, and whose default that is.

    (-1, "") where that is not known, or a configuration was read.
    """
    kind = proxy_kind(analysis)
    known = _POOL_DEFAULTS.get(kind) if kind is not None and analysis.settings is None else None
    return known if known is not None else (-1, "")


def can_limit_pool(analysis: Analysis) -> bool:
    """Tell whether anybody can set how long the proxy keeps idle connections; GCP's load balancers have it fixed."""
    return proxy_kind(analysis) is not ProxyKind.GCP


def is_pool_exact(analysis: Analysis) -> bool:
    """Tell whether the proxy has a limit after which it never uses an idle connection; HAProxy only thins them out."""
    return proxy_kind(analysis) is not ProxyKind.HAPROXY


def limit_pool(analysis: Analysis, peer: str, limit_ns: int) -> str:
    """Return how to keep idle connections to a peer no longer than `limit_ns`, as the first half of a sentence."""
    kind = proxy_kind(analysis)
    if kind is ProxyKind.NGINX:
        return f"At the proxy, in the upstream block of {peer}: keepalive_timeout {nginx_time(limit_ns)};"
    if kind is ProxyKind.APACHE:
        whole_s = limit_ns // NS_PER_S
        if not whole_s:
            at = _line_of(analysis, peer, "disablereuse")
            return f"At the proxy (Apache httpd), where {peer} is named{at}: disablereuse=On,"
        line = f"on the ProxyPass or BalancerMember line of {peer}{_line_of(analysis, peer, 'ttl')}"
        return f"At the proxy (Apache httpd), {line}: ttl={whole_s} (with the prefork MPM it may do nothing),"
    if is_tcp_mode(analysis):
        return (
            "At the proxy (HAProxy in TCP mode, which pools nothing: each connection to a server is one client's own):"
            f" timeout client {_haproxy_time(limit_ns)}, or an idle limit of the clients themselves,"
        )
    if kind is ProxyKind.HAPROXY:
        return (
            f"At the proxy (HAProxy), on the server line of {peer}{_line_of(analysis, peer, 'pool-purge-delay')}:"
            f" pool-purge-delay {_haproxy_time(limit_ns // 2)}"
            f" makes the race rarer: half of the idle connections are closed each time, so that few get older than"
            f" {about(limit_ns)};"
        )
    if kind is ProxyKind.ALB:
        return (
            f"At the load balancer (AWS ALB): idle_timeout.timeout_seconds={max(limit_ns // NS_PER_S, 1)}, which holds"
            " for its clients and for answers that take longer, too;"
        )
    if kind is ProxyKind.ENVOY:
        at = f"in the cluster of {peer}{_line_of(analysis, peer, _ENVOY_KEY)}"
        return f"At the proxy (Envoy), {at}: {_ENVOY_KEY} {_decimal_s(limit_ns)};"
    if kind is ProxyKind.CADDY:
        at = f"{_CADDY_BLOCK} to {peer}{_line_of(analysis, peer, 'keepalive')}"
        return f"At the proxy (Caddy), {at}: keepalive {_decimal_s(limit_ns)},"
    if kind is ProxyKind.TRAEFIK:
        at = f"in the serversTransport of {peer}{_line_of(analysis, peer, _TRAEFIK_KEY)}"
        return f"At the proxy (Traefik), {at}: {_TRAEFIK_KEY}: {_decimal_s(limit_ns)},"
    if kind is ProxyKind.CLB:
        return (
            f"At the load balancer (AWS CLB): an idle timeout of {max(limit_ns // NS_PER_S, 1)} s, which holds for its"
            " clients and for answers that take longer, too;"
        )
    if kind is ProxyKind.GCP:
        return f"At the load balancer: {_SET_BY_NOBODY};"
    if kind is None:
        example = f"in nginx: keepalive_timeout {nginx_time(limit_ns)}; in the upstream block"
        return f"At the proxy: an idle limit of {about(limit_ns)} for connections to {peer} ({example}),"
    return f"At the proxy ({kind.value}): {_KEYS[kind]} {max(limit_ns // NS_PER_S, 1)} for {peer},"


_KEYS = {
    ProxyKind.APISIX: "keepalive_pool.idle_timeout",
    ProxyKind.INGRESS_NGINX: "upstream-keepalive-timeout",
    ProxyKind.KONG: "upstream_keepalive_idle_timeout",
}


def _line_of(analysis: Analysis, peer: str, name: str) -> str:
    """Return where a server is configured and what holds there now, in parentheses; empty where it is not known."""
    servers = analysis.settings.servers_of(peer) if analysis.settings is not None else ()
    # Several routes to one cluster of Envoy's have one line for its pool.
    if len({(server.source, dict(server.settings).get(name)) for server in servers}) != 1:
        return ""
    server = servers[0]
    held = dict(server.settings).get(name)
    if held is None or held.is_contradicted:
        return f" ({server.source})"
    where = f", {held.source or held.why}" if held.source != server.source else ""
    return f" ({server.source}, now {name} {held.value}{where})"


_GROUPS = {
    **dict.fromkeys((ProxyKind.NGINX, ProxyKind.INGRESS_NGINX), "upstream block"),
    ProxyKind.APISIX: "upstream object",
    ProxyKind.KONG: "upstream",
    ProxyKind.HAPROXY: "backend",
    ProxyKind.APACHE: "balancer",
    ProxyKind.ALB: "target group",
    ProxyKind.ENVOY: "cluster",
    ProxyKind.CADDY: "reverse_proxy",
    ProxyKind.TRAEFIK: "service",
    ProxyKind.GCP: "backend service",
    ProxyKind.CLB: "load balancer",
}


def group_of_peers(analysis: Analysis) -> str:
    """Return what the proxy calls a group of servers."""
    kind = proxy_kind(analysis)
    return _GROUPS[kind] if kind is not None else "group of servers"


def pool_setting(analysis: Analysis) -> str:
    """Return the name of what limits how long the proxy keeps idle connections."""
    kind = proxy_kind(analysis)
    if kind is ProxyKind.NGINX:
        return "keepalive_timeout in the upstream block"
    if kind is ProxyKind.APACHE:
        return "ttl on the ProxyPass or BalancerMember line"
    if kind is ProxyKind.HAPROXY:
        return "timeout client" if is_tcp_mode(analysis) else "pool-purge-delay on the server line"
    if kind is ProxyKind.ALB:
        return "idle_timeout.timeout_seconds of the load balancer (60 by default)"
    if kind is ProxyKind.ENVOY:
        return f"{_ENVOY_KEY} of the cluster (1 h by default)"
    if kind is ProxyKind.CADDY:
        return f"keepalive {_CADDY_BLOCK} (2m by default)"
    if kind is ProxyKind.TRAEFIK:
        return f"{_TRAEFIK_KEY} of the serversTransport (90s by default)"
    if kind is ProxyKind.CLB:
        return "the idle timeout of the load balancer (60 s by default)"
    if kind is ProxyKind.GCP:
        return _SET_BY_NOBODY
    if kind is None:
        return "the proxy's idle limit for upstream connections (in nginx: keepalive_timeout in the upstream block)"
    return _KEYS[kind]


def elsewhere(analysis: Analysis) -> str:
    """Return the names of the pool's limit in other proxies, as a sentence; empty where the proxy is another one."""
    kind = proxy_kind(analysis)
    if kind not in {None, ProxyKind.NGINX}:
        return ""
    others = "" if kind is ProxyKind.NGINX else ", Apache httpd ttl, HAProxy pool-purge-delay"
    return f"The same setting elsewhere: {_FAMILY}{others}."


def can_set_connect_wait(analysis: Analysis) -> bool:
    """Tell whether anybody can set how long the proxy waits for a connection; AWS's and GCP's have it fixed."""
    return proxy_kind(analysis) not in {ProxyKind.ALB, ProxyKind.CLB, ProxyKind.GCP}


def wait_setting(analysis: Analysis, loss: Loss | None, wait: Wait) -> str:
    """Return the name of what limits how long the proxy waits for an upstream like that of a lost request."""
    kind = proxy_kind(analysis)
    is_connect = wait == "connect"
    if kind is ProxyKind.HAPROXY:
        return "timeout connect" if is_connect else "timeout server"
    if kind is ProxyKind.APACHE:
        return f"{'connectiontimeout' if is_connect else 'timeout'} on the ProxyPass line"
    if kind is ProxyKind.ENVOY:
        return "connect_timeout of the cluster" if is_connect else "the timeout of the route"
    if kind is ProxyKind.ALB:
        return "the connection timeout of an ALB (fixed)" if is_connect else "idle_timeout.timeout_seconds"
    if kind is ProxyKind.CADDY:
        return f"{'dial_timeout' if is_connect else 'response_header_timeout'} {_CADDY_BLOCK}"
    if kind is ProxyKind.TRAEFIK:
        key = "dialTimeout" if is_connect else "responseHeaderTimeout"
        return f"forwardingTimeouts.{key} of the serversTransport"
    if kind is ProxyKind.CLB:
        return "the connection timeout of a CLB (fixed)" if is_connect else "the idle timeout of the load balancer"
    if kind is ProxyKind.GCP:
        return "the connection timeout of GCP (fixed)" if is_connect else "timeoutSec of the backend service"
    if kind is ProxyKind.APISIX:
        return f"timeout.{wait} of the upstream object"
    if kind is ProxyKind.KONG:
        return f"{'write' if wait == 'send' else wait}_timeout of the service"
    if kind is ProxyKind.INGRESS_NGINX:
        return f"proxy-{wait}-timeout"
    name = f"{'proxy' if loss is None else nginx_module(analysis, loss)}_{wait}_timeout"
    return f"the proxy's {wait} timeout (in nginx: {name})" if kind is None else name


_LEFT = {
    **dict.fromkeys(
        (ProxyKind.NGINX, ProxyKind.APISIX, ProxyKind.INGRESS_NGINX, ProxyKind.KONG, ProxyKind.TRAEFIK), "status 499"
    ),
    # Session state at disconnection, in HAProxy's configuration manual.
    ProxyKind.HAPROXY: "a termination state that begins with C",
    # %RESPONSE_FLAGS% in Envoy's documentation of access logs.
    ProxyKind.ENVOY: "the response flag DC",
    # Status codes in the documentation of the load balancer's access logs.
    ProxyKind.ALB: "status 460",
    ProxyKind.GCP: "statusDetails client_disconnected_before_any_response",
}


_BODY_LIMITS = {
    ProxyKind.NGINX: "client_max_body_size",
    ProxyKind.APISIX: "client_max_body_size",
    ProxyKind.INGRESS_NGINX: "proxy-body-size",
    ProxyKind.KONG: "nginx_http_client_max_body_size",
    ProxyKind.APACHE: "LimitRequestBody",
    ProxyKind.CADDY: "max_size of request_body",
    ProxyKind.TRAEFIK: "maxRequestBodyBytes of the middleware buffering",
}


def body_limit(analysis: Analysis) -> str:
    """Return the name of what limits a request's body at the proxy, in parentheses; empty where it has none."""
    kind = proxy_kind(analysis)
    name = "in nginx: client_max_body_size" if kind is None else _BODY_LIMITS.get(kind, "")
    return f" ({name})" if name else ""


def gave_up_words(analysis: Analysis) -> str:
    """Return what a log of the proxy has where it or its client gave a request up, in parentheses; empty if unknown."""
    kind = proxy_kind(analysis)
    mark = _LEFT.get(kind, "") if kind is not None else ""
    return f" ({mark}: its client left; status 504: its own timeout)" if mark else ""


def left_words(analysis: Analysis) -> str:
    """Return what the access log of the proxy says where a client went away, as a sentence."""
    kind = proxy_kind(analysis)
    mark = _LEFT.get(kind) if kind is not None else None
    if mark is None:
        return "The proxy's own log says whether the client went away."
    return f"Compare with the access log: {mark} says that the client closed."


def of_nginx(analysis: Analysis, text: str) -> str:
    """Return words about nginx where the proxy may be of its kin, as far as anything tells; else nothing."""
    return "" if proxy_kind(analysis) in OF_OTHER_KIN else text


def needs_tries(analysis: Analysis) -> str:
    """Return what an access log lacks that names no upstreams, as the end of a clause; empty where it is not known."""
    fields = "$upstream_addr and $upstream_status"
    if proxy_kind(analysis) is None:
        return f" (in nginx: {fields} in its format)"
    return of_nginx(analysis, f": needs {fields} in it")


def with_tries(analysis: Analysis) -> str:
    """Return what an access log must have so that it lists tries, as the end of a clause."""
    return (
        " (in nginx: with $upstream_addr)"
        if proxy_kind(analysis) is None
        else of_nginx(analysis, " with $upstream_addr")
    )


def names_tries(analysis: Analysis) -> str:
    """Return what in an access log says which upstream a request went to, as the end of a clause."""
    fields = "$upstream_addr and $upstream_status"
    if proxy_kind(analysis) is None:
        return f"; the access log may say which upstream it was (in nginx: {fields})"
    return of_nginx(analysis, f"; {fields} in the access log, which upstream it was")


def keep_probing(analysis: Analysis) -> str:
    """Return how to let the proxy's kernel probe idle connections to upstreams."""
    kind = proxy_kind(analysis)
    if kind is ProxyKind.APACHE:
        return "keepalive=On on the ProxyPass line"
    if kind is ProxyKind.HAPROXY:
        return "option srvtcpka"
    return "proxy_socket_keepalive on;" if kind is ProxyKind.NGINX else "TCP keep-alive probes"


def _decimal_s(value_ns: int) -> str:
    """Return a time as protobuf's JSON writes a duration."""
    return f"{seconds(value_ns)}s"


def _haproxy_time(value_ns: int) -> str:
    whole_s = value_ns // NS_PER_S
    return f"{whole_s}s" if whole_s else f"{max(value_ns // 1_000_000, 1)}ms"


class ServerWords(NamedTuple):
    """A server's own names for what ends its workers, and unused connections; empty where it has none, or is unknown.

    What speaks FastCGI or uwsgi need not be what mostly does: its names then stand as an example.
    """

    timeout: str
    restart: str
    unused: str = ""


_SERVERS = (
    ("gunicorn", ServerWords("gunicorn --timeout", "gunicorn --max-requests")),
    ("uvicorn", ServerWords("", "uvicorn --limit-max-requests")),
    ("hypercorn", ServerWords("", "hypercorn --max-requests")),
    ("waitress", ServerWords("", "")),
    ("puma", ServerWords("puma worker_timeout", "")),
    ("phusion", ServerWords("passenger_max_request_time", "passenger_max_requests")),
    (HTTPD, ServerWords("Apache Timeout", "Apache MaxConnectionsPerChild", "Apache RequestReadTimeout")),
    ("openresty", ServerWords("", "nginx reloads", "nginx client_header_timeout")),
    ("nginx", ServerWords("", "nginx reloads", "nginx client_header_timeout")),
    ("unicorn", ServerWords("unicorn timeout", "")),
)
_BY_PROTOCOL = {
    Protocol.FASTCGI: ServerWords("in php-fpm: request_terminate_timeout", "in php-fpm: pm.max_requests"),
    Protocol.UWSGI: ServerWords("in uWSGI: harakiri", "in uWSGI: max-requests"),
}
_NOT_TOLD = ServerWords("", "")


def server_words(connection: Connection) -> ServerWords:
    """Return what ends the workers of the server at the other end of a connection, in its own words.

    Parameters
    ----------
    connection : Connection
        Its protocol and Server field tell; where they do not, nothing is named.
    """
    of_protocol = _BY_PROTOCOL.get(connection.protocol)
    if of_protocol is not None:
        return of_protocol
    return next((words for token, words in _SERVERS if names_server(connection.server, token)), _NOT_TOLD)
