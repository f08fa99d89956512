"""Exchanges of a capture as Parquet, by day and upstream, a chunk at a time.

Targets are masked as in the report. What a capture can make up (a day per packet, a port per connection) is bounded:
beyond so many partitions the rest lies in one of its own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pcapdiag.errors import MissingExtraError
from pcapdiag.scan.days import day_of
from pcapdiag.store.model import DetailFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

_MOST_PARTITIONS: Final = 512
_MOST_OPEN: Final = 32
_OTHER: Final = "date=unknown/upstream=other"
_DAY_NS: Final = 86_400 * 10**9


def write_exchanges(
    chunks: Iterable[pd.DataFrame], key: str, *, after_ns: int, until_ns: int, staging: str
) -> tuple[DetailFile, ...]:
    """Write exchanges with upstreams to Parquet files.

    Parameters
    ----------
    chunks : iterable of DataFrame
        As `CaptureReport.exchange_chunks` yields them.
    key : str
        Of the capture; names the files.
    after_ns, until_ns : int
        [ns] What counts lies after the one and not after the other; -1 for no bound.
    staging : str
        Folder that keeps the files until they have their place; empty: return their bytes.

    Returns
    -------
    tuple of DetailFile
        By name.

    Raises
    ------
    MissingExtraError
        pyarrow is not installed.
    """
    folder = Path(staging or tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=folder))
    try:
        writer = _Partitions(place, key)
        for chunk in chunks:
            ts_ns = chunk["request_ts_ns"]
            wanted = (ts_ns >= 0) & (ts_ns > after_ns) & (chunk["leg"] != "client")
            if until_ns >= 0:
                wanted &= ts_ns <= until_ns
            writer.write(chunk[wanted].drop(columns=["conn"]))
        names = writer.close()
        details = [(name, path, path.stat().st_size) for name, path in sorted(names.items())]
        if staging:
            return tuple(DetailFile(name, size, staged=str(path)) for name, path, size in details)
        return tuple(DetailFile(name, size, content=path.read_bytes()) for name, path, size in details)
    except BaseException:
        staging = ""
        raise
    finally:
        if not staging:
            shutil.rmtree(place, ignore_errors=True)


def _day_name(day: int) -> str:
    return day_of(day * _DAY_NS)


class _Partitions:
    """Open Parquet files, a bounded number of them; one that was closed goes on in a file with the next number."""

    def __init__(self, folder: Path, key: str) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - a scan without details needs none
            import pyarrow.parquet as pq  # noqa: PLC0415 - the same
        except ImportError as error:
            msg = "exchanges as Parquet need pyarrow: pip install 'pcapdiag[scan]', or leave them out: --no-exchanges"
            raise MissingExtraError(msg) from error
        self._pa, self._pq = pa, pq
        self._folder = folder
        self._key = key
        self._open: dict[str, tuple[Any, IO[bytes]]] = {}
        self._counts: dict[str, int] = {}
        self._paths: dict[str, Path] = {}

    def write(self, frame: pd.DataFrame) -> None:
        """Write rows to the partitions that they belong to."""
        days = frame["request_ts_ns"] // _DAY_NS
        for (day, upstream), rows in frame.groupby([days.map(_day_name), frame["resp"]], sort=True):
            self._write(f"date={day}/upstream={quote(str(upstream), safe='')}", rows)

    def _write(self, partition: str, rows: pd.DataFrame) -> None:
        if partition not in self._counts and len(self._counts) >= _MOST_PARTITIONS:
            partition = _OTHER
        pa = self._pa
        schema = pa.schema(
            [(name, pa.int64() if rows[name].dtype.kind in "iu" else pa.string()) for name in rows.columns]
        )
        table = pa.Table.from_pandas(rows, schema=schema, preserve_index=False).replace_schema_metadata(None)
        self._writer(partition, schema).write_table(table)

    def _writer(self, partition: str, schema: Any) -> Any:
        if partition in self._open:
            return self._open[partition][0]
        if len(self._open) >= _MOST_OPEN:
            self._close(next(iter(self._open)))
        number = self._counts.get(partition, 0)
        self._counts[partition] = number + 1
        path = self._folder / f"{len(self._paths)}"
        self._paths[f"{partition}/{self._key}-{number}.parquet"] = path
        file = path.open("xb")
        path.chmod(0o600)
        self._open[partition] = self._pq.ParquetWriter(file, schema, compression="zstd"), file
        return self._open[partition][0]

    def _close(self, partition: str) -> None:
        writer, file = self._open.pop(partition)
        writer.close()
        file.flush()
        os.fsync(file.fileno())
        file.close()

    def close(self) -> dict[str, Path]:
        """Finish all files; return them by name."""
        for partition in list(self._open):
            self._close(partition)
        return self._paths
