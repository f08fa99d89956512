"""Answers that came before the request was whole, and that the proxy lost: its log says which.

Packets show such an answer and the RST behind it, not whether the proxy had read it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.analysis.losses import with_losses
from pcapdiag.proxy.join.ledger import EntryVerdict
from pcapdiag.proxy.logs.entries import BODY

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
    others = tuple(loss for loss in analysis.early if (loss.connection.conn, loss.depth) not in told)
    left = () if _is_testimony(log) else others
    return replace(with_losses(analysis, lost), early=left)


def _is_testimony(log: Ledger) -> bool:
    """Tell whether it means something that a log is silent: it is of this capture, and knows nothing unexplained."""
    if log.outside:
        return False
    is_tied = log.has_errors and log.clock is not None and log.clock.pairs > 0
    return is_tied or log.names_tries
