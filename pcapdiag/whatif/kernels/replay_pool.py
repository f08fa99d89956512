"""A worker's pool of idle connections: ngx_http_upstream_keepalive_module.c.

The last one that was given back is the first one that is taken again. When a connection leaves the pool is worked out
as it enters; it is taken out when somebody looks at it.
"""

import numpy as np

from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.whatif.kernels.replay_state import CROWDED_OUT, FREE_CONN, TIME_WAIT_NS


@kernel
def add_span(a, steps, start_ns, end_ns):
    """Count something that lasted: one more from its beginning, one less from its end."""
    s = a.settings[0]
    last = steps.shape[0] - 1
    first_bin = min(max((start_ns - s["origin_ns"]) // s["bin_ns"], np.int64(0)), np.int64(last))
    last_bin = min(max((end_ns - s["origin_ns"]) // s["bin_ns"], np.int64(0)), np.int64(last))
    steps[first_bin] += 1
    steps[last_bin] -= 1


@kernel
def new_conn(a):
    """Return a free row of `conns`; -1 if there is none."""
    c = np.int64(a.control[FREE_CONN])
    if c >= 0:
        a.control[FREE_CONN] = a.conns[c]["older"]
    return c


@kernel
def drop_conn(a, c):
    """Free a row that is in no pool."""
    a.conns[c]["older"] = a.control[FREE_CONN]
    a.control[FREE_CONN] = c


@kernel
def close_by_proxy(a, c, now_ns):
    """Free a row whose connection the proxy closes: its port waits."""
    add_span(a, a.time_wait_steps, now_ns, now_ns + TIME_WAIT_NS)
    drop_conn(a, c)


@kernel
def _unlink(a, c):
    conn = a.conns[c]
    pool = a.pools[conn["worker"]]
    head = conn["worker"] * a.places.shape[0] + conn["place"]
    if conn["newer"] >= 0:
        a.conns[conn["newer"]]["older"] = conn["older"]
    else:
        pool["newest"] = conn["older"]
    if conn["older"] >= 0:
        a.conns[conn["older"]]["newer"] = conn["newer"]
    else:
        pool["oldest"] = conn["newer"]
    if conn["newer_alike"] >= 0:
        a.conns[conn["newer_alike"]]["older_alike"] = conn["older_alike"]
    else:
        a.heads[head] = conn["older_alike"]
    if conn["older_alike"] >= 0:
        a.conns[conn["older_alike"]]["newer_alike"] = conn["newer_alike"]
    pool["n"] -= 1


@kernel
def bury(a, c):
    """Take out a connection whose time has come, and count how long it was idle."""
    conn = a.conns[c]
    _unlink(a, c)
    add_span(a, a.idle_steps, conn["released_ns"], conn["dead_ns"])
    if conn["dead_ns"] < conn["fin_ns"]:
        close_by_proxy(a, c, conn["dead_ns"])
    else:
        drop_conn(a, c)


@kernel
def take_idle(a, worker, place, now_ns):
    """Take the newest idle connection of a worker to a place out of the pool; -1 if there is none.

    nginx looks for an equal address: a server that stands in the group twice has one stock of connections.
    """
    head = worker * a.places.shape[0] + place
    c = np.int64(a.heads[head])
    while c >= 0:
        if a.conns[c]["dead_ns"] > now_ns:
            _unlink(a, c)
            add_span(a, a.idle_steps, a.conns[c]["released_ns"], now_ns)
            return c
        bury(a, c)
        c = np.int64(a.heads[head])
    return c


@kernel
def _make_room(a, worker, now_ns):
    """Bury what is dead; if that makes no room, the proxy closes what has been idle for longest."""
    pool = a.pools[worker]
    c = np.int64(pool["oldest"])
    while c >= 0:
        newer = np.int64(a.conns[c]["newer"])
        if a.conns[c]["dead_ns"] <= now_ns:
            bury(a, c)
        c = newer
    if pool["n"] >= a.settings[0]["keepalive"]:
        c = np.int64(pool["oldest"])
        _unlink(a, c)
        a.counts[CROWDED_OUT] += 1
        add_span(a, a.idle_steps, a.conns[c]["released_ns"], now_ns)
        close_by_proxy(a, c, now_ns)


@kernel
def put_idle(a, c, now_ns):
    """Put a connection, whose `released_ns`, `fin_ns` and `dead_ns` say its future, into its worker's pool."""
    conn = a.conns[c]
    worker = np.int64(conn["worker"])
    pool = a.pools[worker]
    if pool["n"] >= a.settings[0]["keepalive"]:
        _make_room(a, worker, now_ns)
    head = worker * a.places.shape[0] + conn["place"]
    conn["older"] = pool["newest"]
    conn["newer"] = -1
    if pool["newest"] >= 0:
        a.conns[pool["newest"]]["newer"] = c
    else:
        pool["oldest"] = c
    pool["newest"] = c
    conn["older_alike"] = a.heads[head]
    conn["newer_alike"] = -1
    if a.heads[head] >= 0:
        a.conns[a.heads[head]]["newer_alike"] = c
    a.heads[head] = c
    pool["n"] += 1
