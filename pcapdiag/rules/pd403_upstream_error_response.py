"""PD403: the upstream itself answered with an error of its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pcapdiag.analysis.checks import check_intervals
from pcapdiag.analysis.losses import to_connection
from pcapdiag.base.codes import WITH_STATUS, Direction, Leg, Method, Outcome, TcpFlag
from pcapdiag.base.findings import Confidence, Effect, Evidence, Finding, Occurrence, RuleFacts, Severity
from pcapdiag.base.units import about, count_of, format_endpoint, format_ts_ns
from pcapdiag.privacy.escape import shorten
from pcapdiag.privacy.redact import Redactor
from pcapdiag.rules._evidence import MOST_WITH_EVIDENCE
from pcapdiag.rules._rule import GroupText, Rule, of_checks
from pcapdiag.rules._tls_words import tls_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, Connection

    Rows = np.ndarray[Any, Any]

_MOST_SHOWN = 2_000
"""Occurrences that are kept of one finding; all are counted."""
_MOST_SERVER = 60
_WHAT = {
    500: "an error that the application did not handle",
    501: "a method that it does not know",
    502: "usually it passes requests on itself, and what is behind it failed: look there next",
    503: "overload, maintenance, or a balancer whose own servers are all down",
    504: "usually it passes requests on itself, and what is behind it did not answer in time: look there next",
    507: "no room left",
}
_REFUSED = {
    421: "it does not serve this host on this connection: by the server name of the TLS handshake or the port",
    426: (
        "it wants HTTP/1.1 where the proxy speaks 1.0, or, of a WebSocket, the Upgrade field that the proxy leaves out"
    ),
}
"""Statuses below 500 that tell how the proxy speaks to it, and not what a client asked for."""
_FLAGS = int(TcpFlag.PSH | TcpFlag.ACK)
_LEAST_ERROR, _BAD_REQUEST = 500, 400
_FEWEST = 3
"""Answers, on as many connections, that must all be 400 before that is told of a port."""


class UpstreamErrorResponse(Rule):
    """The upstream answered, and its answer was an error of its own (status 500 to 599), or refuses how it is asked.

    What it looks for
    -----------------
    Whole or begun HTTP/1 responses of upstreams with a status of 500 or above, by upstream and status. Answers of the
    proxy to its clients do not count. Of the statuses below, those that the proxy earns and not its clients: 400 that
    says that the port speaks TLS, or that is all that a port ever answers, 421 and 426.

    Why it matters
    --------------
    The client sees the same 5xx as after a lost request, but nothing was lost: the proxy passed on what it was given.
    Whoever looks for closed connections looks at the wrong place.

    Evidence
    --------
    Request and response with its status, the Server field of the connection, when it began, and how many of the
    answers since then were such errors.

    When it is wrong
    ----------------
    The status is a fact; who wrote it is not always: something between the capture point and the application (a
    balancer, a service mesh) may answer in its place. The Server field names who answered first on the connection.

    Remedy
    ------
    Read the upstream's own log for that status and time. No timer at the proxy changes it. A port that speaks TLS
    wants TLS of the proxy, or another port is meant.

    References
    ----------
    RFC 9110 section 15.6 (server error), sections 15.5.20 (421) and 15.5.22 (426), section 10.2.4 (Server).
    """

    code = "PD403"
    name = "upstream-error-response"
    title = "The upstream itself answered with an error"
    severity = Severity.WARNING
    needs = ("responses of HTTP/1, FastCGI, uwsgi or SCGI that can be read",)
    helped_by = ("the Server field",)
    facts = RuleFacts(effect=Effect.ANSWERED)

    def missing(self, analysis: Analysis) -> str:
        """Return why no status could be judged: what was read elsewhere is not called unreadable."""
        has_status = has_response = False
        for chunk in analysis.exchanges.chunks():
            rows = chunk.rows
            if (_is_mine(analysis, rows) & (rows["status_code"] >= 0)).any():
                return ""
            is_upstream = analysis.legs[rows["conn"]] == Leg.UPSTREAM
            has_status |= bool((is_upstream & (rows["status_code"] >= 0)).any())
            came = (rows["response_frame"] >= 0) | (rows["outcome"] != Outcome.UNANSWERED)
            has_response |= bool((is_upstream & came).any())
        if has_status:
            return "the only statuses stand in responses that were cut off, came too late or had no request captured"
        if not has_response:
            return "no upstream's response was captured"
        return "no status of a response could be read: only HTTP/1, FastCGI, uwsgi and SCGI in the clear show it"

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream and status."""
        found = _collect(analysis)
        if not found:
            return
        others = _answers(analysis, found)
        says_tls = analysis.tls.says_tls if analysis.tls is not None else frozenset()
        for (peer, status, every_ns), group in found.items():
            words, label = _words(peer, status, group, others[peer, status, every_ns]), str(status)
            if status < _LEAST_ERROR:
                counted = _counted(peer, status, group, others[peer, status, every_ns])
                speak = tls_words(analysis).speak if status == _BAD_REQUEST and peer in says_tls else None
                words = _refusal(words, status, counted, _who(group), peer, speak)
            if every_ns:
                words, label = of_checks(words, every_ns), f"{label}/check"
            finding = self.finding(peer, words, group.shown, Confidence.LIKELY, label)
            yield replace(finding, count=group.count, last_ts_ns=group.last_ts_ns)


_Key = tuple[str, int, int]
"""Upstream, status, and the interval [ns] of the checks that got it; 0 for what clients asked for."""


class _ErrorResponse(NamedTuple):
    """An exchange whose answer is an error: the columns of that name."""

    conn: int
    depth: int
    method: int
    status_code: int
    request_frame: int
    request_ts_ns: int
    idle_before_ns: int
    response_frame: int
    first_byte_ns: int
    text_offset: int
    target_len: int
    host_len: int
    request_id_len: int


@dataclass(slots=True)
class _Group:
    """The errors of one status that one upstream answered."""

    count: int = 0
    first_ts_ns: int = -1
    last_ts_ns: int = -1
    shown: list[Occurrence] = field(default_factory=list)
    servers: Counter[str] = field(default_factory=Counter)


def _is_mine(analysis: Analysis, rows: Rows) -> Any:
    """Tell which exchanges with an upstream may state a status: both halves seen, and no loss of their own."""
    return (
        (analysis.legs[rows["conn"]] == Leg.UPSTREAM)
        & np.isin(rows["protocol"], WITH_STATUS)
        & (rows["request_ts_ns"] >= 0)
        & ((rows["outcome"] == Outcome.ANSWERED) | (rows["outcome"] == Outcome.PENDING))
    )


def _collect(analysis: Analysis) -> dict[_Key, _Group]:
    groups: dict[_Key, _Group] = defaultdict(_Group)
    intervals = check_intervals(analysis)
    known: dict[int, Connection] = {}
    is_refusing = _refusing(analysis)
    for chunk in analysis.exchanges.chunks():
        status = chunk["status_code"]
        is_error = (status >= _LEAST_ERROR) & (status < 600) | np.isin(status, list(_REFUSED))
        is_error |= (status == _BAD_REQUEST) & is_refusing[chunk["conn"]]
        rows = chunk.rows[_is_mine(analysis, chunk.rows) & is_error]
        # As plain numbers, all at once: to ask a row for each of its columns takes longer than all else here.
        for values in rows[list(_ErrorResponse._fields)][np.argsort(rows["request_ts_ns"], kind="stable")].tolist():
            answer = _ErrorResponse(*values)
            if answer.conn not in known:
                known[answer.conn] = to_connection(analysis.connections.rows[answer.conn], analysis.texts)
            connection, at = known[answer.conn], answer.request_ts_ns
            group = groups[str(connection.resp), answer.status_code, int(intervals[answer.conn])]
            group.count += 1
            group.first_ts_ns = at if group.first_ts_ns < 0 else min(group.first_ts_ns, at)
            group.last_ts_ns = max(group.last_ts_ns, at)
            group.servers[connection.server] += 1
            if len(group.shown) < _MOST_SHOWN:
                has_evidence = len(group.shown) < MOST_WITH_EVIDENCE
                group.shown.append(_occurrence(analysis, answer, connection, has_evidence=has_evidence))
    return dict(sorted(groups.items(), key=lambda item: (item[1].first_ts_ns, item[0])))


def _refusing(analysis: Analysis) -> NDArray[np.bool_]:
    """Tell of each connection whether its port answers 400 because of how it is asked: it says so, or never else."""
    connections = analysis.connections
    told = np.zeros(len(connections), np.bool_)
    refused: dict[str, list[int]] = defaultdict(list)
    n_refusals: Counter[str] = Counter()
    for chunk in analysis.exchanges.chunks():
        rows = chunk.rows[_is_mine(analysis, chunk.rows) & (chunk["status_code"] == _BAD_REQUEST)]
        conns, counts = np.unique(rows["conn"], return_counts=True)
        for conn, n in zip(conns.tolist(), counts.tolist(), strict=True):
            peer = _peer(connections.rows[conn])
            refused[peer].append(conn)
            n_refusals[peer] += n
    for peer, its_conns in refused.items():
        is_peer = _same_peer(connections.rows, its_conns[0])
        says_tls = analysis.tls is not None and peer in analysis.tls.says_tls
        # Requests of one client may be bad each.
        if says_tls or (len(set(its_conns)) >= _FEWEST and _n_answers(analysis, is_peer) == n_refusals[peer]):
            told |= is_peer
    return told


def _n_answers(analysis: Analysis, is_peer: NDArray[np.bool_]) -> int:
    chunks = (chunk.rows for chunk in analysis.exchanges.chunks())
    return sum(
        int((is_peer[rows["conn"]] & _is_mine(analysis, rows) & (rows["status_code"] >= 0)).sum()) for rows in chunks
    )


def _peer(row: Rows) -> str:
    return format_endpoint(int(row["resp_hi"]), int(row["resp_lo"]), int(row["resp_port"]))


def _answers(analysis: Analysis, found: Mapping[_Key, _Group]) -> dict[_Key, tuple[int, int]]:
    """Return for each group how many answers its upstream gave before the first error, and from it to the last."""
    counts = dict.fromkeys(found, (0, 0))
    connections = analysis.connections
    is_peer = {key: _same_peer(connections.rows, group.shown[0].conn) for key, group in found.items()}
    for chunk in analysis.exchanges.chunks():
        mine = _is_mine(analysis, chunk.rows) & (chunk["status_code"] >= 0)
        conns, all_times = chunk["conn"][mine], chunk["request_ts_ns"][mine]
        for key, (before, during) in counts.items():
            group = found[key]
            times = all_times[is_peer[key][conns]]
            inside = (times >= group.first_ts_ns) & (times <= group.last_ts_ns)
            counts[key] = before + int((times < group.first_ts_ns).sum()), during + int(inside.sum())
    return counts


def _same_peer(connections: Rows, conn: int) -> Any:
    """Tell which connections have the same responder as this one."""
    row = connections[conn]
    return np.logical_and.reduce([connections[name] == row[name] for name in ("resp_hi", "resp_lo", "resp_port")])


def _counted(peer: str, status: int, group: _Group, answers: tuple[int, int]) -> str:
    """Say how many answers had a status, since when, and of how many."""
    before, during = answers
    began = f"from {format_ts_ns(group.first_ts_ns)[:19].replace('T', ' ')} UTC on"
    if not before:
        began += ", its first answer in the capture"
    text = f"{peer} itself answered {count_of(group.count, 'request')} with status {status}, {began}"
    if group.count > 1:
        lasted = group.last_ts_ns - group.first_ts_ns
        share = "all of its" if during == group.count else f"{group.count:,} of its {during:,}"
        text += f": {share} answers in the {about(lasted)} to the last one"
    return text


def _words(peer: str, status: int, group: _Group, answers: tuple[int, int]) -> GroupText:
    before, during = answers
    what = _WHAT.get(status) or _REFUSED.get(status, "")
    return GroupText(
        message=(
            f"{_counted(peer, status, group, answers)}. {_who(group)} The answers came: these requests are not lost."
        ),
        refuted_by="A log of the upstream in which these requests have another status.",
        remedy=(
            f"Read the log of {peer} at these times for status {status}{f': {what}' if what else ''}. Whoever passes"
            " the answer on cannot cure it, and no timer of the connection is to blame."
        ),
        details={"status_code": status, "answers_before": before, "answers_from_first_to_last": during},
    )


def _refusal(words: GroupText, status: int, counted: str, who: str, peer: str, speak: str | None) -> GroupText:
    """Return the words of answers 400, 421 and 426, which the proxy earned and not its clients.

    Parameters
    ----------
    speak : str or None
        How the proxy is told to speak TLS; None where the port does not say that it wants it.
    """
    note = "A status below 500 counts as no failure of a client."
    if speak is not None:
        return replace(
            words,
            message=f"{counted}. The answer says why: HTTP in clear was sent to a port that speaks TLS. {who} {note}",
            refuted_by="An answer in clear with another status from this port.",
            remedy=(
                f"Let the proxy speak TLS to {peer}{f' ({speak})' if speak else ''}, or name the upstream's port for"
                " plain HTTP."
            ),
        )
    if status in _REFUSED:
        remedy = f"Compare how the proxy speaks to {peer} with what its log says of these requests: {_REFUSED[status]}."
        return replace(words, message=f"{counted}. That is: {_REFUSED[status]}. {who}", remedy=remedy)
    return replace(
        words,
        message=f"{counted}, and nothing else ever: it may be how the proxy speaks to it. {who}",
        remedy=(
            f"Ask {peer} yourself (`curl -v`): 400 to all that comes may be TLS that it wants, a Host that it does not"
            " know, or a field that the proxy adds. Its own log tells which."
        ),
        severity=Severity.INFO,
    )


def _who(group: _Group) -> str:
    named = [name for name, _ in group.servers.most_common(3) if name]
    if not named:
        return "No Server field says who answered."
    redactor = Redactor()  # a sentence cannot be told apart later: what is no name of a server does not get into it
    names = ", ".join(shorten(redactor.field("server", name), _MOST_SERVER) for name in named)
    which = "this connection" if group.servers.total() == 1 else "these connections"
    return f"The Server field on {which} says {names}."


def _occurrence(
    analysis: Analysis, answer: _ErrorResponse, connection: Connection, *, has_evidence: bool
) -> Occurrence:
    target, host, request_id = _texts(analysis, answer)
    return Occurrence(
        conn=answer.conn,
        depth=answer.depth,
        uid=connection.uid,
        orig=str(connection.orig),
        resp=str(connection.resp),
        request_frame=answer.request_frame,
        request_ts_ns=answer.request_ts_ns,
        idle_before_ns=answer.idle_before_ns,
        method="" if answer.method == Method.NONE else Method(answer.method).name,
        target=target,
        closing_frame=-1,
        closing_kind="",
        evidence=tuple(_evidence(answer)) if has_evidence else (),
        host=host,
        request_id=request_id,
    )


def _texts(analysis: Analysis, answer: _ErrorResponse) -> Iterator[str]:
    """Return target, host and request identifier, which lie behind each other."""
    ends = list(accumulate((0, answer.target_len, answer.host_len, answer.request_id_len)))
    data = analysis.texts.read(answer.text_offset, ends[-1])
    return (data[start:end].decode("utf-8", errors="backslashreplace") for start, end in pairwise(ends))


def _evidence(answer: _ErrorResponse) -> Iterator[Evidence]:
    def frame(number: int, ts_ns: int, direction: Direction, label: str, text: str) -> Evidence:
        return Evidence(number, ts_ns, int(direction), _FLAGS, -1, -1, -1, -1, 0, -1, label, text)

    start = answer.request_ts_ns
    yield frame(answer.request_frame, start, Direction.ORIG, "request", "the request is sent")
    if answer.response_frame >= 0:
        text = f"the answer begins: status {answer.status_code}"
        at = start + max(answer.first_byte_ns, 0)
        yield frame(answer.response_frame, at, Direction.RESP, "response", text)
