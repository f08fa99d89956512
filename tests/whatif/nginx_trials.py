"""Trials of a real nginx: configurations and requests drawn from a seed, and what nginx did with them, as plain data.

All configurations are blocks of two nginx processes, one with one worker and one with several, and all are tried at the
same time: most of a trial is waiting for the fail_timeout of a peer. What became of each try, and in which second, is told
by nginx itself, so that nothing depends on how busy the machine is.
"""

import asyncio
import os
import random
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field

from tests.waiting import HANG_S
from tests.whatif.nginx_log import read_choices
from tests.whatif.plain_selection import NO_BACKUP, Peer, Settings
from tests.whatif.stub_upstreams import SHARED_ADDRESSES, Script, Stubs

PROXY_ADDRESS = "127.77.0.1"
DURATION_S = 10.0
SEVERAL_WORKERS = 3
READ_TIMEOUT_S, CONNECT_TIMEOUT_S = 0.25, 0.2
LATE_BODY_S = 0.03
ACCESS_FORMAT = (
    '$connection $msec $uri $status "$upstream_addr" "$upstream_status" "$upstream_response_time" $request_method'
)
ACCESS_LINE = re.compile(r'(\d+) ([\d.]+) /(\d+)/(\d+) (\d+) "([^"]*)" "([^"]*)" "([^"]*)" (\w+)')
CONF = """worker_processes {workers};
daemon off;
user root;
pid nginx.pid;
error_log error.log debug_http;
worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  log_format trial '{format}';
  access_log access.log trial;
  proxy_read_timeout {read_ms}ms;
  proxy_connect_timeout {connect_ms}ms;
  proxy_http_version 1.1;
{blocks}
  server {{
    listen {address}:{port} backlog=512;
{locations}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class TrialTry:
    """A try as it happened."""

    peer: int
    outcome: str
    """As in `plain_selection.Try`; ``no_live`` where nginx found no peer, and `peer` is -1."""
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


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to send."""

    method: str
    key: bytes
    body: str
    """``none``, ``whole`` (with the head) or ``late``."""


@dataclass(slots=True)
class Plan:
    """A trial that is yet to happen."""

    number: int
    peers: tuple[Peer, ...]
    settings: Settings
    keepalive: int
    weights: list[dict[str, float]]
    """What each peer does, and how often."""
    steps: list[tuple[float, frozenset[int], list[Ask]]]
    """When, which peers refuse connections then, and what is sent at once."""
    deaf: int | None
    """A peer that never answers to connections."""
    endpoints: list[tuple[str, int]] = field(default_factory=list)


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
        Those in which nginx had each request.
    """
    version = nginx_version()
    plans = [_draw_plan(random.Random(f"{seed}/{number}"), number, version) for number in range(n)]
    return asyncio.run(_run(plans, seed, folder))


def _draw_plan(draw, number, version):
    workers = SEVERAL_WORKERS if draw.random() < 0.2 else 1
    keepalive = draw.choice([1, 2, 4]) if draw.random() < 0.2 else 0
    balance = draw.choices(["round_robin", "least_conn", "ip_hash", "hash"], [6, 2, 1, 1])[0]
    peers = [
        Peer(
            weight=draw.choice([1, 1, 1, 2, 3, 5]),
            max_fails=draw.choice([0, 1, 1, 1, 2, 3]),
            fail_timeout_s=draw.choice([1, 1, 2, 3]),
            backup=place > 0 and balance not in NO_BACKUP and draw.random() < 0.2,
            down=draw.random() < 0.08,
            max_conns=draw.choice([0, 0, 0, 0, 1, 2]),
        )
        for place in range(draw.choice([1, 2, 2, 3, 3, 4, 5, 6]))
    ]
    conditions = ["invalid_header", *(f"http_{s}" for s in (500, 502, 503, 504, 403, 404, 429)), "non_idempotent"]
    allowed = {c for c in ("error", "timeout") if draw.random() < 0.85} | {c for c in conditions if draw.random() < 0.4}
    settings = Settings(
        version=version,
        next_upstream=frozenset({"off"} if draw.random() < 0.05 or not allowed else allowed),
        tries=draw.choice([0, 0, 0, 1, 2, 3]),
        timeout_s=draw.choice([0, 0, 0, 0.1, 0.4]),
        buffering=draw.random() < 0.75,
        balance=balance,
        zone=draw.random() < (0.6 if workers > 1 else 0.2),
        workers=workers,
    )
    weights = [_draw_weights(draw, keepalive=keepalive) for _ in peers]
    steps = _draw_steps(draw, peers, settings, keepalive=keepalive)
    deaf = draw.randrange(len(peers)) if draw.random() < 0.08 else None
    return Plan(number, tuple(peers), settings, keepalive, weights, steps, deaf)


def _draw_weights(draw, *, keepalive):
    """Most peers have one or two troubles of their own."""
    troubles = ["close", "reset", "invalid_header", "silent", *(f"http_{s}" for s in (500, 502, 503, 504, 403, 404, 429))]
    chosen = draw.choices(troubles, [4, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1], k=draw.choice([0, 1, 1, 2]))
    weights = {"ok": 1.0, "slow": draw.choice([0.2, 1.0])} | dict.fromkeys(chosen, draw.choice([0.5, 1.0, 3.0]))
    if keepalive:
        weights |= {"stale": draw.choice([0, 1.0]), "stale_reset": draw.choice([0, 0.5]), "leave": 0.3}
    return weights


def _draw_steps(draw, peers, settings, *, keepalive):
    refusing_peers = [place for place in range(len(peers)) if draw.random() < 0.25]
    steps, due_s = [], draw.uniform(0, 0.5)
    while due_s < DURATION_S:
        refusing = frozenset(place for place in refusing_peers if draw.random() < 0.5)
        # Between several workers the order of what happens at the same time is not told.
        at_once = draw.choice([1, 1, 1, 2, 4] if keepalive else [1, 1, 1, 1, 3]) if settings.workers == 1 else 1
        steps.append((due_s, refusing, [_draw_ask(draw, settings) for _ in range(at_once)]))
        due_s += draw.choice([draw.uniform(0.05, 0.3), draw.uniform(0.3, 1.5), draw.uniform(1.5, 3.5)])
    return steps


def _draw_ask(draw, settings):
    method = draw.choices(["GET", "POST", "PUT"], [4, 2, 1])[0]
    body = "none" if method == "GET" else draw.choice(["none", "whole", "late"])
    if settings.balance == "ip_hash":
        return Ask(method, bytes([127, draw.randrange(1, 9), draw.randrange(1, 200), draw.randrange(1, 200)]), body)
    if settings.balance == "hash":
        # An empty key is left to round robin.
        return Ask(method, draw.choice([b"", *(b"%d" % n for n in range(40))]), body)
    return Ask(method, b"", body)


def _configuration(plans, workers, port):
    plans = [plan for plan in plans if plan.settings.workers == workers]
    return CONF.format(
        workers=workers,
        format=ACCESS_FORMAT,
        read_ms=round(READ_TIMEOUT_S * 1000),
        connect_ms=round(CONNECT_TIMEOUT_S * 1000),
        address=PROXY_ADDRESS,
        port=port,
        blocks="\n".join(_block(plan) for plan in plans),
        locations="\n".join(_location(plan) for plan in plans),
    )


def _block(plan):
    lines = []
    for place, peer in enumerate(plan.peers):
        address, port = plan.endpoints[place]
        numbers = f"weight={peer.weight} max_fails={peer.max_fails} fail_timeout={peer.fail_timeout_s}s"
        flags = " backup" * peer.backup + " down" * peer.down
        lines.append(f"server {address}:{port} {numbers} max_conns={peer.max_conns}{flags};")
    balance = {"round_robin": "", "hash": "hash $arg_key;"}.get(plan.settings.balance, f"{plan.settings.balance};")
    zone = f"zone z{plan.number} 64k;" if plan.settings.zone else ""
    keepalive = f"keepalive {plan.keepalive};" if plan.keepalive else ""
    return f"  upstream u{plan.number} {{ {balance} {zone} {' '.join(lines)} {keepalive} }}"


def _location(plan):
    settings = plan.settings
    return f"""    location /{plan.number}/ {{
      proxy_pass http://u{plan.number};
      proxy_set_header X-Trial {plan.number};
      proxy_set_header Connection {'""' if plan.keepalive else "close"};
      proxy_next_upstream {" ".join(sorted(settings.next_upstream))};
      proxy_next_upstream_tries {settings.tries};
      proxy_next_upstream_timeout {round(settings.timeout_s * 1000)}ms;
      proxy_request_buffering {"on" if settings.buffering else "off"};
    }}"""


async def _run(plans, seed, folder):
    async with Stubs() as stubs:
        for plan in plans:
            await _place(plan, stubs, seed)
        running = {}
        try:
            for workers in sorted({plan.settings.workers for plan in plans}):
                running[workers] = await _start_nginx(plans, workers, folder / f"workers_{workers}")
            await asyncio.gather(*(_play(plan, stubs, running[plan.settings.workers][1]) for plan in plans))
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.wait(timeout=HANG_S)
    trials = []
    for workers in running:
        trials += _read(plans, folder / f"workers_{workers}")
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


async def _start_nginx(plans, workers, folder):
    folder.mkdir(parents=True)
    with socket.create_server((PROXY_ADDRESS, 0)) as free:
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(_configuration(plans, workers, port))
    with (folder / "console.log").open("wb") as console:
        process = subprocess.Popen(
            ["nginx", "-p", f"{folder}/", "-e", "error.log", "-c", "nginx.conf"],
            stdout=console,
            stderr=console,
            env=os.environ | {"TZ": "UTC"},
        )
    until = time.monotonic() + HANG_S
    while True:
        assert process.poll() is None, (folder / "console.log").read_text()
        assert time.monotonic() < until, "nginx does not listen"
        try:
            _, writer = await asyncio.open_connection(PROXY_ADDRESS, port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return process, port


async def _play(plan, stubs, port):
    """Send what is planned, each step when it is due and the one before is over."""
    began_s, number = time.monotonic(), 0
    for due_s, refusing, asks in plan.steps:
        await asyncio.sleep(max(0, began_s + due_s - time.monotonic()))
        for place, endpoint in enumerate(plan.endpoints):
            if endpoint != stubs.deaf and endpoint[1] != stubs.port:
                await stubs.refuse(endpoint, refuses=place in refusing)
        await asyncio.gather(*(_ask(plan, port, ask, number + n) for n, ask in enumerate(asks)))
        number += len(asks)


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


def _read(plans, folder):
    """Return the trials of one nginx, by its logs."""
    choices = read_choices(folder / "error.log")
    requests = {}
    for line in (folder / "access.log").read_text().splitlines():
        connection, msec, number, ask, *rest = ACCESS_LINE.fullmatch(line).groups()
        plan = plans[int(number)]
        asks = [ask for _, _, asks in plan.steps for ask in asks]
        request = _request(plan, asks[int(ask)], choices[int(connection)], float(msec), *rest)
        requests.setdefault(int(number), []).append(request)
    trials = []
    for number, found in sorted(requests.items()):
        plan = plans[number]
        found.sort(key=lambda request: request.tries[0].picked_order)
        assert len(found) == sum(len(asks) for _, _, asks in plan.steps), f"trial {number} lost requests"
        trials.append(Trial(f"trial {number}", plan.peers, plan.settings, plan.keepalive, tuple(found)))
    return trials


def _request(plan, ask, logged, msec, status, addresses, statuses, times, method):
    assert method == ask.method
    places = {f"{address}:{port}": place for place, (address, port) in enumerate(plan.endpoints)}
    addresses, statuses = addresses.split(", "), statuses.split(", ")
    durations_s = [0.0 if text == "-" else float(text) for text in times.split(", ")]
    assert len(addresses) == len(logged.tries), (addresses, logged)
    tries, elapsed_s = [], 0.0
    begin_s = msec - sum(durations_s)
    for address, try_status, duration_s, entry in zip(addresses, statuses, durations_s, logged.tries, strict=True):
        picked_s = _within(begin_s + elapsed_s, entry.picked_s)
        elapsed_s += duration_s
        answered = "ok" if try_status == "200" else f"http_{try_status}"
        tries.append(
            TrialTry(
                peer=-1 if entry.is_busy else places[address],
                outcome="no_live" if entry.is_busy else entry.condition or answered,
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
        body_unread=ask.body == "late",
        tries=tuple(tries),
        status=int(status),
    )


def _within(at_s, second):
    """Return a time, moved into the second that nginx took it for: its clocks differ by some milliseconds."""
    return min(max(at_s, second), second + 0.999)
