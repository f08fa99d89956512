"""Envoy's configuration: clusters, their endpoints, and what decides about connections to them, in Envoy's words.

Knows the bootstrap file, discovery resources in files, what ``/config_dump`` and istioctl print, as Envoy's API (v3)
has them, in snake_case or in protobuf's camelCase; each setting keeps its line. Matches of routes, runtime keys and
filters are not worked out. Linear in the length of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import NS_PER_S, count_of
from pcapdiag.proxy.conf.own import OwnWords, Way, assumed_ns, own_server, own_settings, written
from pcapdiag.proxy.conf.settings import ConfNote, ProxyKind, Setting
from pcapdiag.proxy.conf.values import go_limit_ns, go_time_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.proxy.conf.settings import ProxySettings
    from pcapdiag.proxy.conf.tree import Node

_ROOTS: Final = ("static_resources", "dynamic_resources", "staticResources", "dynamicResources")
_OF_CLUSTER: Final = frozenset(
    {
        *("connect_timeout", "load_assignment", "eds_cluster_config", "lb_policy", "cluster_type", "type"),
        *("typed_extension_protocol_options", "common_http_protocol_options"),
    }
)
"""Keys of a cluster, of which a part of a route that names one has none."""
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_DEFAULT: Final = "the default of Envoy"
_REWRITES: Final = ("prefix_rewrite", "regex_rewrite", "path_rewrite_policy")


@dataclass(slots=True)
class _EnvoyRoute:
    """How long one route waits for the cluster that it goes to, and when it tries again."""

    timeout: Setting[str] | None
    retry_on: Setting[str] | None
    num_retries: Setting[str] | None
    rewrites: bool


@dataclass(slots=True)
class _EnvoyParts:
    """What a document holds, by name of the cluster."""

    clusters: dict[str, Node] = field(default_factory=dict)
    endpoints: dict[str, list[Node]] = field(default_factory=dict)
    routes: dict[str, list[_EnvoyRoute]] = field(default_factory=dict)
    streams: dict[str, Setting[str] | None] = field(default_factory=dict)
    """Clusters that bytes are handed on to, with the idle limit of whole streams."""


def is_envoy(document: Node) -> bool:
    """Whether this is a configuration of Envoy, or a part of one."""
    if any(document.get(root) is not None for root in _ROOTS):
        return True
    listed = [document.get("configs"), document.get("resources")]
    for item in (item for node in listed if node is not None for item in node.elements()):
        kind = item.get("@type")
        if kind is not None and "/envoy." in kind.text:
            return True
    # istioctl prints clusters as a bare list; a name and a type alone are in many.
    return any(_is_cluster(item) and _get(item, "connect_timeout") is not None for item in document.elements())


def read_envoy(documents: tuple[Node, ...], path: str, notes: list[ConfNote]) -> ProxySettings:
    """Return the settings of Envoy.

    Parameters
    ----------
    documents : tuple of Node
        The parsed file.
    path : str
        The file that was given.
    notes : list of ConfNote
        What could not be read so far.

    Returns
    -------
    ProxySettings
        With its servers (`OwnServer`), one for each endpoint of a cluster and each way that routes have to it.
    """
    found = _EnvoyParts()
    for document in documents:
        _gather(document, found)
    ends = {
        name: [end for holder in found.endpoints.get(name, ()) for end in _addresses(holder)] for name in found.clusters
    }
    servers = (
        own_server(name, address, -1, way, source)
        for name, cluster in found.clusters.items()
        if ends[name]
        for way in _ways(cluster, found.routes.get(name, []), found.streams, notes)
        for address, source in ends[name]
    )
    without = sum(not of_cluster for of_cluster in ends.values())
    if 0 < without < len(ends):
        notes.append(
            ConfNote(path, f"{count_of(without, 'cluster')} without endpoints in it: they are discovered elsewhere")
        )
    missing = "no endpoint of a cluster is in it (/config_dump?include_eds has those that are discovered)"
    return own_settings(ProxyKind.ENVOY, path, servers, notes, missing)


def _snake(name: str) -> str:
    return _CAMEL.sub("_", name).lower()


def _get(node: Node | None, *path: str) -> Node | None:
    """Return what a path of keys leads to, however they are written."""
    for key in path:
        node = next((value for name, value in node.items() if key in {name, _snake(name)}), None) if node else None
    return node


def _is_cluster(node: Node) -> bool:
    keys = {_snake(key) for key, _ in node.items()}
    return "name" in keys and not keys.isdisjoint(_OF_CLUSTER) and "filter_chains" not in keys


def _gather(document: Node, found: _EnvoyParts) -> None:
    for key, node in document.below():
        name = _snake(key)
        kind = _get(node, "@type")
        ends_as = kind.text.rpartition(".")[2] if kind is not None else ""
        if (name in {"", "clusters", "cluster", "resources"} or ends_as == "Cluster") and _is_cluster(node):
            label = _text(_get(node, "name"))
            found.clusters.setdefault(label, node)
            assigned = _get(node, "load_assignment")
            if assigned is not None:
                found.endpoints.setdefault(label, []).append(assigned)
        elif name == "endpoint_config" or ends_as == "ClusterLoadAssignment":
            found.endpoints.setdefault(_text(_get(node, "cluster_name")), []).append(node)
        elif name == "virtual_hosts":
            for cluster, route in _routes(node):
                found.routes.setdefault(cluster, []).append(route)
        elif ends_as == "TcpProxy":
            for target in _targets(node):
                found.streams[target] = written(_get(node, "idle_timeout"))


def _text(node: Node | None) -> str:
    return node.text if node is not None else ""


def _routes(host: Node) -> Iterator[tuple[str, _EnvoyRoute]]:
    """Yield the routes of a virtual host, with the cluster that each goes to."""
    general = _get(host, "retry_policy")
    listed = _get(host, "routes")
    for entry in listed.elements() if listed is not None else ():
        action = _get(entry, "route")
        if action is None:
            continue
        policy = _get(action, "retry_policy") or general
        route = _EnvoyRoute(
            timeout=written(_get(action, "timeout")),
            retry_on=written(_get(policy, "retry_on")),
            num_retries=written(_get(policy, "num_retries")),
            rewrites=any(_get(action, key) is not None for key in _REWRITES),
        )
        for target in _targets(action):
            yield target, route


def _targets(action: Node) -> Iterator[str]:
    """Yield the clusters that a route or filter names."""
    single = _text(_get(action, "cluster"))
    if single:
        yield single
    weighted = _get(action, "weighted_clusters", "clusters")
    for part in weighted.elements() if weighted is not None else ():
        yield _text(_get(part, "name"))


def _addresses(holder: Node) -> Iterator[tuple[str, str]]:
    """Yield address and source of each endpoint of a load assignment."""
    for key, node in holder.below():
        if _snake(key) == "socket_address":
            host, port = _text(_get(node, "address")), _text(_get(node, "port_value"))
            host = f"[{host}]" if ":" in host else host
            yield f"{host}:{port}" if port else host, node.source
        elif key == "pipe" and (path := _text(_get(node, "path"))):
            yield f"unix:{path}", node.source


def _ways(
    cluster: Node, routes: list[_EnvoyRoute], streams: dict[str, Setting[str] | None], notes: list[ConfNote]
) -> list[Way]:
    name = _text(_get(cluster, "name"))
    if name in streams and not routes:
        return [_stream_way(cluster, streams[name], notes)]
    known = {(r.timeout and r.timeout.value, r.retry_on and r.retry_on.value): r for r in reversed(routes)}
    rewrites = any(route.rewrites for route in routes)
    ways = [_way(cluster, route, notes, rewrites=rewrites) for route in reversed(known.values())]
    return ways or [_way(cluster, None, notes, rewrites=False)]


def _way(cluster: Node, route: _EnvoyRoute | None, notes: list[ConfNote], *, rewrites: bool) -> Way:
    shown = OwnWords(notes)
    typed = _get(cluster, "typed_extension_protocol_options")
    options = typed.get(_HTTP_OPTIONS) if typed is not None else None
    common = _get(options, "common_http_protocol_options") or _get(cluster, "common_http_protocol_options")
    an_hour = assumed_ns(3600 * NS_PER_S, _DEFAULT)
    limit = shown.time(
        "common_http_protocol_options.idle_timeout", written(_get(common, "idle_timeout")), go_limit_ns, an_hour, "1h"
    )
    shown.text("max_connection_duration", written(_get(common, "max_connection_duration")))
    most = written(_get(common, "max_requests_per_connection") or _get(cluster, "max_requests_per_connection"))
    is_kept = shown.text("max_requests_per_connection", most) != "1"
    connect = _connect_timeout(shown, cluster)
    waits = shown.time(
        "route timeout",
        route.timeout if route is not None else None,
        go_limit_ns,
        assumed_ns(15 * NS_PER_S, _DEFAULT),
        "15s" if route is not None else "",
    )
    if route is None:
        waits = assumed_ns(-1, "no route to it is in the file")
    conditions = shown.text("retry_on", route.retry_on if route is not None else None)
    shown.text("num_retries", route.num_retries if route is not None else None)
    source = route.retry_on.source if route is not None and route.retry_on is not None else ""
    return Way(
        reuse=Setting(is_kept, most.source) if most is not None else Setting(value=True, assumed=True, why=_DEFAULT),
        pool_limit_ns=limit,
        connect_timeout_ns=connect,
        read_timeout_ns=waits,
        retry_on=Setting(
            tuple(part.strip() for part in conditions.split(",") if part.strip()),
            source,
            assumed=not source,
            why="" if source else "no retry_policy",
        ),
        rewrites=rewrites,
        settings=shown.all(),
    )


def _stream_way(cluster: Node, idle: Setting[str] | None, notes: list[ConfNote]) -> Way:
    """Return how the filter tcp_proxy hands bytes on: each connection to a server is one client's own."""
    shown = OwnWords(notes)
    limit = shown.time("tcp_proxy idle_timeout", idle, go_limit_ns, assumed_ns(3600 * NS_PER_S, _DEFAULT), "1h")
    return Way(
        reuse=Setting(value=True, assumed=True, why="tcp_proxy hands on what its client sends"),
        pool_limit_ns=limit,
        connect_timeout_ns=_connect_timeout(shown, cluster),
        read_timeout_ns=assumed_ns(-1, "tcp_proxy waits for no answers"),
        retry_on=Setting((), assumed=True, why="tcp_proxy repeats nothing"),
        rewrites=False,
        settings=shown.all(),
    )


def _connect_timeout(shown: OwnWords, cluster: Node) -> Setting[int]:
    five_s = assumed_ns(5 * NS_PER_S, _DEFAULT)
    return shown.time("connect_timeout", written(_get(cluster, "connect_timeout")), go_time_ns, five_s, "5s")
