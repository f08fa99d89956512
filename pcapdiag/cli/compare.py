"""``pcapdiag compare``: before and after a change, and whether it helped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pcapdiag.cli.choices import Choice
from pcapdiag.cli.declare import OptionPlace, command_option
from pcapdiag.cli.options import (
    collect_inputs,
    color_option,
    file_options,
    format_option,
    role_options,
    width_option,
)
from pcapdiag.cli.output import STDOUT, open_output, terminal_form
from pcapdiag.cli.pipes import reader_may_leave
from pcapdiag.cli.progress import ProgressMeter

if TYPE_CHECKING:
    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.report.compare.model import Comparison

EXIT_EXPOSED = 1


@click.command()
@click.argument("before", type=click.Path())
@click.argument("after", type=click.Path())
@role_options
@format_option(
    ("terminal", "markdown", "jira", "json"),
    "For people at a terminal, for a ticket, or for programs; the name after -o chooses, too.",
)
@command_option("--as-one", is_flag=True, help="Compare all upstreams together: their addresses changed in between.")
@command_option(
    "--fail-on",
    place=OptionPlace.ANY_FILE,
    type=Choice(["exposed", "undecided", "never"]),
    default="exposed",
    show_default=True,
    help="What makes the exit code 1: trouble after the change, or also that nobody can tell.",
)
@width_option
@color_option
@file_options
@click.pass_context
@collect_inputs
def compare(
    ctx: click.Context,
    *,
    before: str,
    after: str,
    inputs: Inputs,
    format_: str,
    as_one: bool,
    fail_on: str,
    width: int | None,
    color: str,
    output: str,
    force: bool,
    quiet: bool,
) -> None:
    """Say what a change did: fixed, still exposed, not exposed, or cannot tell.

    BEFORE and AFTER are each a capture (a file, a folder or a glob, as for analyze) or a JSON report that analyze
    wrote; where logs matter, compare JSON reports. Exit code 0: nothing is exposed after the change; 1: something still
    or newly is; 2: it could not be done.

    \b
      pcapdiag compare monday.pcap tuesday.pcap
      pcapdiag compare monday.json tuesday.pcap -o change.md
    """  # noqa: D301 - click reads the character \b
    with open_output(output, force=force) as file:
        from pcapdiag.report.compare.side import is_json_report, load_report  # noqa: PLC0415 - the same

        # Both are looked at before either is read: a mistyped AFTER is said at once.
        reports = {path: load_report(path) for path in (before, after) if is_json_report(path)}
        for path in (before, after):
            if path not in reports:
                _must_be_capture(path)
        sides = [reports.get(path) or _report(path, inputs, quiet=quiet) for path in (before, after)]
        from pcapdiag.api.analyze import compare_reports  # noqa: PLC0415 - help must not wait for it

        comparison = compare_reports(*sides, as_one=as_one)
        with reader_may_leave():
            file.write(_render(comparison, format_, look=(width, color), to_stdout=output == STDOUT).encode())
    ctx.exit(EXIT_EXPOSED if _fails(comparison, fail_on) else 0)


def _must_be_capture(path: str) -> None:
    from pcapdiag.engine.capture.series import group_captures  # noqa: PLC0415 - a JSON report needs no engine

    group_captures([path])


def _report(path: str, inputs: Inputs, *, quiet: bool) -> dict[str, Any]:
    from pcapdiag.api.analyze import analyze_captures  # noqa: PLC0415 - a JSON report needs no engine

    with ProgressMeter(quiet=quiet, captures=[path]) as meter:
        result = analyze_captures([path], inputs, on_progress=meter.on_progress)
    return result.to_json()


def _fails(comparison: Comparison, fail_on: str) -> bool:
    from pcapdiag.report.compare.model import Judgement  # noqa: PLC0415

    if fail_on == "never":
        return False
    return comparison.outcome >= (Judgement.CANNOT_TELL if fail_on == "undecided" else Judgement.STILL_EXPOSED)


def _render(comparison: Comparison, format_: str, *, look: tuple[int | None, str], to_stdout: bool) -> str:
    from pcapdiag.report.compare import render  # noqa: PLC0415

    if format_ == "json":
        return render.render_json(comparison)
    if format_ == "markdown":
        from pcapdiag.report.render import markdown  # noqa: PLC0415

        return markdown.render_blocks(render.build_blocks(comparison))
    if format_ == "jira":
        from pcapdiag.report.render import jira  # noqa: PLC0415

        return jira.render_wiki(render.build_blocks(comparison))
    from pcapdiag.report.compare import terminal  # noqa: PLC0415 - rich loads only here
    from pcapdiag.report.render import blocks  # noqa: PLC0415

    width, color = terminal_form(look[0], blocks.WIDTH, look[1], to_stdout=to_stdout)
    return terminal.render(comparison, width=width, color=color)
