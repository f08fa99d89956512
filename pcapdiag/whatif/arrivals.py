"""Requests of clients as they arrived: from the access log where it tells enough, else from the captured exchanges.

Requests of one client that overlap make a burst; the next burst begins when the client had all answers and thought for
a while. A failure that came at once says little about how long the client would have waited, so a request counts as
under way for as long as a usual one takes.
"""

from __future__ import annotations

import ipaddress
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pcapdiag.base.units import format_duration_ns
from pcapdiag.whatif.group import Arrivals
from pcapdiag.whatif.kernels import replay_state as state

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pcapdiag.proxy.logs.entries import AccessEntry, Try
    from pcapdiag.whatif.group import MeasuredUpstream

NOT_IDEMPOTENT: Final = frozenset({"POST", "LOCK", "PATCH"})
"""Methods that nginx does not try again without non_idempotent (ngx_http_upstream_next)."""
_WITH_BODY = ("POST", "PUT", "PATCH")
_FAILED = (502, 504)
_SAME_NS = 250_000_000
"""[ns] How far a try of the log may begin from one of the capture and be the same: both clocks, and rounded times."""
_EXACT_NS: Final = 10_000_000
"""[ns] A time that leaves no more open than this is taken as it is."""
_MOST_STATUS: Final = 999
_SPREAD_SEED: Final = 20261202


@dataclass
class Requests:
    """Requests of clients, one row each, in columns; times in ns of the capture's clock.

    Attributes
    ----------
    start_ns, end_ns : ndarray of int64
        When they came, and when they were answered.
    service_ns : ndarray of int64
        What the upstream took for it, round trip not counted; -1: unknown.
    status : ndarray of int64
        What the upstream answered; where it did not, what it most likely would have (200).
    client : ndarray of int64
        Number of the client.
    flags, place, fail_kind, fail_ns, n_fails : ndarray of int64
        As in `kernels.replay_state.REQUEST`.
    open_ns : int
        [ns] What logged times leave open, at most, where requests were spread over it; 0: nothing was.

    Columns of logs are as narrow as their values: there are millions of lines in a day.
    """

    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    service_ns: NDArray[np.int64]
    status: NDArray[np.int64]
    client: NDArray[np.int64]
    flags: NDArray[np.int64]
    place: NDArray[np.int64]
    fail_kind: NDArray[np.int64]
    fail_ns: NDArray[np.int64]
    n_fails: NDArray[np.int64]
    open_ns: int = 0


class _Lines:
    """Lines of a log in columns that grow: 63 bytes each, where a row of Python numbers takes 400."""

    def __init__(self) -> None:
        self.ts_ns, self.width_ns, self.took_ns, self.service_ns = array("q"), array("q"), array("q"), array("q")
        self.status, self.client, self.flags, self.place = array("h"), array("i"), array("B"), array("h")
        self.fail_kind, self.fail_ns, self.n_fails = array("B"), array("q"), array("B")

    def requests(self, offset_ns: int) -> Requests:
        """Return them as requests; `offset_ns` is the log's clock minus the capture's."""
        ts_ns, width_ns = np.frombuffer(self.ts_ns, np.int64), np.frombuffer(self.width_ns, np.int64)
        is_open = width_ns > _EXACT_NS
        within_ns = np.where(is_open, _spread(ts_ns, width_ns) if is_open.any() else 0, width_ns // 2)
        end_ns = ts_ns + within_ns - offset_ns
        return Requests(
            start_ns=end_ns - np.frombuffer(self.took_ns, np.int64),
            end_ns=end_ns,
            service_ns=np.frombuffer(self.service_ns, np.int64),
            status=np.frombuffer(self.status, np.int16),
            client=np.frombuffer(self.client, np.int32),
            flags=np.frombuffer(self.flags, np.uint8),
            place=np.frombuffer(self.place, np.int16),
            fail_kind=np.frombuffer(self.fail_kind, np.uint8),
            fail_ns=np.frombuffer(self.fail_ns, np.int64),
            n_fails=np.frombuffer(self.n_fails, np.uint8),
            open_ns=int(width_ns.max()) if is_open.any() else 0,
        )


def _spread(ts_ns: NDArray[np.int64], width_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """[ns] Return where in its second each line is put: at random, those of one second in the order of the file.

    ``$time_local`` tells the second. All at one moment would need as many connections as a second has requests, and
    evenly spaced ones would never meet.
    """
    chance = np.random.default_rng(_SPREAD_SEED).random(len(ts_ns))
    placed = np.empty_like(chance)
    placed[np.argsort(ts_ns, kind="stable")] = chance[np.lexsort((chance, ts_ns))]
    within: NDArray[np.int64] = (placed * width_ns).astype(np.int64)
    return within


def spread_words(requests: Requests) -> tuple[str, ...]:
    """Say that requests were spread over what their times leave open; empty where they were not."""
    if not requests.open_ns:
        return ()
    said = format_duration_ns(requests.open_ns)
    return (f"the access log tells the time to {said}: within it requests are spread at random, in their order",)


@dataclass(frozen=True, slots=True)
class OwnFailure:
    """A try that failed for a reason of its own, not of its connection: when it began, Failure, and how long [ns]."""

    start_ns: int
    kind: int
    takes_ns: int


def read_log(
    entries: Iterable[AccessEntry],
    places: Sequence[MeasuredUpstream],
    names: Sequence[str],
    offset_ns: int,
    own_failures: dict[str, list[OwnFailure]],
) -> tuple[Requests, list[str], dict[str, int]] | None:
    """Return the requests of a group as the access log has them.

    Parameters
    ----------
    entries : iterable of AccessEntry
        Of the time of the capture.
    places : sequence of MeasuredUpstream
        The group's.
    names : sequence of str
        What the log calls the group where no peer was left.
    offset_ns : int
        [ns] Log clock minus capture clock.
    own_failures : dict of str to list of OwnFailure
        By endpoint.

    Returns
    -------
    tuple of (Requests, list of str, dict of str to int) or None
        Requests, addresses of their clients by number, and what the log counts; None where no line tells when its
        request began.
    """
    number = {place.endpoint: n for n, place in enumerate(places)}
    lines = _Lines()
    clients: dict[str, int] = {}
    counts = {"client_failures": 0, "client_502": 0, "client_504": 0, "retried": 0, "no_live_upstreams": 0}
    for entry in entries:
        took_ns = entry.request_time_ns
        if took_ns < 0 or not any(t.addr in number or t.addr in names for t in entry.tries):
            continue
        lines.ts_ns.append(entry.ts_ns)
        lines.width_ns.append(entry.ts_width_ns)
        lines.took_ns.append(took_ns)
        lines.client.append(clients.setdefault(_address_of(entry.client) or str(entry.log_conn), len(clients)))
        last = entry.tries[-1]
        lines.place.append(number.get(entry.tries[0].addr, -1))
        answered = last.addr in number and not _has_failed(last)
        service_ns = -1
        if answered and last.response_time_ns >= 0:
            rtt_ns = places[number[last.addr]].rtt_ns
            service_ns = max(last.response_time_ns - max(last.connect_time_ns, 0) - rtt_ns, 0)
        lines.service_ns.append(service_ns)
        start_ns = entry.ts_ns + entry.ts_width_ns // 2 - offset_ns - took_ns
        kind, takes_ns, n_fails = _own_failure(entry, start_ns, own_failures)
        lines.fail_kind.append(kind)
        lines.fail_ns.append(takes_ns)
        lines.n_fails.append(min(n_fails, 255))
        lines.status.append(min(entry.status, _MOST_STATUS) if answered and entry.status > 0 else 200)
        flag = int(state.NOT_IDEMPOTENT) if entry.method in NOT_IDEMPOTENT else 0
        lines.flags.append(flag | (int(state.HAS_BODY) if entry.method in _WITH_BODY else 0))
        counts["client_failures"] += entry.status >= 500
        counts["client_502"] += entry.status == 502
        counts["client_504"] += entry.status == 504
        counts["retried"] += len(entry.tries) > 1 and 0 < entry.status < 500
        counts["no_live_upstreams"] += sum(t.addr in names for t in entry.tries)
    if not lines.ts_ns:
        return None
    return lines.requests(offset_ns), list(clients), counts


def _address_of(client: str) -> str:
    """Return an address without its port."""
    if client.startswith("["):
        return client[1:].partition("]")[0]
    return client.rsplit(":", 1)[0] if client.count(":") == 1 else client


def _has_failed(attempt: Try) -> bool:
    return attempt.status in _FAILED and attempt.header_time_ns < 0


def _own_failure(entry: AccessEntry, start_ns: int, own_failures: dict[str, list[OwnFailure]]) -> tuple[int, int, int]:
    """Return kind, duration and number of those of a request's first tries that failed for reasons of their own."""
    if not own_failures:
        return 0, 0, 0
    at_ns, kind, takes_ns, n = start_ns, 0, 0, 0
    room_ns = _SAME_NS + entry.ts_width_ns // 2
    for attempt in entry.tries:
        found = next(
            (f for f in own_failures.get(attempt.addr, ()) if abs(f.start_ns - at_ns) <= room_ns + f.takes_ns // 8),
            None,
        )
        if found is None or not _has_failed(attempt):
            break
        kind, takes_ns, n = found.kind, found.takes_ns, n + 1
        at_ns += max(attempt.response_time_ns, 0)
    return kind, takes_ns, n


def make_arrivals(
    requests: Requests, places: Sequence[MeasuredUpstream], client_key: Sequence[int], *, source: str
) -> Arrivals:
    """Return requests in bursts, ready to be replayed.

    Parameters
    ----------
    requests : Requests
        At least one.
    places : sequence of MeasuredUpstream
        The group's.
    client_key : sequence of int
        By number of the client: what ip_hash sees of it (`ip_hash_key`).
    source : str
        Where they come from.

    Returns
    -------
    Arrivals
    """
    r = requests
    order = np.lexsort((r.start_ns, r.client))
    start, end, client = r.start_ns[order], r.end_ns[order], r.client[order].astype(np.int64)
    known = r.service_ns[r.service_ns >= 0]
    rtt_ns = max((place.rtt_ns for place in places), default=0)
    usual_ns = (int(np.median(known)) if len(known) else 0) + rtt_ns
    busy_until = _latest_so_far(np.maximum(end, start + usual_ns), client)
    is_new = np.ones(len(start), bool)
    is_new[1:] = (client[1:] != client[:-1]) | (start[1:] > busy_until[:-1])
    first = np.flatnonzero(is_new)
    latest_end = np.maximum.reduceat(end, first)
    bursts = np.zeros(len(first), state.BURST)
    bursts["first"], bursts["client"] = first, client[first]
    follows = np.zeros(len(first), bool)
    follows[1:] = bursts["client"][1:] == bursts["client"][:-1]
    bursts["think_ns"] = -1
    bursts["think_ns"][1:][follows[1:]] = np.maximum(start[first][1:] - latest_end[:-1], 0)[follows[1:]]
    rows = np.zeros(len(start), state.REQUEST)
    rows["start_ns"] = start
    rows["service_us"] = _as_us(r.service_ns[order])
    rows["fail_us"] = _as_us(r.fail_ns[order])
    for name in ("status", "fail_kind", "place", "flags"):
        rows[name] = getattr(r, name)[order]
    rows["n_fails"] = np.minimum(r.n_fails[order], 255)
    return Arrivals(
        requests=rows,
        bursts=bursts,
        services=np.ascontiguousarray(known if len(known) else np.zeros(1, np.int64)),
        n_clients=len(client_key),
        client_key=np.array(client_key, np.int64),
        first_place=int(r.place[np.argmin(r.start_ns)]),
        source=source,
    )


def _as_us(ns: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(ns < 0, -1, np.minimum(ns // 1000, 0x7FFFFFFF))


def _latest_so_far(ends: NDArray[np.int64], client: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each request, sorted by client, the latest end of it and those of the same client before it."""
    if not len(ends):
        return ends
    low = int(ends.min())
    span = int(ends.max()) - low + 1
    if span * (int(client.max()) + 1) < 1 << 62:
        return np.maximum.accumulate(ends - low + client * span) - client * span + low
    latest = np.empty_like(ends)
    for part in np.split(np.arange(len(ends)), np.flatnonzero(np.diff(client)) + 1):
        latest[part] = np.maximum.accumulate(ends[part])
    return latest


def ip_hash_key(address: str) -> int:
    """Return what ip_hash sees of a client's address: 65536 times the factor and the summand of one step.

    nginx folds the first three bytes of an IPv4 address, or all of IPv6, into ``hash = (hash * 113 + byte) % 6271``
    (ngx_http_upstream_ip_hash_module.c), which over all bytes is one linear step.
    """
    try:
        packed = ipaddress.ip_address(address).packed
    except ValueError:
        packed = b""
    folded = packed[:3] if len(packed) == 4 else packed
    factor, summand = 1, 0
    for byte in folded:
        factor = factor * 113 % 6271
        summand = (summand * 113 + byte) % 6271
    return (factor << 16) | summand
