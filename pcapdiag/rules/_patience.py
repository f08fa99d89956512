"""Who lost patience: requests that the proxy gave up, and whether it did so at a timeout of its own.

nginx's timers have a resolution of a millisecond and its directives are usually whole seconds, counted from the last
byte sent. A client that goes away counts from its own start: on a fresh upstream connection the proxy's wait is then
shorter by the time the connection took to open. Where the proxy's logs tell of the request, they decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import Direction, ExchangeFlag, Key, Leg
from pcapdiag.base.findings import Confidence
from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules._logged import without_entry
from pcapdiag.rules._stops import Stops, Testimony
from pcapdiag.rules._unseen import ended_by_log, has_taken_records, n_taken_unseen, sending_by_log, silent_ns
from pcapdiag.rules._wire import (
    has_unseen_fin,
    is_acknowledged,
    is_closed_by_proxy,
    is_half_closed_at_the_end,
    is_one_way,
    is_partly_acknowledged,
    last_sent_ns,
    proxy_closing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, KeySegment, Loss

    Ints = NDArray[np.int64]

_LATE_NS = 20_000_000
"""How late an event loop may look at its timers."""
_LATE_CONFIGURED_NS = 100_000_000
"""A wait this little above a timeout that is known to be set is that timeout."""
_EARLY_NS = 2_000_000
_SAME_NS = 15_000_000
_EXACT_NS = 2_000_000
_STEP_NS = 100_000_000
_CLIENT_LEFT = 499
"""The status that nginx logs for a request whose client went away."""
_NGINX_DEFAULT_S = 60
_AT_ONCE_NS = 20_000_000
_LAZY_NS = 300_000_000
"""nginx leaves a running timer as it is if it would move by less (NGX_TIMER_LAZY_DELAY in ngx_event_timer.h)."""
_MAX_COMPARED = 2_000
_LEAST_LATE = 4


@dataclass(frozen=True, slots=True)
class GiveUp:
    """One request that the proxy gave up while it waited.

    `wait_ns` counts from the last request byte sent. `timeout_ns` is the proxy's timeout that ran out, -1 if it was
    none. `is_logged` says that the proxy's logs say so, and not only how long it waited.
    """

    loss: Loss
    closing: KeySegment
    wait_ns: int
    timeout_ns: int
    client_left: bool
    confidence: Confidence
    is_logged: bool = False
    is_half_close: bool = False
    """Only a FIN tells of it, which says that nothing more is sent, not that nothing more is read."""
    testimony: Testimony = Testimony.NOTHING
    """What else is known of who ended it, where no timeout did."""


def give_ups(analysis: Analysis) -> Iterator[GiveUp]:
    """Yield the requests that the proxy gave up, each with the timeout that ran out if one did.

    Parameters
    ----------
    analysis : Analysis
        All tables.

    Yields
    ------
    GiveUp
        In the order of the losses.
    """
    losses = [loss for loss in analysis.losses if _is_given_up(loss)]
    if not losses:
        return
    closings = [closing for loss in losses if (closing := proxy_closing(loss)) is not None]
    waits = np.array([c.ts_ns - last_sent_ns(loss) for loss, c in zip(losses, closings, strict=True)], dtype=np.int64)
    openings = np.array([_opening_ns(loss) for loss in losses], dtype=np.int64)
    departures = client_departures(analysis)
    stops = Stops(analysis)
    told, ended, sending = told_by_log(analysis), ended_by_log(analysis), sending_by_log(analysis)
    is_proxy = _is_proxy_known(analysis)
    for loss, closing, wait, opening in zip(losses, closings, waits.tolist(), openings.tolist(), strict=True):
        is_timeout = told.get((loss.connection.conn, loss.depth))
        if is_timeout is not None:
            timeout = _logged_timeout(analysis, loss, wait) if is_timeout else -1
            confidence = Confidence.CONFIRMED
            if not is_one_way(loss) or (loss.connection.conn, loss.depth) not in sending:
                yield GiveUp(loss, closing, wait, timeout, not is_timeout, confidence, is_logged=True)
            continue
        if is_one_way(loss):
            continue  # nobody knows what it had got by then
        if (loss.connection.conn, loss.depth) in ended or n_taken_unseen(loss, closing):
            continue
        if left_just_before(departures, closing.ts_ns):
            yield GiveUp(loss, closing, wait, -1, client_left=True, confidence=Confidence.CONFIRMED)
            continue
        testimony = stops.of(loss.connection.conn, closing.ts_ns)
        if testimony is Testimony.STOPPED:
            yield GiveUp(loss, closing, wait, -1, client_left=False, confidence=Confidence.LIKELY, testimony=testimony)
            continue
        timeout, confidence = _configured(analysis, loss, wait)
        if timeout == 0:
            timeout, confidence = _timeout_of(wait, opening, waits[:_MAX_COMPARED], openings[:_MAX_COMPARED])
        is_from_before = loss.flags & ExchangeFlag.MID_STREAM and not loss.is_framed and loss.idle_before_ns < 0
        if timeout < 0 and (is_from_before or has_taken_records(loss, closing)):
            continue  # the upstream may have said what the capture lacks: an early answer, a close_notify
        is_half = timeout < 0 and not is_proxy and _is_half_close(loss)
        if timeout < 0 and wait < _AT_ONCE_NS and not _is_told(analysis):
            # Who sends and closes at once does not wait for an answer, and gives nothing up.
            is_half = True
        if is_half and is_half_closed_at_the_end(loss):
            continue
        confidence = Confidence.POSSIBLE if is_half else confidence
        yield GiveUp(
            *(loss, closing, wait, timeout),
            client_left=False,
            confidence=confidence,
            is_half_close=is_half,
            testimony=testimony,
        )


def stalls(analysis: Analysis) -> Iterator[GiveUp]:
    """Yield responses inside which the upstream fell silent until a timeout of the proxy ran out.

    Parameters
    ----------
    analysis : Analysis
        All tables.

    Yields
    ------
    GiveUp
        In the order of the truncated responses; `wait_ns` counts from the last response byte.
    """
    told = {
        joined.wire.key
        for joined in (analysis.log.entries if analysis.log is not None else ())
        if joined.wire is not None and joined.entry.kind is LogKind.TIMED_OUT
    }
    without = without_entry(analysis)
    for loss in analysis.truncated:
        if loss.n_undelivered:
            continue  # the upstream was not silent
        closing = proxy_closing(loss)
        wait = silent_ns(loss, closing) if closing is not None else -1
        if closing is None or wait < 0 or not is_closed_by_proxy(loss):
            continue
        is_told = (loss.connection.conn, loss.depth) in told
        if Key.ORIG_ZERO_WINDOW in loss.keys and not is_told:
            continue  # the upstream could send nothing: the proxy did not read
        if is_told:
            timeout, confidence = _logged_timeout(analysis, loss, wait), Confidence.CONFIRMED
            yield GiveUp(loss, closing, wait, timeout, client_left=False, confidence=confidence, is_logged=True)
            continue
        if without.get((loss.connection.conn, loss.depth)):
            continue  # a timeout of the proxy's own would stand in its log
        timeout, confidence = _configured(analysis, loss, wait, early_ns=_LAZY_NS)
        seconds = (wait + _EARLY_NS) // NS_PER_S
        if timeout == 0 and seconds >= 1 and wait - seconds * NS_PER_S <= _LATE_NS:
            timeout, confidence = seconds * NS_PER_S, Confidence.LIKELY
        if timeout > 0:
            yield GiveUp(loss, closing, wait, timeout, client_left=False, confidence=confidence)


def told_by_log(analysis: Analysis) -> dict[tuple[int, int], bool]:
    """Return what the proxy's logs say of tries that it gave up: True at a timeout of its own, False for its client.

    Parameters
    ----------
    analysis : Analysis
        With the joined logs, if they were given.

    Returns
    -------
    dict of (int, int) to bool
        By connection and depth; a try of which they say neither is missing.
    """
    told = {}
    for joined in analysis.log.tries if analysis.log is not None else ():
        kinds = {entry.kind for entry in joined.entries}
        if LogKind.TIMED_OUT in kinds:
            told[joined.wire.key] = True
        elif LogKind.CLIENT_CLOSED in kinds or (joined.access is not None and joined.access.status == _CLIENT_LEFT):
            told[joined.wire.key] = False
    return told


def _logged_timeout(analysis: Analysis, loss: Loss, wait: int) -> int:
    """[ns] Return the timeout that ran out: as configured where it fits, else the wait without its small change."""
    if analysis.settings is not None:
        held = analysis.settings.waits_held(str(loss.connection.resp), "read")
        # The log says that a timeout ran out, the file which there are; what was measured may have begun elsewhere. A
        # default that nobody wrote down is believed where it is what was measured.
        values = {
            setting.value
            for setting in held
            if setting.value > 0
            and (not setting.assumed or -_EARLY_NS <= wait - setting.value <= max(_LATE_CONFIGURED_NS, wait // 300))
        }
        passed = [value for value in values if value <= wait + _EARLY_NS]
        if passed:
            return max(passed)
        if values:
            return min(values)
    return max((wait + _EARLY_NS) // _STEP_NS, 1) * _STEP_NS


def _configured(analysis: Analysis, loss: Loss, wait: int, *, early_ns: int = _EARLY_NS) -> tuple[int, Confidence]:
    """[ns] Return the configured timeout that `wait` shows, -1 if it is none of them, 0 if none is known."""
    peer = str(loss.connection.resp)
    settings = analysis.settings
    if settings is None or not (settings.blocks_of_peer(peer) or settings.servers_of(peer)):
        return 0, Confidence.LIKELY
    values = {value for value in settings.waits_for(peer, "read") if value > 0}
    near = [value for value in values if -early_ns <= wait - value <= max(_LATE_CONFIGURED_NS, wait // 300)]
    if near:
        return max(near), Confidence.CONFIRMED
    return (-1, Confidence.LIKELY) if values and min(values) > wait else (0, Confidence.LIKELY)


def _is_half_close(loss: Loss) -> bool:
    """Tell whether nothing but a FIN says that the answer was not wanted any more."""
    return Key.ORIG_RST not in loss.keys and not loss.flags & ExchangeFlag.LATE_ANSWER


def _is_told(analysis: Analysis) -> bool:
    """Tell whether a configuration, or a log of which anything was understood, was given."""
    log = analysis.log
    return analysis.settings is not None or (log is not None and max(log.errors_read, log.accesses_read) > 0)


def _is_proxy_known(analysis: Analysis) -> bool:
    """Tell whether something says that a proxy stands here: its logs or configuration, its clients, its pool."""
    if _is_told(analysis) or (analysis.legs == Leg.CLIENT).any():
        return True
    return any(upstream.reused > 0 for upstream in analysis.upstreams)


def _is_given_up(loss: Loss) -> bool:
    """Tell whether the proxy closed first while it waited for a response to a request that was not lost on the way."""
    if loss.is_connect or loss.crossing is not None or has_unseen_fin(loss) or not is_closed_by_proxy(loss):
        return False
    if loss.is_acknowledged_too_late or proxy_closing(loss) is None:
        return False  # a closing that the capture lacks has no time
    if loss.flags & ExchangeFlag.LATE_ANSWER:
        return not loss.flags & ExchangeFlag.HOLE
    return is_acknowledged(loss) or (not loss.retransmissions and not is_partly_acknowledged(loss))


def _opening_ns(loss: Loss) -> int:
    connection = loss.connection
    if loss.is_reused or connection.orig_isn < 0:
        return 0
    return max(loss.request_ts_ns - connection.first_ts_ns, 0)


def _timeout_of(wait: int, opening: int, waits: Ints, openings: Ints) -> tuple[int, Confidence]:
    """Return the timeout of the proxy that `wait` shows, -1 if it shows none, and how certain that is.

    Waits that agree although their connections took different times to open were measured by the proxy's clock; those
    that agree only with the opening added, by a clock that started before: the client's.
    """
    if wait < _AT_ONCE_NS:
        return -1, Confidence.LIKELY  # so short, all waits agree
    width = max(_SAME_NS, wait // 300)
    tells = np.abs(openings - opening) > 2 * width
    same = np.abs(waits - wait) <= width
    by_proxy = int((tells & same).sum())
    by_client = int((tells & (np.abs(waits + openings - wait - opening) <= width)).sum())
    if by_client and by_client >= by_proxy:
        return -1, Confidence.CONFIRMED
    value = int(min(waits[same].min(initial=wait), wait))
    seconds = (value + _EARLY_NS) // NS_PER_S
    if seconds >= 1 and value - seconds * NS_PER_S <= _LATE_NS:
        is_certain = by_proxy > 0 or seconds == _NGINX_DEFAULT_S
        return seconds * NS_PER_S, Confidence.CONFIRMED if is_certain else Confidence.LIKELY
    if _is_late_timer(wait, waits):
        return wait // NS_PER_S * NS_PER_S, Confidence.LIKELY
    is_exact = bool((tells & (np.abs(waits - wait) <= _EXACT_NS)).any())
    if is_exact or (by_proxy and int(same.sum()) >= 3):
        return value, Confidence.LIKELY
    return -1, Confidence.LIKELY


def _is_late_timer(wait: int, waits: Ints) -> bool:
    """Tell whether a timer of whole seconds that fires late (Varnish looks at its own now and then) shows in the waits.

    Several lie within a tenth above it, and none in the fifth below it: people and their clients leave at any time.
    """
    timer = wait // NS_PER_S * NS_PER_S
    if not timer:
        return False
    above = int(((waits >= timer - _EARLY_NS) & (waits <= timer + timer // 10)).sum())
    below = int(((waits > timer - timer // 5) & (waits < timer - _EARLY_NS)).sum())
    return wait <= timer + timer // 10 and above >= _LEAST_LATE and not below


def client_departures(analysis: Analysis) -> Ints:
    """Return when clients left while their request was open, where the client leg was captured.

    Parameters
    ----------
    analysis : Analysis
        With all connections.

    Returns
    -------
    array of int64
        [ns] Sorted; shape (n_departure,).
    """
    connections = analysis.connections
    if not len(connections):
        return np.empty(0, dtype=np.int64)
    left = (
        (analysis.legs == Leg.CLIENT)
        & (connections["first_closer"] == Direction.ORIG)
        & (connections["closing_open_exchange"] == 1)
    )
    departures: Ints = np.sort(connections["closing_ts_ns"][left])
    return departures


def left_just_before(departures: Ints, ts_ns: int) -> bool:
    """Tell whether a client left within 20 ms before a closing of the proxy.

    Parameters
    ----------
    departures : array of int64
        [ns] From `client_departures`.
    ts_ns : int
        [ns] When the proxy closed.

    Returns
    -------
    bool
    """
    index = int(np.searchsorted(departures, ts_ns, side="right")) - 1
    return index >= 0 and ts_ns - int(departures[index]) <= _LATE_NS
