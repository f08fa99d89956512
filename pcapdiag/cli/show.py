"""``pcapdiag show``: the tables behind the verdict."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.cli.choices import Choice
from pcapdiag.cli.options import (
    captures_argument,
    collect_inputs,
    file_options,
    format_option,
    redact_option,
    role_options,
)
from pcapdiag.cli.output import STDOUT, open_output
from pcapdiag.cli.progress import ProgressMeter

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.engine.capture.batch import Capture

# What a person wants to see of each table within some 120 columns; the other formats show all columns.
_FOR_PEOPLE = {
    "frames": ("frame", "ts", "kind", "src", "dst", "flags", "seq", "ack", "payload_len", "undecoded_reason"),
    "segments": ("frame", "ts", "conn", "src", "dst", "flags", "seq", "ack", "payload_len", "fate"),
    "connections": (
        *("conn", "first_ts", "orig", "resp", "n_exchanges", "n_unanswered", "idle_at_close_ns"),
        *("conn_state", "conn_state_words"),
    ),
    "exchanges": (
        *("request_frame", "request_ts", "orig", "resp", "depth", "idle_before_ns", "method", "target"),
        *("status_code", "outcome", "first_byte_ns", "duration_ns"),
    ),
    "closings": (
        *("closing_frame", "closing_ts", "orig", "resp", "first_closer", "closing_kind", "idle_at_close_ns"),
        *("n_exchanges", "n_unanswered", "open_exchange"),
    ),
}


@click.command()
@click.argument("table", type=Choice(list(_FOR_PEOPLE)))
@captures_argument
@role_options
@format_option(
    ("table", "csv", "json", "parquet"),
    "Some columns for people, or all columns, exact to the nanosecond; the name after -o chooses, too.",
    variable="SHOW_FORMAT",
)
@click.option("--where", metavar="EXPR", help="Only rows for which EXPR is true.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N rows.")
@file_options
@redact_option
@collect_inputs
def show(
    *,
    table: str,
    captures: tuple[str, ...],
    inputs: Inputs,
    format_: str,
    where: str | None,
    limit: int | None,
    output: str,
    force: bool,
    quiet: bool,
) -> None:
    """Print frames, segments, connections, exchanges or closings.

    Frames are numbered from 1 within their file, as in Wireshark. No index and no time are -1. EXPR compares columns
    with numbers and strings, as in Python: == != < <= > >= in, and or not, + - * / // %.

    \b
      pcapdiag show exchanges proxy.pcap --format csv
      pcapdiag show exchanges proxy.pcap --where 'outcome == "unanswered" and idle_before_ns > 3.8e9'
      pcapdiag show closings proxy.pcap --where 'first_closer == "resp"'
      pcapdiag show frames proxy.pcap --where 'kind == "undecoded"' --format json
    """  # noqa: D301 - click reads the character \b
    if format_ == "parquet" and output == STDOUT and sys.stdout.isatty():
        msg = "Parquet is binary: name a file with -o"
        raise UsageError(msg)
    with open_output(output, force=force) as file, ProgressMeter(quiet=quiet, captures=captures) as meter:
        from pcapdiag.engine.capture.series import group_captures  # noqa: PLC0415 - help must not wait for the engine

        grouped = group_captures(list(captures))
        chunks = _frames(grouped, inputs, meter) if table == "frames" else _tables(table, grouped, inputs, meter)
        _write(chunks, table, format_, file, where, limit)


def _write(
    chunks: Iterator[pd.DataFrame], table: str, format_: str, file: IO[bytes], where: str | None, limit: int | None
) -> None:
    from pcapdiag.cli.where import Where  # noqa: PLC0415 - numpy
    from pcapdiag.cli.writers import limited, open_writer  # noqa: PLC0415 - pandas

    if where is not None:
        condition = Where(where)
        chunks = (condition.select(chunk) for chunk in chunks)
    writer = open_writer(format_, file, _FOR_PEOPLE[table])
    for chunk in limited(chunks, limit):
        writer.write(chunk)
    writer.close()


def _frames(captures: list[Capture], inputs: Inputs, meter: ProgressMeter) -> Iterator[pd.DataFrame]:
    from pcapdiag.engine.capture.reader import read_batches  # noqa: PLC0415
    from pcapdiag.report.frame_numbers import FrameNumbers  # noqa: PLC0415
    from pcapdiag.report.tables import frames_frame  # noqa: PLC0415

    n_frames = 0
    numbers = FrameNumbers(captures, redact=inputs.redact)
    for idx, capture in enumerate(captures):
        for batch in read_batches(capture):
            n_frames += len(batch.frames)
            meter.on_progress(batch.bytes_read, sum(f.size for f in capture.files), n_frames)
            yield frames_frame(batch.frames, idx, numbers)


def _tables(table: str, captures: list[Capture], inputs: Inputs, meter: ProgressMeter) -> Iterator[pd.DataFrame]:
    from pcapdiag.analysis.build import build_analysis  # noqa: PLC0415
    from pcapdiag.base.columns import SEGMENTS  # noqa: PLC0415
    from pcapdiag.base.tables import RowStore  # noqa: PLC0415
    from pcapdiag.report.tables import TableBuilder  # noqa: PLC0415

    segments = RowStore(SEGMENTS)
    analysis = build_analysis(
        captures,
        inputs,
        on_progress=meter.on_progress,
        segment_sink=(lambda part: segments.append(part.rows)) if table == "segments" else None,
        keep_all=True,
    )
    tables = TableBuilder(analysis, redact=inputs.redact)
    if table == "segments":
        yield from tables.segments(segments.table())
    elif table == "exchanges":
        yield from tables.exchanges()
    else:
        yield tables.connections() if table == "connections" else tables.closings()
