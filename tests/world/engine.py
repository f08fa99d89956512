"""pcapdiag's view of a capture, made in a process whose time and address space are bounded."""

import multiprocessing
import resource
import signal
import traceback
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pcapdiag.analysis.build import build_analysis
from pcapdiag.base.codes import FrameKind, Method, Protocol
from pcapdiag.base.errors import CaptureError
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.engine.compiler.policy import load_kernels
from tests.waiting import HANG_S
from tests.world.views import Connection, Message, View, ports_of

MEMORY_BYTES = 1 << 30
"""[bytes] Of address space: what an analysis maps, used or not; a small capture takes a fifth of it."""
CPU_S = 30
"""[s] Of a processor, and as much again for every GB."""

HEAD_BYTES = 512


class Outcome(NamedTuple):
    """What became of a piece of work: its result, or what is wrong; `refused` where the file is said to be no capture.

    `most_kib` is the most memory that its process held.
    """

    result: object
    wrong: str = ""
    refused: str = ""
    most_kib: int = 0


def view_capture(path):
    """Return the View of one file, whatever its name says of a series."""
    analysis = build_analysis(group_captures([str(path)]), keep_all=True)
    table = analysis.connections
    connections, ports = Counter(), []
    for first, orig, resp in zip(*(table[n].tolist() for n in ("first_frame", "orig_port", "resp_port")), strict=True):
        ports.append(ports_of(orig, resp))
        connections[Connection(first + 1, ports[-1])] += 1
    messages, frames_of = Counter(), defaultdict(list)
    for rows in analysis.exchanges.chunks():
        for row in rows[np.isin(rows["protocol"], (Protocol.HTTP1, Protocol.UPGRADED))]:
            told = []
            if row["method"] != Method.NONE:
                told.append(("request", Method(row["method"]).name, row["request_frame"]))
            if row["status_code"] > 0:
                told.append(("response", str(row["status_code"]), row["response_frame"]))
            for what, value, frame in told:
                message = Message(what, value, ports[row["conn"]])
                messages[message] += 1
                frames_of[message].append(int(frame) + 1)
    holes = frozenset(ports[i] for i in np.flatnonzero(table["n_holes"]))
    return View(analysis.n_frames, connections, messages, dict(frames_of), holes)


class Fact(NamedTuple):
    """What pcapdiag makes of a frame.

    Attributes
    ----------
    kind : FrameKind
    reason : UndecodedReason
    head : bytes
        First bytes of a segment's payload.
    """

    kind: int
    reason: int
    head: bytes = b""


NOTHING = Fact(-1, -1)
"""Of a frame that pcapdiag does not have."""


def look_at_frames(path, wanted):
    """Return {frame (from 1): Fact} of the wanted ones."""
    wanted = np.array(sorted(wanted), dtype=np.int64) - 1
    (capture,) = group_captures([str(path)])
    facts = {}
    for batch in read_batches(capture):
        for row in batch.frames[np.isin(batch.frames["frame"], wanted)]:
            at, n_bytes = int(row["payload_offset"]), min(HEAD_BYTES, int(row["payload_cap"]))
            head = bytes(batch.buffer[at : at + n_bytes]) if row["kind"] == FrameKind.TCP else b""
            facts[int(row["frame"]) + 1] = Fact(int(row["kind"]), int(row["undecoded_reason"]), head)
    return facts


def run_limited(work, path, *more):
    """Return what ``work(path, *more)`` returns in a process with limits, as an Outcome.

    The process is forked from one that has a single thread: a fork of this one might wait for ever for a lock that
    another thread held.
    """
    load_kernels()
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    here, there = server.Pipe(duplex=False)
    child = server.Process(target=_work, args=(there, CPU_S, work, path, *more))
    child.start()
    there.close()
    try:
        outcome = here.recv() if here.poll(HANG_S) else None
    except EOFError:  # it ended without a word
        outcome = None
    if outcome is None:
        child.kill()
    child.join()
    here.close()
    if outcome is not None:
        return outcome
    code = -(child.exitcode or 0)
    return Outcome(None, wrong="hangs" if code in {signal.SIGXCPU, signal.SIGKILL} else f"dies of signal {code}")


def _work(pipe, cpu_s, work, path, *more):
    cpu_s *= 1 + (Path(path).stat().st_size >> 30)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        outcome = Outcome(work(path, *more))
    except CaptureError as error:
        outcome = Outcome(None, refused=str(error))
    except MemoryError:
        outcome = Outcome(None, wrong=f"wants more than {MEMORY_BYTES >> 20} MiB")
    except Exception:  # noqa: BLE001 - it is what is looked for, and told
        outcome = Outcome(None, wrong="raises " + traceback.format_exc().strip().rpartition("\n")[2])
    pipe.send(outcome._replace(most_kib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
