"""What rules say alike whose upstream failed with the request in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.model import count_losses
from pcapdiag.base.findings import Confidence
from pcapdiag.base.units import about, count_of
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.rules._again import sends_again
from pcapdiag.rules._dialect import nginx_module, proxy_kind, server_words
from pcapdiag.rules._wire import is_acknowledged, is_among_others, is_closed_at_age, last_sent_ns
from pcapdiag.rules._words import duration_range

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis
    from pcapdiag.rules._rule import Group

_MOMENT_NS = 100_000_000
_LEAST_TOGETHER = 3
_LATE_NS = 1_000_000_000
"""A server whose timer is up closes no later than this after a request woke it."""
_LEAST_TIMER_NS = 100_000_000
"""[ns] No server is known to close connections that were idle for less."""


def failure_message(analysis: Analysis, group: Group, did: str) -> str:
    """Return the sentence that says what the upstream did with the requests of `group`."""
    n = group.n_losses
    waits = failure_waits(group)
    acknowledged = count_losses(loss for loss in group.losses if is_acknowledged(loss))
    had = f"{acknowledged} of them acknowledged" if acknowledged < n else "acknowledged"
    fresh = count_losses(loss for loss in group.losses if not loss.is_reused)
    where = "a fresh connection" if n == 1 else "fresh connections"
    on_fresh = "" if not fresh else f" on {where}" if fresh == n else f" {fresh} of them on fresh connections"
    upstream = group.upstream(analysis)
    rtt = f"; one RTT is {about(upstream.rtt_p50_ns)}" if upstream and upstream.rtt_p50_ns >= 0 else ""
    after = f"{duration_range(waits)} after the request{rtt}.{_together(analysis, group)}"
    requests = count_of(n, "request")
    if not acknowledged:
        none = "it" if n == 1 else "any"
        return f"{group.subject} {did} of {requests}{on_fresh} without having acknowledged {none}, {after}"
    had += f",{on_fresh}" if on_fresh else ""
    if unseen := count_losses(loss for loss in group.losses if loss.is_end_unseen):
        which = f"{unseen:,} of them" if unseen < n else "it" if n == 1 else "they"
        had += f"; whether {which} {'was' if unseen == 1 else 'were'} whole is not seen"
    return f"{group.subject} took {requests} ({had}) and {did} without a response, {after}"


def failure_waits(group: Group) -> list[int]:
    """Return how long after the request each closing came [ns]."""
    pairs = zip(group.losses, group.claims, strict=True)
    return [max(c.closing.ts_ns - last_sent_ns(loss), 0) for loss, c in pairs if c.closing is not None]


def failure_remedy(group: Group, analysis: Analysis) -> str:
    """Return where to look for a failure inside the upstream."""
    words = server_words(group.losses[0].connection)
    named = ", ".join(part for part in words if part)
    text = (
        f"Read the log of {group.subject} at these times: unhandled errors, worker timeouts and restarts"
        f"{f' ({named})' if named else ''}, out-of-memory kills (`dmesg`), reloads that do not wait for requests."
    )
    if is_timer_excluded(analysis, group) and not _gaps_at_the_timer(analysis, group):
        text += " No timer at the proxy helps."
    elif is_timer_possible(analysis, group):
        text += (
            " An idle timer is not excluded: all these requests came after longer idle gaps than any that was answered."
        )
    whole = [loss for loss in group.losses if not loss.is_end_unseen]
    if len(whole) < group.n_losses:
        text += " Of an upload that was to go on, also a limit of its size, or a refusal before it was read."
    text += _at_the_timer(analysis, group)
    if any(is_acknowledged(loss) and sends_again(analysis, loss) is not False for loss in whole):
        directive = f"{nginx_module(analysis, group.losses[0])}_next_upstream"
        by = f" ({directive})" if proxy_kind(analysis) is ProxyKind.NGINX else ""
        text += (
            f"\n\nThe upstream had the requests: a retry{by} may run one twice, and a request that kills its worker"
            " kills the next one too."
        )
    return text


def failure_confidence(analysis: Analysis, group: Group) -> Confidence:
    """Return how certain a failure inside the upstream is at most: not where its idle timer may have closed instead."""
    # How long a connection was idle that was open when the capture began, nobody knows.
    is_gap_unknown = any(loss.idle_before_ns < 0 and not is_among_others(loss) for loss in group.losses)
    is_doubtful = (
        is_timer_possible(analysis, group)
        or bool(_gaps_at_the_timer(analysis, group))
        or (is_gap_unknown and not is_timer_excluded(analysis, group))
    )
    return Confidence.LIKELY if is_doubtful else Confidence.CONFIRMED


def is_timer_excluded(analysis: Analysis, group: Group) -> bool:
    """Tell whether no idle timer of the upstream can have closed these connections.

    It cannot where the upstream closes on fresh connections as well, or long after it had the request; nor where longer
    idle gaps were answered.
    """
    if any(not loss.is_reused for loss in group.losses):
        return True
    upstream = group.upstream(analysis)
    rtt = max(upstream.rtt_p50_ns, upstream.rtt_p99_ns, 0) if upstream is not None else 0
    waits = failure_waits(group)
    if waits and min(waits) > 2 * rtt + _LATE_NS:
        return True
    gaps = [loss.idle_before_ns for loss in group.losses]
    return upstream is not None and min(gaps) >= 0 and upstream.longest_answered_gap_ns > max(gaps)


def is_timer_possible(analysis: Analysis, group: Group) -> bool:
    """Tell whether all these requests came after longer idle gaps than any that was answered."""
    upstream = group.upstream(analysis)
    gaps = [loss.idle_before_ns for loss in group.losses]
    return (
        not is_timer_excluded(analysis, group)
        and upstream is not None
        and min(gaps) > max(upstream.longest_answered_gap_ns, _LEAST_TIMER_NS)
    )


def _at_the_timer(analysis: Analysis, group: Group) -> str:
    """Say so where connections were closed at the age of idle ones, whatever had come meanwhile."""
    gaps = _gaps_at_the_timer(analysis, group)
    if not gaps:
        return ""
    n = len(gaps)
    these = "All these" if n == group.n_losses else f"{n:,} of these"
    what = "This connection was" if n == group.n_losses == 1 else f"{these} connections were"
    return (
        f" {what} closed at the age at which {group.subject} closes idle ones: its idle timer may have been up before"
        f" the request came, and looked at late. Then an idle limit at the proxy below {about(min(gaps))} avoids it."
    )


def _gaps_at_the_timer(analysis: Analysis, group: Group) -> list[int]:
    """Return the idle gaps of requests that were closed at the age at which idle connections are [ns]."""
    upstream = group.upstream(analysis)
    pairs = zip(group.losses, group.claims, strict=True)
    return [loss.idle_before_ns for loss, claim in pairs if is_closed_at_age(loss, upstream, claim.closing)]


def _together(analysis: Analysis, group: Group) -> str:
    """Say so where several connections were closed within one moment: that is the end of a process, or of one timer."""
    pairs = zip(group.losses, group.claims, strict=True)
    # Streams of one connection end together whatever ended it.
    closed = {x.connection.conn: (c.closing.ts_ns, x.connection.first_ts_ns) for x, c in pairs if c.closing is not None}
    ends = sorted(closed.values())
    most, first, at = 0, 0, 0
    for last, (ts, _) in enumerate(ends):
        while ts - ends[first][0] > _MOMENT_NS:
            first += 1
        if last - first + 1 > most:
            most, at = last - first + 1, first
    if most < _LEAST_TOGETHER or 2 * most < len(ends):
        return ""
    # A process that went away accepts nothing more: one that was opened after another had ended says that it did not.
    if max(opened for _, opened in ends[at : at + most]) > ends[at][0]:
        return ""
    # Connections that were last used together reach the end of an idle timer together.
    cause = "a process went away"
    if is_timer_possible(analysis, group) or _gaps_at_the_timer(analysis, group):
        cause += ", or a timer that they share was up"
    return f" {most} of them ended within a tenth of a second: {cause}."
