"""Kong: kong.conf as settings. Defaults as in kong/templates/kong_defaults.lua; services are in its database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pcapdiag.conf import balanced
from pcapdiag.conf import nginx_defaults as defaults
from pcapdiag.conf.settings import AccessLog, ConfNote, ErrorLog, ProxyKind, ProxySettings, Setting
from pcapdiag.conf.values import count, time_ns

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

_S = 1_000_000_000
_WHY = "default of Kong"
_LINE = re.compile(r"\s*([a-z0-9_]+)\s*=\s*(.*?)\s*(?:(?<!\\)#.*)?")


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
        found[match[1]] = (match[2], number)
    return found


def read_kong(lines: dict[str, tuple[str, int]], path: str, file: str, *, version: str = "") -> ProxySettings:
    """Read kong.conf.

    Parameters
    ----------
    lines : dict
        From `kong_lines`.
    path : str
        The file that was given.
    file : str
        How sources name it.
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
                    return Setting(read(value.split()[0] if value else ""), f"{file}:{number}")
                except ValueError as error:
                    notes.append(ConfNote(f"{file}:{number}", f"{key}: {error}"))
        return defaults.assumed(default, why)

    pool = balanced.Pool(
        size=of(("upstream_keepalive_pool_size",), count, 512, "default of Kong; 60 in older releases"),
        timeout_ns=of(("upstream_keepalive_idle_timeout",), lambda text: _no_limit(time_ns(text)), 60 * _S),
        requests=of(
            ("upstream_keepalive_max_requests",),
            lambda text: _no_limit(count(text)),
            10_000,
            "default of Kong; 100 or 1000 in older releases",
        ),
        time_ns=defaults.assumed(-1, "a balancer in Lua closes no connection for its age"),
    )
    passing = balanced.Passing(
        next_upstream_tries=defaults.assumed(6, "default of Kong: 5 retries; each service has its own"),
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


def _no_limit(value: int) -> int:
    """Return Kong's 0 as what it means."""
    return value if value > 0 else -1
