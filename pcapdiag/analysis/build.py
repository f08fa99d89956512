"""The pipeline: captures in, Analysis out; one pass, memory bounded.

Knows the order of the stages and hands each what the one before made; the stages know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.attempts import judge_attempts
from pcapdiag.analysis.candidates import find_candidates
from pcapdiag.analysis.decrypted import with_plaintext
from pcapdiag.analysis.flood import AttemptSieve
from pcapdiag.analysis.handshake import HTTP2
from pcapdiag.analysis.http2_heads import with_heads
from pcapdiag.analysis.icmp import quoted_ends, tie_icmp
from pcapdiag.analysis.inputs import NO_INPUTS, Inputs
from pcapdiag.analysis.losses import build_losses
from pcapdiag.analysis.model import Analysis
from pcapdiag.analysis.notes import (
    connection_notes,
    flood_notes,
    http2_notes,
    late_http2_notes,
    tracker_notes,
    unread_notes,
)
from pcapdiag.analysis.one_way import without_one_way
from pcapdiag.analysis.roles import assign_legs, find_capture_point
from pcapdiag.analysis.shards import ShardResult, ShardStores, TrackerCounts, join_shards, renumber, save_shard
from pcapdiag.analysis.tls import read_tls, settle_losses
from pcapdiag.analysis.twins import find_twins
from pcapdiag.analysis.undelivered import with_undelivered
from pcapdiag.analysis.upstreams import measure_upstreams
from pcapdiag.base.codes import Leg, StreamEventKind, UndecodedReason
from pcapdiag.base.columns import CONNECTIONS, SEGMENTS
from pcapdiag.base.memory import give_back
from pcapdiag.base.tables import RowStore, Table
from pcapdiag.engine.asides.collect import AsideCollector
from pcapdiag.engine.asides.tunnels import TunnelTally
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.engine.http.framer import Framer
from pcapdiag.engine.tcp.tracker import ALL, Shard, Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.base.codes import CapturePoint
    from pcapdiag.base.tables import ByteStore
    from pcapdiag.engine.capture.batch import Capture
    from pcapdiag.engine.tcp.tracker import TrackedBatch

Progress = Callable[[int, int, int], None]
"""Called with bytes read, bytes in all (-1 if unknown) and frames so far."""


@dataclass(slots=True)
class _Totals:
    """Counts over all captures of a run; times in ns, -1 for none."""

    frames: int = 0
    undecoded: int = 0
    retransmissions: int = 0
    first_ts_ns: int = -1
    last_ts_ns: int = -1


class _Run:
    """The stores and totals of one run over one or more captures."""

    def __init__(
        self,
        *,
        follow_s: float = 0.0,
        max_live: int = 0,
        with_digest: bool = False,
        keep_all: bool = False,
        on_progress: Progress | None = None,
        shard: Shard = ALL,
    ) -> None:
        self.stores = ShardStores.empty()
        self.totals = _Totals()
        self.reasons = np.zeros(len(UndecodedReason), dtype=np.int64)
        self.n_connections = 0
        # Every shard sees all frames; one keeps these for all.
        self.asides = AsideCollector() if shard.number == 0 else None
        self._sieve = AttemptSieve(is_open=keep_all, quoted=self._quoted)
        self._ends: list[NDArray[np.uint64]] = [np.empty(0, dtype=np.uint64)]
        self._n_asides = 0
        self._follow_s = follow_s
        self._max_live = max_live
        self._with_digest = with_digest
        self._on_progress = on_progress
        self._shard = shard
        self._bytes_before = 0
        self._frames_before = 0

    def read(
        self, capture: Capture, capture_idx: int, segment_sink: Callable[[Table], None] | None = None
    ) -> TrackerCounts:
        """Take one capture through all stages."""
        tracker = Tracker(
            capture_idx=capture_idx,
            first_conn=self.n_connections,
            max_live=self._max_live,
            all_segments=segment_sink is not None,
            shard=self._shard,
        )
        stores = self.stores
        framer = Framer(stores.exchanges, stores.key_segments, stores.texts)

        def take(tracked: TrackedBatch) -> None:
            framer.update(tracked)
            stores.connections.append(self._sieve.sift(tracked.conn_rows))
            if segment_sink is not None:
                segment_sink(_to_segments(tracked))

        total = sum(f.size for f in capture.files) if all(f.size >= 0 for f in capture.files) else -1
        n_frames = self._frames_before
        tunnels = TunnelTally()
        for batch in read_batches(capture, follow_s=self._follow_s, with_digest=self._with_digest):
            n_frames += len(batch.frames)
            tunnels.take(batch)
            if self.asides is not None:
                self.asides.take(batch, capture_idx)
            for tracked in tracker.update(batch):
                take(tracked)
            if self._on_progress is not None:
                if total < 0 and all(f.size >= 0 for f in capture.files):
                    total = sum(f.size for f in capture.files)
                self._on_progress(self._bytes_before + batch.bytes_read, total, n_frames)
        for tracked in tracker.finish():
            take(tracked)
        capture.notes.extend(tunnels.notes())
        self._bytes_before += max(0, total)
        self._frames_before = n_frames
        self.n_connections = tracker.n_connections
        return TrackerCounts.of(tracker)

    def read_all(self, captures: Sequence[Capture], segment_sink: Callable[[Table], None] | None) -> Sequence[Capture]:
        """Take the captures through all stages, one after the other."""
        for capture_idx, capture in enumerate(captures):
            self._note(capture, self.read(capture, capture_idx, segment_sink))
        self.close_up()
        return captures

    def join(self, shards: Sequence[ShardResult]) -> Sequence[Capture]:
        """Put together what other processes have read of the captures, and return those."""
        self.n_connections = join_shards(shards, self.stores)
        if self.asides is not None:
            self.asides.kept.extend(shards[0].asides)
        for capture, *counts in zip(shards[0].captures, *(shard.counts for shard in shards), strict=True):
            self._note(capture, TrackerCounts.of_shards(counts))
        return shards[0].captures

    def _quoted(self) -> NDArray[np.uint64]:
        """Return hashes of the ends that ICMP errors quote, so far."""
        kept = self.asides.kept if self.asides is not None else []
        if len(kept) > self._n_asides:
            self._ends = [np.concatenate((*self._ends, quoted_ends(kept[self._n_asides :])))]
            self._n_asides = len(kept)
        return self._ends[0]

    def close_up(self) -> None:
        """Take in what the sieve held back, and number connections anew where it left some out."""
        for rows in self._sieve.finish():
            self.stores.connections.append(rows)
        if self._sieve.n_dropped:
            self.n_connections = renumber(self.stores)

    def tables(self) -> tuple[Table, Table, Table, ByteStore]:
        """Return connections, exchanges, key segments and what their texts lie in."""
        stores = self.stores
        return self._sorted_connections(), stores.exchanges.table(), stores.key_segments.table(), stores.texts

    def _note(self, capture: Capture, counts: TrackerCounts) -> None:
        """Add to the totals what a capture and its tracker counted."""
        self.totals.frames += sum(f.n_frames for f in capture.files)
        self.totals.retransmissions += counts.retransmissions
        self.totals.undecoded += counts.undecoded
        self.reasons += counts.reasons
        self._note_times(capture)
        capture.notes.extend(tracker_notes(counts))

    def _note_times(self, capture: Capture) -> None:
        firsts = [f.first_ts_ns for f in capture.files if f.first_ts_ns != -1]
        lasts = [f.last_ts_ns for f in capture.files if f.last_ts_ns != -1]
        if firsts:
            first = min(firsts)
            self.totals.first_ts_ns = first if self.totals.first_ts_ns == -1 else min(self.totals.first_ts_ns, first)
            self.totals.last_ts_ns = max(self.totals.last_ts_ns, *lasts)

    def _sorted_connections(self) -> Table:
        """Return the connections so that row i is connection i."""
        unsorted, self.stores.connections = self.stores.connections, RowStore(CONNECTIONS)
        rows = CONNECTIONS.empty(self.n_connections)
        for chunk in unsorted.read_chunks():
            rows[chunk["conn"]] = chunk
        return Table(CONNECTIONS, rows)


def read_shard(
    captures: Sequence[Capture], shard: Shard, *, folder: str = "", max_live: int = 1 << 17, with_digest: bool = False
) -> ShardResult:
    """Read captures and return what they say of a share of the connections, for `build_analysis`.

    Parameters
    ----------
    captures : sequence of Capture
        As in `build_analysis`; the same in every shard.
    shard : Shard
        Which connections.
    folder : str
        Private folder for a file with the tables; empty to return them.
    max_live : int
        As in `build_analysis`, for all shards together.
    with_digest : bool
        As in `build_analysis`; the first shard does it for all.

    Returns
    -------
    ShardResult

    Raises
    ------
    CaptureError
        As in `build_analysis`.
    OSError
        The folder has no room.
    """
    run = _Run(max_live=max(1, max_live // shard.n_shards), with_digest=with_digest and shard.number == 0, shard=shard)
    counts = [run.read(capture, capture_idx) for capture_idx, capture in enumerate(captures)]
    run.close_up()
    kept = run.asides.kept if run.asides is not None else ()
    return save_shard(run.stores, captures, counts, folder, asides=kept)


def build_analysis(
    captures: Sequence[Capture],
    inputs: Inputs = NO_INPUTS,
    *,
    max_live: int = 1 << 17,
    with_digest: bool = False,
    on_progress: Progress | None = None,
    segment_sink: Callable[[Table], None] | None = None,
    shards: Sequence[ShardResult] = (),
    keep_all: bool = False,
    own_ports: Collection[int] = (),
) -> Analysis:
    """Read captures and return everything they say.

    Parameters
    ----------
    captures : sequence of Capture
        From `capture.series.group_captures`; their files and notes are filled in.
    inputs : Inputs
        Which addresses the operator names, and how long to wait for growing files.
    max_live : int
        Bound on live connections; beyond it the longest idle ones are given up, with a note.
    with_digest : bool
        Compute the SHA-256 of every file.
    on_progress : callable, optional
        See `Progress`.
    segment_sink : callable, optional
        Gets the segments (`columns.SEGMENTS`) batch by batch.
    shards : sequence of ShardResult
        What processes have read of these captures, all shards of them (`shards.read_same`): nothing is read again.
    keep_all : bool
        Keep the row of every connection, of a flood of failed attempts too.
    own_ports : collection of int
        Ports at which the proxy answers, by its configuration.

    Returns
    -------
    Analysis

    Raises
    ------
    CaptureError
        A file cannot be opened, or is not a capture.
    """
    run = _Run(
        follow_s=inputs.follow_s,
        max_live=max_live,
        with_digest=with_digest,
        # Segments name connections by the numbers that they have here.
        keep_all=keep_all or inputs.judge_all or segment_sink is not None,
        on_progress=on_progress,
    )
    captures = run.join(shards) if shards else run.read_all(captures, segment_sink)
    give_back()
    connections, exchanges, key_segments, texts = run.tables()
    proxies, upstream_endpoints = inputs.proxy_addresses, inputs.upstream_endpoints
    legs = assign_legs(connections, exchanges, proxies=proxies, upstreams=upstream_endpoints, own_ports=own_ports)
    points = tuple(_capture_points(connections, legs, len(captures)))
    twins = find_twins(connections, key_segments, legs)
    legs[twins.is_twin] = Leg.UNKNOWN
    legs[twins.of_upstream] = Leg.UPSTREAM
    give_back()
    asides = tuple(run.asides.kept) if run.asides is not None else ()
    told = quoted_ends(asides)
    candidates = find_candidates(
        connections, exchanges, key_segments, legs, run.totals.last_ts_ns, told=told, judge_all=inputs.judge_all
    )
    give_back()
    losses, truncated, early = build_losses(connections, candidates, key_segments, texts)
    truncated = with_undelivered(truncated, connections, exchanges, texts, legs)
    losses, truncated = (with_heads(lost, exchanges, texts) for lost in (losses, truncated))
    losses, truncated = tie_icmp(losses, asides), tie_icmp(truncated, asides)
    losses = judge_attempts(losses, connections, run.totals.last_ts_ns)
    view = read_tls(connections, asides)
    losses, truncated, view, key_notes = with_plaintext(losses, truncated, view, connections, captures, inputs.tls_keys)
    losses, truncated = settle_losses(losses, truncated, view, connections, exchanges, texts, legs)
    has_proxy = inputs.says_proxy or bool((legs == Leg.CLIENT).any()) or _hands_on(exchanges)
    losses = without_one_way(losses, view, exchanges, connections, is_proxied=has_proxy)
    early = tuple(loss for loss in early if view.http2[loss.connection.conn] == HTTP2.NO)
    upstreams = measure_upstreams(connections, exchanges, legs, losses, texts, unframed=view.http2 > HTTP2.NO)
    give_back()
    totals = run.totals
    return Analysis(
        captures=tuple(captures),
        connections=connections,
        exchanges=exchanges,
        key_segments=key_segments,
        texts=texts,
        legs=legs,
        losses=losses,
        truncated=truncated,
        early=early,
        upstreams=upstreams,
        capture_points=points,
        n_frames=totals.frames,
        n_undecoded=totals.undecoded,
        n_bytes=sum(max(0, f.n_bytes) for c in captures for f in c.files),
        first_ts_ns=totals.first_ts_ns,
        last_ts_ns=totals.last_ts_ns,
        n_retransmissions=totals.retransmissions,
        notes=(
            *connection_notes(connections),
            *twins.notes(),
            *http2_notes(view, connections, legs),
            *late_http2_notes(connections, legs),
            *unread_notes(asides),
            *key_notes,
            *flood_notes(candidates),
        ),
        has_proxy=has_proxy,
        twins=twins,
        undecoded_reasons={i: int(n) for i, n in enumerate(run.reasons) if n},
        asides=asides,
        tls=view,
    )


def _hands_on(exchanges: Table) -> bool:
    """Tell whether a request carries an identifier of the kind that a proxy gives it."""
    return any(bool((chunk["request_id_len"] > 0).any()) for chunk in exchanges.chunks())


def _capture_points(connections: Table, legs: NDArray[np.int8], n_captures: int) -> Iterator[CapturePoint]:
    """Yield where each capture was made."""
    for capture_idx in range(n_captures):
        mine = np.flatnonzero(connections["capture_idx"] == capture_idx)
        is_all = len(mine) == len(connections)
        yield find_capture_point(connections if is_all else connections.take(mine), legs[mine])


def _to_segments(tracked: TrackedBatch) -> Table:
    """Return the segment events as `columns.SEGMENTS` rows."""
    events = tracked.events[tracked.events["kind"] == StreamEventKind.SEGMENT]
    rows = SEGMENTS.empty(len(events))
    for name in SEGMENTS.names:
        rows[name] = events[name]
    return Table(SEGMENTS, rows)
