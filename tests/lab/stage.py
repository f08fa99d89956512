"""Where a scenario is played: the proxy, its upstreams, the client and the hub, with what a plan does to them.

Plans are timed by what the hub saw, and repeat what did not come about, a bounded number of times: whether a request
was lost is read from the proxy's access log, not from the clock.
"""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.client import Client
from tests.lab.hub import FIN, SYN, Hub
from tests.lab.network import Machine
from tests.lab.oracle import read_access_log
from tests.lab.servers import Upstream
from tests.waiting import wait_until

MOST_ROUNDS = 20


class NothingHappenedError(Exception):
    """What the scenario is about did not come about in as many rounds as are granted."""


@dataclass
class Stage:
    """What a plan works with."""

    client: Client
    hub: Hub
    folder: Path
    upstreams: list[tuple[Machine, Upstream]]
    processes: list = field(default_factory=list)
    """The main process of each upstream; None where nothing runs."""
    events: list[dict] = field(default_factory=list)
    logs_tries: bool = True
    """Whether the proxy's access log lists its tries, as nginx's does; else every failure of the client was one."""

    def note(self, what, **more):
        """Keep what was done beside what was recorded."""
        self.events.append({"at_s": time.time(), "what": what, **more})

    def lost_tries(self):
        """Return how many tries the proxy lost at a peer so far, by its access log."""
        if not self.logs_tries:
            return sum(answer.is_failure for answer in self.client.answers)
        return sum(try_.is_lost for line in read_access_log(self.folder / "access.log") for try_ in line.tries)

    def warm(self, n):
        """Ask `n` times at once, so that as many connections are pooled; return when the last answer left."""
        answers = self.client.ask(*["GET"] * n)
        if any(answer.is_failure for answer in answers):
            message = f"could not warm up: {answers}"
            raise NothingHappenedError(message)
        return self._last_answer_s()

    def _last_answer_s(self):
        return max(s.at_s for s in self.hub.seen if s.tcp.payload and s.mac != self.hub.proxy_mac)

    def idle_timeout_s(self):
        """Return after which silence an upstream closes: from its last byte to its FIN, where both left it."""
        self.warm(1)
        last = max((s for s in self.hub.seen if s.tcp.payload and s.mac != self.hub.proxy_mac), key=lambda s: s.at_s)

        def fin():
            return [
                s
                for s in list(self.hub.seen)
                if s.tcp.flow == last.tcp.flow and s.tcp.flags & FIN and s.at_s > last.at_s and s.mac == last.mac
            ]

        timeout_s = wait_until(fin)[0].at_s - last.at_s
        self.note("idle timeout measured", seconds=round(timeout_s, 6))
        # Until the proxy has seen it as well, or the next request would be the race already.
        time.sleep(2 * self.hub.to_proxy.delay_s)
        return timeout_s

    def race(self, *methods, idle_s, wanted=1, rest_s=0.5):
        """Ask on idle connections when the upstream is about to close them, until `wanted` tries were lost in all.

        A request that leaves when the FIN does crosses it in the middle of the path: half a round trip of slack to
        either side. Where a round shows that this was too late, for the proxy opened a connection, or too early, the
        next is timed otherwise, by half of that slack.
        """
        before = self.lost_tries()
        for _ in range(MOST_ROUNDS):
            n_lost = self.lost_tries()
            at_s = self.warm(len(methods)) + idle_s
            n_seen = len(self.hub.seen)
            time.sleep(max(at_s - time.monotonic(), 0))
            self.client.ask(*methods)
            if self.lost_tries() - before >= wanted:
                return
            if self.lost_tries() - n_lost < len(methods):
                idle_s += self._correction_s(n_seen)
            time.sleep(rest_s)
        message = f"{self.lost_tries() - before} of {wanted} tries were lost"
        raise NothingHappenedError(message)

    def _correction_s(self, n_seen):
        """Return by how much a request that lost no race should have come later, by what the hub saw since."""
        opened = any(s.tcp.flags & SYN and s.mac == self.hub.proxy_mac for s in self.hub.seen[n_seen:])
        return (-0.5 if opened else 0.5) * self.hub.to_proxy.delay_s

    def ask_after(self, *methods, idle_s):
        """Do what `race` does in a round, whatever comes of it: to see what a remedy does."""
        at_s = self.warm(len(methods)) + idle_s
        time.sleep(max(at_s - time.monotonic(), 0))
        return self.client.ask(*methods)

    def start(self, number, upstream):
        """Start a server on an upstream's machine."""
        machine, _ = self.upstreams[number]
        self.upstreams[number] = (machine, upstream)
        self.processes.insert(number, upstream.start(machine, self.folder / machine.name))

    def reload(self, *, wanted, stagger_s):
        """Reload an nginx upstream, and ask four times at once while it is about to close its idle connections.

        nginx gives its new workers 100 ms before it tells the old ones to go, so a request that leaves 100 ms after
        the signal crosses their FINs. `stagger_s` lies between the ages of the connections.
        """
        before, after_s = self.lost_tries(), 0.1
        for _ in range(MOST_ROUNDS):
            self.warm(4)
            for n in (3, 2, 1):
                time.sleep(stagger_s)
                if stagger_s:
                    self.warm(n)
            time.sleep(0.3)
            self.processes[0].send_signal(signal.SIGHUP)
            self.note("upstream reloaded")
            n_seen = len(self.hub.seen)
            time.sleep(after_s)
            self.client.ask("POST", "POST", "POST", "POST")
            if self.lost_tries() - before >= wanted:
                return
            after_s = max(after_s + self._correction_s(n_seen), 0)
            time.sleep(0.5)
        message = f"{self.lost_tries() - before} of {wanted} tries were lost"
        raise NothingHappenedError(message)

    def stall(self, method):
        """Ask while the workers of an nginx upstream stand still, so that the proxy's patience ends."""
        master = self.processes[0].pid
        workers = [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        self.note("upstream stopped")
        try:
            self.client.ask(method)
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)

    def ask_grpc(self, n):
        """Call `n` times by gRPC through the proxy, one call after the other."""
        return self.client.ask_grpc(n, self.folder)

    def settle(self):
        """Wait until nothing is on its way, or for as long as a connection that is dead may repeat itself."""
        until_s = time.monotonic() + 3
        wait_until(
            lambda: time.monotonic() > until_s or time.monotonic() - max(s.at_s for s in list(self.hub.seen)) > 0.6
        )
