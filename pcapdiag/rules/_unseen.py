"""What the capture lacks, although the other side acknowledged it, or a log tells of it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pcapdiag.base.codes import Direction, ExchangeFlag, Key, Protocol
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.proxy.logs.entries import SENDING, LogKind

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis, KeySegment, Loss
    from pcapdiag.proxy.logs.entries import ErrorEntry

_ENDED = (LogKind.PREMATURE_CLOSE, LogKind.UPSTREAM_CLOSED)


def ended_by_log(analysis: Analysis) -> frozenset[tuple[int, int]]:
    """Return the tries, by connection and depth, of which the proxy's log says that the upstream ended them."""
    tries = analysis.log.tries if analysis.log is not None else ()
    return frozenset(joined.wire.key for joined in tries if any(map(_is_end, joined.entries)))


def sending_by_log(analysis: Analysis) -> frozenset[tuple[int, int]]:
    """Return the tries, by connection and depth, that failed while the proxy was sending the request, as its log says.

    nginx says so until it has handed all of the request over to its kernel.
    """
    tries = analysis.log.tries if analysis.log is not None else ()
    return frozenset(joined.wire.key for joined in tries if any(entry.action == SENDING for entry in joined.entries))


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
    if loss.flags & (ExchangeFlag.INTERIM | ExchangeFlag.PIPELINED) or loss.connection.protocol is Protocol.TLS:
        return 0
    return _n_unseen(loss, closing)


def has_taken_records(loss: Loss, closing: KeySegment | None) -> bool:
    """Tell whether a closing of the proxy acknowledges TLS records that the capture lacks: maybe a close_notify."""
    return loss.connection.protocol is Protocol.TLS and _n_unseen(loss, closing) > 0


def _n_unseen(loss: Loss, closing: KeySegment | None) -> int:
    if closing is None or closing.ack < 0 or loss.request_ack < 0 or loss.is_connect or loss.stream > 0:
        return 0
    # A segment without data stands behind what was sent before it, whether that was captured or not.
    captured = (k for k in loss.keys.values() if k.dir is Direction.RESP and (k.payload_len or k.kind_name == "FIN"))
    ends = (k.next_seq for k in captured)
    seen = max((sequence_difference(end, loss.request_ack) for end in ends), default=0)
    return max(sequence_difference(closing.ack, loss.request_ack) - max(seen, 0), 0)


def has_unseen_proxy_fin(loss: Loss) -> bool:
    """Tell whether the proxy closed first, although the capture lacks its FIN.

    The upstream's FIN or RST acknowledges exactly one sequence number more than the whole request, and nobody can
    acknowledge what was not sent: the number is a FIN's (RFC 9293 section 3.4).
    """
    closing = end_of_upstream(loss)
    if closing is None or closing.ack < 0 or loss.request_seq < 0 or loss.is_connect or loss.stream > 0:
        return False
    if loss.flags & (ExchangeFlag.REQUEST_OPEN | ExchangeFlag.PIPELINED) or Key.ORIG_FIN in loss.keys:
        return False
    # What follows a request that nobody can frame is no request of its own.
    sent = (segment.next_seq for segment in loss.keys.values() if segment.dir is Direction.ORIG)
    n_sent = max(sequence_difference(end, loss.request_seq) for end in (loss.request_end_seq, *sent))
    return sequence_difference(closing.ack, loss.request_seq) - n_sent == 1


def has_unseen_answer(loss: Loss) -> bool:
    """Tell whether the upstream had sent bytes since the request that the capture lacks: most likely the answer.

    Its FIN or RST stands behind them in sequence numbers. Inside TLS, and beside other answers, they may be others.
    """
    closing = end_of_upstream(loss)
    if closing is None or loss.is_connect or loss.request_ack < 0 or loss.stream > 0:
        return False
    is_framed = loss.connection.protocol in (Protocol.HTTP1, Protocol.FASTCGI)
    if not is_framed or loss.flags & (ExchangeFlag.PIPELINED | ExchangeFlag.INTERIM):
        return False
    sent = (segment.next_seq for segment in loss.keys.values() if segment.dir is Direction.RESP and segment.payload_len)
    n_seen = max((sequence_difference(end, loss.request_ack) for end in sent), default=0)
    return sequence_difference(closing.seq, loss.request_ack) > max(n_seen, 0)


def silent_ns(loss: Loss, closing: KeySegment) -> int:
    """Return how long the upstream had been silent inside its response when the proxy closed.

    Bytes that the capture lacks count as late as they were acknowledged: until then they may have come at any time.

    Parameters
    ----------
    loss : Loss
        A truncated response.
    closing : KeySegment
        Of the proxy.

    Returns
    -------
    int
        [ns] -1 if it is not known.
    """
    last = loss.keys.get(Key.RESPONSE_END) or loss.keys.get(Key.RESPONSE)
    if not loss.flags & ExchangeFlag.HOLE:
        return closing.ts_ns - last.ts_ns if last is not None else -1
    return closing.ts_ns - loss.response_last_ns if 0 <= loss.response_last_ns <= closing.ts_ns else -1


def end_of_upstream(loss: Loss) -> KeySegment | None:
    """Return the upstream's FIN or RST, of both the first."""
    ends = [loss.keys[key] for key in (Key.RESP_FIN, Key.RESP_RST) if key in loss.keys]
    return min(ends, key=lambda segment: (segment.ts_ns, segment.frame), default=None)
