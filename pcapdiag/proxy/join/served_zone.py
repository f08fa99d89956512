"""The zone of a log that names none, from requests that were answered: they stand in the log and in the capture.

For logs whose failures are not in the capture, or that have none: no pair of entry and try tells the zone then.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.clock import Interval, find_plateaus, merge_intervals, split_zone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.proxy.join.arrivals import AnsweredRequest
    from pcapdiag.proxy.logs.entries import AccessEntry

MOST_LINES = 20_000
_MOST_SERVED = 200
_MOST_OF_KIND = 2_000
"""Lines with one request line that are compared; in more some agree by chance."""
_APART_NS = NS_PER_S // 4
"""[ns] Answers that end so close to each other are one witness: two bursts agree as easily as two requests."""
_SLACK_NS = NS_PER_S // 100
"""[ns] Times of the log are whole milliseconds, and several of them are added up."""
_WIDEST_NS = 2 * NS_PER_S
"""[ns] Lines that leave more open than this tell nothing."""
_LEAST_PAIRS = 3
_MOST_AHEAD_NS = 2 * NS_PER_S
"""[ns] The clocks must agree but for the zone."""
_MOST_ZONE_S = 14 * 3600


@dataclass(slots=True)
class ServedLines:
    """When requests began and ended by a log, by their request line, kept while the log is read for the join.

    Attributes
    ----------
    spans : dict of (str, str) to list of (int, int)
        [ns] By method and target.
    n_lines : int
        How many were kept; of more than `MOST_LINES` nothing is said.
    """

    spans: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    n_lines: int = 0

    def watch(self, entries: Iterable[AccessEntry]) -> Iterator[AccessEntry]:
        """Yield the entries as they are, and keep their times."""
        for entry in entries:
            if entry.target and entry.status > 0:
                self.n_lines += 1
                if self.n_lines <= MOST_LINES:
                    began_ns = entry.ts_ns - max(entry.request_time_ns, 0)
                    self.spans[entry.method, entry.target].append((began_ns, entry.ts_ns + entry.ts_width_ns))
            yield entry


def find_zone_s(lines: ServedLines, served: Sequence[AnsweredRequest]) -> int | None:
    """[s] Return the zone in which lines of a log are those of answered requests; None if that is not certain.

    Parameters
    ----------
    lines : ServedLines
        Of the whole log.
    served : sequence of AnsweredRequest
        Of the capture.

    Returns
    -------
    int or None
        At least three requests, and half of those that are compared, have a line by the same offset, which is a zone
        but for 2 s; by no other offset more than half as many have one.
    """
    if not lines.n_lines or lines.n_lines > MOST_LINES:
        return None
    compared = _spread(r for r in served if (r.method, r.target) in lines.spans)
    rows = [row for request in compared if (row := _row(lines, request))]
    found = find_plateaus(rows)
    if not found or found[0].pairs < max(_LEAST_PAIRS, (len(rows) + 1) // 2):
        return None
    best = found[0]
    low, high = best.low - NS_PER_S, best.high + NS_PER_S
    elsewhere = find_plateaus([kept for row in rows if (kept := [i for i in row if i.high < low or i.low > high])])
    if elsewhere and 2 * elsewhere[0].pairs > best.pairs:
        return None
    rest_ns, zone_s = split_zone(best.middle)
    return zone_s if abs(rest_ns) <= _MOST_AHEAD_NS and abs(zone_s) <= _MOST_ZONE_S else None


def _row(lines: ServedLines, request: AnsweredRequest) -> list[Interval]:
    """Return by how much the log's clock may be ahead if one of its lines is of this request."""
    spans = lines.spans[request.method, request.target]
    if len(spans) > _MOST_OF_KIND:
        return []
    # What the upstream was asked and answered lies between the beginning of its client's request and the line's end.
    ahead = (Interval(b - request.start_ns - _SLACK_NS, e - request.end_ns + _SLACK_NS) for b, e in spans)
    return merge_intervals(i for i in ahead if 0 <= i.high - i.low <= _WIDEST_NS)


def _spread(served: Iterable[AnsweredRequest]) -> list[AnsweredRequest]:
    """Return requests that ended at different times, the first ones."""
    found: list[AnsweredRequest] = []
    for request in sorted(served, key=lambda r: r.end_ns):
        if not found or request.end_ns - found[-1].end_ns >= _APART_NS:
            found.append(request)
        if len(found) == _MOST_SERVED:
            break
    return found
