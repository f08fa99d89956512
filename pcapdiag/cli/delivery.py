"""Where the result of ``analyze`` goes and as what: one text or table into a file or stdout, or several into a folder.

A folder gets names of our own only, each for its owner alone, none over another file unless that was asked for; no link
leads out of it (`outfile`).
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pcapdiag.base.disk import explain
from pcapdiag.base.errors import UsageError
from pcapdiag.base.outfile import open_files
from pcapdiag.cli.output import STDOUT, open_output, terminal_form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from pcapdiag.api.analyze import CaptureReport
    from pcapdiag.base.findings import Severity
    from pcapdiag.report.render.document import Image

TABLES = ("findings", "occurrences", "exchanges")
"""What CSV and Parquet can hold; a folder gets all of them."""

_TABLE_FORMATS = ("csv", "parquet")
_TICKETS = {"markdown": "github", "jira": "jira", "adf": "adf", "slack": "slack"}
_BUNDLE = "zip"
_PIPELINES = ("sarif", "junit", "github")
FORMATS = ("terminal", "html", *_TICKETS, "json", *_TABLE_FORMATS, _BUNDLE, *_PIPELINES)

_CHARTS = ("timeline", "idle-gaps", "closings", "cascade")
_REPORT = "report.md"


@dataclass(frozen=True, slots=True)
class Form:
    """As what a result is delivered: its format, and what some formats need: table, width and colours, sections."""

    format_: str
    table: str = TABLES[0]
    width: int | None = None
    color: str = "auto"
    failing: frozenset[Severity] = frozenset()
    show: tuple[str, ...] | None = ()
    """Sections that follow the page for a terminal; None for the whole report."""
    is_one_line: bool = False
    """Whether a terminal gets the first sentence alone."""

    @property
    def is_table(self) -> bool:
        """Whether it has a row for each occurrence, however many there are."""
        return self.format_ in _TABLE_FORMATS

    @property
    def is_bundle(self) -> bool:
        """Whether it is everything that a ticket needs, for which the captures are read twice."""
        return self.format_ == _BUNDLE

    @property
    def file_names(self) -> tuple[str, ...]:
        """The files that a folder may get; charts for which there is nothing to draw are not written."""
        if self.format_ in _TABLE_FORMATS:
            return tuple(f"{name}.{self.format_}" for name in TABLES)
        if self.format_ == "markdown":
            return (_REPORT, *(f"{name}.png" for name in _CHARTS))
        return ()


@contextmanager
def open_delivery(form: Form, output: str, *, force: bool = False) -> Iterator[Callable[[CaptureReport], None]]:
    """Open where the result goes, before the work begins, so that a bad place is known at once.

    Parameters
    ----------
    form : Form
        As what the result is delivered.
    output : str
        ``-`` is stdout; an existing folder, or a name that ends in a slash, is a folder; anything else a file.
    force : bool
        Whether existing files are replaced.

    Yields
    ------
    callable
        Takes the result and writes it.

    Raises
    ------
    UsageError
        A file exists and `force` was not given, the place cannot be written, or the format is one file only.
    MissingExtraError
        Parquet without pyarrow.
    """
    if form.format_ == "parquet":
        from pcapdiag.cli.writers import require_parquet  # noqa: PLC0415 - pandas

        require_parquet()
    if _is_folder(output):
        folder, is_made = _prepare_folder(form, Path(output), force=force)
        try:
            with open_files(folder, force=force) as begin:
                yield lambda result: _write_folder(result, form, begin)
        except BaseException:
            if is_made:
                with suppress(OSError):  # somebody else has put something there
                    folder.rmdir()
            raise
        return
    if form.format_ in {"parquet", _BUNDLE} and output == STDOUT and sys.stdout.isatty():
        msg = f"{form.format_} is binary: name a file with -o"
        raise UsageError(msg)
    with open_output(output, force=force) as file:
        yield lambda result: _write_file(result, form, file, to_stdout=output == STDOUT)


def _is_folder(output: str) -> bool:
    return output != STDOUT and (output.endswith(("/", os.sep)) or Path(output).is_dir())


def _prepare_folder(form: Form, folder: Path, *, force: bool) -> tuple[Path, bool]:
    """Return the folder, and whether it was made now."""
    if not form.file_names:
        msg = f"{form.format_} is one file: give -o its name; folders are for markdown, csv and parquet"
        raise UsageError(msg)
    is_made = not folder.exists()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {explain(error)}"
        raise UsageError(msg) from error
    taken = [name for name in form.file_names if os.path.lexists(folder / name)]
    if taken and not force:
        msg = f"{folder / taken[0]} exists already; choose another folder or add --force"
        raise UsageError(msg)
    return folder, is_made


def _write_file(result: CaptureReport, form: Form, file: IO[bytes], *, to_stdout: bool) -> None:
    if form.format_ in _TABLE_FORMATS:
        _write_table(result, form.table, form.format_, file)
    elif form.is_bundle:
        result.write_bundle(file)
    elif form.format_ == "html":
        file.write(result.to_html().encode())
    else:
        file.write(_render(result, form, to_stdout=to_stdout).encode())


def _write_folder(result: CaptureReport, form: Form, begin: Callable[[str], IO[bytes]]) -> None:
    if form.format_ in _TABLE_FORMATS:
        for name, file_name in zip(TABLES, form.file_names, strict=True):
            _write_table(result, name, form.format_, begin(file_name))
        return
    from pcapdiag.report.render.dialects import render_ticket  # noqa: PLC0415 - help must not wait for it

    images = list(_write_charts(result, begin))
    begin(_REPORT).write(render_ticket(result.report, _TICKETS[form.format_], images=images).encode())


def _write_charts(result: CaptureReport, begin: Callable[[str], IO[bytes]]) -> Iterator[Image]:
    from pcapdiag.report.render.charts import charts  # noqa: PLC0415 - a drawing engine, which only pictures need
    from pcapdiag.report.render.document import Image  # noqa: PLC0415 - with the charts

    made = charts(result.analysis, result.report)
    for name in _CHARTS:
        if name in made:
            begin(f"{name}.png").write(made[name].png())
            yield Image(f"{name}.png", f"{made[name].title}. {made[name].alt}")


def _write_table(result: CaptureReport, table: str, format_: str, file: IO[bytes]) -> None:
    from pcapdiag.cli.writers import open_writer  # noqa: PLC0415 - pandas

    writer = open_writer(format_, file, ())
    for chunk in _chunks(result, table):
        writer.write(chunk)
    writer.close()


def _chunks(result: CaptureReport, table: str) -> Iterator[pd.DataFrame]:
    from pcapdiag.report.finding_tables import findings_frame, occurrences_frame  # noqa: PLC0415 - pandas

    if table == "exchanges":
        yield from result.exchange_chunks()
    else:
        yield (findings_frame if table == "findings" else occurrences_frame)(result.report)


def _render(result: CaptureReport, form: Form, *, to_stdout: bool) -> str:
    # Each renderer is imported alone: JSON must not wait for rich.
    if form.format_ == "json":
        from pcapdiag.report.render import json  # noqa: PLC0415

        return json.render(result.report)
    if form.format_ in _TICKETS:
        from pcapdiag.report.render.dialects import render_ticket  # noqa: PLC0415

        return render_ticket(result.report, _TICKETS[form.format_])
    if form.format_ in _PIPELINES:
        return _render_for_pipeline(result, form)
    from pcapdiag.report.render import blocks, terminal  # noqa: PLC0415

    if form.is_one_line:
        return f"{result.headline}\n"
    width, color = terminal_form(form.width, blocks.WIDTH, form.color, to_stdout=to_stdout)
    return terminal.render(result.report, width=width, color=color, show=form.show)


def _render_for_pipeline(result: CaptureReport, form: Form) -> str:
    from pcapdiag.report.render import ci  # noqa: PLC0415 - only pipelines need it

    if form.format_ == "junit":
        return ci.render_junit(result.report, form.failing)
    return ci.render_sarif(result.report) if form.format_ == "sarif" else ci.render_github(result.report)
