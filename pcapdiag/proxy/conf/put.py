"""How a setting of nginx's choice of servers and of its pool is written into the configuration that was given.

`remedy.py` states the need of a finding; here a setting is named, as in `pcapdiag whatif --set`, and put where it is
not so yet. How a proxy writes a change is in `change.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import format_endpoint, parse_duration
from pcapdiag.proxy.conf.change import change_of, in_words, split_source, unique
from pcapdiag.proxy.conf.remedy import keep_in_rotation, lower_pool_timeouts
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.conf.values import nginx_time, version_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pcapdiag.base.findings import Change
    from pcapdiag.proxy.conf.settings import ProxySettings, Server, UpstreamBlock

_NO_POOL_SINCE: Final = (1, 29, 7)
"""Since then a pool is there unless ``keepalive 0`` says otherwise; before, 0 is no valid size."""


def put_setting(settings: ProxySettings, names: Sequence[str], key: str, value: str) -> tuple[Change, ...]:
    """Return how to set one thing for some upstream blocks.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.
    names : sequence of str
        Of the blocks.
    key, value : str
        As in ``pcapdiag whatif --set``; several values of ``backup`` stand behind each other.

    Returns
    -------
    tuple of Change
        Empty where it is set already, is no setting of the proxy, or is not known how this proxy writes it.
    """
    if key == "proxy.keepalive_timeout":
        return lower_pool_timeouts(settings, dict.fromkeys(names, parse_duration(value)))
    put = _PUTS.get(key)
    if put is None or settings.kind is not ProxyKind.NGINX:
        return ()
    blocks = [b for b in settings.upstreams if b.name in names and not b.is_lua and not b.implicit]
    return unique(change for block in blocks for change in put(settings, block, value))


def _keepalive(settings: ProxySettings, block: UpstreamBlock, value: str) -> Iterable[Change]:
    held = block.keepalive
    new = value
    if value == "0" and version_numbers(settings.version) < _NO_POOL_SINCE:
        new = ""
    if held.value == int(value) or (not new and held.assumed):
        return
    where = f"upstream {block.name}"
    yield change_of(settings, "keepalive", where, held, block.source, str(held.value), new)


def _max_fails(settings: ProxySettings, block: UpstreamBlock, value: str) -> Iterable[Change]:
    if value == "0":
        yield from keep_in_rotation(settings, block.name)
        return
    for server in block.servers:
        held = server.max_fails
        if held.value == int(value) or server.down or block.is_single:
            continue
        where = f"server {server.address} in upstream {block.name}"
        made = change_of(settings, "max_fails", where, held, server.source, str(held.value), value)
        yield replace(made, old_text=made.old_text and f"max_fails={made.old}", text=f"max_fails={value}")


def _backup(settings: ProxySettings, block: UpstreamBlock, value: str) -> Iterable[Change]:
    known = [(format_endpoint(*s.endpoint), s) for s in block.servers if s.endpoint is not None]
    already = {endpoint for endpoint, server in known if server.backup}
    by_endpoint = {endpoint: server for endpoint, server in known if endpoint not in already}
    for address in value.split():
        server = by_endpoint.get(address.removeprefix("+"))
        if server is None or not address.startswith("+"):
            continue
        text = f"{server.address}{_parameters(server)} backup"
        where = f"server {server.address} once more in upstream {block.name}"
        made = change_of(settings, "server", where, replace(server.weight, assumed=True), block.source, "", text)
        # Beside the server that it repeats: the block's line, not that of the weight.
        file, line = split_source(block.source)
        yield replace(made, file=file, line=line, old_is_assumed=False)


def _parameters(server: Server) -> str:
    """Return the parameters of a server line that its copy has, too."""
    said = [
        f" {name}={held.value}"
        for name, held in (("weight", server.weight), ("max_fails", server.max_fails), ("max_conns", server.max_conns))
        if not held.assumed
    ]
    if not server.fail_timeout_ns.assumed:
        said.append(f" fail_timeout={nginx_time(server.fail_timeout_ns.value)}")
    return "".join(said)


def _next_upstream(settings: ProxySettings, block: UpstreamBlock, value: str) -> Iterable[Change]:
    new = value.replace(",", " ")
    for place in settings.locations_of([block]):
        held = place.next_upstream
        if set(held.value) == set(new.split()):
            continue
        name = f"{place.module}_next_upstream"
        yield change_of(settings, name, in_words(place), held, place.source, " ".join(held.value), new)


_PUTS: Final[dict[str, Callable[[ProxySettings, UpstreamBlock, str], Iterable[Change]]]] = {
    "proxy.keepalive": _keepalive,
    "max_fails": _max_fails,
    "backup": _backup,
    "next_upstream": _next_upstream,
}
