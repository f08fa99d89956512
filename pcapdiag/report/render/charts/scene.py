"""What all charts are drawn from: tries with their causes, names of upstreams, the span of time.

Knows analysis and report; names and targets come from the report alone, where they are redacted. Draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import Leg, Outcome
from pcapdiag.base.findings import Role
from pcapdiag.base.units import NS_PER_MS, format_address, format_ts_ns
from pcapdiag.privacy.escape import shorten, visible
from pcapdiag.report.anchors import Anchors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.report.model import FindingDetail, OccurrenceDetail, Report

_MOST_NAME = 40


@dataclass(frozen=True, slots=True)
class DrawnFailure:
    """One occurrence of a finding that cost a request; `gap_ns` is -1 on a fresh connection.

    `anchor` is where the page says more of it; of very many it stands for `number`.
    """

    ts_ns: int
    gap_ns: int
    code: str
    name: str
    occurrence: OccurrenceDetail
    anchor: str = ""

    @property
    def number(self) -> int:
        """How many failures this one stands for."""
        return self.occurrence.stands_for


@dataclass(frozen=True)
class Scene:
    """An analysis and its report, as charts need them."""

    analysis: Analysis
    report: Report

    @cached_property
    def peer_names(self) -> dict[str, str]:
        """What the report calls each upstream endpoint."""
        ours, theirs = self.analysis.upstreams, self.report.upstreams
        return {str(a.endpoint): shorten(visible(b.endpoint), _MOST_NAME) for a, b in zip(ours, theirs, strict=True)}

    @cached_property
    def peer_labels(self) -> dict[str, str]:
        """The names of the report, made visible and short enough for a label."""
        return {u.endpoint: shorten(visible(u.endpoint), _MOST_NAME) for u in self.report.upstreams}

    def label(self, peer: str) -> str:
        """Return what the report calls an upstream that a log or a finding names."""
        return self.peer_names.get(peer) or self.peer_labels.get(peer) or shorten(visible(peer), _MOST_NAME)

    @cached_property
    def anchors(self) -> Anchors:
        """Where the page says more of each occurrence."""
        return Anchors(self.report)

    @cached_property
    def log_ahead_ns(self) -> int:
        """[ns] The error log's clock minus the capture's, zone taken off; 0 if it was not measured."""
        return self.report.log.clock_offset_ns or 0

    @cached_property
    def failures(self) -> tuple[DrawnFailure, ...]:
        """Every lost request, attempt or cut response with its cause, by time."""
        lost = {(loss.connection.uid, loss.depth): loss for loss in (*self.analysis.losses, *self.analysis.truncated)}
        return tuple(
            sorted(
                (
                    DrawnFailure(o.request_ts_ns, o.idle_before_ns, f.code, f.name, o, self.anchors.of(o))
                    for f in self.report.findings
                    if f.role in (Role.CAUSE, Role.UNEXPLAINED)
                    for o in f.occurrences
                    if (o.uid, o.depth) in lost and o.request_ts_ns >= 0
                ),
                key=lambda f: (f.ts_ns, f.code, f.occurrence.uid, f.occurrence.depth),
            )
        )

    def findings(self, role: Role) -> tuple[FindingDetail, ...]:
        """Return the findings of the rule that has a role."""
        return tuple(f for f in self.report.findings if f.role is role)

    @cached_property
    def span_ns(self) -> tuple[int, int]:
        """First and last time of the capture, at least a millisecond apart; (-1, -1) without a frame."""
        first, last = self.analysis.first_ts_ns, self.analysis.last_ts_ns
        return (first, max(last, first + NS_PER_MS)) if first >= 0 else (-1, -1)

    @cached_property
    def upstream_of_conn(self) -> NDArray[np.int64]:
        """Number of the upstream of each connection; -1 for the client's leg and whatever else."""
        rows = self.analysis.connections
        numbers = {(u.endpoint.address, u.endpoint.port): number for number, u in enumerate(self.analysis.upstreams)}
        result = np.full(len(rows), -1, dtype=np.int64)
        index = np.flatnonzero(self.analysis.legs == Leg.UPSTREAM)
        keys = list(zip(*(rows[name][index].tolist() for name in ("resp_hi", "resp_lo", "resp_port")), strict=True))
        known = {key: numbers.get((format_address(key[0], key[1]), key[2]), -1) for key in set(keys)}
        result[index] = [known[key] for key in keys]
        return result

    def requests(self) -> Iterator[DrawnRequests]:
        """Yield all requests to upstreams, a chunk at a time: a capture may hold more than memory does."""
        group_of_conn = self.upstream_of_conn
        for chunk in self.analysis.exchanges.chunks():
            conn = chunk["conn"]
            kept = np.flatnonzero((group_of_conn[conn] >= 0) & (chunk["request_ts_ns"] >= 0))
            yield DrawnRequests(
                ts_ns=chunk["request_ts_ns"][kept],
                gap_ns=chunk["idle_before_ns"][kept],
                frame=chunk["request_frame"][kept],
                conn=conn[kept].astype(np.int64),
                upstream=group_of_conn[conn[kept]],
                is_answered=np.isin(chunk["outcome"][kept], _ANSWERED),
            )


_ANSWERED = (Outcome.ANSWERED, Outcome.PENDING)


@dataclass(frozen=True, slots=True)
class DrawnRequests:
    """Requests to upstreams; arrays of one length. Times and gaps in ns, `frame` 0-based, -1 is none."""

    ts_ns: NDArray[np.int64]
    gap_ns: NDArray[np.int64]
    frame: NDArray[np.int64]
    conn: NDArray[np.int64]
    upstream: NDArray[np.int64]
    is_answered: NDArray[np.bool_]


def clock_text(ts_ns: int) -> str:
    """Return the time of day in UTC to the millisecond."""
    return format_ts_ns(ts_ns)[11:23] if ts_ns >= 0 else "unknown time"


def time_format(span_ns: int) -> str:
    """Return the format of labels on a time axis of that length."""
    seconds = span_ns / 1e9
    if seconds < 5:
        return "%H:%M:%S.%L"
    return "%H:%M:%S" if seconds < 3600 else "%H:%M" if seconds < 86_400 else "%d %b %H:%M"
