"""TLS as OpenSSL speaks it, in memory: both sides of a connection, and what both wrote of their secrets."""

import socket
import ssl
import subprocess
import threading
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pcapdiag.base.codes import Direction
from tests.waiting import HANG_S, wait_until

NO_ENCRYPT_THEN_MAC = 1 << 19
"""SSL_OP_NO_ENCRYPT_THEN_MAC, which Python has no name for."""
MOST_FLIGHTS = 6


class Talk(NamedTuple):
    """What was said.

    Attributes
    ----------
    flights : list of (Direction, bytes)
        In order, as written.
    key_log : bytes
        What the server wrote of the secrets.
    cipher : str
    """

    flights: list[tuple[Direction, bytes]]
    key_log: bytes
    cipher: str

    @property
    def client_random(self):
        return self.flights[0][1][11:43]

    def stream(self, direction):
        """Return all bytes of a direction."""
        return b"".join(data for side, data in self.flights if side is direction)


@cache
def certificate():
    """Return key and certificate of a server as PEM, one behind the other."""
    with TemporaryDirectory() as folder:
        key = ("-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "certificate.pem")
        command = ["openssl", "req", "-x509", *key, "-days", "1", "-subj", "/CN=lab"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=HANG_S)
        return (Path(folder) / "key.pem").read_bytes() + (Path(folder) / "certificate.pem").read_bytes()


def talk(*turns, version=ssl.TLSVersion.TLSv1_3, ciphers="", options=0, alpn=()):
    """Return a connection on which client and server say `turns` one after the other, then close."""
    with TemporaryDirectory() as folder:
        pem, keys = Path(folder) / "server.pem", Path(folder) / "keys"
        pem.write_bytes(certificate())
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(pem)
        server_side.keylog_filename = str(keys)
        client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client_side.check_hostname, client_side.verify_mode = False, ssl.CERT_NONE
        for side in (server_side, client_side):
            side.minimum_version = side.maximum_version = version
            side.options |= options
            if ciphers:
                side.set_ciphers(f"{ciphers}:@SECLEVEL=0")
            if alpn:
                side.set_alpn_protocols(list(alpn))
        flights, cipher = _play(turns, client_side, server_side)
        return Talk(flights, keys.read_bytes(), cipher)


def _play(turns, client_side, server_side):
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    from_client, from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = {
        Direction.ORIG: client_side.wrap_bio(to_client, from_client),
        Direction.RESP: server_side.wrap_bio(to_server, from_server, server_side=True),
    }
    ways = {Direction.ORIG: (from_client, to_server), Direction.RESP: (from_server, to_client)}
    flights = []

    def send(direction):
        source, target = ways[direction]
        data = source.read()
        if data:
            target.write(data)
            flights.append((direction, data))

    open_ends = dict(ends)
    for _ in range(MOST_FLIGHTS):
        for direction, end in list(open_ends.items()):
            try:
                end.do_handshake()
                del open_ends[direction]
            except ssl.SSLWantReadError:
                pass
            send(direction)
    assert not open_ends
    for n, turn in enumerate(turns):
        direction, other = (Direction.ORIG, Direction.RESP) if n % 2 == 0 else (Direction.RESP, Direction.ORIG)
        ends[direction].write(turn)
        send(direction)
        assert ends[other].read(len(turn))
    return flights, ends[Direction.ORIG].cipher()[0]


def talk_of_programs(*lines):
    """Return a connection of `openssl s_client` with `openssl s_server`, which types `lines` one after the other."""
    with TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as door:
        (Path(folder) / "server.pem").write_bytes(certificate())
        port = _free_port()
        server = subprocess.Popen(
            [
                "openssl",
                "s_server",
                "-quiet",
                "-cert",
                "server.pem",
                "-keylogfile",
                "keys",
                "-port",
                str(port),
                "-tls1_3",
            ],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{door.getsockname()[1]}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return _relay(door, port, client, lines, Path(folder) / "keys")
        finally:
            for program in (client, server):
                program.stdin.close()
                program.kill()
                program.wait(HANG_S)


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _connected(port):
    try:
        return socket.create_connection(("127.0.0.1", port), HANG_S)
    except ConnectionRefusedError:
        return None


def _relay(door, port, client, lines, keys):
    door.settimeout(HANG_S)
    near, _ = door.accept()
    far = wait_until(lambda: _connected(port))
    flights, threads = [], []
    with near, far:
        for direction, source, target in ((Direction.ORIG, near, far), (Direction.RESP, far, near)):
            threads.append(threading.Thread(target=_hand_on, args=(direction, source, target, flights), daemon=True))
            threads[-1].start()
        # Finished of the client, then the session tickets of the server: what follows is what is typed.
        wait_until(lambda: sum(direction is Direction.RESP for direction, _ in list(flights)) >= 2)
        for line in lines:
            n_before = _n_sent(flights)
            client.stdin.write(line)
            client.stdin.flush()
            wait_until(lambda n=n_before: _n_sent(flights) > n)
        for end in (near, far):
            end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(HANG_S)
    return Talk(flights, keys.read_bytes(), "")


def _n_sent(flights):
    return sum(len(data) for direction, data in list(flights) if direction is Direction.ORIG)


def _hand_on(direction, source, target, flights):
    try:
        while data := source.recv(65_536):
            flights.append((direction, data))
            target.sendall(data)
    except OSError:
        return
