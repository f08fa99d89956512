"""Trials of a real nginx: what it did with configurations and requests that are drawn from a seed, as plain data.

All configurations are blocks of two nginx processes, one with one worker and one with several, and all are tried at
once: most of a trial is waiting for the fail_timeout of a peer. What became of each try, and in which second, nginx
tells itself, so that nothing depends on how busy the machine is.
"""

import asyncio
import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from dataclasses import dataclass

from tests.waiting import HANG_S, wait_until
from tests.whatif.nginx_log import read_choices
from tests.whatif.plain_selection import Peer, Settings
from tests.whatif.stub_upstreams import SHARED_ADDRESSES, Script, Stubs, hold_port
from tests.whatif.trial_plans import PROXY_ADDRESS, configuration, draw_plan

N_TRIALS = 240
"""As many as the tests want: more than 200 different ones, in a few seconds of CPU."""
LATE_BODY_S = 0.03
LAST_STEP_S = 12.0
"""What is not sent by then, because answers took their time, is left out."""
ACCESS_LINE = re.compile(r'(\d+) ([\d.]+) /(\d+)/(\d+) (\d+) "([^"]*)" "([^"]*)" "([^"]*)" (\w+)')


@dataclass(frozen=True, slots=True)
class TrialTry:
    """A try as it happened."""

    peer: int
    outcome: str
    """As in `plain_selection.Try`; ``no_live`` where nginx found no peer, and `peer` is -1."""
    did: str | None
    """What the peer did by its own account (`Script`); ``None`` where it may not have seen the request."""
    cached: bool
    tries_left: int
    """Tries that nginx had left before it chose."""
    weight: int | None
    """The peer's current weight after it was chosen by round robin, if it was."""
    effective_weight: int | None
    """The peer's effective weight after its failure, if it failed."""
    failed: bool
    picked_s: float
    """[s] Since the epoch; the second is the one that nginx took it for."""
    released_s: float
    elapsed_s: float
    """[s] From the first choice to the end of this try, by the clock that nginx holds against timeouts."""
    picked_order: int
    """Choices and releases of one nginx, in the order in which they happened."""
    released_order: int


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A request as it happened."""

    t_s: float
    """[s] When its first peer was chosen."""
    worker: int
    """Process of nginx that had it."""
    method: str
    key: bytes
    body_unread: bool
    tries: tuple[TrialTry, ...]
    status: int

    @property
    def no_live(self):
        return self.tries[-1].outcome == "no_live"


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration and all its requests, in the order of their first choices."""

    name: str
    peers: tuple[Peer, ...]
    settings: Settings
    keepalive: int
    requests: tuple[TrialRequest, ...]

    def events(self):
        """Return all choices and releases in order: (order, index of request, of its try, whether released)."""
        events = []
        for number, request in enumerate(self.requests):
            for n, attempt in enumerate(request.tries):
                events.append((attempt.picked_order, number, n, False))
                if attempt.outcome != "no_live":
                    events.append((attempt.released_order, number, n, True))
        return sorted(events)


def why_not():
    """Return why there can be no trials, or ``None``."""
    if shutil.which("nginx") is None:
        return "nginx is not installed"
    build = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True, timeout=HANG_S).stderr
    return None if "--with-debug" in build else "this nginx writes no debugging log"


def nginx_version():
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True, timeout=HANG_S).stderr
    return tuple(int(part) for part in re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said).groups())


def run_trials(seed, n, folder):
    """Try `n` configurations on a real nginx.

    Parameters
    ----------
    seed : int
        Of all that is drawn: configurations, requests, and what the upstreams do.
    n : int
        How many.
    folder : pathlib.Path
        Where nginx writes; empty, or not there yet.

    Returns
    -------
    list of Trial
        First those of the nginx with one worker.
    """
    version = nginx_version()
    plans = [draw_plan(random.Random(f"{seed}/{number}"), number, version) for number in range(n)]
    return asyncio.run(_run(plans, seed, folder))


async def _run(plans, seed, folder):
    async with Stubs() as stubs:
        for plan in plans:
            await _place(plan, stubs, seed)
        running = {}
        try:
            for workers in sorted({plan.settings.workers for plan in plans}):
                running[workers] = _start_nginx(plans, workers, folder / f"workers_{workers}")
            sent = await asyncio.gather(*(_play(plan, stubs, running[plan.settings.workers][1]) for plan in plans))
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.wait(timeout=HANG_S)
    trials = []
    for workers in running:
        trials += _read(plans, folder / f"workers_{workers}", stubs.did, sent)
    return trials


async def _place(plan, stubs, seed):
    """Give each peer its endpoint and its script."""
    refusing = {place for _, places, _ in plan.steps for place in places}
    for place in range(len(plan.peers)):
        if place == plan.deaf:
            endpoint = stubs.deaf
        elif place in refusing:
            endpoint = await stubs.own_port()
        else:
            endpoint = SHARED_ADDRESSES[place], stubs.port
        plan.endpoints.append(endpoint)
        stubs.scripts[plan.number, *endpoint] = Script(f"{seed}/{plan.number}/{place}", plan.weights[place])


def _start_nginx(plans, workers, folder):
    """Start nginx and return its process and its port, once it listens."""
    folder.mkdir(parents=True)
    with hold_port(PROXY_ADDRESS) as held, (folder / "console.log").open("wb") as console:
        port = held.getsockname()[1]
        (folder / "nginx.conf").write_text(configuration(plans, workers, port))
        command = ["nginx", "-p", f"{folder}/", "-e", "error.log", "-c", "nginx.conf"]
        process = subprocess.Popen(command, stdout=console, stderr=console, env=os.environ | {"TZ": "UTC"})

        def listens():
            assert process.poll() is None, (folder / "console.log").read_text()
            with socket.socket() as client:
                return client.connect_ex((PROXY_ADDRESS, port)) == 0

        wait_until(listens)
    return process, port


async def _play(plan, stubs, port):
    """Send what is planned, each step when it is due and the one before is over, and return how many requests."""
    began_s, number = time.monotonic(), 0
    for due_s, refusing, asks in plan.steps:
        await asyncio.sleep(max(0, began_s + due_s - time.monotonic()))
        if time.monotonic() > began_s + LAST_STEP_S:
            break
        for place, endpoint in enumerate(plan.endpoints):
            if endpoint != stubs.deaf and endpoint[1] != stubs.port:
                await stubs.refuse(endpoint, refuses=place in refusing)
        await asyncio.gather(*(_ask(plan, port, ask, number + n) for n, ask in enumerate(asks)))
        number += len(asks)
    return number


async def _ask(plan, port, ask, number):
    """Send one request and wait until nginx is done with it, which is when it closes the connection."""
    source = ".".join(str(byte) for byte in ask.key) if plan.settings.balance == "ip_hash" else "127.0.0.1"
    reader, writer = await asyncio.open_connection(PROXY_ADDRESS, port, local_addr=(source, 0))
    key = b"?key=" + ask.key if plan.settings.balance == "hash" else b""
    body = b"" if ask.body == "none" else b"body"
    head = b"%s /%d/%d%s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" % (
        *(ask.method.encode(), plan.number, number),
        key,
    )
    if ask.method != "GET":
        head += b"Content-Length: %d\r\n" % len(body)
    writer.write(head + b"\r\n" + (body if ask.body == "whole" else b""))
    try:
        if ask.body == "late":
            await asyncio.sleep(LATE_BODY_S)
            writer.write(body)
        await reader.read()
    except ConnectionResetError:
        pass  # nginx answered without waiting for the body.
    writer.close()


def _read(plans, folder, did, sent):
    """Return the trials of one nginx, by its logs."""
    choices = read_choices(folder / "error.log")
    requests = {}
    for line in (folder / "access.log").read_text().splitlines():
        connection, msec, number, ask, *rest = ACCESS_LINE.fullmatch(line).groups()
        plan = plans[int(number)]
        asks = [ask for _, _, asks in plan.steps for ask in asks]
        request = _request(plan, asks[int(ask)], choices[int(connection)], did, int(ask), float(msec), *rest)
        requests.setdefault(int(number), []).append(request)
    trials = []
    for number, found in sorted(requests.items()):
        plan = plans[number]
        found.sort(key=lambda request: request.tries[0].picked_order)
        assert len(found) == sent[number], f"trial {number} lost requests"
        trials.append(Trial(f"trial {number}", plan.peers, plan.settings, plan.keepalive, tuple(found)))
    return trials


def _request(plan, ask, logged, did, number, msec, status, addresses, statuses, times, method):
    assert method == ask.method
    places = {f"{address}:{port}": place for place, (address, port) in enumerate(plan.endpoints)}
    addresses, statuses = addresses.split(", "), statuses.split(", ")
    durations_s = [0.0 if text == "-" else float(text) for text in times.split(", ")]
    said = {f"{ip}:{port}": did.get((plan.number, number, ip, port), []) for ip, port in plan.endpoints}
    accounts = _accounts(logged.tries, addresses, said)
    tries, elapsed_s = [], 0.0
    begin_s = msec - sum(durations_s)
    logged_tries = zip(addresses, statuses, durations_s, accounts, logged.tries, strict=True)
    for address, try_status, duration_s, account, entry in logged_tries:
        picked_s = _within(begin_s + elapsed_s, entry.picked_s)
        elapsed_s += duration_s
        answered = "ok" if try_status == "200" else f"http_{try_status}"
        tries.append(
            TrialTry(
                peer=-1 if entry.is_busy else places[address],
                outcome="no_live" if entry.is_busy else entry.condition or answered,
                did=account,
                cached=entry.cached,
                tries_left=entry.tries,
                weight=entry.weight,
                effective_weight=entry.effective_weight,
                failed=entry.failed,
                picked_s=picked_s,
                released_s=picked_s if entry.is_busy else _within(begin_s + elapsed_s, entry.released_s),
                elapsed_s=round(elapsed_s, 3),
                picked_order=entry.picked_order,
                released_order=entry.released_order,
            )
        )
    return TrialRequest(
        t_s=tries[0].picked_s,
        worker=logged.worker,
        method=method,
        key=ask.key,
        # What was to be late may have come together with the head, where nginx was late as well.
        body_unread=ask.body == "late" and not logged.has_body,
        tries=tuple(tries),
        status=int(status),
    )


def _accounts(tries, addresses, said):
    """Return what the peer of each try says it did; ``None`` of peers that did not see all that was sent to them."""
    sent = Counter(address for address, entry in zip(addresses, tries, strict=True) if entry.sent)
    left = {address: iter(done) for address, done in said.items() if len(done) == sent[address]}
    return [
        next(left[address]) if entry.sent and address in left else None
        for address, entry in zip(addresses, tries, strict=True)
    ]


def _within(at_s, second):
    """Return a time, moved into the second that nginx took it for: its clocks differ by some milliseconds."""
    return min(max(at_s, second), second + 0.999)
