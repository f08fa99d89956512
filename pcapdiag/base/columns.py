"""Columns: the named, documented columns of the tables that all stages exchange.

A `Schema` is the single definition of a table: kernels write rows of its structured dtype, rules read its columns by
name, `show` prints its documentation.

This module knows nothing of what the columns mean to TCP or HTTP beyond their one-line documentation.
No index and no time are `-1`, never 0 or NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = np.ndarray[Any, Any]


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


def blank_row(dtype: np.dtype[Any], **values: int) -> Rows:
    """Return an array of one row that kernels copy to reset another: zeros but for `values`.

    Parameters
    ----------
    dtype : dtype
        A structured one.
    **values : int
        By field.
    """
    row = np.zeros(1, dtype=dtype)
    for name, value in values.items():
        row[name] = value
    return row


FRAMES = Schema(
    "frames",
    Column("frame", "i8", "", "0-based index of the frame in its capture (all files of a rotation series together)"),
    Column("ts_ns", "i8", "ns", "capture time since 1970-01-01 UTC"),
    Column("record_offset", "i8", "bytes", "first captured byte of the frame in the batch's buffer"),
    Column(
        "payload_offset",
        "i8",
        "bytes",
        "first TCP payload byte, or first byte of an ICMP message, in the batch's buffer; -1 if the frame is neither",
    ),
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
    Column("payload_cap", "i4", "bytes", "TCP payload bytes, or bytes of an ICMP message, that were captured"),
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
    Column("stalled_ns", "i8", "ns", "time without a segment before each that was sent again, or came out of order"),
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
    Column(
        "n_alike",
        "i4",
        "",
        "unanswered attempts at the same endpoint, before it, that a flood left no room for; negative: at others, too",
    ),
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
    Column("stream", "i4", "", "number of the HTTP/2 stream; -1 for another protocol"),
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
    Column(
        "stream_error",
        "i1",
        "",
        "HTTP/2: error code of what ended the stream, RST_STREAM or GOAWAY (127: any from 127 on); FastCGI: protocol"
        " status of a request that ended without output; -1 if there is none",
    ),
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
