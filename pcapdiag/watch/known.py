"""Knows a failure again, whatever piece of the recording a later report reads.

A report that begins between a request and its retransmissions takes a retransmission for the request: another time,
but the same bytes of the same connection. So a failure is known by its connection and sequence number, too.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from pcapdiag.base.codes import Method

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pcapdiag.analysis.model import Loss
    from pcapdiag.base.findings import Occurrence

_REPEATED_FOR_NS: Final = 3_600_000_000_000
"""A kernel sends a segment again for a quarter of an hour (Linux, `tcp_retries2`); later it is another connection."""


class Failing(NamedTuple):
    """What makes a failure this one; `seq` is -1 where it is not known."""

    orig: str
    resp: str
    ts_ns: int
    seq: int

    def __str__(self) -> str:
        return f"{self.orig} {self.resp} {self.ts_ns} {self.seq}"


def failing_of(occurrence: Occurrence, losses: Mapping[tuple[int, int], Loss]) -> Failing:
    """Return what makes an occurrence this one.

    Parameters
    ----------
    occurrence : Occurrence
        With the time of its request.
    losses : mapping
        The losses of the same analysis, by connection and depth.

    Returns
    -------
    Failing
        With the sequence number of the request, or of the SYN of an attempt.
    """
    loss = losses.get((occurrence.conn, occurrence.depth))
    seq = -1
    if loss is not None:
        seq = loss.connection.orig_isn if loss.is_connect else loss.request_seq
    return Failing(occurrence.orig, occurrence.resp, occurrence.request_ts_ns, seq)


class KnownFailures:
    """Failures that earlier reports hold.

    Parameters
    ----------
    keys : iterable of str
        As `Failing` writes itself.
    until_ns : int
        [ns] Everything until then is known as well: its keys were dropped.
    """

    def __init__(self, keys: Iterable[str], until_ns: int = -1) -> None:
        self._by_ends: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        self._until_ns = until_ns
        for key in keys:
            orig, resp, ts_ns, *seq = key.split(" ")
            self._by_ends[orig, resp].append((int(ts_ns), int(seq[0]) if seq else -1))

    def holds(self, failing: Failing) -> bool:
        """Tell whether this failure is known, seen as it was then."""
        if failing.ts_ns <= self._until_ns:
            return True
        known = self._by_ends.get(failing[:2], ())
        return any(ts_ns == failing.ts_ns or _is_same(seq, failing.seq, failing.ts_ns - ts_ns) for ts_ns, seq in known)

    def left_of(self, failing: Failing, loss: Loss | None) -> bool:
        """Tell whether this is what a piece of the recording has left of an earlier request, and no failure of its own.

        Parameters
        ----------
        failing : Failing
            As seen now.
        loss : Loss or None
            The same, with what is known of its connection.

        Returns
        -------
        bool
        """
        if loss is None:
            return False
        may_be_rest = is_cut(loss) and loss.depth == 0 and loss.method is Method.NONE
        ages_ns = [(failing.ts_ns - ts_ns, seq) for ts_ns, seq in self._by_ends.get(failing[:2], ())]
        return any(
            age_ns > 0 and (_is_same(seq, failing.seq, age_ns) or (may_be_rest and age_ns <= _REPEATED_FOR_NS))
            for age_ns, seq in ages_ns
        )


def is_cut(loss: Loss | None) -> bool:
    """Tell whether a piece of the recording lacks the beginning of a connection: what is left may look otherwise."""
    return loss is not None and loss.connection.syn_frames == 0


def is_under_way(loss: Loss | None, since_ns: int) -> bool:
    """Tell whether a request may still be answered: it is later than `since_ns`, and nobody has closed."""
    return loss is not None and loss.connection.closing_ts_ns < 0 and loss.request_ts_ns > since_ns


def _is_same(seq: int, other_seq: int, age_ns: int) -> bool:
    return seq >= 0 and seq == other_seq and abs(age_ns) <= _REPEATED_FOR_NS
