"""Values as configurations write them: times, sizes, versions. Knows no directive."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_MS, NS_PER_S, parse_duration, parse_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcapdiag.proxy.conf.settings import Endpoint

_SIZE = re.compile(r"([0-9]{1,15})([kKmMgG]?)")
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30}
_VERSION = re.compile(r"(?<![0-9.])([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})")
_NUMBER = re.compile(r"[0-9]{1,15}")
_WITH_UNIT = re.compile(r"([0-9]{1,12})([A-Za-z]*)")
_GO_TIME = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{0,12})?(?:ns|us|µs|ms|s|m|h|d)){1,8}")
_GO_PART = re.compile(r"([0-9]+)\.?([0-9]*)(ns|us|µs|ms|s|m|h|d)")
_GO_UNIT_NS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
}
_MOST_NS = 1 << 62


def time_ns(text: str) -> int:
    """Return a time [ns] as nginx writes it: ``75s``, ``1m 30s``, ``500ms``; a bare number counts seconds.

    Parameters
    ----------
    text : str
        As written.

    Returns
    -------
    int
        [ns] The time.

    Raises
    ------
    ValueError
        If it is no time, or longer than a century.
    """
    value = parse_duration(text)
    if value > _MOST_NS:
        msg = f"{text[:20]!r} is too long a time"
        raise ValueError(msg)
    return value


def unit_time_ns(text: str, unit_ns: Mapping[str, int]) -> int:
    """Return a time [ns] that is one number with one unit; -1 if it is none, or longer than a century.

    Parameters
    ----------
    text : str
        As written.
    unit_ns : mapping of str to int
        [ns] What each unit counts; under the empty text that of a bare number.
    """
    match = _WITH_UNIT.fullmatch(text)
    value = int(match[1]) * unit_ns[match[2]] if match is not None and match[2] in unit_ns else -1
    return value if value <= _MOST_NS else -1


def go_time_ns(text: str) -> int:
    """Return a time [ns] as programs in Go and protobuf's JSON write it: ``1m30s``, ``0.25s``; days as Caddy has them.

    Parameters
    ----------
    text : str
        As written.

    Returns
    -------
    int
        [ns] The time.

    Raises
    ------
    ValueError
        If it is no time, or longer than a century.
    """
    value = -1
    if text == "0":
        value = 0
    elif _GO_TIME.fullmatch(text):
        parts = _GO_PART.findall(text)
        value = sum(int(f"{whole}{rest}") * _GO_UNIT_NS[unit] // 10 ** len(rest) for whole, rest, unit in parts)
    if not 0 <= value <= _MOST_NS:
        msg = f"{text[:20]!r} is not a time"
        raise ValueError(msg)
    return value


def go_limit_ns(text: str) -> int:
    """Return a time [ns] as `go_time_ns` reads it where 0 is no limit: -1.

    Parameters
    ----------
    text : str
        As written.

    Returns
    -------
    int
        [ns] The time; -1 for no limit.

    Raises
    ------
    ValueError
        If it is no time.
    """
    return go_time_ns(text) or -1


def size_bytes(text: str) -> int:
    """Return a size [bytes] as nginx writes it: ``8k``, ``1m``.

    Parameters
    ----------
    text : str
        As written.

    Returns
    -------
    int
        [bytes] The size.

    Raises
    ------
    ValueError
        If it is no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        msg = f"{text[:20]!r} is not a size"
        raise ValueError(msg)
    return int(match[1]) << _SHIFT[match[2].lower()]


def count(text: str) -> int:
    """Return a number without sign.

    Parameters
    ----------
    text : str
        As written.

    Returns
    -------
    int
        The number.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not _NUMBER.fullmatch(text):
        msg = f"{text[:20]!r} is not a number"
        raise ValueError(msg)
    return int(text)


def flag(text: str) -> bool:
    """Return what ``on`` or ``off`` says; ``true`` and ``false`` as YAML has them.

    Parameters
    ----------
    text : str
        As written.

    Returns
    -------
    bool
        True for on.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text.lower() in {"on", "true"}:
        return True
    if text.lower() in {"off", "false"}:
        return False
    msg = f"{text[:20]!r} is neither on nor off"
    raise ValueError(msg)


def version_numbers(text: str) -> tuple[int, int, int]:
    """Return the first three numbers of a version, such as ``nginx/1.27.4`` or ``openresty/1.21.4.1``; zeros if none.

    OpenResty's first three numbers are those of the nginx inside.
    """
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)


def endpoint(address: str, default_port: int) -> tuple[Endpoint | None, int]:
    """Return an address as a server or proxy_pass directive gives it.

    Parameters
    ----------
    address : str
        Literal address or name, with or without a port, or a socket file.
    default_port : int
        The port if none is written.

    Returns
    -------
    tuple of (tuple of int or None, int)
        The endpoint, None if the address is not a literal one, and the port, -1 if there is none.
    """
    if address.startswith("unix:"):
        return None, -1
    try:
        hi, lo, port = parse_endpoint(address)
    except ValueError:
        _, colon, tail = address.rpartition(":")
        known = colon and _NUMBER.fullmatch(tail) and int(tail) <= 0xFFFF
        return None, int(tail) if known else default_port
    port = default_port if port < 0 else port
    return (hi, lo, port), port


def nginx_time(value_ns: int) -> str:
    """Return a time [ns] as nginx writes it, in ms if it is not whole seconds."""
    return f"{value_ns // NS_PER_S}s" if value_ns % NS_PER_S == 0 else f"{value_ns // NS_PER_MS}ms"


def seconds(value_ns: int) -> str:
    """Return a time [ns] in seconds as JSON and YAML write a number, without an exponent."""
    whole, rest = divmod(value_ns, NS_PER_S)
    return f"{whole}.{rest // NS_PER_MS:03}".rstrip("0") if rest >= NS_PER_MS else str(whole)
