"""Which logged try may be which try on the wire: by peer, method and target, by what happened, and when.

Knows one pair at a time; `assign.py` decides among them.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from pcapdiag.base.units import NS_PER_S, format_address, parse_endpoint
from pcapdiag.proxy.join.clock import Interval, find_plateaus, merge_columns
from pcapdiag.proxy.join.columns import Moments, PeerTries
from pcapdiag.proxy.join.symptoms import ACTIONS, SHARP, Moment, Symptom, moment_of
from pcapdiag.proxy.logs.entries import HANDSHAKING, SENDING

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

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
LEAST_SAMPLED = 10
TOLERANCE_NS = 30_000_000
"""[ns] How far a pair may lie beside the estimated offset: clocks are slewed while a capture runs."""
_MOST_KEPT = 256
"""Kinds of requests whose tries are kept at hand."""
_NEAR_NS = 5 * NS_PER_S
_SILENT = frozenset({Symptom.TIMEOUT, Symptom.CONNECT_TIMEOUT, Symptom.UNREACHABLE, Symptom.FAILED})


class Fits(NamedTuple):
    """The tries at a peer that a logged one may be, by the time of their ends, and when nginx must have logged each."""

    tries: PeerTries
    moments: Moments

    @property
    def positions(self) -> NDArray[np.int64]:
        """Among all tries, in order."""
        return self.tries.positions[self.moments.at]


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


def is_name(peer: str) -> bool:
    """Tell whether a log names a server by words alone: ``backend/server`` of HAProxy, or ``name:port`` of a host."""
    if peer.startswith("unix:") or normalize_peer(peer).startswith("["):
        return False
    host, _, port = peer.rpartition(":")
    is_host = port.isdecimal() and host != "" and host.strip("0123456789.") != ""
    return is_host or "/" in peer


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
        by_peer: dict[str, list[int]] = defaultdict(list)
        for position, wire in enumerate(self.wires):
            by_peer[wire.peer].append(position)
        self._by_peer = {p: PeerTries(at, [self.wires[n] for n in at], end_of) for p, at in by_peer.items()}
        self._moments: dict[tuple[Hashable, ...], Moments] = {}
        self._fits: dict[tuple[Hashable, ...], Moments] = {}
        self._timeouts: dict[tuple[str, str], int] = {}
        self.learned: dict[Symptom, Plateau] = {}

    def intervals(self, *, is_open: bool = False) -> tuple[list[list[Interval]], list[list[Interval]]]:
        """Return the clock offsets that pairs allow, by entry and by try; of open moments only, or of all others.

        An open moment counts as if the proxy had given up at once: its offset contains the timeout.
        """
        rows: list[list[Interval]] = []
        by_try: dict[int, list[Interval]] = defaultdict(list)
        shared: dict[tuple[Hashable, ...], list[Interval]] = {}
        for number in self._sample(range(len(self.logged)), MOST_SAMPLED):
            head = self.logged[number].head
            key = (*self.key(number), head.ts_ns, head.width_ns)
            if key not in shared:
                fits = self.of(number)
                moments = fits.moments.take(fits.moments.is_open == is_open)
                lows = head.ts_ns - moments.high - LAG_NS
                highs = head.ts_ns + head.width_ns - moments.low + LEAD_NS
                row = shared[key] = list(map(Interval, lows.tolist(), highs.tolist()))
                for position, interval in zip(fits.tries.positions[moments.at].tolist(), row, strict=True):
                    by_try[position].append(interval)
            if shared[key]:
                rows.append(shared[key])
        return rows, list(by_try.values())

    def _sample(self, numbers: Sequence[int], most: int) -> Sequence[int]:
        """Return logged tries that are asked for the clock or a timeout, so many that their pairs are not too many."""
        n_sampled = min(most, max(MOST_SAMPLED_PAIRS // max(len(self.wires), 1), LEAST_SAMPLED))
        return numbers[:: max(len(numbers) // max(n_sampled, 1), 1)]

    def key(self, number: int) -> tuple[Hashable, ...]:
        """Return what of a logged try says which tries it may be, but for its time; None at first: none of them."""
        attempt = self.logged[number]
        head = attempt.head
        peer = normalize_peer(head.upstream_peer)
        tries = self._by_peer.get(peer)
        if tries is None or attempt.symptom is Symptom.NO_PACKETS:
            return (None,)
        action = head.action if head.action in ACTIONS else ""
        return (peer, attempt.symptom, action, *tries.key_of(head.method, head.upstream_uri, CUT_URI))

    def of(self, number: int) -> Fits:
        """Return all tries that a logged one may be."""
        key = self.key(number)
        if key[0] is None:
            return _NO_FITS
        attempt = self.logged[number]
        tries = self._by_peer[normalize_peer(attempt.head.upstream_peer)]
        if key not in self._fits:
            known = self._moments.get(key[:3])
            if known is None:
                known = self._moments[key[:3]] = self._moments_of(tries, attempt)
            rows = tries.rows_of(cast("tuple[int, int, int]", key[3:]))
            is_wanted = np.zeros(len(tries.positions), dtype=np.bool_)
            is_wanted[rows] = True
            if len(self._fits) >= _MOST_KEPT:
                self._fits.clear()
            self._fits[key] = known.take(is_wanted[known.at])
        return Fits(tries, self._fits[key])

    def near(self, number: int, clock: LogClock) -> Fits:
        """Return the tries that a logged one may be at this clock offset; where packets tell, no others."""
        attempt = self.logged[number]
        fits = self.of(number)
        half, ts_ns = clock.width_ns // 2 + TOLERANCE_NS, attempt.head.ts_ns - clock.total_ns
        last_ns = ts_ns + attempt.head.width_ns
        moments = fits.moments.meeting(ts_ns - LAG_NS - half, last_ns + LEAD_NS + half)
        if attempt.symptom in SHARP:  # of these alone packets show the moment
            half = clock.width_ns // 2 + _NEAR_NS
            ends = fits.tries.ends[moments.at]
            is_near = (ends >= max(ts_ns - half, 0)) & (ends <= max(last_ns + half, 0))
            moments = moments.take(is_near)
        return Fits(fits.tries, moments)

    def learn_timeouts(self, total_ns: int, width_ns: int) -> None:
        """Find the timeouts that no configuration names: how long after a request the entries without a FIN come."""
        rows: dict[Symptom, list[list[Interval]]] = defaultdict(list)
        silent = [number for number, attempt in enumerate(self.logged) if attempt.symptom in _SILENT]
        for number in self._sample(silent, len(silent)):
            attempt = self.logged[number]
            seen_ns = attempt.head.ts_ns - total_ns
            fits = self.of(number)
            moments = fits.moments.take(fits.moments.is_open)
            # Repetitions of a request go on after the proxy has given it up; those of a SYN do not.
            is_connect, last = fits.tries.is_connect[moments.at], fits.tries.last_sent[moments.at]
            least = np.where(is_connect, last - moments.low, 0)
            low = np.maximum(seen_ns - moments.low - width_ns // 2 - LAG_NS, least)
            high = seen_ns + attempt.head.width_ns - moments.low + width_ns // 2 + LEAD_NS
            fitting = (low <= high) & (high <= LONGEST_TIMEOUT_NS)
            if fitting.any():
                rows[attempt.symptom].append(merge_columns(low[fitting], high[fitting]))
        for symptom, its_rows in rows.items():
            self.learned[symptom] = min(find_plateaus(its_rows), key=lambda p: (not _holds_second(p), p.middle))
        self._moments.clear()
        self._fits.clear()

    def _moments_of(self, tries: PeerTries, attempt: LoggedTry) -> Moments:
        """Return when nginx must have logged each try, whatever was asked for, if that is what became of it."""
        found = []
        for row, wire in enumerate(tries.wires):
            moment = moment_of(attempt.symptom, attempt.head.action, wire)
            if moment is not None:
                found.append((row, self._closed(moment, attempt, wire)))
        return Moments.of(found)

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
            name = "connect" if is_connect else "send" if action == SENDING else "read"
            values = self._settings.waits_for(peer, name)
            self._timeouts[key] = next(iter(values)) if len(values) == 1 else -1
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


_NO_FITS = Fits(PeerTries([], [], end_of), Moments.of([]))
