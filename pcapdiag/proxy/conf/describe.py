"""Settings as rows for a report: name, value in words, where it was read or why it was assumed. Knows no markup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcapdiag.proxy.conf.values import nginx_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.proxy.conf.settings import Location, OwnServer, ProxySettings, Setting, UpstreamBlock

POOL = ("keepalive", "keepalive_timeout")
RETRY = ("_next_upstream", "_next_upstream_tries", "_next_upstream_timeout")
"""Names of settings that several rules rest on; with a leading underscore the end of a name."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting of the proxy in words: read from `source` (``file:line``), or assumed for the reason in `why`.

    `of` is the block or place that it belongs to.
    """

    of: str
    name: str
    value: str
    source: str
    why: str


def describe_block(block: UpstreamBlock) -> Iterator[SettingRow]:
    """Yield what decides about a group of peers and its pool."""
    of = f"upstream {block.name}"
    yield _row(of, "method", block.method, block.method.value)
    yield _row(of, "zone", block.zone, block.zone.value or "none")
    yield _row(of, "keepalive", block.keepalive, str(block.keepalive.value or "none"))
    yield _row(of, "keepalive_timeout", block.keepalive_timeout_ns, _time(block.keepalive_timeout_ns))
    yield _row(of, "keepalive_requests", block.keepalive_requests, _count(block.keepalive_requests))
    yield _row(of, "keepalive_time", block.keepalive_time_ns, _time(block.keepalive_time_ns))
    for server in block.servers:
        peer = f"server {server.address}"
        flags = "".join(f" {flag}" for flag, is_set in (("backup", server.backup), ("down", server.down)) if is_set)
        if flags:
            yield SettingRow(of, peer, flags.strip(), server.source, "")
        yield _row(of, f"{peer} max_fails", server.max_fails, str(server.max_fails.value))
        yield _row(of, f"{peer} fail_timeout", server.fail_timeout_ns, _time(server.fail_timeout_ns))


def describe_own(server: OwnServer) -> Iterator[SettingRow]:
    """Yield what decides about connections to a server of a proxy that is not of nginx's kin, in its own words."""
    of = f"{server.block}/{server.name}" if "/" not in server.name else server.name
    for name, setting in server.settings:
        yield _row(of, name, setting, setting.value)


def describe_location(place: Location) -> Iterator[SettingRow]:
    """Yield what decides about the requests that a place passes on."""
    of = f"location {place.path}" if place.path else "outside of locations"
    prefix = place.module
    yield _row(of, f"{prefix}_pass", place.target, place.target.value)
    if prefix == "proxy":
        yield _row(of, "proxy_http_version", place.http_version, place.http_version.value)
        yield _row(of, "Connection", place.connection, place.connection.value or "none")
    yield _row(of, f"{prefix}_next_upstream", place.next_upstream, " ".join(place.next_upstream.value))
    tries = place.next_upstream_tries
    yield _row(of, f"{prefix}_next_upstream_tries", tries, str(tries.value or "no limit"))
    total = place.next_upstream_timeout_ns
    yield _row(of, f"{prefix}_next_upstream_timeout", total, _time(total) if total.value else "no limit")
    for name, wait in (
        ("connect", place.connect_timeout_ns),
        ("send", place.send_timeout_ns),
        ("read", place.read_timeout_ns),
    ):
        yield _row(of, f"{prefix}_{name}_timeout", wait, _time(wait))
    yield _row(of, f"{prefix}_buffer_size", place.buffer_size_bytes, f"{place.buffer_size_bytes.value // 1024}k")


def describe(settings: ProxySettings) -> tuple[SettingRow, ...]:
    """Return every setting that a diagnosis may rest on.

    Parameters
    ----------
    settings : ProxySettings
        The configuration.

    Returns
    -------
    tuple of SettingRow
        Blocks first, then locations, then logs and workers.
    """
    rows = [row for server in settings.own for row in describe_own(server)]
    rows += [row for block in settings.upstreams for row in describe_block(block)]
    rows += [row for place in settings.locations for row in describe_location(place)]
    return (*rows, *describe_main(settings))


def describe_main(settings: ProxySettings) -> Iterator[SettingRow]:
    """Yield what decides about the logs: the least level that each error log gets, and how many workers write it."""
    if not settings.error_logs:
        return
    for log in settings.error_logs:
        name = f"error_log {log.path}" if len(settings.error_logs) > 1 else "error_log"
        yield _row("main", name, log.level, log.level.value)
    yield _row("main", "worker_processes", settings.worker_processes, settings.worker_processes.value)


def _row(of: str, name: str, setting: Setting[object], value: str) -> SettingRow:
    return SettingRow(of, name, value, setting.source, setting.why)


def _time(setting: Setting[int]) -> str:
    return _limit(setting, nginx_time(setting.value))


def _count(setting: Setting[int]) -> str:
    return _limit(setting, str(setting.value))


def _limit(setting: Setting[int], text: str) -> str:
    if setting.is_contradicted:
        return "not known"
    return "no limit" if setting.value < 0 else text
