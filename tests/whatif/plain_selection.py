"""How nginx chooses peers and passes requests on, in plain Python: the twin that the compiled replay is held against.

Written from what nginx does, and held against a real one in `test_real_nginx.py`. Times are seconds; of those of peers
nginx keeps whole ones. A request is ``begin``, then ``pick`` and ``decide`` until one of them ends it; steps of several
requests may interleave. ``run`` does one request at a stretch.
"""

import random
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate

Version = tuple[int, int, int]
OLDEST = (1, 5, 1)
"""Before, a success cleared fails that it knew nothing of, among other things."""
NON_IDEMPOTENT_METHODS = {"POST", "LOCK", "PATCH"}
PASSED_STATUSES = {f"http_{status}" for status in (500, 502, 503, 504, 403, 404, 429)}
UNSENT = {"refused": "error", "connect_timeout": "timeout"}
"""Outcomes of tries on which no request was sent, and the conditions of ``proxy_next_upstream`` that they are."""
MOST_SKIPS = 20
"""Balancers that draw or hash a peer leave it to round robin after more misses than that."""
NO_BACKUP = {"ip_hash", "hash", "random", "random two"}


@dataclass(frozen=True, slots=True)
class Peer:
    """One ``server`` of an ``upstream`` block that has one address."""

    weight: int = 1
    max_fails: int = 1
    fail_timeout_s: int = 10
    backup: bool = False
    down: bool = False
    max_conns: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What else decides: the version, the directives of the location, and how the block balances.

    `buffering` is that of requests. How many `workers` there are changes nothing here: each request says which it has.
    """

    version: Version = (1, 22, 1)
    next_upstream: frozenset[str] = frozenset({"error", "timeout"})
    tries: int = 0
    timeout_s: float = 0
    buffering: bool = True
    balance: str = "round_robin"
    zone: bool = False
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Try:
    """What came of one try.

    `outcome` is ``ok``, ``error`` (closed before the answer), ``timeout``, ``invalid_header``, ``http_STATUS``,
    ``refused`` or ``connect_timeout`` (nothing was sent), or ``client_gone``.
    """

    outcome: str
    cached: bool = False
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """The peers tried in order, what the client got, and whether no peer was live at the end."""

    peers: tuple[int, ...]
    status: int
    no_live: bool


@dataclass(slots=True)
class LivePeer:
    """What nginx remembers of a peer from one request to the next."""

    index: int
    peer: Peer
    effective_weight: int
    current_weight: int = 0
    conns: int = 0
    fails: int = 0
    accessed_s: int = 0
    """When it failed last."""
    checked_s: int = 0
    """When it failed last or, if later, when it was chosen after its fail_timeout."""

    def is_out(self, now_s):
        """Tell whether it has failed too often, too recently."""
        peer = self.peer
        return bool(peer.max_fails) and self.fails >= peer.max_fails and now_s - self.checked_s <= peer.fail_timeout_s

    def is_full(self):
        return bool(self.peer.max_conns) and self.conns >= self.peer.max_conns

    def may_serve(self, now_s):
        return not self.peer.down and not self.is_out(now_s) and not self.is_full()


@dataclass(slots=True)
class Request:
    """What nginx remembers of a request from one try to the next."""

    groups: list[list[LivePeer]]
    """The peers of its worker: those that are no backups, then the backups, if any."""
    method: str
    key: bytes
    body_unread: bool
    started_s: float
    tries: int = 0
    """Tries that are left."""
    group: int = 0
    tried: set[int] = field(default_factory=set)
    """Indices of the peers that it had."""
    current: LivePeer | None = None
    skips: int = 0
    rehash: int = 0
    hash: int = 0


class State:
    """An ``upstream`` block at work.

    Parameters
    ----------
    peers : sequence of Peer
        In the order of the file.
    settings : Settings
        What else decides.
    draw : random.Random, optional
        Where ``random`` and ``random two`` get their numbers from.
    """

    def __init__(self, peers, settings, draw=None):
        version = settings.version
        refusals = {
            f"nginx before {OLDEST} chose otherwise": version < OLDEST,
            "nginx wants a server that is no backup": all(peer.backup for peer in peers),
            f"{settings.balance} knows no backup": settings.balance in NO_BACKUP and any(p.backup for p in peers),
            "max_conns came with 1.11.5": version < (1, 11, 5) and any(peer.max_conns for peer in peers),
            "proxy_next_upstream_tries and _timeout came with 1.7.5": version < (1, 7, 5)
            and (settings.tries or settings.timeout_s),
        }
        for refusal, holds in refusals.items():
            if holds:
                raise ValueError(refusal)
        self.peers, self.settings = tuple(peers), settings
        self.draw = draw or random.Random(0)
        self._groups = {}
        self.single = len(self.peers) == 1
        self._choose = {
            "round_robin": self._by_round_robin,
            "least_conn": self._by_least_conn,
            "ip_hash": self._by_ip_hash,
            "hash": self._by_hash,
            "random": self._by_random,
            "random two": self._by_random_two,
        }[settings.balance]

    def groups_of(self, worker):
        """Return what a worker knows of the peers: its own knowledge, or with a zone that of all workers."""
        owner = 0 if self.settings.zone else worker
        if owner not in self._groups:
            live = [LivePeer(index, peer, peer.weight) for index, peer in enumerate(self.peers)]
            groups = ([p for p in live if p.peer.backup == backup] for backup in (False, True))
            self._groups[owner] = [group for group in groups if group]
        return self._groups[owner]

    def begin(self, now_s, *, worker=0, method="GET", key=b"", body_unread=False):
        """Return a new request.

        Parameters
        ----------
        now_s : float
            When its first peer is chosen.
        worker : int
            Which worker has it.
        method : str
            Its method.
        key : bytes
            What ``hash`` hashes, or the client's address for ``ip_hash``.
        body_unread : bool
            Whether nginx lacked some of its body when it chose the first peer. Only then ``buffering`` matters.
        """
        request = Request(self.groups_of(worker), method, key, body_unread and not self.settings.buffering, now_s)
        counted = [self._countable(group) for group in request.groups]
        request.tries = counted[0] if self.settings.version < (1, 7, 5) else sum(counted)
        if self.settings.tries:
            request.tries = min(request.tries, self.settings.tries)
        # An address of IPv4 counts with its first three bytes.
        if self.settings.balance == "ip_hash":
            request.key, request.hash = key[:3] if len(key) == 4 else key, 89
        return request

    def _countable(self, group):
        return sum(not p.peer.down or self.settings.version < (1, 19, 6) for p in group)

    def pick(self, request, now_s):
        """Return the index of the peer that the request goes to next; ``None`` if none is live: the answer is 502."""
        second = int(now_s)
        live = self._choose_single(request) if self.single else self._choose(request, second)
        while live is None and request.group + 1 < len(request.groups):
            request.group += 1
            if self.settings.version < (1, 7, 5):
                request.tries = self._countable(request.groups[request.group])
            live = self._choose(request, second)
        if live is None:
            if self.settings.version < (1, 11, 5):
                for p in (p for group in request.groups for p in group):
                    p.fails = 0
            return None
        # Backups were no more than a reserve for the last try.
        if self.settings.version < (1, 7, 5) and request.tries == 1 and request.group + 1 < len(request.groups):
            request.tries += self._countable(request.groups[request.group + 1])
        live.conns += 1
        request.current = live
        return live.index

    def _choose_single(self, request):
        live = request.groups[0][0]
        return None if live.peer.down or live.is_full() else live

    def _take(self, request, live, second):
        request.tried.add(live.index)
        # This is what makes one probe: whoever comes next finds the peer checked just now.
        if second - live.checked_s > live.peer.fail_timeout_s:
            live.checked_s = second
        return live

    def _candidates(self, request, second):
        return [p for p in request.groups[request.group] if p.index not in request.tried and p.may_serve(second)]

    def _by_round_robin(self, request, second):
        if not (candidates := self._candidates(request, second)):
            return None
        return self._take(request, _smoothest(candidates), second)

    def _by_least_conn(self, request, second):
        if not (candidates := self._candidates(request, second)):
            return None
        load = {p.index: Fraction(p.conns, p.peer.weight) for p in candidates}
        least = [p for p in candidates if load[p.index] == min(load.values())]
        # Weights move only where there is something to decide between.
        return self._take(request, least[0] if len(least) == 1 else _smoothest(least), second)

    def _by_ip_hash(self, request, second):
        def point():
            value = drawn[0] if drawn else request.hash
            for byte in request.key:
                value = (value * 113 + byte) % 6271
            drawn[:] = [value]
            return value

        drawn = []
        live = self._by_points(request, second, point)
        # What was hashed in vain is forgotten.
        if live is not None and request.skips <= MOST_SKIPS:
            request.hash = drawn[0]
        return live

    def _by_hash(self, request, second):
        def point():
            text = (str(request.rehash).encode() if request.rehash else b"") + request.key
            request.hash = (request.hash + (zlib.crc32(text) >> 16 & 0x7FFF)) & 0xFFFFFFFF
            request.rehash += 1
            return request.hash

        if not request.key:
            return self._by_round_robin(request, second)
        return self._by_points(request, second, point)

    def _by_random(self, request, second):
        return self._by_points(request, second, lambda: self.draw.randrange(1 << 31))

    def _by_random_two(self, request, second):
        first = None
        while request.skips <= MOST_SKIPS:
            live = _at(request.groups[0], self.draw.randrange(1 << 31))
            if live is first or live.index in request.tried or not live.may_serve(second):
                request.skips += 1
            elif first is None:
                first = live
            else:
                crowded = live.conns * first.peer.weight > first.conns * live.peer.weight
                return self._take(request, first if crowded else live, second)
        return self._by_round_robin(request, second)

    def _by_points(self, request, second, point):
        """Choose the peer at ``point()``, or at the next one if that may not serve; at last by round robin."""
        while request.skips <= MOST_SKIPS:
            live = _at(request.groups[0], point())
            if live.index not in request.tried and live.may_serve(second):
                return self._take(request, live, second)
            request.skips += 1
        return self._by_round_robin(request, second)

    def release(self, request, now_s, *, failed):
        """Give the request's peer back and take one of its tries."""
        live, second = request.current, int(now_s)
        request.current = None
        live.conns -= 1
        if self.single:
            request.tries = 0
            return
        if failed:
            live.fails += 1
            live.accessed_s = live.checked_s = second
            if live.peer.max_fails:
                live.effective_weight = max(0, live.effective_weight - live.peer.weight // live.peer.max_fails)
        elif live.accessed_s < live.checked_s:
            live.fails = 0
        request.tries = max(0, request.tries - 1)

    def decide(self, request, attempt, now_s):
        """Release the peer; return the status that the client gets, or ``None`` if another peer is to be picked."""
        outcome = attempt.outcome
        if outcome in {"ok", "client_gone"}:
            self.release(request, now_s, failed=False)
            return 200 if outcome == "ok" else 499
        sent = outcome not in UNSENT
        condition = UNSENT.get(outcome, outcome)
        may_go_on = self._may_go_on(request, condition, now_s, sent=sent)
        if outcome.startswith("http_"):
            # A status is a failure only if it is not shown to the client, and so never on the last try.
            goes_on = outcome in PASSED_STATUSES and request.tries > 1 and may_go_on
            self.release(request, now_s, failed=goes_on and outcome not in {"http_403", "http_404"})
            return None if goes_on else int(outcome.removeprefix("http_"))
        self.release(request, now_s, failed=True)
        if attempt.cached and condition == "error":
            request.tries += 1
            if self.settings.version < (1, 9, 13) and not (sent and request.body_unread):
                return None
        if request.tries and may_go_on:
            return None
        return 504 if condition == "timeout" else 502

    def _may_go_on(self, request, condition, now_s, *, sent):
        wanted = {condition}
        if self.settings.version >= (1, 9, 13) and sent and request.method in NON_IDEMPOTENT_METHODS:
            wanted.add("non_idempotent")
        allowed = self.settings.next_upstream
        if "off" in allowed or not wanted <= allowed or (sent and request.body_unread):
            return False
        elapsed_ms = round((now_s - request.started_s) * 1000)
        return not self.settings.timeout_s or elapsed_ms < round(self.settings.timeout_s * 1000)

    def run(self, now_s, worker, method, outcome, key=b"", *, body_unread=False):
        """Serve one request while no other is under way.

        Parameters
        ----------
        now_s : float
            When its first peer is chosen.
        worker, method, key, body_unread
            As for `begin`.
        outcome : callable
            ``outcome(peer_index, try_number, now_s)`` returns the `Try` that starts then; tries count from 0.

        Returns
        -------
        Result
        """
        request = self.begin(now_s, worker=worker, method=method, key=key, body_unread=body_unread)
        tried = []
        while True:
            index = self.pick(request, now_s)
            if index is None:
                return Result(tuple(tried), 502, no_live=True)
            attempt = outcome(index, len(tried), now_s)
            tried.append(index)
            now_s += attempt.duration_s
            status = self.decide(request, attempt, now_s)
            if status is not None:
                return Result(tuple(tried), status, no_live=False)


def _smoothest(candidates):
    """Choose by smooth weighted round robin; each that was considered regains one unit of its weight."""
    total = sum(p.effective_weight for p in candidates)
    for p in candidates:
        p.current_weight += p.effective_weight
        p.effective_weight = min(p.effective_weight + 1, p.peer.weight)
    best = max(candidates, key=lambda p: p.current_weight)
    best.current_weight -= total
    return best


def _at(group, point):
    """Return the peer at a point of the line on which each is as long as its weight."""
    ends = list(accumulate(p.peer.weight for p in group))
    return group[bisect_right(ends, point % ends[-1])]
