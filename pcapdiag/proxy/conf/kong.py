"""Kong: kong.conf, or a declarative configuration with services, upstreams and targets, as settings.

Defaults as in kong/templates/kong_defaults.lua and kong/db/schema/entities/services.lua.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_MS, NS_PER_S
from pcapdiag.proxy.conf import balanced
from pcapdiag.proxy.conf import nginx_defaults as defaults
from pcapdiag.proxy.conf.settings import AccessLog, ConfNote, ErrorLog, ProxyKind, ProxySettings, Setting
from pcapdiag.proxy.conf.tree import setting
from pcapdiag.proxy.conf.values import count, endpoint, time_ns

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from pcapdiag.proxy.conf.settings import Location, Server, UpstreamBlock
    from pcapdiag.proxy.conf.tree import Node

    T = TypeVar("T")

_WHY = "default of Kong"
_OLD_SIZE = "default of Kong; 60 in older releases"
_OLD_REQUESTS = "default of Kong; 100 or 1000 in older releases"
_TRIES = 6
"""Five retries."""
_URL = re.compile(r"([a-z]+)://(\[[^]]+\]|[^/:]+)(?::([0-9]+))?")
_PORT = re.compile(r"[0-9]{1,5}")
_LINE = re.compile(r"\s*([a-z0-9_]+)\s*=\s*((?:[^#]|(?<=\\)#)*+)(?:#.*)?")


def kong_lines(text: str) -> dict[str, tuple[str, int]]:
    """Return each key of kong.conf with its value and line; empty if it is none.

    Parameters
    ----------
    text : str
        The content.

    Returns
    -------
    dict
        Key -> value and line number; empty if any line is neither a comment nor of the form ``key = value``.
    """
    found: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            return {}
        found[match[1]] = (match[2].rstrip(), number)
    return found


def read_kong(lines: dict[str, tuple[str, int]], path: str, *, version: str = "") -> ProxySettings:
    """Read kong.conf.

    Parameters
    ----------
    lines : dict
        From `kong_lines`.
    path : str
        The file that was given, as sources name it.
    version : str
        Version of Kong if it is known.

    Returns
    -------
    ProxySettings
        With the one block ``kong_upstream``, whose peers are not known.
    """
    notes: list[ConfNote] = []

    def of(keys: tuple[str, ...], read: Callable[[str], T], default: T, why: str = _WHY) -> Setting[T]:
        for key in keys:
            if key in lines:
                value, number = lines[key]
                try:
                    return Setting(read(value.split()[0] if value else ""), f"{path}:{number}")
                except ValueError as error:
                    notes.append(ConfNote(f"{path}:{number}", f"{key}: {error}"))
        return defaults.assumed(default, why)

    pool = balanced.Pool(
        size=of(("upstream_keepalive_pool_size",), count, 512, _OLD_SIZE),
        timeout_ns=of(("upstream_keepalive_idle_timeout",), lambda text: _no_limit(time_ns(text)), 60 * NS_PER_S),
        requests=of(
            ("upstream_keepalive_max_requests",),
            lambda text: _no_limit(count(text)),
            10_000,
            _OLD_REQUESTS,
        ),
        time_ns=defaults.assumed(-1, "a balancer in Lua closes no connection for its age"),
    )
    passing = balanced.Passing(
        next_upstream_tries=defaults.assumed(_TRIES, "default of Kong: 5 retries; each service has its own"),
    )
    block = balanced.block("kong_upstream", pool, "")
    access_log = of(("proxy_access_log",), str, "logs/access.log")
    named = lines.get("proxy_access_log", ("", 0))[0].split()[1:2]
    error_log = of(("proxy_error_log",), str, "logs/error.log")
    return ProxySettings(
        kind=ProxyKind.KONG,
        version=version,
        path=path,
        upstreams=(block,),
        locations=(balanced.place(block, passing),),
        log_formats=(),
        access_logs=(AccessLog(access_log.value, named[0] if named else "combined", access_log.source),),
        error_logs=(ErrorLog(error_log.value, of(("log_level",), str, "notice"), error_log.source),),
        worker_processes=of(("nginx_main_worker_processes", "nginx_worker_processes"), str, "auto"),
        notes=tuple(notes),
    )


def is_kong(document: Node) -> bool:
    """Whether this is a declarative configuration: it must say its format's version."""
    return document.get("_format_version") is not None


def read_kong_declarative(document: Node, path: str, notes: list[ConfNote], *, version: str = "") -> ProxySettings:
    """Read services, and the targets of upstreams; the pool is set in kong.conf and assumed here.

    Parameters
    ----------
    document : Node
        The parsed file.
    path : str
        The file that was given.
    notes : list of ConfNote
        What could not be read so far.
    version : str
        Version of Kong if it is known.

    Returns
    -------
    ProxySettings
        A block for each upstream and for each service that names its host itself.
    """
    bare = read_kong({}, path, version=version)
    (general,) = bare.upstreams
    pool = balanced.Pool(
        general.keepalive, general.keepalive_timeout_ns, general.keepalive_requests, general.keepalive_time_ns
    )
    blocks: dict[str, UpstreamBlock] = {}
    for node in _elements(document, "upstreams"):
        servers = tuple(_target(target, notes) for target in _elements(node, "targets"))
        method = _text(node, "algorithm") or "round-robin"
        name = _text(node, "name")
        blocks[name] = balanced.block(name, pool, node.source, servers=servers, method=method)
    places: list[Location] = []
    for node in _elements(document, "services"):
        host, port = _host_and_port(node)
        if host not in blocks:
            address = f"[{host}]" if ":" in host and not host.startswith("[") else host
            where, _ = endpoint(address, port)
            peer = balanced.server(f"{address}:{port}", where, port, weight=defaults.assumed(1), source=node.source)
            blocks[host] = balanced.block(host, pool, node.source, servers=(peer,))
        passing = balanced.Passing(
            connect_timeout_ns=_milliseconds(node, "connect_timeout", notes),
            send_timeout_ns=_milliseconds(node, "write_timeout", notes),
            read_timeout_ns=_milliseconds(node, "read_timeout", notes),
            next_upstream_tries=setting(
                node.get("retries"), lambda text: count(text) + 1, defaults.assumed(_TRIES, _WHY), notes
            ),
        )
        places.append(balanced.place(blocks[host], passing, path=_text(node, "path"), source=node.source))
    return replace(
        bare, upstreams=tuple(blocks.values()) or bare.upstreams, locations=tuple(places), notes=tuple(notes)
    )


def _elements(node: Node, key: str) -> tuple[Node, ...]:
    listed = node.get(key)
    return tuple(listed.elements()) if listed else ()


def _text(node: Node, key: str) -> str:
    found = node.get(key)
    return found.text if found else ""


def _target(node: Node, notes: list[ConfNote]) -> Server:
    address = _text(node, "target")
    where, port = endpoint(address, 8000)  # Kong's own default port of a target
    weight = setting(node.get("weight"), count, defaults.assumed(100, _WHY), notes)
    return balanced.server(address, where, port, weight=weight, source=node.source)


def _host_and_port(node: Node) -> tuple[str, int]:
    """Return where a service goes: its host and port, or what its url says in one."""
    url = _URL.match(_text(node, "url"))
    host, port, scheme = _text(node, "host"), _text(node, "port"), _text(node, "protocol")
    if url is not None:
        scheme, host, port = url[1], url[2], url[3] or ""
    default = 443 if scheme in {"https", "grpcs"} else 80
    return host, int(port) if _PORT.fullmatch(port) else default


def _milliseconds(node: Node, key: str, notes: list[ConfNote]) -> Setting[int]:
    return setting(node.get(key), lambda text: count(text) * NS_PER_MS, defaults.assumed(60 * NS_PER_S, _WHY), notes)


def _no_limit(value: int) -> int:
    """Return Kong's 0 as what it means."""
    return value if value > 0 else -1
