"""Days of very many requests, and what one replay of them takes; imports little, for memory is measured."""

import time
from pathlib import Path

import numpy as np

from pcapdiag.whatif.group import Arrivals, GroupSettings, MeasuredUpstream, Peer, ServerGroup
from pcapdiag.whatif.kernels import replay_state as state
from pcapdiag.whatif.replay import run

S = 10**9
DAY_S = 86_400


def make_day(n, n_clients=1000):
    """Return a group with three servers and `n` requests of a day, made without arrays beside those that it keeps."""
    chance = np.random.default_rng(1)
    each = n // n_clients
    requests, bursts = np.zeros(n, state.REQUEST), np.zeros(n, state.BURST)
    requests["status"], requests["place"] = 200, -1
    for client in range(n_clients):
        rows = slice(client * each, (client + 1) * each)
        think_ns = chance.exponential(DAY_S * S / each, each).astype(np.int64)
        requests["start_ns"][rows] = np.cumsum(think_ns)
        requests["service_us"][rows] = chance.integers(1000, 50_000, each)
        think_ns[0] = -1
        bursts["think_ns"][rows], bursts["first"][rows] = think_ns, np.arange(client * each, (client + 1) * each)
        bursts["client"][rows] = client
    places = tuple(MeasuredUpstream(f"10.0.0.{i}:80", 5 * S, 10_000_000, 0, 2_000_000, 100_000) for i in range(3))
    settings = GroupSettings(tuple(Peer(place.endpoint, i) for i, place in enumerate(places)), workers=2)
    services, keys = np.zeros(1, np.int64), np.zeros(n_clients, np.int64)
    return ServerGroup("app", settings, places, Arrivals(requests, bursts, services, n_clients, keys))


def measure_day():
    """Print the CPU seconds of one replay of ten million requests, and the most memory that the process had [MB]."""
    group = make_day(10_000_000)
    before_s = time.process_time()
    counts = run(group, group.settings, draws=1).counts[0]
    took_s = time.process_time() - before_s
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(took_s, int(status["VmHWM"].split()[0]) // 1024, int(counts[state.CLIENTS]))


if __name__ == "__main__":
    measure_day()
