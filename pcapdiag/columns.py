"""Tables: named, documented columns that all stages exchange.

A `Schema` is the single definition of a table: kernels write rows of its structured dtype, rules read its columns by
name, `show` prints its documentation. A `Table` is an immutable view of such rows; a `RowStore` collects rows as the
stream goes by and moves them to a private temporary file beyond a bound, so that memory stays flat.

This module knows nothing of what the columns mean to TCP or HTTP beyond their one-line documentation.
No index and no time are `-1`, never 0 or NaN.
"""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

Rows = np.ndarray[Any, Any]

_BLOCK_BYTES = 8 << 20
"""[bytes] Large enough that the system backs it with huge pages, which are cleared a hundred times as fast."""


@dataclass(frozen=True, slots=True)
class Column:
    """One named column: its dtype, its unit (empty for none) and what it means."""

    name: str
    dtype: str
    unit: str
    doc: str


class Schema:
    """The columns of one table, and the structured dtype of its rows."""

    def __init__(self, name: str, *columns: Column) -> None:
        self.name = name
        self.columns = columns
        self.dtype = np.dtype([(c.name, c.dtype) for c in columns], align=True)

    def __repr__(self) -> str:
        return f"Schema({self.name!r}, {len(self.columns)} columns)"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(c.name for c in self.columns)

    def empty(self, n_row: int = 0) -> Rows:
        """Return `n_row` zeroed rows."""
        return np.zeros(n_row, dtype=self.dtype)


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


FRAMES = Schema(
    "frames",
    Column("frame", "i8", "", "0-based index of the frame in its capture (all files of a rotation series together)"),
    Column("ts_ns", "i8", "ns", "capture time since 1970-01-01 UTC"),
    Column("record_offset", "i8", "bytes", "first captured byte of the frame in the batch's buffer"),
    Column("payload_offset", "i8", "bytes", "first TCP payload byte in the batch's buffer; -1 if the frame is not TCP"),
    Column("src_hi", "u8", "", "upper half of the source address (innermost IP); IPv4 is mapped, ::ffff:a.b.c.d"),
    Column("src_lo", "u8", "", "lower half of the source address"),
    Column("dst_hi", "u8", "", "upper half of the destination address"),
    Column("dst_lo", "u8", "", "lower half of the destination address"),
    Column("seq", "i8", "", "TCP sequence number, 0..2^32-1; -1 if the frame is not TCP"),
    Column("ack", "i8", "", "TCP acknowledgement number; -1 without the ACK flag"),
    Column("ts_val", "i8", "", "TCP timestamp value; -1 without the option"),
    Column("cap_len", "i4", "bytes", "captured bytes of the frame"),
    Column("wire_len", "i4", "bytes", "bytes on the wire, as the capture file says"),
    Column(
        "payload_len",
        "i4",
        "bytes",
        "TCP payload bytes on the wire, from the IP length (or, where that is 0, the frame)",
    ),
    Column("payload_cap", "i4", "bytes", "TCP payload bytes that were captured"),
    Column("src_port", "i4", "", "source port; -1 without ports"),
    Column("dst_port", "i4", "", "destination port; -1 without ports"),
    Column("window", "i4", "", "TCP window field, unscaled; -1 if the frame is not TCP"),
    Column("ip_id", "i4", "", "IPv4 identification; -1 for IPv6"),
    Column("link_type", "i4", "", "LINKTYPE_ number of the frame's interface"),
    Column("interface", "i4", "", "index of the pcapng interface within its section, 0 for pcap"),
    Column("mss", "i4", "bytes", "maximum segment size option; -1 without"),
    Column("flags", "i2", "", "TCP control bits (TcpFlag)"),
    Column("ttl", "i2", "", "TTL or hop limit of the innermost IP header; -1 without"),
    Column("ip_proto", "i2", "", "protocol number of the innermost IP header; -1 without"),
    Column("wscale", "i1", "", "window scale option; -1 without"),
    Column("kind", "i1", "", "what the frame is (FrameKind)"),
    Column("undecoded_reason", "i1", "", "why it is UNDECODED (UndecodedReason)"),
    Column("packet_direction", "i1", "", "way of the frame as seen by the capturing machine (PacketDirection)"),
)

STREAM_EVENTS = Schema(
    "stream_events",
    Column("ts_ns", "i8", "ns", "capture time of the segment"),
    Column("frame", "i8", "", "0-based frame; -1 for an event that no single frame caused"),
    Column("seq", "i8", "", "sequence number of the segment (first transmission for RELEASED)"),
    Column("ack", "i8", "", "acknowledgement number; -1 without"),
    Column("data_offset", "i8", "bytes", "first delivered byte, in the buffer that `source` names"),
    Column("stream_offset", "i8", "bytes", "stream offset of the first delivered byte, 0 is the byte after SYN"),
    Column("slot", "i4", "", "live slot of the connection"),
    Column("conn", "i4", "", "connection"),
    Column("data_len", "i4", "bytes", "new in-order stream bytes this event delivers; for HOLE the missing bytes"),
    Column("data_cap", "i4", "bytes", "how many of them were captured"),
    Column("payload_len", "i4", "bytes", "payload of the segment, delivered or not"),
    Column("window", "i4", "", "window field, unscaled"),
    Column("ip_id", "i4", "", "IPv4 identification; -1 without"),
    Column("row", "i4", "", "for END: index of the finished row in this batch's output; else -1"),
    Column("flags", "i2", "", "TCP control bits"),
    Column("ttl", "i2", "", "TTL; -1 without"),
    Column("kind", "i1", "", "StreamEventKind"),
    Column("dir", "i1", "", "Direction"),
    Column("fate", "i1", "", "Fate of the segment; -1 if the event is not a segment"),
    Column(
        "source", "i1", "", "where the delivered bytes lie: 0 the batch's buffer, 1 the store of out-of-order bytes"
    ),
)

SEGMENTS = Schema(
    "segments",
    Column("frame", "i8", "", "0-based frame"),
    Column("ts_ns", "i8", "ns", "capture time"),
    Column("conn", "i4", "", "connection"),
    Column("dir", "i1", "", "Direction"),
    Column("fate", "i1", "", "Fate"),
    Column("flags", "i2", "", "TCP control bits"),
    Column("seq", "i8", "", "sequence number"),
    Column("ack", "i8", "", "acknowledgement number; -1 without"),
    Column("payload_len", "i4", "bytes", "payload on the wire"),
    Column("window", "i4", "", "window field, unscaled"),
    Column("ttl", "i2", "", "TTL; -1 without"),
    Column("ip_id", "i4", "", "IPv4 identification; -1 without"),
)

HISTORY_BYTES = 24

CONNECTIONS = Schema(
    "connections",
    Column("first_ts_ns", "i8", "ns", "first segment"),
    Column("last_ts_ns", "i8", "ns", "last segment"),
    Column("first_frame", "i8", "", "0-based frame of the first segment"),
    Column("last_frame", "i8", "", "0-based frame of the last segment"),
    Column("orig_hi", "u8", "", "originator address, upper half"),
    Column("orig_lo", "u8", "", "originator address, lower half"),
    Column("resp_hi", "u8", "", "responder address, upper half"),
    Column("resp_lo", "u8", "", "responder address, lower half"),
    Column("orig_bytes", "i8", "bytes", "stream bytes of the originator, by sequence numbers"),
    Column("resp_bytes", "i8", "bytes", "stream bytes of the responder"),
    Column("orig_isn", "i8", "", "initial sequence number of the originator; -1 if no SYN was seen"),
    Column("resp_isn", "i8", "", "initial sequence number of the responder; -1 if no SYN-ACK was seen"),
    Column("orig_max_ack", "i8", "", "highest acknowledgement number the originator sent; -1 if none"),
    Column("resp_max_ack", "i8", "", "highest acknowledgement number the responder sent; -1 if none"),
    Column("handshake_resp_ns", "i8", "ns", "SYN to SYN-ACK at the capture point; -1 if not seen or repeated"),
    Column("handshake_orig_ns", "i8", "ns", "SYN-ACK to the originator's ACK; -1 if not seen"),
    Column("rtt_min_ns", "i8", "ns", "shortest time from originator data to its acknowledgement; -1 if none"),
    Column("closing_ts_ns", "i8", "ns", "first FIN or RST; -1 if none"),
    Column("closing_frame", "i8", "", "0-based frame of the first FIN or RST; -1 if none"),
    Column("closing_seq", "i8", "", "its sequence number; -1 if none"),
    Column("closing_ack", "i8", "", "its acknowledgement number; -1 if none"),
    Column(
        "idle_at_close_ns", "i8", "ns", "last payload byte to the first closing; -1 if none, or an exchange was open"
    ),
    Column("server_offset", "i8", "bytes", "text of the Server field of the first response; -1 if none"),
    Column("conn", "i4", "", "0-based number, in order of the first frame"),
    Column("orig_port", "i4", "", "originator port"),
    Column("resp_port", "i4", "", "responder port"),
    Column("orig_frames", "i4", "", "segments of the originator"),
    Column("resp_frames", "i4", "", "segments of the responder"),
    Column("orig_retransmissions", "i4", "", "retransmitted segments of the originator"),
    Column("resp_retransmissions", "i4", "", "retransmitted segments of the responder"),
    Column("n_holes", "i4", "", "holes in either stream"),
    Column("hole_bytes", "i8", "bytes", "stream bytes never captured"),
    Column("n_exchanges", "i4", "", "exchanges"),
    Column("n_unanswered", "i4", "", "unanswered requests"),
    Column("keep_alive_s", "i4", "s", "timeout= of the responder's Keep-Alive field; -1 if none"),
    Column("keep_alive_max", "i4", "", "max= of the responder's Keep-Alive field; -1 if none"),
    Column("server_len", "i2", "bytes", "length of the Server text"),
    Column("capture_idx", "i2", "", "which capture of the run"),
    Column("syn_frames", "i2", "", "SYN segments of the originator (at most 32767)"),
    Column("syn_ack_frames", "i2", "", "SYN-ACK segments of the responder"),
    Column("orig_ttl", "i2", "", "TTL of the originator's first segment; -1 without"),
    Column("resp_ttl", "i2", "", "TTL of the responder's first segment that is no RST; -1 without"),
    Column("orig_inferred", "i1", "", "1 if no SYN was seen and the originator is a guess"),
    Column("orig_local", "i1", "", "1 if the capturing machine is the originator, 0 if the responder, -1 unknown"),
    Column("end", "i1", "", "ConnEnd"),
    Column("conn_state", "i1", "", "ConnState (Zeek)"),
    Column("protocol", "i1", "", "Protocol"),
    Column("first_closer", "i1", "", "Direction of the first FIN or RST; -1 if none"),
    Column("closing_kind", "i1", "", "ClosingKind of the first closing"),
    Column("closing_open_exchange", "i1", "", "1 if an exchange was open at the first closing"),
    Column("closing_rst_seen", "i1", "", "1 if a RST was seen in either direction"),
    Column("orig_fin", "i1", "", "1 if the originator sent a FIN"),
    Column("resp_fin", "i1", "", "1 if the responder sent a FIN"),
    Column("orig_rst", "i1", "", "1 if the originator sent a RST"),
    Column("resp_rst", "i1", "", "1 if the responder sent a RST"),
    Column("history", f"S{HISTORY_BYTES}", "", "Zeek's history letters, upper case for the originator"),
)

EXCHANGES = Schema(
    "exchanges",
    Column("request_frame", "i8", "", "0-based frame of the request's first byte; -1 if the request was not captured"),
    Column("request_ts_ns", "i8", "ns", "capture time of the request's first byte; -1 without request"),
    Column("response_frame", "i8", "", "0-based frame of the response's first byte; -1 without response"),
    Column("idle_before_ns", "i8", "ns", "idle gap before the request; -1 on a fresh or just discovered connection"),
    Column("first_byte_ns", "i8", "ns", "last request byte to first response byte; -1 without"),
    Column("duration_ns", "i8", "ns", "first request byte to last response byte; -1 without response"),
    Column("request_bytes", "i8", "bytes", "stream bytes of the request"),
    Column("response_bytes", "i8", "bytes", "stream bytes of the response, interim responses included"),
    Column("request_seq", "i8", "", "S: sequence number of the request's first byte"),
    Column("request_end_seq", "i8", "", "E: sequence number after the request's last byte seen"),
    Column("request_ack", "i8", "", "rack: acknowledgement number of the request's first segment; -1 without"),
    Column("response_seq", "i8", "", "sequence number of the response's first byte; -1 without response"),
    Column(
        "text_offset", "i8", "bytes", "target, host and request identifier in the text store, in this order; -1 if none"
    ),
    Column("conn", "i4", "", "connection"),
    Column("depth", "i4", "", "position on the connection, from 0"),
    Column("retransmissions", "i4", "", "repeated transmissions of request bytes"),
    Column("target_len", "i2", "bytes", "length of the target"),
    Column("host_len", "i2", "bytes", "length of the Host field"),
    Column("request_id_len", "i2", "bytes", "length of the X-Request-Id field"),
    Column("status_code", "i2", "", "status of the final response; -1 without"),
    Column("flags", "i2", "", "ExchangeFlag bits"),
    Column("protocol", "i1", "", "Protocol"),
    Column("method", "i1", "", "Method; -1 if unknown"),
    Column("outcome", "i1", "", "Outcome"),
    Column("request_framing", "i1", "", "Framing of the request"),
    Column("response_framing", "i1", "", "Framing of the response"),
)

KEY_SEGMENTS = Schema(
    "key_segments",
    Column("frame", "i8", "", "0-based frame"),
    Column("ts_ns", "i8", "ns", "capture time"),
    Column("seq", "i8", "", "sequence number"),
    Column("ack", "i8", "", "acknowledgement number; -1 without"),
    Column("conn", "i4", "", "connection"),
    Column("depth", "i4", "", "depth of the exchange; -1 for a connection that never opened"),
    Column("payload_len", "i4", "bytes", "payload"),
    Column("window", "i4", "", "window field, unscaled"),
    Column("ip_id", "i4", "", "IPv4 identification; -1 without"),
    Column("flags", "i2", "", "TCP control bits"),
    Column("ttl", "i2", "", "TTL; -1 without"),
    Column("key", "i1", "", "Key: what this segment is to the request"),
    Column("dir", "i1", "", "Direction"),
    Column("fate", "i1", "", "Fate"),
)
