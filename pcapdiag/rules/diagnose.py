"""Diagnosis: run the rules, give every unanswered request exactly one cause, collect verdicts, order findings.

It knows rules by their attributes only; what a cause looks like is each rule's own affair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pcapdiag.analysis.tls import count_http2
from pcapdiag.base.codes import ExchangeFlag, Leg, Protocol
from pcapdiag.base.errors import UsageError
from pcapdiag.base.findings import Exposure, Finding, Verdict, VerdictKind
from pcapdiag.base.suggest import did_you_mean
from pcapdiag.rules import RULES
from pcapdiag.rules._rule import CauseRule
from pcapdiag.rules.pd999_undetermined import Undetermined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.rules._claim import Claim
    from pcapdiag.rules._rule import Rule


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the rules say.

    Attributes
    ----------
    findings : tuple of Finding
        Worst first, then in report order; those of deselected codes are not among them.
    verdicts : tuple of Verdict
        One per rule, in report order.
    hidden : tuple of Finding
        Findings of deselected codes. Their requests keep their cause.
    """

    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]
    hidden: tuple[Finding, ...] = ()


def diagnose(analysis: Analysis, *, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> Diagnosis:
    """Return findings and verdicts for the whole input.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    select : sequence of str
        Codes, their beginnings (PD1) or names to show; empty for all.
    ignore : sequence of str
        The same, not to show.

    Returns
    -------
    Diagnosis
        Every unanswered request appears in exactly one finding, shown or hidden.

    Raises
    ------
    UsageError
        If an entry of `select` or `ignore` fits no rule.
    """
    shown = codes_matching(select) if select else {rule.code for rule in RULES}
    shown -= codes_matching(ignore)
    causes = assign_causes(analysis)
    findings: list[Finding] = []
    verdicts: list[Verdict] = []
    for rule_class in RULES:
        rule = rule_class()
        found = tuple(
            rule.findings(analysis, causes.get(rule.code, ())) if isinstance(rule, CauseRule) else rule.check(analysis)
        )
        findings.extend(found)
        verdicts.append(_verdict(analysis, rule, found, is_shown=rule.code in shown))
    rank = {rule.code: number for number, rule in enumerate(RULES)}
    findings.sort(key=lambda f: (-f.severity, rank[f.code], -f.count, f.first_ts_ns, f.identifier))
    return Diagnosis(
        findings=tuple(f for f in findings if f.code in shown),
        verdicts=tuple(verdicts),
        hidden=tuple(f for f in findings if f.code not in shown),
    )


def assign_causes(analysis: Analysis) -> dict[str, list[tuple[Loss, Claim]]]:
    """Return for each code the requests whose cause it is: every loss exactly once.

    Where two rules claim the same request, the one that supersedes the other has it, else the first in report order.

    Parameters
    ----------
    analysis : Analysis
        All tables.

    Returns
    -------
    dict of str to list of (Loss, Claim)
        In the order of the losses.
    """
    owner: dict[tuple[int, int], tuple[CauseRule, Loss, Claim]] = {}
    for rule_class in RULES:
        if not issubclass(rule_class, CauseRule) or rule_class is Undetermined:
            continue
        rule = rule_class()
        for loss, claim in rule.claims(analysis):
            key = loss.connection.conn, loss.depth
            if loss.flags & ExchangeFlag.NOT_OWED:
                continue
            if rule.reads_protocol and loss.connection.protocol is Protocol.OPAQUE and not loss.is_connect:
                continue
            if key not in owner or owner[key][0].code in rule.supersedes:
                owner[key] = rule, loss, claim
    unheard = (loss for loss in analysis.truncated if loss.n_undelivered)
    left = tuple(loss for loss in (*analysis.losses, *unheard) if (loss.connection.conn, loss.depth) not in owner)
    causes = {Undetermined.code: list(Undetermined().claims(replace(analysis, losses=left)))}
    for loss in (*analysis.losses, *analysis.truncated, *analysis.early):
        entry = owner.get((loss.connection.conn, loss.depth))
        if entry is not None:
            causes.setdefault(entry[0].code, []).append((loss, entry[2]))
    return causes


def codes_matching(patterns: Iterable[str]) -> set[str]:
    """Return the codes that the patterns stand for.

    Parameters
    ----------
    patterns : iterable of str
        Codes, their beginnings (PD1) or names.

    Returns
    -------
    set of str
        Codes of rules.

    Raises
    ------
    UsageError
        If a pattern fits no rule.
    """
    codes: set[str] = set()
    for pattern in patterns:
        wanted = pattern.strip()
        fitting = {r.code for r in RULES if r.code.startswith(wanted.upper()) or r.name == wanted.lower()}
        if not wanted or not fitting:
            words = [word for r in RULES for word in (r.code, r.name)]
            msg = f"no rule fits {pattern!r}{did_you_mean(wanted, words) or '; `pcapdiag rule` lists the codes'}"
            raise UsageError(msg)
        codes |= fitting
    return codes


def _verdict(analysis: Analysis, rule: Rule, findings: tuple[Finding, ...], *, is_shown: bool) -> Verdict:
    if findings:
        hidden = sum(f.count for f in findings)
        reason = "" if is_shown else f"not shown, as asked: {hidden} occurrences"
        return Verdict(rule.code, VerdictKind.FOUND, reason, rule.facts.role)
    reason = _nothing_to_judge(analysis) or rule.missing(analysis) or _unframed(analysis, rule)
    return Verdict(rule.code, VerdictKind.NOT_EVALUATED if reason else VerdictKind.CLEAN, reason, rule.facts.role)


def _unframed(analysis: Analysis, rule: Rule) -> str:
    """Return on which connections a rule that rests on requests saw none, because they are not told apart."""
    rests_on_requests = isinstance(rule, CauseRule) or bool(rule.facts.risk_of)
    if analysis.tls is None or not rests_on_requests or rule.facts.exposure is Exposure.CONNECTION:
        return ""
    n_unframed, n_all = count_http2(analysis.tls.http2, analysis.connections, analysis.legs)
    return (
        f"HTTP/2 whose streams are not seen, on {n_unframed} of {n_all} connections to upstreams" if n_unframed else ""
    )


def _nothing_to_judge(analysis: Analysis) -> str:
    """Return why no rule can say anything; empty if there is something to judge."""
    on_upstream_leg = analysis.legs == Leg.UPSTREAM
    if not on_upstream_leg.any():
        return "the capture holds no connection to an upstream"
    connections = analysis.connections
    both = (connections["orig_frames"] > 0) & (connections["resp_frames"] > 0)
    if not (both & on_upstream_leg).any() and not any(loss.icmp for loss in analysis.losses):
        return "only one direction of the connections to upstreams was captured"
    return ""
