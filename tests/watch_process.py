"""Runs the flight recorder as an operator does, and reads what it wrote."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.waiting import HANG_S

ROOT = str(Path(__file__).resolve().parent.parent)


class Watching:
    """A recorder that runs; `stop` or the end of its input ends it."""

    def __init__(self, place, out, *options, pipe=False):
        command = [sys.executable, "-m", "pcapdiag", "watch", str(place), "--out", str(out), "--format", "jsonl"]
        self.out = out
        self.process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": ROOT},
        )
        self.errors = []
        self.lines = []
        for line in self.process.stderr:
            self.errors.append(line.decode())
            if b"recording" in line:
                break
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors)),
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream, into):
        for line in stream:
            into.append(line.decode())

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def end(self, number=None):
        """Close the pipe or send a signal; return the exit code."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(HANG_S)
        for reader in self._readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    @property
    def incidents(self):
        return [json.loads(line) for line in self.lines]

    def remembers(self):
        """Return what it would go on from after a restart; nothing as long as it has written nothing down."""
        file = self.out / ".watch" / "state.json"
        return json.loads(file.read_bytes()) if file.exists() else {}

    @property
    def n_waiting(self):
        """How many failures it has written down as waiting for their report."""
        return sum(pending["n_failures"] for pending in self.remembers().get("pending", ()))

    def failures(self):
        """Return the codes of every failure that any incident holds, by connection and time."""
        return failures_of(*(json.loads(path.read_bytes()) for path in sorted(self.out.glob("*/report.json"))))


def failures_of(*reports):
    found = {}
    for report in reports:
        for finding in report["findings"]:
            for o in finding["occurrences"] if finding["severity"] != "info" else ():
                found.setdefault((o["orig"], o["resp"], o["request_ts_ns"]), set()).add(finding["code"])
    return found
