"""``pcapdiag analyze``: why requests failed, and the proof."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.base.outfile import open_file
from pcapdiag.cli.choices import Choice
from pcapdiag.cli.declare import OptionPlace, command_option
from pcapdiag.cli.delivery import FORMATS, TABLES, Form, open_delivery
from pcapdiag.cli.options import (
    EXIT_FINDINGS,
    all_option,
    anonymize_option,
    code_options,
    collect_inputs,
    color_option,
    fail_on_option,
    far_end_option,
    file_options,
    format_option,
    hash_option,
    keys_option,
    log_options,
    redact_option,
    role_options,
    show_option,
    verbose_option,
    width_option,
)
from pcapdiag.cli.output import STDOUT
from pcapdiag.cli.pipes import reader_may_leave
from pcapdiag.cli.progress import ProgressMeter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.base.findings import Severity


@click.command()
@click.argument("captures", nargs=-1, metavar="[CAPTURE]...", type=click.Path())
@role_options
@log_options()
@far_end_option
@keys_option
@format_option(
    FORMATS,
    "For people at a terminal, for a ticket (GitHub and GitLab, Jira, Slack), for programs, as tables, all in one ZIP,"
    " or for pipelines (code scanning, test reports, GitHub Actions); the name after -o chooses, too.",
    variable="FORMAT",
)
@command_option(
    "--table",
    place=OptionPlace.ANY_FILE,
    type=Choice(TABLES),
    default=TABLES[0],
    show_default=True,
    help="With csv or parquet into one file: which table. A folder gets all.",
)
@code_options
@fail_on_option()
@width_option
@verbose_option
@show_option
@color_option
@command_option(
    "--follow",
    "follow_s",
    type=click.FloatRange(min=0),
    default=0,
    metavar="SECONDS",
    help="For a file that still grows: read until nothing was added for so long.",
)
@command_option(
    "--bundle",
    default="",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Also write FILE.zip for a ticket: report.html, .md and .json, evidence, charts and hashes.",
)
@all_option
@hash_option
@anonymize_option
@file_options
@redact_option
@click.pass_context
@collect_inputs
def analyze(
    ctx: click.Context,
    *,
    captures: tuple[str, ...],
    inputs: Inputs,
    format_: str,
    table: str,
    fail_on: str,
    width: int | None,
    verbose: bool,
    show: tuple[str, ...],
    color: str,
    bundle: str,
    output: str,
    force: bool,
    quiet: bool,
) -> None:
    """Say why requests failed, and prove it.

    CAPTURE is a file (pcap or pcapng, plain or compressed), a folder, a glob, or - for standard input. The files of
    one rotation series are read as one capture. Without CAPTURE, logs and configuration tell what is logged, what may
    be behind it, and how to capture what decides it.

    \b
      pcapdiag analyze proxy.pcap
      pcapdiag analyze proxy.pcap -o report.html                  one page; .md, .json, .csv, .parquet and .zip, too
      pcapdiag analyze proxy.pcap --format markdown -o report/    report.md and its charts
      pcapdiag analyze proxy.pcap --format csv -o tables/         findings, occurrences, exchanges
      pcapdiag analyze proxy.pcap --proxy-conf nginx.conf -o pcapdiag.sarif     code scanning; junit and github, too
      pcapdiag analyze proxy.pcap --bundle incident.zip
      pcapdiag analyze proxy.pcap --error-log error.log --access-log access.log --proxy-conf nginx.conf
      pcapdiag analyze proxy.pcap --upstream-capture upstream1.pcap --upstream-capture upstream2.pcap
      pcapdiag analyze --error-log error.log --proxy-conf nginx.conf            before there is a capture
      tcpdump -i eth0 -c 100000 -w - tcp port 8080 | pcapdiag analyze -
    """  # noqa: D301 - click reads the character \b
    failing = _at_or_above(fail_on)
    if not captures:
        from pcapdiag.cli.triage import TriageOutput, must_fit, write_triage  # noqa: PLC0415 - help must not wait for it

        must_fit(ctx, inputs, format_, bundle)
        look = TriageOutput(format_, width, color, is_whole=verbose, is_one_line=quiet and output == STDOUT)
        ctx.exit(EXIT_FINDINGS if write_triage(inputs, look, output, force=force) in failing else 0)
    is_one_line = quiet and output == STDOUT and not (verbose or show)
    form = Form(format_, table, width, color, failing, show=None if verbose else show, is_one_line=is_one_line)
    if form.is_table:
        inputs = replace(inputs, judge_all=True)
    with (
        open_delivery(form, output, force=force) as deliver,
        _open_bundle(bundle, output, force=force) as bundle_file,
    ):
        from pcapdiag.analysis.endpoints import check_endpoints  # noqa: PLC0415 - the same
        from pcapdiag.api.analyze import analyze_captures  # noqa: PLC0415 - the engine loads when there is work

        if bundle or form.is_bundle:
            _reject_pipes((*captures, *inputs.upstream_captures))
            inputs = replace(inputs, with_hashes=True)
        with ProgressMeter(quiet=quiet, captures=(*captures, *inputs.upstream_captures)) as meter:
            result = analyze_captures(captures, inputs, on_progress=meter.on_progress)
        check_endpoints(result.analysis, inputs)
        with reader_may_leave():
            deliver(result)
        if bundle_file is not None:
            with ProgressMeter(quiet=quiet) as meter:
                result.write_bundle(bundle_file, on_progress=meter.on_progress)
    ctx.exit(EXIT_FINDINGS if any(f.severity in failing for f in result.report.findings) else 0)


def _open_bundle(path: str, output: str, *, force: bool) -> AbstractContextManager[IO[bytes] | None]:
    """Open the bundle before the work begins, as the report's own file."""
    if not path:
        return nullcontext()
    if path == STDOUT:
        msg = "stdout is for the report; give --bundle the name of a file"
        raise UsageError(msg)
    if Path(path).resolve() == Path(output).resolve():
        msg = f"-o and --bundle cannot both write {path}; give one of them another name"
        raise UsageError(msg)
    return open_file(path, force=force)


def _reject_pipes(captures: Sequence[str]) -> None:
    """Say now, not after a long read, that the evidence needs the captures twice."""
    from pcapdiag.engine.capture.series import group_captures  # noqa: PLC0415 - only a bundle needs it
    from pcapdiag.ticket.evidence.spool import reject_pipes  # noqa: PLC0415 - the same

    reject_pipes(group_captures(list(captures)))


def _at_or_above(fail_on: str) -> frozenset[Severity]:
    from pcapdiag.base.findings import Severity  # noqa: PLC0415 - help needs none

    if fail_on == "never":
        return frozenset()
    return frozenset(severity for severity in Severity if severity >= Severity[fail_on.upper()])
