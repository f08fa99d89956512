"""Replaying requests against a group of peers: one event after the other, as nginx's workers would.

`ngx_http_upstream_next` decides what happens after a failure (ngx_http_upstream.c).
"""

import math

import numpy as np

from pcapdiag.engine.compiler.policy import entry_kernel, kernel
from pcapdiag.whatif.kernels.replay_events import has_room, pop_event, push_event
from pcapdiag.whatif.kernels.replay_pick import free_peer, pick_peer
from pcapdiag.whatif.kernels.replay_pool import add_span, bury
from pcapdiag.whatif.kernels.replay_random import bell, below, uniform
from pcapdiag.whatif.kernels.replay_state import (
    ADDED_NS,
    CLIENTS,
    CONNECT_TIMEOUT,
    ERROR,
    FAILED_502,
    FAILED_504,
    FAILED_OTHER,
    FREE_CONN,
    FREE_SLOT,
    HAS_BODY,
    HTTP_403,
    HTTP_404,
    HTTP_429,
    HTTP_500,
    HTTP_502,
    HTTP_503,
    HTTP_504,
    IDLE_MAX,
    N_CHOSEN,
    N_EVENTS,
    NO_LIVE,
    NO_LIVE_PEER,
    NON_IDEMPOTENT,
    NOT_IDEMPOTENT,
    REFUSED,
    RETRIED,
    TIME_WAIT_MAX,
    TIMEOUT,
    ReplayArrays,
)
from pcapdiag.whatif.kernels.replay_tries import (
    ANSWERED,
    ARRIVES,
    begin_exchange,
    end_connection_of,
    release_connection,
)

_NS_PER_S = np.int64(1_000_000_000)
_TOGETHER_NS = 1e6
"""[ns] By how much each request of a burst is late, in the mean: threads and sockets of a client keep no order."""
_HAS_CHANGED = np.int64(1) << 62
"""In the number of an arrival: the request before came in this one's place, so this one comes in its."""


@kernel
def _kind_of_status(status):
    """Return the Failure as which proxy_next_upstream names a status; 0 for one that it does not name."""
    if status == 500:
        return HTTP_500
    if status == 502:
        return HTTP_502
    if status == 503:
        return HTTP_503
    if status == 504:
        return HTTP_504
    if status == 403:
        return HTTP_403
    if status == 404:
        return HTTP_404
    if status == 429:
        return HTTP_429
    return np.int64(0)


@kernel
def _status_of(kind):
    """Return what the client gets after a last failure."""
    if kind == TIMEOUT or kind == CONNECT_TIMEOUT or kind == HTTP_504:
        return 504
    if kind == HTTP_500:
        return 500
    if kind == HTTP_503:
        return 503
    if kind == HTTP_403:
        return 403
    if kind == HTTP_404:
        return 404
    if kind == HTTP_429:
        return 429
    return 502


@kernel
def _first_row(a, slot):
    s = a.settings[0]
    return np.int64(0) if s["has_zone"] else np.int64(slot["worker"]) * s["n_peers"]


@kernel
def _end_of(a, b):
    """Return the request after the last one of a burst."""
    return np.int64(a.bursts[b + 1]["first"]) if b + 1 < a.bursts.shape[0] else np.int64(a.requests.shape[0])


@kernel
def _following(a, b):
    """Return the next burst of the same client; -1 if there is none."""
    if b + 1 < a.bursts.shape[0] and a.bursts[b + 1]["client"] == a.bursts[b]["client"]:
        return b + 1
    return np.int64(-1)


@kernel
def _begin_burst(a, b, ts_ns):
    push_event(a, ts_ns, ARRIVES, np.int64(a.bursts[b]["first"]) | (np.int64(b) << 31))


@kernel
def _jitter_ns(a):
    jitter_ns = a.settings[0]["jitter_ns"]
    return np.int64(jitter_ns * bell(a.random)) if jitter_ns > 0 else np.int64(0)


@kernel
def _who_comes(a, at, end, has_changed):
    """Return the request that comes in the place of `at`: where two come at once, either may be the first.

    Two times that are late by exponential ones of the same mean lie apart by a Laplace one: so likely is it that what
    came first is last.
    """
    if has_changed:
        return at - 1
    if a.settings[0]["jitter_ns"] <= 0 or at + 1 >= end:
        return at
    apart_ns = np.float64(a.requests[at + 1]["start_ns"] - a.requests[at]["start_ns"])
    return at + 1 if uniform(a.random) < 0.5 * math.exp(-apart_ns / _TOGETHER_NS) else at


@kernel
def _finish(a, n_slot, now_ns, status):
    """Give the client its answer; when all of its burst have theirs, it thinks and goes on."""
    slot = a.slots[n_slot]
    if status == 502:
        a.counts[FAILED_502] += 1
    elif status == 504:
        a.counts[FAILED_504] += 1
    elif status >= 500:
        a.counts[FAILED_OTHER] += 1
    else:
        added_ns = max(now_ns - slot["start_ns"] - slot["service_ns"] - slot["rtt_ns"], np.int64(0))
        a.counts[ADDED_NS] += added_ns
        a.counts[RETRIED] += slot["n_tried"] > 1
        step = np.int64(a.settings[0]["added_step"])
        if slot["request"] % step == 0:
            a.added_us[slot["request"] // step] = min(added_ns // 1000, np.int64(0x7FFFFFFF))
    b = np.int64(slot["burst"])
    client = np.int64(a.bursts[b]["client"])
    a.left[client] -= 1
    following = _following(a, b)
    if a.left[client] == 0 and following >= 0 and not a.settings[0]["is_open"]:
        _begin_burst(a, following, now_ns + max(a.bursts[following]["think_ns"] + _jitter_ns(a), np.int64(0)))
    slot["next_free"] = a.control[FREE_SLOT]
    a.control[FREE_SLOT] = n_slot


@kernel
def _begin_try(a, n_slot, now_ns):
    """Pick a peer and send the request to it; without one the client gets a 502 at once."""
    s = a.settings[0]
    slot = a.slots[n_slot]
    client = np.int64(a.bursts[slot["burst"]]["client"])
    place = np.int64(a.requests[slot["request"]]["place"])
    if place >= 0:
        peer = place
        slot["peer"] = peer
        slot["n_tried"] += 1
    else:
        row = _first_row(a, slot)
        peer = np.int64(pick_peer(a.peers, row, s, slot, now_ns // _NS_PER_S, a.client_key[client], a.random))
        if peer >= 0:
            place = np.int64(a.peers[row + peer]["place"])
    if a.control[N_CHOSEN] < a.chosen.shape[0]:
        a.chosen[a.control[N_CHOSEN]] = slot["request"] * 64 + (peer if peer >= 0 else NO_LIVE_PEER)
        a.control[N_CHOSEN] += 1
    if peer < 0:
        a.counts[NO_LIVE] += 1
        _finish(a, n_slot, now_ns, 502)
        return 0
    return begin_exchange(a, n_slot, place, now_ns)


@kernel
def _free(a, n_slot, now_ns, has_failed):
    slot = a.slots[n_slot]
    if a.requests[slot["request"]]["place"] >= 0:
        slot["peer"] = -1
        slot["tries"] = 0
    else:
        free_peer(a.peers, _first_row(a, slot), a.settings[0], slot, now_ns // _NS_PER_S, has_failed)


@kernel
def _place_of(a, slot):
    place = np.int64(a.requests[slot["request"]]["place"])
    return place if place >= 0 else np.int64(a.peers[_first_row(a, slot) + slot["peer"]]["place"])


@kernel
def _is_streamed(a, slot):
    """Whether the body was sent on as it came, so that nobody has it any more."""
    return a.settings[0]["is_unbuffered"] and a.requests[slot["request"]]["flags"] & HAS_BODY


@kernel
def _may_try_again(a, slot, kind, now_ns):
    """Whether nginx goes on to another try: what `proxy_next_upstream` and its companions say."""
    s = a.settings[0]
    request = a.requests[slot["request"]]
    mask = kind
    if kind == REFUSED:
        mask = ERROR
    elif kind == CONNECT_TIMEOUT:
        mask = TIMEOUT
    if slot["is_sent"] and request["flags"] & NOT_IDEMPOTENT:
        mask |= NON_IDEMPOTENT
    if slot["tries"] == 0 or (s["next_upstream"] & mask) != mask:
        return False
    if slot["is_sent"] and _is_streamed(a, slot):
        return False
    return s["next_timeout_ns"] == 0 or now_ns - slot["start_ns"] < s["next_timeout_ns"]


@kernel
def _next(a, n_slot, kind, now_ns):
    """ngx_http_upstream_next."""
    slot = a.slots[n_slot]
    _free(a, n_slot, now_ns, kind != HTTP_403 and kind != HTTP_404)
    end_connection_of(a, n_slot, kind, now_ns)
    if slot["is_cached"] and kind == ERROR:
        slot["tries"] += 1  # the connection was at fault, not the peer
        if a.settings[0]["stale_again"] and not _is_streamed(a, slot):
            return _begin_try(a, n_slot, now_ns)
    if _may_try_again(a, slot, kind, now_ns):
        return _begin_try(a, n_slot, now_ns)
    _finish(a, n_slot, now_ns, _status_of(kind))
    return 0


@kernel
def _arrive(a, event_id, now_ns):
    s = a.settings[0]
    at = event_id & 0x7FFFFFFF
    b = (event_id & ~_HAS_CHANGED) >> 31
    burst, end = a.bursts[b], _end_of(a, b)
    n_slot = np.int64(a.control[FREE_SLOT])
    if n_slot < 0:
        return -2
    request = _who_comes(a, at, end, event_id & _HAS_CHANGED)
    if at == burst["first"]:
        a.left[burst["client"]] = end - at
    if at + 1 < end:
        apart_ns = a.requests[at + 1]["start_ns"] - a.requests[at]["start_ns"]
        following_id = (at + 1) | (b << 31) | (_HAS_CHANGED if request > at else np.int64(0))
        push_event(a, now_ns + apart_ns, ARRIVES, following_id)
    following = _following(a, b)
    if s["is_open"] and at == burst["first"] and following >= 0:
        start_ns = a.requests[a.bursts[following]["first"]]["start_ns"]
        _begin_burst(a, following, max(start_ns + _jitter_ns(a), now_ns))
    slot = a.slots[n_slot]
    a.control[FREE_SLOT] = slot["next_free"]
    slot["start_ns"] = now_ns
    slot["request"] = request
    slot["burst"] = b
    slot["worker"] = a.client_worker[burst["client"]]
    slot["tried"] = 0
    slot["n_tried"] = 0
    slot["in_backup"] = 0
    slot["tries"] = s["tries"]
    slot["hash"] = 89  # ngx_http_upstream_init_ip_hash_peer
    slot["n_hashed"] = 0
    slot["conn"] = -1
    slot["is_cached"] = 0
    slot["is_sent"] = 0
    slot["rtt_ns"] = 0
    service_us = np.int64(a.requests[request]["service_us"])
    if service_us >= 0:
        slot["service_ns"] = service_us * 1000
    elif a.services.shape[0] > 0:
        slot["service_ns"] = a.services[below(a.random, np.int64(a.services.shape[0]))]
    else:
        slot["service_ns"] = 0
    a.counts[CLIENTS] += 1
    return _begin_try(a, n_slot, now_ns)


@kernel
def _answer(a, n_slot, now_ns):
    """Take an answer of the upstream: mostly the end, for some statuses a reason to ask another one."""
    slot = a.slots[n_slot]
    status = np.int64(a.requests[slot["request"]]["status"])
    kind = _kind_of_status(status)
    if kind != 0 and slot["tries"] > 1 and _may_try_again(a, slot, kind, now_ns):
        return _next(a, n_slot, kind, now_ns)
    release_connection(a, n_slot, a.places[_place_of(a, slot)], now_ns)
    _free(a, n_slot, now_ns, False)
    _finish(a, n_slot, now_ns, status)
    return 0


@kernel
def _prepare(a):
    for i in range(a.conns.shape[0]):
        a.conns[i]["older"] = i + 1 if i + 1 < a.conns.shape[0] else -1
    for i in range(a.slots.shape[0]):
        a.slots[i]["next_free"] = i + 1 if i + 1 < a.slots.shape[0] else -1
    for i in range(a.pools.shape[0]):
        a.pools[i]["newest"] = -1
        a.pools[i]["oldest"] = -1
        a.pools[i]["n"] = 0
    for i in range(a.heads.shape[0]):
        a.heads[i] = -1
    a.control[FREE_CONN] = 0
    a.control[FREE_SLOT] = 0


@kernel
def _sum_up(a, now_ns):
    """Count what still lies idle, and turn steps into maxima."""
    for worker in range(a.pools.shape[0]):
        c = np.int64(a.pools[worker]["oldest"])
        while c >= 0:
            newer = np.int64(a.conns[c]["newer"])
            if a.conns[c]["dead_ns"] <= now_ns:
                bury(a, c)
            else:
                add_span(a, a.idle_steps, a.conns[c]["released_ns"], a.conns[c]["dead_ns"])
            c = newer
    n = np.int64(0)
    for i in range(a.idle_steps.shape[0]):
        n += a.idle_steps[i]
        a.counts[IDLE_MAX] = max(a.counts[IDLE_MAX], n)
    n = np.int64(0)
    for i in range(a.time_wait_steps.shape[0]):
        n += a.time_wait_steps[i]
        a.counts[TIME_WAIT_MAX] = max(a.counts[TIME_WAIT_MAX], n)


@entry_kernel
def replay(a: ReplayArrays):
    """Replay all requests once.

    Parameters
    ----------
    a : ReplayArrays
        What is replayed, under which settings; gets the results.

    Returns
    -------
    int
        0; -1, -2, -3 where conns, slots or heap had no room: the results mean nothing then.
    """
    _prepare(a)
    n_begun = 0
    now_ns = np.int64(0)
    while True:
        if not has_room(a, np.int64(4)):
            return -3
        if n_begun < a.first_bursts.shape[0]:
            b = np.int64(a.first_bursts[n_begun])
            start_ns = np.int64(a.requests[a.bursts[b]["first"]]["start_ns"])
            if a.control[N_EVENTS] == 0 or start_ns <= a.heap[0]["ts_ns"]:
                _begin_burst(a, b, start_ns)
                n_begun += 1
                continue
        if a.control[N_EVENTS] == 0:
            break
        pop_event(a)
        event = a.heap[a.heap.shape[0] - 1]
        now_ns = np.int64(event["ts_ns"])
        kind = np.int64(event["kind"])
        what = np.int64(event["id"])
        if kind == ARRIVES:
            problem = _arrive(a, what, now_ns)
        elif kind == ANSWERED:
            problem = _answer(a, what, now_ns)
        else:
            problem = _next(a, what, np.int64(a.slots[what]["failure"]), now_ns)
        if problem != 0:
            return problem
    _sum_up(a, now_ns)
    return 0
