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
    from pcapdiag.proxy.join.ledger import Ledger


def add_lost_answers(analysis: Analysis) -> Analysis:
    """Return an analysis whose losses hold the early answers that the error log calls failed before they were read.

    Parameters
    ----------
    analysis : Analysis
        With the joined logs, if they were given.

    Returns
    -------
    Analysis
        Where the log tells of this capture, no other early answer is left: it was read.
    """
    log = analysis.log
    if log is None or not analysis.early:
        return analysis
    told = {
        joined.wire.key
        for joined in log.entries
        if joined.wire is not None and joined.verdict is EntryVerdict.EXPLAINED and joined.entry.action != BODY
    }
    lost = [loss for loss in analysis.early if (loss.connection.conn, loss.depth) in told]
    left = () if _is_testimony(log) else tuple(loss for loss in analysis.early if loss not in lost)
    n_more = Counter(loss.connection.resp for loss in lost)
    losses = sorted((*analysis.losses, *lost), key=lambda loss: (loss.connection.capture_idx, loss.request_frame))
    return replace(
        analysis,
        losses=tuple(losses),
        early=left,
        upstreams=tuple(replace(u, unanswered=u.unanswered + n_more[u.endpoint]) for u in analysis.upstreams),
    )


def _is_testimony(log: Ledger) -> bool:
    """Tell whether it means something that a log is silent: it is of this capture, and knows nothing unexplained."""
    if log.outside:
        return False
    is_tied = log.has_errors and log.clock is not None and log.clock.pairs > 0
    return is_tied or log.names_tries
