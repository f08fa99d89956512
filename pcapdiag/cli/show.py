"""``pcapdiag show``: the tables behind the verdict."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.cli.choices import Choice
from pcapdiag.cli.declare import OptionPlace, command_option
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
    from pcapdiag.cli.rows import RowSelection
    from pcapdiag.engine.capture.batch import Capture

# What a person wants to see of each table within some 120 columns; the other formats show all columns.
FOR_PEOPLE = {
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


def _complete_columns(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from pcapdiag.report.table_columns import TABLES  # noqa: PLC0415 - help needs none

    before, comma, last = incomplete.rpartition(",")
    # Behind an option that waits for its value click has told no arguments apart yet.
    columns = next((TABLES[word] for word in ctx.args if word in TABLES), {})
    return [f"{before}{comma}{name}" for name in columns if name.startswith(last)]


@click.command()
@click.argument("table", type=Choice(list(FOR_PEOPLE)))
@captures_argument
@role_options
@format_option(
    ("table", "csv", "json", "parquet"),
    "Some columns for people, or all columns, exact to the nanosecond; the name after -o chooses, too.",
)
@command_option("--where", metavar="EXPR", default="", help="Only rows for which EXPR is true.")
@command_option(
    "--columns",
    metavar="COLUMNS",
    default="",
    shell_complete=_complete_columns,
    help="Only these columns, in this order (resp,idle_before,outcome); docs/tables.md has all.",
)
@command_option(
    "--sort",
    metavar="[-]COLUMN",
    default="",
    shell_complete=_complete_columns,
    help="By this column, with - the greatest first, what is missing last. Nothing is printed before all is read, and"
    " all rows are held in memory; with --limit only as many as are printed.",
)
@command_option("--limit", place=OptionPlace.ANY_FILE, type=click.IntRange(min=0), metavar="N", help="At most N rows.")
@file_options
@redact_option
@collect_inputs
def show(
    *,
    table: str,
    captures: tuple[str, ...],
    inputs: Inputs,
    format_: str,
    where: str,
    columns: str,
    sort: str,
    limit: int | None,
    output: str,
    force: bool,
    quiet: bool,
) -> None:
    """Print frames, segments, connections, exchanges or closings.

    Frames are numbered from 1 within their file, as in Wireshark. What is missing is empty in table and CSV, and -1 in
    JSON, Parquet and EXPR. EXPR compares columns with numbers, durations (60s, 1.5ms) and strings, as in Python:
    == != < <= > >= in, and or not, + - * / // %. Of columns that end in _ns the end may be left out. --upstream shows
    only what went to it, of frames and segments also what came from it.

    \b
      pcapdiag show exchanges proxy.pcap --format csv
      pcapdiag show exchanges proxy.pcap --where 'outcome == "unanswered" and idle_before > 3.8s'
      pcapdiag show exchanges proxy.pcap --upstream 10.0.0.7:8080 --sort -idle_before --limit 20
      pcapdiag show connections proxy.pcap --columns resp,orig,server,n_exchanges
      pcapdiag show closings proxy.pcap --where 'first_closer == "resp"'
      pcapdiag show frames proxy.pcap --where 'kind == "undecoded"' --format json
    """  # noqa: D301 - click reads the character \b
    if format_ == "parquet" and output == STDOUT and sys.stdout.isatty():
        msg = "Parquet is binary: name a file with -o"
        raise UsageError(msg)
    from pcapdiag.cli.rows import RowSelection  # noqa: PLC0415 - pandas

    # What does not exist is said before anything is read.
    selection = RowSelection(
        table, where=where, upstreams=inputs.upstream_endpoints, sort=sort, columns=columns, limit=limit
    )
    with open_output(output, force=force) as file, ProgressMeter(quiet=quiet, captures=captures) as meter:
        from pcapdiag.engine.capture.series import group_captures  # noqa: PLC0415 - help must not wait for the engine

        grouped = group_captures(list(captures))
        chunks = _frames(grouped, inputs, meter) if table == "frames" else _tables(table, grouped, inputs, meter)
        _write(chunks, table, format_, file, selection)


def _write(chunks: Iterator[pd.DataFrame], table: str, format_: str, file: IO[bytes], selection: RowSelection) -> None:
    from pcapdiag.cli.writers import open_writer  # noqa: PLC0415 - pandas

    writer = open_writer(format_, file, selection.columns or FOR_PEOPLE[table])
    for chunk in selection.apply(chunks):
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
    from pcapdiag.analysis.endpoints import check_endpoints  # noqa: PLC0415
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
    check_endpoints(analysis, inputs)
    tables = TableBuilder(analysis, redact=inputs.redact)
    if table == "segments":
        yield from tables.segments(segments.table())
    elif table == "exchanges":
        yield from tables.exchanges()
    else:
        yield tables.connections() if table == "connections" else tables.closings()
