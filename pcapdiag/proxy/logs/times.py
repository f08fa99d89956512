"""Times as logs write them, to nanoseconds and how exact they are. Knows formats of time, nothing of lines."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

from pcapdiag.base.units import NS_PER_S

_MONTHS: Final = {
    name: n
    for n, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

EPOCH: Final = r"\d{10}\.\d{1,9}|\d{13}|\d{16}|\d{19}|\d{10}"
LOCAL: Final = r"\d\d[-/][A-Z][a-z]{2}[-/]\d{4}[: ]\d\d:\d\d:\d\d(?: [+-]\d{4})?"
ISO: Final = r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z|[+-]\d\d:?\d\d)(?!\d))?"

_EPOCH_PARTS: Final = re.compile(r"(\d{10})(?:\.?(\d{1,9}))?", re.ASCII)
_LOCAL_PARTS: Final = re.compile(
    r"(\d\d)[-/]([A-Z][a-z]{2})[-/](\d{4})[: ](\d\d):(\d\d):(\d\d)(?: ([+-])(\d\d)(\d\d))?", re.ASCII
)
_ISO_PARTS: Final = re.compile(
    r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?: ?(?:(Z)|([+-])(\d\d):?(\d\d)))?",
    re.ASCII,
)


def naive_seconds(text: str) -> int:
    """Return ``2026/11/20 23:56:28`` as seconds since 1970, as if it were UTC; -1 for a date that does not exist.

    Parameters
    ----------
    text : str
        Date and time of an nginx error log.

    Returns
    -------
    int
        [s] Since 1970.
    """
    time = parse_time(text)
    return time[0] // NS_PER_S if time else -1


@lru_cache(maxsize=1024)
def parse_time(text: str) -> tuple[int, int, bool] | None:
    """Return what a time says, if it is one.

    Parameters
    ----------
    text : str
        Seconds since 1970 (also in ms, us or ns without a point), nginx's ``$time_local``, or ISO 8601 and its kin.

    Returns
    -------
    tuple of int, int and bool, or None
        [ns] since 1970, [ns] what its precision leaves open, and whether it names its zone; without one it is taken
        as if it were UTC.
    """
    if match := _EPOCH_PARTS.fullmatch(text):
        seconds, fraction = match.groups("")
        return int(seconds) * NS_PER_S + _fraction_ns(fraction), 10 ** (9 - len(fraction)), True
    if match := _LOCAL_PARTS.fullmatch(text):
        day, month, year, hour, minute, second, sign, zone_h, zone_min = match.groups("")
        numbers = (year, str(_MONTHS.get(month, 0)), day, hour, minute, second)
        return _in_zone(numbers, "", sign, zone_h, zone_min)
    if match := _ISO_PARTS.fullmatch(text):
        *date, fraction, utc, sign, zone_h, zone_min = match.groups("")
        if utc:
            sign, zone_h, zone_min = "+", "00", "00"
        return _in_zone(tuple(date), fraction, sign, zone_h, zone_min)
    return None


def _in_zone(
    numbers: tuple[str, ...], fraction: str, sign: str, zone_h: str, zone_min: str
) -> tuple[int, int, bool] | None:
    year, month, day, hour, minute, second = map(int, numbers)
    try:
        offset = timedelta(hours=int(zone_h or 0), minutes=int(zone_min or 0)) * (-1 if sign == "-" else 1)
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=timezone(offset))
    except ValueError:
        return None
    whole_s = (moment - _EPOCH) // timedelta(seconds=1) + max(second - 59, 0)
    return whole_s * NS_PER_S + _fraction_ns(fraction), 10 ** (9 - len(fraction)), bool(sign)


def _fraction_ns(digits: str) -> int:
    return int(digits.ljust(9, "0")) if digits else 0
