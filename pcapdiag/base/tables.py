"""Tables: immutable views of rows, and the stores that collect rows and bytes as a stream goes by.

A `Table` is a view of the rows of a `columns.Schema`; a `RowStore` collects rows and moves them to a private temporary
file beyond a bound, so that memory stays flat. What the columns mean is nothing to this module.
"""

from __future__ import annotations

import tempfile
import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pcapdiag.base.disk import naming

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from pcapdiag.base.columns import Rows, Schema


_BLOCK_BYTES = 8 << 20
"""[bytes] Large enough that the system backs it with huge pages, which are cleared a hundred times as fast."""


class Table:
    """Rows of one schema, read-only.

    Parameters
    ----------
    schema : Schema
        Meaning of the columns.
    rows : ndarray of schema.dtype, shape (n_row,)
        The rows; they are not copied.
    """

    def __init__(self, schema: Schema, rows: Rows) -> None:
        self.schema = schema
        view = rows.view()
        view.flags.writeable = False
        self.rows = view

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> NDArray[Any]:
        column: NDArray[Any] = self.rows[name]
        return column

    def take(self, index: NDArray[Any] | list[int]) -> Table:
        """Return the rows at `index` (or where a boolean mask is true) as a table of their own."""
        return Table(self.schema, self.rows[index])

    def chunks(self) -> Iterator[Table]:
        """Yield the table in pieces that fit in memory, in order."""
        if len(self.rows):
            yield self

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas DataFrame with the same column names."""
        import pandas as pd  # noqa: PLC0415 - pandas costs half a second; only callers that want a frame pay

        return pd.DataFrame({c.name: np.ascontiguousarray(self.rows[c.name]) for c in self.schema.columns})


class PickedRows:
    """Some rows of a table, whose columns are gathered when they are asked for: all at once may be hundreds of MB.

    Parameters
    ----------
    table : Table
        Where they are.
    index : ndarray of int64, shape (n_row,)
        Which rows.
    others : dict of str to ndarray, shape (n_row,)
        Columns that the table does not have, or has otherwise.
    """

    def __init__(self, table: Table, index: NDArray[np.int64], **others: NDArray[Any]) -> None:
        self.index = index
        self._table = table
        self._others = others

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, name: str) -> NDArray[Any]:
        column: NDArray[Any] = self._others[name] if name in self._others else self._table[name][self.index]
        return column

    def pick(self, rows: NDArray[np.int64] | slice) -> PickedRows:
        """Return some of these rows."""
        return PickedRows(self._table, self.index[rows], **{name: other[rows] for name, other in self._others.items()})

    def with_column(self, name: str, column: NDArray[Any]) -> PickedRows:
        """Return the same rows with another column."""
        return PickedRows(self._table, self.index, **{**self._others, name: column})


def group_rows(columns: PickedRows, names: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """Yield the places of the rows that have equal values in some columns, group by group.

    Parameters
    ----------
    columns : PickedRows
        The rows.
    names : sequence of str
        Columns whose values make a group.

    Yields
    ------
    ndarray of int64, shape (n_row,)
        The places of one group, in the order of the rows.
    """
    keys = [columns[name] for name in names]
    order = np.lexsort(keys)
    if len(order):
        is_new = np.logical_or.reduce([(sorted_key := key[order])[1:] != sorted_key[:-1] for key in keys])
        yield from np.split(order, np.flatnonzero(is_new) + 1)


class StoredTable(Table):
    """A table whose older rows lie in a temporary file; `chunks()` never holds more than one chunk."""

    def __init__(self, schema: Schema, store: RowStore) -> None:
        self.schema = schema
        self._store = store

    @cached_property
    def rows(self) -> Rows:  # type: ignore[override]
        """All rows in memory; prefer `chunks()` or a single column."""
        parts = [t.rows for t in self.chunks()]
        rows = np.concatenate(parts) if parts else self.schema.empty()
        rows.flags.writeable = False
        return rows

    def __len__(self) -> int:
        return self._store.n_rows

    def __getitem__(self, name: str) -> NDArray[Any]:
        if "rows" in self.__dict__:
            return super().__getitem__(name)
        parts = [np.ascontiguousarray(t.rows[name]) for t in self.chunks()]
        return np.concatenate(parts) if parts else self.schema.empty()[name]

    def take(self, index: NDArray[Any] | list[int]) -> Table:
        """Return the rows at `index` (or where a boolean mask is true), reading only the chunks that hold them."""
        index = np.asarray(index)
        if index.dtype == np.bool_:
            index = np.flatnonzero(index)
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            msg = f"row {index.max()} of a table of {len(self)}"
            raise IndexError(msg)
        out = self.schema.empty(len(index))
        number = index // self._store.chunk_rows
        for chunk in np.unique(number).tolist():
            inside = number == chunk
            out[inside] = self._store.read_chunk(chunk)[index[inside] - chunk * self._store.chunk_rows]
        return Table(self.schema, out)

    def chunks(self) -> Iterator[Table]:
        """Yield the table in pieces, oldest first."""
        for rows in self._store.read_chunks():
            yield Table(self.schema, rows)


class _Spool:
    """Append-only items of one dtype; beyond `memory_bytes` the oldest go to an unlinked temporary file.

    Items are copied into blocks that stay where they are and are used again: memory that is allocated anew for every
    batch has to be cleared by the system every time, which costs more than the items.
    """

    def __init__(self, dtype: np.dtype[Any], memory_bytes: int, block_bytes: int) -> None:
        # Items are copied as what they are in memory: numpy would copy rows field by field, thirty times as slowly.
        self._as_bytes = dtype if dtype.fields is None else np.dtype((np.void, dtype.itemsize))
        self._dtype = dtype
        self.block_len = max(1, min(block_bytes, memory_bytes) // dtype.itemsize)
        self._max_blocks = max(1, memory_bytes // (self.block_len * dtype.itemsize))
        self._blocks: list[Rows] = []
        self._n_held = 0
        self.n_spilled = 0
        self._file: Any = None

    def __len__(self) -> int:
        return self.n_spilled + self._n_held

    def append(self, items: Rows) -> None:
        """Copy `items` to the end."""
        while len(items):
            number, at = divmod(self._n_held, self.block_len)
            if number == self._max_blocks:
                self._spill()
                continue
            n_item = min(len(items), self.block_len - at)
            self._block(number, at, at + n_item)[at : at + n_item] = items[:n_item].view(self._as_bytes)
            self._n_held += n_item
            items = items[n_item:]

    def _block(self, number: int, n_used: int, n_needed: int) -> Rows:
        """Return a block with room for `n_needed` items; the first ones grow, so that little stays little."""
        if number == len(self._blocks):
            self._blocks.append(np.empty(0, dtype=self._as_bytes))
        block = self._blocks[number]
        if len(block) < n_needed:
            n_item = self.block_len if number else min(self.block_len, max(4 * n_needed, 1024))
            block = np.empty(n_item, dtype=self._as_bytes)
            block[:n_used] = self._blocks[number][:n_used]
            self._blocks[number] = block
        return block

    def _spill(self) -> None:
        """Write the oldest block out and use it again."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="pcapdiag-", buffering=0)  # noqa: SIM115 - lives as long as this
            weakref.finalize(self, self._file.close)
        self._file.seek(0, 2)
        block = self._blocks.pop(0)
        data = block.view(np.uint8).data
        with naming(tempfile.gettempdir()):
            while data:
                data = data[self._file.write(data) :]
        self._blocks.append(block)
        self._n_held -= self.block_len
        self.n_spilled += self.block_len

    def chunks(self) -> Iterator[Rows]:
        """Yield all items, oldest first, a block at a time; valid until more is appended."""
        for start in range(0, self.n_spilled, self.block_len):
            yield self._from_file(start, self.block_len)
        for number, block in enumerate(self._blocks):
            n_item = min(self._n_held - number * self.block_len, self.block_len)
            if n_item > 0:
                yield block[:n_item].view(self._dtype)

    def slice(self, start: int, stop: int) -> list[Rows]:
        """Return the items from `start` to `stop` - 1, as far as there are any, in one or more pieces."""
        pieces = []
        if start < self.n_spilled:
            pieces.append(self._from_file(start, min(stop, self.n_spilled) - start))
        at, end = max(start - self.n_spilled, 0), min(stop - self.n_spilled, self._n_held)
        while at < end:
            number, begin = divmod(at, self.block_len)
            n_item = min(end - at, self.block_len - begin)
            pieces.append(self._blocks[number][begin : begin + n_item].view(self._dtype))
            at += n_item
        return pieces

    def _from_file(self, start: int, n_item: int) -> Rows:
        data = bytearray(n_item * self._dtype.itemsize)
        self._file.seek(start * self._dtype.itemsize)
        rest = memoryview(data)
        while rest:
            n_read = self._file.readinto(rest)
            if not n_read:
                msg = "a temporary file ends too early"
                raise OSError(msg)
            rest = rest[n_read:]
        return np.frombuffer(data, dtype=self._dtype)


class RowStore:
    """Append-only rows; beyond `memory_bytes` the oldest ones go to an unlinked temporary file.

    Parameters
    ----------
    schema : Schema
        Meaning of the columns.
    memory_bytes : int
        [bytes] Rows kept in memory before any are written out.

    Raises
    ------
    OSError
        From `append`, when the temporary folder is full.
    """

    def __init__(self, schema: Schema, *, memory_bytes: int = 8 << 20) -> None:
        self.schema = schema
        self._spool = _Spool(schema.dtype, memory_bytes, _BLOCK_BYTES)

    @property
    def n_rows(self) -> int:
        """Rows appended so far."""
        return len(self._spool)

    def append(self, rows: Rows) -> None:
        """Copy `rows` to the end."""
        self._spool.append(rows)

    def read_chunks(self) -> Iterator[Rows]:
        """Yield all rows appended so far, oldest first, a chunk at a time; valid until more are appended."""
        return self._spool.chunks()

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk, but for the last one."""
        return self._spool.block_len

    def read_chunk(self, number: int) -> Rows:
        """Return one of the chunks, from 0; valid until more rows are appended."""
        (rows,) = self._spool.slice(number * self.chunk_rows, (number + 1) * self.chunk_rows)
        return rows

    def table(self) -> Table:
        """Return the rows as a table; the store must not grow afterwards."""
        chunks = self._spool.chunks()
        if self._spool.n_spilled:
            return StoredTable(self.schema, self)
        rows = next(chunks, None)
        if rows is None:
            return Table(self.schema, self.schema.empty())
        return Table(self.schema, rows) if len(rows) == self.n_rows else StoredTable(self.schema, self)


class ByteSource(Protocol):
    """Random access to the text store."""

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`."""


class ByteStore:
    """Append-only bytes (targets, hosts, request identifiers) with the same bound on memory as `RowStore`."""

    def __init__(self, *, memory_bytes: int = 16 << 20) -> None:
        self._spool = _Spool(np.dtype(np.uint8), memory_bytes, _BLOCK_BYTES)

    def __len__(self) -> int:
        return len(self._spool)

    def append(self, data: NDArray[np.uint8]) -> None:
        """Copy `data` to the end."""
        self._spool.append(data)

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`; empty for the offset -1.

        Parameters
        ----------
        offset : int
            [bytes] Position in all bytes ever appended.
        length : int
            [bytes] How many.

        Returns
        -------
        bytes
            The text as captured: hostile until it is escaped where it is rendered.
        """
        if offset < 0 or length <= 0:
            return b""
        return b"".join(piece.tobytes() for piece in self._spool.slice(offset, offset + length))
