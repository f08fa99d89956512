"""Exchanges of a capture as Parquet, by day and upstream, a chunk at a time, straight from the columns.

Targets are masked as in the report. What a capture can make up (a day per packet, a port per connection) is bounded:
beyond so many partitions the rest lies in one of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote

import numpy as np

from pcapdiag.base.codes import Leg, Method, Outcome, Protocol
from pcapdiag.base.errors import MissingExtraError, ScanError
from pcapdiag.base.units import format_endpoint
from pcapdiag.engine.tcp.uid import connection_uid
from pcapdiag.nightly.scan.days import day_of
from pcapdiag.nightly.store.model import DetailFile
from pcapdiag.privacy.redact import Redactor
from pcapdiag.report import words
from pcapdiag.report.frame_numbers import FrameNumbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from enum import IntEnum

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.tables import Table

_MOST_PARTITIONS: Final = 512
_MOST_OPEN: Final = 32
_OTHER: Final = "date=unknown/upstream=other"
_DAY_NS: Final = 86_400 * 10**9
_ROWS: Final = 65_536
_MOST_TEXT: Final = 16 << 20
_TEXTS: Final = ("text_offset", "target_len", "host_len", "request_id_len")
_NUMBERS: Final = (
    *("depth", "idle_before_ns", "status_code", "first_byte_ns", "duration_ns", "request_bytes", "response_bytes"),
    "retransmissions",
)


def write_exchanges(
    analysis: Analysis, key: str, *, after_ns: int, until_ns: int, redact: bool, staging: str
) -> tuple[DetailFile, ...]:
    """Write exchanges with upstreams to Parquet files.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    key : str
        Of the capture; names the files.
    after_ns, until_ns : int
        [ns] What counts lies after the one and not after the other; -1 for no bound.
    redact : bool
        Whether credentials, query values and what else looks like a secret are masked.
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
    ScanError
        The folder cannot be written to, whatever the capture.
    """
    folder = Path(staging or tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=folder))
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise
        msg = f"cannot write the exchanges to {folder} ({error.strerror}): name another folder with --exchanges"
        raise ScanError(msg) from error
    try:
        writer = _Partitions(place, key)
        tables = _Columns(analysis, redact=redact)
        order = _in_order(analysis, after_ns=after_ns, until_ns=until_ns)
        for start in range(0, len(order), _ROWS):
            for partition, rows in tables.partitions(analysis.exchanges.take(order[start : start + _ROWS])):
                writer.write(partition, rows)
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


def _in_order(analysis: Analysis, *, after_ns: int, until_ns: int) -> NDArray[np.int64]:
    """Return which exchanges count, in an order that does not depend on how the capture was read."""
    legs = analysis.legs
    parts = []
    n_before = 0
    for chunk in analysis.exchanges.chunks():
        ts_ns = chunk["request_ts_ns"]
        wanted = (ts_ns >= 0) & (ts_ns > after_ns) & (legs[chunk["conn"]] != Leg.CLIENT)
        if until_ns >= 0:
            wanted &= ts_ns <= until_ns
        index = np.flatnonzero(wanted)
        keys = (chunk[name][index].astype(np.int64) for name in ("depth", "conn", "request_ts_ns"))
        parts.append(np.stack([index + n_before, *keys]))
        n_before += len(chunk)
    if not parts:
        return np.empty(0, dtype=np.int64)
    every = np.concatenate(parts, axis=1)
    order: NDArray[np.int64] = every[0, np.lexsort(every[1:])]
    return order


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - a scan without details needs none
        import pyarrow.parquet as pq  # noqa: PLC0415 - the same
    except ImportError as error:
        msg = "exchanges as Parquet need pyarrow: pip install 'pcapdiag[scan]', or leave them out: --no-exchanges"
        raise MissingExtraError(msg) from error
    return pa, pq


class _Columns:
    """Makes tables of Arrow from those of an analysis; codes stay codes with a dictionary of their words."""

    def __init__(self, analysis: Analysis, *, redact: bool) -> None:
        self._pa, _ = _pyarrow()
        rows = analysis.connections
        self._read = analysis.texts.read
        self._redactor = Redactor(active=redact)
        self._capture_idx = rows["capture_idx"]
        self._frames = FrameNumbers(analysis.captures, redact=redact)
        parts = "hi", "lo", "port"
        self._orig, self._resp = (
            list(zip(*(rows[f"{side}_{part}"].tolist() for part in parts), strict=True)) for side in ("orig", "resp")
        )
        self._first_ts_ns = rows["first_ts_ns"]
        keys = np.stack([rows[name].astype(np.int64) for name in ("resp_hi", "resp_lo", "resp_port")], axis=1)
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        self._upstream = inverse.reshape(-1)
        self._upstream_names = [format_endpoint(*self._resp[conn]) for conn in first.tolist()]

    def partitions(self, rows: Table) -> Iterator[tuple[str, Any]]:
        """Yield the rows of each day and upstream, with the name of their partition."""
        table = self._table(rows)
        days = rows["request_ts_ns"] // _DAY_NS
        upstreams = self._upstream[rows["conn"]]
        order = np.lexsort((upstreams, days))
        change = (np.diff(days[order]) != 0) | (np.diff(upstreams[order]) != 0)
        for index in np.split(order, np.flatnonzero(change) + 1):
            day = day_of(int(days[index[0]]) * _DAY_NS)
            name = quote(self._upstream_names[int(upstreams[index[0]])], safe="")
            yield f"date={day}/upstream={name}", table.take(self._pa.array(index))

    def _table(self, rows: Table) -> Any:
        pa = self._pa
        conn = rows["conn"]
        file, frame = self._frames.number(self._capture_idx[conn], rows["request_frame"])
        targets, hosts, request_ids = self._texts(rows)
        return pa.table(
            {
                # Spark refuses times in nanoseconds: for people in microseconds, exact beside them.
                "request_ts": pa.array(rows["request_ts_ns"] // 1000, pa.timestamp("us", tz="UTC")),
                "request_ts_ns": pa.array(rows["request_ts_ns"]),
                "orig": self._of_connections(conn, lambda c: format_endpoint(*self._orig[c])),
                "resp": self._of_connections(conn, lambda c: format_endpoint(*self._resp[c])),
                "uid": self._of_connections(
                    conn, lambda c: connection_uid(self._orig[c], self._resp[c], int(self._first_ts_ns[c]))
                ),
                **{name: pa.array(rows[name].astype(np.int64)) for name in _NUMBERS},
                "method": self._of_codes(rows["method"], Method, {m: m.name for m in Method} | {Method.NONE: ""}),
                "outcome": self._of_codes(rows["outcome"], Outcome, words.OUTCOMES),
                "protocol": self._of_codes(rows["protocol"], Protocol, {}),
                "target": pa.array(targets, pa.string()),
                "host": pa.array(hosts, pa.string()),
                "request_id": pa.array(request_ids, pa.string()),
                "request_frame": pa.array(frame),
                "capture": pa.array(file, pa.string()),
            }
        )

    def _of_connections(self, conn: NDArray[Any], text: Callable[[int], str]) -> Any:
        unique, inverse = np.unique(conn, return_inverse=True)
        pa = self._pa
        return pa.DictionaryArray.from_arrays(
            pa.array(inverse.astype(np.int32)), pa.array([text(c) for c in unique.tolist()], pa.string())
        ).dictionary_decode()

    def _of_codes(self, values: NDArray[Any], enum: type[IntEnum], texts: dict[Any, str]) -> Any:
        lowest = int(min(enum))
        named = {int(m): str(m.name).lower().replace("_", " ") for m in enum} | {int(k): v for k, v in texts.items()}
        pa = self._pa
        dictionary = pa.array([named.get(n, str(n)) for n in range(lowest, int(max(enum)) + 1)], pa.string())
        index = pa.array((values.astype(np.int64) - lowest).astype(np.int32))
        return pa.DictionaryArray.from_arrays(index, dictionary).dictionary_decode()

    def _texts(self, rows: Table) -> tuple[list[str], list[str], list[str]]:
        offsets, *lengths = (rows[name].astype(np.int64) for name in _TEXTS)
        ends = offsets + sum(lengths)
        has_text = offsets >= 0
        base = int(offsets[has_text].min()) if has_text.any() else 0
        n_bytes = int(ends[has_text].max()) - base if has_text.any() else 0
        # The texts of a chunk mostly lie side by side: one read for all, unless they are huge.
        all_at_once = self._read(base, n_bytes) if n_bytes <= _MOST_TEXT else None
        targets, hosts, request_ids = [], [], []
        for offset, end, n_target, n_host, _ in zip(*(c.tolist() for c in (offsets, ends, *lengths)), strict=True):
            if offset < 0:
                raw = b""
            elif all_at_once is not None:
                raw = all_at_once[offset - base : end - base]
            else:
                raw = self._read(offset, end - offset)
            targets.append(self._redactor.target(_decode(raw[:n_target])))
            hosts.append(self._redactor.field("host", _decode(raw[n_target : n_target + n_host])))
            request_ids.append(self._redactor.field("request_id", _decode(raw[n_target + n_host :])))
        return targets, hosts, request_ids


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


class _Partitions:
    """Open Parquet files, a bounded number of them; one that was closed goes on in a file with the next number."""

    def __init__(self, folder: Path, key: str) -> None:
        _, self._pq = _pyarrow()
        self._folder = folder
        self._key = key
        self._open: dict[str, tuple[Any, IO[bytes]]] = {}
        self._counts: dict[str, int] = {}
        self._paths: dict[str, Path] = {}

    def write(self, partition: str, rows: Any) -> None:
        """Write rows to the partition that they belong to."""
        if partition not in self._counts and len(self._counts) >= _MOST_PARTITIONS:
            partition = _OTHER
        self._writer(partition, rows.schema).write_table(rows)

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
