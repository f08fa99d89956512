"""A hub in user space: Ethernet frames from one port to another, late, shaken, lost or out of order, as they are told.

It stands for the path between a proxy and its upstreams. What happens to a frame follows from a seed and the frames
before it, never from the clock; only when it leaves does. It can also be the firewall that has forgotten a connection
(`Hub.forget`): one that says nothing, or one that answers with a reset of its own.
"""

import heapq
import os
import random
import select
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
FIREWALL_TTL = 64
"""Hop count of a reset that the hub makes; the lab's upstreams send with one less, as from one hop farther away."""
LONGEST_FRAME = 65536


@dataclass(frozen=True, slots=True)
class Path:
    """What one direction of a path does to the frames on it."""

    delay_s: float = 0.08
    jitter_s: float = 0.0
    """Up to so much more delay; the order stays."""
    loss: float = 0.0
    """Share of frames that vanish."""
    reorder: float = 0.0
    """Share of frames that those behind them overtake."""
    overtaken_s: float = 0.02


class Way:
    """One direction in use: when the next frame arrives, if it does."""

    def __init__(self, path, seed):
        self.path, self.random, self._last_s = path, random.Random(seed), 0.0

    def arrival_s(self, now_s):
        """Return when a frame that is sent now arrives, or None if it is lost."""
        path = self.path
        # All numbers are drawn for every frame, so that one setting does not change what another does.
        is_lost, is_late, shake = (self.random.random() for _ in range(3))
        if is_lost < path.loss:
            return None
        due_s = now_s + path.delay_s + shake * path.jitter_s
        if is_late < path.reorder:
            return due_s + path.jitter_s + path.overtaken_s
        self._last_s = max(self._last_s, due_s)
        return self._last_s


class Tcp(NamedTuple):
    """What the hub reads of a TCP segment; an address is four bytes."""

    src: bytes
    sport: int
    dst: bytes
    dport: int
    seq: int
    ack: int
    flags: int
    ttl: int
    payload: bytes

    @property
    def flow(self):
        """Both ends, the same for both directions."""
        return frozenset({(self.src, self.sport), (self.dst, self.dport)})


def read_tcp(frame):
    """Return the TCP segment in an Ethernet frame, or None."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    at = 14 + (frame[14] & 0x0F) * 4
    if len(frame) < at + 20:
        return None
    total = 14 + int.from_bytes(frame[16:18], "big")
    sport, dport, seq, ack, offset, flags = struct.unpack_from(">HHIIBB", frame, at)
    payload = frame[at + (offset >> 4) * 4 : total]
    return Tcp(frame[26:30], sport, frame[30:34], dport, seq, ack, flags, frame[22], payload)


def _checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def reset_for(frame):
    """Return the reset that a firewall answers this frame with, or None where nothing is to be reset."""
    tcp = read_tcp(frame)
    if tcp is None or tcp.flags & RST or not tcp.flags & ACK:
        return None
    head = struct.pack(">HHIIBBHHH", tcp.dport, tcp.sport, tcp.ack, 0, 5 << 4, RST, 0, 0, 0)
    pseudo = tcp.dst + tcp.src + struct.pack(">HH", 6, len(head))
    head = head[:16] + struct.pack(">H", _checksum(pseudo + head)) + head[18:]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(head), 0, 0x4000, FIREWALL_TTL, 6, 0) + tcp.dst + tcp.src
    ip = ip[:10] + struct.pack(">H", _checksum(ip)) + ip[12:]
    return frame[6:12] + frame[:6] + frame[12:14] + ip + head


@dataclass(slots=True)
class Port:
    """Where a machine is plugged in: the file of its TAP device, and its address."""

    file: int
    mac: bytes
    n_captured: int = 0
    """TCP and ICMP frames over IPv4 in both directions: what tcpdump must have seen there."""


class Seen(NamedTuple):
    """A TCP segment as the hub took it from a port."""

    at_s: float
    mac: bytes
    tcp: Tcp


@dataclass
class Hub:
    """Ports and what lies between them, run by a thread between `start` and `stop`."""

    to_upstream: Path
    to_proxy: Path
    seed: int = 1
    ports: dict[bytes, Port] = field(default_factory=dict)
    proxy_mac: bytes = b""
    seen: list[Seen] = field(default_factory=list)
    failure: BaseException | None = None
    n_lost: int = 0

    def __post_init__(self):
        """Make what only the thread uses."""
        self._ways = {True: Way(self.to_upstream, f"{self.seed} up"), False: Way(self.to_proxy, f"{self.seed} down")}
        self._due, self._n_due = [], 0
        self._forgotten, self._is_rejecting = frozenset(), False
        self._to_lose = b""
        self._wake_out, self._wake_in = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def plug(self, file, mac, *, is_proxy=False):
        """Add a port."""
        self.ports[mac] = Port(file, mac)
        if is_proxy:
            self.proxy_mac = mac

    def start(self):
        """Begin to carry frames."""
        self._thread.start()

    def stop(self):
        """Carry no more; what is on its way is lost. What made the hub fail is raised here."""
        os.write(self._wake_in, b"x")
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def close(self):
        """Close the files of all ports."""
        for file in (self._wake_out, self._wake_in, *(port.file for port in self.ports.values())):
            os.close(file)

    def forget(self, *, with_reset):
        """Forget all connections so far, as a firewall whose state timed out: drop or reset what belongs to them."""
        self._is_rejecting = with_reset
        self._forgotten = frozenset(seen.tcp.flow for seen in self.seen)

    def lose_one(self, start):
        """Lose the next segment whose payload starts so."""
        self._to_lose = start

    def _run(self):
        try:
            while self._step():
                pass
        except BaseException as failure:  # noqa: BLE001 - raised again by stop, in the thread of the recording
            self.failure = failure

    def _step(self):
        wait_s = max(self._due[0][0] - time.monotonic(), 0) if self._due else None
        by_file = {port.file: port for port in self.ports.values()}
        ready, _, _ = select.select([*by_file, self._wake_out], [], [], wait_s)
        if self._wake_out in ready:
            return False
        for file in ready:
            self.take(by_file[file], os.read(file, LONGEST_FRAME), time.monotonic())
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, port, frame = heapq.heappop(self._due)
            self._count(port, frame)
            os.write(port.file, frame)
        return True

    def take(self, source, frame, now_s):
        """Take a frame from a port: hold it until it is due at another, lose it, or answer it."""
        self._count(source, frame)
        target = self.ports.get(frame[:6])
        tcp = read_tcp(frame)
        if tcp is not None:
            self.seen.append(Seen(now_s, source.mac, tcp))
            if tcp.flow in self._forgotten:
                answer = reset_for(frame) if self._is_rejecting else None
                if answer is not None:
                    self._hold(now_s, source, answer)
                return
            if self._to_lose and tcp.payload.startswith(self._to_lose):
                self._to_lose = b""
                self.n_lost += 1
                return
        if target is None or target is source:
            return
        due_s = self._ways[source.mac == self.proxy_mac].arrival_s(now_s)
        self.n_lost += due_s is None
        if due_s is not None:
            self._hold(due_s, target, frame)

    def _hold(self, due_s, port, frame):
        self._n_due += 1
        heapq.heappush(self._due, (due_s, self._n_due, port, frame))

    @property
    def held(self):
        """What is on its way, first due first: (when, mac of the port, frame)."""
        return [(due_s, port.mac, frame) for due_s, _, port, frame in sorted(self._due, key=lambda due: due[:2])]

    @staticmethod
    def _count(port, frame):
        port.n_captured += frame[12:14] == b"\x08\x00" and frame[23] in (1, 6)
