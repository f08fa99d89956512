"""Two analyses of the same traffic, one per end, into what both together say: a `FarEnd`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.ends.clock import Path, measure_clock
from pcapdiag.analysis.ends.join import join_connections, read_rows
from pcapdiag.analysis.ends.prove import View, prove_attempt, prove_request, read_segments, undecided
from pcapdiag.analysis.ends.segments import match_segments, part_count
from pcapdiag.analysis.far_end import FarEnd, ProofKind
from pcapdiag.base.codes import CapturePoint, Leg
from pcapdiag.base.findings import Note
from pcapdiag.base.units import format_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.analysis.ends.join import CaptureEnd, ConnectionRow, Joined, Pair
    from pcapdiag.analysis.ends.segments import OneSided, SegmentLog
    from pcapdiag.analysis.far_end import EndClock, Proof
    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.engine.capture.batch import CaptureFile

Rows = np.ndarray[Any, Any]

_DOUBTFUL_NOTES = ("interface-drops", "one-sided", "holes", "connections-evicted")


@dataclass(frozen=True, slots=True)
class End:
    """One end: its tables, and its segments."""

    analysis: Analysis
    segments: SegmentLog


def compare_ends(near: End, far: End) -> FarEnd:
    """Join the proxy's end with the upstreams' and say what both prove.

    Parameters
    ----------
    near : End
        The proxy's captures.
    far : End
        The captures from the upstreams' end.

    Returns
    -------
    FarEnd
        To be hung on the proxy's analysis.
    """
    return _Comparison(near, far).result()


class _Comparison:
    def __init__(self, near: End, far: End) -> None:
        self._near, self._far = near, far
        analysis = near.analysis
        on_upstream_leg = np.flatnonzero(analysis.legs == Leg.UPSTREAM)
        far_connections = far.analysis.connections
        self._joined: Joined = join_connections(
            read_rows(analysis.connections, on_upstream_leg),
            read_rows(far_connections, np.arange(len(far_connections))),
        )
        pairs = self._joined.pairs
        paths: dict[tuple[int, int, int, int], int] = {}
        self._path_of = np.empty(len(pairs), dtype=np.int32)
        for number, pair in enumerate(pairs):
            key = (pair.near.capture_idx, pair.far.capture_idx, *pair.far.resp[:2])
            self._path_of[number] = paths.setdefault(key, len(paths))
        sizes = len(analysis.connections), len(far_connections)
        matched = match_segments(near.segments, far.segments, pairs, self._path_of, sizes=sizes)
        self._clocks: list[EndClock] = [
            measure_clock(Path(near_idx, far_idx, format_address(hi, lo)), number, matched.samples)
            for (near_idx, far_idx, hi, lo), number in paths.items()
        ]
        self._paths_to: dict[tuple[int, CaptureEnd], set[int]] = defaultdict(set)
        for pair, path in zip(pairs, self._path_of.tolist(), strict=True):
            self._paths_to[pair.near.capture_idx, pair.near.resp].add(path)
        self._translating = {
            path for pair, path in zip(pairs, self._path_of.tolist(), strict=True) if pair.is_translated
        }
        self._has_gaps = [any(n.code in _DOUBTFUL_NOTES for n in c.notes) for c in far.analysis.captures]
        self._spans = [_span(capture.files) for capture in far.analysis.captures]
        self._counts = self._count(matched.one_sided)
        self._missed: dict[int, int] = defaultdict(int)
        for path, n in self._counts["missed", False].items():
            self._missed[self._clocks[path].far_idx] += n

    def result(self) -> FarEnd:
        """Return everything that the far end adds."""
        joined = self._joined
        covered = {row.conn: self._clocks_of(row) for row in joined.alone}
        only_proxy = [row for row in joined.alone if any(self._covers(c, row.first_ts_ns) for c in covered[row.conn])]
        counts = self._counts
        return FarEnd(
            captures=self._far.analysis.captures,
            joined=len(joined.pairs),
            only_proxy=len(only_proxy),
            only_upstream=joined.n_far_unpaired,
            not_covered=len(joined.alone) - len(only_proxy),
            ambiguous=len(joined.ambiguous),
            renumbered=len(joined.renumbered),
            translated=sum(pair.is_translated for pair in joined.pairs),
            lost_to_upstream=sum(counts["lost", True].values()),
            lost_to_proxy=sum(counts["lost", False].values()),
            missed_by_proxy=sum(counts["missed", True].values()),
            missed_by_upstream=sum(counts["missed", False].values()),
            clocks=tuple(self._clocks),
            proofs=self._prove(),
            notes=tuple(self._notes()),
        )

    def _clocks_of(self, row: ConnectionRow) -> list[int]:
        """Return the paths on which a connection of the proxy must have gone, by others to the same upstream."""
        return sorted(self._paths_to.get((row.capture_idx, row.resp), ()))

    def _is_at_upstream(self, far_idx: int) -> bool:
        return self._far.analysis.capture_points[far_idx] in (CapturePoint.UPSTREAM, CapturePoint.UNKNOWN)

    def _paths_for(self, row: ConnectionRow) -> list[int]:
        """Return the paths on which the far captures would have known this connection, had it been there."""
        is_known = row.orig_isn >= 0 and row.resp_isn >= 0
        return [path for path in self._clocks_of(row) if is_known or path not in self._translating]

    def _view(self, path: int, near_ts_ns: int, pair: Pair | None, rows: Rows | None) -> View:
        """Return the far end of a request of this time."""
        clock = self._clocks[path]
        first_ns, last_ns = self._spans[clock.far_idx]
        missed = self._missed[clock.far_idx]
        jitter = clock.to_upstream.p99 - clock.to_upstream.min if clock.to_upstream is not None else 0
        return View(
            segments=read_segments(rows, clock.far_idx, is_flipped=pair.is_flipped)
            if pair is not None and rows is not None
            else (),
            clock_offset_ns=clock.offset_at(near_ts_ns),
            first_ns=first_ns,
            last_ns=last_ns,
            margin_ns=(clock.width_ns or 0) + jitter,
            proxy_max_ack=pair.far.orig_max_ack if pair is not None else -1,
            is_complete=not missed and not self._has_gaps[clock.far_idx] and self._is_at_upstream(clock.far_idx),
        )

    def _prove(self) -> dict[tuple[int, int], Proof]:
        """Return the proof of every loss, a bounded part of the connections at a time."""
        analysis = self._near.analysis
        losses: dict[int, list[Loss]] = defaultdict(list)
        for loss in (*analysis.losses, *analysis.truncated):
            # What ended a handshake is in clear at one end already.
            if loss.handshake is None:
                losses[loss.connection.conn].append(loss)
        proofs: dict[tuple[int, int], Proof] = {}
        wanted = [(n, pair) for n, pair in enumerate(self._joined.pairs) if pair.near.conn in losses]
        # The same far connection may belong to connections of two of the proxy's captures.
        sharing: dict[int, list[int]] = defaultdict(list)
        group_of = np.full(len(self._far.analysis.connections), -1, dtype=np.int32)
        for number, pair in wanted:
            sharing[pair.far.conn].append(number)
            group_of[pair.far.conn] = pair.far.conn
        n_part = part_count(self._far.segments)
        for part in range(n_part):
            rows, groups = self._far.segments.select(group_of, part, n_part)
            order = np.argsort(groups, kind="stable")
            starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
            for mine in np.split(order, starts[1:]) if len(order) else ():
                its_rows = rows[mine]
                for number in sharing[int(groups[mine[0]])]:
                    pair = self._joined.pairs[number]
                    for loss in losses[pair.near.conn]:
                        view = self._view(int(self._path_of[number]), loss.request_ts_ns, pair, its_rows)
                        prove = prove_attempt if loss.is_connect else prove_request
                        proofs[loss.connection.conn, loss.depth] = prove(loss, view)
        for loss, proof in self._prove_apart(losses):
            proofs.setdefault((loss.connection.conn, loss.depth), proof)
        return proofs

    def _prove_apart(self, losses: dict[int, list[Loss]]) -> Iterator[tuple[Loss, Proof]]:
        """Yield what can be said of losses on connections that are not joined."""
        reasons = dict.fromkeys(self._joined.ambiguous, "its connection cannot be told from others at the upstream")
        renumbered = "something between the two ends rewrites sequence numbers: its connection cannot be joined"
        reasons |= dict.fromkeys(self._joined.renumbered, renumbered)
        for conn, reason in reasons.items():
            yield from ((loss, undecided(reason)) for loss in losses.get(conn, ()))
        for row in self._joined.alone:
            for loss in losses.get(row.conn, ()):
                views = [self._view(path, loss.request_ts_ns, None, None) for path in self._paths_for(row)]
                if views:
                    prove = prove_attempt if loss.is_connect else prove_request
                    proofs = [prove(loss, view) for view in views]
                    # Another capture of the same upstream may have been running.
                    yield loss, min(proofs, key=lambda proof: proof.kind is ProofKind.UNDECIDED)
                else:
                    yield loss, undecided("no capture of the upstream's end holds its connection")

    def _count(self, one_sided: Iterable[OneSided]) -> dict[tuple[str, bool], dict[int, int]]:
        """Return how many segments were lost on the way and missed by a capture, by path.

        Keys are ("lost", to_upstream) and ("missed", at_proxy). What one end has from before the other's capture began
        or after it ended counts for nothing.
        """
        counts: dict[tuple[str, bool], dict[int, int]] = {
            (what, end): defaultdict(int) for what in ("lost", "missed") for end in (True, False)
        }
        spans = [_span(capture.files) for capture in self._near.analysis.captures]
        for found in one_sided:
            for path in np.unique(found.path).tolist():
                clock = self._clocks[path]
                if clock.offset_ns is None or clock.width_ns is None:
                    continue
                mine = found.path == path
                first_ns, last_ns = self._spans[clock.far_idx] if found.at_proxy else spans[clock.near_idx]
                shift = clock.offset_ns if found.at_proxy else -clock.offset_ns
                ts_ns = found.ts_ns[mine] + shift
                is_inside = (ts_ns >= first_ns + clock.width_ns) & (ts_ns <= last_ns - clock.width_ns)
                key = ("missed", not found.at_proxy) if found.is_missed else ("lost", found.to_upstream)
                counts[key][path] += int(found.n[mine][is_inside].sum())
        return counts

    def _covers(self, path: int, near_ts_ns: int) -> bool:
        return self._view(path, near_ts_ns, None, None).covers(near_ts_ns)

    def _notes(self) -> Iterator[Note]:
        joined = self._joined
        if not joined.pairs:
            text = "no connection is in both the proxy's and the upstreams' captures: other machines, or another time"
            yield Note("ends-not-joined", text)
        if joined.renumbered:
            text = (
                f"{len(joined.renumbered):,} connections have the same addresses and ports at both ends, but other"
                " sequence numbers: something on the way rewrites them (a firewall that randomises), and they cannot"
                " be joined"
            )
            yield Note("ends-renumbered", text)
        if joined.ambiguous:
            n = len(joined.ambiguous)
            text = f"{n:,} connections cannot be told from others at the other end, and are not joined"
            yield Note("ends-ambiguous", text)
        if joined.n_in_several_captures:
            text = (
                f"{joined.n_in_several_captures:,} connections are in several of the upstreams' captures; the first of"
                " these is used"
            )
            yield Note("ends-in-several-captures", text)
        for far_idx in sorted({clock.far_idx for clock in self._clocks}):
            if not self._is_at_upstream(far_idx):
                text = (
                    "this capture of the upstream's end was not taken at the upstream, by the times of its handshakes:"
                    " what it does not show may have happened, and if it is the proxy's, exchange the two"
                )
                yield Note("ends-not-at-upstream", text, file=self._far.analysis.captures[far_idx].files[0].path)
        for clock in self._clocks:
            file = self._far.analysis.captures[clock.far_idx].files[0].path
            if not clock.is_consistent:
                text = (
                    f"no offset between the clocks of the proxy and of {clock.address} fits all"
                    f" {clock.pairs:,} segments seen at both ends: a clock was set, or a capture's times are wrong;"
                    " times of the two ends are not compared"
                )
                yield Note("ends-clock-inconsistent", text, file=file)
            if clock.drift_ppb:
                text = (
                    f"the clock of {clock.address} gains {clock.drift_ppb / 1000:+.1f} microseconds per second on the"
                    " proxy's"
                )
                yield Note("ends-clock-drift", text, file=file)


def _span(files: Sequence[CaptureFile]) -> tuple[int, int]:
    """Return first and last time of a capture's files [ns]; -1 if there is no frame."""
    times = [t for file in files for t in (file.first_ts_ns, file.last_ts_ns) if t >= 0]
    return min(times, default=-1), max(times, default=-1)
