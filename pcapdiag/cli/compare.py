"""``pcapdiag compare``: before and after a change, and whether it helped."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from pcapdiag.cli.options import file_options, role_options, width_option
from pcapdiag.cli.output import STDOUT, open_output
from pcapdiag.cli.progress import ProgressMeter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.compare.model import Comparison

EXIT_EXPOSED = 1


@click.command()
@click.argument("before", type=click.Path())
@click.argument("after", type=click.Path())
@role_options
@click.option(
    "--format",
    "format_",
    type=click.Choice(["terminal", "markdown", "jira", "json"]),
    default="terminal",
    show_default=True,
    envvar="PCAPDIAG_COMPARE_FORMAT",
    show_envvar=True,
    help="For people at a terminal, for a ticket, or for programs.",
)
@click.option("--as-one", is_flag=True, help="Compare all upstreams together: their addresses changed in between.")
@click.option(
    "--fail-on",
    type=click.Choice(["exposed", "undecided", "never"]),
    default="exposed",
    show_default=True,
    envvar="PCAPDIAG_COMPARE_FAIL_ON",
    show_envvar=True,
    help="What makes the exit code 1: trouble after the change, or also that nobody can tell.",
)
@width_option
@file_options
@click.pass_context
def compare(
    ctx: click.Context,
    *,
    before: str,
    after: str,
    proxies: tuple[str, ...],
    upstreams: tuple[str, ...],
    format_: str,
    as_one: bool,
    fail_on: str,
    width: int | None,
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
      pcapdiag compare monday.json tuesday.pcap --format markdown -o change.md
    """  # noqa: D301 - click reads the character \b
    with open_output(output, force=force) as file:
        sides = [_report(path, proxies, upstreams, quiet=quiet) for path in (before, after)]
        from pcapdiag.api import compare_reports  # noqa: PLC0415 - help must not wait for it

        comparison = compare_reports(*sides, as_one=as_one)
        file.write(_render(comparison, format_, width=width, to_stdout=output == STDOUT).encode())
    ctx.exit(EXIT_EXPOSED if _fails(comparison, fail_on) else 0)


def _report(path: str, proxies: Sequence[str], upstreams: Sequence[str], *, quiet: bool) -> dict[str, Any]:
    from pcapdiag.compare.side import is_json_report, load_report  # noqa: PLC0415 - help must not wait for it

    if is_json_report(path):
        return load_report(path)
    from pcapdiag.api import analyze  # noqa: PLC0415 - a JSON report needs no engine

    with ProgressMeter(quiet=quiet) as meter:
        result = analyze(
            path,
            proxies=proxies,
            upstreams=upstreams,
            on_progress=meter.on_progress,
            on_compile=meter.announce_compilation,
        )
    return result.to_json()


def _fails(comparison: Comparison, fail_on: str) -> bool:
    from pcapdiag.compare.model import Outcome  # noqa: PLC0415

    if fail_on == "never":
        return False
    return comparison.outcome >= (Outcome.CANNOT_TELL if fail_on == "undecided" else Outcome.STILL_EXPOSED)


def _render(comparison: Comparison, format_: str, *, width: int | None, to_stdout: bool) -> str:
    from pcapdiag.compare import render  # noqa: PLC0415

    if format_ == "json":
        return render.render_json(comparison)
    if format_ == "markdown":
        from pcapdiag.report import markdown  # noqa: PLC0415

        return markdown.render_blocks(render.build_blocks(comparison))
    if format_ == "jira":
        from pcapdiag.report import jira  # noqa: PLC0415

        return jira.render_wiki(render.build_blocks(comparison))
    from pcapdiag.compare import terminal  # noqa: PLC0415 - rich loads only here

    is_tty = to_stdout and sys.stdout.isatty()
    if width is None:
        width = shutil.get_terminal_size((terminal.WIDTH, 24)).columns if is_tty else terminal.WIDTH
    color = is_tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return terminal.render(comparison, width=width, color=color)
