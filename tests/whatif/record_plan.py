"""One plan of bursts, played in the lab under any settings: ``python -m tests.whatif.record_plan node base``.

Wants root, as the lab does. What is recorded under one setting is there to be foretold from another one's recording.
"""

import argparse
import random
import time
from pathlib import Path

from tests.lab import hub, record, servers
from tests.lab.scenarios import T_S, Scenario
from tests.lab.servers import Proxy

N_BURSTS = 75
SERVERS = {
    "gunicorn": servers.gunicorn(keepalive_s=T_S),
    "lighttpd": servers.lighttpd(keepalive_s=T_S),
    "nginx": servers.nginx(keepalive_s=T_S),
    "node": servers.node(keepalive_ms=T_S * 1000),
}
AGAIN = "proxy_next_upstream error timeout non_idempotent;"
SETTINGS = {
    "base": Proxy(),
    "max_fails_0": Proxy(server="max_fails=0"),
    "max_fails_0_again": Proxy(server="max_fails=0", more=AGAIN),
    "again": Proxy(more=AGAIN),
    "off": Proxy(more="proxy_next_upstream off;"),
    "shorter": Proxy(keepalive_timeout="1s"),
}
PATH = hub.Path(delay_s=0.06, jitter_s=0.002)


def bursts_near_the_timeout(seed):
    """Return a plan: one to four requests at once, then a rest that is short, about the idle timeout, or longer."""

    def plan(stage):
        chance = random.Random(seed)
        for _ in range(N_BURSTS):
            n = chance.choice((1, 1, 2, 3, 4))
            methods = [chance.choice(("GET", "GET", "POST")) for _ in range(n)]
            short, near, long = chance.uniform(0.05, 1), chance.gauss(T_S, 0.12), chance.uniform(T_S, 1.75 * T_S)
            rest_s = chance.choice((short, short, near, near, long))
            stage.client.ask(*methods)
            time.sleep(rest_s)

    return plan


def main():
    """Record the plan before one kind of server under some settings, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("settings", nargs="+", choices=SETTINGS)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--into", type=Path, default=Path("lab-recordings"))
    given = parser.parse_args()
    for name in given.settings:
        record.SCENARIOS[name] = Scenario(
            f"Bursts before {given.server}: {name}",
            (SERVERS[given.server],) * 3,
            bursts_near_the_timeout(given.seed),
            proxy=SETTINGS[name],
            to_upstream=PATH,
            to_proxy=PATH,
        )
        record.record(name, given.into / name)


if __name__ == "__main__":
    main()
