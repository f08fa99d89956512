"""One try of a request: the connection it gets, and how it ends."""

import numpy as np

from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.whatif.kernels.replay_events import push_event
from pcapdiag.whatif.kernels.replay_pool import close_by_proxy, drop_conn, new_conn, put_idle, take_idle
from pcapdiag.whatif.kernels.replay_random import bell, below, tail, uniform
from pcapdiag.whatif.kernels.replay_state import (
    CROWDED_OUT,
    ERROR,
    GROWN_OLD,
    LOST,
    OPENED,
    RACED,
    REUSED,
    TIMED_OUT,
    TIMEOUT,
    USED_UP,
)

ARRIVES = np.int64(0)
ANSWERED = np.int64(1)
FAILS = np.int64(2)

NEVER_NS = np.int64(1) << np.int64(62)


@kernel
def round_trip_ns(a, place):
    """Draw a round trip to a place."""
    return place["rtt_ns"] + np.int64(place["rtt_tail_ns"] * tail(a.random))


@kernel
def next_closing_ns(a, place, now_ns):
    """Return when the place next closes all its idle connections at once."""
    low = np.int64(place["first_closing"])
    high = low + place["n_closings"]
    end = high
    while low < high:
        middle = (low + high) >> 1
        if a.closings[middle] < now_ns:
            low = middle + 1
        else:
            high = middle
    return np.int64(a.closings[low]) if low < end else NEVER_NS


@kernel
def draw_fin_ns(a, place, now_ns):
    """Return when a connection that becomes idle now gets its FIN, if nobody uses it."""
    fin_ns = next_closing_ns(a, place, now_ns)
    if place["timeout_ns"] >= 0:
        timeout_ns = np.int64(place["timeout_ns"])
        timeout_ns += np.int64(place["spread_ns"] * bell(a.random))
        timeout_ns += np.int64(place["late_ns"] * uniform(a.random))
        fin_ns = min(fin_ns, now_ns + timeout_ns)
    for forgotten_ns in (place["drop_ns"], place["reset_ns"]):
        if 0 <= forgotten_ns < fin_ns - now_ns:
            return NEVER_NS  # what lies between has forgotten the connection, and lets no FIN through
    return fin_ns


@kernel
def _outage_at(a, place, now_ns):
    for i in range(place["first_outage"], place["first_outage"] + place["n_outages"]):
        if a.outages[i]["start_ns"] <= now_ns <= a.outages[i]["end_ns"]:
            return i
    return -1


@kernel
def _fail(a, n_slot, ts_ns, kind):
    a.slots[n_slot]["failure"] = kind
    a.counts[LOST] += 1
    push_event(a, ts_ns, FAILS, n_slot)


@kernel
def begin_exchange(a, n_slot, at, now_ns):
    """Send a request to the place of a picked peer: on an idle connection if its worker has one, else on a new one.

    Returns
    -------
    int
        0, or -1 where `conns` has no room.
    """
    s = a.settings[0]
    place = a.places[at]
    slot = a.slots[n_slot]
    request = a.requests[slot["request"]]
    slot["is_sent"] = 1
    slot["rtt_ns"] = place["rtt_ns"]
    slot["is_cached"] = 0
    c = take_idle(a, np.int64(slot["worker"]), at, now_ns)
    if c >= 0:
        slot["is_cached"] = 1
        a.counts[REUSED] += 1
    else:
        outage = _outage_at(a, place, now_ns)
        if outage >= 0:
            slot["is_sent"] = 0
            slot["conn"] = -1
            _fail(a, n_slot, now_ns + a.outages[outage]["takes_ns"], a.outages[outage]["kind"])
            return 0
        c = new_conn(a)
        if c < 0:
            return -1
        a.conns[c]["n_requests"] = 0
        a.conns[c]["place"] = at
        a.conns[c]["worker"] = slot["worker"]
        a.conns[c]["opened_ns"] = now_ns
        a.conns[c]["released_ns"] = now_ns
        a.conns[c]["fin_ns"] = NEVER_NS
        a.counts[OPENED] += 1
    slot["conn"] = c
    if slot["n_tried"] <= request["n_fails"]:
        _fail(a, n_slot, now_ns + np.int64(request["fail_us"]) * 1000, np.int64(request["fail_kind"]))
        return 0
    service_ns = slot["service_ns"] + place["rtt_ns"]
    if not slot["is_cached"]:
        push_event(a, now_ns + round_trip_ns(a, place) + place["greeting_ns"] + service_ns, ANSWERED, n_slot)
        return 0
    gap_ns = now_ns - a.conns[c]["released_ns"]
    if 0 <= place["drop_ns"] <= gap_ns:
        _fail(a, n_slot, now_ns + s["read_timeout_ns"], TIMEOUT)
    elif 0 <= place["reset_ns"] <= gap_ns:
        _fail(a, n_slot, now_ns + round_trip_ns(a, place), ERROR)
    elif now_ns + round_trip_ns(a, place) > a.conns[c]["fin_ns"]:
        # The upstream closed half a round trip before its FIN arrives, and the request takes the other half.
        a.counts[RACED] += 1
        _fail(a, n_slot, max(np.int64(a.conns[c]["fin_ns"]), now_ns), ERROR)
    else:
        push_event(a, now_ns + service_ns, ANSWERED, n_slot)
    return 0


@kernel
def end_connection_of(a, n_slot, failure, now_ns):
    """Let go of the connection of a try that failed."""
    c = np.int64(a.slots[n_slot]["conn"])
    if c < 0:
        return
    a.slots[n_slot]["conn"] = -1
    if failure == ERROR:
        drop_conn(a, c)  # the upstream closed it
    else:
        close_by_proxy(a, c, now_ns)


@kernel
def release_connection(a, n_slot, place, now_ns):
    """Give the connection of an answered request back to the pool, if both ends keep it."""
    s = a.settings[0]
    slot = a.slots[n_slot]
    c = np.int64(slot["conn"])
    slot["conn"] = -1
    conn = a.conns[c]
    sent_ns = now_ns - slot["service_ns"] - place["rtt_ns"]
    conn["n_requests"] += 1
    if 0 < place["limit"] <= conn["n_requests"]:
        close_by_proxy(a, c, now_ns)  # it reads Connection: close, and is quicker
        return
    if (
        next_closing_ns(a, place, sent_ns) < now_ns
        or below(a.random, np.int64(1_000_000)) < place["close_ppm"]
        or s["keepalive"] == 0
    ):
        a.counts[CROWDED_OUT] += s["keepalive"] == 0
        drop_conn(a, c)
        return
    is_used_up = 0 <= s["keepalive_requests"] <= conn["n_requests"]
    is_old = 0 <= s["keepalive_time_ns"] < now_ns - conn["opened_ns"]
    a.counts[USED_UP] += is_used_up
    a.counts[GROWN_OLD] += is_old
    if is_used_up or is_old:
        close_by_proxy(a, c, now_ns)
        return
    conn["released_ns"] = now_ns
    conn["fin_ns"] = draw_fin_ns(a, place, now_ns)
    conn["dead_ns"] = conn["fin_ns"]
    if s["keepalive_ns"] >= 0:
        conn["dead_ns"] = min(np.int64(conn["fin_ns"]), now_ns + s["keepalive_ns"])
        a.counts[TIMED_OUT] += conn["dead_ns"] < conn["fin_ns"]
    put_idle(a, c, now_ns)
