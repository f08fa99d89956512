"""``pcapdiag slice``: the packets that prove the findings, fit to be handed on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.cli.declare import OptionPlace, command_option
from pcapdiag.cli.options import (
    all_option,
    anonymize_option,
    captures_argument,
    code_option,
    collect_inputs,
    file_options,
    log_options,
    role_options,
)
from pcapdiag.cli.output import STDOUT, open_output
from pcapdiag.cli.progress import ProgressMeter

if TYPE_CHECKING:
    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.ticket.evidence.write import EvidenceSummary

_MOST_MASKED = 12


@click.command
@captures_argument
@code_option("Prove only this finding (PD101, PD2); repeat.")
@command_option(
    "--connection", "connections", multiple=True, metavar="UID", help="Keep this connection, whole; repeat for several."
)
@command_option(
    "--frame",
    "frames",
    multiple=True,
    metavar="[FILE:]N",
    help="Keep this frame with its connection; repeat for several.",
)
@command_option(
    "--idle-closes",
    type=click.IntRange(0, 1000),
    default=5,
    show_default=True,
    metavar="N",
    help="Of each upstream, keep so many connections that nothing was lost on, closed while idle: they show T.",
)
@command_option("--keep-bodies", is_flag=True, help="Keep the bodies of HTTP messages.")
@command_option(
    "--no-redact",
    place=OptionPlace.LINE,
    is_flag=True,
    help="Leave every byte as captured: credentials, bodies, what TLS has encrypted.",
)
@all_option
@anonymize_option
@role_options
@log_options()
@file_options
@collect_inputs
def slice(  # noqa: A001 - commands are found by their name
    *,
    captures: tuple[str, ...],
    codes: tuple[str, ...],
    connections: tuple[str, ...],
    frames: tuple[str, ...],
    idle_closes: int,
    keep_bodies: bool,
    inputs: Inputs,
    output: str,
    force: bool,
    quiet: bool,
) -> None:
    """Write the packets that prove the findings as a pcapng with comments, without secrets.

    Kept are the connections of every finding, and of each upstream some that were closed while idle (--idle-closes):
    they show its idle timeout T, and say so in a comment. A connection of up to 2,000 frames is kept whole; of a longer
    one the last two exchanges before each loss, its key frames, and the closing. Each key frame has a comment that says
    what it proves (display filter: frame.comment), and every frame its original number (frame.packet_id). Of payloads
    only HTTP heads and the headers of TLS records are kept. Masked in the heads, byte for byte, are credentials,
    cookies, query values and every field that is not known to be harmless. Checksums are made to agree.

    \b
      pcapdiag slice proxy.pcap -o evidence.pcapng
      pcapdiag slice proxy.pcap --code PD101 -o - | tshark -r - -Y frame.comment
      pcapdiag slice proxy.pcap --frame 6123 -o around.pcapng
    """  # noqa: D301 - click reads the character \b
    if output == STDOUT and sys.stdout.isatty():
        msg = "a capture is binary: name a file with -o"
        raise UsageError(msg)
    with open_output(output, force=force) as file:
        from pcapdiag.analysis.endpoints import check_endpoints  # noqa: PLC0415 - the engine loads when there is work
        from pcapdiag.api.analyze import analyze_captures  # noqa: PLC0415 - the engine loads when there is work
        from pcapdiag.engine.capture.series import group_captures  # noqa: PLC0415
        from pcapdiag.rules.diagnose import codes_matching  # noqa: PLC0415
        from pcapdiag.ticket.evidence.spool import reject_pipes  # noqa: PLC0415

        codes_matching(codes)  # said now, not after a long read
        reject_pipes(group_captures(list(captures)))  # and so is this
        with ProgressMeter(quiet=quiet) as meter:
            result = analyze_captures(captures, inputs, on_progress=meter.on_progress)
            check_endpoints(result.analysis, inputs)
            summary = result.write_evidence(
                file,
                codes=codes,
                connections=connections,
                frames=frames,
                keep_bodies=keep_bodies,
                n_samples=idle_closes,
                on_progress=meter.on_progress,
            )
    if not quiet:
        for line in _remarks(summary):
            click.echo(f"pcapdiag: {line}", err=True)


def _remarks(summary: EvidenceSummary) -> list[str]:
    """Return what to tell about what was written."""
    from pcapdiag.base.units import count_of  # noqa: PLC0415
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - help needs no unicodedata

    n_key = sum(frame.is_key for frame in summary.frames)
    kept = f"{count_of(len(summary.frames), 'frame')} of {count_of(summary.connections, 'connection')}"
    proved = f", {n_key:,} with a comment ({', '.join(summary.codes)})" if n_key else ""
    lines = [f"{kept}{proved}; report {summary.identifier}"]
    if summary.showing:
        n_lost = count_of(summary.lost, "connection")
        lines.append(f"{n_lost} with what was found, {summary.showing:,} that nothing was lost on, to show T")
    if not summary.frames:
        lines = ["nothing was found, so there is nothing to prove; --connection or --frame keep what you name"]
    if summary.parts:
        lines.append(f"a part only: {', '.join(map(str, summary.parts))}; the others are like them (--all keeps each)")
    if summary.left_out:
        lines.append(f"{count_of(summary.left_out, 'frame')} of very long connections left out")
    if not summary.redacted:
        lines.append("NOT REDACTED: it holds every byte as captured")
    masked = [f"{m.count:,} x {m.kind} {visible(m.name)}".rstrip() for m in summary.masked]
    if masked:
        more = f", and {len(masked) - _MOST_MASKED:,} more" if len(masked) > _MOST_MASKED else ""
        lines.append(f"masked: {', '.join(masked[:_MOST_MASKED])}{more}")
    return lines
