"""``pcapdiag scan``: every night, what is new in folders and object stores of captures."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.cli.declare import OptionPlace, command_option, option
from pcapdiag.cli.options import (
    EXIT_FINDINGS,
    code_options,
    collect_inputs,
    fail_on_option,
    file_options,
    format_option,
    log_options,
    redact_option,
    role_options,
    store_option,
)
from pcapdiag.cli.output import open_output
from pcapdiag.cli.pipes import reader_may_leave
from pcapdiag.cli.tell import plan_telling, tell, tell_options

if TYPE_CHECKING:
    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.nightly.scan.model import ScanSummary

FORMATS = ("text", "json", "jsonl")


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="PATH|URL...", type=click.Path())
@store_option("Where to remember")
@option(
    "-j",
    "--jobs",
    place=OptionPlace.ANY_FILE,
    type=click.IntRange(min=0),
    default=0,
    help="Processes that read at the same time; one per core if not given.",
)
@option(
    "--scheduler",
    default="",
    metavar="URL",
    help="Read on a Dask cluster instead: tcp://HOST:8786. Its workers must reach the captures.",
)
@option(
    "--split-size",
    default="1G",
    show_default=True,
    metavar="SIZE",
    help="Share a capture of SIZE or more among idle workers, each reading it for some of its connections; 0: never.",
)
@command_option("--since", default="", metavar="TIME", help="Only captures that end after TIME: 2026-11-20, 36h, 7d.")
@command_option("--until", default="", metavar="TIME", help="Only captures that begin before TIME.")
@option(
    "--settle",
    "settle_s",
    place=OptionPlace.ANY_FILE,
    type=click.FloatRange(min=0),
    default=0,
    metavar="SECONDS",
    help="Leave files for the next scan that were written to in the last SECONDS.",
)
@command_option(
    "--watch",
    "is_watch",
    is_flag=True,
    help="Record for days instead, as `pcapdiag watch` does: follow the folder, write incidents into --out.",
)
@command_option("--rescan", is_flag=True, help="Read files again that have not changed.")
@role_options
@log_options()
@code_options
@fail_on_option()
@command_option(
    "--fail-on-change",
    place=OptionPlace.ANY_FILE,
    is_flag=True,
    help="Exit code 1 only for findings that are new or worse.",
)
@command_option(
    "--exchanges",
    default="",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder for all exchanges as Parquet; STORE.exchanges beside the store if not given.",
)
@command_option("--no-exchanges", is_flag=True, help="Do not keep the exchanges.")
@command_option("--keep-days", type=click.FloatRange(min=0), default=0, metavar="N", help="Forget what is older.")
@command_option("--keep-size", default="", metavar="SIZE", help="Forget the oldest beyond SIZE (20G).")
@format_option(FORMATS, "The summary for people or for programs; the name after -o chooses, too.")
@tell_options
@redact_option
@file_options
@click.pass_context
@collect_inputs
def scan(
    ctx: click.Context,
    *,
    places: tuple[str, ...],
    store: str,
    jobs: int,
    scheduler: str,
    split_size: str,
    since: str,
    until: str,
    settle_s: float,
    is_watch: bool,
    rescan: bool,
    inputs: Inputs,
    fail_on: str,
    fail_on_change: bool,
    exchanges: str,
    no_exchanges: bool,
    keep_days: float,
    keep_size: str,
    format_: str,
    out: str,
    site_url: str,
    metrics: str,
    jsonl: str,
    notify_url_env: str,
    output: str,
    force: bool,
    quiet: bool,
) -> None:
    """Read what is new among many captures, remember it, and say what is new, worse or gone.

    PATH is a file, a folder (with all folders in it) or a glob, URL what fsspec knows (s3://bucket/captures). Files of
    one rotation series are read as one capture. What was read before is not read again; a run that was interrupted
    goes on where it was. Names of logs may hold %Y%m%d and so on for the days of each capture. Times and days are in
    UTC.

    \b
      pcapdiag scan /var/captures
      pcapdiag scan /var/captures --error-log '/var/log/nginx/%Y%m%d/error.log*' --settle 60
      pcapdiag scan s3://captures/proxy-1 --store postgresql://pcapdiag@db/pcapdiag --since 2d
      pcapdiag scan /var/captures --format json --fail-on-change
    """  # noqa: D301 - click reads the character \b
    if is_watch:
        _watch(ctx, places, out, format_)
    from pcapdiag.cli.scan_progress import ScanMeter  # noqa: PLC0415 - only a scan has one
    from pcapdiag.nightly.scan.logs import must_be_there  # noqa: PLC0415 - the same
    from pcapdiag.nightly.scan.model import ReadOptions, ScanOptions  # noqa: PLC0415 - the same
    from pcapdiag.nightly.scan.run import run_scan  # noqa: PLC0415 - the same
    from pcapdiag.nightly.store.database import default_store  # noqa: PLC0415 - the same
    from pcapdiag.nightly.store.prune import prune  # noqa: PLC0415 - the same
    from pcapdiag.nightly.store.store import Store  # noqa: PLC0415 - the same
    from pcapdiag.rules.diagnose import codes_matching  # noqa: PLC0415 - the engine loads when there is work

    read = ReadOptions(
        inputs,
        html=bool(out),
        exchanges=not no_exchanges,
        since_ns=_time_ns(since),
        until_ns=_time_ns(until),
    )
    codes_matching((*inputs.select, *inputs.ignore))  # a typing error is said now
    must_be_there(inputs)  # and so is this one
    telling = plan_telling(ctx, out=out, site_url=site_url, metrics=metrics, jsonl=jsonl, notify_url_env=notify_url_env)
    keep_bytes = _bytes(keep_size)
    split_bytes = 0 if split_size == "0" else _bytes(split_size)
    options = ScanOptions(
        places, read, jobs=jobs, scheduler=scheduler, settle_s=settle_s, rescan=rescan, split_bytes=split_bytes
    )
    with Store(store or default_store(), details=exchanges) as opened:
        with open_output(output, force=force) as file:
            with ScanMeter(quiet=quiet) as meter:
                summary = run_scan(opened, options, on_progress=meter.on_file)
            if keep_days or keep_bytes:
                prune(opened, keep_days=keep_days, keep_bytes=keep_bytes)
            from pcapdiag.nightly.scan.summary import render  # noqa: PLC0415 - with the rest

            with reader_may_leave():
                file.write(render(summary, format_).encode())
        # The summary is out by now, whatever becomes of the rest.
        tell(telling, opened, summary, quiet=quiet)
    ctx.exit(EXIT_FINDINGS if _fails(summary, fail_on, only_changes=fail_on_change) else 0)


def _watch(ctx: click.Context, places: tuple[str, ...], out: str, format_: str) -> NoReturn:
    """Run the flight recorder with the options that it shares with a scan."""
    from pcapdiag.cli.watch import watch  # noqa: PLC0415 - only who asks for it

    if len(places) > 1 or not out:
        msg = "--watch follows one folder and needs --out DIR for incidents; see pcapdiag watch -h"
        raise UsageError(msg)
    own = {parameter.name for parameter in watch.params}
    shared = {name: value for name, value in ctx.params.items() if name in own and name not in {"out", "format_"}}
    ctx.invoke(watch, place=places[0], out=out, format_="text" if format_ == "text" else "jsonl", **shared)
    raise AssertionError  # it leaves with its own exit code


def _fails(summary: ScanSummary, fail_on: str, *, only_changes: bool) -> bool:
    if fail_on == "never":
        return False
    from pcapdiag.base.findings import Severity  # noqa: PLC0415 - help needs none
    from pcapdiag.nightly.store.model import FindingState  # noqa: PLC0415 - the same

    changed = {FindingState.NEW, FindingState.WORSE}
    return any(
        finding.severity >= Severity[fail_on.upper()] and (not only_changes or finding.state in changed)
        for finding in summary.findings
    )


def _time_ns(text: str) -> int:
    """Return a time in ns: a date or time in ISO 8601 (UTC if it names no zone), or so long ago; -1 for none."""
    import re  # noqa: PLC0415 - help needs none
    import time  # noqa: PLC0415 - the same
    from datetime import UTC, datetime  # noqa: PLC0415 - the same

    if not text:
        return -1
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text):
        return time.time_ns() - int(float(ago[1]) * {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}[ago[2]] * 10**9)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is no time: write 2026-11-20, 2026-11-20T23:00+01:00, 90m, 36h, 7d or 2w"
        raise UsageError(msg) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 10**9)


def _bytes(text: str) -> int:
    """Return a size in bytes; 0 for none."""
    from pcapdiag.base.units import parse_size  # noqa: PLC0415 - help needs none

    if not text:
        return 0
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(str(error)) from error
