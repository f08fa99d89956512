"""Traefik's configuration: services, their servers, and what decides about connections to them, in Traefik's words.

Knows the dynamic configuration of the file provider and the static one (YAML or TOML, v2 and v3), and the objects
IngressRoute and ServersTransport of Kubernetes; each setting keeps its line. Labels of containers and options of the
command line are not read. Linear in the length of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.conf.own import OwnWords, Way, assumed_ns, own_server, own_settings, written
from pcapdiag.proxy.conf.settings import ConfNote, ProxyKind, Setting
from pcapdiag.proxy.conf.values import go_limit_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.proxy.conf.settings import ProxySettings
    from pcapdiag.proxy.conf.tree import Node

_DYNAMIC: Final = ("services", "routers", "middlewares", "serversTransports")
_STATIC: Final = ("entryPoints", "serversTransport")
_KINDS: Final = frozenset({"IngressRoute", "ServersTransport", "Middleware", "TraefikService"})
_URL: Final = re.compile(r"(?P<scheme>https?|h2c|wss?)://(?P<authority>[^/?#\s]{1,300})", re.IGNORECASE)
_PORTS: Final = {"http": 80, "h2c": 80, "ws": 80, "https": 443, "wss": 443}
_DEFAULT: Final = "the default of Traefik"
_MOST_PARTS: Final = 20
_REWRITES: Final = frozenset({"stripPrefix", "stripPrefixRegex", "addPrefix", "replacePath", "replacePathRegex"})


@dataclass(slots=True)
class _TraefikParts:
    """What the documents hold: services with their servers, transports by name, and what holds for all."""

    servers: list[tuple[str, str, int, str, str]] = field(default_factory=list)
    """Service, address, port if none is written, name of the transport, source."""
    transports: dict[str, Node] = field(default_factory=dict)
    general: Node | None = None
    attempts: Setting[str] | None = None
    rewrites: bool = False


def is_traefik(document: Node) -> bool:
    """Whether this is a configuration of Traefik, static or dynamic, or an object of its own in Kubernetes."""
    if any(document.get("http", key) is not None for key in _DYNAMIC):
        return True
    return _is_object(document) or any(document.get(key) is not None for key in _STATIC)


def read_traefik(documents: tuple[Node, ...], path: str, notes: list[ConfNote]) -> ProxySettings:
    """Return the settings of Traefik.

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
        With its servers (`OwnServer`).
    """
    found = _TraefikParts()
    for document in documents:
        _gather(document, found)
    ways = {transport: _way(found, transport, notes) for transport in dict.fromkeys(t for *_, t, _ in found.servers)}
    servers = (
        own_server(service, address, default_port, ways[transport], source)
        for service, address, default_port, transport, source in found.servers
    )
    missing = "no server is in it: the services stand in the dynamic configuration (file provider)"
    return own_settings(ProxyKind.TRAEFIK, path, servers, notes, missing)


def _is_object(document: Node) -> bool:
    kind, api = document.get("kind"), document.get("apiVersion")
    return kind is not None and api is not None and kind.text in _KINDS and "traefik" in api.text


def _gather(document: Node, found: _TraefikParts) -> None:
    found.general = document.get("serversTransport") or found.general
    http = document.get("http")
    if http is not None:
        for name, service in _items(http.get("services")):
            found.servers += _servers(name, service)
        found.transports.update(_items(http.get("serversTransports")))
        for _, middleware in _items(http.get("middlewares")):
            _take_middleware(middleware, found)
    if _is_object(document):
        spec = document.get("spec") or document
        kind = _text(document.get("kind"))
        if kind == "ServersTransport":
            found.transports[_text(document.get("metadata", "name"))] = spec
        elif kind == "Middleware":
            _take_middleware(spec, found)
        else:
            found.servers += _services(spec)


def _items(node: Node | None) -> Iterator[tuple[str, Node]]:
    yield from node.items() if node is not None else ()


def _text(node: Node | None) -> str:
    return node.text if node is not None else ""


def _take_middleware(middleware: Node, found: _TraefikParts) -> None:
    found.attempts = found.attempts or written(middleware.get("retry", "attempts"))
    found.rewrites = found.rewrites or any(key in _REWRITES for key, _ in middleware.items())


def _servers(name: str, service: Node) -> Iterator[tuple[str, str, int, str, str]]:
    """Yield the servers of a service of the file provider, as they stand in `_TraefikParts.servers`."""
    balancer = service.get("loadBalancer")
    transport = _text(balancer.get("serversTransport") if balancer is not None else None).partition("@")[0]
    listed = balancer.get("servers") if balancer is not None else None
    for server in listed.elements() if listed is not None else ():
        match = _URL.match(_text(server.get("url")))
        if match is not None:
            yield name, match["authority"], _PORTS[match["scheme"].lower()], transport, server.source


def _services(spec: Node) -> Iterator[tuple[str, str, int, str, str]]:
    """Yield the services of an IngressRoute, which names them and their ports, and no addresses."""
    for key, node in spec.below():
        name, port = _text(node.get("name")), _text(node.get("port"))
        if key == "services" and name and port:
            number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else -1
            yield name, name, number, _text(node.get("serversTransport")).partition("@")[0], node.source


def _way(found: _TraefikParts, transport: str, notes: list[ConfNote]) -> Way:
    parts = transport.split("-", _MOST_PARTS)
    # A reference may begin with the namespace of what it means.
    named = ("-".join(parts[n:]) for n in range(len(parts)))
    own = next((found.transports[name] for name in named if name in found.transports), None) if transport else None
    # Where a service names a transport of its own, that of the static configuration does not hold.
    node = own if transport else found.general
    times = node.get("forwardingTimeouts") if node is not None else None
    # Its name may tell whose it is, and the report says this sentence as it is.
    is_unknown = bool(transport) and own is None
    why = "the default of Traefik: the serversTransport of this service is not in the file" if is_unknown else _DEFAULT
    shown = OwnWords(notes)
    limit = shown.time(
        "forwardingTimeouts.idleConnTimeout",
        _written(times, "idleConnTimeout"),
        go_limit_ns,
        assumed_ns(90 * NS_PER_S, why),
        "90s",
    )
    most = written(node.get("maxIdleConnsPerHost") if node is not None else None)
    is_kept = not shown.text("maxIdleConnsPerHost", most).startswith("-")
    connect = shown.time(
        "forwardingTimeouts.dialTimeout",
        _written(times, "dialTimeout"),
        go_limit_ns,
        assumed_ns(30 * NS_PER_S, why),
        "30s",
    )
    waits = shown.time(
        "forwardingTimeouts.responseHeaderTimeout",
        _written(times, "responseHeaderTimeout"),
        go_limit_ns,
        assumed_ns(-1, "Traefik has no default"),
        "no limit",
    )
    shown.text("retry attempts", found.attempts)
    reuse = Setting(is_kept, most.source) if most is not None else Setting(value=True, assumed=True, why=_DEFAULT)
    return Way(
        reuse=reuse,
        pool_limit_ns=limit,
        connect_timeout_ns=connect,
        read_timeout_ns=waits,
        retry_on=Setting((), assumed=True, why="no middleware retry")
        if found.attempts is None
        else Setting(("retry",), found.attempts.source),
        rewrites=found.rewrites,
        settings=shown.all(),
    )


def _written(times: Node | None, name: str) -> Setting[str] | None:
    """Return a time as written; seconds, for which a bare number stands, get their unit."""
    held = written(times.get(name)) if times is not None else None
    return Setting(f"{held.value}s", held.source) if held is not None and held.value.isdecimal() else held
