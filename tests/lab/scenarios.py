"""What the lab plays: incidents of a reverse proxy, and each remedy with its effect.

A scenario's `codes` say which cause each kind of loss (`tests.lab.oracle.Lost`) is to be reported as.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.lab import servers
from tests.lab.hub import SYN, Path
from tests.lab.servers import FASTCGI, HTTP, SCGI, CaddyAsProxy, HaproxyAsProxy, HttpdAsProxy, Proxy, Upstream
from tests.lab.stage import MOST_ROUNDS, NothingHappenedError
from tests.waiting import HANG_S

RACE = {"race_fin": "PD101"}
NONE: dict[str, str] = {}
T_S = 2
"""Idle timeout of the upstreams, short so that the lab is quick."""


@dataclass(frozen=True)
class Scenario:
    """An incident: who takes part, what is done, and what pcapdiag must make of it."""

    title: str
    upstreams: tuple[Upstream, ...]
    plan: Callable
    codes: Mapping[str, str] = field(default_factory=dict)
    """Kind of loss: code. Empty where nothing is lost: a remedy at work, or a near miss."""
    beside: frozenset[str] = frozenset()
    """Other codes that must be found."""
    may: frozenset[str] = frozenset()
    """Codes that may be found, as the moment has it."""
    proxy: Proxy | HaproxyAsProxy | HttpdAsProxy | CaddyAsProxy = field(default_factory=Proxy)
    to_upstream: Path = field(default_factory=Path)
    to_proxy: Path = field(default_factory=Path)
    seed: int = 1
    has_timer: bool = False
    """Whether the upstreams were seen to close idle connections by a timer."""
    is_judged: bool = True
    """Whether the lab's own reading of packets knows the protocol of the upstreams: not HTTP/2: clients do."""


def _race(stage):
    idle_s = stage.idle_timeout_s()
    stage.race("POST", idle_s=idle_s, wanted=2)
    stage.race("GET", idle_s=idle_s, wanted=1)


def _race_stall_and_refusal(stage):
    stage.race("POST", idle_s=stage.idle_timeout_s(), wanted=2)
    stage.stall("GET")
    stage.processes[0].terminate()
    stage.processes[0].wait(HANG_S)
    stage.note("server stopped")
    stage.client.ask("GET")


def _no_race_any_more(idle_s):
    def plan(stage):
        for _ in range(3):
            stage.ask_after("POST", idle_s=idle_s)
            time.sleep(0.5)

    return plan


def _cascade(stage):
    stage.race("POST", "POST", "POST", idle_s=T_S, wanted=3, rest_s=5)
    stage.client.ask("GET", "POST")
    stage.client.ask("GET")


def _worker_dies(stage):
    for _ in range(2):
        stage.warm(1)
        time.sleep(0.3)
        stage.client.ask("GET", target="/die")


def _scgi(*, with_stall=False):
    def plan(stage):
        _worker_dies(stage)
        stage.client.ask("POST", target="/work", body=b"x" * 4000)
        stage.client.ask("GET", target="/full")
        if with_stall:
            stage.client.ask("POST", target="/slow", body=b"y" * 10)
        stage.client.ask("GET", "GET", target="/work?of=scgi")

    return plan


def _stalled(stage):
    for target in ("/work", "/stalled", "/work", "/stalled"):
        stage.client.ask("POST", target=target, body=bytes(150_000))


def _refused_then_started(stage):
    stage.client.ask("GET")
    stage.client.ask("POST")
    machine, _ = stage.upstreams[0]
    stage.start(0, servers.nginx(keepalive_s=30))
    stage.note("server started", machine=machine.name)
    stage.client.ask("GET")


def _firewall_forgets(*, with_reset, rest_s=0.5):
    def plan(stage):
        for _ in range(2):
            stage.warm(2)
            time.sleep(rest_s)
            stage.hub.forget(with_reset=with_reset)
            stage.note("connections forgotten")
            stage.client.ask("POST", "POST")

    return plan


def _reload(*, stagger_s):
    return lambda stage: stage.reload(wanted=2, stagger_s=stagger_s)


def _tls(stage):
    for method in ("GET", "POST", "GET"):
        stage.client.ask(method)


def _inside_tls(stage):
    idle_s = stage.idle_timeout_s()
    stage.race("POST", "POST", idle_s=idle_s, wanted=2)
    stage.race("GET", "GET", idle_s=idle_s, wanted=2)
    stage.client.ask("GET", "GET", target="/hang-up")
    stage.client.ask("POST", "POST", target="/slow", body=b"x" * 3000)


def _uploads(target, *, is_answer_lost):
    def plan(stage):
        for _ in range(3):
            if is_answer_lost:
                stage.hub.lose_one(b"HTTP/1.1 413")
            stage.client.ask("POST", target=target, body=bytes(60_000))

    return plan


def _healthy(stage):
    for _ in range(8):
        stage.client.ask("GET", "POST", "GET")
        time.sleep(0.1)


def _bursts(stage):
    for _ in range(8):
        stage.client.ask(*["GET"] * 6)
        time.sleep(0.4)


def _until_repeated(wanted):
    """Ask until the proxy has sent bytes again on so many connections that had opened at once."""

    def plan(stage):
        for _ in range(MOST_ROUNDS):
            stage.client.ask(*["GET"] * 8)
            ours = [seen.tcp for seen in stage.hub.seen if seen.mac == stage.hub.proxy_mac]
            sent = Counter((tcp.flow, tcp.seq, bool(tcp.flags & SYN)) for tcp in ours if tcp.payload or tcp.flags & SYN)
            repeated = [key for key, n in sent.items() if n > 1]
            opened_late = {flow for flow, _, is_syn in repeated if is_syn}
            if len({flow for flow, _, _ in repeated} - opened_late) >= wanted:
                return
        raise NothingHappenedError

    return plan


def _crowded(n, *, wanted):
    """Ask `n` at once, some of them on kept connections, and again when those have their answers.

    Then the server opens the connections of the others, and closes idle ones to have room.
    """

    def plan(stage):
        for _ in range(MOST_ROUNDS):
            stage.warm(5)
            time.sleep(0.4)
            crowd = threading.Thread(target=stage.client.ask, args=["GET"] * n)
            crowd.start()
            # Its first answers have come after a round trip, and the server opens connections half of one later.
            time.sleep(2 * stage.hub.to_proxy.delay_s + 0.01)
            stage.client.ask(*["GET"] * n)
            crowd.join()
            if stage.lost_tries() >= wanted:
                return
        raise NothingHappenedError

    return plan


def _one_after_the_other(n, *, wanted):
    def plan(stage):
        for _ in range(MOST_ROUNDS):
            for _ in range(n):
                stage.client.ask("GET", target="/late")
            if stage.lost_tries() >= wanted:
                return
        raise NothingHappenedError

    return plan


def _goaway(*, wanted):
    def plan(stage):
        for _ in range(MOST_ROUNDS):
            # One after the other for longer than a connection may live: some are on their way when it ends.
            stage.ask_grpc(15)
            if stage.lost_tries() >= wanted:
                return
        raise NothingHappenedError

    return plan


SHORTER = Proxy(keepalive_timeout="1s")
TLS = HTTP.replace("http://", "https://")
THREE = tuple(servers.nginx(keepalive_s=T_S) for _ in range(3))
GET_AGAIN = Proxy(more="proxy_next_upstream error timeout non_idempotent;")
GRPC = Proxy(location="grpc_pass grpc://be;", listen="http2")
PATIENT = "proxy_read_timeout 2s;"

SCENARIOS: dict[str, Scenario] = {
    "idle_race": Scenario(
        "Idle-close race, recorded live",
        (servers.nginx(keepalive_s=T_S),),
        _race,
        RACE,
        beside=frozenset({"PD901"}),
        has_timer=True,
    ),
    "idle_race_fixed": Scenario(
        "The proxy gives up idle connections first",
        (servers.nginx(keepalive_s=T_S),),
        _no_race_any_more(T_S),
        proxy=SHORTER,
    ),
    "idle_race_on_a_bad_path": Scenario(
        "Idle-close race on a path that shakes, loses and reorders",
        (servers.nginx(keepalive_s=T_S),),
        _race,
        {**RACE, "rst_no_fin": "PD101"},
        may=frozenset({"PD501", "PD901"}),
        to_upstream=Path(jitter_s=0.02, loss=0.08, reorder=0.15),
        to_proxy=Path(jitter_s=0.02, loss=0.08, reorder=0.15),
        has_timer=True,
    ),
    "cascade": Scenario(
        "Three races at once leave no live upstream",
        THREE,
        _cascade,
        RACE,
        beside=frozenset({"PD601"}),
        proxy=Proxy(server="max_fails=1 fail_timeout=5s"),
        has_timer=True,
    ),
    "cascade_without_max_fails": Scenario(
        "max_fails=0 ends the cascade and leaves the race",
        THREE,
        _cascade,
        RACE,
        proxy=Proxy(server="max_fails=0"),
        has_timer=True,
    ),
    "gunicorn_race": Scenario(
        "gunicorn keeps idle connections for two seconds, the proxy for sixty",
        (servers.gunicorn(keepalive_s=T_S),),
        _race,
        RACE,
        beside=frozenset({"PD901"}),
        has_timer=True,
    ),
    "gunicorn_fixed": Scenario(
        "gunicorn keeps idle connections for longer than the proxy",
        (servers.gunicorn(keepalive_s=5),),
        _no_race_any_more(5),
        proxy=Proxy(keepalive_timeout="3s"),
    ),
    "node_race": Scenario(
        "Idle-close race with Node.js",
        (servers.node(keepalive_ms=T_S * 1000),),
        _race,
        RACE,
        beside=frozenset({"PD901"}),
        has_timer=True,
    ),
    "lighttpd_race": Scenario(
        "Idle-close race with lighttpd",
        (servers.lighttpd(keepalive_s=T_S),),
        _race,
        {**RACE, "acked_then_fin": "PD103", "acked_then_rst": "PD103"},
        may=frozenset({"PD901"}),
        has_timer=True,
    ),
    "haproxy_race": Scenario(
        "Idle-close race with HAProxy",
        (servers.haproxy(keepalive_s=T_S),),
        _race,
        RACE,
        beside=frozenset({"PD901"}),
        has_timer=True,
    ),
    "upstream_reload": Scenario(
        "A reload of the upstream while requests are on their way",
        (servers.nginx(keepalive_s=30),),
        _reload(stagger_s=0.4),
        RACE,
        beside=frozenset({"PD108"}),
    ),
    "upstream_reload_at_one_age": Scenario(
        "A reload of the upstream whose idle connections all have the same age",
        (servers.nginx(keepalive_s=30),),
        _reload(stagger_s=0),
        RACE,
        may=frozenset({"PD108"}),
    ),
    "upstream_reload_retried": Scenario(
        "The same with retries for POST: no client notices",
        (servers.nginx(keepalive_s=30),),
        _reload(stagger_s=0.4),
        RACE,
        beside=frozenset({"PD108", "PD901"}),
        proxy=GET_AGAIN,
    ),
    "silent_drop": Scenario(
        "A firewall forgot the connections and says nothing",
        (servers.nginx(keepalive_s=30),),
        _firewall_forgets(with_reset=False),
        {"never_acked": "PD104"},
        proxy=Proxy(more=PATIENT),
    ),
    "silent_drop_fixed": Scenario(
        "The proxy gives up idle connections before the firewall does",
        (servers.nginx(keepalive_s=30),),
        _firewall_forgets(with_reset=False, rest_s=1.5),
        proxy=Proxy(keepalive_timeout="1s", more=PATIENT),
    ),
    "middlebox_reset": Scenario(
        "A firewall forgot the connections and resets them",
        (servers.nginx(keepalive_s=30),),
        _firewall_forgets(with_reset=True),
        {"rst_no_fin": "PD105"},
    ),
    "worker_killed": Scenario(
        "Workers of gunicorn are killed with the request in hand",
        (servers.gunicorn(keepalive_s=30),),
        _worker_dies,
        {"acked_then_fin": "PD201", "acked_then_rst": "PD202"},
    ),
    "php_child_killed": Scenario(
        "Children of php-fpm are killed with the request in hand",
        (servers.php_fpm(),),
        _worker_dies,
        {"acked_then_fin": "PD201", "acked_then_rst": "PD202"},
        proxy=Proxy(location=FASTCGI),
    ),
    "refused": Scenario(
        "Nothing listens, then something does",
        (servers.nothing(),),
        _refused_then_started,
        {"syn_rst": "PD301"},
    ),
    "tls_mismatch": Scenario(
        "Proxy and upstream have no version of TLS in common",
        (servers.nginx(keepalive_s=30, listen="ssl", more=servers.tls("TLSv1.3")),),
        _tls,
        {"tls_failed": "PD304"},
        proxy=Proxy(location=TLS, more="proxy_ssl_protocols TLSv1.2;"),
    ),
    "tls_fixed": Scenario(
        "Proxy and upstream speak TLS 1.3",
        (servers.nginx(keepalive_s=30, listen="ssl", more=servers.tls("TLSv1.3")),),
        _tls,
        proxy=Proxy(location=TLS, more="proxy_ssl_protocols TLSv1.3;"),
    ),
    "early_413": Scenario(
        "The upstream answers 413 to uploads and closes without reading them",
        (servers.node(keepalive_ms=30_000),),
        _uploads("/upload", is_answer_lost=False),
    ),
    "early_413_lost": Scenario(
        "A 413 is lost on the way, and the reset behind it makes the loss final",
        (servers.node(keepalive_ms=30_000),),
        _uploads("/upload", is_answer_lost=True),
        dict.fromkeys(("acked_then_fin", "acked_then_rst", "race_fin", "rst_no_fin"), "PD207"),
    ),
    "early_413_lost_fixed": Scenario(
        "A 413 is lost on the way, and sent again, for the upstream read the upload",
        (servers.node(keepalive_ms=30_000),),
        _uploads("/upload-read", is_answer_lost=True),
        may=frozenset({"PD501"}),
    ),
    "bad_path": Scenario(
        "A path that shakes, loses and reorders, and costs no request",
        (servers.nginx(keepalive_s=30),),
        _healthy,
        may=frozenset({"PD501"}),
        to_upstream=Path(jitter_s=0.02, loss=0.06, reorder=0.15),
        to_proxy=Path(jitter_s=0.02, loss=0.06, reorder=0.15),
    ),
    "path_loss": Scenario(
        "A path that loses one packet in eight delays answers, and costs no request",
        (servers.nginx(keepalive_s=30),),
        _until_repeated(4),
        beside=frozenset({"PD501"}),
        may=frozenset({"PD303"}),
        to_upstream=Path(loss=0.12),
    ),
    "scgi": Scenario(
        "An SCGI server whose children die and say 503",
        (servers.scgi(),),
        _scgi(),
        {"acked_then_fin": "PD201", "acked_then_rst": "PD202"},
        may=frozenset({"PD403", "PD603"}),
        proxy=Proxy(location=SCGI, pool=0),
    ),
    "request_limit": Scenario(
        "Children of php-fpm end after four requests, and the fifth is on its way",
        (servers.php_fpm(max_requests=4),),
        _one_after_the_other(20, wanted=4),
        dict.fromkeys(("race_fin", "rst_no_fin", "acked_then_fin", "acked_then_rst"), "PD107"),
        may=frozenset({"PD901"}),
        proxy=Proxy(location=FASTCGI),
    ),
    "pool_too_small": Scenario(
        "A pool of two idle connections, and bursts of six requests",
        (servers.nginx(keepalive_s=30),),
        _bursts,
        beside=frozenset({"PD602"}),
        proxy=Proxy(pool=2),
    ),
    "pool_large_enough": Scenario(
        "The same bursts with a pool that holds them",
        (servers.nginx(keepalive_s=30),),
        _bursts,
    ),
    "no_reuse": Scenario(
        "A proxy that keeps no connections",
        (servers.nginx(keepalive_s=30),),
        _bursts,
        beside=frozenset({"PD603"}),
        proxy=Proxy(pool=0, location="proxy_pass http://be;"),
    ),
    "grpc_goaway": Scenario(
        "A gRPC server says GOAWAY and closes while calls are on their way",
        (servers.grpcio(max_age_ms=700, grace_ms=1),),
        _goaway(wanted=1),
        proxy=GRPC,
        is_judged=False,
    ),
    "grpc_goaway_fixed": Scenario(
        "A gRPC server says GOAWAY and waits for the calls that are on their way",
        (servers.grpcio(max_age_ms=700, grace_ms=2000),),
        _goaway(wanted=0),
        proxy=GRPC,
        is_judged=False,
    ),
}

ON_A_QUIET_MACHINE = {
    "early_eviction": Scenario(
        "A server closes idle connections when it needs room for new ones",
        (servers.nginx(keepalive_s=30, connections=16),),
        _crowded(15, wanted=6),
        dict.fromkeys(("race_fin", "rst_no_fin", "acked_then_fin", "acked_then_rst"), "PD109"),
        may=frozenset({"PD901"}),
    ),
    "scgi_with_a_stall": Scenario(
        "An SCGI server whose children die, stall, and say 503",
        (servers.scgi(),),
        _scgi(with_stall=True),
        proxy=Proxy(location=SCGI, pool=0, more="scgi_read_timeout 2s;"),
        is_judged=False,
    ),
    "http2_stalled": Scenario(
        "An HTTP/2 server grants no more inside uploads",
        (servers.http2(),),
        _stalled,
        proxy=Proxy(location=GRPC.location, more="grpc_send_timeout 2s; grpc_read_timeout 4s;"),
        is_judged=False,
    ),
    "tls_keys": Scenario(
        "Requests lost inside TLS, with the keys of the upstreams",
        tuple(servers.node_with_keys(version, keepalive_ms=1_000 * T_S) for version in ("TLSv1.3", "TLSv1.2")),
        _inside_tls,
        proxy=Proxy(
            location=TLS,
            server="max_fails=0",
            more="proxy_ssl_protocols TLSv1.2 TLSv1.3; proxy_next_upstream off; proxy_read_timeout 3s;",
        ),
        is_judged=False,
    ),
}
"""What is recorded, and not played by the tests: that closings follow handshakes shows where both are prompt."""

OTHER_PROXIES = {
    "haproxy_as_proxy": Scenario(
        "Idle-close races at HAProxy as the proxy, then a server that stalls, then none",
        (servers.nginx(keepalive_s=T_S),),
        _race_stall_and_refusal,
        proxy=HaproxyAsProxy(),
    ),
    "httpd_as_proxy": Scenario(
        "The same at Apache httpd as the proxy",
        (servers.nginx(keepalive_s=T_S),),
        _race_stall_and_refusal,
        proxy=HttpdAsProxy(),
    ),
    "caddy_as_proxy": Scenario(
        "The same at Caddy as the proxy",
        (servers.nginx(keepalive_s=T_S),),
        _race_stall_and_refusal,
        proxy=CaddyAsProxy(),
    ),
}
"""What other proxies than nginx write of it; tests/lab/test_other_proxies.py."""
