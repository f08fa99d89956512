"""From two sides to a `Comparison`: what became of each cause at each upstream, and what that rests on.

A cause is fixed when what made it possible is gone (no connection is reused, the proxy closes first, the upstream keeps
connections longer), or when its absence can hardly be luck. Where neither is shown, nobody can tell: a wrong "fixed" is
worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcapdiag.base.findings import Exposure, Role
from pcapdiag.base.units import count_of
from pcapdiag.report.compare.chance import CERTAIN, chance_of_none, highest_rate, in_words, is_fewer, requests_needed
from pcapdiag.report.compare.model import (
    SCHEMA_VERSION,
    CauseChange,
    ComparedSide,
    Comparison,
    Judgement,
    UpstreamChange,
)
from pcapdiag.report.compare.side import together
from pcapdiag.report.summary import brief

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pcapdiag.base.findings import RuleFacts
    from pcapdiag.report.compare.side import Measures, ReportSide, Trouble
    from pcapdiag.report.model import Tool

ALL = "all upstreams"

_OF_REUSE = (Exposure.REUSE, Exposure.FORGOTTEN, Exposure.RACE)
_MIN_CLOSES = 3
"""So many idle closings by the proxy show a timer; one or two may have had other reasons."""
_MAX_BLOCKS = 2
_MARGIN_NS = 60_000_000
"""Timers fire so much late."""


@dataclass(frozen=True, slots=True)
class _Case:
    """One cause at one subject, both sides; counts are -1 where the side was not asked."""

    facts: RuleFacts
    before: Measures | None
    after: Measures | None
    n_before: int
    n_after: int
    moments: int
    """How often it happened in BEFORE: losses of one moment may have had one cause, and count as one."""
    least_gap_ns: int
    had_risk: bool
    has_risk: bool
    duration_ns: int
    why_not: str
    """Why AFTER says nothing about this cause; empty if it does."""

    @property
    def was_exposed(self) -> bool:
        return self.n_before > 0 or self.had_risk


def compare_sides(before: ReportSide, after: ReportSide, *, tool: Tool, as_one: bool = False) -> Comparison:
    """Return what became of each cause.

    Parameters
    ----------
    before, after : ReportSide
        The two reports.
    tool : Tool
        Who compares.
    as_one : bool
        Whether all upstreams are compared as one, because their addresses changed; done anyway if no address is in
        both.

    Returns
    -------
    Comparison
        One entry per upstream, those that need somebody first.
    """
    endpoints = dict.fromkeys((*before.upstreams, *after.upstreams))
    as_one = as_one or not before.upstreams.keys() & after.upstreams.keys()
    subjects = [ALL] if as_one else [*endpoints, *_others(before, after, endpoints)]
    changes = sorted((_upstream(subject, before, after) for subject in subjects), key=lambda c: -c.outcome)
    outcome = max((c.outcome for c in changes), default=Judgement.CANNOT_TELL)
    return Comparison(
        schema_version=SCHEMA_VERSION,
        tool=tool,
        outcome=outcome,
        headline=_headline(outcome, changes),
        before=_side(before),
        after=_side(after),
        as_one=as_one,
        upstreams=tuple(changes),
    )


def _side(side: ReportSide) -> ComparedSide:
    return ComparedSide(side.names, side.frames, side.duration_ns, side.requests)


def _others(before: ReportSide, after: ReportSide, endpoints: Iterable[str]) -> list[str]:
    """Return the subjects of findings that are no endpoints, such as upstream blocks."""
    subjects = dict.fromkeys(t.subject for side in (before, after) for t in side.troubles)
    return [s for s in subjects if s not in set(endpoints)]


def _measures(side: ReportSide, subject: str) -> Measures | None:
    if subject == ALL:
        return together(side.upstreams.values()) if side.upstreams else None
    if subject in side.upstreams:
        return side.upstreams[subject]
    # A block has no measurements of its own: what it was asked is what the proxy was asked.
    return together(side.upstreams.values()) if side.upstreams and ":" not in subject else None


def _troubles(side: ReportSide, subject: str) -> dict[str, Trouble]:
    """Return what showed at a subject, by code."""
    found: dict[str, Trouble] = {}
    for trouble in side.troubles:
        if subject in (trouble.subject, ALL):
            found[trouble.code] = found[trouble.code].joined(trouble) if trouble.code in found else trouble
    return found


def _upstream(subject: str, before: ReportSide, after: ReportSide) -> UpstreamChange:
    was, now = _measures(before, subject), _measures(after, subject)
    shown_before, shown_after = _troubles(before, subject), _troubles(after, subject)
    shown = shown_after | shown_before
    lost_to = {one.facts.exposure for one in shown.values() if not one.facts.risk_of}
    causes = []
    for code, one in sorted(shown.items()):
        if one.facts.risk_of and one.facts.exposure in lost_to:
            continue  # the same trouble, before it costs a request
        case = _Case(
            facts=one.facts,
            before=was,
            after=now,
            n_before=shown_before[code].count if code in shown_before else 0,
            n_after=shown_after[code].count if code in shown_after else 0,
            moments=one.moments,
            least_gap_ns=one.least_gap_ns,
            had_risk=_is_at_risk(code, shown_before),
            has_risk=_is_at_risk(code, shown_after),
            duration_ns=after.duration_ns,
            why_not=_why_not(after, code, one.facts),
        )
        outcome, reason = _judge(case)
        causes.append(CauseChange(code, one.name, outcome, case.n_before, case.n_after, reason))
    if not causes:
        outcome, reason = _quiet(was, now)
        causes.append(CauseChange("", "", outcome, 0, 0, reason))
    is_block = subject not in {ALL, *before.upstreams, *after.upstreams}
    return UpstreamChange(
        subject=subject,
        outcome=max(cause.outcome for cause in causes),
        before=None if is_block else was,
        after=None if is_block else now,
        causes=tuple(sorted(causes, key=lambda cause: -cause.outcome)),
    )


def _is_at_risk(code: str, shown: Mapping[str, Trouble]) -> bool:
    """Tell whether a side shows the risk of a cause, which may be that risk itself."""
    return any(one.facts.risk_of and code in (one.code, *one.facts.risk_of) for one in shown.values())


def _why_not(side: ReportSide, code: str, facts: RuleFacts) -> str:
    if code in side.not_evaluated:
        # What a race needs is looked at in the numbers; a rule without a timeout to compare says less than they do.
        return "" if facts.exposure is Exposure.RACE else side.not_evaluated[code]
    return "" if code in side.evaluated else "it was not asked for it (--select, --ignore)"


def _judge(case: _Case) -> tuple[Judgement, str]:
    """Return the outcome of one cause that showed on at least one side, and why."""
    if case.n_after or case.has_risk:
        return _exposed(case)
    if case.why_not:
        return Judgement.CANNOT_TELL, f"AFTER says nothing about it: {case.why_not}."
    exposure = case.facts.exposure
    noun, _, n_after = _chances(case)
    if exposure in _OF_REUSE:  # that none came on a reused connection says something where there are requests
        noun, n_after = "request", case.after.requests if case.after is not None else 0
    if n_after <= 0:
        return Judgement.CANNOT_TELL, f"AFTER holds no {noun} to it."
    if case.after is not None and exposure in _OF_REUSE:
        if case.before is not None and exposure is Exposure.RACE:
            return _race(case, case.before, case.after)
        if case.before is not None and not case.after.reused:
            return _without_reuse(case.before, case.after)
        if exposure is Exposure.FORGOTTEN and case.least_gap_ns >= 0:
            return _forgotten(case, case.after)
    return _by_count(case)


def _exposed(case: _Case) -> tuple[Judgement, str]:
    """Judge a cause that AFTER shows."""
    if not case.was_exposed:
        first = "BEFORE does not hold this upstream" if case.before is None else "BEFORE does not show it"
        shown = f"it showed {count_of(case.n_after, 'time')}" if case.n_after else "the risk is there"
        return Judgement.NEWLY_EXPOSED, f"In AFTER {shown}; {first}."
    if not case.n_after:
        timeout = case.after.idle_timeout_ns if case.after is not None else -1
        after = f" after {brief(timeout)}" if timeout >= 0 else ""
        return Judgement.STILL_EXPOSED, (
            f"AFTER lost no request to it, but the upstream still closes idle connections{after} while the proxy "
            "holds them: the next request on one of them may be lost."
        )
    noun, n_before, n_after = _chances(case)
    trend = "no clear change"
    if is_fewer(case.n_before, n_before, case.n_after, n_after):
        trend = "fewer than before"
    elif is_fewer(case.n_after, n_after, case.n_before, n_before):
        trend = "more than before"
    return Judgement.STILL_EXPOSED, (
        f"{case.n_before:,} in {count_of(n_before, noun)} before, {case.n_after:,} in {n_after:,} after: {trend}."
    )


def _forgotten(case: _Case, now: Measures) -> tuple[Judgement, str]:
    """Judge losses on connections that something on the way forgot: only a gap as long can show that it does not."""
    gap = case.least_gap_ns
    if now.idle_closes_by_proxy >= _MIN_CLOSES and now.proxy_idle_close_ns + _MARGIN_NS < gap:
        return Judgement.FIXED, (
            f"The proxy now closes idle connections {brief(now.proxy_idle_close_ns)} old "
            f"({count_of(now.idle_closes_by_proxy, 'time')}); BEFORE lost requests from {brief(gap)} idle on. "
            "Whether the path still forgets connections AFTER cannot see."
        )
    if now.longest_answered_gap_ns < gap:
        longest = brief(now.longest_answered_gap_ns) if now.longest_answered_gap_ns >= 0 else "unknown"
        return Judgement.CANNOT_TELL, (
            f"BEFORE lost requests from {brief(gap)} idle on; the longest idle gap answered in AFTER was {longest}. "
            "Answers after longer ones would decide."
        )
    return _by_count(case)


def _race(case: _Case, was: Measures, now: Measures) -> tuple[Judgement, str]:
    """Judge the idle-close race: first whether it can happen at all, then whether it would have shown."""
    timeout = was.idle_timeout_ns
    window = timeout - max(was.rtt_ns, 0)
    if not now.reused:
        return _without_reuse(was, now)
    if timeout < 0 and case.n_before:
        return Judgement.CANNOT_TELL, (
            "BEFORE shows no idle timeout: if a reload, a deployment or a restart closed the connections, AFTER says "
            "nothing unless it happened there, too."
        )
    is_proxy_first = now.idle_closes_by_proxy >= _MIN_CLOSES and not now.idle_closes_by_upstream
    if is_proxy_first and now.proxy_idle_close_ns + _MARGIN_NS < window:
        return Judgement.FIXED, (
            f"The proxy now closes idle connections first, {brief(now.proxy_idle_close_ns)} old "
            f"({count_of(now.idle_closes_by_proxy, 'time')}, the upstream never): below the upstream's "
            f"{brief(timeout)} less one RTT, as BEFORE measured it. AFTER cannot see whether the upstream still has it."
        )
    outlived = now.longest_answered_gap_ns > timeout + max(_MARGIN_NS, timeout // 50)
    if outlived and not now.idle_closes_by_upstream:
        longest = brief(now.longest_answered_gap_ns)
        text = (
            f"The upstream now keeps connections longer: it answered after {longest} idle, before it closed them "
            f"after {brief(timeout)}. Gaps beyond {longest} were not seen."
        )
        if not case.n_before and is_proxy_first:
            return (
                Judgement.FIXED,
                f"{text} The proxy closed {count_of(now.idle_closes_by_proxy, 'idle connection')} first.",
            )
        outcome, reason = _by_count(case)
        return outcome, f"{text} {reason}"
    if now.longest_gap_ns < window:
        longest = brief(now.longest_gap_ns) if now.longest_gap_ns >= 0 else "unknown"
        closer = "who closes idle connections first was not shown"
        if is_proxy_first:
            closer = f"the proxy closes idle connections {brief(now.proxy_idle_close_ns)} old, not clearly earlier"
        return Judgement.CANNOT_TELL, (
            f"No gap came near the upstream's timeout: the longest idle gap used in AFTER was {longest}, the race "
            f"window of BEFORE begins at {brief(max(window, 0))}, and {closer}. Requests after more than "
            f"{brief(timeout)} idle, answered or lost, would decide."
        )
    return _by_count(case)


def _without_reuse(was: Measures, now: Measures) -> tuple[Judgement, str]:
    """Judge where AFTER reuses no connection: that may be a setting, or too few requests to see any reuse."""
    new = max(was.requests - was.reused, 0)
    luck = (new / was.requests) ** now.requests if was.requests else 1.0
    if luck > CERTAIN:
        return Judgement.CANNOT_TELL, (
            f"Too few requests: none of AFTER's {now.requests:,} came on a reused connection, which says little where "
            f"BEFORE reused one for {was.reused:,} of {was.requests:,}."
        )
    return Judgement.FIXED, (
        f"Connections are not reused any more: each of the {now.requests:,} requests had a new one. What that costs "
        "stands under handshakes."
    )


def _chances(case: _Case) -> tuple[str, int, int]:
    """Return what could have been lost to this cause, and how many of it each side had."""
    noun, field = "request", "requests"
    if case.facts.exposure in _OF_REUSE:
        noun, field = "reused request", "reused"
    elif case.facts.exposure is Exposure.CONNECTION:
        noun, field = "connection", "connections"
    counts = [getattr(side, field) if side is not None else 0 for side in (case.before, case.after)]
    if case.facts.role is Role.NO_PEER:  # such a request never reached an upstream
        counts = [counts[0] + case.n_before, counts[1] + case.n_after]
    return noun, counts[0], counts[1]


def _by_count(case: _Case) -> tuple[Judgement, str]:
    """Judge by the number of requests that were not lost."""
    noun, n_before, n_after = _chances(case)
    if not case.n_before:
        return Judgement.CANNOT_TELL, (
            f"BEFORE lost no {noun} to it, so that none in AFTER proves nothing; what made it possible was not shown "
            "to be gone."
        )
    luck = chance_of_none(case.moments, n_before, n_after)
    at_once = f" at {count_of(case.moments, 'moment')}" if case.moments < case.n_before else ""
    what = (
        f"BEFORE lost {case.n_before:,} of {count_of(n_before, noun)}{at_once}, AFTER none of {n_after:,}: had nothing "
        f"changed, the chance of that would be {in_words(luck)}"
    )
    if luck > CERTAIN:
        needed = requests_needed(case.moments, n_before)
        return Judgement.CANNOT_TELL, (
            f"AFTER is too short. {what}; {count_of(needed, noun)} without a loss would decide"
            f"{_time_for(needed, n_after, case.duration_ns)}."
        )
    return Judgement.FIXED, f"{what}. At most {100 * highest_rate(n_after):.1f} % can still be lost (95 % sure)."


def _time_for(needed: int, n_after: int, duration_ns: int) -> str:
    """Return how long a capture must be for so many requests, at AFTER's traffic."""
    if n_after <= 0 or duration_ns <= 0:
        return ""
    return f", about {brief(needed * duration_ns // n_after)} of AFTER's traffic"


def _quiet(was: Measures | None, now: Measures | None) -> tuple[Judgement, str]:
    """Judge an upstream without trouble on either side."""
    if now is None or not now.requests:
        return Judgement.CANNOT_TELL, "AFTER holds no request to it; BEFORE shows no trouble."
    first = "" if was is not None and was.requests else " BEFORE holds no request to it."
    if not now.reused:
        return Judgement.NOT_EXPOSED, f"Nothing was lost, and no connection is reused.{first}"
    if now.idle_closes_by_proxy >= _MIN_CLOSES and not now.idle_closes_by_upstream:
        close = brief(max(now.proxy_idle_close_ns, 0))
        return Judgement.NOT_EXPOSED, f"Nothing was lost; the proxy closes idle connections first, {close} old.{first}"
    longest = f", idle gaps up to {brief(now.longest_gap_ns)}" if now.longest_gap_ns >= 0 else ""
    return Judgement.NOT_EXPOSED, f"Nothing was lost in {count_of(now.requests, 'request')}{longest}.{first}"


def _headline(outcome: Judgement, changes: Sequence[UpstreamChange]) -> str:
    """Return the outcome in one sentence, and in a few words what had another one."""
    causes = [(change, cause) for change in changes for cause in change.causes]
    if not causes:
        return "Cannot tell: neither side holds a request to an upstream."
    mine = [(change, cause) for change, cause in causes if cause.outcome == outcome]
    codes = dict.fromkeys(cause.code for _, cause in mine if cause.code)
    texts = [_numbers(code, [cause for _, cause in mine if cause.code == code]) for code in codes]
    text = f"{_WORDS[outcome]}: {', '.join(texts) or 'nothing was lost'} at {_places([c for c, _ in mine])}"
    for other in sorted(Judgement, reverse=True):
        names = dict.fromkeys(f"{c.code} {c.name}" for _, c in causes if c.code and c.outcome == other != outcome)
        text += f"; {outcome_words(other)}: {', '.join(names)}" if names else ""
    return f"{text}."


def _numbers(code: str, causes: Sequence[CauseChange]) -> str:
    before, after = sum(cause.before for cause in causes), sum(cause.after for cause in causes)
    numbers = f" ({before:,} before, {after:,} after)" if before or after else ""
    return f"{code} {causes[0].name}{numbers}"


def _places(changes: Sequence[UpstreamChange]) -> str:
    """Return where it is: one upstream by its name, several by their number, blocks by their names."""
    upstreams = dict.fromkeys(c.subject for c in changes if c.before is not None or c.after is not None)
    blocks = dict.fromkeys(c.subject for c in changes if c.subject not in upstreams)
    names = [count_of(len(upstreams), "upstream")] if len(upstreams) > 1 else [*upstreams]
    names += [count_of(len(blocks), "block")] if len(blocks) > _MAX_BLOCKS else [*blocks]
    return " and ".join(names)


_WORDS = {
    Judgement.NOT_EXPOSED: "Not exposed",
    Judgement.FIXED: "Fixed",
    Judgement.CANNOT_TELL: "Cannot tell",
    Judgement.STILL_EXPOSED: "Still exposed",
    Judgement.NEWLY_EXPOSED: "Newly exposed",
}


def outcome_words(outcome: Judgement) -> str:
    """Return an outcome as people say it."""
    return _WORDS[outcome].lower()
