"""``pcapdiag watch``: the flight recorder, for a pipe from tcpdump or a folder that a capture writes to."""

from __future__ import annotations

import gc
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from pcapdiag.base.errors import PcapdiagError, UsageError
from pcapdiag.cli.choices import Choice
from pcapdiag.cli.declare import OptionPlace, command_option
from pcapdiag.cli.options import (
    EXIT_FINDINGS,
    anonymize_option,
    code_options,
    collect_inputs,
    fail_on_option,
    log_options,
    metrics_option,
    notify_option,
    quiet_option,
    redact_option,
    role_options,
)
from pcapdiag.cli.tell import plan_telling
from pcapdiag.cli.watch_lines import Lines, say, silence
from pcapdiag.watch.tell import WatchTelling, place_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.watch.model import WatchOptions

_LEAST_RING = 4 << 20


@click.command()
@click.argument("place", metavar="-|FOLDER", type=click.Path(allow_dash=True))
@command_option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Where incidents go; the ring lies in DIR/.watch.",
)
@command_option(
    "--ring",
    default="512MB",
    show_default=True,
    metavar="SIZE",
    help="How much of the recording is kept; the oldest goes.",
)
@command_option(
    "--grace",
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="How long after a failure its report begins: what belongs to it arrives late.",
)
@command_option(
    "--cool-down",
    default="10m",
    show_default=True,
    metavar="DURATION",
    help="How long a trouble that was reported is only counted; then it is reported again, with all that came.",
)
@command_option(
    "--context",
    default="5m",
    show_default=True,
    metavar="DURATION",
    help="How much of the recording before a failure is read with it.",
)
@command_option(
    "--keep",
    multiple=True,
    default=("200", "2GB"),
    show_default=True,
    metavar="N|SIZE",
    help="Most incidents, and most space for them; the oldest go. Give both by repeating it.",
)
@command_option("--bundle", is_flag=True, help="Write each incident as one ZIP for a ticket instead of a folder.")
@log_options(followed=True)
@role_options
@code_options
@fail_on_option("Lowest severity that is an incident and makes the exit code 1; never: as warning, but 0.")
@command_option(
    "--format",
    "format_",
    place=OptionPlace.ANY_FILE,
    type=Choice(["text", "jsonl"]),
    default="text",
    show_default=True,
    help="The line on stdout for each incident.",
)
@metrics_option("Keep")
@notify_option("new incidents")
@redact_option
@anonymize_option
@quiet_option("No lines on stderr.")
@click.pass_context
@collect_inputs
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
    inputs: Inputs,
    fail_on: str,
    format_: str,
    metrics: str,
    notify_url_env: str,
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
    from pcapdiag.proxy.conf.read import must_be_readable  # noqa: PLC0415 - the same
    from pcapdiag.watch.model import WatchOptions  # noqa: PLC0415 - help needs none of it

    keep_incidents, keep_bytes = _bounds(keep)
    options = WatchOptions(
        place=place,
        out=out,
        inputs=inputs,
        ring_bytes=_ring_bytes(ring),
        grace_ns=_duration(grace, "--grace"),
        cool_down_ns=_duration(cool_down, "--cool-down"),
        context_ns=_duration(context, "--context"),
        keep_incidents=keep_incidents,
        keep_bytes=keep_bytes,
        least="warning" if fail_on == "never" else fail_on,
        bundle=bundle,
    )
    # Of `scan --watch`, the defaults are those of scan.
    with_defaults = ctx if ctx.default_map else ctx.parent or ctx
    channels = plan_telling(with_defaults, metrics=metrics, notify_url_env=notify_url_env).channels
    telling = WatchTelling(metrics, channels, place_of(out, anonymize=inputs.anonymize))
    if inputs.proxy_conf:
        must_be_readable(inputs.proxy_conf)  # said now, not with the first incident
    has_incidents = _record(options, telling, as_json=format_ == "jsonl", quiet=quiet)
    ctx.exit(EXIT_FINDINGS if has_incidents and fail_on != "never" else 0)


def _record(options: WatchOptions, telling: WatchTelling, *, as_json: bool, quiet: bool) -> bool:
    """Record until the input ends or a signal says so; return whether there was an incident."""
    from pcapdiag.engine.compiler.policy import load_kernels  # noqa: PLC0415 - help needs none of it
    from pcapdiag.rules.diagnose import codes_matching  # noqa: PLC0415 - the same
    from pcapdiag.watch.recorder import Recorder  # noqa: PLC0415 - the same

    # The program runs without it because a run is short; this one is not.
    gc.enable()
    codes_matching((*options.inputs.select, *options.inputs.ignore))
    load_kernels()  # what is missing is told now, not when the first loss is seen

    lines = Lines(options.out, as_json=as_json)
    on_status = telling.metrics_writer(say)
    recorder = Recorder(options, lines.tell, silence if quiet else say, channels=telling.senders(), on_status=on_status)
    with _Signals(recorder.stop, recorder.poll_logs):
        recorder.run()
    lines.flush()
    if on_status is not None:
        on_status(recorder.status())
    status = recorder.status()
    if status.frames_lost and status.frames_lost >= status.frames:
        kept = f"none of {status.frames:,} frames was kept"
        msg = f"no room on the disk of {options.out}: {kept}; make room there, or name another --out"
        raise PcapdiagError(msg)
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


def _duration(text: str, option: str) -> int:
    from pcapdiag.base.units import parse_duration  # noqa: PLC0415 - help needs it not

    try:
        return parse_duration(text)
    except ValueError as error:
        msg = f"{option}: {error}"
        raise UsageError(msg) from error


def _ring_bytes(text: str) -> int:
    from pcapdiag.base.units import parse_size  # noqa: PLC0415 - help needs it not

    with suppress(ValueError):
        if (size := parse_size(text)) >= _LEAST_RING:
            return size
    msg = f"--ring {text}: give a size of at least 4MB, such as 512MB or 2GB"
    raise UsageError(msg)


def _bounds(keep: tuple[str, ...]) -> tuple[int, int]:
    """Return the most incidents and the most bytes for them; what is not given has no bound but the default's."""
    from pcapdiag.base.units import parse_size  # noqa: PLC0415 - help needs it not

    most, most_bytes = 200, 2 << 30
    for text in keep:
        try:
            size = parse_size(text)
        except ValueError as error:
            msg = f"--keep {text}: give a number of incidents (200) or a size (2GB)"
            raise UsageError(msg) from error
        if text.strip().isdecimal():
            most = size
        else:
            most_bytes = size
    return most, most_bytes
