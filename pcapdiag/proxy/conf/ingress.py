"""ingress-nginx: the keys of its ConfigMap as settings.

Defaults as in internal/ingress/controller/config/config.go; the endpoints come from the cluster and are not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.conf import balanced
from pcapdiag.proxy.conf import nginx_defaults as defaults
from pcapdiag.proxy.conf.settings import AccessLog, ErrorLog, LogFormat, ProxyKind, ProxySettings, Setting
from pcapdiag.proxy.conf.tree import Node, setting
from pcapdiag.proxy.conf.values import count, flag, size_bytes, time_ns

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from pcapdiag.proxy.conf.settings import ConfNote

    T = TypeVar("T")

_WHY = "default of ingress-nginx"
_CONDITIONS: tuple[str, ...] = ("error", "timeout")
_LOG_FORMAT = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
    " $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr"
    " $upstream_response_length $upstream_response_time $upstream_status $req_id"
)


def read_ingress(document: Node, path: str, notes: list[ConfNote], *, version: str = "") -> ProxySettings:
    """Read a ConfigMap.

    Parameters
    ----------
    document : Node
        The parsed object.
    path : str
        The file that was given.
    notes : list of ConfNote
        What could not be read so far.
    version : str
        Version of ingress-nginx if it is known.

    Returns
    -------
    ProxySettings
        With the one block ``upstream_balancer``, whose peers are not known.
    """
    data = document.get("data")

    def of(key: str, read: Callable[[str], T], default: T) -> Setting[T]:
        return setting(data and data.get(key), read, defaults.assumed(default, _WHY), notes)

    conditions = of("proxy-next-upstream", _words, _CONDITIONS)
    non_idempotent = of("retry-non-idempotent", flag, default=False)
    if non_idempotent.value:
        conditions = Setting((*conditions.value, "non_idempotent"), non_idempotent.source)
    size = of("proxy-buffer-size", size_bytes, 4096)
    number = of("proxy-buffers-number", count, 4)
    passing = balanced.Passing(
        connect_timeout_ns=of("proxy-connect-timeout", time_ns, 5 * NS_PER_S),
        send_timeout_ns=of("proxy-send-timeout", time_ns, 60 * NS_PER_S),
        read_timeout_ns=of("proxy-read-timeout", time_ns, 60 * NS_PER_S),
        next_upstream=conditions,
        next_upstream_tries=of("proxy-next-upstream-tries", count, 3),
        next_upstream_timeout_ns=of("proxy-next-upstream-timeout", time_ns, 0),
        http_version=of("proxy-http-version", str, "1.1"),
        buffering=of("proxy-buffering", flag, default=False),
        request_buffering=of("proxy-request-buffering", flag, default=True),
        buffer_size_bytes=size,
        buffers=Setting((number.value, size.value), number.source, number.assumed, number.why),
    )
    pool = balanced.Pool(
        size=of("upstream-keepalive-connections", count, 320),
        timeout_ns=of("upstream-keepalive-timeout", time_ns, 60 * NS_PER_S),
        requests=of("upstream-keepalive-requests", count, 10_000),
        time_ns=of("upstream-keepalive-time", time_ns, 3600 * NS_PER_S),
    )
    block = balanced.block("upstream_balancer", pool, data.source if data else "")
    text = of("log-format-upstream", str, _LOG_FORMAT)
    json = of("log-format-escape-json", flag, default=False)
    escape = "json" if json.value else "default"
    access_log = of("access-log-path", str, "/var/log/nginx/access.log")
    error_log = of("error-log-path", str, "/var/log/nginx/error.log")
    return ProxySettings(
        kind=ProxyKind.INGRESS_NGINX,
        version=version,
        path=path,
        upstreams=(block,),
        locations=(balanced.place(block, passing, source=block.source),),
        log_formats=(LogFormat("upstreaminfo", text.value, escape, text.source),),
        access_logs=(AccessLog(access_log.value, "upstreaminfo", access_log.source),),
        error_logs=(ErrorLog(error_log.value, of("error-log-level", str, "notice"), error_log.source),),
        worker_processes=of("worker-processes", str, "auto"),
        notes=tuple(notes),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())
