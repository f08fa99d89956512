"""The columns of the readable tables: their order, what each means, and the words of those that hold some.

Knows no table, so that a mistyped name is told before a capture is read. `tables` makes what is described here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pcapdiag.base.codes import (
    ClosingKind,
    ConnEnd,
    ConnState,
    Direction,
    Fate,
    FrameKind,
    Framing,
    Leg,
    Method,
    Outcome,
    PacketDirection,
    Protocol,
    UndecodedReason,
)
from pcapdiag.report import words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import IntEnum


def _words(enum: type[IntEnum], texts: Mapping[Any, str] | None = None) -> dict[int, str]:
    """Return the word of each member; of those without words of their own it is the name."""
    own = {int(member): text for member, text in (texts or {}).items()}
    return {int(m): own.get(int(m), str(m.name).lower().replace("_", " ")) for m in enum}


WORDS: Final[Mapping[str, dict[int, str]]] = {
    "closing_kind": _words(ClosingKind, {ClosingKind.NONE: "", ClosingKind.FIN: "FIN", ClosingKind.RST: "RST"}),
    "conn_state": _words(ConnState, {state: state.name for state in ConnState}),
    "conn_state_words": _words(ConnState, words.CONN_STATES),
    "dir": _words(Direction),
    "end": _words(ConnEnd),
    "fate": _words(Fate, words.FATES),
    "first_closer": _words(Direction, {Direction.NONE: ""}),
    "kind": _words(FrameKind, words.FRAME_KINDS),
    "leg": _words(Leg),
    "method": _words(Method, {m: m.name for m in Method} | {Method.NONE: ""}),
    "outcome": _words(Outcome, words.OUTCOMES),
    "packet_direction": _words(PacketDirection, words.PACKET_DIRECTIONS),
    "protocol": _words(Protocol),
    "request_framing": _words(Framing),
    "response_framing": _words(Framing),
    "undecoded_reason": _words(UndecodedReason, words.UNDECODED_REASONS),
}
"""Of each column that holds one of some words: the word of each number. Empty is none."""

_MEANINGS: Final = {
    "ack": "acknowledgement number",
    "cap_len": "[bytes] how much of the frame was captured",
    "capture": "file that the frame numbers count in",
    "closing_frame": "frame of the first FIN or RST",
    "closing_kind": "what closed the connection",
    "closing_ts": "capture time of the first FIN or RST, ISO 8601 (UTC)",
    "closing_ts_ns": "[ns] the same since 1970",
    "conn": "number of the connection, in order of first frames, from 0",
    "conn_state": "state at the end, as Zeek has it",
    "conn_state_words": "the same in words",
    "depth": "position of the exchange on its connection, from 0",
    "dir": "who sent the segment: the originator of the connection, or the responder",
    "dst": "destination, address and port",
    "duration_ns": "[ns] first request byte to last response byte",
    "end": "why nothing more is known of the connection",
    "fate": "what became of the segment",
    "first_byte_ns": "[ns] last request byte to first response byte",
    "first_closer": "who sent the first FIN or RST",
    "first_frame": "frame of the first segment",
    "first_ts": "capture time of the first segment, ISO 8601 (UTC)",
    "first_ts_ns": "[ns] the same since 1970",
    "flags": "TCP control bits; of an exchange, what is odd about it",
    "frame": "number of the frame within its file, from 1, as in Wireshark",
    "handshake_orig_ns": "[ns] SYN-ACK to the originator's ACK",
    "handshake_resp_ns": "[ns] SYN to SYN-ACK at the capture point",
    "history": "what happened on the connection, in Zeek's letters",
    "history_words": "the same in words",
    "hole_bytes": "[bytes] stream bytes that were never captured",
    "host": "Host field of the request",
    "idle_at_close_ns": "[ns] last payload byte to the first FIN or RST, where no exchange was open",
    "idle_before_ns": "[ns] idle gap of the connection before the request",
    "interface": "index of the pcapng interface within its section",
    "ip_id": "IPv4 identification",
    "ip_proto": "protocol number of the innermost IP header",
    "kind": "what the frame is",
    "last_frame": "frame of the last segment",
    "last_ts": "capture time of the last segment, ISO 8601 (UTC)",
    "last_ts_ns": "[ns] the same since 1970",
    "leg": "which side of the proxy the connection is on",
    "link_type": "LINKTYPE_ number of the frame's interface",
    "method": "method of the request",
    "mss": "[bytes] maximum segment size option",
    "n_exchanges": "exchanges on the connection",
    "n_holes": "holes in either of its streams",
    "n_unanswered": "requests on it that got no answer",
    "open_exchange": "whether an exchange was open at the first FIN or RST",
    "orig": "originator of the connection, address and port",
    "orig_bytes": "[bytes] stream bytes of the originator",
    "orig_frames": "segments of the originator",
    "orig_inferred": "1 if no SYN was seen and the originator is a guess",
    "orig_retransmissions": "retransmitted segments of the originator",
    "orig_ttl": "TTL or hop limit of the originator's first segment",
    "outcome": "what became of the request",
    "packet_direction": "way of the frame as the capturing machine saw it",
    "payload_len": "[bytes] TCP payload on the wire",
    "protocol": "what is spoken on the connection",
    "request_bytes": "[bytes] stream bytes of the request",
    "request_frame": "frame of the request's first byte",
    "request_framing": "how the end of the request is known",
    "request_id": "X-Request-Id field of the request",
    "request_ts": "capture time of the request's first byte, ISO 8601 (UTC)",
    "request_ts_ns": "[ns] the same since 1970",
    "resp": "responder of the connection, address and port",
    "resp_bytes": "[bytes] stream bytes of the responder",
    "resp_frames": "segments of the responder",
    "resp_retransmissions": "retransmitted segments of the responder",
    "resp_ttl": "TTL or hop limit of the responder's first segment that is no RST",
    "response_bytes": "[bytes] stream bytes of the response, interim responses included",
    "response_frame": "frame of the response's first byte",
    "response_framing": "how the end of the response is known",
    "retransmissions": "repeated transmissions of request bytes",
    "rtt_min_ns": "[ns] shortest time from originator data to its acknowledgement",
    "seq": "sequence number",
    "server": "Server field of the first response",
    "src": "source, address and port",
    "stalled_ns": "[ns] time without a segment before each that was sent again, or came out of order",
    "status_code": "status of the final response",
    "target": "target of the request",
    "ts": "capture time, ISO 8601 (UTC)",
    "ts_ns": "[ns] the same since 1970",
    "ts_val": "TCP timestamp option",
    "ttl": "TTL or hop limit of the innermost IP header",
    "uid": "identifier of the connection, alike in all reports on the same capture",
    "undecoded_reason": "why a frame was not decoded",
    "window": "TCP window field, unscaled",
    "wire_len": "[bytes] length of the frame on the wire",
    "wscale": "window scale option",
}

_ORDER: Final = {
    "frames": "frame ts_ns ts kind src dst flags seq ack payload_len cap_len wire_len window ttl ip_id ip_proto ts_val"
    " mss wscale link_type interface packet_direction undecoded_reason capture",
    "segments": "frame ts_ns ts conn dir src dst fate flags seq ack payload_len window ttl ip_id capture",
    "connections": "conn uid first_frame last_frame first_ts_ns first_ts last_ts_ns last_ts orig resp leg protocol"
    " conn_state conn_state_words history history_words end first_closer closing_kind idle_at_close_ns n_exchanges"
    " n_unanswered orig_bytes resp_bytes orig_frames resp_frames orig_retransmissions resp_retransmissions n_holes"
    " hole_bytes handshake_resp_ns handshake_orig_ns rtt_min_ns stalled_ns orig_ttl resp_ttl orig_inferred server"
    " capture",
    "exchanges": "request_frame request_ts_ns request_ts orig resp depth idle_before_ns method target host status_code"
    " outcome first_byte_ns duration_ns request_bytes response_bytes retransmissions response_frame protocol"
    " request_framing response_framing flags request_id conn uid leg capture",
    "closings": "closing_frame closing_ts_ns closing_ts conn uid orig resp first_closer closing_kind idle_at_close_ns"
    " open_exchange n_exchanges n_unanswered conn_state conn_state_words capture",
}

TABLES: Final = {table: {name: _MEANINGS[name] for name in names.split()} for table, names in _ORDER.items()}
"""Each table with its columns in order, and what each means."""


def column_words(name: str) -> tuple[str, ...]:
    """Return the words that a column can hold; none for a column of numbers or of free text."""
    return tuple(word for word in dict.fromkeys(WORDS.get(name, {}).values()) if word)


def resolve(name: str, columns: Mapping[str, object]) -> str:
    """Return the column that a name stands for: of a duration the unit may be left out. Empty if there is none."""
    return next((known for known in (name, f"{name}_ns") if known in columns), "")
