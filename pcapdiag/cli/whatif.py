"""``pcapdiag whatif``: what other settings would have done, on the captured traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.cli.declare import command_option
from pcapdiag.cli.options import (
    anonymize_option,
    collect_inputs,
    color_option,
    far_end_option,
    file_options,
    format_option,
    log_options,
    role_options,
    width_option,
)
from pcapdiag.cli.output import STDOUT, open_output, terminal_form
from pcapdiag.cli.progress import ProgressMeter

if TYPE_CHECKING:
    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.api.whatif import WhatIfResult


@click.command()
@click.argument("captures", nargs=-1, metavar="[CAPTURE]...", type=click.Path())
@role_options
@log_options()
@far_end_option
@command_option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of one scenario; repeat for several."
)
@command_option(
    "--case", "cases", multiple=True, metavar="'KEY=VALUE ...'", help="A scenario of its own; repeat for several."
)
@command_option("--sweep", default="", metavar="KEY=FROM:TO:STEP", help="A scenario for each value of one setting.")
@command_option("--recommend", is_flag=True, help="Look for the settings that lose nothing at the least cost.")
@command_option(
    "--upstream-idle",
    default="",
    metavar="TIME|SERVER",
    help="Without CAPTURE: after which idle time the upstreams close, or the name of their server.",
)
@command_option(
    "--seed", type=click.IntRange(min=0), default=None, help="Of the draws: the same seed, the same numbers."
)
@format_option(
    ("terminal", "markdown", "html", "json"),
    "For people at a terminal, for a ticket, as a page, or for programs; the name after -o chooses, too.",
)
@width_option
@color_option
@anonymize_option
@file_options
@collect_inputs
def whatif(
    *,
    captures: tuple[str, ...],
    inputs: Inputs,
    settings: tuple[str, ...],
    cases: tuple[str, ...],
    sweep: str,
    recommend: bool,
    upstream_idle: str,
    seed: int | None,
    format_: str,
    width: int | None,
    color: str,
    output: str,
    force: bool,
    quiet: bool,
) -> None:
    """Say what other settings would have done: failures, retries, connections.

    The requests of the capture, or of the access log, are replayed under each scenario. What was observed stands beside
    the replay of the captured settings: where they disagree, nothing is predicted. docs/whatif.md lists the keys.

    \b
      pcapdiag whatif proxy.pcap --access-log access.log --proxy-conf nginx.conf --recommend
      pcapdiag whatif proxy.pcap ... --set proxy.keepalive_timeout=3s
      pcapdiag whatif proxy.pcap ... --case max_fails=0 --case 'max_fails=0 next_upstream=error,timeout,non_idempotent'
      pcapdiag whatif proxy.pcap ... --sweep proxy.keepalive_timeout=1s:10s:500ms -o whatif.html
      pcapdiag whatif --access-log access.log --proxy-conf nginx.conf --upstream-idle 5s
    """  # noqa: D301 - click reads the character \b
    if not captures and not (inputs.access_logs and inputs.proxy_conf and upstream_idle):
        msg = "give a CAPTURE; or, without one, --access-log, --proxy-conf and --upstream-idle"
        raise UsageError(msg)
    if not captures and inputs.upstream_captures:
        msg = "--upstream-capture goes with the proxy's own CAPTURE; a forecast reads none"
        raise UsageError(msg)
    if captures and upstream_idle:
        msg = "--upstream-idle is for a forecast without CAPTURE; with one, --set upstream.keepalive_timeout=TIME"
        raise UsageError(msg)
    asked = ((" ".join(settings),) if settings else ()) + cases
    with open_output(output, force=force) as file:
        from pcapdiag.api.whatif import forecast, whatif_captures  # noqa: PLC0415 - help must not wait for it

        if captures:
            with ProgressMeter(quiet=quiet, captures=(*captures, *inputs.upstream_captures)) as meter:
                result = whatif_captures(
                    captures,
                    inputs,
                    cases=asked,
                    sweep=sweep,
                    recommend=recommend,
                    seed=seed,
                    on_progress=meter.on_progress,
                    on_scenario=meter.on_count,
                )
        else:
            with ProgressMeter(quiet=quiet) as meter:
                result = forecast(
                    inputs,
                    upstream_idle,
                    cases=asked,
                    sweep=sweep,
                    recommend=recommend,
                    seed=seed,
                    on_scenario=meter.on_count,
                )
        file.write(_render(result, format_, look=(width, color), to_stdout=output == STDOUT).encode())
    if output != STDOUT and not quiet:
        click.echo(f"pcapdiag: {_told(output, result)}", err=True)


def _told(output: str, result: WhatIfResult) -> str:
    """Say where the answer was written, and what it is."""
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - help needs no unicodedata
    from pcapdiag.report.whatif.words import headline  # noqa: PLC0415 - help must not wait for it

    return visible(f"{output} is written: {headline(result.answer)}")


def _render(result: WhatIfResult, format_: str, *, look: tuple[int | None, str], to_stdout: bool) -> str:
    if format_ == "json":
        from pcapdiag.report.whatif.json import render_json  # noqa: PLC0415

        return render_json(result.answer, result.tool, result.inputs)
    from pcapdiag.report.render.blocks import WIDTH  # noqa: PLC0415
    from pcapdiag.report.whatif import render  # noqa: PLC0415

    if format_ == "markdown":
        return render.render_markdown(result.answer)
    if format_ == "html":
        return render.render_html(result.answer, result.tool)
    width, color = terminal_form(look[0], WIDTH, look[1], to_stdout=to_stdout)
    return render.render_terminal(result.answer, width=width, color=color)
