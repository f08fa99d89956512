"""Upstreams of proxies that pick peers in Lua inside nginx: what APISIX, ingress-nginx and Kong have in common.

Knows nginx's blocks and that such a proxy counts no failures of its own; none of their configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pcapdiag.proxy.conf import nginx_defaults as defaults
from pcapdiag.proxy.conf.settings import Endpoint, Location, Server, Setting, UpstreamBlock

BY_LUA = "balancer_by_lua"


@dataclass(frozen=True, slots=True)
class Pool:
    """The pool of idle connections towards one upstream, or all of them."""

    size: Setting[int]
    timeout_ns: Setting[int]
    requests: Setting[int]
    time_ns: Setting[int]


@dataclass(frozen=True, slots=True)
class Passing:
    """How requests are passed to an upstream; nginx's defaults where nothing else is said."""

    connect_timeout_ns: Setting[int] = field(default_factory=defaults.timeout_ns)
    send_timeout_ns: Setting[int] = field(default_factory=defaults.timeout_ns)
    read_timeout_ns: Setting[int] = field(default_factory=defaults.timeout_ns)
    next_upstream: Setting[tuple[str, ...]] = field(default_factory=defaults.next_upstream)
    next_upstream_tries: Setting[int] = field(default_factory=lambda: defaults.assumed(0))
    next_upstream_timeout_ns: Setting[int] = field(default_factory=lambda: defaults.assumed(0))
    http_version: Setting[str] = field(default_factory=lambda: defaults.assumed("1.1", "as this proxy is built"))
    buffering: Setting[bool] = field(default_factory=lambda: defaults.assumed(value=True))
    request_buffering: Setting[bool] = field(default_factory=lambda: defaults.assumed(value=True))
    buffer_size_bytes: Setting[int] = field(default_factory=defaults.buffer_size_bytes)
    buffers: Setting[tuple[int, int]] = field(default_factory=defaults.buffers)


def server(address: str, where: Endpoint | None, port: int, *, weight: Setting[int], source: str) -> Server:
    """Return a peer whose failures nobody counts."""
    uncounted = "peers are picked in Lua: nginx's max_fails does not count for them"
    return Server(
        address=address,
        endpoint=where,
        port=port,
        weight=weight,
        max_conns=defaults.assumed(0),
        max_fails=defaults.assumed(0, uncounted),
        fail_timeout_ns=defaults.assumed(0, uncounted),
        backup=False,
        down=False,
        source=source,
    )


def block(name: str, pool: Pool, source: str, *, servers: tuple[Server, ...] = (), method: str = "") -> UpstreamBlock:
    """Return a group of peers; without servers they come from elsewhere."""
    return UpstreamBlock(
        name=name,
        servers=servers,
        method=Setting(f"{BY_LUA}{f': {method}' if method else ''}", source, assumed=not source),
        zone=defaults.assumed("", "one pool for each worker"),
        keepalive=pool.size,
        keepalive_local=defaults.assumed(value=False),
        keepalive_timeout_ns=pool.timeout_ns,
        keepalive_requests=pool.requests,
        keepalive_time_ns=pool.time_ns,
        source=source,
    )


def place(upstream: UpstreamBlock, passing: Passing, *, path: str = "", source: str = "") -> Location:
    """Return a place that passes requests to a group."""
    reuse = upstream.keepalive
    return Location(
        path=path,
        server_names=(),
        listens=(),
        module="proxy",
        target=Setting(f"http://{upstream.name}", source, assumed=not source),
        upstream=upstream.name,
        http_version=passing.http_version,
        connection=defaults.assumed("", "as this proxy is built"),
        reuse=Setting(reuse.value > 0, reuse.source, reuse.assumed, reuse.why),
        next_upstream=passing.next_upstream,
        next_upstream_tries=passing.next_upstream_tries,
        next_upstream_timeout_ns=passing.next_upstream_timeout_ns,
        connect_timeout_ns=passing.connect_timeout_ns,
        send_timeout_ns=passing.send_timeout_ns,
        read_timeout_ns=passing.read_timeout_ns,
        buffering=passing.buffering,
        request_buffering=passing.request_buffering,
        buffer_size_bytes=passing.buffer_size_bytes,
        buffers=passing.buffers,
        source=source,
    )


def as_backup(peer: Server) -> Server:
    """Return a peer that is asked only when those before it are out."""
    return replace(peer, backup=True)
