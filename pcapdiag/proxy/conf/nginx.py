"""nginx.conf as settings: upstream blocks, the places that pass requests to them, and logs.

Knows nginx's directives, their inheritance and their defaults. What it does not understand is noted with its place and
left out; reading never stops.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from pcapdiag.proxy.conf import nginx_defaults as defaults
from pcapdiag.proxy.conf.nginx_source import Directive, read_directives
from pcapdiag.proxy.conf.settings import (
    AccessLog,
    ConfNote,
    ErrorLog,
    Location,
    LogFormat,
    ProxyKind,
    ProxySettings,
    Server,
    Setting,
    UpstreamBlock,
)
from pcapdiag.proxy.conf.values import count, endpoint, flag, size_bytes, time_ns, version_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

T = TypeVar("T")
_MODULES = ("proxy", "fastcgi", "uwsgi", "scgi", "grpc")
_METHODS = frozenset({"least_conn", "ip_hash", "hash", "random", "least_time", "sticky", "fair"})
_SERVER_PARAMETERS = frozenset(
    {"backup", "down", "drain", "fail_timeout", "max_conns", "max_fails", "resolve", "route", "service", "slow_start"}
    | {"weight"}
)
_TARGET = re.compile(r"(?:(https?|grpcs?)://)?(unix:[^:]+(?=:|$)|[^/?]+)")
_KNOWN_PATH = re.compile(r"([^$]+)\$(?:request_uri|uri)\b")
"""A target whose variables come after the host: the host is still known."""
_PORTS = {"https": 443, "grpcs": 443}
_GENERATED = {
    "apisix_backend": ProxyKind.APISIX,
    "upstream_balancer": ProxyKind.INGRESS_NGINX,
    "kong_upstream": ProxyKind.KONG,
}
"""Blocks that another proxy writes into the nginx.conf that it makes; their servers are placeholders."""


@dataclass(slots=True)
class _Scope:
    """A block and those around it: a directive that is not in one is inherited from the next outside."""

    block: tuple[Directive, ...]
    outer: _Scope | None = None
    path: str = ""
    server_names: tuple[str, ...] = ()
    listens: tuple[str, ...] = ()
    _named: dict[str, tuple[Directive, ...]] | None = None
    """The directives of the block by name: each of thousands of locations asks for a dozen."""

    def all(self, name: str) -> tuple[Directive, ...]:
        """Return the directives of this name of the innermost block that has any."""
        scope: _Scope | None = self
        while scope is not None:
            if found := scope.own(name):
                return found
            scope = scope.outer
        return ()

    def own(self, name: str) -> tuple[Directive, ...]:
        """Return the directives of this name of this very block."""
        if self._named is None:
            named: dict[str, list[Directive]] = {}
            for directive in self.block:
                if directive.block is None:
                    named.setdefault(directive.name, []).append(directive)
            self._named = {key: tuple(found) for key, found in named.items()}
        return self._named.get(name, ())

    def last(self, name: str) -> Directive | None:
        """Return the one directive of this name; nginx allows no second one."""
        found = self.all(name)
        return found[-1] if found else None


@dataclass(slots=True)
class _NginxReader:
    """One configuration while it is read."""

    version: defaults.Version
    notes: list[ConfNote]
    upstreams: list[UpstreamBlock] = field(default_factory=list)
    locations: list[Location] = field(default_factory=list)
    log_formats: list[LogFormat] = field(default_factory=list)
    access_logs: list[AccessLog] = field(default_factory=list)
    error_logs: list[ErrorLog] = field(default_factory=list)
    maps: dict[str, str] = field(default_factory=dict)
    """Variable -> what its map makes of an empty string."""

    def value(self, directive: Directive | None, read: Callable[[str], T], default: Setting[T]) -> Setting[T]:
        """Return a directive's one argument, or the default."""
        if directive is None:
            return default
        try:
            (text,) = directive.args
            return Setting(read(text), directive.source)
        except ValueError as error:
            reason = f"{len(directive.args)} arguments, wants one" if len(directive.args) != 1 else str(error)
            self.note(directive, reason)
            return default

    def note(self, directive: Directive, text: str) -> None:
        self.notes.append(ConfNote(directive.source, f"{directive.name}: {text}"))

    # Upstream blocks

    def upstream(self, directive: Directive) -> UpstreamBlock:
        """Read one upstream block."""
        block = _Scope(directive.block or ())
        servers = tuple(self.server(d) for d in block.all("server") if d.args)
        method = Setting("round_robin", assumed=True, why="default of nginx")
        for d in directive.block or ():
            if d.name in _METHODS or d.name.startswith("balancer_by_lua"):
                is_of_two = d.name == "random" and list(d.args[:1]) == ["two"]
                method = Setting("random two" if is_of_two else d.name, d.source)
        zone = block.last("zone")
        keepalive = block.last("keepalive")
        size, local = defaults.keepalive(self.version), defaults.keepalive_local(self.version)
        if keepalive is not None:
            size = self.value(Directive("keepalive", keepalive.args[:1], keepalive.source), count, size)
            local = Setting("local" in keepalive.args[1:], keepalive.source)
        return UpstreamBlock(
            name=directive.args[0] if directive.args else "",
            servers=servers,
            method=method,
            zone=Setting(zone.args[0], zone.source) if zone and zone.args else defaults.assumed(""),
            keepalive=size,
            keepalive_local=local,
            keepalive_timeout_ns=self.value(
                block.last("keepalive_timeout"), time_ns, defaults.keepalive_timeout_ns(self.version)
            ),
            keepalive_requests=self.value(
                block.last("keepalive_requests"), count, defaults.keepalive_requests(self.version)
            ),
            keepalive_time_ns=self.value(
                block.last("keepalive_time"), time_ns, defaults.keepalive_time_ns(self.version)
            ),
            source=directive.source,
        )

    def server(self, directive: Directive, default_port: int = 80) -> Server:
        """Read one server of an upstream block."""
        address, *rest = directive.args
        parameters = dict(part.partition("=")[::2] for part in rest)
        where, port = endpoint(address, default_port)
        if odd := " ".join(name for name in parameters if name not in _SERVER_PARAMETERS):
            self.note(directive, f"{odd[:40]} is no parameter of a server; a semicolon may be missing")

        def of(name: str, read: Callable[[str], T], default: Setting[T]) -> Setting[T]:
            if name not in parameters:
                return default
            return self.value(
                Directive(f"server {address} {name}", (parameters[name],), directive.source), read, default
            )

        return Server(
            address=address,
            endpoint=where,
            port=port,
            weight=of("weight", count, defaults.assumed(1)),
            max_conns=of("max_conns", count, defaults.assumed(0)),
            max_fails=of("max_fails", count, defaults.max_fails()),
            fail_timeout_ns=of("fail_timeout", time_ns, defaults.fail_timeout_ns()),
            backup="backup" in parameters,
            down="down" in parameters,
            source=directive.source,
        )

    # Places that pass requests on

    def walk(self, scope: _Scope) -> None:
        """Read everything below one block of http."""
        for directive in scope.block:
            name, inner = directive.name, directive.block
            if name in {"log_format", "access_log", "error_log"}:
                self.log(directive)
            elif inner is None:
                if name.removesuffix("_pass") in _MODULES and name.endswith("_pass"):
                    self.locations.append(self.location(directive, scope))
            elif name == "map":
                self.map(directive)
            elif name == "server":
                names = tuple(a for d in inner if d.name == "server_name" for a in d.args)
                listens = tuple(d.args[0] for d in inner if d.name == "listen" and d.args)
                self.walk(_Scope(inner, scope, server_names=names, listens=listens))
            elif name in {"location", "if", "limit_except"}:
                path = " ".join(directive.args) if name == "location" else scope.path
                self.walk(_Scope(inner, scope, path, scope.server_names, scope.listens))

    def map(self, directive: Directive) -> None:
        """Keep what a map makes of an empty string: that is what decides for a request without an Upgrade field."""
        rows = {d.name: d.args[0] for d in directive.block or () if len(d.args) == 1}
        if len(directive.args) == 2:
            self.maps[directive.args[1]] = rows.get("", rows.get("default", ""))

    def location(self, directive: Directive, scope: _Scope) -> Location:
        """Read one place that passes requests on."""
        module = directive.name.removesuffix("_pass")
        target = directive.args[0] if directive.args else ""

        def of(name: str, read: Callable[[str], T], default: Setting[T]) -> Setting[T]:
            return self.value(scope.last(f"{module}_{name}"), read, default)

        timeout = defaults.timeout_ns()
        buffers = scope.last(f"{module}_buffers")
        conditions = scope.last(f"{module}_next_upstream")
        http_version, connection, reuse = self.protocol(module, scope)
        return Location(
            path=scope.path,
            server_names=scope.server_names,
            listens=scope.listens,
            module=module,
            target=Setting(target, directive.source),
            upstream=self.upstream_of(target, directive),
            http_version=http_version,
            connection=connection,
            reuse=reuse,
            next_upstream=Setting(conditions.args, conditions.source) if conditions else defaults.next_upstream(),
            next_upstream_tries=of("next_upstream_tries", count, defaults.assumed(0)),
            next_upstream_timeout_ns=of("next_upstream_timeout", time_ns, defaults.assumed(0)),
            connect_timeout_ns=of("connect_timeout", time_ns, timeout),
            send_timeout_ns=of("send_timeout", time_ns, timeout),
            read_timeout_ns=of("read_timeout", time_ns, timeout),
            buffering=of("buffering", flag, defaults.assumed(module != "grpc")),
            request_buffering=of("request_buffering", flag, defaults.assumed(module != "grpc")),
            buffer_size_bytes=of("buffer_size", size_bytes, defaults.buffer_size_bytes()),
            buffers=self.buffers(buffers),
            source=directive.source,
        )

    def protocol(self, module: str, scope: _Scope) -> tuple[Setting[str], Setting[str], Setting[bool]]:
        """Return the version of HTTP, the Connection field, and whether a connection may serve a further request."""
        none = defaults.assumed("", f"{module} has none")
        if module == "grpc":
            return defaults.assumed("2", "grpc_pass"), none, defaults.assumed(value=True, why="grpc_pass")
        if module == "fastcgi":
            return none, none, self.value(scope.last("fastcgi_keep_conn"), flag, defaults.assumed(value=False))
        if module != "proxy":
            return none, none, defaults.assumed(value=False, why=f"{module}_pass never keeps a connection")
        version = self.value(scope.last("proxy_http_version"), str, defaults.http_version(self.version))
        connection = defaults.connection(self.version)
        for header in scope.all("proxy_set_header"):
            if len(header.args) == 2 and header.args[0].lower() == "connection":
                value = header.args[1]
                through = self.maps.get(value)
                why = "" if through is None else f"{value}, of a request that asks for no upgrade"
                connection = Setting(value if through is None else through, header.source, why=why)
        closes = "close" in connection.value.lower()
        asks = "keep-alive" in connection.value.lower()
        kept = not closes and (version.value != "1.0" or asks)
        decisive = connection if closes or asks else version
        return version, connection, Setting(kept, decisive.source, decisive.assumed, decisive.why)

    def buffers(self, directive: Directive | None) -> Setting[tuple[int, int]]:
        """Read a number and a size."""
        if directive is None:
            return defaults.buffers()
        if len(directive.args) != 2:
            self.note(directive, f"{len(directive.args)} arguments, wants a number and a size")
            return defaults.buffers()
        try:
            number, size = directive.args
            return Setting((count(number), size_bytes(size)), directive.source)
        except ValueError as error:
            self.note(directive, str(error))
            return defaults.buffers()

    def upstream_of(self, target: str, directive: Directive) -> str:
        """Return the name of the block that a target means; a block is made for an address that has none."""
        scheme, host = _authority(target)
        if not host or "$" in host:
            return ""
        known = next((block.name for block in self.upstreams if block.name.lower() in _names_of(host)), "")
        if known:
            return known
        empty = self.upstream(Directive("upstream", (host,), directive.source, ()))
        server = self.server(Directive("server", (host,), directive.source), _PORTS.get(scheme, 80))
        self.upstreams.append(replace(empty, servers=(server,), implicit=True))
        return host

    # Logs

    def log(self, directive: Directive) -> None:
        """Read a log_format, an access_log or an error_log."""
        args = directive.args
        if not args:
            self.note(directive, "no arguments")
        elif directive.name == "error_log":
            level = Setting(args[1], directive.source) if len(args) > 1 else defaults.assumed("error")
            self.error_logs.append(ErrorLog(args[0], level, directive.source))
        elif directive.name == "access_log":
            if args[0] != "off":
                named = len(args) > 1 and "=" not in args[1]
                self.access_logs.append(AccessLog(args[0], args[1] if named else "combined", directive.source))
        else:
            escape, text = "default", args[1:]
            if text and text[0].startswith("escape="):
                escape, text = text[0].removeprefix("escape="), text[1:]
            self.log_formats.append(LogFormat(args[0], "".join(text), escape, directive.source))


def _authority(target: str) -> tuple[str, str]:
    """Return the scheme and the host with its port; the host is empty where a variable decides it."""
    known = _KNOWN_PATH.fullmatch(target)
    match = _TARGET.match(known[1] if known else target)
    return (match[1] or "", match[2]) if match else ("", "")


def _names_of(host: str) -> tuple[str, ...]:
    """Return the names under which a block may be known to a target: with its port, and without."""
    name, colon, port = host.lower().rpartition(":")
    return (host.lower(), name) if colon and port.isdigit() else (host.lower(),)


def _everything(blocks: Iterable[Directive], name: str) -> tuple[Directive, ...]:
    """Return the directives of a block of this name, at this level."""
    return tuple(d for d in blocks if d.name == name)


def read_nginx(path: Path, text: str, *, version: str = "") -> ProxySettings:
    """Read an nginx configuration.

    Parameters
    ----------
    path : Path
        nginx.conf, a part of one, or what ``nginx -T`` printed.
    text : str
        Its content.
    version : str
        The version of nginx or OpenResty, as its Server field or ``nginx -v`` says it; empty if it is not known.

    Returns
    -------
    ProxySettings
        With defaults of that version where nothing was set.
    """
    top, notes = read_directives(path, text)
    numbers = version_numbers(version)
    reader = _NginxReader(numbers, list(notes))
    # A part of a configuration may begin inside http.
    main = tuple(d for d in top if d.name != "http")
    blocks = [main, *(d.block or () for d in _everything(top, "http"))]
    for block in blocks:
        reader.upstreams += [reader.upstream(d) for d in _everything(block, "upstream") if d.block is not None]
        for directive in _everything(block, "map"):
            reader.map(directive)
    for block in blocks:
        reader.walk(_Scope(block))
    workers = _Scope(main).last("worker_processes")
    ends = _Scope(main).last("worker_shutdown_timeout")
    if not reader.error_logs:
        reader.error_logs.append(ErrorLog("logs/error.log", defaults.assumed("error"), ""))
    kinds = [_GENERATED[block.name] for block in reader.upstreams if block.name in _GENERATED]
    return ProxySettings(
        kind=kinds[0] if kinds else ProxyKind.NGINX,
        version=".".join(map(str, numbers)) if numbers != defaults.UNKNOWN else "",
        path=str(path),
        upstreams=tuple(reader.upstreams),
        locations=tuple(reader.locations),
        log_formats=tuple(reader.log_formats),
        access_logs=tuple(reader.access_logs),
        error_logs=tuple(reader.error_logs),
        worker_processes=reader.value(workers, str, defaults.assumed("1")),
        shutdown_timeout_ns=reader.value(ends, time_ns, defaults.assumed(-1)),
        notes=tuple(reader.notes),
    )
