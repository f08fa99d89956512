"""A relay between clients and a server of HTTP that cuts connections on demand."""

import re
import socket
import threading
from contextlib import suppress


class Relay:
    """Hands on what clients and a server say to each other, until it is told to cut a connection."""

    def __init__(self):
        self.n_cut = 0
        self._rule = None
        self._sockets = []

    def __call__(self, server):
        """Listen in front of a server and return the URL to use instead."""
        self._target = int(server.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(self._listener)
        threading.Thread(target=self._accept, daemon=True).start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self, name, *, from_byte, after):
        """Cut each answer about `name` from `from_byte` on after some bytes."""
        self._rule = name, from_byte, after

    def mend(self):
        """Hand on everything again."""
        self._rule = None

    def close(self):
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += client, server
                left = {}  # bytes that may still be answered, if they are counted
                for source, target, of in ((client, server, self._asks), (server, client, self._answers)):
                    threading.Thread(target=self._hand_on, args=(source, target, of, left), daemon=True).start()

    def _hand_on(self, source, target, may_pass, left):
        with suppress(OSError):
            while (data := source.recv(65_536)) and may_pass(data, left):
                target.sendall(data)
        for one in source, target:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _asks(self, data, left):
        left.clear()
        if self._rule:
            name, from_byte, after = self._rule
            begin = re.search(rb"(?im)^range: bytes=(\d+)", data)
            if name in data.split(b"\r\n", 1)[0] and int(begin[1] if begin else 0) >= from_byte:
                left["bytes"] = after
        return True

    def _answers(self, data, left):
        if not left:
            return True
        left["bytes"] -= len(data)
        if left["bytes"] >= 0:
            return True
        self.n_cut += 1
        return False
