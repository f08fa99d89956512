"""What an operator gives beside the captures: one object, from the command line down to the tables.

Reads no file: it holds names and choices, and says at once what of them makes no sense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pcapdiag.base.errors import UsageError
from pcapdiag.base.suggest import did_you_mean
from pcapdiag.base.units import parse_address, parse_endpoint, parse_zone

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the operator gave beside the captures.

    Attributes
    ----------
    proxies : tuple of str
        Addresses of the proxy; found by itself if empty.
    upstreams : tuple of str
        Upstreams, ``address`` or ``address:port``; found by themselves if empty.
    error_logs, access_logs, upstream_logs : tuple of str
        Files: the proxy's logs, and those of the applications behind it. In a scan, names may hold the directives of
        `strftime` for the days of each capture.
    proxy_conf : str
        The proxy's configuration; empty if it was not given.
    log_format : str
        Format of the access logs as nginx writes it, or ``auto``.
    upstream_log_format : str
        The same for the logs of applications, or a regular expression with named groups, or ``auto``.
    log_zone : str
        Zone of the error logs: ``auto``, ``UTC``, ``+08:00`` or ``Area/City``.
    tls_keys : tuple of str
        Files with the secrets of TLS sessions, as SSLKEYLOGFILE makes them.
    upstream_captures : tuple of str
        Captures of the same traffic from the upstreams' end.
    follow_s : float
        [s] How long a file that may still grow must be quiet before it counts as complete.
    select, ignore : tuple of str
        Codes, or beginnings of codes, to report only or not to report.
    redact : bool
        Whether credentials, query values and what else looks like a secret are masked.
    anonymize : bool
        Whether everything that comes out has other addresses and names of machines.
    judge_all : bool
        Judge and list every failure, however many there are; else of a flood some of every kind stand for the others.
    with_hashes : bool
        Whether the SHA-256 of each input is computed: what a ticket needs, and a quarter of the work.

    Raises
    ------
    UsageError
        An address or the zone makes no sense, or what is not redacted is to be anonymous.
    """

    proxies: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()
    error_logs: tuple[str, ...] = ()
    access_logs: tuple[str, ...] = ()
    upstream_logs: tuple[str, ...] = ()
    proxy_conf: str = ""
    log_format: str = AUTO
    upstream_log_format: str = AUTO
    log_zone: str = AUTO
    tls_keys: tuple[str, ...] = ()
    upstream_captures: tuple[str, ...] = ()
    follow_s: float = 0.0
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    redact: bool = True
    anonymize: bool = False
    judge_all: bool = False
    with_hashes: bool = False

    def __post_init__(self) -> None:
        # Said now, not after a long read.
        if self.anonymize and not self.redact:
            msg = "what is not redacted is not anonymous: leave out either --no-redact or --anonymize"
            raise UsageError(msg)
        zone_offset_s(self.log_zone, 0)
        try:
            _ = self.proxy_addresses, self.upstream_endpoints
        except ValueError as error:
            raise UsageError(str(error)) from error

    @property
    def proxy_addresses(self) -> tuple[tuple[int, int], ...]:
        """`proxies` as halves of addresses."""
        return tuple(map(parse_address, self.proxies))

    @property
    def upstream_endpoints(self) -> tuple[tuple[int, int, int], ...]:
        """`upstreams` as halves of addresses and ports, -1 for any port."""
        return tuple(map(parse_endpoint, self.upstreams))

    @property
    def logs(self) -> tuple[str, ...]:
        """Names of all logs."""
        return *self.error_logs, *self.access_logs, *self.upstream_logs

    @property
    def says_proxy(self) -> bool:
        """Whether anything that was given says that a proxy stands between clients and upstreams."""
        return bool(self.proxies or self.upstreams or self.proxy_conf or self.logs or self.upstream_captures)

    @property
    def kinds(self) -> dict[str, str]:
        """What each log and the configuration is, in the words of the report."""
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
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones  # noqa: PLC0415

    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        near = did_you_mean(zone, available_timezones()) or "; write auto, UTC, +08:00 or a name such as Asia/Shanghai"
        msg = f"there is no zone {zone!r}{near}"
        raise UsageError(msg) from error
    offset = datetime.fromtimestamp(max(at_ns, 0) // 1_000_000_000, tz=place).utcoffset() or timedelta(0)
    return int(offset.total_seconds())


NO_INPUTS: Final = Inputs()
"""Nothing but the captures."""
