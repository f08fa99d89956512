"""PD108: many connections closed within a moment, at different idle ages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import Leg
from pcapdiag.base.findings import Confidence, RuleFacts, Severity
from pcapdiag.base.units import about, count_of
from pcapdiag.rules._again import retries
from pcapdiag.rules._moments import mass_closings
from pcapdiag.rules._rule import GroupText, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.findings import Finding
    from pcapdiag.rules._moments import MassClosing


class MassClose(Rule):
    """Many connections were closed within a moment, at different idle ages: a process ended, no timer.

    What it looks for
    -----------------
    At least five connections of an upstream and half of those that were open, or at least three that were all, which it
    closed within a fifth of a second, after idle times of which the longest is at least twice the shortest; none of
    them at the age of its idle timer. The same of a proxy, with all its connections.

    Why it matters
    --------------
    A reload, a deployment or a scale-in closes what is idle and, if it does not wait, what is in use. Each request lost
    to it has its own cause (PD101 where it crossed the closing, PD201 or PD202 where it was in hand); that all of them
    are one event says where to look.

    Evidence
    --------
    The times of the closings and the idle age of each connection.

    When it is wrong
    ----------------
    Where a device on the path ends all connections at once in the upstream's name.

    Remedy
    ------
    Take the upstream out of rotation before it is stopped, and let it finish what it has. Timeouts do not help.

    References
    ----------
    RFC 9112 section 9.6 (how a server should end a connection).
    """

    code = "PD108"
    name = "mass-close"
    title = "Many connections were closed at one moment"
    severity = Severity.WARNING
    needs = ("several connections that are open at one time",)
    facts = RuleFacts(goes_down=True)

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream that closed many connections at one moment, and per proxy that did."""
        for closing in mass_closings(analysis):
            yield self._finding(analysis, closing)

    def missing(self, analysis: Analysis) -> str:
        """Return why no moment could be looked for."""
        if (np.asarray(analysis.legs) == Leg.UPSTREAM).any():
            return ""
        return "the capture holds no connection to an upstream"

    def _finding(self, analysis: Analysis, closing: MassClosing) -> Finding:
        subject, moments, is_upstream = closing.subject, closing.moments, closing.is_upstream
        n_lost = len(closing.lost)
        worst = max(moments, key=lambda m: len(m.conns))
        n_closed = sum(len(m.conns) for m in moments)
        # Without a word on a proxy it may as well be a client that ends.
        is_proxy = not is_upstream and _has_proxy(analysis)
        who = f"The proxy {subject}" if is_proxy else subject
        within = about(max(worst.last_ns - worst.first_ns, 1_000))
        n_worst = count_of(len(worst.conns), "connection")
        idle = f"{about(worst.shortest_ns)} to {about(worst.longest_ns)}"
        whose = " of the proxy; no client went away" if is_proxy else ""
        text = (
            f"{who} closed {n_worst} of {worst.n_open:,} open ones within {within}, idle for {idle}: no idle timer, but"
            f" a reload, a stop or a scale-in{whose}."
        )
        if len(moments) > 1:
            text += f" So it did at {len(moments):,} moments, {n_closed:,} connections together."
        if n_lost:
            were = "request was" if n_lost == 1 else "requests were"
            text += f" {n_lost:,} {were} on these connections; each is told under its own cause."
        else:
            text += " No request was lost to it."
        drain = (
            "Take the upstream out of rotation at the proxy before it is stopped or reloaded, and let it finish what it"
            " has: no timeout helps against a stop. Look in its log and in what deploys it for these times."
            if is_upstream
            else f"Let {'the proxy' if is_proxy else 'it'} finish its requests before it is stopped (a graceful stop or"
            " reload), and look in what deploys it for these times."
        )
        words = GroupText(
            message=text,
            refuted_by="A line in the log of this time that shows the process went on, or closings at one idle age.",
            remedy=f"{drain}\n\n{retries(analysis, closing.lost[0])}" if n_lost and is_upstream else drain,
            severity=Severity.WARNING if n_lost else Severity.INFO,
            details={
                "moments": len(moments),
                "connections_closed": n_closed,
                "lost_requests": n_lost,
                "shortest_idle_ns": worst.shortest_ns,
                "longest_idle_ns": worst.longest_ns,
            },
        )
        return replace(
            self.finding(subject, words, (), Confidence.LIKELY, "" if is_upstream else "proxy"),
            count=len(moments),
            first_ts_ns=min(m.first_ns for m in moments),
            last_ts_ns=max(m.last_ns for m in moments),
        )


def _has_proxy(analysis: Analysis) -> bool:
    """Tell whether anything says that the originators are a proxy: its configuration, its logs, or its clients."""
    has_clients = bool((np.asarray(analysis.legs) == Leg.CLIENT).any())
    return analysis.settings is not None or analysis.log is not None or has_clients
