"""One change to a configuration as plain data, and how each proxy writes its settings. Knows no need of a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pcapdiag.conf.settings import ProxyKind
from pcapdiag.conf.values import nginx_time, seconds, version_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcapdiag.conf.settings import Location, ProxySettings, Setting

_S = 1_000_000_000
_MS = 1_000_000
CONFIG_MAP = "data of the ConfigMap"
APISIX_ANY = "the upstream object"
APISIX_BLOCK = "apisix_backend"
"""Stands for all upstream objects where none was given."""
Wait = Literal["connect", "send", "read"]


@dataclass(frozen=True, slots=True)
class Change:
    """One setting to change.

    Attributes
    ----------
    proxy : ProxyKind
        Whose language it is in.
    setting : str
        Name of the directive, parameter or key.
    where : str
        The block, object or file that it belongs to, in words.
    source : str
        ``file:line`` of the setting, or of its block where the setting `is_new`; empty if neither is in the file.
    old, new : str
        The values as the proxy writes them; an empty `old`: there is none, an empty `new`: remove it.
    old_is_assumed : bool
        `old` is not written anywhere, it is the default.
    is_new : bool
        The setting is not there yet.
    line : str
        What to write; empty where something is to be removed.
    since : str
        The first version of nginx that knows the setting; empty where every version does that is in use.
    is_supported : bool or None
        Whether this proxy's version knows it; None if the version is not known.
    caution : str
        What else it brings; empty if nothing.
    """

    proxy: ProxyKind
    setting: str
    where: str
    source: str
    old: str
    new: str
    old_is_assumed: bool
    is_new: bool
    line: str
    since: str = ""
    is_supported: bool | None = True
    caution: str = ""


def unique(made: Iterable[Change]) -> tuple[Change, ...]:
    """Return each change once: a setting that several places inherit is changed where it stands."""
    return tuple({(c.setting, c.source, c.where if c.is_new else ""): c for c in reversed([*made])}.values())[::-1]


def wait_in_words(kind: ProxyKind, place: Location, wait: Wait, old_ns: int, to_ns: int) -> tuple[str, str, str, str]:
    """Return name, place, old and new value of a timeout in a proxy's own words."""
    if kind is ProxyKind.NGINX:
        return f"{place.module}_{wait}_timeout", in_words(place), nginx_time(old_ns), nginx_time(to_ns)
    if kind is ProxyKind.INGRESS_NGINX:
        return f"proxy-{wait}-timeout", CONFIG_MAP, str(old_ns // _S), str(-(-to_ns // _S))
    if kind is ProxyKind.APISIX:
        where = APISIX_ANY if place.upstream == APISIX_BLOCK else f"upstream object {place.upstream}"
        return f"timeout.{wait}", where, seconds(old_ns), seconds(to_ns)
    name = {"connect": "connect_timeout", "send": "write_timeout", "read": "read_timeout"}[wait]
    return name, "the service object, in ms", str(old_ns // _MS), str(to_ns // _MS)


def change_of(
    settings: ProxySettings,
    name: str,
    where: str,
    held: Setting[object],
    block_source: str,
    old: str,
    new: str,
    since: tuple[int, int, int] = (0, 0, 0),
    *,
    caution: str = "",
) -> Change:
    """Return a change of a value that is held; a new line in its block where it was assumed."""
    version = version_numbers(settings.version)
    guarded = settings.kind is ProxyKind.NGINX and since != (0, 0, 0)
    return Change(
        proxy=settings.kind,
        setting=name,
        where=where,
        source=held.source or block_source,
        old=old,
        new=new,
        old_is_assumed=held.assumed,
        is_new=held.assumed,
        line=_line(settings.kind, name, new),
        since=".".join(map(str, since)) if guarded else "",
        is_supported=(None if version == (0, 0, 0) else version >= since) if guarded else True,
        caution=caution,
    )


def _line(kind: ProxyKind, name: str, new: str) -> str:
    """Return how a proxy writes a setting."""
    if kind is ProxyKind.NGINX:
        return f"{name} {new};"
    if kind is ProxyKind.INGRESS_NGINX:
        return f'{name}: "{new}"'
    if kind is ProxyKind.KONG:
        return f"{name} = {new}"
    outer, dot, inner = name.partition(".")
    return f'"{outer}": {{"{inner}": {new}}}' if dot else f"{name}: {new}"


def in_words(place: Location) -> str:
    """Return which block a place is, as an operator looks for it."""
    block = f"location {place.path}" if place.path else "the block"
    return f"{block} of server {place.server_names[0]}" if place.server_names else block
