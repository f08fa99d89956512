"""Tables as text, CSV, JSON or Parquet, written a chunk at a time so that memory does not grow with the capture.

Text from the capture is escaped here: no control character reaches a terminal, no cell becomes a formula.
"""

from __future__ import annotations

import csv
import io
import json
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any, Protocol

from pcapdiag.base.errors import MissingExtraError
from pcapdiag.privacy.escape import storable, visible
from pcapdiag.report.summary import brief, clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

# The wide forms are the same characters where a spreadsheet speaks Chinese, Japanese or Korean.
_FORMULA_STARTS = tuple(
    "=+-@\t\r\n\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)
_JSON_ROWS = 4096


class Writer(Protocol):
    """Writes chunks of one table."""

    def write(self, frame: pd.DataFrame) -> None:
        """Write the rows of `frame`; every chunk has the same columns."""

    def close(self) -> None:
        """Write what ends the document."""


def open_writer(format_: str, file: IO[bytes], columns: Sequence[str]) -> Writer:
    """Return the writer of a format.

    Parameters
    ----------
    format_ : str
        ``table``, ``csv``, ``json`` or ``parquet``.
    file : file object
        Binary, writable; the caller closes it.
    columns : sequence of str
        Columns that the format ``table`` shows; the others show all.

    Returns
    -------
    Writer
        Nothing is written yet.

    Raises
    ------
    MissingExtraError
        Parquet without pyarrow.
    """
    if format_ == "csv":
        return CsvWriter(file)
    if format_ == "json":
        return JsonWriter(file)
    if format_ == "parquet":
        return ParquetWriter(file)
    return TextWriter(file, columns)


def _columns(frame: pd.DataFrame) -> list[list[Any]]:
    """Return the values of each column as plain Python objects."""
    return [frame[name].tolist() for name in frame.columns]


def _is_text(frame: pd.DataFrame, name: str) -> bool:
    return frame[name].dtype.kind == "O"


class CsvWriter:
    """RFC 4180 with one header line; text cells that a spreadsheet would calculate begin with an apostrophe."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._has_header = False

    def write(self, frame: pd.DataFrame) -> None:
        """Write the rows of `frame`, after the header if they are the first."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self._has_header:
            writer.writerow(frame.columns)
            self._has_header = True
        columns = [
            [safe_cell(v) if isinstance(v, str) else v for v in values]
            if _is_text(frame, name)
            else [None if _is_missing(v) else v for v in values]
            for name, values in zip(frame.columns, _columns(frame), strict=True)
        ]
        writer.writerows(zip(*columns, strict=True))
        self._file.write(text.getvalue().encode())

    def close(self) -> None:
        """Nothing ends a CSV table."""


def safe_cell(text: str) -> str:
    """Return `text` so that neither a terminal nor a spreadsheet obeys it (OWASP: CSV injection)."""
    return f"'{visible(text)}" if text.lstrip(" ").startswith(_FORMULA_STARTS) else visible(text)


class JsonWriter:
    """One JSON array with one object per line, ASCII only."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._separator = b"[\n"

    def write(self, frame: pd.DataFrame) -> None:
        """Write the rows of `frame` as objects."""
        names = list(frame.columns)
        for start in range(0, len(frame), _JSON_ROWS):
            columns = _columns(frame.iloc[start : start + _JSON_ROWS])
            for row in zip(*columns, strict=True):
                record = {n: storable(v) if isinstance(v, str) else v for n, v in zip(names, row, strict=True)}
                text = json.dumps(record, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f")
                self._file.write(self._separator + text.encode())
                self._separator = b",\n"

    def close(self) -> None:
        """Write the end of the array; of an empty one, both ends."""
        self._file.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")


class TextWriter:
    """Columns for a person: chosen ones only, durations and times in words, widths taken from the first chunk."""

    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        self._file = file
        self._names = list(columns)
        self._widths: list[int] = []
        self._right: list[bool] = []

    def write(self, frame: pd.DataFrame) -> None:
        """Write the rows of `frame`, after the header if they are the first."""
        texts = [[_human(name, v) for v in frame[name].tolist()] for name in self._names]
        headers = [_header(name) for name in self._names]
        if not self._widths:
            self._widths = [
                max([len(header), *map(len, column)]) for header, column in zip(headers, texts, strict=True)
            ]
            self._right = [not _is_text(frame, name) for name in self._names]
            self._line(headers)
        for row in zip(*texts, strict=True):
            self._line(row)

    def close(self) -> None:
        """Nothing ends a text table."""

    def _line(self, cells: Sequence[str]) -> None:
        aligned = (
            f"{cell:>{width}}" if right else f"{cell:<{width}}"
            for cell, width, right in zip(cells, self._widths, self._right, strict=True)
        )
        self._file.write(("  ".join(aligned).rstrip() + "\n").encode())


def _header(name: str) -> str:
    return name.removesuffix("_ns").removeprefix("n_").replace("_", " ")


def _human(name: str, value: Any) -> str:
    if _is_missing(value):
        return ""
    if name.endswith("ts_ns"):
        return str(value)
    if name.endswith("_ns"):
        return brief(value)
    if name.endswith("ts") and value:
        return clock(value)
    return visible(value) if isinstance(value, str) else str(value)


def _is_missing(value: Any) -> bool:
    """Return whether a cell says that there is no index and no time: in these tables nothing else is -1."""
    return type(value) is int and value == -1


def require_parquet() -> None:
    """Fail now rather than after the work.

    Raises
    ------
    MissingExtraError
        There is no pyarrow.
    """
    if find_spec("pyarrow") is None:
        msg = "Parquet needs pyarrow: pip install 'pcapdiag[parquet]', or choose --format csv"
        raise MissingExtraError(msg)


class ParquetWriter:
    """One row group per chunk; needs pyarrow."""

    def __init__(self, file: IO[bytes]) -> None:
        require_parquet()
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet  # noqa: PLC0415

        self._arrow = pa
        self._file = file
        self._writer: Any = None

    def write(self, frame: pd.DataFrame) -> None:
        """Write the rows of `frame` as a row group."""
        schema = None if self._writer is None else self._writer.schema
        table = self._arrow.Table.from_pandas(frame, schema=schema, preserve_index=False)
        if self._writer is None:
            self._writer = self._arrow.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Write the footer."""
        if self._writer is not None:
            self._writer.close()
