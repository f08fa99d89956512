"""What an operator gives beside the captures: names of logs, of a configuration and of a zone.

Reads none of them; the modules that do (`logbook`) are loaded only when there is something to read.
"""

from __future__ import annotations

from dataclasses import dataclass

from pcapdiag.errors import UsageError
from pcapdiag.units import parse_zone

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class LogInputs:
    """What the operator gave beside the captures.

    Attributes
    ----------
    error_logs, access_logs, upstream_logs : tuple of str
        Files: the proxy's logs, and those of the applications behind it.
    proxy_conf : str
        The proxy's configuration; empty if it was not given.
    log_format : str
        Format of the access logs as nginx writes it, or ``auto``.
    upstream_log_format : str
        The same for the logs of applications, or a regular expression with named groups, or ``auto``.
    log_zone : str
        Zone of the error logs: ``auto``, ``UTC``, ``+08:00`` or ``Area/City``.
    """

    error_logs: tuple[str, ...] = ()
    access_logs: tuple[str, ...] = ()
    upstream_logs: tuple[str, ...] = ()
    proxy_conf: str = ""
    log_format: str = AUTO
    upstream_log_format: str = AUTO
    log_zone: str = AUTO

    @property
    def kinds(self) -> dict[str, str]:
        """What each file is, in the words of the report."""
        kinds = dict.fromkeys(self.error_logs, "error_log") | dict.fromkeys(self.access_logs, "access_log")
        kinds |= dict.fromkeys(self.upstream_logs, "upstream_log")
        return kinds | ({self.proxy_conf: "proxy_conf"} if self.proxy_conf else {})


def zone_offset_s(zone: str, at_ns: int) -> int | None:
    """Return the offset from UTC of a zone at a time, in seconds; None for ``auto``.

    Parameters
    ----------
    zone : str
        ``auto``, ``UTC``, ``+08:00`` or ``Area/City``.
    at_ns : int
        [ns] When; daylight saving depends on it.

    Returns
    -------
    int or None

    Raises
    ------
    UsageError
        There is no such zone.
    """
    if zone in ("", AUTO):
        return None
    fixed = parse_zone(zone)
    if fixed is not None:
        return fixed
    from datetime import datetime, timedelta  # noqa: PLC0415 - seldom needed, and slow to load
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        msg = f"there is no zone {zone!r}; write auto, UTC, +08:00 or a name such as Asia/Shanghai"
        raise UsageError(msg) from error
    offset = datetime.fromtimestamp(max(at_ns, 0) // 1_000_000_000, tz=place).utcoffset() or timedelta(0)
    return int(offset.total_seconds())
