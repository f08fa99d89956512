"""Which peer nginx picks, and what a failure does to it.

ngx_http_upstream_round_robin.c, and the modules least_conn, ip_hash, hash and random on top of it. A row of peers is
what one worker knows, or all where the group has a zone; `now` is in whole seconds, as ngx_time() is.
"""

import numpy as np

from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.whatif.kernels.replay_random import below
from pcapdiag.whatif.kernels.replay_state import HASH, IP_HASH, LEAST_CONN, RANDOM, RANDOM_TWO

_MOST_HASHED = 20
_ONE = np.int64(1)
_GOLDEN = np.int64(0x9E3779B1)


@kernel
def _is_usable(peer, bit, tried, now):
    if tried & (_ONE << bit) or peer["is_down"]:
        return False
    if peer["max_fails"] > 0 and peer["fails"] >= peer["max_fails"]:
        if now - peer["checked_s"] <= peer["fail_timeout_s"]:
            return False
    return not (peer["max_conns"] > 0 and peer["conns"] >= peer["max_conns"])


@kernel
def _take(peers, row, best, slot, now):
    """Pick a peer: a disabled one whose time is over is probed once."""
    peer = peers[row + best]
    if now - peer["checked_s"] > peer["fail_timeout_s"]:
        peer["checked_s"] = now
    peer["conns"] += 1
    slot["tried"] |= _ONE << np.int64(best)
    slot["n_tried"] += 1
    slot["peer"] = best
    return best


@kernel
def _round_robin(peers, row, n_peers, slot, now):
    """Smooth weighted round robin among the usable peers of the slot's group; -1 if there are none."""
    best = -1
    total = 0
    for i in range(n_peers):
        peer = peers[row + i]
        if peer["is_backup"] != slot["in_backup"] or not _is_usable(peer, np.int64(i), slot["tried"], now):
            continue
        peer["current"] += peer["effective"]
        total += peer["effective"]
        if peer["effective"] < peer["weight"]:
            peer["effective"] += 1
        if best < 0 or peer["current"] > peers[row + best]["current"]:
            best = i
    if best < 0:
        return -1
    peers[row + best]["current"] -= total
    return _take(peers, row, best, slot, now)


@kernel
def _least_conn(peers, row, n_peers, slot, now):
    best = -1
    many = False
    for i in range(n_peers):
        peer = peers[row + i]
        if peer["is_backup"] != slot["in_backup"] or not _is_usable(peer, np.int64(i), slot["tried"], now):
            continue
        if best < 0:
            best = i
            continue
        ours = np.int64(peer["conns"]) * peers[row + best]["weight"]
        theirs = np.int64(peers[row + best]["conns"]) * peer["weight"]
        if ours < theirs:
            best = i
            many = False
        elif ours == theirs:
            many = True
    if best < 0:
        return -1
    total = 0
    if many:
        for i in range(best, n_peers):
            peer = peers[row + i]
            if peer["is_backup"] != slot["in_backup"] or not _is_usable(peer, np.int64(i), slot["tried"], now):
                continue
            ours = np.int64(peer["conns"]) * peers[row + best]["weight"]
            if ours != np.int64(peers[row + best]["conns"]) * peer["weight"]:
                continue
            peer["current"] += peer["effective"]
            total += peer["effective"]
            if peer["effective"] < peer["weight"]:
                peer["effective"] += 1
            if peer["current"] > peers[row + best]["current"]:
                best = i
    peers[row + best]["current"] -= total
    return _take(peers, row, best, slot, now)


@kernel
def _total_weight(peers, row, n_peers):
    total = np.int64(0)
    for i in range(n_peers):
        if not peers[row + i]["is_backup"]:
            total += peers[row + i]["weight"]
    return total


@kernel
def _at_weight(peers, row, n_peers, w):
    """Return the peer in whose share of the weights `w` lies."""
    for i in range(n_peers):
        if peers[row + i]["is_backup"]:
            continue
        if w < peers[row + i]["weight"]:
            return i
        w -= peers[row + i]["weight"]
    return -1


@kernel
def _hashed(peers, row, n_peers, slot, now, key, balance, random):
    """ip_hash, hash and random: a place in the weights, another one while that is not usable, at last round robin."""
    total = _total_weight(peers, row, n_peers)
    while slot["n_hashed"] <= _MOST_HASHED and total > 0:
        if balance == IP_HASH:
            # hash = (hash * 113 + byte) % 6271 over the bytes of the address is one linear step.
            slot["hash"] = (slot["hash"] * (key >> 16) + (key & 0xFFFF)) % 6271
            at = slot["hash"] % total
        elif balance == HASH:
            # Which peer a key belongs to is not known without the key; as in nginx, each attempt adds another hash.
            mixed = (key ^ (np.int64(slot["n_hashed"]) * _GOLDEN)) & 0x7FFFFFFF
            slot["hash"] += ((mixed * 48271) % 0x7FFFFFFF >> 8) & 0x7FFF
            at = slot["hash"] % total
        else:
            at = below(random, total)
        i = _at_weight(peers, row, n_peers, at)
        if _is_usable(peers[row + i], np.int64(i), slot["tried"], now):
            return _take(peers, row, i, slot, now)
        slot["n_hashed"] += 1
    return _round_robin(peers, row, n_peers, slot, now)


@kernel
def _random_two(peers, row, n_peers, slot, now, random):
    """``random two least_conn``: the less busy one of two."""
    total = _total_weight(peers, row, n_peers)
    first = -1
    for _ in range(_MOST_HASHED):
        if total <= 0:
            break
        i = _at_weight(peers, row, n_peers, below(random, total))
        if i == first or not _is_usable(peers[row + i], np.int64(i), slot["tried"], now):
            continue
        if first < 0:
            first = i
            continue
        ours = np.int64(peers[row + i]["conns"]) * peers[row + first]["weight"]
        if ours <= np.int64(peers[row + first]["conns"]) * peers[row + i]["weight"]:
            first = i
        return _take(peers, row, first, slot, now)
    return _round_robin(peers, row, n_peers, slot, now)


@kernel
def _pick_in_group(peers, row, n_peers, slot, now, key, balance, random):
    if slot["in_backup"]:
        if balance == LEAST_CONN:
            return _least_conn(peers, row, n_peers, slot, now)
        return _round_robin(peers, row, n_peers, slot, now)
    if balance == LEAST_CONN:
        return _least_conn(peers, row, n_peers, slot, now)
    if balance == IP_HASH or balance == HASH or balance == RANDOM:
        return _hashed(peers, row, n_peers, slot, now, key, balance, random)
    if balance == RANDOM_TWO:
        return _random_two(peers, row, n_peers, slot, now, random)
    return _round_robin(peers, row, n_peers, slot, now)


@kernel
def pick_peer(peers, row, s, slot, now, key, random):
    """Pick the peer of a request's next try.

    Parameters
    ----------
    peers : ndarray of PEER
        All rows.
    row : int
        First row of the worker.
    s, slot : records
        SETTINGS and SLOT.
    now : int
        [s] Since 1970.
    key : int
        What the balancer sees of the client.
    random : ndarray of uint64, shape (1,)
        The generator's state.

    Returns
    -------
    int
        The peer, which has one connection more; -1: no live upstream.
    """
    n_peers = s["n_peers"]
    if s["is_single"]:
        peer = peers[row]
        if peer["is_down"] or (peer["max_conns"] > 0 and peer["conns"] >= peer["max_conns"]):
            return -1
        peer["conns"] += 1
        slot["peer"] = 0
        slot["n_tried"] += 1
        return 0
    chosen = _pick_in_group(peers, row, n_peers, slot, now, key, s["balance"], random)
    if chosen < 0 and not slot["in_backup"]:
        slot["in_backup"] = 1
        slot["tried"] = 0
        if s["backup_tries"]:
            slot["tries"] = s["backup_tries"]
        chosen = _pick_in_group(peers, row, n_peers, slot, now, key, s["balance"], random)
    if chosen < 0 and s["quick_recovery"]:
        for i in range(n_peers):
            peers[row + i]["fails"] = 0
    if chosen >= 0 and slot["tries"] == 1 and not slot["in_backup"]:
        slot["tries"] += s["backup_tries"]
    return chosen


@kernel
def free_peer(peers, row, s, slot, now, has_failed):
    """Tell the balancer how a try ended: ngx_http_upstream_free_round_robin_peer.

    Parameters
    ----------
    peers, row, s, slot, now
        As for `pick_peer`; the slot's peer is given back.
    has_failed : bool
        Whether that counts as a failure.
    """
    peer = peers[row + slot["peer"]]
    slot["peer"] = -1
    peer["conns"] -= 1
    if s["is_single"]:
        peer["fails"] = 0
        slot["tries"] = 0
        return
    if has_failed:
        peer["fails"] += 1
        peer["accessed_s"] = now
        peer["checked_s"] = now
        if peer["max_fails"] > 0:
            peer["effective"] -= peer["weight"] // peer["max_fails"]
        if peer["effective"] < 0:
            peer["effective"] = 0
    elif peer["accessed_s"] < peer["checked_s"]:
        peer["fails"] = 0
    if slot["tries"] > 0:
        slot["tries"] -= 1
