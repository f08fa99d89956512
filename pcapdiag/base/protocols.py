"""What is read of each protocol between proxy and upstream, in words, for the documentation.

Knows no bytes: how a protocol is told and framed, the kernels of `engine.http` know.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pcapdiag.base.codes import Protocol


class ProtocolFacts(NamedTuple):
    """One protocol.

    Attributes
    ----------
    name : str
        As people write it.
    told_by : str
        What in the first bytes of a connection tells it.
    exchange : str
        What counts as a request with its answer.
    named_by : str
        What a request is called by in a report; empty where it has no name.
    source : str
        Where it is defined; empty where it is none that is known.
    """

    name: str
    told_by: str
    exchange: str
    named_by: str
    source: str


_OF_GATEWAY: Final = "method and target of the variables; the status is that of the answer's head"

PROTOCOL_FACTS: Final[dict[Protocol, ProtocolFacts]] = {
    Protocol.HTTP1: ProtocolFacts(
        "HTTP/1.0 and HTTP/1.1",
        "a request line or a status line",
        "a request and its final response; pipelined requests are told apart",
        "method, target, Host, X-Request-Id; status",
        "RFC 9112",
    ),
    Protocol.HTTP2: ProtocolFacts(
        "HTTP/2 in the clear: h2c, gRPC",
        "the connection preface",
        "a stream that carries a request; PING, SETTINGS and WINDOW_UPDATE are none",
        "method, path, authority and x-request-id of the few heads that a report shows (HPACK); status",
        "RFC 9113, RFC 7541",
    ),
    Protocol.FASTCGI: ProtocolFacts(
        "FastCGI",
        "a record BEGIN_REQUEST or GET_VALUES",
        "a request id from BEGIN_REQUEST to END_REQUEST",
        _OF_GATEWAY,
        "FastCGI Specification 1.0",
    ),
    Protocol.UWSGI: ProtocolFacts(
        "uwsgi",
        "a packet with modifiers 0 that states the length of its variables",
        "the variables with the body that they announce, and the answer",
        _OF_GATEWAY,
        "The uwsgi Protocol (documentation of uWSGI)",
    ),
    Protocol.SCGI: ProtocolFacts(
        "SCGI",
        "a netstring that begins with CONTENT_LENGTH",
        "the variables with the body that they announce, and the answer",
        _OF_GATEWAY,
        "SCGI: A Simple Common Gateway Interface alternative",
    ),
    Protocol.TLS: ProtocolFacts(
        "TLS",
        "a record header",
        "a turn: application data to the upstream, and what comes back; none where ALPN chose HTTP/2",
        "with keys the HTTP/1 inside; without, server name and ALPN of the connection's hello",
        "RFC 8446, RFC 5246",
    ),
    Protocol.UPGRADED: ProtocolFacts(
        "WebSocket, tunnels and what else HTTP/1 switches to",
        "a response 101, or one that grants CONNECT, before it",
        "none: its end is told, by whom, by what, after which silence",
        "the request that switched",
        "RFC 9110 sections 7.8 and 9.3.6",
    ),
    Protocol.HTTP2_UNREAD: ProtocolFacts(
        "HTTP/2 that cannot be followed",
        "as HTTP/2; bytes are missing, or more streams are open than are told apart",
        "none: not evaluated, and said to be so",
        "",
        "RFC 9113",
    ),
    Protocol.OPAQUE: ProtocolFacts(
        "any other", "none of the above", "a turn; one without an answer is no error, nor is a goodbye", "", ""
    ),
    Protocol.UNKNOWN: ProtocolFacts(
        "not seen", "too few bytes were captured", "none: connecting and closing alone are judged", "", ""
    ),
}
"""Of every protocol that is told apart, in the order of a table."""
