"""What the wire says of a lost request, as predicates that the rules share.

Acknowledgement numbers decide who had what; times only measure how long something took. All functions are pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.codes import CapturePoint, Direction, ExchangeFlag, Key, Protocol
from pcapdiag.base.findings import Confidence
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.rules._unseen import end_of_upstream, has_unseen_answer, has_unseen_proxy_fin

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis, KeySegment, Loss, Upstream
    from pcapdiag.base.findings import Note

READ_LAG_NS = 1_000_000
"""A FIN that reached the proxy this shortly before the request had not been read yet: still the race."""

_AT_ONCE_NS = 100_000_000
"""What comes this soon behind an answer met no idle connection."""

_PRECONNECTED_NS = 1_000_000_000
"""A fresh connection without request for so long was opened ahead of need and can go stale."""

_WRITE_TIMEOUT_NS = 1_000_000_000
_AT_AGE_NS = 10_000_000
_FOREVER_NS = 1 << 62
_DOUBTFUL_NOTES = ("interface-drops", "one-sided", "holes", "connections-evicted")
"""Capture notes that say segments are missing: what was not seen may have happened."""


def upstream_of(analysis: Analysis, loss: Loss) -> Upstream | None:
    """Return the upstream that a request was sent to."""
    return analysis.upstream_by_endpoint.get(loss.connection.resp)


def is_acknowledged(loss: Loss) -> bool:
    """Tell whether the upstream's kernel had the whole request, by any segment of it.

    Of an upload that was not finished it had what was sent, which is not the whole.
    """
    if is_unfinished(loss) or is_closed_inside(loss):
        return False
    return loss.is_acknowledged or any(
        segment is not None and segment.acknowledges(loss.request_end_seq)
        for segment in (loss.keys.get(Key.RESP_FIN), loss.keys.get(Key.RESP_RST))
    )


def is_unfinished(loss: Loss) -> bool:
    """Tell whether the proxy stopped sending before the announced end of the request; a hole hides where it ends.

    A stream of HTTP/2 may stay open for more: there only what was sent, and is not acknowledged, was stopped.
    """
    if loss.stream > 0 and loss.is_acknowledged:
        return False
    return bool(loss.flags & ExchangeFlag.REQUEST_OPEN) and not loss.flags & ExchangeFlag.HOLE


def is_closed_inside(loss: Loss) -> bool:
    """Tell whether the upstream's FIN acknowledges a part of the request only: it closed before it had it all.

    What its kernel acknowledges behind that FIN, by a RST most often, no application reads any more.
    """
    fin = loss.keys.get(Key.RESP_FIN)
    if fin is None or loss.request_seq < 0 or loss.stream > 0 or fin.acknowledges(loss.request_end_seq):
        return False
    return fin.acknowledges((loss.request_seq + 1) & 0xFFFFFFFF)


def is_partly_acknowledged(loss: Loss) -> bool:
    """Tell whether the upstream's kernel had some bytes of the request, but not all."""
    if is_acknowledged(loss):
        return False
    after_request = (loss.request_seq + 1) & 0xFFFFFFFF
    return bool(loss.flags & (ExchangeFlag.ACKNOWLEDGED_PART | ExchangeFlag.ACKNOWLEDGED)) or any(
        segment is not None and segment.acknowledges(after_request)
        for segment in (loss.keys.get(Key.RESP_FIN), loss.keys.get(Key.RESP_RST))
    )


def upstream_closing(loss: Loss) -> KeySegment | None:
    """Return the upstream's first FIN, RST or RST_STREAM, or what came instead of a response.

    That is a TLS alert, or FastCGI's end of a request.
    """
    closing = _first(loss.keys.get(Key.RESP_RESET_STREAM), end_of_upstream(loss))
    closing = _first(loss.keys.get(Key.RESP_END_REQUEST), closing)
    alert = loss.keys.get(Key.UNSOLICITED)
    is_reply = alert is not None and loss.request_seq >= 0 and alert.acknowledges((loss.request_seq + 1) & 0xFFFFFFFF)
    return _first(alert, closing) if is_reply else closing


def proxy_closing(loss: Loss) -> KeySegment | None:
    """Return the first FIN, RST, RST_STREAM or FCGI_ABORT_REQUEST of the proxy."""
    closing = _first(loss.keys.get(Key.ORIG_FIN), loss.keys.get(Key.ORIG_RST))
    closing = _first(loss.keys.get(Key.ORIG_ABORT), closing)
    return _first(loss.keys.get(Key.ORIG_RESET_STREAM), closing)


def is_closed_by_proxy(loss: Loss) -> bool:
    """Tell whether the proxy closed before it had heard of any closing of the upstream."""
    of_proxy, of_upstream = proxy_closing(loss), upstream_closing(loss)
    if of_proxy is None or of_upstream is None:
        return of_proxy is not None or has_unseen_proxy_fin(loss)
    if of_proxy.acknowledges(of_upstream.next_seq) and of_upstream.kind_name == "FIN":
        return False
    if of_upstream.acknowledges(of_proxy.next_seq) and of_proxy.kind_name == "FIN":
        return True
    return (of_proxy.ts_ns, of_proxy.frame) < (of_upstream.ts_ns, of_upstream.frame)


def is_closed_by_upstream(loss: Loss) -> bool:
    """Tell whether the upstream closed, and did so first."""
    return upstream_closing(loss) is not None and not is_closed_by_proxy(loss)


def has_unseen_fin(loss: Loss) -> bool:
    """Tell whether the upstream closed although the capture lacks its FIN.

    The proxy's FIN acknowledges exactly one sequence number more than the request did, no byte of a response is there
    to be acknowledged, and nothing acknowledges the request: the number is a FIN's.
    """
    fin = loss.keys.get(Key.ORIG_FIN)
    return (
        fin is not None
        and not loss.is_connect
        and Key.RESP_FIN not in loss.keys
        and Key.RESPONSE not in loss.keys
        and loss.request_ack >= 0
        and fin.ack >= 0
        and sequence_difference(fin.ack, loss.request_ack) == 1
        and not is_acknowledged(loss)
        and not is_partly_acknowledged(loss)
    )


def is_one_way(loss: Loss) -> bool:
    """Tell whether nothing of the upstream's direction was captured: not even whether it had the request is known."""
    return loss.connection.resp_ttl < 0 and not any(segment.dir is Direction.RESP for segment in loss.keys.values())


def was_idle(loss: Loss) -> bool:
    """Tell whether the connection was idle before the request: used before, or opened a good while ahead of need."""
    if is_among_others(loss):
        return False
    opened = opened_ns(loss)
    return loss.is_reused or (opened >= 0 and loss.request_ts_ns - opened >= _PRECONNECTED_NS)


def is_among_others(loss: Loss) -> bool:
    """Tell whether other HTTP/2 streams of its connection were open when the request was sent."""
    return loss.stream > 0 and bool(loss.flags & ExchangeFlag.PIPELINED)


def is_refused_while_in_use(loss: Loss) -> bool:
    """Tell whether a stream was not processed for another reason than the end of an idle connection.

    An idle connection is ended by a GOAWAY without error, and a FIN that crosses the request.
    """
    if not loss.flags & ExchangeFlag.NOT_PROCESSED:
        return False
    return loss.crossing is None or loss.stream_error != 0 or not loss.idle_before_ns >= _AT_ONCE_NS


def opened_ns(loss: Loss) -> int:
    """[ns] Return when the connection of its first request was opened, as far as that was seen; else -1."""
    connection = loss.connection
    if loss.is_reused or loss.is_connect or connection.orig_isn < 0:
        return -1
    return connection.first_ts_ns + max(connection.handshake_resp_ns, 0) + max(connection.handshake_orig_ns, 0)


def is_sent_unread(loss: Loss) -> bool:
    """Tell whether bytes on a connection in use left before their sender's kernel had the answer before them.

    They answer to nothing that it says: the rest of a request that was answered before it was whole, most likely.
    """
    before = loss.keys.get(Key.RESPONSE_BEFORE)
    if before is None or loss.request_ack < 0 or not 0 <= loss.idle_before_ns < _AT_ONCE_NS:
        return False
    is_framed = loss.is_framed or loss.flags & ExchangeFlag.PIPELINED or loss.stream > 0
    return not is_framed and sequence_difference(loss.request_ack, before.next_seq) < 0


def is_closed_at_once(loss: Loss) -> bool:
    """Tell whether bytes that cannot be read crossed a closing right behind the last answer.

    They may be the next request, or the rest of one that was answered before it was whole.
    """
    if is_sent_unread(loss):
        return True
    is_readable = loss.connection.protocol in (Protocol.HTTP1, Protocol.FASTCGI, Protocol.HTTP2)
    return not is_readable and 0 <= loss.idle_before_ns < _AT_ONCE_NS


def is_half_closed_at_the_end(loss: Loss) -> bool:
    """Tell whether the capture of a connection ends with its sender's FIN: an answer could still follow."""
    fin = loss.keys.get(Key.ORIG_FIN)
    others = (Key.ORIG_RST, Key.RESP_FIN, Key.RESP_RST)
    if fin is None or any(key in loss.keys for key in others) or loss.flags & ExchangeFlag.LATE_ANSWER:
        return False
    return loss.connection.last_ts_ns - fin.ts_ns <= max(loss.connection.rtt_min_ns, READ_LAG_NS)


def fin_lag_ns(analysis: Analysis, loss: Loss) -> int:
    """Return how long the proxy had the upstream's FIN before it sent the request; -1 if it had not.

    It had it if the request's own acknowledgement number covers the FIN. At another capture point than the proxy the
    way from there to the proxy and back is taken off: it is as long as the answer to a SYN-ACK took. At the proxy that
    answer takes its kernel a moment, which is no way.
    """
    fin = loss.keys.get(Key.RESP_FIN)
    if fin is None or loss.request_ack < 0 or sequence_difference(loss.request_ack, fin.next_seq) < 0:
        return -1
    points, capture = analysis.capture_points, loss.connection.capture_idx
    is_at_proxy = capture < len(points) and points[capture] is CapturePoint.PROXY
    way = 0 if is_at_proxy else max(loss.connection.handshake_orig_ns, 0)
    return max(loss.request_ts_ns - fin.ts_ns - way, 0)


def had_fin(analysis: Analysis, loss: Loss) -> bool:
    """Tell whether the proxy had the upstream's FIN when it sent the request, and time to read it.

    A FIN behind an answer of just now met no idle connection: there the acknowledgement alone decides.
    """
    lag = fin_lag_ns(analysis, loss)
    return lag > READ_LAG_NS or (lag >= 0 and 0 <= loss.idle_before_ns < _AT_ONCE_NS)


def not_reading_ns(loss: Loss) -> int:
    """Return how long the proxy's own window was zero when the response broke off; -1 if it was open, or just closed.

    Who sends to a full window waits for a write timeout, which no server has below a second.
    """
    full, closing = loss.keys.get(Key.ORIG_ZERO_WINDOW), upstream_closing(loss)
    if full is None or closing is None or closing.ts_ns - full.ts_ns < _WRITE_TIMEOUT_NS:
        return -1
    return closing.ts_ns - full.ts_ns


def last_sent_ns(loss: Loss) -> int:
    """Return when the last byte of the request was first sent."""
    end = loss.keys.get(Key.REQUEST_END)
    return loss.request_ts_ns if end is None else max(end.ts_ns, loss.request_ts_ns)


def last_seen_ns(analysis: Analysis, loss: Loss) -> int:
    """Return until when this request could be watched: the end of the capture."""
    return max(analysis.last_ts_ns, loss.connection.last_ts_ns)


def known_timeout(upstream: Upstream | None, *, at_least: Confidence = Confidence.LIKELY) -> tuple[int, int]:
    """Return the upstream's idle timeout and its spread [ns]: measured, or else as its Keep-Alive field announces.

    Both are -1 where neither says anything, or a measurement is less certain than `at_least`.
    """
    if upstream is None:
        return -1, -1
    timeout = upstream.idle_timeout
    if timeout is not None and timeout.confidence >= at_least:
        return timeout.value_ns, timeout.latest_ns - timeout.value_ns
    if upstream.keep_alive_s > 0:
        # Node closes up to a second later than it announces.
        return upstream.keep_alive_s * 1_000_000_000, 1_000_000_000
    return -1, -1


def timeout_range(upstream: Upstream | None, *, at_least: Confidence = Confidence.LIKELY) -> tuple[int, int]:
    """Return the least and the greatest age [ns] at which the upstream's idle timer may close a connection.

    Both are -1 where no timeout is known. One that only idle gaps enclose closes at any age beyond its least.
    """
    timeout, spread = known_timeout(upstream, at_least=at_least)
    if upstream is None or timeout < 0:
        return -1, -1
    measured = upstream.idle_timeout
    if measured is None or measured.confidence < at_least:
        return timeout, timeout + spread
    if measured.is_enclosed:
        return measured.value_ns, _FOREVER_NS
    return (measured.earliest_ns if measured.late_ns else timeout), measured.latest_ns


def is_gap_at_timeout(loss: Loss, upstream: Upstream | None) -> bool:
    """Tell whether the idle gap lies in the race window of a known idle timeout, or as close as clocks allow."""
    earliest, latest = timeout_range(upstream)
    if upstream is None or earliest < 0 or loss.idle_before_ns < 0:
        return False
    rtt = max(upstream.rtt_p50_ns, upstream.rtt_p99_ns, 0)
    tolerance = max(earliest // 50, 10_000_000)
    return earliest - rtt - tolerance <= loss.idle_before_ns <= latest + tolerance


def is_idle_close_in_server(loss: Loss, upstream: Upstream | None) -> bool:
    """Tell whether an acknowledged request met the idle timer: closed at once, at an idle gap that equals it."""
    closing = upstream_closing(loss)
    if upstream is None or closing is None or not loss.is_reused:
        return False
    if closing.key in (Key.RESP_RESET_STREAM, Key.RESP_END_REQUEST):
        return False
    if loss.flags & ExchangeFlag.NOT_PROCESSED:
        return False
    # Of a request in several segments the first may have come before the closing, and the others after it.
    is_part = is_partly_acknowledged(loss) and loss.crossing is None and is_closed_by_upstream(loss)
    if not is_part and not is_failed_in_upstream(loss):
        return False
    at_once = 2 * max(upstream.rtt_p50_ns, upstream.rtt_p99_ns, 0) + 50_000_000
    return closing.ts_ns - last_sent_ns(loss) <= at_once and is_gap_at_timeout(loss, upstream)


def is_closed_at_age(loss: Loss, upstream: Upstream | None, closing: KeySegment | None) -> bool:
    """Tell whether a connection was closed at the age at which idle ones are, whatever had come meanwhile.

    Servers that look at their timers only now and then (Tomcat's poller) do so, up to a second after the timer was up.
    """
    earliest, latest = timeout_range(upstream)
    if earliest < 0 or closing is None or loss.idle_before_ns < _AT_ONCE_NS:
        return False
    wait = closing.ts_ns - loss.request_ts_ns
    is_at_age = earliest - _AT_AGE_NS <= wait + loss.idle_before_ns <= latest + _AT_AGE_NS
    return is_at_age and 0 <= wait <= _WRITE_TIMEOUT_NS


def is_failed_in_upstream(loss: Loss) -> bool:
    """Tell whether the upstream closed, before the proxy did, with the whole request in its kernel."""
    return (
        not loss.is_connect
        and not loss.truncated
        and not loss.flags & ExchangeFlag.LATE_ANSWER
        and loss.crossing is None
        and is_closed_by_upstream(loss)
        and is_acknowledged(loss)
        and not has_unseen_answer(loss)
    )


def certainty(analysis: Analysis, loss: Loss, confidence: Confidence) -> Confidence:
    """Return `confidence`, lowered where segments of this connection or of the whole capture are missing."""
    is_doubtful = loss.connection.n_holes > 0 or any(
        note.code in _DOUBTFUL_NOTES for note in (*analysis.notes, *_capture_notes(analysis, loss))
    )
    return min(confidence, Confidence.LIKELY) if is_doubtful else confidence


def _capture_notes(analysis: Analysis, loss: Loss) -> tuple[Note, ...]:
    captures = analysis.captures
    index = loss.connection.capture_idx
    return tuple(captures[index].notes) if index < len(captures) else ()


def _first(a: KeySegment | None, b: KeySegment | None) -> KeySegment | None:
    if a is None or b is None:
        return b if a is None else a
    return a if (a.ts_ns, a.frame) <= (b.ts_ns, b.frame) else b
