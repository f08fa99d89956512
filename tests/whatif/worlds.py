"""Worlds with chance: incidents made from a seed, and what a log and a capture would show of them.

What is planned is hidden: idle timeouts and their spread, round trips, how long clients think, who is served by whom.
"""

import random
from dataclasses import dataclass, replace

import numpy as np

from pcapdiag.whatif.arrivals import Requests, make_arrivals
from pcapdiag.whatif.group import Arrivals, GroupSettings, MeasuredUpstream, Peer, ServerGroup
from pcapdiag.whatif.kernels import replay_state as state
from tests.whatif.kernels.plain_replay import Replay

MS, S = 10**6, 10**9


class World(Replay):
    """One run: what is planned, and chance on top of it."""

    def __init__(self, group, settings, seed, *, is_open):
        self.chance = random.Random(seed)
        n = group.arrivals.n_clients
        workers = [self.chance.randrange(settings.workers) for _ in range(n)]
        super().__init__(group, settings, workers, [b""] * n, is_open=is_open, bins=(0, S, 1))
        # The workers have served others before.
        for worker in range(settings.workers):
            for _ in range(self.chance.randrange(8)):
                request = self.choosing.begin(0, worker=worker)
                self.choosing.pick(request, 0)
                self.choosing.release(request, 0, failed=False)
        self.spans, self.took_ns = {}, {}

    def rtt_ns(self, place):
        return place.rtt_ns + round(self.chance.expovariate(1) * place.rtt_tail_ns)

    def timeout_ns(self, place):
        timeout_ns = super().timeout_ns(place)
        return max(round(self.chance.gauss(timeout_ns, place.spread_ns)), 1) if timeout_ns >= 0 else -1

    def answer_at(self, sent_ns, under):
        self.took_ns[under.number] = under.service_ns + self.rtt_ns(self.group.places[under.connection.place])
        self.plan(sent_ns + self.took_ns[under.number], self.answer, under)

    def finish(self, now_ns, under, status):
        self.spans[under.number] = under.started_ns, now_ns, status
        super().finish(now_ns, under, status)

    def tally(self):
        """Return the numbers of lost tries and of requests that failed."""
        failed = sum(self.counts[name] for name in ("failed_502", "failed_504", "failed_other"))
        return self.counts["lost"], failed

    def seen(self):
        """Return the arrivals as a log would tell them, in milliseconds."""
        plan = self.group.arrivals
        client = [burst.client for burst in self.bursts for _ in range(burst.n)]
        first = {}
        for number, peer in self.picks:
            first.setdefault(number, -1 if peer is None else self.settings.peers[peer].place)
        rows = []
        for number, (began_ns, done_ns, status) in self.spans.items():
            is_known = status < 500 and number in self.took_ns
            service_ns = max(self.took_ns[number] - self.group.places[0].rtt_ns, 0) if is_known else -1
            flags = int(plan.requests[number]["flags"])
            start_ns, end_ns = (round(ns / MS) * MS for ns in (began_ns, done_ns))
            rows.append((start_ns, end_ns, service_ns, 200, client[number], flags, first[number], 0, 0, 0))
        requests = Requests(*np.array(rows, np.int64).T)
        return make_arrivals(requests, self.group.places, [0] * plan.n_clients, source="access log")


@dataclass(frozen=True)
class Incident:
    """A group whose arrivals are what clients plan, and whether they wait for answers."""

    group: ServerGroup
    is_open: bool

    def run(self, settings, seed):
        return World(self.group, settings, seed, is_open=self.is_open).run()

    def observe(self, seed):
        """Return what a model gets to see of one run."""
        return replace(self.group, arrivals=self.run(self.group.settings, seed).seen())


def make_incident(seed):
    """Return an incident: a proxy, upstreams, and clients that often think for about as long as connections last."""
    draw = random.Random(seed)
    timeout_ns = draw.randrange(2 * S, 8 * S)
    rtt_ns = round(10 ** draw.uniform(0, 2.3) * MS)
    spread, tail = draw.choice([0, 0.0005, 0.002, 0.005]), draw.choice([0, 0.01, 0.05, 0.2])
    places = tuple(
        MeasuredUpstream(
            f"10.0.0.{n + 1}:80",
            timeout_ns=timeout_ns,
            spread_ns=round(timeout_ns * spread),
            rtt_ns=rtt_ns,
            rtt_tail_ns=round(rtt_ns * tail),
        )
        for n in range(draw.choice([1, 2, 2, 3, 4]))
    )
    max_fails = draw.choice([0, 1, 1, 1, 3])
    peers = [Peer(p.endpoint, n, weight=draw.choice([1, 1, 2]), max_fails=max_fails) for n, p in enumerate(places)]
    settings = GroupSettings(
        peers=tuple(peers),
        workers=draw.choice([1, 1, 2, 4]),
        has_zone=draw.random() < 0.3,
        keepalive=draw.choice([1, 2, 4, 16, 32]),
        read_timeout_ns=5 * S,
    )
    kind = draw.choice(["one", "many", "open"])
    return Incident(ServerGroup("app", settings, places, _plan(draw, timeout_ns, rtt_ns, kind)), kind == "open")


def _plan(draw, timeout_ns, rtt_ns, kind):
    """Return what clients do: each thinks, asks for a thing or a few, and waits; of an open crowd each comes once."""
    n_requests = draw.randrange(60, 240)
    n_clients = {"one": 1, "many": draw.randrange(3, 20), "open": n_requests}[kind]
    bursts, requests = [], []
    start_ns = 0
    for client in range(n_clients):
        start_ns = draw.randrange(timeout_ns) if kind != "open" else start_ns + _think_ns(draw, timeout_ns, rtt_ns, 1)
        left = max(n_requests // n_clients, 1)
        is_first = True
        while left > 0:
            n = min(draw.choice([1, 1, 2, 3]), left)
            left -= n
            think_ns = -1 if is_first else _think_ns(draw, timeout_ns, rtt_ns, n_clients)
            at_ns = start_ns if is_first else 0
            bursts.append((think_ns, len(requests), client))
            is_first = False
            for i in range(n):
                service_us = round(10 ** draw.uniform(0, 2) * 1000)
                flags = int(state.NOT_IDEMPOTENT) if draw.random() < 0.2 else 0
                requests.append((at_ns + i * 3 * MS, service_us, 0, 200, 0, -1, 0, flags))
    return Arrivals(
        requests=np.array(requests, state.REQUEST),
        bursts=np.array(bursts, state.BURST),
        services=np.zeros(1, np.int64),
        n_clients=n_clients,
        client_key=np.zeros(n_clients, np.int64),
    )


def _think_ns(draw, timeout_ns, rtt_ns, n_clients):
    """[ns] Many think for any time, one often for about as long as connections stay open."""
    if n_clients > 1 or draw.random() < 0.4:
        return round(draw.expovariate(1) * timeout_ns * draw.choice([0.2, 0.9, 2]))
    return max(round(timeout_ns - draw.uniform(-1.5, 2.5) * rtt_ns), 1)
