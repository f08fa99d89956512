"""What nginx does where its configuration is silent, by version.

Sources: nginx's changes.xml and the merge functions of src/http/modules/ngx_http_upstream_keepalive_module.c,
ngx_http_proxy_module.c and ngx_http_upstream.c. Where the version is not known, the values of the many installations
before 1.29.7 are assumed, and each says so.
"""

from __future__ import annotations

from typing import TypeVar

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.conf.settings import Setting

T = TypeVar("T")
Version = tuple[int, int, int]
UNKNOWN: Version = (0, 0, 0)

_PAGE = 4096
_POOL_BY_DEFAULT = (1, 29, 7)
_LAST_BEFORE = (1, 29, 6)
"""What is assumed of a version that nobody told: newer than everything but the pool by default."""


def assumed(value: T, why: str = "default of nginx") -> Setting[T]:
    """Return a value that was not read, with whose default it is."""
    return Setting(value, assumed=True, why=why)


def _since(version: Version, changed: Version, before: tuple[T, str], after: tuple[T, str]) -> Setting[T]:
    """Return the default of a version where one version changed it; each value comes with its words."""
    number = ".".join(map(str, changed))
    is_new = (_LAST_BEFORE if version == UNKNOWN else version) >= changed
    why = f"default of nginx {'since' if is_new else 'before'} {number}"
    if version == UNKNOWN:
        why += f"; {before[1]} before" if is_new else f"; {after[1]} from then on"
        why += "; the version is not known"
    return assumed(after[0] if is_new else before[0], why)


def keepalive(version: Version) -> Setting[int]:
    """Return how many idle connections are kept where no `keepalive` says it."""
    return _since(version, _POOL_BY_DEFAULT, (0, "none"), (32, "32"))


def keepalive_local(version: Version) -> Setting[bool]:
    """Return whether a kept connection belongs to the location that opened it, where no `keepalive` is given."""
    return _since(version, _POOL_BY_DEFAULT, (False, "any location"), (True, "by location"))


def keepalive_timeout_ns(version: Version) -> Setting[int]:
    """Return how long [ns] an idle connection is kept; -1: until the upstream closes it."""
    return _since(version, (1, 15, 3), (-1, "no limit"), (60 * NS_PER_S, "60s"))


def keepalive_requests(version: Version) -> Setting[int]:
    """Return after how many requests a connection is closed; -1: never."""
    if UNKNOWN < version < (1, 15, 3):
        return assumed(-1, "no limit in nginx before 1.15.3")
    return _since(version, (1, 19, 10), (100, "100"), (1000, "1000"))


def keepalive_time_ns(version: Version) -> Setting[int]:
    """Return at which age [ns] a connection is closed; -1: never."""
    return _since(version, (1, 19, 10), (-1, "no limit"), (3600 * NS_PER_S, "1h"))


def http_version(version: Version) -> Setting[str]:
    """Return the version of HTTP towards upstreams."""
    return _since(version, _POOL_BY_DEFAULT, ("1.0", "1.0"), ("1.1", "1.1"))


def connection(version: Version) -> Setting[str]:
    """Return the Connection field towards upstreams; empty: none."""
    return _since(version, _POOL_BY_DEFAULT, ("close", "close"), ("", "none"))


def next_upstream() -> Setting[tuple[str, ...]]:
    """Return the conditions under which another peer is tried."""
    return assumed(("error", "timeout"))


def max_fails() -> Setting[int]:
    """Return how many failures put a peer out."""
    return assumed(1)


def fail_timeout_ns() -> Setting[int]:
    """Return for how long [ns] a peer is out."""
    return assumed(10 * NS_PER_S)


def timeout_ns() -> Setting[int]:
    """Return the default [ns] of the connect, send and read timeouts."""
    return assumed(60 * NS_PER_S)


def buffer_size_bytes() -> Setting[int]:
    """Return the room [bytes] for the head of a response."""
    return assumed(_PAGE, "default of nginx: one memory page, 4 or 8 kB")


def buffers() -> Setting[tuple[int, int]]:
    """Return number and size [bytes] of the buffers for a response."""
    return assumed((8, _PAGE), "default of nginx: 8 of one memory page, 4 or 8 kB")
