"""What a RST tells of who sent it and why, as predicates that the rules share.

Hops and times tell who sent it, acknowledgement numbers in answer to what. All functions are pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.base.codes import CapturePoint, Key
from pcapdiag.rules._ends import is_fin_first, proved
from pcapdiag.rules._peers import hop_count, own_ttl
from pcapdiag.rules._wire import (
    has_unseen_fin,
    is_acknowledged,
    is_closed_by_upstream,
    is_gap_at_timeout,
    is_partly_acknowledged,
    is_sent_unread,
    upstream_closing,
)

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis, Loss, Upstream

_CLEAR_RTT_NS = 2_000_000
"""Below this RTT, "faster than the path" cannot be told from a fast answer."""


def has_foreign_hops(analysis: Analysis, loss: Loss) -> bool:
    """Tell whether the RST came over another number of hops than what the upstream itself sent."""
    rst = loss.keys.get(Key.RESP_RST)
    if rst is None:
        return False
    of_rst, of_upstream = hop_count(rst.ttl), hop_count(own_ttl(analysis, loss))
    return of_rst >= 0 <= of_upstream and of_rst != of_upstream


def is_rst_too_fast(analysis: Analysis, loss: Loss, upstream: Upstream | None) -> bool:
    """Tell whether the RST answers the request sooner than the path to the upstream allows.

    Only a RST that answers says anything: one of the upstream's own accord carries an acknowledgement number from
    before the request and may come at any time.
    """
    rst = loss.keys.get(Key.RESP_RST)
    if rst is None or upstream is None or upstream.rtt_min_ns < _CLEAR_RTT_NS:
        return False
    points = analysis.capture_points
    capture = loss.connection.capture_idx
    if capture >= len(points) or points[capture] is not CapturePoint.PROXY:
        return False
    answers = rst.ack < 0 or rst.acknowledges(loss.request_end_seq)
    return answers and 0 <= rst.ts_ns - loss.request_ts_ns < upstream.rtt_min_ns // 2


def is_from_middlebox(analysis: Analysis, loss: Loss, upstream: Upstream | None) -> bool:
    """Tell whether the RST was sent by something on the path that is not the upstream.

    A capture of the upstream's end knows; without one, hops and times tell.
    """
    kind = proved(analysis, loss)
    if kind in (ProofKind.FORGED_RST, ProofKind.LOST_STATE, ProofKind.CLOSED_FIRST):
        return kind is ProofKind.FORGED_RST
    return has_foreign_hops(analysis, loss) or is_rst_too_fast(analysis, loss, upstream)


def is_lone_rst(loss: Loss) -> bool:
    """Tell whether a RST without FIN ended the connection and nothing else acknowledged the request.

    The RST's own acknowledgement number is left out: whoever sent it could make it up.
    """
    closing = upstream_closing(loss)
    return (
        closing is not None
        and closing.key is Key.RESP_RST
        and Key.RESP_FIN not in loss.keys
        and loss.crossing is None
        and not loss.is_acknowledged
        and is_closed_by_upstream(loss)
    )


def is_reset_by_middlebox(analysis: Analysis, loss: Loss, upstream: Upstream | None) -> bool:
    """Tell whether the one thing that answered a request on a reused connection was a RST from somewhere else.

    Where the upstream is known to have closed by itself, that is the cause, whoever sends a RST as well.
    """
    return (
        loss.is_reused
        and is_lone_rst(loss)
        and not has_unseen_fin(loss)
        and not is_sent_unread(loss)
        and is_from_middlebox(analysis, loss, upstream)
    )


def is_reset_by_upstream(analysis: Analysis, loss: Loss, upstream: Upstream | None) -> bool:
    """Tell whether the one thing that answered a request on a reused connection was a RST that had not got it."""
    return (
        loss.is_reused
        and is_lone_rst(loss)
        and not is_acknowledged(loss)
        and not is_partly_acknowledged(loss)
        and not has_unseen_fin(loss)
        and not is_sent_unread(loss)
        and not is_from_middlebox(analysis, loss, upstream)
    )


def is_own_rst(loss: Loss) -> bool:
    """Tell whether the RST was sent of the upstream's own accord: it acknowledges what came before the request.

    A RST that answers the request acknowledges nothing or all of it (RFC 9293 section 3.10.7.1).
    """
    rst = loss.keys.get(Key.RESP_RST)
    return (
        rst is not None
        and loss.request_seq >= 0
        and rst.acknowledges(loss.request_seq)
        and not rst.acknowledges((loss.request_seq + 1) & 0xFFFFFFFF)
    )


def is_reset_after_lost_fin(analysis: Analysis, loss: Loss, upstream: Upstream | None) -> bool:
    """Tell whether a RST alone is what is left of an idle close whose FIN was lost on the way.

    A capture of the upstream's end shows the FIN, or that there was none; without one, the idle gap tells.
    """
    if not is_reset_by_upstream(analysis, loss, upstream):
        return False
    if proved(analysis, loss) is ProofKind.LOST_STATE:
        return False
    return is_fin_first(analysis, loss) or is_gap_at_timeout(loss, upstream)
