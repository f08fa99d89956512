"""Tables for people and spreadsheets: the columns of `columns.py` with endpoints, words and texts instead of codes.

Times stay exact (ns), absolute times get ISO 8601 text beside them, frames are 1-based within their file. Text from the
capture stays as captured here; whoever prints it escapes it.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pcapdiag.base.codes import (
    ClosingKind,
    Direction,
    ExchangeFlag,
)
from pcapdiag.base.tables import Table
from pcapdiag.base.units import format_endpoint, format_ts_ns
from pcapdiag.engine.tcp.uid import connection_uid
from pcapdiag.privacy.redact import Redactor
from pcapdiag.report import words
from pcapdiag.report.frame_numbers import FrameNumbers
from pcapdiag.report.table_columns import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis

_MAX_ROWS = 32_768

_TEXT_COLUMNS = ("text_offset", "target_len", "host_len", "request_id_len")


class TableBuilder:
    """Makes the readable tables of one analysis.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    redact : bool
        Whether credentials, query values and what else looks like a secret are masked.
    """

    def __init__(self, analysis: Analysis, *, redact: bool = True) -> None:
        self._analysis = analysis
        self._redactor = Redactor(active=redact)
        rows = analysis.connections
        self._orig = _endpoints(rows["orig_hi"], rows["orig_lo"], rows["orig_port"])
        self._resp = _endpoints(rows["resp_hi"], rows["resp_lo"], rows["resp_port"])
        self._capture_idx = rows["capture_idx"]
        self._frames = FrameNumbers(analysis.captures, redact=redact)

    @cached_property
    def _uids(self) -> NDArray[Any]:
        rows = self._analysis.connections
        orig, resp = (
            zip(*(rows[f"{side}_{part}"].tolist() for part in ("hi", "lo", "port")), strict=True)
            for side in ("orig", "resp")
        )
        uids = map(connection_uid, orig, resp, rows["first_ts_ns"].tolist())
        return np.array(list(uids), dtype=object)

    def connections(self) -> pd.DataFrame:
        """Return one row per connection."""
        rows = self._analysis.connections
        file, frame = self._frames.number(self._capture_idx, rows["first_frame"])
        data = {
            "conn": rows["conn"],
            "uid": self._uids,
            "first_frame": frame,
            "last_frame": self._frames.number(self._capture_idx, rows["last_frame"])[1],
            **_times("first_ts", rows["first_ts_ns"]),
            **_times("last_ts", rows["last_ts_ns"]),
            "orig": self._orig,
            "resp": self._resp,
            "leg": _lookup("leg", self._analysis.legs),
            "protocol": _lookup("protocol", rows["protocol"]),
            "conn_state": _lookup("conn_state", rows["conn_state"]),
            "conn_state_words": _lookup("conn_state_words", rows["conn_state"]),
            "history": _ascii(rows["history"]),
            "history_words": _map_unique(_ascii(rows["history"]), words.history_words),
            "end": _lookup("end", rows["end"]),
            "first_closer": _lookup("first_closer", rows["first_closer"]),
            "closing_kind": _lookup("closing_kind", rows["closing_kind"]),
            "idle_at_close_ns": rows["idle_at_close_ns"],
            "n_exchanges": rows["n_exchanges"],
            "n_unanswered": rows["n_unanswered"],
            **{name: rows[name] for name in _CONNECTION_NUMBERS},
            "server": self._servers(rows["server_offset"], rows["server_len"]),
            "capture": file,
        }
        return pd.DataFrame(data)

    def closings(self) -> pd.DataFrame:
        """Return one row per connection that was closed: who, how, at which idle age."""
        table = self._analysis.connections
        index = np.flatnonzero(table["closing_kind"] != ClosingKind.NONE)
        rows = table.take(index)
        file, frame = self._frames.number(rows["capture_idx"], rows["closing_frame"])
        data = {
            "closing_frame": frame,
            **_times("closing_ts", rows["closing_ts_ns"]),
            "conn": rows["conn"],
            "uid": self._uids[index],
            "orig": self._orig[index],
            "resp": self._resp[index],
            "first_closer": _lookup("first_closer", rows["first_closer"]),
            "closing_kind": _lookup("closing_kind", rows["closing_kind"]),
            "idle_at_close_ns": rows["idle_at_close_ns"],
            "open_exchange": rows["closing_open_exchange"].astype(np.bool_),
            "n_exchanges": rows["n_exchanges"],
            "n_unanswered": rows["n_unanswered"],
            "conn_state": _lookup("conn_state", rows["conn_state"]),
            "conn_state_words": _lookup("conn_state_words", rows["conn_state"]),
            "capture": file,
        }
        return pd.DataFrame(data)

    def exchanges(self) -> Iterator[pd.DataFrame]:
        """Yield the exchanges a chunk at a time, each chunk by frame; one empty chunk if there are none."""
        for chunk in _chunks(self._analysis.exchanges):
            first = np.where(chunk["request_frame"] >= 0, chunk["request_frame"], chunk["response_frame"])
            order = np.lexsort((first, self._capture_idx[chunk["conn"]]))
            yield self._exchanges(chunk.take(order))

    def _exchanges(self, rows: Table) -> pd.DataFrame:
        conn = rows["conn"]
        capture_idx = self._capture_idx[conn]
        file, frame = self._frames.number(capture_idx, rows["request_frame"])
        response_file, response_frame = self._frames.number(capture_idx, rows["response_frame"])
        target, host, request_id = self._exchange_texts(rows)
        data = {
            "request_frame": frame,
            **_times("request_ts", rows["request_ts_ns"]),
            "orig": self._orig[conn],
            "resp": self._resp[conn],
            "depth": rows["depth"],
            "idle_before_ns": rows["idle_before_ns"],
            "method": _lookup("method", rows["method"]),
            "target": target,
            "host": host,
            "status_code": rows["status_code"],
            "outcome": _lookup("outcome", rows["outcome"]),
            "first_byte_ns": rows["first_byte_ns"],
            "duration_ns": rows["duration_ns"],
            "request_bytes": rows["request_bytes"],
            "response_bytes": rows["response_bytes"],
            "retransmissions": rows["retransmissions"],
            "response_frame": response_frame,
            "protocol": _lookup("protocol", rows["protocol"]),
            "request_framing": _lookup("request_framing", rows["request_framing"]),
            "response_framing": _lookup("response_framing", rows["response_framing"]),
            "flags": _map_unique(rows["flags"], _exchange_flags),
            "request_id": request_id,
            "conn": conn,
            "uid": self._uids[conn],
            "leg": _lookup("leg", self._analysis.legs[conn]),
            "capture": np.where(file == "", response_file, file),
        }
        return pd.DataFrame(data)

    def segments(self, table: Table) -> Iterator[pd.DataFrame]:
        """Yield `table` (columns.SEGMENTS) in readable form, a chunk at a time; one empty chunk if it is empty."""
        yield from (self._segments(chunk) for chunk in _chunks(table))

    def _segments(self, rows: Table) -> pd.DataFrame:
        conn = rows["conn"]
        orig = rows["dir"] == Direction.ORIG
        file, frame = self._frames.number(self._capture_idx[conn], rows["frame"])
        data = {
            "frame": frame,
            **_times("ts", rows["ts_ns"]),
            "conn": conn,
            "dir": _lookup("dir", rows["dir"]),
            "src": np.where(orig, self._orig[conn], self._resp[conn]),
            "dst": np.where(orig, self._resp[conn], self._orig[conn]),
            "fate": _lookup("fate", rows["fate"]),
            "flags": _map_unique(rows["flags"], _flags),
            **{name: rows[name] for name in ("seq", "ack", "payload_len", "window", "ttl", "ip_id")},
            "capture": file,
        }
        return pd.DataFrame(data)

    def _exchange_texts(self, rows: Table) -> tuple[list[str], list[str], list[str]]:
        offsets, *lengths = (rows[name].tolist() for name in _TEXT_COLUMNS)
        targets: list[str] = []
        hosts: list[str] = []
        request_ids: list[str] = []
        read = self._analysis.texts.read
        for offset, target_len, host_len, request_id_len in zip(offsets, *lengths, strict=True):
            # One by one: where names are replaced, one is known by being all of a text.
            targets.append(self._redactor.target(_decode(read(offset, target_len))))
            host_offset = offset + target_len if offset >= 0 else -1
            hosts.append(self._redactor.field("host", _decode(read(host_offset, host_len))))
            request_id = _decode(read(host_offset + host_len if offset >= 0 else -1, request_id_len))
            request_ids.append(self._redactor.field("request_id", request_id))
        return targets, hosts, request_ids

    def _servers(self, offsets: NDArray[Any], lengths: NDArray[Any]) -> list[str]:
        read = self._analysis.texts.read
        texts = (_decode(read(o, n)) for o, n in zip(offsets.tolist(), lengths.tolist(), strict=True))
        return [self._redactor.field("server", text) for text in texts]


_CONNECTION_NUMBERS = (
    *("orig_bytes", "resp_bytes", "orig_frames", "resp_frames", "orig_retransmissions", "resp_retransmissions"),
    *("n_holes", "hole_bytes", "handshake_resp_ns", "handshake_orig_ns", "rtt_min_ns", "stalled_ns", "orig_ttl"),
    *("resp_ttl", "orig_inferred"),
)


def frames_frame(rows: np.ndarray[Any, Any], capture_idx: int, numbers: FrameNumbers) -> pd.DataFrame:
    """Return a batch of columns.FRAMES in readable form.

    Parameters
    ----------
    rows : ndarray of columns.FRAMES.dtype, shape (n_frame,)
        As decoded.
    capture_idx : int
        Which capture of the run they are from.
    numbers : FrameNumbers
        To number them within their files.

    Returns
    -------
    DataFrame
        One row per frame.
    """
    file, frame = numbers.number(np.full(len(rows), capture_idx), rows["frame"])
    data = {
        "frame": frame,
        **_times("ts", rows["ts_ns"]),
        "kind": _lookup("kind", rows["kind"]),
        "src": _endpoints(rows["src_hi"], rows["src_lo"], rows["src_port"]),
        "dst": _endpoints(rows["dst_hi"], rows["dst_lo"], rows["dst_port"]),
        "flags": _map_unique(rows["flags"], _flags),
        **{name: rows[name].copy() for name in _FRAME_NUMBERS},
        "packet_direction": _lookup("packet_direction", rows["packet_direction"]),
        "undecoded_reason": _lookup("undecoded_reason", rows["undecoded_reason"]),
        "capture": file,
    }
    return pd.DataFrame(data)


_FRAME_NUMBERS = (
    *("seq", "ack", "payload_len", "cap_len", "wire_len", "window", "ttl", "ip_id", "ip_proto", "ts_val", "mss"),
    *("wscale", "link_type", "interface"),
)


def _chunks(table: Table) -> Iterator[Table]:
    """Yield the table in pieces whose readable form is of moderate size; an empty table as it is."""
    if not len(table):
        yield table
    for chunk in table.chunks():
        for start in range(0, len(chunk), _MAX_ROWS):
            yield Table(table.schema, chunk.rows[start : start + _MAX_ROWS])


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _ascii(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype("U").astype(object)


def _flags(value: int) -> str:
    return ",".join(words.flag_names(value))


def _exchange_flags(value: int) -> str:
    return ",".join(str(flag.name).lower() for flag in ExchangeFlag if value & flag)


def _lookup(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return the words of an enumeration column."""
    texts = WORDS[name]
    lowest = min(texts)
    table = np.array([texts.get(n, str(n)) for n in range(lowest, max(texts) + 1)], dtype=object)
    result: NDArray[Any] = table[values.astype(np.int64) - lowest]
    return result


def _map_unique(values: NDArray[Any], function: Callable[[Any], str]) -> NDArray[Any]:
    """Return `function` of each value, called once per different value."""
    unique, inverse = np.unique(values, return_inverse=True)
    texts = np.array([function(v) for v in unique.tolist()], dtype=object)
    result: NDArray[Any] = texts[inverse] if len(texts) else np.empty(0, dtype=object)
    return result


def _times(name: str, ts_ns: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return two columns: nanoseconds, and ISO 8601 text (empty for no time)."""
    text = np.array([format_ts_ns(t) if t >= 0 else "" for t in ts_ns.tolist()], dtype=object)
    return {f"{name}_ns": np.ascontiguousarray(ts_ns), name: text}


def _endpoints(hi: NDArray[Any], lo: NDArray[Any], port: NDArray[Any]) -> NDArray[Any]:
    """Return `address:port` of each row, formatted once per different endpoint; empty without an address."""
    order = np.lexsort((port, lo, hi))
    ordered_hi, ordered_lo, ordered_port = hi[order], lo[order], port[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (
        (ordered_hi[1:] != ordered_hi[:-1])
        | (ordered_lo[1:] != ordered_lo[:-1])
        | (ordered_port[1:] != ordered_port[:-1])
    )
    starts = np.flatnonzero(first)
    distinct = zip(ordered_hi[starts].tolist(), ordered_lo[starts].tolist(), ordered_port[starts].tolist(), strict=True)
    texts = np.array([_endpoint(h, low, p) for h, low, p in distinct], dtype=object)
    result = np.empty(len(order), dtype=object)
    if len(texts):
        result[order] = texts[np.cumsum(first) - 1]
    return result


def _endpoint(hi: int, lo: int, port: int) -> str:
    return format_endpoint(hi, lo, port) if hi or lo else ""
