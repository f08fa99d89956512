"""Upstreams that do as they are told: each peer of each trial has a script, which says what becomes of its requests.

All run in one event loop. Most peers are addresses of loopback with one port that all trials share; the target of a
request, ``/TRIAL/REQUEST``, says which trial it belongs to. A peer that refuses connections now and then has its own
port.
"""

import asyncio
import random
import re
import socket
import struct

SHARED_ADDRESSES = [f"127.0.0.{last}" for last in range(11, 17)]
DEAF_ADDRESS = "127.0.0.17"
OWN_ADDRESS = "127.0.0.18"
SLOW_S = 0.12
"""How long a slow answer takes: long enough for other requests to come meanwhile."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Script:
    """What a peer does with its n-th request: drawn from a seed, so that it is the same every time.

    Parameters
    ----------
    seed : str
        Of this peer of this trial.
    weights : dict of str to float
        How often it does what: ``ok``, ``slow``, ``http_STATUS``, ``close``, ``reset``, ``invalid_header``, ``silent``;
        ``stale`` and ``stale_reset`` close where the connection was used before, and are ``ok`` otherwise;
        ``leave`` answers and closes the connection a little later, when it is idle.
    """

    def __init__(self, seed, weights):
        self._random, self._weights = random.Random(seed), weights

    def next(self):
        return self._random.choices(list(self._weights), list(self._weights.values()))[0]


def hold_port(address):
    """Return a socket that keeps a free port, but does not listen: only those who know of it take it, to listen."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((address, 0))
    return held


class Stubs:
    """The upstreams of all trials; an asynchronous context in which their shared ports are open."""

    def __init__(self):
        self.scripts = {}
        """(trial, address, port) -> `Script`."""
        self.did = {}
        """(trial, request, address, port) -> what was done, in order."""
        self._servers, self._handlers = {}, set()
        self._kept = []

    async def __aenter__(self):
        self.port = (await self._listen((SHARED_ADDRESSES[0], 0)))[1]
        for address in SHARED_ADDRESSES[1:]:
            await self._listen((address, self.port))
        self.deaf = self._make_deaf()
        return self

    async def __aexit__(self, *_):
        for server in self._servers.values():
            server.close()
        for sock in self._kept:
            sock.close()
        # The proxy has ended, and with it all connections.
        await asyncio.gather(*self._handlers)

    async def _listen(self, endpoint):
        server = await asyncio.start_server(self._serve, *endpoint, backlog=512)
        endpoint = server.sockets[0].getsockname()
        self._servers[endpoint] = server
        return endpoint

    def _make_deaf(self):
        """Return the endpoint of a listener whose queue is full: what connects to it gets no answer at all."""
        listener = socket.socket()
        listener.bind((DEAF_ADDRESS, 0))
        listener.listen(0)
        queued = socket.create_connection(listener.getsockname())
        self._kept += [queued, listener]
        return listener.getsockname()

    async def own_port(self):
        """Return an endpoint that no other trial has."""
        self._kept.append(held := hold_port(OWN_ADDRESS))
        return await self._listen(held.getsockname())

    async def refuse(self, endpoint, *, refuses):
        """Close the port of an endpoint, or open it again."""
        if refuses and endpoint in self._servers:
            self._servers.pop(endpoint).close()
        elif not refuses and endpoint not in self._servers:
            await self._listen(endpoint)

    async def _serve(self, reader, writer):
        self._handlers.add(asyncio.current_task())
        try:
            used = False
            while await self._answer(reader, writer, used=used):
                used = True
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The proxy gave up waiting; it says so itself.
        finally:
            writer.close()

    async def _answer(self, reader, writer, *, used):
        """Do with one request as the script says; return whether the connection lives on."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        trial, number = (int(part) for part in re.search(rb" /(\d+)/(\d+)", head).groups())
        await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0] or 0))
        keeps = b"connection: close" not in head
        endpoint = writer.get_extra_info("sockname")
        action = self.scripts[trial, *endpoint].next()
        if action.startswith("stale"):
            action = {"stale": "close", "stale_reset": "reset"}[action] if used else "ok"
        self.did.setdefault((trial, number, *endpoint), []).append(action)
        if action == "silent":
            await reader.read()
            return False
        if action == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        if action in {"close", "reset"}:
            return False
        if action == "slow":
            await asyncio.sleep(SLOW_S)
        status = action.removeprefix("http_") if action.startswith("http_") else "200"
        broken = b"\0: \r\n" if action == "invalid_header" else b""
        writer.write(b"HTTP/1.1 %s x\r\n%sContent-Length: 2\r\n\r\nok" % (status.encode(), broken))
        await writer.drain()
        if action == "leave":
            await asyncio.sleep(SLOW_S)
            return False
        return keeps and action != "invalid_header"
