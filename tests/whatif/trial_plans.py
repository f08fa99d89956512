"""Plans of trials: configurations of nginx and requests to them, drawn from a seed."""

from dataclasses import dataclass, field

from tests.whatif.plain_selection import NO_BACKUP, Peer, Settings

PROXY_ADDRESS = "127.77.0.1"
DURATION_S = 10.0
SEVERAL_WORKERS = 3
READ_TIMEOUT_S, CONNECT_TIMEOUT_S = 0.8, 0.2
BALANCES = {"round_robin": 12, "least_conn": 7, "ip_hash": 4, "hash": 3, "random": 2, "random two": 2}
"""How often each is drawn."""
ACCESS_FORMAT = (
    '$connection $msec $uri $status "$upstream_addr" "$upstream_status" "$upstream_response_time" $request_method'
)
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


def draw_plan(draw, number, version):
    """Return a configuration and the requests to it, drawn from a `random.Random`, for a version of nginx."""
    workers = SEVERAL_WORKERS if draw.random() < 0.2 else 1
    keepalive = draw.choice([1, 2, 4]) if draw.random() < 0.25 else 0
    balance = draw.choices(list(BALANCES), list(BALANCES.values()))[0]
    peers = [
        Peer(
            weight=draw.choice([1, 1, 1, 2, 3, 5]),
            max_fails=draw.choice([0, 1, 1, 1, 2, 3]),
            fail_timeout_s=draw.choice([1, 1, 2, 3]),
            backup=place > 0 and balance not in NO_BACKUP and draw.random() < 0.2,
            down=draw.random() < 0.08,
            max_conns=draw.choice([0, 0, 0, 0, 1, 2]),
        )
        for place in range(draw.choice([1, 2, 2, 3, 3, 4, 5, 5]))
    ]
    if balance in {"hash", "ip_hash"} and draw.random() < 0.6:
        # So many points miss that some requests are left to round robin.
        peers.append(Peer(weight=draw.choice([20, 40, 60]), down=True))
    conditions = ["invalid_header", *(f"http_{s}" for s in (500, 502, 503, 504, 403, 404, 429)), "non_idempotent"]
    allowed = {c for c in ("error", "timeout") if draw.random() < 0.85} | {c for c in conditions if draw.random() < 0.4}
    settings = Settings(
        version=version,
        next_upstream=frozenset({"off"} if draw.random() < 0.05 or not allowed else allowed),
        tries=draw.choice([0, 0, 0, 1, 2, 3]),
        timeout_s=draw.choice([0, 0, 0, 0.1, 0.5, 1.2]),
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
    troubles = [
        "close",
        "reset",
        "invalid_header",
        "silent",
        *(f"http_{s}" for s in (500, 502, 503, 504, 403, 404, 429)),
    ]
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
        several = [2, 3, 5] if keepalive or settings.balance == "least_conn" else [1, 3]
        at_once = draw.choice([1, 1, 1, *several]) if settings.workers == 1 else 1
        steps.append((due_s, refusing, [_draw_ask(draw, settings) for _ in range(at_once)]))
        due_s += draw.choice([draw.uniform(0.05, 0.3), draw.uniform(0.3, 1.5), draw.uniform(1.5, 3.5)])
    return steps


def _draw_ask(draw, settings):
    method = draw.choices(["GET", "POST", "PUT", "PATCH", "LOCK", "DELETE"], [8, 4, 2, 1, 1, 1])[0]
    body = "none" if method == "GET" else draw.choice(["none", "whole", "late"])
    if settings.balance == "ip_hash":
        return Ask(method, bytes([127, draw.randrange(1, 9), draw.randrange(1, 200), draw.randrange(1, 200)]), body)
    if settings.balance == "hash":
        # An empty key is left to round robin.
        return Ask(method, draw.choice([b"", *(b"%d" % draw.randrange(10**6) for _ in range(9))]), body)
    return Ask(method, b"", body)


def configuration(plans, workers, port):
    """Return the nginx.conf with all plans for so many workers; the plan with number N is at ``/N/``."""
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
      proxy_set_header Connection {'""' if plan.keepalive else "close"};
      proxy_next_upstream {" ".join(sorted(settings.next_upstream))};
      proxy_next_upstream_tries {settings.tries};
      proxy_next_upstream_timeout {round(settings.timeout_s * 1000)}ms;
      proxy_request_buffering {"on" if settings.buffering else "off"};
    }}"""
