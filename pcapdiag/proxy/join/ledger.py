"""The two-sided ledger as plain data: every upstream entry of the error log, every failed try on the wire.

Knows the words of logs and packets, not how they were joined; `join.py` fills it. Wire times are ns of the capture's
clock, log times seconds of the log's own. No index and no time are -1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from pcapdiag.base.findings import Confidence  # noqa: TC001 - fields of frozen data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcapdiag.proxy.join.clients import ClientTally
    from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry


class EntryVerdict(Enum):
    """What became of an entry of the error log; the value is how reports write it."""

    EXPLAINED = "explained"
    NO_PACKETS_EXPECTED = "no_packets_expected"
    NOT_CAPTURED = "not_captured"
    UNDETERMINED = "undetermined"


class WireVerdict(Enum):
    """Whether a failed try has its entry in the error log."""

    LOGGED = "logged"
    NOT_IN_LOG = "not_in_log"
    """The log covers its time and has no entry that fits, or it has none about any upstream."""
    OUTSIDE_LOG = "outside_log"
    """It happened before the log's first or after its last entry."""
    NOTHING_LOGGED = "nothing_logged"
    """Such an end is not logged at the usual level (a client that went away), or the capture ended before it."""
    UNDETERMINED = "undetermined"
    """It may be one of several entries' try, or no error log was read that could tell of it."""


class Absence(Enum):
    """Why a peer was not tried when no live upstream was left."""

    TRIED = "tried"
    """The same request had used it up."""
    DISABLED = "disabled"
    """Failures had put it out for `fail_timeout`."""
    PROBED = "probed"
    """It had failed and its time was over, but only one request at a time may try it again, and another did."""
    UNHEALTHY = "unhealthy"
    """A health check of the balancer had counted against it."""
    DOWN = "down"
    """The configuration marks it `down`."""
    UNKNOWN = "unknown"
    """The log has no failure of it that reaches this moment."""


@dataclass(frozen=True, slots=True)
class WireTry:
    """One try as packets show it: a lost request, a failed attempt, or the last exchange of a connection.

    Attributes
    ----------
    depth : int
        -1 for a connection attempt.
    start_ns : int
        [ns] First byte of the request, or the first SYN.
    last_sent_ns : int
        [ns] Last segment of the request or last SYN that was seen, repetitions included.
    first_response_ns : int
        [ns] First byte of a response.
    resp_fin_ns, resp_rst_ns, orig_fin_ns, orig_rst_ns, alert_ns : int
        [ns] First FIN and RST of each side, and unasked bytes of the upstream before (TLS close_notify).
    held_back_ns : int
        [ns] When the proxy's closing left late, behind bytes of the request that nobody had acknowledged.
    is_failure : bool
        No response, or one that broke off.
    is_end_known : bool
        The framing tells where the response ends; not so in TLS, or where the capture cut the head off.
    has_head : bool
        The head of a response came whole.
    response_bytes : int
        [bytes] Of the response, as far as it came.
    response_frame, closing_frame : int
        0-based frames of its first byte, and of the first FIN or RST.
    is_handshake : bool
        The TLS handshake failed.
    is_rejected : bool
        It failed when the proxy was done with it: what the proxy did then was to send a request and to wait.
    icmp_ns, icmp_errno : int
        [ns] First ICMP error that quotes the SYN, and the errno that it gives the proxy.
    stream_end_ns : int
        [ns] The upstream's RST_STREAM, or the GOAWAY that this HTTP/2 stream lies beyond.
    """

    conn: int
    depth: int
    uid: str
    orig: str
    peer: str
    request_frame: int
    start_ns: int
    last_sent_ns: int
    first_response_ns: int
    resp_fin_ns: int
    resp_rst_ns: int
    orig_fin_ns: int
    orig_rst_ns: int
    alert_ns: int
    method: str
    target: str
    host: str
    request_id: str
    is_failure: bool
    is_acknowledged: bool
    has_head: bool
    response_bytes: int = -1
    response_frame: int = -1
    closing_frame: int = -1
    is_end_known: bool = True
    held_back_ns: int = -1
    is_handshake: bool = False
    is_rejected: bool = False
    icmp_ns: int = -1
    icmp_errno: int = -1
    stream_end_ns: int = -1

    @property
    def is_connect(self) -> bool:
        """Whether this is a connection attempt that failed."""
        return self.depth < 0

    @property
    def key(self) -> tuple[int, int]:
        """Connection and depth: what findings name it by."""
        return self.conn, self.depth

    @property
    def proxy_close_ns(self) -> int:
        """[ns] When the proxy closed its side; -1 if it was not seen to."""
        return first_of(self.orig_fin_ns, self.orig_rst_ns)

    @property
    def upstream_close_ns(self) -> int:
        """[ns] When the upstream began to close; -1 if it was not seen to."""
        return first_of(self.resp_fin_ns, self.resp_rst_ns, self.alert_ns)


def first_of(*times_ns: int) -> int:
    """Return the earliest of the times that are known, -1 if none is."""
    return min((t for t in times_ns if t >= 0), default=-1)


@dataclass(frozen=True, slots=True)
class LogClock:
    """The log's clock against the capture's.

    Attributes
    ----------
    offset_ns : int
        [ns] Log clock minus capture clock, the zone taken off.
    width_ns : int
        [ns] What the pairs leave open: the offset lies within half of it on either side.
    zone_s : int
        [s] The log's zone, a multiple of 15 minutes.
    pairs : int
        Entries that have a try at this offset.
    conflicts : int
        Entries that had candidates, but none at this offset.
    is_measured : bool
        False where only an unknown timeout joins the two clocks: the offset contains that timeout.
    is_ambiguous : bool
        Another offset fits as many entries.
    """

    offset_ns: int
    width_ns: int
    zone_s: int
    pairs: int
    conflicts: int = 0
    is_measured: bool = True
    is_ambiguous: bool = False

    @property
    def total_ns(self) -> int:
        """[ns] Log time, read as if it were UTC, minus capture time."""
        return self.offset_ns + self.zone_s * 1_000_000_000

    @property
    def agrees(self) -> bool:
        """Whether no difference is possible, too: it is but the middle of what whole seconds leave open."""
        return 2 * abs(self.offset_ns) <= self.width_ns


@dataclass(frozen=True, slots=True)
class JoinedEntry:
    """One entry of the error log with its verdict; `reason` says in words what the verdict rests on.

    `candidates` are the first of the tries that fit alike. `is_elsewhere` says that it is known to be of another time
    than the capture.
    """

    entry: ErrorEntry
    verdict: EntryVerdict
    reason: str
    confidence: Confidence
    wire: WireTry | None = None
    candidates: tuple[WireTry, ...] = ()
    access: AccessEntry | None = None
    is_elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class JoinedTry:
    """One failed try on the wire with its verdict and the entries that tell of it."""

    wire: WireTry
    verdict: WireVerdict
    entries: tuple[ErrorEntry, ...] = ()
    access: AccessEntry | None = None


@dataclass(frozen=True, slots=True)
class ChainLink:
    """Why one peer could not be tried.

    Attributes
    ----------
    until_s : int
        [s] Log time until which it was out.
    entry : ErrorEntry or None
        The failure that did it.
    wire : WireTry or None
        The same in the packets.
    """

    peer: str
    absence: Absence
    until_s: int = -1
    entry: ErrorEntry | None = None
    wire: WireTry | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """What left a request without a peer.

    Attributes
    ----------
    entry : ErrorEntry
        The `no live upstreams`, or its like from a balancer in Lua.
    block : str
        Name of the upstream block; for a balancer what is known of it.
    source : str
        Where its servers were read; empty if they are those that the log names.
    fail_timeout_s : int
        [s] The longest of its servers, as configured, or nginx's default; -1 for a balancer, which has none.
    shortest_timeout_s : int
        [s] The shortest of its servers, likewise.
    """

    entry: ErrorEntry
    block: str
    links: tuple[ChainLink, ...]
    source: str
    fail_timeout_s: int
    shortest_timeout_s: int = -1

    @property
    def is_complete(self) -> bool:
        """Whether every peer of the group is accounted for."""
        return bool(self.links) and all(link.absence is not Absence.UNKNOWN for link in self.links)


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that failed at one upstream and was tried again.

    Attributes
    ----------
    access : AccessEntry
        Its line in the access log.
    number : int
        Which of its tries this is, from 0.
    delay_ns : int
        [ns] What the failed try cost the client.
    """

    wire: WireTry
    access: AccessEntry
    number: int
    delay_ns: int


class OutsideKind(Enum):
    """Why no packet of the capture shows a failure."""

    UNIX_SOCKET = "unix_socket"
    NOTHING_SENT = "nothing_sent"
    """The proxy's own machine refused it: no port, no file descriptor, no permission."""
    NOT_TRIED = "not_tried"
    """None was free in time."""
    NO_SERVER = "no_server"
    """No server was there to be tried: each was out, or there was none."""
    UNRESOLVED = "unresolved"
    NO_PEER = "no_peer"
    """No live upstream, in a log of which nobody knows whether it is of the capture's time."""
    OTHER_PEER = "other_peer"
    """The capture holds no packet of the upstream's address."""
    NOT_SEEN = "not_seen"
    """Packets of the upstream carry request ids, and none has this one's."""
    UNMATCHED = "unmatched"
    """The capture holds packets of the upstream, and no failed try among them that fits."""
    ANSWERED = "answered"
    """The access log says that the upstream itself answered with an error, and no status could be read in packets."""


@dataclass(frozen=True, slots=True)
class OutsideFailure:
    """One failed try, or request, that only a log tells of.

    Attributes
    ----------
    peer : str
        The upstream as the log has it; empty if it names none.
    ts_ns : int
        [ns] When it was logged, by the capture's clock as far as it is known.
    is_placed : bool
        Whether it is known to be of the capture's time.
    is_likely : bool
        Where that is not known: whether its time fits the capture's better than a chance would have it.
    """

    kind: OutsideKind
    peer: str
    ts_ns: int
    path: str
    line: int
    client: str
    method: str
    target: str
    host: str
    status: int = -1
    is_placed: bool = True
    is_likely: bool = True


@dataclass(frozen=True, slots=True)
class Ledger:
    """Logs and packets, joined.

    Attributes
    ----------
    clock : LogClock or None
        None while no pair of entry and try exists.
    zone_s : int or None
        [s] The log's zone, from the clock or as the operator gave it.
    entries : tuple of JoinedEntry
        Every entry that concerns an upstream, as in the log.
    tries : tuple of JoinedTry
        Every failed try of the capture, in its order.
    chains : tuple of Chain
        One per `no live upstreams` that belongs to this capture.
    chains_unplaced : int
        Those of which that is not known, because nothing ties the log's clock to the capture's.
    retries : tuple of Retry
        Failed tries that another try followed; needs the access log.
    entries_left_out, accesses_left_out : int
        Entries and lines of the access log that were too many to be kept.
    clients : ClientTally or None
        Requests of clients by the second; needs the access log.
    errors_read, accesses_read : int
        Records that were understood of the error logs, and of the access logs; -1 where none was given.
    services : mapping of str to str
        From an endpoint of the capture to the address by which the log knows it, where that was learned (NAT).
    outside : tuple of OutsideFailure
        What the logs of the capture's time know, and no packet here shows.
    reloads : tuple of int
        [s] When the proxy was told to read its configuration anew, by the log's own clock; logged from level notice on.
    errors_span_s : tuple of int
        [s] First and last record of the error logs, about upstreams or not, by their own clock; (0, -1) without any.
    """

    clock: LogClock | None
    entries: tuple[JoinedEntry, ...]
    tries: tuple[JoinedTry, ...]
    chains: tuple[Chain, ...] = ()
    chains_unplaced: int = 0
    zone_s: int | None = None
    retries: tuple[Retry, ...] = ()
    entries_left_out: int = 0
    accesses_left_out: int = 0
    clients: ClientTally | None = None
    errors_read: int = -1
    accesses_read: int = -1
    services: Mapping[str, str] = field(default_factory=dict)
    outside: tuple[OutsideFailure, ...] = ()
    reloads: tuple[int, ...] = ()
    errors_span_s: tuple[int, int] = (0, -1)

    @property
    def ahead_ns(self) -> int:
        """[ns] Log clock minus capture clock; 0 where that was not measured, or another offset fits as well."""
        clock = self.clock
        return clock.offset_ns if clock is not None and clock.is_measured and not clock.is_ambiguous else 0

    @property
    def has_errors(self) -> bool:
        """Whether an error log was given and something in it was understood."""
        return self.errors_read > 0

    @property
    def names_tries(self) -> bool:
        """Whether an access log was given that names the upstreams of its requests."""
        return self.clients is not None and any(served.with_tries for served in self.clients.seconds.values())
