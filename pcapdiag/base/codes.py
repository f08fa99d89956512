"""Every enumeration whose number stands in a column or in a kernel.

This module knows names and numbers, nothing else: kernels, tables, rules and reports all read it, so it imports only
the standard library. Numbers are part of the stored formats: never renumber, only append.
"""

from enum import IntEnum, IntFlag
from typing import Final


class Direction(IntEnum):
    """Direction of a segment on its connection (Zeek's originator and responder)."""

    NONE = -1
    ORIG = 0
    RESP = 1


class FrameKind(IntEnum):
    """What decoding made of a frame; every frame has exactly one kind."""

    UNDECODED = 0
    """Not understood, or cut too short; `undecoded_reason` says why."""
    TCP = 1
    UDP = 2
    ICMP = 3
    OTHER_IP = 4
    """An IP packet of another protocol (SCTP, ESP, ...)."""
    FRAGMENT = 5
    """A fragment of a datagram that another frame completes, or that was never completed."""
    NON_IP = 6
    """A link-layer protocol other than IP (ARP, LLDP, spanning tree, ...)."""


class UndecodedReason(IntEnum):
    """Why a frame is UNDECODED."""

    NONE = 0
    LINK_TYPE = 1
    """No decoder for this link type."""
    LINK_HEADER_CUT = 2
    """The captured bytes end inside the link header."""
    IP_HEADER_CUT = 3
    IP_MALFORMED = 4
    """Version, header length or total length contradict each other."""
    TCP_HEADER_CUT = 5
    TCP_MALFORMED = 6
    """Data offset below 5 words or beyond the segment."""
    TOO_DEEP = 7
    """More nested headers than the decoder follows."""
    EMPTY = 8
    """A record without bytes."""
    PENDING = 9
    """Handed to the slow path; never in a finished batch."""


class PacketDirection(IntEnum):
    """What the capturing machine said of a frame's way (SLL packet type, pcapng epb_flags)."""

    UNKNOWN = -1
    INBOUND = 0
    OUTBOUND = 1
    OTHER = 2
    """Seen in promiscuous mode, broadcast or multicast."""


class TcpFlag(IntFlag):
    """Bits of the TCP control field (RFC 9293 section 3.1)."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


class Fate(IntEnum):
    """What a segment turned out to be; exactly one per segment, Wireshark's precedence."""

    NEW = 0
    """Payload, SYN or FIN that extends the stream."""
    RETRANSMISSION = 1
    SPURIOUS_RETRANSMISSION = 2
    """Bytes that the receiver had already acknowledged in the capture."""
    OUT_OF_ORDER = 3
    """Bytes below the highest sequence number that were not seen before."""
    OVERLAP = 4
    """Partly old, partly new bytes."""
    KEEP_ALIVE = 5
    KEEP_ALIVE_ACK = 6
    DUP_ACK = 7
    ZERO_WINDOW_PROBE = 8
    PURE_ACK = 9
    OUTSIDE_WINDOW = 10
    """Sequence numbers that cannot belong to this connection's present state."""
    AFTER_RST = 11
    DUPLICATE_CAPTURE = 12
    """The same packet captured twice (`-i any`, bridges, mirror ports)."""
    RESET = 13
    """A segment with RST: it ends the connection and carries no stream bytes."""


class StreamEventKind(IntEnum):
    """What the TCP tracker tells the layer above, in capture order."""

    SEGMENT = 0
    """A captured segment with its fate; `len` new in-order stream bytes, which may be none."""
    RELEASED = 1
    """Bytes of an earlier out-of-order segment that are in order now."""
    HOLE = 2
    """Stream bytes that were never captured."""
    OPEN = 3
    """A connection begins in this slot."""
    END = 4
    """The connection of this slot is over; its row is final."""


class ConnEnd(IntEnum):
    """Why a connection's row was closed."""

    CAPTURE_END = 0
    CLOSED = 1
    """Closed by FIN or RST and quiet since."""
    PORT_REUSE = 2
    """A new SYN took its endpoints over."""
    EVICTED = 3
    """Dropped to keep the bound on live connections."""
    ABANDONED = 4
    """A connection attempt that nobody answered and nobody repeated."""


class ClosingKind(IntEnum):
    """How a connection ended."""

    NONE = 0
    FIN = 1
    RST = 2


class ConnState(IntEnum):
    """Zeek's conn_state; `report` prints it with words beside it."""

    OTH = 0
    S0 = 1
    S1 = 2
    SF = 3
    REJ = 4
    S2 = 5
    S3 = 6
    RSTO = 7
    RSTR = 8
    RSTOS0 = 9
    RSTRH = 10
    SH = 11
    SHR = 12


class Protocol(IntEnum):
    """What a connection carries, as far as framing is concerned."""

    UNKNOWN = 0
    HTTP1 = 1
    TLS = 2
    FASTCGI = 3
    UWSGI = 4
    MEMCACHED = 5
    HTTP2 = 6
    UPGRADED = 7
    """HTTP/1 that switched to another protocol (101, CONNECT)."""
    OPAQUE = 8
    """Its bytes were seen and are none of these; UNKNOWN is what was not seen."""
    HTTP2_UNREAD = 9
    """HTTP/2 whose frames could not be followed: bytes are missing, or it has more streams open than are told apart."""
    SCGI = 10


OF_GATEWAYS: Final = (Protocol.FASTCGI, Protocol.UWSGI, Protocol.SCGI)
"""Protocols whose requests are sets of CGI's variables, and whose answers begin as those of CGI do."""
WITH_STATUS: Final = (Protocol.HTTP1, Protocol.HTTP2, *OF_GATEWAYS)
"""Protocols of which the status of an answer is read."""


class Method(IntEnum):
    """Request methods (RFC 9110 section 9 and PATCH); OTHER is any other token."""

    NONE = -1
    OTHER = 0
    GET = 1
    HEAD = 2
    POST = 3
    PUT = 4
    DELETE = 5
    CONNECT = 6
    OPTIONS = 7
    TRACE = 8
    PATCH = 9


class Framing(IntEnum):
    """Why a message ends (RFC 9112 section 6.3)."""

    UNKNOWN = -1
    NO_CONTENT = 0
    CONTENT_LENGTH = 1
    CHUNKED = 2
    UNTIL_CLOSE = 3
    TURN = 4
    """Not HTTP/1, or a head that was not captured whole: the message ends when the other side speaks."""
    RECORDS = 5
    """FastCGI: the message ends with a record that says so."""
    FRAMES = 6
    """HTTP/2: the message ends with a frame that says so (END_STREAM)."""


class Outcome(IntEnum):
    """What became of an exchange."""

    ANSWERED = 0
    UNANSWERED = 1
    """No response byte that the proxy could still use."""
    TRUNCATED = 2
    """The response began and did not end as its framing demands."""
    RESPONSE_ONLY = 3
    """The capture holds no request for this response."""
    PENDING = 4
    """The capture ended inside the response."""


class ExchangeFlag(IntFlag):
    """Bits of an exchange's `flags`."""

    LATE_ANSWER = 0x01
    """Response bytes came, but the originator had closed and never acknowledged them."""
    EARLY_RESPONSE = 0x02
    """The response began before the request was complete."""
    PIPELINED = 0x04
    """The request was sent while an earlier exchange was open."""
    INTERIM = 0x08
    """At least one 1xx response."""
    HOLE = 0x10
    """Stream bytes of this exchange are missing from the capture."""
    REQUEST_OPEN = 0x20
    """The request itself was not complete at the end."""
    MID_STREAM = 0x40
    """The connection was already running when the capture began and this is its first exchange."""
    UPGRADE = 0x80
    CONNECTION_CLOSE = 0x100
    """The response announced `Connection: close` (or HTTP/1.0 without keep-alive)."""
    ACKNOWLEDGED = 0x200
    """The responder acknowledged the whole request."""
    ACKNOWLEDGED_PART = 0x400
    """The responder acknowledged a part of the request."""
    GOODBYE = 0x800
    """These bytes say goodbye in their protocol (QUIT, COM_QUIT, Terminate, unbind): no answer is owed."""
    NOT_OWED = 0x1000
    """Pipelined behind a request whose response said that the connection ends with it (RFC 9112 section 9.6)."""
    NOT_PROCESSED = 0x2000
    """The responder said that it did nothing of this HTTP/2 stream: it lies beyond the last one of its GOAWAY, or was
    refused (RST_STREAM with REFUSED_STREAM). Of FastCGI: it rejected the request (FCGI_END_REQUEST with another status
    than FCGI_REQUEST_COMPLETE)."""
    PROBED = 0x4000
    """A keep-alive probe was answered in the idle gap before the request: the path knew the connection until then."""


class Key(IntEnum):
    """The segments of a lost request that a rule or a reader needs, one slot each."""

    SYN = 0
    SYN_ACK = 1
    RESPONSE_BEFORE = 2
    """Last payload of the responder before the request."""
    REQUEST = 3
    """First transmission of the request's first bytes."""
    REQUEST_END = 4
    """First transmission of the request's last bytes, when another segment."""
    RETRANSMISSION = 5
    """First repetition of request bytes."""
    LAST_RETRANSMISSION = 6
    ACK = 7
    """First segment that acknowledges the whole request."""
    RESP_FIN = 8
    ORIG_FIN = 9
    RESP_RST = 10
    ORIG_RST = 11
    RESPONSE = 12
    """First response payload of this exchange, late or partial."""
    UNSOLICITED = 13
    """First TLS alert of the responder after the handshake (close_notify); where records cannot be read, a payload
    that is small enough for one and does not acknowledge the request."""
    RESPONSE_END = 14
    """Last response payload of this exchange, when another segment."""
    ZERO_WINDOW = 15
    """First segment of the responder, while the request was open, that says it can take no more bytes."""
    ORIG_ZERO_WINDOW = 16
    """First segment of the originator, inside the response, that says it can take no more bytes, unless a later one
    takes that back."""
    RESP_RESET_STREAM = 17
    """HTTP/2: the responder's RST_STREAM that ended this stream."""
    ORIG_RESET_STREAM = 18
    GOAWAY = 19
    """HTTP/2: the responder's GOAWAY, of several the last that lowered the number of streams it still serves."""
    KEEP_ALIVE_ACK = 20
    """Last answer to a keep-alive probe, of either side, in the idle gap before the request."""
    RESP_END_REQUEST = 21
    """FastCGI: the responder's FCGI_END_REQUEST, of a request without a byte of output."""
    ORIG_ABORT = 22
    """FastCGI: the originator's FCGI_ABORT_REQUEST."""
    RESP_STDERR = 23
    """FastCGI: last segment with records of the responder that are no output (FCGI_STDERR), before any output."""
    CREDIT_USED = 24
    """HTTP/2: the originator's segment with which it had sent, inside its request, all that the responder's flow
    control let it send (RFC 9113 section 5.2), unless more was granted later."""


class Leg(IntEnum):
    """Which side of the proxy a connection is on."""

    UNKNOWN = 0
    UPSTREAM = 1
    CLIENT = 2


class CapturePoint(IntEnum):
    """Where the capture was taken."""

    UNKNOWN = 0
    PROXY = 1
    UPSTREAM = 2
    """At the upstream: the responder's answers to SYN and data come at once."""
    BETWEEN = 3
