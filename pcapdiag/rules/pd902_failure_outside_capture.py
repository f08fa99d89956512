"""PD902: the logs of the capture's time know failures that no packet here shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import WITH_STATUS, Leg
from pcapdiag.base.findings import Confidence, Finding, Occurrence, Role, RuleFacts, Severity
from pcapdiag.base.units import NS_PER_S, count_of, parse_endpoint
from pcapdiag.proxy.conf.settings import OF_OTHER_KIN
from pcapdiag.proxy.join.ledger import OutsideKind
from pcapdiag.rules._dialect import names_no_server, names_tries, needs_tries, proxy_kind
from pcapdiag.rules._logged import accesses_of_another_time, of_another_day, outside_occurrence
from pcapdiag.rules._rule import GroupText, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.proxy.join.ledger import OutsideFailure

_MOST_NAMED = 3
_WHAT = {
    OutsideKind.UNIX_SOCKET: (
        "over unix sockets, which no capture shows",
        (
            "Only logs show them: read that of the application behind the socket at these times (refused with 11: its"
            " backlog is full; 2 or 111: nobody listens; 13: permissions)."
        ),
    ),
    OutsideKind.NOTHING_SENT: (
        "that the proxy's own machine, or the proxy itself, refused before a packet left",
        (
            "No capture shows them: look at the machine's limits at these times (file descriptors, ports of"
            " net.ipv4.ip_local_port_range and TIME_WAIT, permissions), and keep connections to upstreams open."
        ),
    ),
    OutsideKind.NOT_TRIED: (
        "for which no server was free in time: nothing was sent",
        "They waited in the proxy's queue: servers were too few or too slow, or their limits are too low.",
    ),
    OutsideKind.NO_SERVER: (
        "for which the proxy had no server to try: nothing was sent",
        "The proxy's own log says at these times which servers it put out and why: health checks, failures before.",
    ),
    OutsideKind.UNRESOLVED: (
        "because a name of an upstream could not be resolved: nothing was sent to it",
        "A capture of port 53 at the proxy shows what the resolver answered.",
    ),
    OutsideKind.NO_PEER: (
        "that found no live upstream, in a log that nothing ties to the capture's time",
        "Say which zone the log is in (--log-zone): then they are held against the failures behind them.",
    ),
    OutsideKind.OTHER_PEER: (
        "at upstreams of which the capture holds no packet",
        (
            "A capture that shows them is taken on the interface that leads there, or on all (-i any), without a filter"
            " that leaves them out; where the address is translated on the way, the log and more failures tell which"
            " endpoint stands behind it."
        ),
    ),
    OutsideKind.NOT_SEEN: (
        "whose requests are not in the capture, although it holds packets of these upstreams",
        (
            "Give a capture of the whole time without drops, on all interfaces (-i any): other requests carry the ids"
            " of the access log, these do not."
        ),
    ),
    OutsideKind.UNMATCHED: (
        "at upstreams that are in the capture, and no failed try found there fits them",
        (
            "They may be among the packets in a form that is not recognised, or elsewhere. A capture of the whole time"
            " on all interfaces (-i any), and an access log with the tries of each request (in nginx: $upstream_addr,"
            " $upstream_status and $upstream_response_time), tell which try each of them was."
        ),
    ),
    OutsideKind.ANSWERED: (
        "because the upstream itself answered with an error, of which packets show no status",
        (
            "Read the upstream's own log at these times: it answered, nothing was lost. Where TLS hides the answers,"
            " their status in the access log (in nginx: $upstream_status) is what tells."
        ),
    ),
}


class FailureOutsideCapture(Rule):
    """The proxy's logs tell of failures in the time of the capture that none of its packets shows.

    What it looks for
    -----------------
    Entries of the error log and failed requests of the access log that fall into the capture's time and belong to no
    try on the wire: over a unix socket, to an address or by an interface that was not captured, refused by the proxy's
    own machine before a packet left, or matched by nothing that was found in the packets.

    Why it matters
    --------------
    A capture without a lost request proves nothing for what went elsewhere. Clients got these failures, too.

    Evidence
    --------
    The lines of the logs, by why packets cannot show them.

    When it is wrong
    ----------------
    Where nothing ties the log's clock to the capture's and `--log-zone` was not given, entries count whose time may be
    the capture's; that is said, and they may be of another hour. A failure that packets do show, but that was not
    recognised as the one in the log, would stand here as well; where the wire has as many failures without an entry as
    the log has without a try, none is counted.

    Remedy
    ------
    Each finding says what would show such failures.

    References
    ----------
    nginx ngx_http_upstream.c and ngx_event_connect.c: what is logged before a packet leaves.
    """

    code = "PD902"
    name = "failure-outside-capture"
    title = "The logs know failures that nothing found in the packets explains"
    severity = Severity.WARNING
    needs = ("error log or access log",)
    helped_by = ("--log-zone", "proxy configuration")
    facts = RuleFacts(role=Role.OUTSIDE)

    def missing(self, analysis: Analysis) -> str:
        """Return what is missing: a log that could be read."""
        log = analysis.log
        if log is None or (log.errors_read < 0 and log.accesses_read < 0):
            return "only logs know what no packet shows: needs --error-log or --access-log"
        if log.errors_read <= 0 and log.accesses_read <= 0:
            return "no line of the logs that were given could be read"
        if log.errors_read <= 0 and not log.names_tries and not _client_failures(analysis):
            return f"the access log that was given names no upstreams{needs_tries(analysis)}"
        if log.outside:
            return ""
        elsewhere = [text for text in (of_another_day(analysis), accesses_of_another_time(analysis)) if text]
        return "; ".join(elsewhere) if len(elsewhere) == (log.errors_read > 0) + (log.accesses_read > 0) else ""

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per kind."""
        if analysis.log is None:
            return
        readable = _peers_with_errors(analysis) if any(_is_answer(f) for f in analysis.log.outside) else frozenset()
        kinds: dict[OutsideKind, list[OutsideFailure]] = defaultdict(list)
        for failure in analysis.log.outside:
            # An error answer that packets show is a finding of its own, as are requests that found no live server.
            is_told = failure.kind is OutsideKind.NO_SERVER and names_no_server(analysis)
            if not is_told and not (_is_answer(failure) and failure.peer in readable):
                kinds[failure.kind].append(failure)
        for kind, failures in sorted(kinds.items(), key=lambda item: -len(item[1])):
            is_placed = all(f.is_placed for f in failures)
            is_likely = any(f.is_likely for f in failures)
            what, remedy = _WHAT[kind]
            if proxy_kind(analysis) in OF_OTHER_KIN:
                # Variables of nginx's log format help with no other.
                remedy = ". ".join(sentence for sentence in remedy.split(". ") if "$" not in sentence).rstrip(".") + "."
            words = GroupText(
                message=_message(what, failures),
                refuted_by="Packets of these tries in the capture, or a clock by which the lines are of another time.",
                remedy=remedy,
                severity=None if is_likely else Severity.INFO,
                details={"kind": kind.value, "of_known_time": sum(f.is_placed for f in failures)},
            )
            confidence = Confidence.LIKELY if is_placed else Confidence.POSSIBLE
            subject = "logs" if kind in _NAMELESS else _named(failures)
            yield self.finding(subject, words, map(outside_occurrence, failures), confidence, kind.value)
        seconds = [] if kinds else _client_failures(analysis)
        if seconds:
            words = GroupText(
                message=(
                    f"The access log tells of {count_of(len(seconds), 'failed request')} (status 500 or above, or none)"
                    " in the time of the capture; it does not say at which upstream, and no packet shows a failure."
                ),
                refuted_by="Packets of these requests in the capture, or a clock that puts the lines at another time.",
                remedy=(
                    f"The error log (--error-log) says why each of them failed{names_tries(analysis)}. They may have"
                    " gone over a unix socket or by another interface."
                ),
                details={"kind": "clients", "of_known_time": len(seconds)},
            )
            yield self.finding("logs", words, map(_of_second, seconds[:_MOST]), Confidence.LIKELY, "clients")


_MOST = 1_000
_SERVER_ERROR = 500
_NAMELESS = frozenset({OutsideKind.NO_PEER, OutsideKind.UNRESOLVED})


def _client_failures(analysis: Analysis) -> list[int]:
    """Return the seconds of failures in an access log that names no upstreams, where packets show none at all."""
    log = analysis.log
    if log is None or log.clients is None or log.names_tries or log.entries or analysis.first_ts_ns < 0:
        return []
    if analysis.losses or analysis.truncated or analysis.early:
        return []
    if any((chunk["status_code"] >= _SERVER_ERROR).any() for chunk in analysis.exchanges.chunks()):
        return []
    first, last = analysis.first_ts_ns // NS_PER_S, analysis.last_ts_ns // NS_PER_S + 1
    served = sorted(log.clients.seconds.items())
    return [second for second, s in served if first <= second <= last for _ in range(s.failures)]


def _of_second(second: int) -> Occurrence:
    """Return a failed request of which only the second is kept."""
    return Occurrence(
        conn=-1,
        depth=0,
        uid="",
        orig="",
        resp="",
        request_frame=-1,
        request_ts_ns=second * NS_PER_S,
        idle_before_ns=-1,
        method="",
        target="",
        closing_frame=-1,
        closing_kind="",
    )


def _is_answer(failure: OutsideFailure) -> bool:
    return failure.kind is OutsideKind.ANSWERED


def _peers_with_errors(analysis: Analysis) -> frozenset[str]:
    """Return the upstreams of which packets show that they answered with an error."""
    rows = analysis.connections.rows
    has_error = np.zeros(len(rows), dtype=np.bool_)
    for chunk in analysis.exchanges.chunks():
        has_error[chunk["conn"][chunk["status_code"] >= _SERVER_ERROR]] = True
    is_readable = (analysis.legs == Leg.UPSTREAM) & np.isin(rows["protocol"], WITH_STATUS) & has_error
    ends = {(int(r["resp_hi"]), int(r["resp_lo"]), int(r["resp_port"])) for r in rows[is_readable]}
    return frozenset(str(u.endpoint) for u in analysis.upstreams if parse_endpoint(str(u.endpoint)) in ends)


def _message(what: str, failures: Sequence[OutsideFailure]) -> str:
    text = f"The proxy's logs tell of {count_of(len(failures), 'failure')} {what}"
    statuses = Counter(f.status for f in failures if f.status > 0)
    if statuses:
        text += f" ({', '.join(f'{n:,} x {status}' for status, n in sorted(statuses.items()))})"
    named = _named(failures)
    text += f": {named}" if named else ""
    n_unplaced = sum(not f.is_placed for f in failures)
    if n_unplaced:
        which = "whether they are" if n_unplaced == len(failures) else f"whether {n_unplaced:,} of them are"
        if len(failures) == 1:
            which = "whether it is"
        text += f"; {which} of the capture's time is not certain, because nothing ties the log's clock to the capture's"
    return f"{text}."


def _named(failures: Sequence[OutsideFailure]) -> str:
    peers = [peer for peer, _ in Counter(f.peer for f in failures if f.peer).most_common()]
    return f"{', '.join(peers[:_MOST_NAMED])}{', ...' if len(peers) > _MOST_NAMED else ''}"
