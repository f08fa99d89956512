"""What the configurations of proxies that are not of nginx's kin have in common: servers with settings of their own.

Knows how a setting stands under its name in the proxy's words, read or assumed; none of their syntaxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import format_endpoint
from pcapdiag.proxy.conf.settings import ConfNote, OwnServer, ProxySettings, Setting
from pcapdiag.proxy.conf.values import endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pcapdiag.proxy.conf.settings import ProxyKind
    from pcapdiag.proxy.conf.tree import Node

_MOST_SERVERS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Way:
    """How requests reach the servers of one group: `OwnServer` says what each of these is."""

    reuse: Setting[bool]
    pool_limit_ns: Setting[int]
    connect_timeout_ns: Setting[int]
    read_timeout_ns: Setting[int]
    retry_on: Setting[tuple[str, ...]]
    rewrites: bool
    settings: tuple[tuple[str, Setting[str]], ...]


class OwnWords:
    """What is read of one place, each under its name in the proxy's words, in the order of a report.

    Parameters
    ----------
    notes : list of ConfNote
        Gets what cannot be read.
    """

    def __init__(self, notes: list[ConfNote]) -> None:
        self._settings: dict[str, Setting[str]] = {}
        self._notes = notes

    def time(
        self, name: str, held: Setting[str] | None, read: Callable[[str], int], default: Setting[int], words: str = ""
    ) -> Setting[int]:
        """Return a time [ns] that `read` makes of what is held; else the default, in `words` where it is shown."""
        if held is not None:
            try:
                value = read(held.value)
            except ValueError as error:
                self._notes.append(ConfNote(held.source, f"{name}: {error}"))
            else:
                self._settings[name] = held
                return Setting(value, held.source)
        if words:
            self._settings[name] = Setting(words, assumed=True, why=default.why)
        return default

    def text(self, name: str, held: Setting[str] | None) -> str:
        """Return what is held as written; empty where nothing is."""
        if held is None:
            return ""
        self._settings[name] = held
        return held.value

    def all(self) -> tuple[tuple[str, Setting[str]], ...]:
        """Return name and value of all that was read."""
        return tuple(self._settings.items())


def written(node: Node | None) -> Setting[str] | None:
    """Return what a node of a tree says, with its line; None where it says nothing."""
    return Setting(node.text, node.source) if node is not None and node.text else None


def assumed_ns(value: int, why: str) -> Setting[int]:
    """Return a time [ns] that a proxy has by default; -1 for none."""
    return Setting(value, assumed=True, why=why)


def own_server(block: str, address: str, default_port: int, way: Way, source: str) -> OwnServer:
    """Return a server by its address as written; that of a socket file begins with ``unix:``."""
    point, port = endpoint(address, default_port)
    lacks_port = point is None and port > 0 and not address.endswith(f":{port}")
    named = format_endpoint(*point) if point is not None else f"{address}:{port}" if lacks_port else address
    return OwnServer(
        block=block,
        name=named,
        address=named,
        endpoint=point,
        port=port,
        reuse=way.reuse,
        pool_limit_ns=way.pool_limit_ns,
        connect_timeout_ns=way.connect_timeout_ns,
        read_timeout_ns=way.read_timeout_ns,
        retry_on=way.retry_on,
        rewrites=way.rewrites,
        settings=way.settings,
        source=source,
    )


def own_settings(
    kind: ProxyKind, path: str, servers: Iterable[OwnServer], notes: list[ConfNote], missing: str
) -> ProxySettings:
    """Return the settings of such a proxy, with as many servers as anybody has; `missing` is noted if it has none."""
    own = tuple(islice(servers, _MOST_SERVERS + 1))
    if len(own) > _MOST_SERVERS:
        notes.append(ConfNote(path, f"more than {_MOST_SERVERS:,} servers: the others are left out"))
        own = own[:_MOST_SERVERS]
    if not own:
        notes.append(ConfNote(path, missing))
    workers = Setting("", assumed=True)
    return ProxySettings(kind, "", path, (), (), (), (), (), workers, tuple(notes), own=own)
