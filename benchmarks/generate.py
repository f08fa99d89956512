"""Write the benchmark capture: a reverse proxy's keep-alive connections to its upstreams, seen at the proxy.

The capture is a function of its arguments: HTTP/1.1 with a mix of methods, targets, statuses and framings; connections
that overlap, each opened by a handshake and closed by FIN when idle; no losses on the wire. A stated number of requests
loses the race against the upstream's idle timeout, so that there is something to find. Beside the capture lies a JSON
file that says what is in it. Memory depends on the connections that are open at one time, not on the length.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import gmtime, perf_counter, strftime
from typing import BinaryIO

import numpy as np
import wire

START_US = 1_767_254_400_000_000  # 2026-01-01 08:00:00 UTC
WINDOW_US = 10_000_000  # connections that start within this time are made together
CONNECTIONS_PER_WINDOW = 250
PROXY = 0x0A010164  # 10.1.1.100
FIRST_UPSTREAM = 0x0A010201  # 10.1.2.1
UPSTREAM_PORT = 8080
PROXY_IDLE_US = 60_000_000  # nginx keepalive_timeout of an upstream block, as it is by default
MEAN_EXCHANGES = 23
MEAN_GAP_US = 2_000_000
BODY_MEDIAN, BODY_SIGMA, BODY_MOST = 1500, 1.2, 90_000

METHODS = (("GET", 0.80), ("POST", 0.12), ("HEAD", 0.03), ("PUT", 0.03), ("DELETE", 0.02))
STATUSES = (("200 OK", 0.88), ("304 Not Modified", 0.05), ("404 Not Found", 0.04), ("302 Found", 0.02),
            ("500 Internal Server Error", 0.01))  # fmt: skip
CHUNKED_SHARE = 0.15
TARGETS = (
    "/api/v1/orders/{}?expand=items",
    "/api/v1/customers/{}",
    "/api/v1/search?q=shoes&page={}",
    "/static/app.{}.js",
    "/static/img/{}.jpg",
    "/checkout/{}/confirm",
    "/healthz",
)
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0",
    "curl/8.9.1",
    "okhttp/4.12.0",
)


@dataclass(frozen=True)
class Server:
    """A kind of upstream: its idle timeout and how it names itself (empty: it does not)."""

    idle_us: int
    field: str


# Sixteen upstreams, four of each kind. The first two close before the proxy does.
SERVERS = (Server(5_000_000, "uvicorn"), Server(20_000_000, ""), Server(65_000_000, "nginx"),
           Server(75_000_000, "nginx"))  # fmt: skip
N_UPSTREAM = 16
N_RACY = 8


def server_of(upstream: int) -> Server:
    return SERVERS[upstream // 4]


class Window:
    """The connections that start within one span of time: their messages and segments, in time order."""

    def __init__(self, seed: int, number: int, first_conn: int, n_conn: int, racing: frozenset[int]) -> None:
        rng = np.random.default_rng([seed, number])
        self.first_conn = first_conn
        self.counts: Counter[str] = Counter()
        self.done = 0
        self._messages = bytearray()
        self.conns = self._make_connections(rng, number, n_conn, racing)
        first_exchange = np.cumsum(self.conns["n_exchange"]) - self.conns["n_exchange"]
        exchanges = self._make_exchanges(rng, first_exchange, racing)
        self.messages = np.frombuffer(self._messages, dtype=np.uint8)
        rows = np.empty(wire.most_frames(self.conns, exchanges), wire.FRAME)
        n_row = wire.lay_out(self.conns, first_exchange, exchanges, first_conn, rows)
        self.rows = rows[:n_row][np.argsort(rows["ts_us"][:n_row], kind="stable")]

    def _make_connections(self, rng, number, n_conn, racing):
        conns = np.zeros(n_conn, wire.CONN)
        idx = np.arange(self.first_conn, self.first_conn + n_conn)
        upstream = idx % N_UPSTREAM
        idle = np.array([s.idle_us for s in SERVERS])[upstream // 4]
        late = rng.integers(100, 4_000, n_conn)  # a timer fires a little after its time
        conns["start_us"] = START_US + number * WINDOW_US + np.sort(rng.integers(0, WINDOW_US, n_conn))
        conns["rtt_us"] = 400 + 100 * upstream + rng.integers(0, 50, n_conn)
        conns["close_us"] = np.minimum(idle, PROXY_IDLE_US) + late
        conns["close"] = np.where(idle < PROXY_IDLE_US, wire.CLOSE_BY_RESP, wire.CLOSE_BY_ORIG)
        conns["close"][[i - self.first_conn for i in racing if 0 <= i - self.first_conn < n_conn]] = wire.CLOSE_IN_RACE
        conns["n_exchange"] = rng.integers(1, 2 * MEAN_EXCHANGES + 1, n_conn)
        conns["isn"] = rng.integers(0, 1 << 32, (n_conn, 2))
        conns["ts_base"] = rng.integers(0, 1 << 32, (n_conn, 2))
        conns["ip_id"] = rng.integers(0, 1 << 16, (n_conn, 2))
        conns["addr"] = np.column_stack([np.full(n_conn, PROXY), FIRST_UPSTREAM + upstream])
        # Each upstream sees every ephemeral port once before any comes back.
        port = 32768 + (idx // N_UPSTREAM * 9973) % 28232
        conns["port"] = np.column_stack([port, np.full(n_conn, UPSTREAM_PORT)])
        return conns

    def _make_exchanges(self, rng, first_exchange, racing):
        conns = self.conns
        n = int(conns["n_exchange"].sum())
        conn = np.repeat(np.arange(len(conns)), conns["n_exchange"])
        exchanges = np.zeros(n, wire.EXCHANGE)
        gap = np.minimum(rng.exponential(MEAN_GAP_US, n), 0.8 * conns["close_us"][conn])
        gap[first_exchange] = 0  # a connection is opened for a request
        exchanges["gap_us"] = 60 + gap
        exchanges["service_us"] = 300 + np.minimum(rng.lognormal(np.log(6_000), 1.0, n), 2_000_000)

        # The server's clock at the response, near enough for a Date field.
        spent = np.cumsum(exchanges["gap_us"] + exchanges["service_us"])
        spent -= np.repeat(spent[first_exchange] - exchanges["service_us"][first_exchange], conns["n_exchange"])
        second = (conns["start_us"][conn] + spent) // 1_000_000
        clock = {int(s): strftime("%a, %d %b %Y %H:%M:%S GMT", gmtime(int(s))) for s in np.unique(second)}

        upstream = (conn + self.first_conn) % N_UPSTREAM
        method = rng.choice(len(METHODS), n, p=[share for _, share in METHODS])
        status = rng.choice(len(STATUSES), n, p=[share for _, share in STATUSES])
        target = rng.integers(0, len(TARGETS), n)
        agent = rng.integers(0, len(AGENTS), n)
        number = rng.integers(1, 1_000_000, n)
        chunked = rng.random(n) < CHUNKED_SHARE
        size = np.minimum(rng.lognormal(np.log(BODY_MEDIAN), BODY_SIGMA, n), BODY_MOST).astype(np.int64)
        sent_size = np.minimum(rng.lognormal(np.log(600), 1.0, n), 20_000).astype(np.int64)
        request_id = rng.bytes(16 * (n + len(conns))).hex()

        for i, row in enumerate(exchanges):
            name = METHODS[method[i]][0]
            request = make_request(
                name, TARGETS[target[i]].format(number[i]), AGENTS[agent[i]], request_id[32 * i : 32 * i + 32],
                int(number[i]), int(sent_size[i]) if name in {"POST", "PUT"} else -1,
            )  # fmt: skip
            code = "204 No Content" if name == "DELETE" else STATUSES[status[i]][0]
            response, tail = make_response(
                code, name, server_of(int(upstream[i])).field, clock[int(second[i])], int(size[i]), int(number[i]),
                chunked=bool(chunked[i]),
            )  # fmt: skip
            self.counts[f"method {name}"] += 1
            self.counts[f"status {code[:3]}"] += 1
            row["request"], row["request_len"] = self._keep(request)
            row["response"], row["response_len"] = self._keep(response)
            row["tail_len"] = tail
        for i, row in enumerate(conns):
            if i + self.first_conn in racing:
                request = make_request("POST", "/checkout/0/confirm", AGENTS[0], request_id[32 * (n + i) :][:32], 0, 40)
                row["lost"], row["lost_len"] = self._keep(request)
                self.counts["method POST"] += 1
        self.counts["exchanges"] += n
        return exchanges

    def _keep(self, message: bytes) -> tuple[int, int]:
        at = len(self._messages)
        self._messages += message
        return at, len(message)

    def take(self, before_us: int) -> np.ndarray:
        """Return the rows before a time that were not taken yet."""
        end = int(np.searchsorted(self.rows["ts_us"], before_us))
        part = self.rows[self.done : end]
        self.done = end
        return part

    @property
    def is_done(self) -> bool:
        """Whether all rows were taken."""
        return self.done == len(self.rows)


def make_pool() -> bytes:
    text = b64encode(np.random.default_rng(0).bytes(750_000))
    return b"\n".join(text[i : i + 76] for i in range(0, len(text), 76))


POOL = make_pool()


def make_content(size: int, number: int) -> bytes:
    start = number * 61 % (len(POOL) - BODY_MOST)
    return POOL[start : start + size]


def make_request(method: str, target: str, agent: str, request_id: str, number: int, size: int) -> bytes:
    content = f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n" if size >= 0 else ""
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: shop.example.net\r\nX-Request-Id: {request_id}\r\n"
        f"X-Real-IP: 198.51.100.{number % 250 + 1}\r\nX-Forwarded-For: 198.51.100.{number % 250 + 1}\r\n"
        f"X-Forwarded-Proto: https\r\n{content}User-Agent: {agent}\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\n"
        f"Cookie: session={request_id[::-1]}\r\n\r\n"
    )
    return head.encode() + (make_content(size, number) if size > 0 else b"")


def make_response(
    status: str, method: str, server: str, date: str, size: int, number: int, *, chunked: bool
) -> tuple[bytes, int]:
    """Return the response and how many bytes at its end the server writes by themselves."""
    head = f"HTTP/1.1 {status}\r\nDate: {date}\r\n"
    if server:
        head += f"Server: {server}\r\n"
    if status.startswith("302"):
        head += f"Location: /checkout/{number}/confirm\r\n"
    if status.startswith(("204", "304")):
        return f'{head}ETag: "{number:08x}"\r\n\r\n'.encode(), 0
    head += f'Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-cache\r\nETag: "{number:08x}"\r\n'
    if method == "HEAD":
        return f"{head}Content-Length: {size}\r\n\r\n".encode(), 0
    content = make_content(size, number)
    if not chunked:
        return f"{head}Content-Length: {size}\r\n\r\n".encode() + content, 0
    end = b"0\r\n\r\n"
    parts = [f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()]
    for start in range(0, size, 8192):
        piece = content[start : start + 8192]
        parts += [f"{len(piece):x}\r\n".encode(), piece, b"\r\n"]
    return b"".join([*parts, end]), len(end)


def choose_racing(n_conn: int, n_race: int) -> frozenset[int]:
    """Return `n_race` connections, evenly spread over those to upstreams that close before the proxy does."""
    able = [i for i in range(n_conn) if i % N_UPSTREAM < N_RACY]
    if n_race > len(able):
        msg = f"{n_conn} connections have room for {len(able)} races, not for {n_race}"
        raise ValueError(msg)
    return frozenset(able[(2 * k + 1) * len(able) // (2 * n_race)] for k in range(n_race))


class Writer:
    """Merges the windows into one file and counts what it writes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        stream.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        self.n_bytes = 24
        self.n_frames = 0
        self.races: list[dict[str, int | str]] = []

    def write(self, windows: list[Window], before_us: int) -> None:
        """Write all rows before a time, in time order; rows of one time in order of their windows."""
        parts = [w.take(before_us) for w in windows]
        counts = np.array([len(p) for p in parts])
        ts_us = np.concatenate([p["ts_us"] for p in parts])
        sizes = np.empty(len(ts_us), np.int64)
        start = 0
        for part in parts:
            wire.frame_sizes(part, sizes[start : start + len(part)])
            start += len(part)
        order = np.argsort(ts_us, kind="stable")
        ends = np.cumsum(sizes[order])
        offsets = np.empty_like(sizes)
        offsets[order] = ends - sizes[order]
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
        start = 0
        for window, part, n in zip(windows, parts, counts, strict=True):
            here = slice(start, start + n)
            wire.write_frames(part, offsets[here], window.conns, window.first_conn, window.messages, out)
            for i in np.flatnonzero(part["mark"] == wire.MARK):
                self._note_race(window, part[i], self.n_frames + int(place[here][i]) + 1)
            start += n
        self._stream.write(out.data)
        self.n_bytes += len(out)
        self.n_frames += len(order)

    def _note_race(self, window: Window, row: np.void, frame: int) -> None:
        conn = window.conns[row["conn"] - window.first_conn]
        upstream = int(conn["addr"][wire.RESP]) - FIRST_UPSTREAM
        self.races.append(
            {
                "request_frame": frame,
                "request_ts_ns": int(row["ts_us"]) * 1000,
                "orig": f"10.1.1.100:{conn['port'][wire.ORIG]}",
                "resp": f"10.1.2.{1 + upstream}:{UPSTREAM_PORT}",
                "idle_timeout_ns": server_of(upstream).idle_us * 1000,
            }
        )


def generate(path: Path, *, connections: int, races: int, seed: int) -> dict[str, object]:
    """Write the capture and return what is in it; the same is written beside it as JSON."""
    racing = choose_racing(connections, races)
    live: list[Window] = []
    counts: Counter[str] = Counter()
    n_window = -(-connections // CONNECTIONS_PER_WINDOW)
    with path.open("wb") as stream:
        writer = Writer(stream)
        for number in range(n_window):
            first = number * CONNECTIONS_PER_WINDOW
            window = Window(seed, number, first, min(CONNECTIONS_PER_WINDOW, connections - first), racing)
            counts += window.counts
            live.append(window)
            writer.write(live, START_US + (number + 1) * WINDOW_US)
            live = [w for w in live if not w.is_done]
        number = n_window
        while live:
            number += 1
            writer.write(live, START_US + number * WINDOW_US)
            live = [w for w in live if not w.is_done]
    truth = {
        "frames": writer.n_frames,
        "bytes": writer.n_bytes,
        "connections": connections,
        "exchanges": counts["exchanges"] + races,
        "unanswered": races,
        "methods": {k[7:]: v for k, v in sorted(counts.items()) if k.startswith("method ")},
        "statuses": {k[7:]: v for k, v in sorted(counts.items()) if k.startswith("status ")},
        "races": sorted(writer.races, key=lambda r: r["request_frame"]),
    }
    path.with_suffix(".json").write_text(json.dumps(truth, indent=1) + "\n")
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the benchmark capture and a JSON file that says what is in it.")
    parser.add_argument("path", type=Path, help="the capture to write (.pcap)")
    parser.add_argument("--connections", type=int, default=16_000, help="connections at scale 1 [%(default)s]")
    parser.add_argument("--scale", type=int, default=1, help="times as long, at the same load [%(default)s]")
    parser.add_argument("--races", type=int, default=8, help="requests that lose to an idle close [%(default)s]")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    start = perf_counter()
    truth = generate(
        options.path, connections=options.connections * options.scale, races=options.races, seed=options.seed
    )
    print(
        f"{options.path}: {truth['bytes']} bytes, {truth['frames']} frames, {truth['connections']} connections, "
        f"{truth['exchanges']} exchanges in {perf_counter() - start:.1f} s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
