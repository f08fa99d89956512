"""Which logged try may be which try on the wire: by peer, method and target, by what happened, and when.

Knows one pair at a time; `assign.py` decides among them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pcapdiag.base.units import NS_PER_S, format_address, parse_endpoint
from pcapdiag.proxy.join.clock import Interval, find_plateaus, merge_intervals
from pcapdiag.proxy.join.symptoms import HANDSHAKING, SENDING, SHARP, Moment, Symptom, moment_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.proxy.conf.settings import ProxySettings
    from pcapdiag.proxy.join.attempts import LoggedTry
    from pcapdiag.proxy.join.clock import Plateau
    from pcapdiag.proxy.join.ledger import LogClock, WireTry

LAG_NS = 50_000_000
"""[ns] A busy worker may notice an event so much later."""
LEAD_NS = 20_000_000
"""[ns] nginx takes the time once per round of its event loop: what it does may be stamped so much earlier."""
LONGEST_TIMEOUT_NS = 3600 * NS_PER_S
CUT_URI = 1000
"""[bytes] A log line is cut at 2048 bytes: of a target so long, the beginning counts."""
MOST_SAMPLED = 400
"""Entries that are asked for the clock; more say nothing new."""
MOST_SAMPLED_PAIRS = 1_000_000
LEAST_SAMPLED = 20
_NEAR_NS = 5 * NS_PER_S
_SILENT = frozenset({Symptom.TIMEOUT, Symptom.CONNECT_TIMEOUT, Symptom.UNREACHABLE, Symptom.FAILED})


class Pair(NamedTuple):
    """A logged try and a try on the wire that may be the same, and when nginx must have logged it."""

    logged: int
    wire: int
    moment: Moment


@lru_cache(maxsize=4096)
def normalize_peer(peer: str) -> str:
    """Return an address and port in the one form that packets and logs share; other text as it is.

    Credentials before it are left out: reasons name the peer.
    """
    peer = peer.rpartition("@")[2]
    try:
        high, low, port = parse_endpoint(peer)
    except ValueError:
        return peer
    address = format_address(high, low)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Pairing:
    """All pairs that are possible.

    Parameters
    ----------
    logged : sequence of LoggedTry
        In the order of the log.
    wires : sequence of WireTry
        Any order.
    settings : ProxySettings or None
        For the timeouts.
    """

    def __init__(self, logged: Sequence[LoggedTry], wires: Sequence[WireTry], settings: ProxySettings | None) -> None:
        self.logged = logged
        self.wires = sorted(wires, key=lambda w: (end_of(w), w.request_frame))
        self._settings = settings
        self._by_peer: dict[str, list[int]] = defaultdict(list)
        for position, wire in enumerate(self.wires):
            self._by_peer[wire.peer].append(position)
        self._timeouts: dict[tuple[str, str], int] = {}
        self.learned: dict[Symptom, Plateau] = {}

    def intervals(self, *, is_open: bool = False) -> tuple[list[list[Interval]], list[list[Interval]]]:
        """Return the clock offsets that pairs allow, by entry and by try; of open moments only, or of all others.

        An open moment counts as if the proxy had given up at once: its offset contains the timeout.
        """
        n_sampled = min(MOST_SAMPLED, max(MOST_SAMPLED_PAIRS // max(len(self.wires), 1), LEAST_SAMPLED))
        step = max(len(self.logged) // n_sampled, 1)
        rows: list[list[Interval]] = []
        by_try: dict[int, list[Interval]] = defaultdict(list)
        for number in range(0, len(self.logged), step):
            ts_ns = self.logged[number].head.ts_s * NS_PER_S
            row = []
            for _, position, m in self.of(number):
                if m.is_open == is_open:
                    row.append(Interval(ts_ns - m.high - LAG_NS, ts_ns + NS_PER_S - m.low + LEAD_NS))
                    by_try[position].append(row[-1])
            if row:
                rows.append(row)
        return rows, list(by_try.values())

    def of(self, number: int, low_ns: int = -1, high_ns: int = -1) -> Iterator[Pair]:
        """Yield the pairs of one logged try, those only whose try ended within [low_ns, high_ns] where it is given."""
        attempt = self.logged[number]
        head = attempt.head
        if attempt.symptom is Symptom.NO_PACKETS:
            return
        positions = self._by_peer.get(normalize_peer(head.upstream_peer), [])
        if low_ns >= 0:
            first = bisect_left(positions, low_ns, key=lambda p: end_of(self.wires[p]))
            last = bisect_right(positions, high_ns, key=lambda p: end_of(self.wires[p]))
            positions = positions[first:last]
        for position in positions:
            wire = self.wires[position]
            if not _is_same_request(attempt, wire):
                continue
            moment = moment_of(attempt.symptom, head.action, wire)
            if moment is not None:
                yield Pair(number, position, self._closed(moment, attempt, wire))

    def near(self, number: int, clock: LogClock) -> Iterator[Pair]:
        """Yield the pairs of one logged try that may fit at this clock offset; where packets tell, no others."""
        attempt = self.logged[number]
        if attempt.symptom not in SHARP:  # of these alone packets show the moment
            return self.of(number)
        at_ns = attempt.head.ts_s * NS_PER_S - clock.total_ns
        half = clock.width_ns // 2 + _NEAR_NS
        return self.of(number, max(at_ns - half, 0), max(at_ns + NS_PER_S + half, 0))

    def learn_timeouts(self, total_ns: int, width_ns: int) -> None:
        """Find the timeouts that no configuration names: how long after a request the entries without a FIN come."""
        rows: dict[Symptom, list[list[Interval]]] = defaultdict(list)
        for number, attempt in enumerate(self.logged):
            if attempt.symptom not in _SILENT:
                continue
            seen_ns = attempt.head.ts_s * NS_PER_S - total_ns
            row = []
            for _, position, moment in self.of(number):
                if not moment.is_open:
                    continue
                wire = self.wires[position]
                # Repetitions of a request go on after the proxy has given it up; those of a SYN do not.
                least = wire.last_sent_ns - moment.low if wire.is_connect else 0
                low = max(seen_ns - moment.low - width_ns // 2 - LAG_NS, least)
                high = seen_ns + NS_PER_S - moment.low + width_ns // 2 + LEAD_NS
                if low <= high <= LONGEST_TIMEOUT_NS:
                    row.append(Interval(low, high))
            if row:
                rows[attempt.symptom].append(merge_intervals(row))
        for symptom, its_rows in rows.items():
            self.learned[symptom] = min(find_plateaus(its_rows), key=lambda p: (not _holds_second(p), p.middle))

    def _closed(self, moment: Moment, attempt: LoggedTry, wire: WireTry) -> Moment:
        """Return an open moment as a closed one where the timeout is known."""
        if not moment.is_open:
            return moment
        known = self._timeout(wire.peer, attempt)
        if known >= 0:
            # Every byte that the upstream takes gives the proxy's sending another such time.
            last = max(moment.high, wire.last_sent_ns) if attempt.head.action == SENDING else moment.high
            return Moment(moment.low + known, last + known)
        if attempt.symptom in self.learned:
            learned = self.learned[attempt.symptom]
            return Moment(moment.low + learned.low, moment.high + learned.high)
        return moment

    def _timeout(self, peer: str, attempt: LoggedTry) -> int:
        """[ns] Return the timeout that ran out by what the proxy was doing, as configured; -1 if it is not known."""
        if self._settings is None or attempt.symptom not in (Symptom.TIMEOUT, Symptom.CONNECT_TIMEOUT):
            return -1
        action = attempt.head.action
        key = peer, action
        if key not in self._timeouts:
            is_connect = attempt.symptom is Symptom.CONNECT_TIMEOUT or action == HANDSHAKING
            name = "connect_timeout_ns" if is_connect else "send_timeout_ns" if action == SENDING else "read_timeout_ns"
            places = self._settings.locations_of(self._settings.blocks_of_peer(peer))
            values = {getattr(place, name).value for place in places}
            self._timeouts[key] = values.pop() if len(values) == 1 else -1
        return self._timeouts[key]


def _holds_second(plateau: Plateau) -> bool:
    """Whether a timeout may be a whole number of seconds, as directives usually are."""
    return plateau.high // NS_PER_S > (plateau.low - 1) // NS_PER_S


def end_of(wire: WireTry) -> int:
    """[ns] When a try was over, by what packets show: the order in which the proxy must have logged."""
    for at in (wire.proxy_close_ns, wire.upstream_close_ns, wire.icmp_ns):
        if at >= 0:
            return at
    return max(wire.last_sent_ns, wire.start_ns) if wire.is_connect else wire.start_ns


def _is_same_request(attempt: LoggedTry, wire: WireTry) -> bool:
    head = attempt.head
    methods = {wire.method, head.method}
    # A cache turns HEAD into GET (proxy_cache_convert_head).
    if "" not in methods and len(methods) > 1 and methods != {"HEAD", "GET"}:
        return False
    uri = head.upstream_uri
    if not uri or not wire.target or uri == wire.target:
        return True
    return len(uri) > CUT_URI and wire.target.startswith(uri)
