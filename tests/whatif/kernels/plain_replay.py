"""Plain twin of the replay without chance: objects, lists and one heap; peers are chosen by `plain_selection`.

Written from what nginx does and from what `replay_state` says of its columns. Idle connections lie in one list per
worker, the newest at its end, and every one that has ended is taken out before anything else is looked at.
"""

import heapq
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

from pcapdiag.whatif.kernels import replay_state as state
from tests.whatif.plain_selection import Peer, Settings, State, Try

NS_PER_S = 10**9
TIME_WAIT_NS = 60 * NS_PER_S
NS_PER_MS = 10**6
NEVER = 1 << 62
PASSED = {500, 502, 503, 504, 403, 404, 429}
REASONS = {
    int(state.ERROR): "error",
    int(state.TIMEOUT): "timeout",
    int(state.INVALID_HEADER): "invalid_header",
    int(state.REFUSED): "refused",
    int(state.CONNECT_TIMEOUT): "connect_timeout",
}


@dataclass(frozen=True)
class Burst:
    """A row of `replay_state.BURST`, and what follows from those around it; `next` is -1 for a client's last."""

    start_ns: int
    think_ns: int
    first: int
    n: int
    client: int
    next: int


def bursts_of(arrivals):
    ends = [*arrivals.bursts["first"].tolist()[1:], len(arrivals.requests)]
    clients = [*arrivals.bursts["client"].tolist(), -1]
    return [
        Burst(
            start_ns=int(arrivals.requests["start_ns"][row["first"]]),
            think_ns=int(row["think_ns"]),
            first=int(row["first"]),
            n=end - int(row["first"]),
            client=clients[i],
            next=i + 1 if clients[i + 1] == clients[i] else -1,
        )
        for i, (row, end) in enumerate(zip(arrivals.bursts, ends, strict=True))
    ]


@dataclass(eq=False)
class Connection:
    """One connection to a place; `fin_ns` and `dead_ns` as in `replay_state.CONN`."""

    place: int
    opened_ns: int
    n_requests: int = 0
    released_ns: int = 0
    fin_ns: int = NEVER
    dead_ns: int = NEVER


@dataclass(eq=False)
class Under:
    """A request under way."""

    number: int
    worker: int
    started_ns: int
    burst: int
    asked: object = None
    n_tries: int = 0
    connection: Connection | None = None
    is_kept: bool = False
    service_ns: int = 0


class Replay:
    """A group of servers, the proxy before it, and the clients.

    Parameters
    ----------
    group : ServerGroup
        Whose first pick is the first peer of the greatest weight.
    settings : GroupSettings
        Under which the requests arrive.
    worker_of : sequence of int
        By client.
    addresses : sequence of bytes
        By client.
    is_open : bool
        Whether bursts begin when they began.
    bins : tuple of (int, int, int)
        Origin [ns], width [ns] and number of the bins in which connections are counted.
    """

    def __init__(self, group, settings, worker_of, addresses, *, is_open=False, bins):
        self.group, self.settings, self.worker_of, self.addresses = group, settings, worker_of, addresses
        self.is_open, self.bins = is_open, bins
        peers = [
            Peer(p.weight, p.max_fails, p.fail_timeout_s, p.is_backup, p.is_down, p.max_conns) for p in settings.peers
        ]
        self.choosing = State(
            peers,
            Settings(
                version=settings.version,
                next_upstream=settings.next_upstream,
                tries=settings.tries,
                timeout_s=Fraction(settings.next_timeout_ns, NS_PER_S),
                buffering=settings.is_buffered,
                balance=settings.balance,
                zone=settings.has_zone,
            ),
        )
        self.pools = [[] for _ in range(settings.workers)]
        self.counts, self.picks, self.added_ns = Counter(), [], {}
        self.idle, self.waiting = Counter(), Counter()
        self.heap, self.order, self.is_close = [], 0, False
        self.bursts = bursts_of(group.arrivals)
        self.left = [burst.n for burst in self.bursts]
        followers = {burst.next for burst in self.bursts}
        for n, burst in enumerate(self.bursts):
            if self.is_open or n not in followers:
                self.plan(burst.start_ns, self.begin_burst, n)

    def run(self):
        """Replay all, and return self."""
        while self.heap:
            now_ns, _, act, what = heapq.heappop(self.heap)
            self.bury(now_ns)
            act(now_ns, what)
        for connection in chain.from_iterable(self.pools):
            self.count(self.idle, connection.dead_ns, -1)
        for name, steps in (("idle", self.idle), ("waiting", self.waiting)):
            at_once = most = 0
            for _, step in sorted(steps.items()):
                at_once += step
                most = max(most, at_once)
            self.counts[name] = most
        return self

    def plan(self, ts_ns, act, what):
        heapq.heappush(self.heap, (ts_ns, self.order, act, what))
        self.order += 1

    def count(self, steps, ts_ns, step):
        origin_ns, width_ns, n = self.bins
        steps[min((ts_ns - origin_ns) // width_ns, n - 1)] += step

    def close(self, now_ns, *, by_proxy):
        if by_proxy:
            self.count(self.waiting, now_ns, 1)
            self.count(self.waiting, now_ns + TIME_WAIT_NS, -1)

    def bury(self, now_ns):
        """Take connections out that ended until now."""
        for pool in self.pools:
            for connection in [c for c in pool if c.dead_ns <= now_ns and c.dead_ns < NEVER]:
                pool.remove(connection)
                self.count(self.idle, connection.dead_ns, -1)
                self.close(connection.dead_ns, by_proxy=connection.dead_ns < connection.fin_ns)

    def begin_burst(self, now_ns, n):
        burst = self.bursts[n]
        for number in range(burst.first, burst.first + burst.n):
            row = self.group.arrivals.requests[number]
            under = Under(number, self.worker_of[burst.client], 0, n, service_ns=int(row["service_us"]) * 1000)
            self.plan(now_ns + int(row["start_ns"]) - burst.start_ns, self.begin_request, under)

    def begin_request(self, now_ns, under):
        row = self.group.arrivals.requests[under.number]
        under.started_ns = now_ns
        self.counts["clients"] += 1
        under.asked = self.choosing.begin(
            Fraction(now_ns, NS_PER_S),
            worker=under.worker,
            method="POST" if row["flags"] & state.NOT_IDEMPOTENT else "GET",
            key=self.addresses[self.bursts[under.burst].client],
            body_unread=bool(row["flags"] & state.HAS_BODY),
        )
        self.try_next(now_ns, under)

    def try_next(self, now_ns, under):
        peer = self.choosing.pick(under.asked, Fraction(now_ns, NS_PER_S))
        self.picks.append((under.number, peer))
        if peer is None:
            self.counts["no_live"] += 1
            self.finish(now_ns, under, 502)
            return
        place = self.settings.peers[peer].place
        connection = next((c for c in reversed(self.pools[under.worker]) if c.place == place), None)
        under.is_kept = connection is not None
        under.connection = connection
        if connection is None:
            self.open(now_ns, under, place)
            return
        self.counts["reused"] += 1
        self.pools[under.worker].remove(connection)
        self.count(self.idle, now_ns, -1)
        self.send_again(now_ns, under)

    def open(self, now_ns, under, number):
        place = self.group.places[number]
        for outage in place.outages:
            if outage.start_ns <= now_ns <= outage.end_ns:
                takes_ns = self.settings.connect_timeout_ns if outage.is_silent else outage.takes_ns
                self.fail_at(now_ns + takes_ns, under, "connect_timeout" if outage.is_silent else "refused")
                return
        self.counts["opened"] += 1
        under.connection = Connection(number, now_ns)
        if not self.fails_by_itself(now_ns, under):
            self.answer_at(now_ns + self.rtt_ns(place) + place.greeting_ns, under)

    def send_again(self, now_ns, under):
        connection = under.connection
        place = self.group.places[connection.place]
        gap_ns = now_ns - connection.released_ns
        if self.fails_by_itself(now_ns, under):
            return
        if 0 <= place.drop_ns <= gap_ns:
            self.fail_at(now_ns + self.settings.read_timeout_ns, under, "timeout")
        elif 0 <= place.reset_ns <= gap_ns:
            self.fail_at(now_ns + self.rtt_ns(place), under, "error")
        elif now_ns + self.rtt_ns(place) > connection.fin_ns:
            self.counts["raced"] += 1
            self.fail_at(connection.fin_ns, under, "error")
        else:
            self.answer_at(now_ns, under)

    def fails_by_itself(self, now_ns, under):
        row = self.group.arrivals.requests[under.number]
        if under.n_tries >= row["n_fails"]:
            return False
        self.fail_at(now_ns + int(row["fail_us"]) * 1000, under, REASONS[int(row["fail_kind"])])
        return True

    def answer_at(self, sent_ns, under):
        rtt_ns = self.group.places[under.connection.place].rtt_ns
        self.plan(sent_ns + rtt_ns + under.service_ns, self.answer, under)

    def fail_at(self, ts_ns, under, reason):
        self.plan(ts_ns, self.fail, (under, reason))

    def fail(self, now_ns, what):
        under, reason = what
        self.counts["lost"] += 1
        if under.connection:
            self.close(now_ns, by_proxy=reason != "error")
        self.go_on(now_ns, under, reason)

    def answer(self, now_ns, under):
        status = int(self.group.arrivals.requests[under.number]["status"])
        rtt_ns = self.group.places[under.connection.place].rtt_ns
        connection = under.connection
        is_last = self.go_on(now_ns, under, f"http_{status}" if status in PASSED else "ok", rtt_ns, status)
        if is_last:
            self.keep(now_ns, under, connection)
        else:
            # nginx reads no further, so the connection cannot be kept.
            self.close(now_ns, by_proxy=True)

    def go_on(self, now_ns, under, outcome, rtt_ns=0, answered=0):
        under.n_tries += 1
        timeout_ns = self.settings.next_timeout_ns
        # nginx counts milliseconds, the replay nanoseconds: between them lies nothing that matters.
        self.is_close |= bool(timeout_ns) and abs(now_ns - under.started_ns - timeout_ns) < NS_PER_MS
        status = self.choosing.decide(under.asked, Try(outcome, cached=under.is_kept), Fraction(now_ns, NS_PER_S))
        if status is None:
            self.try_next(now_ns, under)
            return False
        if 0 < answered < 500:
            self.added_ns[under.number] = now_ns - under.started_ns - under.service_ns - rtt_ns
        self.finish(now_ns, under, answered or status)
        return True

    def keep(self, now_ns, under, connection):
        settings = self.settings
        place = self.group.places[connection.place]
        connection.n_requests += 1
        sent_ns = now_ns - under.service_ns - place.rtt_ns
        has_closed = any(sent_ns <= closing < now_ns for closing in place.closings)
        is_limited = 0 < place.limit <= connection.n_requests
        if is_limited or has_closed or not settings.keepalive:
            self.counts["crowded_out"] += not is_limited and not settings.keepalive
            self.close(now_ns, by_proxy=is_limited)
            return
        is_old = 0 <= settings.keepalive_time_ns < now_ns - connection.opened_ns
        is_used_up = 0 <= settings.keepalive_requests <= connection.n_requests
        self.counts["grown_old"] += is_old
        self.counts["used_up"] += is_used_up
        if is_old or is_used_up:
            self.close(now_ns, by_proxy=True)
            return
        pool = self.pools[under.worker]
        if len(pool) >= settings.keepalive:
            pool.pop(0)
            self.counts["crowded_out"] += 1
            self.count(self.idle, now_ns, -1)
            self.close(now_ns, by_proxy=True)
        connection.released_ns = now_ns
        connection.fin_ns = self.fin_ns(now_ns, place)
        timer_ns = now_ns + settings.keepalive_timeout_ns if settings.keepalive_timeout_ns >= 0 else NEVER
        connection.dead_ns = min(connection.fin_ns, timer_ns)
        self.counts["timed_out"] += timer_ns < connection.fin_ns
        pool.append(connection)
        self.count(self.idle, now_ns, 1)

    def rtt_ns(self, place):
        return place.rtt_ns

    def timeout_ns(self, place):
        asked_ns = self.settings.upstream_timeout_ns
        return place.timeout_ns if asked_ns is None else asked_ns

    def fin_ns(self, now_ns, place):
        """[ns] When the FIN arrives; what has forgotten the connection lets none through."""
        timeout_ns = self.timeout_ns(place)
        ends = [now_ns + timeout_ns] if timeout_ns >= 0 else []
        ends += [closing for closing in place.closings if closing >= now_ns][:1]
        forgotten_ns = min((ns for ns in (place.drop_ns, place.reset_ns) if ns >= 0), default=NEVER)
        return min((end for end in ends if end - now_ns <= forgotten_ns), default=NEVER)

    def finish(self, now_ns, under, status):
        if status in {502, 504}:
            self.counts[f"failed_{status}"] += 1
        elif status >= 500:
            self.counts["failed_other"] += 1
        elif under.n_tries > 1:
            self.counts["retried"] += 1
        self.left[under.burst] -= 1
        following = self.bursts[under.burst].next
        if not self.left[under.burst] and following >= 0 and not self.is_open:
            self.plan(now_ns + self.bursts[following].think_ns, self.begin_burst, following)
