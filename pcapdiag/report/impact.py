"""What clients noticed: requests, failures that they saw, failures that retries hid, seconds without service.

From the access log where it was given, else from the clients' own connections in the capture; where neither is there,
it says why it is not known. Tries to upstreams are not requests of clients, and are never counted as such.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.codes import Leg, Outcome, Protocol
from pcapdiag.base.units import NS_PER_S, count_of, roughly
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.join.access_clock import ahead_ns
from pcapdiag.proxy.join.clients import Served
from pcapdiag.report.model import Impact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.proxy.join.clients import ClientTally

ACCESS_LOG, CLIENT_LEG = "access_log", "client_leg"
_NOT_READ = (ProxyKind.APACHE,)
"""Of these a common format is read as nginx's is; what is not, is not misunderstood, but theirs."""
_CLIENT_CLOSED = 499
_MOST_SECONDS = 400_000
_UNLOGGED_S = 2
"""[s] A line is written when the client has all, later than the answer came: so much, and clocks, prove nothing."""
_MOST_UNREAD = 20
"""One line in so many may have a status that cannot be read."""
_NO_STATUS = "the format of the access log was not understood; give --proxy-conf or --log-format"
_STATUS_MISSED = "HAProxy's log has no status of many answers that it passed on (-1, yet bytes sent)"
_SILENT = "HAProxy logs nothing where a kept connection breaks under a request that is not its client's first"
"""As http-reuse has it (``abort_keep_alive`` in HAProxy's source): the client is to send the request again."""
_NO_ZONE = "nothing tells which zone the access log is in (--log-zone)"
_NO_TRIES = "the access log does not name the upstreams of a request ($upstream_addr, $upstream_status)"
_NO_RETRIES = "only an access log (--access-log) tells which requests a retry saved"


def measure_impact(analysis: Analysis) -> Impact:
    """Return what clients noticed in the time of the capture.

    Parameters
    ----------
    analysis : Analysis
        All tables, with the ledger where logs were given.

    Returns
    -------
    Impact
        -1 for what is not known, and why.
    """
    tally = analysis.log.clients if analysis.log is not None else None
    told = None
    if tally is not None and tally.seconds and analysis.first_ts_ns >= 0:
        told = _from_log(analysis, tally)
        if told.failures >= 0:
            return told
    found = _from_capture(analysis)
    if found is not None and (found.failures >= 0 or told is None):
        return found
    if told is not None and analysis.proxy_kind not in _NOT_READ:
        return told
    if found is not None:
        return found
    if tally is not None and analysis.proxy_kind in _NOT_READ:
        return Impact(unknown=f"the access log is one of {analysis.proxy_kind.value}, which is not read")
    if tally is not None:
        return Impact(unknown="the access log holds no request that could be read")
    return Impact(unknown="no access log was given (--access-log) and the clients' connections are not in the capture")


def served_by_second(analysis: Analysis, impact: Impact) -> dict[int, Served]:
    """Return what became of requests of clients by the second in which they ended, as the impact counts them.

    Parameters
    ----------
    analysis : Analysis
        The tables that `impact` was measured from.
    impact : Impact
        Which source counts.

    Returns
    -------
    dict of int to Served
        By the beginning of the second, in ns of the capture's clock; empty where what clients saw is not known.
    """
    if impact.failures < 0:
        return {}
    tally = analysis.log.clients if analysis.log is not None else None
    if impact.source == ACCESS_LOG and analysis.log is not None and tally is not None:
        ahead = ahead_ns(analysis.log)
        first, last = ((t + ahead) // NS_PER_S for t in (analysis.first_ts_ns, analysis.last_ts_ns))
        return {second * NS_PER_S - ahead: served for second, served in tally.within(first, last).items()}
    ends: dict[int, Served] = {}
    for seconds, is_lost, has_gone in _client_requests(analysis):
        found, at = np.unique(seconds, return_inverse=True)
        kinds = (np.ones(len(at), dtype=np.bool_), is_lost, has_gone & ~is_lost)
        counts = (np.bincount(at[kind], minlength=len(found)).tolist() for kind in kinds)
        for second, requests, failures, gave_up in zip(found.tolist(), *counts, strict=True):
            served = ends.setdefault(second * NS_PER_S, Served())
            served.add(Served(requests=requests, failures=failures, gave_up=gave_up))
    return ends


def _client_requests(analysis: Analysis) -> Iterator[tuple[Any, Any, Any]]:
    """Yield of the clients' requests in the capture the second of their end, whether they failed, whether given up."""
    legs = analysis.legs
    for chunk in analysis.exchanges.chunks():
        mine = (
            (legs[chunk["conn"]] == Leg.CLIENT) & (chunk["request_ts_ns"] >= 0) & (chunk["outcome"] != Outcome.PENDING)
        )
        rows = chunk.rows[mine & _is_read(chunk)]
        ends = (rows["request_ts_ns"] + np.maximum(rows["duration_ns"], 0)) // NS_PER_S
        status = rows["status_code"]
        is_lost = (status >= 500) | np.isin(rows["outcome"], (Outcome.UNANSWERED, Outcome.TRUNCATED))
        yield ends, is_lost, status == _CLIENT_CLOSED


def _is_read(rows: Any) -> Any:
    """Tell of which requests the answer could be read: the status of HTTP/2 may stand in its connection's tables."""
    has_status = (rows["status_code"] >= 0) | (rows["outcome"] != Outcome.ANSWERED)
    return (rows["protocol"] == Protocol.HTTP1) | ((rows["protocol"] == Protocol.HTTP2) & has_status)


def _from_log(analysis: Analysis, tally: ClientTally) -> Impact:
    if tally.is_cut:
        return Impact(unknown="the access log covers too long a time; give the part of it around the capture")
    if not tally.has_zone and (analysis.log is None or analysis.log.zone_s is None):
        return Impact(unknown=_NO_ZONE)
    ahead = ahead_ns(analysis.log) if analysis.log is not None else 0
    first, last = ((t + ahead) // NS_PER_S for t in (analysis.first_ts_ns, analysis.last_ts_ns))
    served = tally.within(first, last).values()
    beyond = sum(s.failures for s in tally.seconds.values()) - sum(s.failures for s in served)
    if not served:
        other = f"; its {count_of(beyond, 'failure')} came before or after it" if beyond > 0 else ""
        unknown = f"the access log holds no request of the time of the capture{_how_far(tally, first, last)}{other}"
        return Impact(unknown=unknown, failures_beyond=max(beyond, 0))
    requests = sum(s.requests for s in served)
    if sum(s.unread for s in served) * _MOST_UNREAD > requests:
        unknown = _STATUS_MISSED if analysis.proxy_kind is ProxyKind.HAPROXY else _NO_STATUS
        return Impact(source=ACCESS_LOG, requests=requests, unknown=unknown)
    has_tries = any(s.with_tries for s in served)
    return Impact(
        source=ACCESS_LOG,
        requests=requests,
        failures=sum(s.failures for s in served),
        gave_up=sum(s.gave_up for s in served),
        hidden_by_retries=sum(s.retried for s in served) if has_tries and tally.counts_retries else -1,
        failing_s=sum(s.failures > 0 for s in served),
        unavailable_s=sum(s.failures == s.requests for s in served),
        failures_beyond=max(beyond, 0),
        tries_unlogged=_tries_unlogged(analysis, *(second * NS_PER_S - ahead for second in tally.covers())),
        unknown=_NO_TRIES if not has_tries else _SILENT if analysis.proxy_kind is ProxyKind.HAPROXY else "",
    )


def _how_far(tally: ClientTally, first_s: int, last_s: int) -> str:
    """Return how far the log's time is from the capture's, in words; empty where it has lines on both sides of it."""
    began, ended = tally.covers()
    if began > last_s:
        return f" (it begins {roughly((began - last_s) * NS_PER_S)} after its end)"
    return f" (it ends {roughly((first_s - ended) * NS_PER_S)} before it)" if 0 <= ended < first_s else ""


def _tries_unlogged(analysis: Analysis, first_ns: int, last_ns: int) -> int:
    """Return how many tries had their answer before the log's first line, or began after its last; 0 if they are few.

    How long a try without an answer went on, only its line tells.
    """
    n_tries = n_unlogged = 0
    slack_ns = _UNLOGGED_S * NS_PER_S
    for chunk in analysis.exchanges.chunks():
        begins, ends = chunk["request_ts_ns"], chunk["request_ts_ns"] + np.maximum(chunk["duration_ns"], 0)
        mine = (analysis.legs[chunk["conn"]] == Leg.UPSTREAM) & (chunk["request_ts_ns"] >= 0)
        mine &= chunk["outcome"] != Outcome.PENDING
        n_tries += int(mine.sum())
        is_before = (ends < first_ns - slack_ns) & (chunk["outcome"] == Outcome.ANSWERED)
        n_unlogged += int((mine & (is_before | (begins > last_ns + NS_PER_S + slack_ns))).sum())
    return n_unlogged if n_unlogged * _MOST_UNREAD > n_tries else 0


def _from_capture(analysis: Analysis) -> Impact | None:
    legs = analysis.legs
    if not (legs == Leg.CLIENT).any():
        return None
    requests: Counter[int] = Counter()
    failures: Counter[int] = Counter()
    gave_up = 0
    for ends, is_lost, has_gone in _client_requests(analysis):
        requests.update(ends.tolist())
        failures.update(ends[is_lost].tolist())
        gave_up += int(has_gone.sum())
        if len(requests) > _MOST_SECONDS:
            return Impact(unknown="the capture covers too long a time to be counted by the second")
    if not requests:
        why = (
            "the clients' connections are encrypted or no HTTP"
            if _has_opaque(analysis)
            else "the capture holds no client's request"
        )
        return Impact(unknown=f"{why}, and no access log was given (--access-log)")
    return Impact(
        source=CLIENT_LEG,
        requests=requests.total(),
        failures=failures.total(),
        gave_up=gave_up,
        failing_s=len(failures),
        unavailable_s=sum(n == requests[second] for second, n in failures.items()),
        unknown=_NO_RETRIES,
    )


def _has_opaque(analysis: Analysis) -> bool:
    """Tell whether clients asked for something of which no answer could be read."""
    legs = analysis.legs
    return any(
        bool(((legs[c["conn"]] == Leg.CLIENT) & (c["request_ts_ns"] >= 0) & ~_is_read(c)).any())
        for c in analysis.exchanges.chunks()
    )


def is_least(impact: Impact) -> bool:
    """Tell whether clients may have seen more failures than were counted: the proxy logs not all of them."""
    return impact.unknown == _SILENT


def unlogged_words(impact: Impact) -> str:
    """Return that the access log has a part of the capture's time only, where tries show it; empty where it has all."""
    if not impact.tries_unlogged:
        return ""
    return f"the access log lacks the time of {count_of(impact.tries_unlogged, 'try', 'tries')}"


def impact_line(impact: Impact, *, has_truncated: bool = False) -> str:
    """Return the impact in one sentence; why it is not known where it is not."""
    if impact.failures < 0:
        return f"What clients saw is not known: {impact.unknown}."
    least = "at least " if is_least(impact) else ""
    text = f"Clients saw {least}{count_of(impact.failures, 'failure')} of {count_of(impact.requests, 'request')}"
    if least and not impact.failures:
        # "At least none" says nothing.
        text = f"No client of the {count_of(impact.requests, 'request')} that were logged saw a failure"
    if impact.hidden_by_retries >= 0:
        text += f"; retries hid {impact.hidden_by_retries:,} more" if impact.hidden_by_retries else "; retries hid none"
    if impact.gave_up:
        text += f"; {count_of(impact.gave_up, 'client')} gave up"
    if impact.failures:
        seconds = count_of(impact.unavailable_s, "second")
        text += (
            f"; in {seconds} nobody was served, in {impact.failing_s:,} somebody was not"
            if impact.unavailable_s
            else f"; in {count_of(impact.failing_s, 'second')} somebody was not served"
        )
    cut_off = "; of bodies that were cut off it does not tell" if impact.source == ACCESS_LOG and has_truncated else ""
    if impact.tries_unlogged:
        cut_off += f"; {unlogged_words(impact)}"
    if impact.failures_beyond:
        cut_off += f"; {count_of(impact.failures_beyond, 'more failure')} it has before or after that, not counted here"
    cut_off += f"; {_SILENT}" if is_least(impact) else ""
    return f"{text} ({_SOURCES[impact.source]}{cut_off})."


_SOURCES = {ACCESS_LOG: "access log, within the time of the capture", CLIENT_LEG: "the clients' side of the capture"}
_BASES = {ACCESS_LOG: "the access log, as far as the capture reaches", CLIENT_LEG: "the clients' side of the capture"}


def impact_basis(impact: Impact) -> str:
    """Return what the numbers were counted from, in a sentence."""
    if impact.failures < 0:
        return f"Not known, because {impact.unknown}."
    text = f"Counted from {_BASES[impact.source]}"
    text += ". A failure is an answer with status 500 or above, or none; a second counts as unavailable when every"
    return f"{text} request that ended in it failed."
