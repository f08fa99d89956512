"""Apache httpd's configuration: the upstreams of mod_proxy, and what decides about connections to them.

Knows ProxyPass, BalancerMember, ProxySet and the directives around them as mod_proxy's manual (2.4) has them; each
setting keeps its line. Conditions, macros, rewriting rules and included files are not worked out. Linear in the length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import NS_PER_MS, NS_PER_S, format_endpoint
from pcapdiag.proxy.conf.own import own_settings
from pcapdiag.proxy.conf.settings import ConfNote, OwnServer, ProxyKind, ProxySettings, Setting
from pcapdiag.proxy.conf.values import endpoint, unit_time_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_URL: Final = re.compile(
    r"(?P<scheme>[a-z]{1,12})://(?P<authority>[^/|\s]{1,300})(?P<path>[^|\s]{0,2000})", re.IGNORECASE
)
_PORTS: Final = {"http": 80, "ws": 80, "h2c": 80, "https": 443, "wss": 443, "h2": 443, "ajp": 8009, "fcgi": 8000}
_NOT_KEPT: Final = frozenset({"fcgi", "scgi", "uwsgi"})
"""Protocols whose connections mod_proxy keeps only where `enablereuse` says so."""
_UNIT_NS: Final = {
    "": NS_PER_S,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "mi": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
}
_SHOWN: Final = (
    *(
        "ttl",
        "disablereuse",
        "enablereuse",
        "keepalive",
        "smax",
        "max",
        "retry",
        "timeout",
        "connectiontimeout",
        "ping",
    ),
)
"""Parameters of a line that decide about connections, in the order of a report."""
_ENVIRONMENT: Final = ("proxy-nokeepalive", "proxy-initial-not-pooled")
_WHERE: Final = frozenset({"location", "locationmatch", "proxy", "proxymatch"})


@dataclass(slots=True)
class _Place:
    """A line that names an upstream: where it stands, its URL and its parameters."""

    block: str
    url: str
    source: str
    parameters: dict[str, Setting[str]]


@dataclass(slots=True)
class _Read:
    """What was gathered line by line; settings of balancers are under the balancer's URL."""

    places: list[_Place] = field(default_factory=list)
    of_block: dict[str, dict[str, Setting[str]]] = field(default_factory=dict)
    main: dict[str, Setting[str]] = field(default_factory=dict)
    notes: list[ConfNote] = field(default_factory=list)


def read_httpd(text: str, path: str) -> ProxySettings:
    """Return the settings of Apache httpd as a proxy.

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
    read = _Read()
    inside: list[str] = []
    for words, source in _lines(text, path):
        _take(read, inside, words, source)
    members = [place for place in read.places if not place.url.lower().startswith("balancer:")]
    servers = (server for place in members if (server := _server(read, place)) is not None)
    missing = "a configuration of Apache httpd without an upstream that could be read"
    return own_settings(ProxyKind.APACHE, path, servers, read.notes, missing)


def _lines(text: str, path: str) -> Iterator[tuple[list[str], str]]:
    """Yield the words of each directive and where it begins; a backslash at its end takes the next line in."""
    parts: list[str] = []
    begun = 0
    for number, line in enumerate(text.split("\n"), 1):
        begun = begun or number
        if line.endswith("\\"):
            parts.append(line[:-1])
            continue
        words = [word.strip("\"'") for word in " ".join((*parts, line)).split()]
        if words and not words[0].startswith("#"):
            yield words, f"{path}:{begun}"
        parts.clear()
        begun = 0


def _take(read: _Read, inside: list[str], words: Sequence[str], source: str) -> None:
    name = words[0].lower()
    if name.startswith("</"):
        if name[2:].rstrip(">") in _WHERE and inside:
            inside.pop()
    elif name.startswith("<"):
        if name[1:] in _WHERE:
            inside.append(" ".join(words[1:]).rstrip(">").strip("\"' "))
    elif name in {"proxypass", "proxypassmatch", "balancermember"}:
        _take_url(read, inside, name, words[1:], source)
    elif name == "proxyset":
        url = next((word for word in words[1:] if "://" in word and "=" not in word), inside[-1] if inside else "")
        read.of_block.setdefault(_key(url), {}).update(_parameters(words[1:], source))
    elif name in {"proxytimeout", "timeout"} and len(words) > 1:
        read.main[name] = Setting(words[1], source)
    elif name in {"setenv", "setenvif", "setenvifnocase", "browsermatch"}:
        for variable in _ENVIRONMENT:
            if any(word.partition("=")[0] == variable for word in words[1:]):
                read.main[variable] = Setting("1" if name == "setenv" else "where a condition holds", source)
    elif name in {"include", "includeoptional"}:
        read.notes.append(ConfNote(source, f"{words[0]} was not followed: give the file that names the upstreams"))


def _take_url(read: _Read, inside: Sequence[str], name: str, words: Sequence[str], source: str) -> None:
    at = next((n for n, word in enumerate(words) if _URL.match(word.rpartition("|")[2])), -1)
    if at < 0:
        return
    path = words[0] if at > 0 else (inside[-1] if inside else "")
    block = inside[-1] if name == "balancermember" and inside else path
    read.places.append(_Place(block, words[at], source, _parameters(words[at + 1 :], source)))


def _parameters(words: Sequence[str], source: str) -> dict[str, Setting[str]]:
    pairs = (word.partition("=") for word in words)
    return {
        key.lower(): Setting(value.strip("\"'"), source) for key, equals, value in pairs if equals and "/" not in key
    }


def _key(url: str) -> str:
    return url.rstrip("/").lower()


def _server(read: _Read, place: _Place) -> OwnServer | None:
    match = _URL.match(place.url.rpartition("|")[2])
    if match is None:
        return None
    held = {**read.of_block.get(_key(place.block), {}), **read.of_block.get(_key(place.url), {}), **place.parameters}
    scheme = match["scheme"].lower()
    is_socket = place.url.startswith("unix:")
    point, port = (None, -1) if is_socket else endpoint(match["authority"], _PORTS.get(scheme, -1))
    address = (
        "unix:" if is_socket else match["authority"] if ":" in match["authority"] else f"{match['authority']}:{port}"
    )
    waits = held.get("timeout") or read.main.get("proxytimeout") or read.main.get("timeout")
    waits = waits or Setting("60", "", assumed=True, why="the default of Timeout")
    shown: list[tuple[str, Setting[str]]] = [(name, held[name]) for name in _SHOWN if name in held]
    shown += [("ttl", Setting("none", "", assumed=True, why="the default of mod_proxy"))] if "ttl" not in held else []
    shown += [("timeout", waits)] if "timeout" not in held else []
    shown += [(f"SetEnv {name}", read.main[name]) for name in _ENVIRONMENT if name in read.main]
    connect = held.get("connectiontimeout", waits)
    return OwnServer(
        block=place.block,
        name=place.url,
        address=format_endpoint(*point) if point is not None else address,
        endpoint=point,
        port=port,
        reuse=_reuse(read, held, scheme),
        pool_limit_ns=_limit(held),
        connect_timeout_ns=Setting(time_ns(connect.value), connect.source, connect.assumed, connect.why),
        read_timeout_ns=Setting(time_ns(waits.value), waits.source, waits.assumed, waits.why),
        retry_on=Setting((), "", assumed=True, why="mod_proxy repeats no request that was sent"),
        rewrites=True,
        settings=tuple(shown),
        source=place.source,
    )


def _reuse(read: _Read, held: dict[str, Setting[str]], scheme: str) -> Setting[bool]:
    for name, kept in (("disablereuse", "off"), ("enablereuse", "on")):
        if name in held:
            return Setting(held[name].value.lower() == kept, held[name].source)
    not_kept = read.main.get("proxy-nokeepalive")
    if not_kept is not None and not_kept.value == "1":
        return Setting(value=False, source=not_kept.source)
    return Setting(scheme not in _NOT_KEPT, "", assumed=True, why="the default of mod_proxy")


def _limit(held: dict[str, Setting[str]]) -> Setting[int]:
    ttl = held.get("ttl")
    if ttl is None:
        return Setting(-1, "", assumed=True, why="without ttl mod_proxy has no limit")
    return Setting(time_ns(ttl.value), ttl.source)


def time_ns(text: str) -> int:
    """Return a time [ns] as httpd writes it: ``5`` for seconds, ``500ms``, ``2mi``; -1 for none.

    Parameters
    ----------
    text : str
        As written.

    Returns
    -------
    int
        [ns] The time.
    """
    return unit_time_ns(text.lower(), _UNIT_NS)
