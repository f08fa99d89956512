"""The words beside the codes: an operator at 3 a.m. reads no letters and numbers without them.

Plain text for every enumeration that a report or a table shows. No markup, no layout.
"""

from __future__ import annotations

from functools import cache

from pcapdiag.base.codes import (
    CapturePoint,
    ConnState,
    Fate,
    FrameKind,
    Outcome,
    PacketDirection,
    TcpFlag,
    UndecodedReason,
)

CAPTURE_POINTS = {
    CapturePoint.UNKNOWN: "at an unknown place",
    CapturePoint.PROXY: "at the proxy",
    CapturePoint.UPSTREAM: "at the upstream",
    CapturePoint.BETWEEN: "between proxy and upstream",
}

CONN_STATES = {
    ConnState.OTH: "seen in mid-connection only, neither opened nor closed",
    ConnState.S0: "connection attempt without any answer",
    ConnState.S1: "opened, not closed",
    ConnState.SF: "opened and closed by FIN in both directions",
    ConnState.REJ: "connection attempt refused by RST",
    ConnState.S2: "opened, closed by the originator only (FIN)",
    ConnState.S3: "opened, closed by the responder only (FIN)",
    ConnState.RSTO: "opened, reset by the originator",
    ConnState.RSTR: "opened, reset by the responder",
    ConnState.RSTOS0: "SYN, then RST, both by the originator, no answer",
    ConnState.RSTRH: "SYN-ACK, then RST, both by the responder, no SYN seen",
    ConnState.SH: "SYN, then FIN, both by the originator, no answer",
    ConnState.SHR: "SYN-ACK, then FIN, both by the responder, no SYN seen",
}

# Zeek's history: upper case is the originator, lower case the responder.
HISTORY = {
    "s": "SYN",
    "h": "SYN-ACK",
    "a": "ACK",
    "d": "data",
    "f": "FIN",
    "r": "RST",
    "c": "bad checksum",
    "g": "hole",
    "t": "retransmission",
    "w": "zero window",
    "i": "inconsistent flags",
    "q": "SYN with FIN or RST",
    "^": "direction guessed",
    "x": "not analysed further",
}

OUTCOMES = {
    Outcome.ANSWERED: "answered",
    Outcome.UNANSWERED: "unanswered",
    Outcome.TRUNCATED: "truncated response",
    Outcome.RESPONSE_ONLY: "response only",
    Outcome.PENDING: "pending at capture end",
}

FATES = {fate: fate.name.lower().replace("_", " ") for fate in Fate}

FRAME_KINDS = {
    FrameKind.UNDECODED: "undecoded",
    FrameKind.TCP: "TCP",
    FrameKind.UDP: "UDP",
    FrameKind.ICMP: "ICMP",
    FrameKind.OTHER_IP: "other IP",
    FrameKind.FRAGMENT: "fragment",
    FrameKind.NON_IP: "not IP",
}

UNDECODED_REASONS = {
    UndecodedReason.NONE: "",
    UndecodedReason.LINK_TYPE: "no decoder for this link type",
    UndecodedReason.LINK_HEADER_CUT: "captured bytes end inside the link header",
    UndecodedReason.IP_HEADER_CUT: "captured bytes end inside the IP header",
    UndecodedReason.IP_MALFORMED: "malformed IP header",
    UndecodedReason.TCP_HEADER_CUT: "captured bytes end inside the TCP header",
    UndecodedReason.TCP_MALFORMED: "malformed TCP header",
    UndecodedReason.TOO_DEEP: "too many nested headers",
    UndecodedReason.EMPTY: "record without bytes",
    UndecodedReason.PENDING: "not decoded",
}

PACKET_DIRECTIONS = {
    PacketDirection.UNKNOWN: "",
    PacketDirection.INBOUND: "inbound",
    PacketDirection.OUTBOUND: "outbound",
    PacketDirection.OTHER: "other",
}

# The order in which tcpdump and people say them.
_FLAGS = (
    TcpFlag.SYN,
    TcpFlag.FIN,
    TcpFlag.RST,
    TcpFlag.PSH,
    TcpFlag.ACK,
    TcpFlag.URG,
    TcpFlag.ECE,
    TcpFlag.CWR,
)


@cache
def flag_names(flags: int) -> tuple[str, ...]:
    """Return the names of the TCP control bits that are set, SYN, FIN and RST first."""
    return tuple(str(flag.name) for flag in _FLAGS if flags & flag)


def history_words(history: str) -> str:
    """Return Zeek's history letters in words: ``ShAd`` is ``> SYN, < SYN-ACK, > ACK, < data``."""
    return ", ".join(f"{'>' if c.isupper() else '<'} {HISTORY.get(c.lower(), c)}" for c in history)
