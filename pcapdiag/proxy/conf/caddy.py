"""Caddy's configuration: what its reverse_proxy passes requests to, and how it keeps connections, in Caddy's words.

Knows the Caddyfile and Caddy's JSON (v2); each setting keeps its line. Matchers, placeholders and imported files are
not worked out. Linear in the length of the file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.conf.caddyfile import every, read_caddyfile
from pcapdiag.proxy.conf.own import OwnWords, Way, assumed_ns, own_server, own_settings, written
from pcapdiag.proxy.conf.settings import ConfNote, ProxyKind, Setting
from pcapdiag.proxy.conf.values import go_time_ns, nginx_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.proxy.conf.caddyfile import CaddyLine
    from pcapdiag.proxy.conf.settings import OwnServer, ProxySettings
    from pcapdiag.proxy.conf.tree import Node

_MISSING: Final = "a configuration of Caddy without an upstream that could be read"
_DEFAULT: Final = "the default of Caddy"
_SCHEME: Final = re.compile(r"(https?|h2c|fastcgi)://", re.IGNORECASE)
_PORTS: Final = {"http": 80, "h2c": 80, "https": 443}
_RANGE: Final = re.compile(r"(.{1,300}):(\d{1,5})-(\d{1,5})")
_MOST_OF_RANGE: Final = 1000
_REWRITES: Final = frozenset({"rewrite", "uri", "handle_path", "method"})
_KEPT: Final = ("lb_retries", "lb_try_duration")
_TIMES: Final = frozenset({"lb_try_duration", "keepalive", "dial_timeout", "response_header_timeout", "read_timeout"})
_OF_TRANSPORT: Final = frozenset(
    {
        *("keepalive", "keepalive_idle_conns", "keepalive_idle_conns_per_host", "dial_timeout"),
        *("response_header_timeout", "read_timeout"),
    }
)
_IN_JSON: Final = {
    "lb_retries": ("load_balancing", "retries"),
    "lb_try_duration": ("load_balancing", "try_duration"),
    "keepalive": ("transport", "keep_alive", "idle_timeout"),
    "keepalive_idle_conns": ("transport", "keep_alive", "max_idle_conns"),
    "keepalive_idle_conns_per_host": ("transport", "keep_alive", "max_idle_conns_per_host"),
    "dial_timeout": ("transport", "dial_timeout"),
    "response_header_timeout": ("transport", "response_header_timeout"),
    "read_timeout": ("transport", "read_timeout"),
}
"""Where JSON has what the Caddyfile has under one name."""


def is_caddy(document: Node) -> bool:
    """Whether this is Caddy's JSON."""
    return document.get("apps", "http") is not None


def read_caddy(text: str, path: str) -> ProxySettings:
    """Return the settings of a Caddyfile.

    Parameters
    ----------
    text : str
        The file.
    path : str
        Its name, for the sources of settings.

    Returns
    -------
    ProxySettings
        With its servers (`OwnServer`).
    """
    notes: list[ConfNote] = []
    lines = list(every(read_caddyfile(text, path)))
    # Within a named matcher, as `method` may stand there, nothing is rewritten.
    rewrites = any(d.name in _REWRITES and not any(o.name.startswith("@") for o in around) for around, d in lines)
    not_followed = "import of a file was not followed: give the file with upstreams"
    notes += (ConfNote(directive.source, not_followed) for _, directive in lines if directive.name == "import")
    servers = (
        server
        for around, directive in lines
        if directive.name in {"reverse_proxy", "php_fastcgi"}
        for server in _of_directive(around, directive, notes, rewrites=rewrites)
    )
    return own_settings(ProxyKind.CADDY, path, servers, notes, _MISSING)


def read_caddy_json(documents: tuple[Node, ...], path: str, notes: list[ConfNote]) -> ProxySettings:
    """Return the settings of Caddy's JSON, as ``caddy adapt`` and the endpoint ``/config/`` print it.

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
    handlers = [node for document in documents for _, node in document.below() if node.get("handler") is not None]
    rewrites = any(_text(node, "handler") == "rewrite" or node.get("rewrite") is not None for node in handlers)
    servers = (server for node in handlers for server in _of_handler(node, notes, rewrites=rewrites))
    return own_settings(ProxyKind.CADDY, path, servers, notes, _MISSING)


def _of_handler(node: Node, notes: list[ConfNote], *, rewrites: bool) -> Iterator[OwnServer]:
    if _text(node, "handler") != "reverse_proxy":
        return
    held = {name: found for name, keys in _IN_JSON.items() if (found := written(node.get(*keys))) is not None}
    held |= {name: _with_unit(found) for name, found in held.items() if name in _TIMES}
    enabled = written(node.get("transport", "keep_alive", "enabled"))
    if enabled is not None and enabled.value == "false":
        held["keepalive"] = Setting("off", enabled.source)
    protocol = _text(node, "transport", "protocol")
    way = _way(held, notes, protocol=protocol, rewrites=rewrites)
    listed = node.get("upstreams")
    for upstream in listed.elements() if listed is not None else ():
        yield from _servers(protocol or "reverse_proxy", _text(upstream, "dial"), way, upstream.source, notes)


def _with_unit(held: Setting[str]) -> Setting[str]:
    """Return a time with its unit: a bare number counts nanoseconds in JSON."""
    is_bare = held.value.isascii() and held.value.isdecimal() and len(held.value) < 20
    return Setting(nginx_time(int(held.value)), held.source) if is_bare else held


def _text(node: Node, *path: str) -> str:
    found = node.get(*path)
    return found.text if found is not None else ""


def _of_directive(
    around: Sequence[CaddyLine], directive: CaddyLine, notes: list[ConfNote], *, rewrites: bool
) -> Iterator[OwnServer]:
    words = directive.words[1:]
    matcher = words[0] if words and (words[0].startswith(("/", "@")) or words[0] == "*") else ""
    addresses = [(word, directive.source) for word in (words[1:] if matcher else words)]
    held: dict[str, Setting[str]] = {}
    is_fastcgi = directive.name == "php_fastcgi"
    protocol = "fastcgi" if is_fastcgi else ""
    for inner in directive.inner:
        name, values = inner.name, inner.words[1:]
        if name == "to":
            addresses += ((word, inner.source) for word in values)
        elif name in _KEPT and values:
            held[name] = Setting(values[0], inner.source)
        elif name == "dynamic":
            notes.append(ConfNote(inner.source, "dynamic upstreams are found while Caddy runs: none is in the file"))
        elif name == "transport" and values:
            protocol = values[0]
            for line in inner.inner:
                if line.name in _OF_TRANSPORT and len(line.words) > 1:
                    held[line.name] = Setting(line.words[1], line.source)
        elif is_fastcgi and name in _OF_TRANSPORT and values:
            held[name] = Setting(values[0], inner.source)
    way = _way(held, notes, protocol=protocol, rewrites=rewrites)
    named = [word for n, d in enumerate(around) for word in (d.words[1:2] if n else d.words[:1])]
    places = [_SCHEME.sub("", word).rstrip(",") for word in named]
    block = " ".join([*places, matcher]).strip()
    for address, source in addresses:
        yield from _servers(block or "reverse_proxy", address, way, source, notes)


def _servers(block: str, address: str, way: Way, source: str, notes: list[ConfNote]) -> Iterator[OwnServer]:
    scheme = _SCHEME.match(address)
    rest = address[scheme.end() :] if scheme is not None else address
    default_port = _PORTS.get(scheme[1].lower(), -1) if scheme is not None else 80
    if "{" in rest or not rest:
        notes.append(ConfNote(source, f"{address[:60]!r} is known only while Caddy runs"))
        return
    if rest.startswith("unix/"):
        yield own_server(block, f"unix:{rest.removeprefix('unix/')}", -1, way, source)
        return
    if rest.startswith(":"):
        rest = f"localhost{rest}"
    spread = _RANGE.fullmatch(rest)
    if spread is None:
        yield own_server(block, rest.rstrip("/"), default_port, way, source)
        return
    ports = range(int(spread[2]), min(int(spread[3]), 0xFFFF) + 1)
    for port in ports[:_MOST_OF_RANGE]:
        yield own_server(block, f"{spread[1]}:{port}", port, way, source)


def _way(held: dict[str, Setting[str]], notes: list[ConfNote], *, protocol: str, rewrites: bool) -> Way:
    shown = OwnWords(notes)
    switch = held.get("keepalive")
    if protocol == "fastcgi":
        reuse = Setting(value=False, assumed=True, why="Caddy opens a FastCGI connection for each request")
        limit = assumed_ns(0, reuse.why)
    elif switch is not None and switch.value == "off":
        reuse = Setting(value=False, source=switch.source)
        limit = Setting(0, switch.source)
        shown.text("keepalive", switch)
    else:
        reuse = Setting(value=True, assumed=True, why=_DEFAULT)
        limit = shown.time("keepalive", switch, go_time_ns, assumed_ns(120 * NS_PER_S, _DEFAULT), "2m")
        for name in ("keepalive_idle_conns", "keepalive_idle_conns_per_host"):
            shown.text(name, held.get(name))
    three_s = assumed_ns(3 * NS_PER_S, _DEFAULT)
    connect = shown.time("dial_timeout", held.get("dial_timeout"), go_time_ns, three_s, "3s")
    none = assumed_ns(-1, "Caddy has no default")
    answers = shown.time("response_header_timeout", held.get("response_header_timeout"), go_time_ns, none, "no limit")
    reads = shown.time("read_timeout", held.get("read_timeout"), go_time_ns, none)
    known = [wait for wait in (answers, reads) if wait.value > 0]
    tries = tuple(name for name in _KEPT if shown.text(name, held.get(name)))
    return Way(
        reuse=reuse,
        pool_limit_ns=limit,
        connect_timeout_ns=connect,
        read_timeout_ns=min(known, key=lambda wait: wait.value) if known else none,
        retry_on=Setting(tries, held[tries[0]].source) if tries else Setting((), assumed=True, why=_DEFAULT),
        rewrites=rewrites,
        settings=shown.all(),
    )
