"""Which rows and columns of a table are shown, in which order; what there is not is said before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pcapdiag.base.errors import UsageError
from pcapdiag.base.suggest import did_you_mean
from pcapdiag.base.units import format_endpoint
from pcapdiag.cli.where import Where
from pcapdiag.report.table_columns import TABLES, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

_ENDS = {"frames": ("src", "dst"), "segments": ("src", "dst")}
_OTHER_ENDS = ("resp",)


class RowSelection:
    """What somebody wants to see of one table.

    Parameters
    ----------
    table : str
        Its name.
    where : str
        An expression; empty for all rows.
    upstreams : sequence of tuple of int
        Halves of addresses and ports, -1 for any port; empty for all rows.
    sort : str
        A column, with a minus before it for the greatest first; empty for the order of the capture.
    columns : str
        Names with commas between them; empty for all.
    limit : int or None
        How many rows; None for all.

    Raises
    ------
    UsageError
        A column, or a word that a column is compared with, does not exist.
    """

    def __init__(
        self,
        table: str,
        *,
        where: str = "",
        upstreams: Sequence[tuple[int, int, int]] = (),
        sort: str = "",
        columns: str = "",
        limit: int | None = None,
    ) -> None:
        self._table = table
        self._where = Where(where) if where else None
        if self._where is not None:
            self._where.check(TABLES[table])
        self._upstreams = upstreams
        self._is_descending = sort.startswith("-")
        self._sort = self._column("--sort", sort.removeprefix("-")) if sort else ""
        names = [name.strip() for name in columns.split(",") if name.strip()]
        self.columns = tuple(dict.fromkeys(self._column("--columns", name) for name in names))
        self._limit = limit

    def _column(self, option: str, name: str) -> str:
        known = TABLES[self._table]
        found = resolve(name, known)
        if not found:
            msg = f"{option}: {self._table} have no column {name!r}"
            raise UsageError(msg + (did_you_mean(name, known) or f"; there are {', '.join(known)}"))
        return found

    def apply(self, chunks: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Yield what is to be shown of `chunks`; at least one chunk, for its columns.

        Parameters
        ----------
        chunks : iterable of DataFrame
            Rows in order, a part at a time. Unsorted, no more of them is taken than is shown; to be sorted, all are,
            and of those only as many kept as are shown.

        Yields
        ------
        DataFrame
        """
        if self._where is not None:
            chunks = map(self._where.select, chunks)
        if self._upstreams:
            chunks = (chunk[self._is_wanted(chunk)] for chunk in chunks)
        chunks = self._sorted(chunks) if self._sort else limited(chunks, self._limit)
        yield from (chunk[list(self.columns)] if self.columns else chunk for chunk in chunks)

    def _is_wanted(self, chunk: pd.DataFrame) -> NDArray[np.bool_]:
        wanted = np.zeros(len(chunk), dtype=np.bool_)
        for name in _ENDS.get(self._table, _OTHER_ENDS):
            for hi, lo, port in self._upstreams:
                if port >= 0:
                    wanted |= (chunk[name] == format_endpoint(hi, lo, port)).to_numpy()
                else:
                    # As of any port, up to the number.
                    begins = format_endpoint(hi, lo, 0).removesuffix("0")
                    wanted |= chunk[name].str.startswith(begins).to_numpy(dtype=np.bool_)
        return wanted

    def _sorted(self, chunks: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        if self._limit is None:
            yield self._in_order(pd.concat(list(chunks), ignore_index=True))
            return
        kept: pd.DataFrame | None = None
        for chunk in chunks:
            both = chunk if kept is None else pd.concat([kept, chunk], ignore_index=True)
            kept = self._in_order(both).head(self._limit)
        if kept is not None:
            yield kept

    def _in_order(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows by the column, those without a value last, equal ones as they were."""
        values = frame[self._sort].to_numpy()
        is_missing = values == ("" if values.dtype.kind == "O" else -1)
        there = np.flatnonzero(~is_missing)
        if self._is_descending:
            order = there[::-1][np.argsort(values[there[::-1]], kind="stable")][::-1]
        else:
            order = there[np.argsort(values[there], kind="stable")]
        return frame.iloc[np.concatenate([order, np.flatnonzero(is_missing)])]


def limited(chunks: Iterable[pd.DataFrame], limit: int | None) -> Iterator[pd.DataFrame]:
    """Yield `chunks` until `limit` rows have passed; at least one chunk, for its columns.

    Parameters
    ----------
    chunks : iterable of DataFrame
        Rows in order.
    limit : int or None
        How many rows; None for all.

    Yields
    ------
    DataFrame
        The last one cut.
    """
    left = limit
    for chunk in chunks:
        if left is None:
            yield chunk
            continue
        yield chunk.head(left)
        left -= min(left, len(chunk))
        if not left:
            return
