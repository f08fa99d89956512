"""What is odd about the input, in words: the notes of captures and of a whole run.

Knows what each stage counted; it decides nothing, and nothing is read here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.handshake import HTTP2
from pcapdiag.analysis.tls import count_http2
from pcapdiag.base.codes import Leg, Protocol
from pcapdiag.base.findings import Note
from pcapdiag.base.units import count_of
from pcapdiag.engine.asides.collect import MOST_KEPT, AsideKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.candidates import Candidates
    from pcapdiag.analysis.handshake import TlsView
    from pcapdiag.analysis.shards import TrackerCounts
    from pcapdiag.base.tables import Table
    from pcapdiag.engine.asides.collect import Aside


def http2_notes(view: TlsView, connections: Table, legs: NDArray[np.int8]) -> Iterator[Note]:
    """Yield a note on connections to upstreams that carry HTTP/2 whose streams are not seen, or may."""
    n_unframed, n_all = count_http2(view.http2, connections, legs)
    if n_unframed:
        n_sure = int(np.count_nonzero((view.http2 == HTTP2.YES) & (legs == Leg.UPSTREAM)))
        n_unread = int(np.count_nonzero((connections["protocol"] == Protocol.HTTP2_UNREAD) & (legs == Leg.UPSTREAM)))
        how = "may carry HTTP/2 (the client offered it, and TLS 1.3 hides the choice)"
        if n_sure >= n_unframed:
            how = "carry HTTP/2"
        if 0 < n_sure < n_unframed:
            how = f"carry HTTP/2 or may ({n_sure} certainly; of the others TLS 1.3 hides the choice)"
        why = _why_unread(n_unread, n_unframed)
        yield Note(
            "http2-not-evaluated",
            f"{n_unframed} of {n_all} connections to upstreams {how}; its streams are {why}:"
            " whether a request was lost on them is not evaluated",
        )


def late_http2_notes(connections: Table, legs: NDArray[np.int8]) -> Iterator[Note]:
    """Yield a note on connections that began before the capture, to upstreams that speak HTTP/2 on others.

    Without their first bytes their frames are not found: streams, PING and SETTINGS are turns of bytes alike.
    """
    rows = connections.rows
    speaks = (rows["protocol"] == Protocol.HTTP2) & (legs == Leg.UPSTREAM)
    is_late = (rows["protocol"] == Protocol.OPAQUE) & (rows["orig_isn"] < 0) & (legs == Leg.UPSTREAM)
    if not speaks.any() or not is_late.any():
        return
    ends = ["resp_hi", "resp_lo", "resp_port"]
    n = int(np.isin(rows[is_late][ends], np.unique(rows[speaks][ends])).sum())
    if n:
        yield Note(
            "http2-began-before",
            f"{count_of(n, 'connection')} to upstreams that speak HTTP/2 began before the capture: streams are not told"
            " apart there, and a request that was lost on one may go unseen",
        )


def _why_unread(n_unread: int, n_all: int) -> str:
    """Return why streams are not seen: encrypted, or frames that could not be followed."""
    lost = "not followed (bytes of them are missing, or too many are open at once)"
    if not n_unread:
        return "encrypted"
    return lost if n_unread == n_all else f"encrypted or {lost}"


def unread_notes(asides: Sequence[Aside]) -> Iterator[Note]:
    """Yield a note where there were more frames of TLS handshakes than are kept."""
    last = max((a.frame for a in asides if a.kind is AsideKind.TLS), default=-1)
    if sum(a.kind is AsideKind.TLS for a in asides) >= MOST_KEPT:
        text = "there are more TLS handshakes than are read: what became of those after this frame is not evaluated"
        yield Note("tls-handshakes-left-out", text, frame=last)


def flood_notes(candidates: Candidates) -> Iterator[Note]:
    """Yield a note where failures were too many to look at each."""
    n_all, n_judged = candidates.n_failures, candidates.n_judged
    if n_judged < n_all:
        yield Note(
            "failures-chosen",
            f"{n_all:,} requests or connection attempts look failed, too many to judge each: {n_judged:,} of them were"
            " judged, chosen from every kind (by flags, sequence numbers and who answered) and spread over the time;"
            " each of the others counts with one of its kind next to it in time (--all judges all)",
        )


def tracker_notes(counts: TrackerCounts) -> list[Note]:
    """Return what was odd about a capture's segments."""
    notes = []
    if counts.evicted:
        notes.append(
            Note(
                "connections-evicted",
                f"{counts.evicted} idle connections were given up early to keep memory bounded; requests on them "
                "may appear on connections that seem to begin in the middle, and an attempt that was repeated later "
                "counts again",
            )
        )
    if counts.duplicates:
        notes.append(
            Note(
                "duplicate-segments",
                f"{counts.duplicates} segments were captured twice (-i any, a bridge or a mirror port); the second "
                "sight of each is ignored",
            )
        )
    if counts.outside:
        notes.append(
            Note(
                "segments-outside-window", f"{count_of(counts.outside, 'segment')} outside the window of the connection"
            )
        )
    if counts.fragments:
        notes.append(
            Note("fragments", f"{counts.fragments} IP fragments belong to datagrams completed elsewhere or never")
        )
    return notes


def connection_notes(connections: Table) -> list[Note]:
    """Return what was odd about the connections as a whole."""
    notes = []
    n_conn = len(connections)
    n_middle = int(np.count_nonzero(connections["orig_inferred"]))
    if n_middle:
        notes.append(
            Note(
                "mid-stream",
                f"{n_middle} of {n_conn} connections were already open when the capture began; who opened them is "
                "inferred",
            )
        )
    orig, resp = connections["orig_frames"], connections["resp_frames"]
    is_one_sided = ((orig == 0) & (resp > 2)) | ((resp == 0) & (orig > connections["syn_frames"]))
    # Where a whole direction is missing, its bytes are no holes that anybody lost.
    n_holes = int(connections["n_holes"][~is_one_sided].sum())
    if n_holes:
        n_bytes = int(connections["hole_bytes"][~is_one_sided].sum())
        notes.append(
            Note(
                "holes",
                f"the capture lacks {n_bytes} stream bytes in {count_of(n_holes, 'hole')} that the receiver"
                " acknowledged: packets were lost by the capture, not by the network",
            )
        )
    one_sided = int(np.count_nonzero(is_one_sided))
    if one_sided:
        notes.append(
            Note(
                "one-sided",
                f"{one_sided} of {n_conn} connections were captured in one direction only; what the other end sent is "
                "not known",
            )
        )
    return notes
