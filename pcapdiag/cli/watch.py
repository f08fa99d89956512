"""``pcapdiag watch``: the flight recorder, for a pipe from tcpdump or a folder that a capture writes to."""

from __future__ import annotations

import gc
import re
import signal
from typing import TYPE_CHECKING

import click

from pcapdiag.cli.options import anonymize_option, role_options
from pcapdiag.cli.watch_tell import (
    Lines,
    plan_watch_telling,
    say,
    silence,
    watch_tell_options,
    write_metrics_or_say,
)
from pcapdiag.errors import PcapdiagError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pcapdiag.cli.watch_tell import WatchTelling
    from pcapdiag.watch.model import WatchOptions

EXIT_FINDINGS = 1
_SIZE = re.compile(r"(\d{1,12})\s*([kKMGT]?)i?[bB]?")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LEAST_RING = 4 << 20


@click.command()
@click.argument("place", metavar="-|FOLDER", type=click.Path(allow_dash=True))
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False),
    envvar="PCAPDIAG_WATCH_OUT",
    show_envvar=True,
    help="Where incidents go; the ring lies in DIR/.watch.",
)
@click.option(
    "--ring",
    default="512MB",
    show_default=True,
    metavar="SIZE",
    envvar="PCAPDIAG_WATCH_RING",
    show_envvar=True,
    help="How much of the recording is kept; the oldest goes.",
)
@click.option(
    "--grace",
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="How long after a failure its report begins: what belongs to it arrives late.",
)
@click.option(
    "--cool-down",
    default="10m",
    show_default=True,
    metavar="DURATION",
    help="How long a trouble that was reported is only counted; then it is reported again, with all that came.",
)
@click.option(
    "--context",
    default="5m",
    show_default=True,
    metavar="DURATION",
    help="How much of the recording before a failure is read with it.",
)
@click.option(
    "--keep",
    multiple=True,
    default=("200", "2GB"),
    show_default=True,
    metavar="N|SIZE",
    help="Most incidents, and most space for them; the oldest go. Give both by repeating it.",
)
@click.option("--bundle", is_flag=True, help="Write each incident as one ZIP for a ticket instead of a folder.")
@click.option(
    "--error-log",
    "error_logs",
    multiple=True,
    metavar="FILE",
    envvar="PCAPDIAG_ERROR_LOG",
    show_envvar=True,
    type=click.Path(),
    help="An error log of the proxy, followed while it grows and rotates; repeat for several.",
)
@click.option(
    "--access-log",
    "access_logs",
    multiple=True,
    metavar="FILE",
    envvar="PCAPDIAG_ACCESS_LOG",
    show_envvar=True,
    type=click.Path(),
    help="An access log of the proxy, followed likewise; repeat for several.",
)
@click.option(
    "--proxy-conf",
    default="",
    metavar="FILE",
    envvar="PCAPDIAG_PROXY_CONF",
    show_envvar=True,
    type=click.Path(),
    help="Configuration of the proxy: nginx.conf, nginx -T, APISIX, ingress-nginx or Kong.",
)
@click.option(
    "--log-format",
    default="auto",
    show_default=True,
    metavar="FORMAT",
    envvar="PCAPDIAG_LOG_FORMAT",
    show_envvar=True,
    help="Format of the access log as in nginx.conf.",
)
@click.option(
    "--log-zone",
    default="auto",
    show_default=True,
    metavar="ZONE",
    envvar="PCAPDIAG_LOG_ZONE",
    show_envvar=True,
    help="Zone of the error log: auto, UTC, +08:00 or Area/City.",
)
@role_options
@click.option("--select", multiple=True, metavar="CODES", help="Report only these codes (PD101,PD2).")
@click.option("--ignore", multiple=True, metavar="CODES", help="Report all but these codes.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "info", "never"]),
    default="warning",
    show_default=True,
    envvar="PCAPDIAG_FAIL_ON",
    show_envvar=True,
    help="Lowest severity that is an incident and makes the exit code 1; never: as warning, but 0.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "jsonl"]),
    default="text",
    show_default=True,
    help="The line on stdout for each incident.",
)
@watch_tell_options
@click.option("--no-redact", is_flag=True, help="Leave credentials, query values and other secrets as captured.")
@anonymize_option
@click.option("-q", "--quiet", is_flag=True, envvar="PCAPDIAG_QUIET", show_envvar=True, help="No lines on stderr.")
@click.pass_context
def watch(
    ctx: click.Context,
    *,
    place: str,
    out: str,
    ring: str,
    grace: str,
    cool_down: str,
    context: str,
    keep: tuple[str, ...],
    bundle: bool,
    error_logs: tuple[str, ...],
    access_logs: tuple[str, ...],
    proxy_conf: str,
    log_format: str,
    log_zone: str,
    proxies: tuple[str, ...],
    upstreams: tuple[str, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: str,
    format_: str,
    metrics: str,
    notify_url_env: str,
    no_redact: bool,
    anonymize: bool,
    quiet: bool,
) -> None:
    """Record for days and keep only what proves a failure.

    Reads a pipe from tcpdump, or the files that a running capture writes into FOLDER, and keeps the newest of it in a
    ring of bounded size. When a request fails, its report is written seconds later: HTML, Markdown, JSON, and the
    packets concerned. The same trouble is reported once, then counted, then reported again with all that came. Ends
    with the pipe, or with SIGTERM or SIGINT, and finishes what it has begun; after a crash it goes on where it was.

    \b
      tcpdump -i any -U -w - tcp | pcapdiag watch - --out incidents/ --error-log /var/log/nginx/error.log
      pcapdiag watch /var/captures --out incidents/ --ring 2GB --keep 500 --keep 10GB
    """  # noqa: D301 - click reads the character \b
    from pcapdiag.watch.model import AnalysisOptions, WatchOptions  # noqa: PLC0415 - help needs none of it

    if anonymize and no_redact:
        msg = "what is not redacted is not anonymous: leave out either --no-redact or --anonymize"
        raise UsageError(msg)
    keep_incidents, keep_bytes = _bounds(keep)
    options = WatchOptions(
        place=place,
        out=out,
        analysis=AnalysisOptions(
            proxies=proxies,
            upstreams=upstreams,
            error_logs=error_logs,
            access_logs=access_logs,
            proxy_conf=proxy_conf,
            log_format=log_format,
            log_zone=log_zone,
            select=_codes(select),
            ignore=_codes(ignore),
            redact=not no_redact,
            anonymize=anonymize,
        ),
        ring_bytes=_ring_bytes(ring),
        grace_ns=_duration(grace, "--grace"),
        cool_down_ns=_duration(cool_down, "--cool-down"),
        context_ns=_duration(context, "--context"),
        keep_incidents=keep_incidents,
        keep_bytes=keep_bytes,
        least="warning" if fail_on == "never" else fail_on,
        bundle=bundle,
    )
    telling = plan_watch_telling(ctx, out=out, metrics=metrics, notify_url_env=notify_url_env, anonymize=anonymize)
    has_incidents = run_recorder(options, telling, as_json=format_ == "jsonl", quiet=quiet)
    ctx.exit(EXIT_FINDINGS if has_incidents and fail_on != "never" else 0)


def run_recorder(options: WatchOptions, telling: WatchTelling, *, as_json: bool = False, quiet: bool = False) -> bool:
    """Record until the input ends or a signal says so.

    Parameters
    ----------
    options : WatchOptions
        What to watch, and within which bounds.
    telling : WatchTelling
        Whom to tell.
    as_json : bool
        Whether the line for an incident is JSON.
    quiet : bool
        Whether stderr stays empty.

    Returns
    -------
    bool
        Whether there was an incident.

    Raises
    ------
    PcapdiagError
        Not every report could be made.
    """
    from pcapdiag.cli.progress import ProgressMeter  # noqa: PLC0415 - help needs none of it
    from pcapdiag.diagnose import codes_matching  # noqa: PLC0415 - the same
    from pcapdiag.pipeline import warm_up  # noqa: PLC0415 - the same
    from pcapdiag.watch.recorder import Recorder  # noqa: PLC0415 - the same

    # The program runs without it because a run is short; this one is not.
    gc.enable()
    codes_matching((*options.analysis.select, *options.analysis.ignore))
    warm_up(ProgressMeter(quiet=quiet).announce_compilation)

    lines = Lines(options.out, as_json=as_json)
    on_status = write_metrics_or_say(telling)
    recorder = Recorder(options, lines.tell, silence if quiet else say, channels=telling.senders(), on_status=on_status)
    with _Signals(recorder.stop, recorder.poll_logs):
        recorder.run()
    lines.flush()
    if on_status is not None:
        on_status(recorder.status())
    if recorder.n_unreported:
        msg = f"{recorder.n_unreported} reports could not be made; the reasons stand above"
        raise PcapdiagError(msg)
    return recorder.has_incidents


class _Signals:
    """While it lasts, signals end the recording in an orderly way; the second one ends it at once."""

    def __init__(self, stop: Callable[[], None], poll_logs: Callable[[], None]) -> None:
        self._stop = stop
        self._poll_logs = poll_logs
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._take)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._poll_logs()
            return
        self._stop()
        signal.signal(number, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _codes(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.strip() for value in values for code in value.split(",") if code.strip())


def _duration(text: str, option: str) -> int:
    from pcapdiag.units import parse_duration  # noqa: PLC0415 - help needs it not

    try:
        return parse_duration(text)
    except ValueError as error:
        msg = f"{option}: {error}"
        raise UsageError(msg) from error


def _size(text: str) -> int | None:
    """Return the bytes that a text such as 512MB means; None if it is no size."""
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) * _UNITS[match[2].lower()] if match else None


def _ring_bytes(text: str) -> int:
    size = _size(text)
    if size is None or size < _LEAST_RING:
        msg = f"--ring {text}: give a size of at least 4MB, such as 512MB or 2GB"
        raise UsageError(msg)
    return size


def _bounds(keep: tuple[str, ...]) -> tuple[int, int]:
    """Return the most incidents and the most bytes for them; what is not given has no bound but the default's."""
    most, most_bytes = 200, 2 << 30
    for text in keep:
        size = _size(text)
        if size is None or size < 1:
            msg = f"--keep {text}: give a number of incidents (200) or a size (2GB)"
            raise UsageError(msg)
        if text.strip().isdecimal():
            most = size
        else:
            most_bytes = size
    return most, most_bytes
