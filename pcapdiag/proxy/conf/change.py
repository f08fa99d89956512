"""How each proxy writes a change to its settings. Knows no need of a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pcapdiag.base.findings import Change
from pcapdiag.base.units import NS_PER_MS, NS_PER_S
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.conf.values import nginx_time, seconds, version_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcapdiag.proxy.conf.settings import Location, ProxySettings, Setting

CONFIG_MAP = "data of the ConfigMap"
APISIX_ANY = "the upstream object"
APISIX_BLOCK = "apisix_backend"
"""Stands for all upstream objects where none was given."""
Wait = Literal["connect", "send", "read"]


def unique(made: Iterable[Change]) -> tuple[Change, ...]:
    """Return each change once: a setting that several places inherit is changed where it stands."""
    places = {(c.setting, c.file, c.line, c.where if c.is_new else ""): c for c in reversed([*made])}
    return tuple(places.values())[::-1]


def wait_in_words(kind: ProxyKind, place: Location, wait: Wait, old_ns: int, to_ns: int) -> tuple[str, str, str, str]:
    """Return name, place, old and new value of a timeout in a proxy's own words."""
    if kind is ProxyKind.NGINX:
        return f"{place.module}_{wait}_timeout", in_words(place), nginx_time(old_ns), nginx_time(to_ns)
    if kind is ProxyKind.INGRESS_NGINX:
        return f"proxy-{wait}-timeout", CONFIG_MAP, str(old_ns // NS_PER_S), str(-(-to_ns // NS_PER_S))
    if kind is ProxyKind.APISIX:
        where = APISIX_ANY if place.upstream == APISIX_BLOCK else f"upstream object {place.upstream}"
        return f"timeout.{wait}", where, seconds(old_ns), seconds(to_ns)
    name = {"connect": "connect_timeout", "send": "write_timeout", "read": "read_timeout"}[wait]
    return name, "the service object, in ms", str(old_ns // NS_PER_MS), str(to_ns // NS_PER_MS)


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
    file, line = split_source(held.source or block_source)
    return Change(
        proxy=settings.kind.value,
        file=file,
        line=line,
        where=where,
        setting=name,
        old=old,
        new=new,
        old_text="" if held.assumed or not old else _text(settings.kind, name, old),
        text=_text(settings.kind, name, new) if new else "",
        old_is_assumed=held.assumed,
        is_new=held.assumed,
        since=".".join(map(str, since)) if guarded else "",
        is_supported=(None if version == (0, 0, 0) else version >= since) if guarded else True,
        caution=caution,
    )


def split_source(source: str) -> tuple[str, int]:
    """Return file and line of a source ``file:line``; -1 where it names no line."""
    file, _, line = source.rpartition(":")
    return (file, int(line)) if file and line.isdecimal() else (source, -1)


def _text(kind: ProxyKind, name: str, new: str) -> str:
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
