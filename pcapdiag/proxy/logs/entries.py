"""What the logs say, as plain frozen data: an error-log entry, an access-log entry with its tries, a request served.

Knows the words of nginx's logs and what its messages are about; reads no file and sees no packet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

from pcapdiag.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pcapdiag.base.findings import Note

BODY: Final = "reading upstream"
HEADER: Final = "reading response header from upstream"
SENDING: Final = "sending request to upstream"
HANDSHAKING: Final = "SSL handshaking to upstream"
CONNECTING: Final = "connecting to upstream"
"""Steps of a try as nginx names them (`ErrorEntry.action`); entries of other proxies' logs are given the same names."""

MOST_UNPARSED: Final = 20
"""How many lines that are no log lines are kept to be shown; all are counted."""


class LogKind(IntEnum):
    """What an error-log message reports; `ErrorEntry.action` says during which step."""

    OTHER = 0
    """A message that is not in the catalogue."""
    PREMATURE_CLOSE = 1
    """The upstream closed before the end of its response, FIN read (also FastCGI and gRPC)."""
    RECV_FAILED = 2
    """``recv()`` or ``readv()`` failed, mostly a reset; with ETIMEDOUT the kernel gave up, not a timeout of nginx."""
    SEND_FAILED = 3
    """``send()``, ``writev()`` or ``sendfile()`` failed."""
    CONNECT_FAILED = 4
    """``connect()`` failed; a reset here may also have met a pooled connection between picking and writing."""
    TIMED_OUT = 5
    """A timeout of nginx; `action` says which."""
    NO_LIVE_UPSTREAMS = 6
    """No peer to try: no packets, `upstream_peer` is the block's name."""
    SERVER_DISABLED = 7
    """The peer of the try that just failed is out for ``fail_timeout``."""
    TOO_BIG_HEADER = 8
    INVALID_HEADER = 9
    """A header line that is none, a repeated one, or a length that contradicts another."""
    NO_VALID_HEADER = 10
    """The response does not begin as HTTP does."""
    INVALID_BODY = 11
    """Broken chunks, or more data than announced."""
    PREMATURE_RESPONSE = 12
    """Bytes before the request was sent or TLS was established."""
    TLS_CLOSED = 13
    """Closed in the TLS handshake."""
    TLS_FAILED = 14
    TLS_CERTIFICATE = 15
    RESOLVE_FAILED = 16
    """The upstream's name could not be resolved, or its address makes no sense: no packets."""
    CLIENT_CLOSED = 17
    """The client went away and nginx closed the upstream connection because of it."""
    BUFFERED = 18
    """A body went to a temporary file: no failure."""
    CONNECTIONS_SHORT = 19
    """``worker_connections`` are not enough: idle connections are closed early, or none can be opened."""
    UPSTREAM_CLOSED = 20
    """``kevent() reported that upstream closed connection``."""
    PROTOCOL_ERROR = 21
    """What the upstream sent breaks FastCGI, uwsgi, SCGI, gRPC or memcached."""
    UPSTREAM_STDERR = 22
    """What a FastCGI application wrote to its stderr."""
    STREAM_REJECTED = 23
    """gRPC: the upstream refused the stream."""
    GOAWAY = 24
    """gRPC: the upstream is closing the connection and did not serve the stream."""
    LOST_CONNECTION_DATA = 25
    """gRPC: a kept connection without its state (``no connection data found``)."""
    DISCONNECTED = 26
    """``stream``: a session ended; no failure by itself."""
    SESSION_TIMED_OUT = 27
    """``stream``: ``proxy_timeout`` passed without data."""
    BALANCER_NO_PEER = 28
    """A balancer in Lua found no peer, or had tried all of them: no packets."""
    BALANCER_FAILED = 29
    """A balancer in Lua broke, or named an address that cannot be used: no packets."""
    BALANCER_RETRY_TIMEOUT = 30
    """A balancer in Lua gave up because retrying took too long."""
    LUA_SOCKET = 31
    """A connection that Lua code opened failed; not nginx's own upstream."""
    LUA = 32
    """Any other line from Lua code."""
    PROCESS = 33
    """Start, reload, exit or crash of an nginx process."""
    HEALTH_CHECK = 34
    """A health check in Lua counted against a peer, or put it out."""
    BROKEN = 35
    """The upstream closed or reset the connection; the log (HAProxy, ALB, Envoy) does not say which."""
    NO_CONNECTION = 36
    """No connection to the server came about; the log does not say why."""
    NO_SERVER = 37
    """There was no server to be tried: no packets."""
    QUEUED = 38
    """The request waited for a free server until its time was up, or its client left: no packets."""
    NO_RESOURCES = 39
    """The proxy's own machine lacked something (a port, a socket, memory) to connect with: no packets."""
    INVALID_RESPONSE = 40
    """The proxy refused what the server answered."""
    GIVEN_UP = 41
    """What a proxy says of a request after it said what its try failed of."""
    TRY_FAILED = 42
    """A try failed, and the log does not say of what."""


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One record of an nginx error log; text fields are empty and numbers -1 where the record does not say.

    Texts are as logged: nginx escapes nothing, so whoever shows one escapes it.
    """

    path: str
    line: int
    """Physical line of its first byte, from 1; records glued together on one line share it."""
    ts_s: int
    """[s] The log's local time, as if it were UTC; the event was up to a second later."""
    level: str
    pid: int
    tid: int
    log_conn: int
    """The ``*N``: number of the client's connection, shared by all of its requests."""
    kind: LogKind
    action: str
    """What follows ``while``."""
    errno: int
    """Number as logged; it depends on the platform."""
    errno_name: str
    """The same on every platform, such as ``ECONNRESET``; empty for a number that is not known."""
    message: str
    """Without action and context."""
    client: str
    server: str
    request: str
    """The client's request line as logged, possibly cut."""
    method: str
    target: str
    protocol: str
    """Empty for HTTP/0.9, and where the record was cut inside its request line; then the target is a beginning."""
    subrequest: str
    upstream: str
    """The ``upstream:`` field as logged."""
    upstream_schema: str
    upstream_peer: str
    """``10.1.1.1:80``, ``[::1]:80``, ``unix:/path`` or the name of the upstream block."""
    upstream_uri: str
    """What the request line in the packets holds; empty for a peer without one (``stream``)."""
    host: str
    referrer: str
    extra: tuple[tuple[str, str], ...]
    """Further ``key: "value"`` pairs, such as ``request_id`` of APISIX."""
    concerns_upstream: bool
    """Whether it reports a try, or a whole request, that an upstream did not serve."""
    fraction_ns: int = 0
    """[ns] What the stamp says beyond its whole second."""
    width_ns: int = NS_PER_S
    """[ns] What the stamp leaves open; nginx stamps whole seconds."""

    @property
    def ts_ns(self) -> int:
        """[ns] The log's local time, as if it were UTC; the event was up to `width_ns` later."""
        return self.ts_s * NS_PER_S + self.fraction_ns


class Try(NamedTuple):
    """One upstream that nginx tried for a request; -1 where the log has no number."""

    addr: str
    """As in `ErrorEntry.upstream_peer`; the block's name if there was no peer left."""
    status: int
    response_time_ns: int
    connect_time_ns: int
    """[ns] 0 for a reused connection."""
    header_time_ns: int
    redirect: int
    """How many internal redirects (`` : `` in the lists) came before it."""


CUT_OFF = 0
"""Status of a request that its proxy closed without an answer, as nginx logs it (000)."""


class AccessEntry(NamedTuple):
    """One record of an access log; text fields are empty and numbers -1 where its format has no such variable."""

    path: str
    line: int
    ts_ns: int
    """[ns] Begin of the interval in which the request ended, UTC."""
    ts_width_ns: int
    """[ns] Length of that interval: what the logged time leaves open."""
    log_conn: int
    request_id: str
    method: str
    target: str
    protocol: str
    host: str
    client: str
    status: int
    request_time_ns: int
    tries: tuple[Try, ...]


class UpstreamLogEntry(NamedTuple):
    """One request in the log of an application behind the proxy: proof that it arrived."""

    path: str
    line: int
    ts_ns: int
    """[ns] As logged; UTC if `has_zone`, else the log's local time as if it were UTC."""
    ts_width_ns: int
    has_zone: bool
    request_id: str
    method: str
    target: str
    status: int
    client: str
    """Who sent it, with its port where the log has it: the proxy."""


class OfLine(Protocol):
    """An entry of whatever log: it stands on a line."""

    @property
    def line(self) -> int:
        """Its number, from 1."""


Entry_co = TypeVar("Entry_co", bound=OfLine, covariant=True)


@dataclass(slots=True)
class LogCounts:
    """What became of the lines of a log."""

    n_lines: int = 0
    """Physical lines."""
    n_records: int = 0
    """Entries handed out."""
    n_other: int = 0
    """Entries of kind OTHER."""
    n_unparsed: int = 0
    """Lines that are no log lines and continue none."""
    n_foreign: int = 0
    """Lines of the proxy's other log: both may be written to one stream."""
    unparsed: list[tuple[int, str]] = field(default_factory=list)
    """The first of them: line number and text."""
    notes: list[Note] = field(default_factory=list)
    """What was odd about the file."""
    _rejected: int = field(default=0, repr=False, compare=False)

    def reject(self, line: int, text: str) -> None:
        """Count a line that is no log line; once, whatever an export wrote into it."""
        if line == self._rejected:
            return
        self._rejected = line
        self.n_unparsed += 1
        if len(self.unparsed) < MOST_UNPARSED:
            self.unparsed.append((line, text[:500]))


class Log(Generic[Entry_co]):
    """A log to be read: iterate over its entries, in bounded memory, as often as wanted.

    Parameters
    ----------
    path : str
        Where from.
    read : callable
        Reads the file from its beginning, counting in what it is given.

    Attributes
    ----------
    counts : LogCounts
        Of the latest iteration; complete at its end.
    before : int
        The line at which reading ends, because another log has the rest; -1 to read all.
    """

    def __init__(self, path: str, read: Callable[[LogCounts], Iterator[Entry_co]]) -> None:
        self.path = path
        self.before = -1
        self.counts = LogCounts()
        self._read = read

    def __iter__(self) -> Iterator[Entry_co]:
        self.counts = LogCounts()
        for entry in self._read(self.counts):
            if 0 <= self.before <= entry.line:
                return
            yield entry
