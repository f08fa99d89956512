"""What one process found of its share of a capture, on its way to the process that joins the shares.

Every shard decodes all frames and follows the connections whose endpoints hash to its number. Knows tables and files;
nothing of how a capture is read or what becomes of the tables.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from pcapdiag.base.codes import Protocol
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES, KEY_SEGMENTS
from pcapdiag.base.tables import ByteStore, RowStore
from pcapdiag.engine.http.kernels.http_state import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pcapdiag.engine.asides.collect import Aside
    from pcapdiag.engine.capture.batch import Capture
    from pcapdiag.engine.tcp.tracker import Tracker

Rows = np.ndarray[Any, Any]

_CHUNK_BYTES: Final = 8 << 20
_PIECE_ROWS: Final = 1 << 15
_TEXTS: Final = ("text_offset", "target_len", "host_len", "request_id_len")
_SCHEMAS: Final = (CONNECTIONS, EXCHANGES, KEY_SEGMENTS)


@dataclass(frozen=True, slots=True)
class TrackerCounts:
    """What a tracker counted in one capture.

    Attributes
    ----------
    retransmissions, evicted, duplicates, outside : int
        On the connections that it followed.
    undecoded, fragments : int
        Of all frames, whichever connections it followed.
    reasons : tuple of int
        Undecoded frames by codes.UndecodedReason.
    """

    retransmissions: int
    evicted: int
    duplicates: int
    outside: int
    undecoded: int
    fragments: int
    reasons: tuple[int, ...]

    @classmethod
    def of(cls, tracker: Tracker) -> TrackerCounts:
        """Return what a tracker has counted by now."""
        return cls(
            retransmissions=tracker.n_retransmissions,
            evicted=tracker.n_evicted,
            duplicates=tracker.n_duplicates,
            outside=tracker.n_outside,
            undecoded=tracker.n_undecoded,
            fragments=tracker.n_fragments,
            reasons=tuple(tracker.undecoded_reasons.tolist()),
        )

    @classmethod
    def of_shards(cls, counts: Sequence[TrackerCounts]) -> TrackerCounts:
        """Return what one tracker for all connections would have counted."""
        return cls(
            retransmissions=sum(c.retransmissions for c in counts),
            evicted=sum(c.evicted for c in counts),
            duplicates=sum(c.duplicates for c in counts),
            outside=sum(c.outside for c in counts),
            undecoded=counts[0].undecoded,
            fragments=counts[0].fragments,
            reasons=counts[0].reasons,
        )


@dataclass(slots=True)
class ShardStores:
    """The tables of a run while they grow."""

    connections: RowStore
    exchanges: RowStore
    key_segments: RowStore
    texts: ByteStore

    @classmethod
    def empty(cls) -> ShardStores:
        """Return stores without rows."""
        return cls(
            connections=RowStore(CONNECTIONS),
            exchanges=RowStore(EXCHANGES, memory_bytes=16 << 20),
            key_segments=RowStore(KEY_SEGMENTS),
            texts=ByteStore(memory_bytes=8 << 20),
        )

    def tables(self) -> tuple[RowStore, RowStore, RowStore]:
        """Return the tables in the order in which they are written."""
        return self.connections, self.exchanges, self.key_segments


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What a shard found; it can be pickled.

    Attributes
    ----------
    captures : tuple of Capture
        With their files and the reader's notes filled in.
    counts : tuple of TrackerCounts
        One per capture.
    n_rows : tuple of int
        Rows of connections, exchanges and key segments.
    n_bytes : int
        [bytes] Of these rows and the texts.
    content : str or bytes
        The file that holds the rows and the texts, or its bytes.
    asides : tuple of Aside
        Of all frames, from the first shard alone.
    """

    captures: tuple[Capture, ...]
    counts: tuple[TrackerCounts, ...]
    n_rows: tuple[int, ...]
    n_bytes: int
    content: str | bytes
    asides: tuple[Aside, ...] = ()

    def discard(self) -> None:
        """Delete the file, if there is one."""
        if isinstance(self.content, str):
            Path(self.content).unlink(missing_ok=True)


def save_shard(
    stores: ShardStores,
    captures: Sequence[Capture],
    counts: Sequence[TrackerCounts],
    folder: str,
    *,
    asides: Sequence[Aside] = (),
) -> ShardResult:
    """Return the result of a shard.

    Parameters
    ----------
    stores : ShardStores
        Its tables.
    captures : sequence of Capture
        What was read.
    counts : sequence of TrackerCounts
        One per capture.
    folder : str
        Where a file may keep the tables for the process that joins them; empty if that is on another machine.
    asides : sequence of Aside
        The frames whose bytes were kept.

    Returns
    -------
    ShardResult

    Raises
    ------
    OSError
        There is no room.
    """
    n_rows = tuple(store.n_rows for store in stores.tables())
    with io.BytesIO() if not folder else _private_file(folder) as file:
        _write(stores, file)
        n_bytes = file.tell()
        content = file.getvalue() if isinstance(file, io.BytesIO) else file.name
    return ShardResult(tuple(captures), tuple(counts), n_rows, n_bytes, content, tuple(asides))


@contextmanager
def _private_file(folder: str) -> Iterator[IO[bytes]]:
    """Open a new file that goes away again if it cannot be written."""
    Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    with NamedTemporaryFile(dir=folder, prefix="shard-", delete=False) as file:
        try:
            yield file
            file.flush()
        except BaseException:
            Path(file.name).unlink()
            raise


def _write(stores: ShardStores, file: IO[bytes]) -> None:
    for store in stores.tables():
        for rows in store.read_chunks():
            file.write(np.ascontiguousarray(rows).view(np.uint8).data)
    for start in range(0, len(stores.texts), _CHUNK_BYTES):
        file.write(stores.texts.read(start, _CHUNK_BYTES))


def read_same(shards: Sequence[ShardResult]) -> bool:
    """Return whether all shards read the same frames: a file that grew meanwhile shows more to the later ones.

    Parameters
    ----------
    shards : sequence of ShardResult
        All shards of one reading.

    Returns
    -------
    bool
    """
    seen = {tuple((f.path, f.n_frames, f.n_bytes) for c in shard.captures for f in c.files) for shard in shards}
    return len(seen) == 1


def join_shards(shards: Sequence[ShardResult], stores: ShardStores) -> int:
    """Fill the tables of a run, as if one process had followed all connections.

    Connections get the numbers that they would have had. Exchanges come in pieces, one of each shard in turn: about in
    the order of time, their texts likewise.

    Parameters
    ----------
    shards : sequence of ShardResult
        All shards of one reading.
    stores : ShardStores
        Empty; get the rows.

    Returns
    -------
    int
        How many connections there are.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    tables = [_ShardTables(shard, stores.texts) for shard in shards]
    n_conn = _number_connections(tables)
    n_piece = max(1, max(len(t.exchanges) for t in tables) // _PIECE_ROWS)
    for piece in range(n_piece):
        for t in tables:
            first, stop = (len(t.exchanges) * number // n_piece for number in (piece, piece + 1))
            rows = t.exchanges[first:stop].copy()
            ends = sum(rows[name].astype(np.int64) for name in _TEXTS)
            # The length of an HTTP/2 header block stands in front of it.
            has_block = (rows["protocol"] == Protocol.HTTP2) & (rows["text_offset"] >= 0)
            ends = ends + np.where(has_block, BLOCK_BYTES + 2, 0)
            t.move_texts(min(int(np.max(ends, initial=0)), len(t.texts)))
            rows["conn"] = t.numbers[rows["conn"]]
            rows["text_offset"] = t.moved(rows["text_offset"])
            stores.exchanges.append(rows)
    for t in tables:
        t.move_texts(len(t.texts))
        for first in range(0, len(t.connections), _PIECE_ROWS):
            rows = t.connections[first : first + _PIECE_ROWS].copy()
            rows["conn"] = t.numbers[rows["conn"]]
            rows["server_offset"] = t.moved(rows["server_offset"])
            stores.connections.append(rows)
        for first in range(0, len(t.key_segments), _PIECE_ROWS):
            rows = t.key_segments[first : first + _PIECE_ROWS].copy()
            rows["conn"] = t.numbers[rows["conn"]]
            stores.key_segments.append(rows)
    return n_conn


def renumber(stores: ShardStores) -> int:
    """Give connections numbers without gaps, in their order; what belongs to one that is not there is left out.

    Parameters
    ----------
    stores : ShardStores
        The tables of a run; replaced.

    Returns
    -------
    int
        How many connections there are.
    """
    numbers = np.sort(np.concatenate([chunk["conn"] for chunk in stores.connections.read_chunks()]))
    fresh = ShardStores.empty()
    for before, after in zip(stores.tables(), fresh.tables(), strict=True):
        for chunk in before.read_chunks():
            at = np.minimum(np.searchsorted(numbers, chunk["conn"]), len(numbers) - 1)
            is_there = numbers[at] == chunk["conn"]
            rows = chunk[is_there]
            rows["conn"] = at[is_there]
            after.append(rows)
    stores.connections, stores.exchanges, stores.key_segments = fresh.tables()
    return len(numbers)


class _ShardTables:
    """The rows and texts of a shard, mapped where they lie in a file, and where they go.

    Attributes
    ----------
    numbers : ndarray of int32, shape (n_conn,)
        The new numbers of its connections.
    """

    def __init__(self, shard: ShardResult, texts: ByteStore) -> None:
        content = shard.content
        size = Path(content).stat().st_size if isinstance(content, str) else len(content)
        if size != shard.n_bytes:
            msg = f"a shard holds {size} bytes instead of {shard.n_bytes}"
            raise OSError(msg)
        raw: Rows = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else np.empty(0, np.uint8)
        if isinstance(content, str) and size:  # nothing cannot be mapped
            raw = np.memmap(content, np.uint8, "r")
        ends = np.cumsum([n * schema.dtype.itemsize for n, schema in zip(shard.n_rows, _SCHEMAS, strict=True)])
        parts = np.split(raw, ends)
        self.connections, self.exchanges, self.key_segments = (
            part.view(schema.dtype) for part, schema in zip(parts[:-1], _SCHEMAS, strict=True)
        )
        self.texts = parts[-1]
        self.numbers = np.empty(0, dtype=np.int32)
        self._moved_to = texts
        self._n_moved = 0
        self._starts: list[int] = [0]
        self._shifts: list[int] = [0]

    def move_texts(self, end: int) -> None:
        """Append the texts before `end` to those of the run, as far as they are not there yet."""
        if end > self._n_moved:
            self._starts.append(self._n_moved)
            self._shifts.append(len(self._moved_to) - self._n_moved)
            self._moved_to.append(self.texts[self._n_moved : end])
            self._n_moved = end

    def moved(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where texts are now; -1 stays -1."""
        at = np.searchsorted(self._starts, offsets, side="right") - 1
        return np.where(offsets < 0, -1, offsets + np.array(self._shifts)[at])


def _number_connections(tables: Sequence[_ShardTables]) -> int:
    """Give all connections the order of captures and first frames; return how many there are."""
    every = np.concatenate([t.connections[["capture_idx", "first_frame"]] for t in tables])
    new = np.empty(len(every), dtype=np.int32)
    new[np.lexsort((every["first_frame"], every["capture_idx"]))] = np.arange(len(every), dtype=np.int32)
    stop = 0
    for t in tables:
        start, stop = stop, stop + len(t.connections)
        t.numbers = np.empty(len(t.connections), dtype=np.int32)
        t.numbers[t.connections["conn"]] = new[start:stop]
    return len(every)
