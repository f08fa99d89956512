"""APISIX: config.yaml and upstream objects (apisix.yaml, answers of the Admin API, one object) as settings.

Defaults as in apisix/cli/config.lua and apisix/schema_def.lua.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S, parse_duration
from pcapdiag.proxy.conf import balanced
from pcapdiag.proxy.conf import nginx_defaults as defaults
from pcapdiag.proxy.conf.nginx_source import unescape
from pcapdiag.proxy.conf.settings import AccessLog, ErrorLog, LogFormat, ProxyKind, ProxySettings, Setting
from pcapdiag.proxy.conf.tree import Node, setting
from pcapdiag.proxy.conf.values import count, endpoint, time_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.proxy.conf.settings import ConfNote, Location, Server, UpstreamBlock

_WHY = "default of APISIX"
_LOG_FORMAT = (
    '$remote_addr - $remote_user [$time_local] $http_host "$request" $status $body_bytes_sent $request_time'
    ' "$http_referer" "$http_user_agent" $upstream_addr $upstream_status $upstream_response_time'
    ' "$upstream_scheme://$upstream_host$upstream_uri"'
)
_HOLDERS = ("routes", "services", "upstreams", "stream_routes")
_KEYS = frozenset({"apisix", "nginx_config", "deployment", "plugin_attr"})


def is_apisix(document: Node) -> bool:
    """Whether this is config.yaml, or holds upstream objects."""
    return any(key in _KEYS for key, _ in document.items()) or any(True for _ in _upstream_objects(document))


def read_apisix(documents: tuple[Node, ...], path: str, notes: list[ConfNote], *, version: str = "") -> ProxySettings:
    """Read config.yaml or upstream objects.

    Parameters
    ----------
    documents : tuple of Node
        The parsed file.
    path : str
        The file that was given.
    notes : list of ConfNote
        What could not be read so far.
    version : str
        Version of APISIX if it is known.

    Returns
    -------
    ProxySettings
        One block for each upstream object, and ``apisix_backend`` for those that are not in the file.
    """
    root = documents[0]
    pool = _pool(root.get("nginx_config", "http", "upstream"), notes)
    blocks: list[UpstreamBlock] = []
    places: list[Location] = []
    for name, uri, node in (found for document in documents for found in _upstream_objects(document)):
        made = _block(name, node, pool, notes)
        blocks.append(made)
        places.append(balanced.place(made, _passing(node, len(made.servers), notes), path=uri, source=node.source))
    if not blocks:
        blocks.append(balanced.block("apisix_backend", pool, ""))
        places.append(balanced.place(blocks[0], balanced.Passing()))
    nginx, http = root.get("nginx_config"), root.get("nginx_config", "http")
    level = setting(nginx and nginx.get("error_log_level"), str, defaults.assumed("warn", _WHY), notes)
    error_log = setting(nginx and nginx.get("error_log"), str, defaults.assumed("logs/error.log", _WHY), notes)
    access_log = setting(http and http.get("access_log"), str, defaults.assumed("logs/access.log", _WHY), notes)
    text = setting(http and http.get("access_log_format"), unescape, defaults.assumed(_LOG_FORMAT, _WHY), notes)
    escape = setting(http and http.get("access_log_format_escape"), str, defaults.assumed("default", _WHY), notes)
    return ProxySettings(
        kind=ProxyKind.APISIX,
        version=version,
        path=path,
        upstreams=tuple(blocks),
        locations=tuple(places),
        log_formats=(LogFormat("main", text.value.rstrip("\n"), escape.value, text.source),),
        access_logs=(AccessLog(access_log.value, "main", access_log.source),),
        error_logs=(ErrorLog(error_log.value, level, error_log.source),),
        worker_processes=setting(nginx and nginx.get("worker_processes"), str, defaults.assumed("auto", _WHY), notes),
        notes=tuple(notes),
    )


def _pool(node: Node | None, notes: list[ConfNote]) -> balanced.Pool:
    """Read nginx_config.http.upstream."""
    return balanced.Pool(
        size=setting(node and node.get("keepalive"), count, defaults.assumed(320, _WHY), notes),
        timeout_ns=setting(
            node and node.get("keepalive_timeout"), time_ns, defaults.assumed(60 * NS_PER_S, _WHY), notes
        ),
        requests=setting(node and node.get("keepalive_requests"), count, defaults.assumed(1000, _WHY), notes),
        time_ns=defaults.assumed(-1, "a balancer in Lua closes no connection for its age"),
    )


def _upstream_objects(document: Node) -> Iterator[tuple[str, str, Node]]:
    """Yield name, URI of the route if there is one, and the upstream object."""
    listed = list(document.get("list").elements()) if document.get("list") else [document]  # type: ignore[union-attr]
    for item in listed:
        single = item.get("value") or item.get("node", "value") or item
        if single.get("nodes"):
            yield _name(single, single.source), "", single
        elif (inner := single.get("upstream")) and inner.get("nodes"):
            yield _name(inner, _name(single, inner.source)), _uri(single), inner
        for holder in _HOLDERS:
            for owner in (single.get(holder) or single).elements():
                node = owner if holder == "upstreams" else owner.get("upstream")
                if node and node.get("nodes"):
                    yield _name(node, _name(owner, node.source)), _uri(owner), node


def _name(node: Node, otherwise: str) -> str:
    return next((found.text for key in ("id", "name", "uri") if (found := node.get(key)) and found.text), otherwise)


def _uri(node: Node) -> str:
    uri = node.get("uri")
    return uri.text if uri else ""


def _block(name: str, node: Node, general: balanced.Pool, notes: list[ConfNote]) -> UpstreamBlock:
    own = node.get("keepalive_pool")
    pool = balanced.Pool(
        size=setting(own and own.get("size"), count, general.size, notes),
        timeout_ns=setting(own and own.get("idle_timeout"), parse_duration, general.timeout_ns, notes),
        requests=setting(own and own.get("requests"), count, general.requests, notes),
        time_ns=general.time_ns,
    )
    kind = node.get("type")
    return balanced.block(
        name, pool, node.source, servers=_servers(node, notes), method=kind.text if kind else "roundrobin"
    )


def _servers(node: Node, notes: list[ConfNote]) -> tuple[Server, ...]:
    """Read nodes, in either form; those of a lower priority are asked when the others are out."""
    scheme = node.get("scheme")
    default_port = 443 if scheme and scheme.text in {"https", "grpcs"} else 80
    nodes = node.get("nodes")
    made: list[tuple[int, Server]] = []
    for address, weight in nodes.items() if nodes else ():
        where, port = endpoint(address, default_port)
        share = setting(weight, count, defaults.assumed(1, _WHY), notes)
        made.append((0, balanced.server(address, where, port, weight=share, source=weight.source)))
    for element in nodes.elements() if nodes else ():
        host, number = element.get("host"), element.get("port")
        address = host.text if host else ""
        address = f"[{address}]" if ":" in address and not address.startswith("[") else address
        address += f":{number.text}" if number else ""
        where, port = endpoint(address, default_port)
        share = setting(element.get("weight"), count, defaults.assumed(1, _WHY), notes)
        priority = setting(element.get("priority"), int, defaults.assumed(0, _WHY), notes).value
        made.append((priority, balanced.server(address, where, port, weight=share, source=element.source)))
    first = max((priority for priority, _ in made), default=0)
    return tuple(peer if priority == first else balanced.as_backup(peer) for priority, peer in made)


def _passing(node: Node, n_servers: int, notes: list[ConfNote]) -> balanced.Passing:
    default = defaults.assumed(60 * NS_PER_S, _WHY)
    timeout = node.get("timeout")
    tries = defaults.assumed(n_servers, "default of APISIX: retries are one less than nodes")
    retries = setting(node.get("retries"), count, defaults.assumed(n_servers - 1), notes)
    if not retries.assumed:
        tries = Setting(retries.value + 1, retries.source)
    return balanced.Passing(
        connect_timeout_ns=setting(timeout and timeout.get("connect"), parse_duration, default, notes),
        send_timeout_ns=setting(timeout and timeout.get("send"), parse_duration, default, notes),
        read_timeout_ns=setting(timeout and timeout.get("read"), parse_duration, default, notes),
        next_upstream_tries=tries,
        next_upstream_timeout_ns=setting(node.get("retry_timeout"), parse_duration, defaults.assumed(0, _WHY), notes),
    )
