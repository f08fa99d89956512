"""Responses that the proxy ended inside their body, at no timeout of its own: because its client went away, mostly.

nginx closes the connection to the upstream as soon as its client has gone, and logs no failure of the upstream. Where
neither logs nor the client leg tell of it, nothing is said: a slow client, or a stop of the proxy, looks the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pcapdiag.base.findings import Confidence
from pcapdiag.rules._logged import without_entry
from pcapdiag.rules._patience import client_departures, left_just_before, stalls, told_by_log
from pcapdiag.rules._stops import Stops, Testimony
from pcapdiag.rules._unseen import n_taken_unseen, silent_ns
from pcapdiag.rules._wire import has_unseen_fin, is_closed_by_proxy, proxy_closing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, KeySegment, Loss


class Ending(Enum):
    """What tells why the proxy ended a response; the value is what the closing segment proves, in words."""

    LOGGED = "its log says that the client went away"
    SEEN = "its client had just closed"
    NO_ENTRY = "and its error log has no failure of it"
    STOPPED = "as it closes others that are idle"


@dataclass(frozen=True, slots=True)
class LeftInside:
    """One response that the proxy ended inside its body; `wait_ns` counts from the last byte of it that came."""

    loss: Loss
    closing: KeySegment
    wait_ns: int
    ending: Ending
    confidence: Confidence


def left_inside(analysis: Analysis) -> Iterator[LeftInside]:
    """Yield the responses that the proxy ended inside their body, where something tells why.

    Parameters
    ----------
    analysis : Analysis
        All tables.

    Yields
    ------
    LeftInside
        In the order of the truncated responses; none of those that `stalls` yields.
    """
    ended = [(loss, closing) for loss in analysis.truncated if (closing := _ended_by_proxy(loss)) is not None]
    if not ended:
        return
    told, without = told_by_log(analysis), without_entry(analysis)
    stalled = {(stall.loss.connection.conn, stall.loss.depth) for stall in stalls(analysis)}
    departures, stops = client_departures(analysis), Stops(analysis)
    for loss, closing in ended:
        key = loss.connection.conn, loss.depth
        if key in stalled or told.get(key):
            continue
        wait = silent_ns(loss, closing)
        if key in told:
            yield LeftInside(loss, closing, wait, Ending.LOGGED, Confidence.CONFIRMED)
        elif left_just_before(departures, closing.ts_ns):
            yield LeftInside(loss, closing, wait, Ending.SEEN, Confidence.LIKELY)
        elif key in without:
            confidence = Confidence.LIKELY if without[key] else Confidence.POSSIBLE
            has_stopped = stops.of(loss.connection.conn, closing.ts_ns) is Testimony.STOPPED
            yield LeftInside(loss, closing, wait, Ending.STOPPED if has_stopped else Ending.NO_ENTRY, confidence)


def _ended_by_proxy(loss: Loss) -> KeySegment | None:
    """Return the closing with which the proxy ended a response before the upstream did; None if it did not."""
    closing = proxy_closing(loss)
    if (
        closing is None
        or loss.n_undelivered
        or has_unseen_fin(loss)
        or not is_closed_by_proxy(loss)
        or n_taken_unseen(loss, closing)
    ):
        return None
    return closing
