"""Answers that came before the request was whole, and that the proxy lost: its log says which.

Packets show such an answer and the RST behind it, not whether the proxy had read it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.proxy.join.ledger import EntryVerdict
from pcapdiag.proxy.join.symptoms import BODY

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis


def add_lost_answers(analysis: Analysis) -> Analysis:
    """Return an analysis whose losses hold the early answers that the error log calls failed before they were read.

    Parameters
    ----------
    analysis : Analysis
        With the joined logs, if they were given.

    Returns
    -------
    Analysis
        With a log, no other early answer is left: it was read.
    """
    if analysis.log is None or not analysis.early:
        return analysis
    told = {
        joined.wire.key
        for joined in analysis.log.entries
        if joined.wire is not None and joined.verdict is EntryVerdict.EXPLAINED and joined.entry.action != BODY
    }
    lost = [loss for loss in analysis.early if (loss.connection.conn, loss.depth) in told]
    if not lost:
        return analysis
    n_more = Counter(loss.connection.resp for loss in lost)
    losses = sorted((*analysis.losses, *lost), key=lambda loss: (loss.connection.capture_idx, loss.request_frame))
    return replace(
        analysis,
        losses=tuple(losses),
        early=tuple(loss for loss in analysis.early if loss not in lost),
        upstreams=tuple(replace(u, unanswered=u.unanswered + n_more[u.endpoint]) for u in analysis.upstreams),
    )
