"""Quantities to text and back: nanoseconds, bytes, addresses. Nothing else formats them.

Works in integers throughout: a time is printed exactly, and what was printed can be read again. This module knows no
table and no report, and imports only the standard library, so that any layer may use it.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
_DURATION_UNITS: Final = (("s", 10**9), ("ms", 10**6), ("us", 10**3))

_SIZE: Final = re.compile(r"(\d{1,12}(?:\.\d+(?=\s*[KMGT]))?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)

# What people and nginx.conf write; a bare number counts seconds.
_NS_PER_UNIT: Final = {
    "": 10**9,
    "ns": 1,
    "us": 10**3,
    "\N{MICRO SIGN}s": 10**3,
    "\N{GREEK SMALL LETTER MU}s": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
    "w": 7 * 86400 * 10**9,
}
_DURATION_PART: Final = re.compile(r"\s*([0-9]+)(?:\.([0-9]+))?\s*([^\W\d_]*)\s*")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BYTE_UNITS: Final = ("kB", "MB", "GB", "TB", "PB", "EB")

_MAPPED: Final = 0xFFFF << 32
_LOW_64: Final = (1 << 64) - 1
_PORT: Final = re.compile(r"[0-9]{1,5}")


def format_duration_ns(ns: int) -> str:
    """Write a duration exactly, in the largest unit of which it has at least one.

    Parameters
    ----------
    ns : int
        [ns] Duration; -1 means that it is not known.

    Returns
    -------
    str
        Such as ``3.877202 s``, ``160.2 ms``, ``58 us``, ``0 s``, or ``unknown``.
    """
    ns = int(ns)
    if ns == -1:
        return "unknown"
    sign, size = ("-", -ns) if ns < 0 else ("", ns)
    if size == 0:
        return "0 s"
    for unit, ns_per_unit in _DURATION_UNITS:
        if size >= ns_per_unit:
            whole, rest = divmod(size, ns_per_unit)
            digits = len(str(ns_per_unit)) - 1
            fraction = f".{rest:0{digits}}".rstrip("0") if rest else ""
            return f"{sign}{whole}{fraction} {unit}"
    return f"{sign}{size} ns"


def parse_duration(text: str) -> int:
    """Read a duration as people and nginx.conf write it.

    Parameters
    ----------
    text : str
        Numbers with units (ns, us, ms, s, m, h, d, w), such as ``75s``, ``1.5 s``, ``1h 30m``; a bare number counts
        seconds.

    Returns
    -------
    int
        [ns] Exactly what was written.

    Raises
    ------
    ValueError
        If it is not a duration, or finer than a nanosecond.
    """
    total = at = 0
    while at < len(text):
        part = _DURATION_PART.match(text, at)
        if part is None or part[3] not in _NS_PER_UNIT or (part[3] == "" and part[0] != text):
            at = -1
            break
        ns_per_unit = _NS_PER_UNIT[part[3]]
        fraction = part[2] or ""
        tenths, rest = divmod(int(fraction or "0") * ns_per_unit, 10 ** len(fraction))
        if rest:
            msg = f"{text!r} is finer than a nanosecond"
            raise ValueError(msg)
        total += int(part[1]) * ns_per_unit + tenths
        at = part.end()
    if at <= 0:
        msg = f"{text!r} is not a duration; write it like 75s, 160.2ms or 1h 30m"
        raise ValueError(msg)
    return total


def format_ts_ns(ns: int) -> str:
    """Write an absolute time as ISO 8601 in UTC, to the nanosecond.

    Parameters
    ----------
    ns : int
        [ns] Since 1970-01-01 UTC; may be negative.

    Returns
    -------
    str
        Such as ``2026-11-20T23:55:56.886114000Z``; the bare number where the calendar ends.
    """
    seconds, rest = divmod(int(ns), NS_PER_S)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"{ns} ns"
    return f"{moment.replace(tzinfo=None).isoformat()}.{rest:09}Z"


def format_bytes(n_bytes: int) -> str:
    """Write a size in decimal units, rounded to a tenth.

    Parameters
    ----------
    n_bytes : int
        [bytes] Size; -1 means that it is not known.

    Returns
    -------
    str
        Such as ``512 bytes``, ``1.5 GB``, or ``unknown``.
    """
    size = int(n_bytes)
    if size < 0:
        return "unknown"
    if size < 1000:
        return "1 byte" if size == 1 else f"{size} bytes"
    power = 0
    # A tenth of the next larger unit decides, so that 999 960 bytes are 1.0 MB and not 1000.0 kB.
    while power < len(_BYTE_UNITS) - 1 and _round_tenths(size, 1000 ** (power + 1)) >= 10_000:
        power += 1
    tenths = _round_tenths(size, 1000 ** (power + 1))
    return f"{tenths // 10}.{tenths % 10} {_BYTE_UNITS[power]}"


def _round_tenths(size: int, unit: int) -> int:
    return (size * 10 + unit // 2) // unit


@lru_cache(maxsize=1024)  # of upstreams, which are few, for each of their connections
def format_address(hi: int, lo: int) -> str:
    """Write an address from its two halves.

    Parameters
    ----------
    hi, lo : int
        Upper and lower 64 bits; IPv4 as ``::ffff:a.b.c.d``.

    Returns
    -------
    str
        IPv4 in dotted form, IPv6 as RFC 5952 wants it.
    """
    hi, lo = int(hi), int(lo)
    if hi == 0 and lo >> 32 == 0xFFFF:
        return str(IPv4Address(lo & 0xFFFFFFFF))
    return str(IPv6Address(hi << 64 | lo))


def parse_size(text: str) -> int:
    """Read a size as people write it.

    Parameters
    ----------
    text : str
        ``500M``, ``1.5GB``, ``512MiB``: units are powers of 1024, with or without B; a bare number counts bytes.

    Returns
    -------
    int
        [bytes] At least 1.

    Raises
    ------
    ValueError
        If it is no size, or nothing.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * 1024 ** "_KMGT".index(match[2].upper() or "_")) if match else 0
    if size < 1:
        msg = f"{text!r} is no size: write 500M, 20G or 1T"
        raise ValueError(msg)
    return size


def parse_address(text: str) -> tuple[int, int]:
    """Read an IPv4 or IPv6 address.

    Parameters
    ----------
    text : str
        The address; a zone (``%eth0``) is left out of account.

    Returns
    -------
    tuple of int
        Upper and lower 64 bits, IPv4 mapped.

    Raises
    ------
    ValueError
        If it is neither.
    """
    try:
        if ":" not in text:
            return 0, _MAPPED | int(IPv4Address(text))
        value = int(IPv6Address(text))
    except AddressValueError as error:
        msg = f"{text!r} is not an IP address"
        raise ValueError(msg) from error
    return value >> 64, value & _LOW_64


def format_endpoint(hi: int, lo: int, port: int) -> str:
    """Write an endpoint; IPv6 in brackets where a port follows.

    Parameters
    ----------
    hi, lo : int
        Upper and lower 64 bits of the address.
    port : int
        Port; -1 for none.

    Returns
    -------
    str
        Such as ``10.0.0.1:80``, ``[::1]:80``, ``::1``.
    """
    address = format_address(hi, lo)
    if port < 0:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def parse_endpoint(text: str) -> tuple[int, int, int]:
    """Read an address, or an address and a port.

    Parameters
    ----------
    text : str
        ``1.2.3.4``, ``1.2.3.4:80``, ``::1``, ``[::1]`` or ``[::1]:80``.

    Returns
    -------
    tuple of int
        Upper and lower 64 bits of the address, and the port, -1 without.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    address, port = text, ""
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in address or (rest and not rest.startswith(":")):
            msg = f"{text!r} is not an endpoint; write [address] or [address]:port"
            raise ValueError(msg)
        port = rest[1:] if rest else ""
        has_port = bool(rest)
    else:
        has_port = text.count(":") == 1
        if has_port:
            address, _, port = text.partition(":")
    hi, lo = parse_address(address)
    if not has_port:
        return hi, lo, -1
    if not _PORT.fullmatch(port) or int(port) > 0xFFFF:
        msg = f"{port!r} in {text!r} is not a port (0 to 65535)"
        raise ValueError(msg)
    return hi, lo, int(port)


def parse_zone(text: str) -> int | None:
    """Return the offset from UTC [s] that ``UTC``, ``Z`` or ``+08:00`` says; None for anything else."""
    if text.upper() in ("UTC", "Z", "GMT"):
        return 0
    match = re.fullmatch(r"([+-])([01]\d):?([0-5]\d)", text)
    if match is None:
        return None
    seconds = int(match[2]) * 3600 + int(match[3]) * 60
    return -seconds if match[1] == "-" else seconds


def format_zone(offset_s: int) -> str:
    """Return an offset from UTC [s] as ``UTC`` or ``UTC+08:00``."""
    sign = "-" if offset_s < 0 else "+"
    return f"UTC{sign}{abs(offset_s) // 3600:02d}:{abs(offset_s) % 3600 // 60:02d}" if offset_s else "UTC"


def about(duration_ns: int) -> str:
    """Return a duration with four significant digits: a sentence needs no more."""
    unit = 10 ** max(len(str(abs(duration_ns))) - 4, 0)
    return format_duration_ns(round(duration_ns / unit) * unit)


def known_to(width_ns: int) -> str:
    """Return what a value is known to, with one significant digit, rounded up."""
    unit = 10 ** (len(str(width_ns)) - 1)
    return format_duration_ns(-(-width_ns // unit) * unit)


def known_part(value_ns: int, width_ns: int) -> str:
    """Return a duration without the digits that are finer than what it is known to."""
    unit = 10 ** (len(str(width_ns)) - 1)
    return about(round(value_ns / unit) * unit)


def roughly(duration_ns: int) -> str:
    """Return how far two things are from each other, in hours or days where it is many seconds: ``8.0 hours``."""
    for unit_s, name in ((86_400, "days"), (3_600, "hours")):
        if duration_ns >= unit_s * NS_PER_S * 2:
            return f"{duration_ns / (unit_s * NS_PER_S):,.1f} {name}"
    return about(duration_ns)


def count_of(number: int, singular: str, plural: str = "") -> str:
    """Return ``1 request`` or ``2,345 requests``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
