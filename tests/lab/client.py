"""The client of the lab: it asks the proxy, one connection per request, and keeps what it got as ground truth."""

import http.client
import itertools
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.lab.network import Machine
from tests.lab.servers import APPS, PROXY_PORT

GRPC_METHOD = "/lab.Work/Do"
PATIENCE_S = 60
"""Longer than the proxy waits in any scenario: what gets no answer in this time hangs."""


class Answer(NamedTuple):
    """What the client got for one request; the times are those of the wall clock."""

    request_id: str
    method: str
    target: str
    status: int
    sent_s: float
    received_s: float

    @property
    def is_failure(self):
        """Whether the proxy had no answer of the upstream to hand on."""
        return self.status >= 500


@dataclass
class Client:
    """Requests from the proxy's own machine, so that only the leg to the upstreams is on the wire."""

    machine: Machine
    name: str
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self):
        """Begin to number the requests."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def ask(self, *methods, target="/work", body=b""):
        """Send one request per method, all at once, and return the answers in that order; one that hangs raises."""
        with self._lock:
            ids = [f"{self.name}-{next(self._numbers):03}" for _ in methods]
        got, failures = {}, []

        def one(request_id, method):
            try:
                got[request_id] = self._exchange(request_id, method, target, body)
            except Exception as failure:  # noqa: BLE001 - raised again below, in the thread of the recording
                failures.append(failure)

        threads = [threading.Thread(target=one, args=pair) for pair in zip(ids, methods, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        answers = [got[request_id] for request_id in ids]
        self.answers += answers
        return answers

    def ask_grpc(self, n, folder):
        """Make `n` calls by gRPC, one after the other, and return the answers; OK counts as 200, all else as 502."""
        with self._lock:
            ids = [f"{self.name}-{next(self._numbers):03}" for _ in range(n)]
        log = folder / "grpc_client.log"
        program = (sys.executable, APPS / "grpc_app.py", "ask", f"127.0.0.1:{PROXY_PORT}", *ids)
        already = len(log.read_text().splitlines()) if log.exists() else 0
        process = self.machine.run(*program, folder=folder, log=log.name)
        process.wait(PATIENCE_S * n)
        self.machine.processes.remove(process)
        answers = []
        for line in log.read_text().splitlines()[already:]:
            request_id, status, sent_s, received_s = line.split()
            code = 200 if status == "OK" else 502
            answers.append(Answer(request_id, "POST", GRPC_METHOD, code, float(sent_s), float(received_s)))
        assert [answer.request_id for answer in answers] == ids
        self.answers += answers
        return answers

    def _exchange(self, request_id, method, target, body):
        connection = http.client.HTTPConnection("lab.example.test", PROXY_PORT)
        with self.machine.socket() as link:
            link.settimeout(PATIENCE_S)
            link.connect(("127.0.0.1", PROXY_PORT))
            connection.sock = link
            sent_s = time.time()
            content = body if method == "POST" else None
            connection.request(method, target, content, {"X-Request-Id": request_id, "Connection": "close"})
            response = connection.getresponse()
            response.read()
            return Answer(request_id, method, target, response.status, sent_s, time.time())
