"""The heap of what happens next; what happens at the same moment happens in the order in which it was planned."""

import numpy as np

from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.whatif.kernels.replay_state import N_EVENTS, ORDER


@kernel
def _is_before(a, b):
    return a["ts_ns"] < b["ts_ns"] or (a["ts_ns"] == b["ts_ns"] and a["order"] < b["order"])


@kernel
def _move(into, event):
    into["ts_ns"] = event["ts_ns"]
    into["order"] = event["order"]
    into["id"] = event["id"]
    into["kind"] = event["kind"]


@kernel
def push_event(a, ts_ns, kind, what):
    """Plan something; the heap has room (`has_room`). Its last row is scratch."""
    heap = a.heap
    at = np.int64(a.control[N_EVENTS])
    a.control[N_EVENTS] += 1
    new = heap[heap.shape[0] - 1]
    new["ts_ns"] = ts_ns
    new["order"] = a.control[ORDER]
    new["id"] = what
    new["kind"] = kind
    a.control[ORDER] += 1
    while at > 0:
        parent = (at - 1) >> 1
        if not _is_before(new, heap[parent]):
            break
        _move(heap[at], heap[parent])
        at = parent
    _move(heap[at], new)


@kernel
def pop_event(a):
    """Take the first event out; it lies in the heap's last row until the next call."""
    heap = a.heap
    out = heap[heap.shape[0] - 1]
    _move(out, heap[0])
    a.control[N_EVENTS] -= 1
    n = np.int64(a.control[N_EVENTS])
    if n == 0:
        return
    last = heap[n]
    at = np.int64(0)
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        if child + 1 < n and _is_before(heap[child + 1], heap[child]):
            child += 1
        if not _is_before(heap[child], last):
            break
        _move(heap[at], heap[child])
        at = child
    _move(heap[at], last)


@kernel
def has_room(a, n):
    """Whether the heap takes `n` more."""
    return a.control[N_EVENTS] + n < a.heap.shape[0]
