"""Connections that were captured twice: by two captures, or before and after an address was translated on one machine.

With `-i any` on a machine that translates addresses (a node of a cluster, a host of containers) each segment passes two
interfaces under two addresses; captures of both ends, or a copy in the same folder, hold the same connections again. A
twin is told by the numbers that both hosts chose at random; one that is only similar is another connection. Knows the
table of connections, and no losses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.codes import Key, Leg
from pcapdiag.base.findings import Note
from pcapdiag.base.units import NS_PER_S, count_of, format_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.base.tables import Table

    Rows = np.ndarray[Any, Any]

RANDOM = 1 << 16
"""Numbers below are written by hand, or by a program that begins to count: equal ones prove nothing."""
MOMENT_NS = 5_000_000
"""[ns] From one interface of a machine to the next."""
_HOUR_NS = 3600 * NS_PER_S
"""[ns] How far the clocks of two machines may be apart."""
_MOST_SIGHTS = 8
"""Places on one machine at which a segment may pass; numbers that more connections share are nobody's own."""
_MOST_NAMED = 5
_ORIG, _RESP = ("orig_hi", "orig_lo"), ("resp_hi", "resp_lo")
_ENDS = (*_ORIG, "orig_port", *_RESP, "resp_port")

Translated = dict[tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Twins:
    """Which connections were captured before.

    Attributes
    ----------
    is_twin : ndarray of bool, shape (n_conn,)
        Those that are not to be counted.
    n_across : int
        How many of them another capture holds.
    n_translated : int
        How many of them the same capture holds under another address.
    translated : dict of tuple to tuple
        From the responder (address halves and port) that a twin has to the one that its originator used.
    of_upstream : ndarray of int64
        Those that are kept, of which a twin is on the upstream leg: no proxy stands in between.
    """

    is_twin: NDArray[np.bool_]
    n_across: int = 0
    n_translated: int = 0
    translated: Translated = field(default_factory=dict)
    of_upstream: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def notes(self) -> Iterator[Note]:
        """Yield what is said of them."""
        if self.n_across:
            verb = "is" if self.n_across == 1 else "are"
            text = (
                f"{count_of(self.n_across, 'connection')} {verb} in more than one of the captures and counted once;"
                " name the captures of the upstreams' end with --upstream-capture to have both ends compared"
            )
            yield Note("captured-twice", text)
        if self.n_translated:
            verb = "was" if self.n_translated == 1 else "were"
            named = [f"{_text(own)} -> {_text(other)}" for other, own in sorted(self.translated.items())]
            shown = ", ".join(named[:_MOST_NAMED]) + (", ..." if len(named) > _MOST_NAMED else "")
            where = f" ({shown})" if shown else ""
            text = (
                f"{count_of(self.n_translated, 'connection')} {verb} captured twice, before and after an address was"
                f" translated{where}; each is counted once, by the address that its originator used"
            )
            yield Note("translated-twice", text)


def find_twins(connections: Table, key_segments: Table, legs: NDArray[np.int8]) -> Twins:
    """Return which connections are another one of the table, captured again.

    Parameters
    ----------
    connections, key_segments : Table
        `columns.CONNECTIONS` (row i is connection i) and `KEY_SEGMENTS`.
    legs : ndarray of int8, shape (n_conn,)
        `codes.Leg`: of two, the one that the operator did not leave out is kept.

    Returns
    -------
    Twins
        Of each connection the sight nearest to its originator is kept.
    """
    rows = connections.rows
    group = np.arange(len(rows))
    both = (rows["orig_isn"] >= 0) & (rows["resp_isn"] >= 0)
    middle = ~both
    begun = _begins(rows)
    if middle.any():  # a capture may begin between two sights of a SYN
        middle |= rows["first_ts_ns"] <= begun + MOMENT_NS
    middle &= (rows["orig_max_ack"] >= 0) & (rows["resp_max_ack"] >= 0)
    _link(rows, np.flatnonzero(both), ("orig_isn", "resp_isn"), group)
    _link(rows, np.flatnonzero(middle), ("orig_max_ack", "resp_max_ack"), group, begun)
    attempts = np.flatnonzero((rows["orig_isn"] >= 0) & (rows["resp_isn"] < 0))
    if len(attempts) > 1:
        _link_attempts(rows, attempts, _syn_ids(key_segments, len(rows)), group)
    return _keep_one(rows, group, legs)


def _begins(rows: Rows) -> NDArray[np.int64]:
    """[ns] Return for each connection when the first one of its capture was seen."""
    first: NDArray[np.int64] = np.full(int(rows["capture_idx"].max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, rows["capture_idx"], rows["first_ts_ns"])
    begun: NDArray[np.int64] = first[rows["capture_idx"]]
    return begun


def _link(
    rows: Rows, index: NDArray[Any], numbers: tuple[str, str], group: Rows, begun: NDArray[np.int64] | None = None
) -> None:
    """Give the connections that follow each other with equal numbers, and are the same, one group.

    `begun` is when their captures did, for connections that were open by then.
    """
    if len(index) < 2:
        return
    a_name, b_name = numbers
    numbers_a, numbers_b = rows[a_name][index], rows[b_name][index]
    order = np.lexsort((rows["first_ts_ns"][index], numbers_b, numbers_a))
    index, numbers_a, numbers_b = index[order], numbers_a[order], numbers_b[order]
    equal = (numbers_a[1:] == numbers_a[:-1]) & (numbers_b[1:] == numbers_b[:-1])
    if not equal.any():
        return
    pairs = np.flatnonzero(equal & ~_is_crowd(rows["capture_idx"][index], equal))
    # Of a table that may be large, only the few pairs are taken out whole.
    is_random = (numbers_a[pairs] >= RANDOM) & (numbers_b[pairs] >= RANDOM)
    since = begun[index[pairs]] if begun is not None else None
    same = _same(rows[index[pairs]], rows[index[pairs + 1]], is_random, since)
    for at in pairs[same].tolist():
        group[index[at + 1]] = group[index[at]]


def _is_crowd(capture_idx: NDArray[Any], equal: NDArray[np.bool_]) -> Any:
    """Tell the pairs whose numbers more connections of a capture have than a machine has places to see one."""
    run = np.concatenate(([0], np.cumsum(~equal)))
    place = run * (int(capture_idx.max()) + 1) + capture_idx
    _, where, counts = np.unique(place, return_inverse=True, return_counts=True)
    return counts[where.reshape(-1)][1:] > _MOST_SIGHTS


def _same(one: Rows, other: Rows, is_random: Any, begun: NDArray[np.int64] | None) -> Any:
    same_orig = np.logical_and.reduce([one[n] == other[n] for n in _ORIG])
    same_resp = np.logical_and.reduce([one[n] == other[n] for n in _RESP])
    same_ports = (one["orig_port"] == other["orig_port"]) & (one["resp_port"] == other["resp_port"])
    has_common = (
        same_orig | same_resp | (one["orig_port"] == other["orig_port"]) | (one["resp_port"] == other["resp_port"])
    )
    is_whole = same_orig & same_resp & same_ports
    across = one["capture_idx"] != other["capture_idx"]
    apart = np.abs(other["first_ts_ns"] - one["first_ts_ns"])
    overlap = (one["first_ts_ns"] <= other["last_ts_ns"]) & (other["first_ts_ns"] <= one["last_ts_ns"])
    ended_together = np.abs(other["last_ts_ns"] - one["last_ts_ns"]) <= MOMENT_NS
    alike = (one["orig_bytes"] == other["orig_bytes"]) & (one["resp_bytes"] == other["resp_bytes"])
    at_both_ends = across & ((is_whole & overlap & alike) | (is_random & has_common & (apart <= _HOUR_NS)))
    is_translated = ~across & is_random & ~(same_orig & same_resp)
    together = apart <= MOMENT_NS
    # Where both ends and all ports were translated the numbers, the lengths and both times have to agree.
    is_sure = together & alike & ended_together
    if begun is None:
        likely = together & (alike | ended_together)
    else:
        # Where the capture begins between two sights of a segment, one of both has fewer bytes and begins later.
        likely = ended_together & (
            together | (np.minimum(one["first_ts_ns"], other["first_ts_ns"]) <= begun + MOMENT_NS)
        )
    return at_both_ends | (is_translated & (is_sure | (has_common & likely)))


def _link_attempts(rows: Rows, index: NDArray[Any], syn_ids: Rows, group: Rows) -> None:
    """Do the same for attempts that nobody accepted: a scan may send one number to all ports, but not in one packet."""
    index = index[np.lexsort((rows["first_ts_ns"][index], rows["orig_port"][index], rows["orig_isn"][index]))]
    numbers, ports = rows["orig_isn"][index], rows["orig_port"][index]
    pairs = np.flatnonzero((numbers[1:] == numbers[:-1]) & (ports[1:] == ports[:-1]))
    first, second = index[pairs], index[pairs + 1]
    one, other = rows[first], rows[second]
    same_orig = np.logical_and.reduce([one[n] == other[n] for n in _ORIG])
    same_resp = np.logical_and.reduce([one[n] == other[n] for n in _RESP])
    is_whole = same_resp & (one["resp_port"] == other["resp_port"])
    is_random = one["orig_isn"] >= RANDOM
    across = one["capture_idx"] != other["capture_idx"]
    apart = np.abs(other["first_ts_ns"] - one["first_ts_ns"])
    overlap = (one["first_ts_ns"] <= other["last_ts_ns"]) & (other["first_ts_ns"] <= one["last_ts_ns"])
    one_id, other_id = syn_ids[first], syn_ids[second]
    is_translated = ~across & ~same_resp & is_random & (apart <= MOMENT_NS) & (one_id == other_id) & (one_id > 0)
    same = same_orig & ((across & is_whole & (overlap | (is_random & (apart <= _HOUR_NS)))) | is_translated)
    for at in np.flatnonzero(same).tolist():
        group[second[at]] = group[first[at]]


def _syn_ids(key_segments: Table, n_conn: int) -> Rows:
    """Return the IPv4 identification of each connection's first SYN; -1 where it is not known."""
    ids = np.full(n_conn, -1, dtype=np.int64)
    for chunk in key_segments.chunks():
        syns = chunk.rows[chunk["key"] == Key.SYN]
        ids[syns["conn"]] = syns["ip_id"]
    return ids


def _keep_one(rows: Rows, group: Rows, legs: NDArray[np.int8]) -> Twins:
    """Mark all of each group but the one that is nearest to the originator."""
    is_twin = np.zeros(len(rows), dtype=np.bool_)
    _, where, counts = np.unique(group, return_inverse=True, return_counts=True)
    members = np.flatnonzero(counts[where.reshape(-1)] > 1)
    if not len(members):
        return Twins(is_twin)
    nearness = _nearness(rows[members])
    order = np.lexsort(
        (
            members,
            rows["first_ts_ns"][members],
            nearness[rows["capture_idx"][members]],
            np.asarray(legs)[members] == Leg.UNKNOWN,
            group[members],
        )
    )
    members = members[order]
    is_first = np.concatenate(([True], group[members[1:]] != group[members[:-1]]))
    kept = members[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    twins, of = members[~is_first], kept[~is_first]
    is_twin[twins] = True
    across = rows["capture_idx"][twins] != rows["capture_idx"][of]
    translated: Translated = {}
    for twin, own in zip(twins[~across].tolist(), of[~across].tolist(), strict=True):
        ends = [(int(rows[n]["resp_hi"]), int(rows[n]["resp_lo"]), int(rows[n]["resp_port"])) for n in (twin, own)]
        if ends[0] != ends[1]:
            translated.setdefault(ends[0], ends[1])
    of_upstream = of[np.asarray(legs)[twins] == Leg.UPSTREAM]
    return Twins(is_twin, int(across.sum()), int((~across).sum()), translated, np.unique(of_upstream))


def _nearness(rows: Rows) -> Rows:
    """Return a rank for each capture: low where the originator answers at once, for there it was captured."""
    n_captures = int(rows["capture_idx"].max()) + 1
    delays = np.zeros(n_captures)
    for capture_idx in range(n_captures):
        known = rows["handshake_orig_ns"][(rows["capture_idx"] == capture_idx) & (rows["handshake_orig_ns"] >= 0)]
        delays[capture_idx] = np.median(known) if len(known) else np.inf
    ranks = np.empty(n_captures, dtype=np.int64)
    ranks[np.lexsort((np.arange(n_captures), delays))] = np.arange(n_captures)
    return ranks


def _text(endpoint: tuple[int, int, int]) -> str:
    address = format_address(endpoint[0], endpoint[1])
    return f"[{address}]:{endpoint[2]}" if ":" in address else f"{address}:{endpoint[2]}"
