"""The tries at one peer as columns: which of them may be a logged one, asked of all at once.

An entry of a flood may be any of thousands of tries, and so may the next. What depends on a try alone is found once,
and what depends on an entry is looked up: by target, by the time of the moment. Knows tries and moments, no clocks.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from pcapdiag.proxy.join.ledger import WireTry
    from pcapdiag.proxy.join.symptoms import Moment

_LAST = "\U0010ffff"
_CACHED = -2
"""HEAD or GET: a cache turns one into the other (proxy_cache_convert_head)."""


class Texts:
    """Texts of tries as numbers that sort as the texts do; the empty one, which fits all others, is 0."""

    def __init__(self, texts: Iterable[str]) -> None:
        listed = list(texts)
        self._texts = sorted({"", *listed})
        number = {text: n for n, text in enumerate(self._texts)}
        self.ids = np.array([number[text] for text in listed], dtype=np.int32)

    def id_of(self, text: str) -> int:
        """Return the number of a text; -1 if no try has it."""
        at = bisect_left(self._texts, text)
        return at if at < len(self._texts) and self._texts[at] == text else -1

    def span_of(self, beginning: str) -> tuple[int, int]:
        """Return the numbers [first, last) of the texts that begin so."""
        return bisect_left(self._texts, beginning), bisect_left(self._texts, beginning + _LAST)


class Moments(NamedTuple):
    """[ns] When nginx must have logged some tries, by `low`; `at` are their rows among the tries of the peer."""

    at: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    is_open: NDArray[np.bool_]
    longest: int

    @classmethod
    def of(cls, moments: Sequence[tuple[int, Moment]]) -> Moments:
        """Return the moments of rows, in the order of their beginning."""
        at = np.array([row for row, _ in moments], dtype=np.int64)
        low = np.array([moment.low for _, moment in moments], dtype=np.int64)
        high = np.array([moment.high for _, moment in moments], dtype=np.int64)
        is_open = np.array([moment.is_open for _, moment in moments], dtype=np.bool_)
        order = np.argsort(low, kind="stable")
        return cls(at, low, high, is_open, int((high - low).max(initial=0))).take(order)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Moments:
        """Return some of them."""
        return Moments(self.at[chosen], self.low[chosen], self.high[chosen], self.is_open[chosen], self.longest)

    def meeting(self, low_ns: int, high_ns: int) -> Moments:
        """Return those that share a time with [low_ns, high_ns], by row."""
        first = int(np.searchsorted(self.low, low_ns - self.longest, side="left"))
        last = int(np.searchsorted(self.low, high_ns, side="right"))
        found = np.arange(first, last)
        found = found[self.high[first:last] >= low_ns]
        return self.take(found[np.argsort(self.at[found], kind="stable")])


class PeerTries:
    """The tries at one peer, in the order of their ends; all columns have the shape (n_try,).

    Attributes
    ----------
    positions : ndarray of int64
        Among all tries.
    ends, starts, last_sent : ndarray of int64
        [ns] When each was over, began, and was sent for the last time.
    hosts, request_ids : Texts
        What requests named.
    has_target, has_head, is_failure, is_connect : ndarray of bool
        As in `WireTry`.
    """

    def __init__(self, positions: Sequence[int], wires: Sequence[WireTry], end_of: Callable[[WireTry], int]) -> None:
        self.wires = wires
        self.positions = np.array(positions, dtype=np.int64)
        self.ends = np.array([end_of(w) for w in wires], dtype=np.int64)
        self.starts = np.array([w.start_ns for w in wires], dtype=np.int64)
        self.last_sent = np.array([w.last_sent_ns for w in wires], dtype=np.int64)
        self.hosts = Texts(w.host for w in wires)
        self.request_ids = Texts(w.request_id for w in wires)
        self._methods = Texts(w.method for w in wires)
        self._targets = Texts(w.target for w in wires)
        self._by_target = np.argsort(self._targets.ids, kind="stable")
        self._sorted_targets = self._targets.ids[self._by_target]
        self.has_target = self._targets.ids > 0
        self.has_head = np.array([w.has_head for w in wires], dtype=np.bool_)
        self.is_failure = np.array([w.is_failure for w in wires], dtype=np.bool_)
        self.is_connect = np.array([w.is_connect for w in wires], dtype=np.bool_)

    def key_of(self, method: str, uri: str, cut: int) -> tuple[int, int, int]:
        """Return what of method and target parts the tries: requests of one key fit the same ones.

        A log line may have cut a target that is longer than `cut`: its beginning counts.
        """
        known = _CACHED if method in {"HEAD", "GET"} else self._methods.id_of(method)
        if not uri:
            return known, -1, -1
        if len(uri) > cut:
            return known, *self._targets.span_of(uri)
        number = self._targets.id_of(uri)
        return (known, number, number + 1) if number >= 0 else (known, 0, 0)

    def rows_of(self, key: tuple[int, int, int]) -> NDArray[np.int64]:
        """Return the rows that fit a method and target, in order."""
        method, first, last = key
        if first < 0:
            rows = np.arange(len(self.positions))
        else:
            # What has no target fits any.
            parts = [self._by_target[self._span(a, b)] for a, b in ((0, 1), (max(first, 1), last)) if a < b]
            rows = np.sort(np.concatenate(parts))
        if method:
            alike = map(self._methods.id_of, ("GET", "HEAD")) if method == _CACHED else (method,)
            rows = rows[np.isin(self._methods.ids[rows], [0, *alike])]
        return rows

    def _span(self, first: int, last: int) -> slice:
        low, high = np.searchsorted(self._sorted_targets, [first, last], side="left").tolist()
        return slice(low, high)
