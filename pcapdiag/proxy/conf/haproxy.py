"""HAProxy's configuration: backends, their servers, and what decides about connections to them, in HAProxy's words.

Knows the format and the defaults of its configuration manual (2.0 to 3.x); each setting keeps its line. Conditions,
variables and includes are not worked out. Linear in the length of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from pcapdiag.base.units import NS_PER_MS, NS_PER_S, format_endpoint
from pcapdiag.proxy.conf.own import own_settings
from pcapdiag.proxy.conf.settings import OwnServer, ProxyKind, ProxySettings, Setting
from pcapdiag.proxy.conf.values import endpoint, unit_time_ns

_PROXIES: Final = frozenset({"defaults", "frontend", "backend", "listen"})
_SECTIONS: Final = _PROXIES | {
    *("global", "peers", "resolvers", "userlist", "mailers", "program", "http-errors", "ring", "log-forward", "cache"),
    *("fcgi-app", "crt-store", "crt-list", "traces", "acme", "log-profile", "ssl-f-use"),
}
_WITH_SERVERS: Final = frozenset({"backend", "listen"})
_UNIT_NS: Final = {
    "": NS_PER_MS,
    "us": 1000,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
}
_REWRITES: Final = re.compile(
    r"http-request\s+(?:set-(?:path|pathq|uri|query|method)|replace-(?:path|pathq|uri))\b|reqi?rep\s"
)
_KEPT: Final = (
    *("mode", "http-reuse", "retries", "retry-on", "timeout server", "timeout connect", "timeout http-keep-alive"),
    *("option redispatch", "option srvtcpka", "option httpclose", "option http-server-close"),
)
"""What is kept of a section, beside its servers; a later line takes the place of an earlier one."""
_DEFAULTS: Final = {
    "mode": ("tcp", "the default of HAProxy"),
    "http-reuse": ("safe", "the default of HAProxy since 2.0"),
    "retries": ("3", "the default of HAProxy"),
    "retry-on": ("conn-failure", "the default of HAProxy"),
    "timeout server": ("no limit", "HAProxy has no default"),
    "timeout connect": ("no limit", "HAProxy has no default"),
    "pool-purge-delay": ("5s", "the default of HAProxy"),
    "pool-max-conn": ("-1", "the default of HAProxy: no limit"),
}
_OF_SERVER: Final = frozenset({"pool-purge-delay", "pool-max-conn", "max-reuse"})
_NO_ARGUMENT: Final = frozenset(
    {"option redispatch", "option srvtcpka", "option httpclose", "option http-server-close"}
)


@dataclass(slots=True)
class _Section:
    """One section: its settings and servers with the lines that they were read from."""

    kind: str
    name: str
    settings: dict[str, Setting[str]] = field(default_factory=dict)
    of_servers: dict[str, Setting[str]] = field(default_factory=dict)
    servers: list[tuple[str, str, dict[str, Setting[str]], str]] = field(default_factory=list)


def read_haproxy(text: str, path: str) -> ProxySettings:
    """Return the settings of HAProxy.

    Parameters
    ----------
    text : str
        The file.
    path : str
        Its name, for the sources of settings.

    Returns
    -------
    ProxySettings
        With its servers (`OwnServer`), and no blocks.
    """
    sections, rewrites = _sections(text, path)
    servers = (
        _server(section, *server, rewrites=rewrites)
        for section in sections
        if section.kind in _WITH_SERVERS
        for server in section.servers
    )
    return own_settings(ProxyKind.HAPROXY, path, servers, [], "a configuration of HAProxy without any server line")


def _sections(text: str, path: str) -> tuple[list[_Section], bool]:
    """Return the sections with what they inherit, and whether any line gives requests another target."""
    sections: list[_Section] = []
    named: dict[str, _Section] = {}
    latest = current = _Section("", "")
    rewrites = False
    for number, line in enumerate(text.split("\n"), 1):
        words = _words(line)
        if not words:
            continue
        if words[0] in _SECTIONS and not line[:1].isspace():
            name = words[1] if len(words) > 1 else ""
            # `from` names the defaults that a section takes; without it the latest count.
            above = named.get(words[3], latest) if words[2:3] == ["from"] and len(words) > 3 else latest
            is_proxy = words[0] in _PROXIES
            is_first = words[0] == "defaults" and words[2:3] != ["from"]
            current = _Section(words[0], name)
            if is_proxy and not is_first:
                current.settings.update(above.settings)
                current.of_servers.update(above.of_servers)
            if words[0] == "defaults":
                latest = named[name] = current
            sections.append(current)
            continue
        if current.kind in _PROXIES:
            rewrites = rewrites or _REWRITES.match(line.lstrip()) is not None
            _take(current, words, f"{path}:{number}")
    return sections, rewrites


def _words(line: str) -> list[str]:
    """Return the words of a line before its comment; a number sign within a word begins none."""
    words = []
    for word in line.split():
        if word.startswith("#"):
            break
        words.append(word.strip("\"'"))
    return words


def _take(section: _Section, words: list[str], source: str) -> None:
    is_off = words[0] == "no" and len(words) > 1
    words = words[1:] if is_off else words
    if words[0] == "server" and len(words) > 2:
        section.servers.append((words[1], words[2], _parameters(words[3:], source), source))
        return
    if words[0] == "default-server":
        section.of_servers.update(_parameters(words[1:], source))
        return
    name = " ".join(words[:2]) if words[0] in {"timeout", "option"} else words[0]
    if name in _NO_ARGUMENT:
        section.settings[name] = Setting("off" if is_off else "on", source)
    elif name in _KEPT:
        values = words[2:] if words[0] == "timeout" else words[1:]
        section.settings[name] = Setting(" ".join(values), source)


def _parameters(words: list[str], source: str) -> dict[str, Setting[str]]:
    pairs = pairwise(words)
    return {name: Setting(value, source) for name, value in pairs if name in _OF_SERVER}


def _server(
    section: _Section, name: str, written: str, own: dict[str, Setting[str]], source: str, *, rewrites: bool
) -> OwnServer:
    held = {**{key: Setting(*(value, "", True, why)) for key, (value, why) in _DEFAULTS.items()}}
    held |= section.settings | section.of_servers | own
    address = _address(written)
    point, port = endpoint(address, -1)
    is_tcp = held["mode"].value == "tcp"
    is_kept = held["http-reuse"].value != "never" and held["pool-purge-delay"].value not in {"0", "0s", "0ms"}
    is_closed = any(held[key].value == "on" for key in ("option httpclose", "option http-server-close") if key in held)
    reuse = held["mode"] if is_tcp else held["http-reuse"]
    if is_tcp:
        held = {key: value for key, value in held.items() if key not in _OF_HTTP}
    return OwnServer(
        block=section.name,
        name=name,
        address=format_endpoint(*point) if point is not None else address,
        endpoint=point,
        port=port,
        reuse=Setting(is_tcp or (is_kept and not is_closed), reuse.source, reuse.assumed, reuse.why),
        # Purging thins idle connections out: none is too old to be used again. In TCP mode each is one client's own,
        # and may be used as long as that goes on with it.
        pool_limit_ns=_timeout(held["timeout server"]) if is_tcp else _NO_LIMIT,
        connect_timeout_ns=_timeout(held["timeout connect"]),
        read_timeout_ns=_timeout(held["timeout server"]),
        # In TCP mode only connecting is tried again, as `retries` has it.
        retry_on=_retry_on({"retry-on": Setting("conn-failure", assumed=True, why="in TCP mode"), **held}),
        rewrites=rewrites,
        settings=tuple((key, _with_unit(key, held[key])) for key in _SHOWN if key in held),
        source=source,
    )


_NO_LIMIT: Final = Setting(-1, "", assumed=True, why="HAProxy has no age after which it never uses a connection")
_OF_HTTP: Final = frozenset(
    {
        *("http-reuse", "pool-purge-delay", "pool-max-conn", "max-reuse", "retry-on"),
        *("option httpclose", "option http-server-close", "timeout http-keep-alive"),
    }
)
"""What HAProxy passes over where it hands on bytes (``mode tcp``)."""
_SHOWN: Final = (
    *("mode", "http-reuse", "pool-purge-delay", "pool-max-conn", "max-reuse", "timeout server", "timeout connect"),
    *("retries", "retry-on", "option redispatch", "option httpclose", "option http-server-close", "option srvtcpka"),
    "timeout http-keep-alive",
)
"""In the order of a report."""


def _address(written: str) -> str:
    """Return an address as logs and packets have it: without HAProxy's prefix for its family."""
    family, at, rest = written.partition("@")
    if at and family in {"ipv4", "ipv6", "tcp", "tcp4", "tcp6", "quic4", "quic6"}:
        return rest
    if written.startswith("/") or (at and family in {"unix", "uxst", "abns"}):
        return f"unix:{rest if at else written}"
    return written


def _timeout(held: Setting[str]) -> Setting[int]:
    return Setting(time_ns(held.value), held.source, held.assumed, held.why)


def _with_unit(key: str, held: Setting[str]) -> Setting[str]:
    """Return a time with its unit: without one it counts milliseconds, which a reader takes for seconds."""
    is_bare = held.value.isdecimal() and (key.startswith("timeout ") or key == "pool-purge-delay")
    return Setting(f"{held.value}ms", held.source, held.assumed, held.why) if is_bare else held


def _retry_on(held: dict[str, Setting[str]]) -> Setting[tuple[str, ...]]:
    setting = held["retries"] if held["retries"].value == "0" else held["retry-on"]
    conditions = () if setting.value in {"0", "none"} else tuple(setting.value.split())
    return Setting(conditions, setting.source, setting.assumed, setting.why)


def time_ns(text: str) -> int:
    """Return a time [ns] as HAProxy writes it: ``75s``, ``500`` for milliseconds; -1 for none.

    Parameters
    ----------
    text : str
        As written.

    Returns
    -------
    int
        [ns] The time.
    """
    return unit_time_ns(text, _UNIT_NS)
