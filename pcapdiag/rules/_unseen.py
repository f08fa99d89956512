"""What the capture lacks of an upstream although the proxy acknowledged it, or its log tells of it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pcapdiag.base.codes import Direction, ExchangeFlag, Protocol
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.proxy.logs.entries import LogKind

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis, KeySegment, Loss
    from pcapdiag.proxy.logs.entries import ErrorEntry

_ENDED = (LogKind.PREMATURE_CLOSE, LogKind.UPSTREAM_CLOSED)


def ended_by_log(analysis: Analysis) -> frozenset[tuple[int, int]]:
    """Return the tries, by connection and depth, of which the proxy's log says that the upstream ended them."""
    tries = analysis.log.tries if analysis.log is not None else ()
    return frozenset(joined.wire.key for joined in tries if any(map(_is_end, joined.entries)))


def _is_end(entry: ErrorEntry) -> bool:
    # With another number than that of a reset the proxy's own kernel gave up.
    is_reset = entry.kind is LogKind.RECV_FAILED and entry.errno == errno.ECONNRESET
    return is_reset or entry.kind in _ENDED


def n_taken_unseen(loss: Loss, closing: KeySegment | None) -> int:
    """Return how many sequence numbers of the upstream a closing of the proxy acknowledges that the capture lacks.

    One is a FIN's most likely, more are an answer: who took them did not close on an upstream that said nothing. Other
    streams and interim responses are acknowledged alike, so nothing is said beside them, nor inside TLS.

    Parameters
    ----------
    loss : Loss
        An unanswered request.
    closing : KeySegment or None
        The proxy's FIN or RST.

    Returns
    -------
    int
        [bytes] 0 if there are none, or it is not known.
    """
    if closing is None or closing.ack < 0 or loss.request_ack < 0 or loss.is_connect or loss.stream > 0:
        return 0
    if loss.flags & (ExchangeFlag.INTERIM | ExchangeFlag.PIPELINED) or loss.connection.protocol is Protocol.TLS:
        return 0
    ends = (k.next_seq for k in loss.keys.values() if k.dir is Direction.RESP)
    seen = max((sequence_difference(end, loss.request_ack) for end in ends), default=0)
    return max(sequence_difference(closing.ack, loss.request_ack) - max(seen, 0), 0)
