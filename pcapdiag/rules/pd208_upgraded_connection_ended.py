"""PD208: a connection that had been upgraded ended."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.losses import to_connection
from pcapdiag.base.codes import ClosingKind, Direction, ExchangeFlag, Leg, Protocol
from pcapdiag.base.findings import Confidence, Effect, Occurrence, RuleFacts, Severity
from pcapdiag.base.units import count_of
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules._dialect import of_nginx
from pcapdiag.rules._rule import GroupText, Rule
from pcapdiag.rules._words import duration_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Connection
    from pcapdiag.base.findings import Finding

Rows = np.ndarray[Any, Any]

_MOST = 10_000


class UpgradedConnectionEnded(Rule):
    """A WebSocket or tunnel ended: by whom, how, and after which silence.

    What it looks for
    -----------------
    Connections to upstreams that switched protocols (101, or 2xx to CONNECT) and then ended by FIN or RST.

    Why it matters
    --------------
    It explains `recv() failed (104: Connection reset by peer) while proxying upgraded connection` and clients that
    reconnect. No request is lost: such a connection has none any more.

    Evidence
    --------
    The first closing segment, its sender, and the time since the last byte in either direction; the proxy's log where
    it says that its timeout ran out.

    When it is wrong
    ----------------
    It claims no failure. Where the last bytes are missing from the capture, the silence is shorter than it says.

    Remedy
    ------
    Connections that end after the same silence met a timer: heartbeats more often than that, or a longer timeout where
    that timer is (`proxy_read_timeout` counts for both directions of an upgraded connection).

    References
    ----------
    RFC 6455 section 5.5.2 (ping), nginx "WebSocket proxying".
    """

    code = "PD208"
    name = "upgraded-connection-ended"
    title = "Upgraded connections ended"
    severity = Severity.INFO
    needs = ("HTTP/1 in the clear",)
    facts = RuleFacts(settings=("_read_timeout",), effect=Effect.CUT_OFF)

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream, side and kind of closing."""
        table = analysis.connections
        ended = (
            (analysis.legs == Leg.UPSTREAM)
            & (table["protocol"] == Protocol.UPGRADED)
            & (table["closing_kind"] != ClosingKind.NONE)
        )
        groups: dict[tuple[str, Direction, ClosingKind], list[Occurrence]] = defaultdict(list)
        conns = np.flatnonzero(ended)[:_MOST]
        requests = _upgrades(analysis, conns)
        timed_out = {
            joined.wire.conn
            for joined in (analysis.log.entries if analysis.log is not None else ())
            if joined.wire is not None and joined.entry.kind is LogKind.TIMED_OUT
        }
        for conn in conns.tolist():
            who = to_connection(table.rows[conn], analysis.texts)
            silence = int(table.rows[conn]["idle_at_close_ns"])
            occurrence = _occurrence(who, requests.get(conn), silence)
            groups[str(who.resp), who.first_closer, who.closing_kind].append(occurrence)
        for (subject, closer, kind), occurrences in groups.items():
            side = "proxy" if closer is Direction.ORIG else "upstream"
            words = _words(analysis, subject, side, kind.name, [o.idle_before_ns for o in occurrences])
            if side == "proxy" and (n_told := sum(o.conn in timed_out for o in occurrences)):
                of = "" if n_told == len(occurrences) else f" of {n_told:,}"
                text = f" The proxy's log says{of} that its timeout ran out."
                words = replace(words, message=words.message + text)
            yield self.finding(subject, words, tuple(occurrences), Confidence.CONFIRMED, f"{side}-{kind.name.lower()}")


def _words(analysis: Analysis, subject: str, side: str, kind: str, silences: list[int]) -> GroupText:
    n = len(silences)
    after = duration_range(silences)
    by = subject if side == "upstream" else "the proxy"
    in_nginx = of_nginx(analysis, " (in nginx proxy_read_timeout of that location)")
    where = f"at {subject}" if side == "upstream" else f"at the proxy{in_nginx}"
    silence = f", after a silence of {after}" if after != "unknown" else ""
    return GroupText(
        message=(f"{count_of(n, 'upgraded connection')} to {subject} ended by a {kind} of {by}{silence}."),
        refuted_by="Bytes on such a connection after that closing.",
        remedy=(
            "If clients should have stayed: a silence that is always the same is a timer. Send heartbeats more often"
            f" than that, or raise it where it is: {where}."
        ),
    )


def _upgrades(analysis: Analysis, conns: NDArray[np.int64]) -> dict[int, Rows]:
    """Return the request with which each of these connections was upgraded, as a row of `columns.EXCHANGES`."""
    found: dict[int, Rows] = {}
    for chunk in analysis.exchanges.chunks():
        asked = (chunk["flags"] & ExchangeFlag.UPGRADE != 0) & (chunk["request_frame"] >= 0)
        for row in chunk.rows[asked & np.isin(chunk["conn"], conns)]:
            found[int(row["conn"])] = row
    return found


def _occurrence(who: Connection, request: Rows | None, silence_ns: int) -> Occurrence:
    return Occurrence(
        conn=who.conn,
        depth=max(who.n_exchanges - 1, 0) if request is None else int(request["depth"]),
        uid=who.uid,
        orig=str(who.orig),
        resp=str(who.resp),
        request_frame=who.first_frame if request is None else int(request["request_frame"]),
        request_ts_ns=who.first_ts_ns if request is None else int(request["request_ts_ns"]),
        idle_before_ns=silence_ns,
        method="",
        target="",
        closing_frame=who.closing_frame,
        closing_kind=who.closing_kind.name,
    )
