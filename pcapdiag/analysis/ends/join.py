"""Which connection at the proxy is which at an upstream: by addresses, ports and sequence numbers.

The two initial sequence numbers name a connection better than its addresses do: together they are 64 random bits that
no NAT changes. What fits more than one connection is said to be ambiguous and is not joined. Knows connection rows of
both ends; single segments are the affair of `segments`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING, NamedTuple

from pcapdiag.base.sequence import sequence_difference

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from pcapdiag.base.tables import Table

SYN_PATIENCE_NS = 130_000_000_000
"""A SYN is repeated for two minutes at most: so long after the first one may the other end see a connection begin."""

LONG_BYTES = 1 << 31
"""Beyond half of the sequence space, "below" and "above" mean nothing any more."""

_RENUMBERED_NS = 5_000_000_000


class CaptureEnd(NamedTuple):
    """Address halves and port of one end."""

    hi: int
    lo: int
    port: int


class ConnectionRow(NamedTuple):
    """What joining needs of one connection; -1 is none."""

    conn: int
    orig: CaptureEnd
    resp: CaptureEnd
    orig_isn: int
    resp_isn: int
    orig_max_ack: int
    resp_max_ack: int
    orig_bytes: int
    resp_bytes: int
    first_ts_ns: int
    capture_idx: int
    is_inferred: bool

    def flipped(self) -> ConnectionRow:
        """Return the same connection with the other end as its originator."""
        return self._replace(
            orig=self.resp,
            resp=self.orig,
            orig_isn=self.resp_isn,
            resp_isn=self.orig_isn,
            orig_max_ack=self.resp_max_ack,
            resp_max_ack=self.orig_max_ack,
            orig_bytes=self.resp_bytes,
            resp_bytes=self.orig_bytes,
        )


class Pair(NamedTuple):
    """One connection at both ends; `is_flipped`: the far end took the upstream for the originator."""

    near: ConnectionRow
    far: ConnectionRow
    is_flipped: bool
    is_translated: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """The pairs, and the connections of the proxy that are in none."""

    pairs: tuple[Pair, ...]
    ambiguous: tuple[int, ...]
    renumbered: tuple[int, ...]
    alone: tuple[ConnectionRow, ...]
    n_far_unpaired: int
    n_in_several_captures: int


def read_rows(connections: Table, index: NDArray[np.int64]) -> list[ConnectionRow]:
    """Return the rows of `columns.CONNECTIONS` at `index` as joining reads them."""
    rows = connections.rows[index]
    columns = (
        zip(rows["orig_hi"].tolist(), rows["orig_lo"].tolist(), rows["orig_port"].tolist(), strict=True),
        zip(rows["resp_hi"].tolist(), rows["resp_lo"].tolist(), rows["resp_port"].tolist(), strict=True),
        *(
            rows[name].tolist()
            for name in (
                "orig_isn",
                "resp_isn",
                "orig_max_ack",
                "resp_max_ack",
                "orig_bytes",
                "resp_bytes",
                "first_ts_ns",
                "capture_idx",
            )
        ),
        (rows["orig_inferred"] == 1).tolist(),
    )
    numbered = zip(rows["conn"].tolist(), *columns, strict=True)
    return [ConnectionRow(conn, CaptureEnd(*orig), CaptureEnd(*resp), *rest) for conn, orig, resp, *rest in numbered]


def join_connections(near: Iterable[ConnectionRow], far: Iterable[ConnectionRow]) -> Joined:
    """Join the connections of both ends.

    Parameters
    ----------
    near : iterable of ConnectionRow
        The proxy's connections to its upstreams.
    far : iterable of ConnectionRow
        All connections of the far captures.

    Returns
    -------
    Joined
        Each connection of the proxy is in exactly one of its parts.
    """
    near, far = list(near), list(far)
    by_sides: dict[tuple[CaptureEnd, CaptureEnd], list[ConnectionRow]] = defaultdict(list)
    for row in far:
        by_sides[row.orig, row.resp].append(row)
    pairs: list[Pair] = []
    ambiguous: list[int] = []
    left: list[ConnectionRow] = []
    n_several = 0
    for row in near:
        fitting = [Pair(row, other, is_flipped=False, is_translated=False) for other in by_sides[row.orig, row.resp]]
        fitting += [
            Pair(row, other.flipped(), is_flipped=True, is_translated=False)
            for other in by_sides.get((row.resp, row.orig), ())
            if other.is_inferred or row.is_inferred
        ]
        verdicts = [_is_same(row, pair.far) for pair in fitting]
        fitting = [pair for pair, is_same in zip(fitting, verdicts, strict=True) if is_same]
        pair = _only(fitting)
        if pair is not None:
            pairs.append(pair)
            n_several += len(fitting) > 1
        elif fitting or None in verdicts:
            ambiguous.append(row.conn)
        else:
            left.append(row)
    left, translated, doubtful = _join_translated(left, far, pairs)
    ambiguous += doubtful
    pairs += translated
    paired = {pair.far.conn for pair in pairs}
    renumbered = _find_renumbered(left, by_sides, paired)
    return Joined(
        pairs=tuple(pairs),
        ambiguous=tuple(ambiguous),
        renumbered=tuple(sorted(renumbered)),
        alone=tuple(row for row in left if row.conn not in renumbered),
        n_far_unpaired=_count_unpaired(far, pairs, paired),
        n_in_several_captures=n_several,
    )


def _only(fitting: list[Pair]) -> Pair | None:
    """Return the one pair; of the same connection in several captures, that of the first. None if it is ambiguous."""
    captures = [pair.far.capture_idx for pair in fitting]
    if not fitting or len(set(captures)) < len(captures):
        return None
    return min(fitting, key=lambda pair: pair.far.capture_idx)


def _is_same(near: ConnectionRow, far: ConnectionRow) -> bool | None:
    """Tell whether two connections of the same endpoints are one, by sequence numbers; None if these say nothing."""
    numbers = ((near.orig_isn, far.orig_isn), (near.resp_isn, far.resp_isn))
    known = [(a, b) for a, b in numbers if a >= 0 and b >= 0]
    if known:
        return all(a == b for a, b in known)
    ranges = (
        (
            sent_range(near.orig_isn, near.resp_max_ack, near.orig_bytes),
            sent_range(far.orig_isn, far.resp_max_ack, far.orig_bytes),
        ),
        (
            sent_range(near.resp_isn, near.orig_max_ack, near.resp_bytes),
            sent_range(far.resp_isn, far.orig_max_ack, far.resp_bytes),
        ),
    )
    # One direction may say nothing, such as that of an upstream that only resets.
    both = [(a, b) for a, b in ranges if a[1] >= 0 and b[1] >= 0]
    return all(_overlaps(a, b) for a, b in both) if both else None


def sent_range(isn: int, acknowledged: int, n_bytes: int) -> tuple[int, int]:
    """Return first sequence number and length of what one direction has sent; length -1 if it is not known."""
    if n_bytes >= LONG_BYTES:
        return 0, -1
    if isn >= 0:
        return isn, n_bytes + 2
    if acknowledged >= 0:
        return (acknowledged - n_bytes - 1) & 0xFFFFFFFF, n_bytes + 2
    return 0, -1


def _overlaps(a: tuple[int, int], b: tuple[int, int]) -> bool:
    apart = sequence_difference(b[0], a[0])
    return apart <= a[1] if apart >= 0 else -apart <= b[1]


def _join_translated(
    left: list[ConnectionRow], far: list[ConnectionRow], pairs: list[Pair]
) -> tuple[list[ConnectionRow], list[Pair], list[int]]:
    """Join by initial sequence numbers alone what has other addresses at the two ends.

    Returns what is left over, the pairs, and the connections that fit several.
    """
    paired = {pair.far.conn for pair in pairs}
    free = [row for row in far if row.conn not in paired]
    by_numbers: dict[tuple[int, int], list[ConnectionRow]] = defaultdict(list)
    for row in free:
        if row.orig_isn >= 0:
            by_numbers[row.orig_isn, row.resp_isn].append(row)
    found: list[Pair] = []
    doubtful: list[int] = []
    others: list[ConnectionRow] = []
    for row in left:
        is_opened = row.orig_isn >= 0 and row.resp_isn >= 0
        fitting = by_numbers.get((row.orig_isn, row.resp_isn), []) if is_opened else []
        pair = _only([Pair(row, other, is_flipped=False, is_translated=True) for other in fitting])
        if pair is not None:
            found.append(pair)
        elif fitting:
            doubtful.append(row.conn)
        else:
            others.append(row)
    found, late = _plausible(found, pairs)
    doubtful += late
    # A refused or unanswered SYN has one number only: it needs an upstream whose translation is known.
    became: dict[tuple[int, CaptureEnd], set[tuple[int, CaptureEnd]]] = defaultdict(set)
    for pair in (*pairs, *found):
        became[pair.near.capture_idx, pair.near.resp].add((pair.far.capture_idx, pair.far.resp))
    for place, places in _places_of_attempts(others, by_numbers).items():
        became.setdefault(place, places)
    attempts: list[Pair] = []
    rest: list[ConnectionRow] = []
    for row in others:
        places = became.get((row.capture_idx, row.resp), set())
        fitting = (
            [o for o in by_numbers.get((row.orig_isn, -1), []) if (o.capture_idx, o.resp) in places]
            if row.orig_isn >= 0
            else []
        )
        if len(fitting) == 1:
            attempts.append(Pair(row, fitting[0], is_flipped=False, is_translated=True))
        else:
            rest.append(row)
    attempts, late = _plausible(attempts, [*pairs, *found])
    return rest, found + attempts, doubtful + late


def _places_of_attempts(
    rows: list[ConnectionRow], by_numbers: dict[tuple[int, int], list[ConnectionRow]]
) -> dict[tuple[int, CaptureEnd], set[tuple[int, CaptureEnd]]]:
    """Return what became of upstreams that accepted no connection: where two numbers fit, chance is out."""
    seen: dict[tuple[int, CaptureEnd], Counter[tuple[int, CaptureEnd]]] = defaultdict(Counter)
    for row in rows:
        fitting = by_numbers.get((row.orig_isn, -1), []) if row.orig_isn >= 0 > row.resp_isn else []
        if len(fitting) == 1:
            seen[row.capture_idx, row.resp][fitting[0].capture_idx, fitting[0].resp] += 1
    return {place: {there for there, n in found.items() if n > 1} for place, found in seen.items()}


def _plausible(found: list[Pair], known: list[Pair]) -> tuple[list[Pair], list[int]]:
    """Return the pairs that begin together by what is known of the clocks, and the connections of the others."""
    apart: dict[tuple[int, int], list[int]] = defaultdict(list)
    for pair in known or found:
        apart[pair.near.capture_idx, pair.far.capture_idx].append(pair.far.first_ts_ns - pair.near.first_ts_ns)
    usual = {captures: median_low(values) for captures, values in apart.items()}

    def is_plausible(pair: Pair) -> bool:
        expected = usual.get((pair.near.capture_idx, pair.far.capture_idx))
        return expected is None or abs(pair.far.first_ts_ns - pair.near.first_ts_ns - expected) <= SYN_PATIENCE_NS

    return [p for p in found if is_plausible(p)], [p.near.conn for p in found if not is_plausible(p)]


def _find_renumbered(
    left: list[ConnectionRow], by_sides: dict[tuple[CaptureEnd, CaptureEnd], list[ConnectionRow]], paired: set[int]
) -> set[int]:
    """Return connections that the far end knows by the same addresses but by other sequence numbers.

    The same endpoints at another time would look alike: only those count that all lie equally far apart.
    """
    apart = {
        row.conn: [
            o.first_ts_ns - row.first_ts_ns
            for o in by_sides.get((row.orig, row.resp), ())
            if o.conn not in paired and row.orig_isn >= 0 <= o.orig_isn
        ]
        for row in left
    }
    apart = {conn: distances for conn, distances in apart.items() if distances}
    if not apart:
        return set()
    usual = median_low([distances[0] for distances in apart.values()])
    found = {conn for conn, distances in apart.items() if any(abs(d - usual) <= _RENUMBERED_NS for d in distances)}
    return found if len(found) > 1 else set()


def _count_unpaired(far: list[ConnectionRow], pairs: list[Pair], paired: set[int]) -> int:
    """Count the far end's connections from a joined proxy to a joined upstream that the proxy's captures lack."""
    proxies = {(p.far.capture_idx, p.far.orig[:2]) for p in pairs}
    upstreams = {(p.far.capture_idx, p.far.resp) for p in pairs}
    return sum(
        row.conn not in paired
        and (row.capture_idx, row.orig[:2]) in proxies
        and (row.capture_idx, row.resp) in upstreams
        for row in far
    )
