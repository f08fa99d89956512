"""What rules say alike whose upstream failed with the request in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.units import about, count_of
from pcapdiag.rules._wire import is_acknowledged, last_sent_ns
from pcapdiag.rules._words import duration_range

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis
    from pcapdiag.rules._rule import Group

_MOMENT_NS = 100_000_000
_LEAST_TOGETHER = 3


def failure_message(analysis: Analysis, group: Group, did: str) -> str:
    """Return the sentence that says what the upstream did with the requests of `group`."""
    n = len(group.losses)
    waits = failure_waits(group)
    acknowledged = sum(is_acknowledged(loss) for loss in group.losses)
    had = f"{acknowledged} of them acknowledged" if acknowledged < n else "acknowledged"
    fresh = sum(not loss.is_reused for loss in group.losses)
    where = "a fresh connection" if n == 1 else "fresh connections"
    on_fresh = "" if not fresh else f" on {where}" if fresh == n else f" {fresh} of them on fresh connections"
    upstream = analysis.upstream_by_endpoint.get(group.losses[0].connection.resp)
    rtt = f"; one RTT is {about(upstream.rtt_p50_ns)}" if upstream and upstream.rtt_p50_ns >= 0 else ""
    after = f"{duration_range(waits)} after the request{rtt}.{_together(group)}"
    requests = count_of(n, "request")
    if not acknowledged:
        none = "it" if n == 1 else "any"
        return f"{group.subject} {did} of {requests}{on_fresh} without having acknowledged {none}, {after}"
    had += f",{on_fresh}" if on_fresh else ""
    return f"{group.subject} took {requests} ({had}) and {did} without a response, {after}"


def failure_waits(group: Group) -> list[int]:
    """Return how long after the request each closing came [ns]."""
    pairs = zip(group.losses, group.claims, strict=True)
    return [max(c.closing.ts_ns - last_sent_ns(loss), 0) for loss, c in pairs if c.closing is not None]


def failure_remedy(group: Group) -> str:
    """Return where to look for a failure inside the upstream."""
    return (
        f"Read the log of {group.subject} at these times: unhandled errors, worker timeouts and restarts (gunicorn"
        " --timeout, php-fpm request_terminate_timeout), out-of-memory kills (`dmesg`), reloads that do not wait for"
        " requests. No timer at the proxy helps.\n\nThe requests were delivered: a retry (proxy_next_upstream) may run"
        " one twice, and a request that kills its worker kills the next one too."
    )


def _together(group: Group) -> str:
    """Say so where several connections were closed within one moment: that is the end of a process."""
    times = sorted(c.closing.ts_ns for c in group.claims if c.closing is not None)
    most, first = 0, 0
    for last, ts in enumerate(times):
        while ts - times[first] > _MOMENT_NS:
            first += 1
        most = max(most, last - first + 1)
    if most < _LEAST_TOGETHER or 2 * most < len(times):
        return ""
    return f" {most} of them ended within a tenth of a second: a process went away."
