"""``pcapdiag analyze`` without a capture: what logs and a configuration tell, and the capture that decides the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.base.findings import Severity
from pcapdiag.cli.output import STDOUT, open_output, terminal_form
from pcapdiag.cli.pipes import reader_may_leave

if TYPE_CHECKING:
    from pcapdiag.analysis.inputs import Inputs

FORMATS = ("terminal", "markdown", "json")


class TriageOutput(NamedTuple):
    """As what it is written."""

    format_: str
    width: int | None
    color: str
    is_whole: bool
    is_one_line: bool


def must_fit(ctx: click.Context, inputs: Inputs, format_: str, bundle: str) -> None:
    """Raise `UsageError` where nothing was given that can be read, or what was asked for takes a capture."""
    if not (inputs.error_logs or inputs.access_logs or inputs.proxy_conf):
        msg = "Missing argument 'CAPTURE...'; without a capture, give --error-log, --access-log or --proxy-conf."
        raise click.UsageError(msg, ctx)
    if format_ not in FORMATS:
        msg = f"{format_} takes a CAPTURE; without one there are {', '.join(FORMATS)}"
        raise UsageError(msg)
    if bundle:
        msg = "--bundle holds the packets that prove the findings: it takes a CAPTURE"
        raise UsageError(msg)


def write_triage(inputs: Inputs, look: TriageOutput, output: str, *, force: bool) -> Severity | None:
    """Write what can be said without a capture, and return how severe it is; None where nothing is.

    Parameters
    ----------
    inputs : Inputs
        Logs and configuration.
    look : TriageOutput
        As what.
    output : str
        ``-`` is stdout.
    force : bool
        Whether an existing file is replaced.

    Returns
    -------
    Severity or None
        WARNING for failures in the logs, INFO for timers that are known to be at odds.
    """
    with open_output(output, force=force) as file:
        from pcapdiag.api.triage import triage_inputs  # noqa: PLC0415 - help must not wait for it
        from pcapdiag.report.render.blocks import WIDTH  # noqa: PLC0415
        from pcapdiag.report.triage import render, words  # noqa: PLC0415

        result = triage_inputs(inputs)
        if look.format_ == "json":
            text = render.render_json(result.triage, result.tool, result.inputs)
        elif look.format_ == "markdown":
            text = render.render_markdown(result.triage)
        elif look.is_one_line:
            from pcapdiag.privacy.escape import visible  # noqa: PLC0415

            text = f"{visible(words.headline(result.triage))}\n"
        else:
            width, color = terminal_form(look.width, WIDTH, look.color, to_stdout=output == STDOUT)
            text = render.render_terminal(result.triage, is_whole=look.is_whole, width=width, color=color)
        with reader_may_leave():
            file.write(text.encode())
    if result.triage.failures:
        return Severity.WARNING
    return Severity.INFO if result.triage.timers else None
