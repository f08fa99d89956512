"""Failures that only the error log tells: what packets show as an answer, and the proxy could not use.

Knows how such an entry and its try become an occurrence; which entries mean which cause is each rule's own affair.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.base.codes import Direction, Protocol, TcpFlag
from pcapdiag.base.findings import Confidence, Evidence, Finding, Occurrence
from pcapdiag.base.units import NS_PER_S, roughly
from pcapdiag.proxy.conf.settings import OF_OTHER_KIN
from pcapdiag.proxy.join.access_clock import ahead_ns
from pcapdiag.proxy.join.ledger import EntryVerdict, WireVerdict, first_of
from pcapdiag.proxy.logs.entries import BODY
from pcapdiag.rules._dialect import proxy_kind
from pcapdiag.rules._evidence import MOST_WITH_EVIDENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.proxy.join.ledger import JoinedEntry, OutsideFailure, WireTry
    from pcapdiag.proxy.logs.entries import LogKind
    from pcapdiag.rules._rule import GroupText, Rule

_ABOVE_ERROR = frozenset({"crit", "alert", "emerg"})
_FURTHEST_NS = 15 * 3600 * NS_PER_S
"""[ns] No zone is further from UTC, with an hour for clocks that are wrong."""
_WITHOUT = frozenset({WireVerdict.NOTHING_LOGGED, WireVerdict.NOT_IN_LOG})
NEEDS_LOG = "only the error log says what of an answer the proxy could not use: needs --error-log"


def lacks_error_log(analysis: Analysis, needs: str) -> str:
    """Return what is missing where only the error log tells: it was not given, or nothing in it was understood.

    Parameters
    ----------
    analysis : Analysis
        With the joined logs, if they were given.
    needs : str
        What to say where no error log was given.

    Returns
    -------
    str
        Empty if an error log was read.
    """
    if analysis.log is None or analysis.log.errors_read < 0:
        return needs
    if not analysis.log.has_errors:
        return "the error log that was given is empty, or no line of it was understood"
    if is_elsewhere := of_another_day(analysis):
        return is_elsewhere
    if proxy_kind(analysis) in OF_OTHER_KIN:
        return "the log of this proxy does not tell such a failure from others"
    logs = analysis.settings.error_logs if analysis.settings is not None else ()
    # nginx writes such failures at level error: a log that begins above lacks them all.
    if logs and all(log.level.value in _ABOVE_ERROR for log in logs):
        return f"the configuration lets the error log begin at level {logs[0].level.value}: needs level error or below"
    return ""


def of_another_day(analysis: Analysis) -> str:
    """Return that the error log is so far from the capture that no zone joins them; empty where it may be of its time.

    One that ends days before may go on without a failure, or be another file: nothing in it tells which.
    """
    log = analysis.log
    if log is None or analysis.first_ts_ns < 0 or not log.has_errors or log.errors_span_s[1] < 0:
        return ""
    first_ns, last_ns = (second * NS_PER_S for second in log.errors_span_s)
    if first_ns > analysis.last_ts_ns + _FURTHEST_NS:
        return f"the error log that was given begins {roughly(first_ns - analysis.last_ts_ns)} after the capture"
    if last_ns < analysis.first_ts_ns - _FURTHEST_NS:
        return f"the error log that was given ends {roughly(analysis.first_ts_ns - last_ns)} before the capture"
    return ""


def accesses_of_another_time(analysis: Analysis) -> str:
    """Return that the access log holds no request of the capture's time; empty where it does, or none was read."""
    log = analysis.log
    tally = log.clients if log is not None else None
    if log is None or tally is None or not tally.seconds or analysis.first_ts_ns < 0:
        return ""
    if not tally.has_zone and log.zone_s is None:
        return ""
    first_s, last_s = ((t + ahead_ns(log)) // NS_PER_S for t in (analysis.first_ts_ns, analysis.last_ts_ns))
    # A line is cut off to its second, and is written when its request is over.
    if tally.within(first_s - 1, last_s + 1):
        return ""
    return "the access log that was given holds no request of the time of the capture"


def logged_tries(analysis: Analysis, kinds: frozenset[LogKind], action: str = "") -> dict[str, list[JoinedEntry]]:
    """Return the entries of these kinds whose try is in the capture, by upstream, one for each try.

    Parameters
    ----------
    analysis : Analysis
        With the joined logs, if they were given.
    kinds : frozenset of LogKind
        What the messages report.
    action : str
        What the proxy was doing; empty: anything. To a proxy whose client asked for no upgrade a 101 is the head of a
        response, and what follows its body: the end of an upgraded connection is told as that, and not here again.

    Returns
    -------
    dict of str to list of JoinedEntry
        In the order of the capture.
    """
    protocols = analysis.connections["protocol"]
    found: dict[tuple[int, int], tuple[WireTry, JoinedEntry]] = {}
    for joined in analysis.log.entries if analysis.log is not None else ():
        wire, entry = joined.wire, joined.entry
        if joined.verdict is not EntryVerdict.EXPLAINED or wire is None or entry.kind not in kinds:
            continue
        is_upgraded = wire.conn < len(protocols) and protocols[wire.conn] == Protocol.UPGRADED
        if not action or (entry.action == action and not (action == BODY and is_upgraded)):
            found.setdefault(wire.key, (wire, joined))
    by_peer: dict[str, list[JoinedEntry]] = defaultdict(list)
    for wire, joined in sorted(found.values(), key=lambda pair: (pair[0].start_ns, pair[0].request_frame)):
        by_peer[wire.peer].append(joined)
    return by_peer


def without_entry(analysis: Analysis) -> dict[tuple[int, int], bool]:
    """Return the failed tries of which an error log of the capture's time tells nothing.

    nginx writes an entry of level error for every failure of an upstream, timeouts of its own among them; of a client
    that went away it writes one of level info, or none.

    Parameters
    ----------
    analysis : Analysis
        With the joined logs, if they were given.

    Returns
    -------
    dict of (int, int) to bool
        By connection and depth, and whether the logs are known to go on after the try had ended. Empty where the error
        log may lack failures: it begins above level error, it is of a proxy of another kin, or none of its entries is
        of a try in the capture.
    """
    log = analysis.log
    if log is None or log.clock is None or log.entries_left_out or lacks_error_log(analysis, NEEDS_LOG):
        return {}
    clock = log.clock
    ours = [j.entry for j in log.entries if j.verdict is EntryVerdict.EXPLAINED and j.wire is not None]
    if not ours or clock.is_ambiguous:
        return {}
    last_ns = max(entry.ts_ns for entry in ours) - clock.total_ns
    if log.clients is not None:
        last_ns = max(last_ns, log.clients.covers()[1] * NS_PER_S - ahead_ns(log))
    tries = (t.wire for t in log.tries if not t.entries and t.verdict in _WITHOUT)
    return {wire.key: first_of(wire.proxy_close_ns, wire.upstream_close_ns) <= last_ns for wire in tries}


def logged_finding(rule: Rule, peer: str, group: str, joined: Sequence[JoinedEntry], words: GroupText) -> Finding:
    """Return the finding of one upstream: as certain as most of its entries are of their tries."""
    wires = [j.wire for j in joined if j.wire is not None]
    confidences = sorted(j.confidence for j in joined)
    confidence = Confidence(confidences[(len(confidences) - 1) // 2])
    return rule.finding(peer, words, _occurrences(wires), confidence, group)


def _occurrences(wires: Sequence[WireTry]) -> Iterator[Occurrence]:
    for number, wire in enumerate(wires):
        yield replace(
            wire_occurrence(wire),
            closing_frame=wire.closing_frame,
            closing_kind="RST" if wire.orig_rst_ns >= 0 else "FIN" if wire.orig_fin_ns >= 0 else "",
            evidence=tuple(_evidence(wire)) if number < MOST_WITH_EVIDENCE else (),
        )


def wire_occurrence(wire: WireTry) -> Occurrence:
    """Return a try that a log tells of as an occurrence, without frames and closing."""
    return Occurrence(
        conn=wire.conn,
        depth=wire.depth,
        uid=wire.uid,
        orig=wire.orig,
        resp=wire.peer,
        request_frame=wire.request_frame,
        request_ts_ns=wire.start_ns,
        idle_before_ns=-1,
        method=wire.method,
        target=wire.target,
        closing_frame=-1,
        closing_kind="",
        host=wire.host,
        request_id=wire.request_id,
    )


def outside_occurrence(failure: OutsideFailure) -> Occurrence:
    """Return a failure that a log alone tells of as an occurrence: no connection, no frames."""
    return Occurrence(
        conn=-1,
        depth=0,
        uid="",
        orig=failure.client,
        resp=failure.peer,
        request_frame=-1,
        request_ts_ns=failure.ts_ns,
        idle_before_ns=-1,
        method=failure.method,
        target=failure.target,
        closing_frame=-1,
        closing_kind="",
        host=failure.host,
        log_lines=(f"{failure.path}:{failure.line}",),
    )


def _evidence(wire: WireTry) -> Iterator[Evidence]:
    def frame(number: int, ts_ns: int, direction: Direction, flags: int, label: str, text: str) -> Evidence:
        return Evidence(number, ts_ns, int(direction), flags, -1, -1, -1, -1, 0, -1, label, text)

    data = TcpFlag.PSH | TcpFlag.ACK
    yield frame(wire.request_frame, wire.start_ns, Direction.ORIG, data, "request", "the request is sent")
    if wire.response_frame >= 0 and wire.first_response_ns >= 0:
        text = f"the response begins; {wire.response_bytes:,} bytes of it came"
        yield frame(wire.response_frame, wire.first_response_ns, Direction.RESP, data, "response", text)
    if wire.closing_frame >= 0 and wire.proxy_close_ns >= 0:
        flags = (TcpFlag.RST if wire.orig_rst_ns >= 0 else TcpFlag.FIN) | TcpFlag.ACK
        text = "the proxy closes: it cannot use what it got"
        yield frame(wire.closing_frame, wire.proxy_close_ns, Direction.ORIG, flags, "closing of the proxy", text)
