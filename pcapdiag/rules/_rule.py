"""What every rule is: a documented class with a code, and a pure check of the whole analysis.

The class docstring is the rule's page: its first line the summary, then fixed headings. That text is
`docs/rules/` and `pcapdiag rule`; what a report says of a finding is made of what was measured.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from pcapdiag.analysis.checks import check_intervals
from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import Protocol
from pcapdiag.base.findings import Confidence, Finding, Occurrence, Role, RuleFacts, Severity
from pcapdiag.base.units import NS_PER_MS, about
from pcapdiag.rules._arrivals import arrival_text, arrivals_message, weigh
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._ends import proof_of, weigh_ends
from pcapdiag.rules._evidence import MOST_WITH_EVIDENCE, build_evidence
from pcapdiag.rules._precision import ANY, most_certain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.analysis.model import Analysis, Loss, Upstream
    from pcapdiag.base.findings import Change, Evidence
    from pcapdiag.proxy.join.arrivals import Arrival

HEADINGS = (
    "What it looks for",
    "Why it matters",
    "Evidence",
    "When it is wrong",
    "Remedy",
    "References",
)


class Rule(ABC):
    """One root cause.

    Attributes
    ----------
    code, name, title : str
        ``PD101``, ``idle-close-race``, and the headline of a finding. Codes are never reused.
    severity : Severity
        How bad it is for the service; a finding may lower it.
    needs, helped_by : tuple of str
        What must be in the capture for a verdict, and what makes it more certain.
    supersedes : tuple of str
        Codes that give way where both would explain the same request.
    since : str
        Version that brought the rule.
    facts : RuleFacts
        What others have to know of it: settings that it rests on, how it is drawn and compared.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    title: ClassVar[str]
    severity: ClassVar[Severity]
    needs: ClassVar[tuple[str, ...]]
    helped_by: ClassVar[tuple[str, ...]] = ()
    supersedes: ClassVar[tuple[str, ...]] = ()
    since: ClassVar[str] = "0.1"
    facts: ClassVar[RuleFacts] = RuleFacts()

    @abstractmethod
    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield what this rule finds, looking at nothing but `analysis`."""

    def missing(self, analysis: Analysis) -> str:  # noqa: ARG002 - most rules need nothing special
        """Return what the capture lacks for a verdict; empty if nothing."""
        return ""

    def finding(
        self,
        subject: str,
        words: GroupText,
        occurrences: Iterable[Occurrence],
        confidence: Confidence,
        group: str = "",
        *,
        protocol: str = ANY,
    ) -> Finding:
        """Return a finding of this rule.

        Parameters
        ----------
        subject : str
            What it is about: an upstream, or a group of them.
        words : GroupText
            What it says.
        occurrences : iterable of Occurrence
            Where it shows; their number and times are the finding's.
        confidence : Confidence
            How certain it is, as far as `words` do not lower that.
        group : str
            Tells findings about the same subject apart; part of the identifier.
        protocol : str
            What bounds its confidence (`_precision.most_certain`); empty where that was done before.

        Returns
        -------
        Finding
        """
        shown = tuple(occurrences)
        times = [o.request_ts_ns for o in shown]
        if protocol:
            confidence = min(confidence, most_certain(self.code, protocol))
        return Finding(
            code=self.code,
            name=self.name,
            title=self.title,
            severity=self.severity if words.severity is None else words.severity,
            confidence=min(confidence, words.confidence_at_most),
            subject=subject,
            message=words.message,
            identifier="/".join((self.code, subject, *([group] if group else []))),
            count=sum(o.stands_for for o in shown),
            first_ts_ns=min(times, default=-1),
            last_ts_ns=max(times, default=-1),
            refuted_by=words.refuted_by,
            remedy=words.remedy,
            occurrences=shown,
            details=words.details,
            changes=words.changes,
            facts=self.facts,
        )

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the rule's page."""
        return inspect.cleandoc(cls.__doc__ or "").split("\n", 1)[0]

    @classmethod
    def sections(cls) -> dict[str, str]:
        """Return the text under each heading of the rule's page."""
        sections: dict[str, str] = {}
        heading = ""
        lines = inspect.cleandoc(cls.__doc__ or "").split("\n")
        for line, below in zip(lines, [*lines[1:], ""], strict=True):
            if line and below and set(below) == {"-"}:
                heading = line
                sections[heading] = ""
            elif heading and not (line and set(line) == {"-"}):
                sections[heading] += line + "\n"
        return {heading: text.strip() for heading, text in sections.items()}


@dataclass(frozen=True, slots=True)
class Group:
    """All requests that one finding explains."""

    subject: str
    group: str
    losses: tuple[Loss, ...]
    claims: tuple[Claim, ...]

    def upstream(self, analysis: Analysis) -> Upstream | None:
        """Return what is known of the upstream that they were sent to; of several at once nothing is said."""
        first = self.losses[0]
        return None if first.crowd else analysis.upstream_by_endpoint.get(first.connection.resp)

    @property
    def n_losses(self) -> int:
        """How many requests they are: of a flood, each loss stands for many."""
        return count_losses(self.losses)

    @property
    def confidence(self) -> Confidence:
        """Confidence of most of the claims: the median, the lower one of two."""
        return Confidence(sorted(c.confidence for c in self.claims)[(len(self.claims) - 1) // 2])


class CauseRule(Rule):
    """A rule that explains single unanswered requests.

    Attributes
    ----------
    proofs : Proofs
        What captures of both ends and the application's own log do to its claims.
    reads_protocol : bool
        It rests on bytes being a request that is owed an answer: it says nothing of protocols that are not known.
    """

    proofs: ClassVar[Proofs] = Proofs()
    reads_protocol: ClassVar[bool] = True

    @abstractmethod
    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield the requests that this rule explains."""

    @abstractmethod
    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream and group of claims."""
        yield from self.findings(analysis, self.claims(analysis))

    def findings(self, analysis: Analysis, claims: Iterable[tuple[Loss, Claim]]) -> Iterator[Finding]:
        """Yield the findings for `claims`, in order of their first request.

        Parameters
        ----------
        analysis : Analysis
            All tables.
        claims : iterable of (Loss, Claim)
            Requests whose cause this rule is.

        Yields
        ------
        Finding
            One per upstream and group.
        """
        groups: dict[tuple[str, str, int, bool], list[tuple[Loss, Claim]]] = defaultdict(list)
        arrivals = analysis.arrivals
        for loss, claim in claims:
            weighed = weigh(self.proofs, claim, arrivals.get((loss.connection.conn, loss.depth)))
            proof = proof_of(analysis, loss)
            weighed = weigh_ends(self.proofs, weighed, proof)
            if proof is None or not proof.is_certain:
                is_attempt = loss.is_connect and loss.handshake is None
                most = most_certain(self.code, "tcp" if is_attempt else loss.connection.protocol.name.lower())
                weighed = replace(weighed, confidence=min(weighed.confidence, most))
            subject = claim.subject or loss.crowd or str(loss.connection.resp)
            is_cause = self.reads_protocol and self.facts.role is not Role.UNEXPLAINED
            is_guess = is_cause and is_taken_for_request(analysis, loss)
            groups[subject, claim.group, check_interval(analysis, loss), is_guess].append((loss, weighed))
        for (subject, name, every_ns, is_guess), members in groups.items():
            losses, its_claims = zip(*members, strict=True)
            group = Group(subject, name, losses, its_claims)
            words = self.describe(analysis, group)
            keys = [(loss.connection.conn, loss.depth) for loss in losses]
            words = replace(words, message=words.message + arrivals_message(self.proofs, keys, arrivals))
            label = name
            if every_ns:
                words, label = of_checks(words, every_ns), f"{name}/check".lstrip("/")
            if is_guess:
                words, label = of_turns(words), f"{label}/unread".lstrip("/")
            occurrences = (
                _with_arrival(self.proofs, o, arrivals[key]) if key in arrivals else o
                for key, o in zip(keys, _occurrences(losses, its_claims), strict=True)
            )
            yield self.finding(subject, words, occurrences, group.confidence, label, protocol="")


@dataclass(frozen=True, slots=True)
class GroupText:
    """What a finding says, and what it says otherwise than its rule."""

    message: str
    refuted_by: str
    remedy: str
    severity: Severity | None = None
    confidence_at_most: Confidence = Confidence.CONFIRMED
    details: dict[str, int | str | float] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()


def check_interval(analysis: Analysis, loss: Loss) -> int:
    """Return the interval [ns] of the regular checks of which a loss is one; 0 where it is none."""
    conn = loss.connection.conn
    return int(check_intervals(analysis)[conn]) if 0 <= conn < len(analysis.connections) else 0


def of_checks(words: GroupText, every_ns: int) -> GroupText:
    """Return the words of a finding about regular checks: the proxy learns from them, no client waits for them."""
    pace = about(round(every_ns / NS_PER_MS) * NS_PER_MS)
    text = (
        f" They keep the pace of a health check, one about every {pace}, on connections of their own: no client asked"
        " for them."
    )
    return replace(words, message=words.message + text, severity=Severity.INFO)


def is_taken_for_request(analysis: Analysis, loss: Loss) -> bool:
    """Tell whether the order of bytes that were not captured is all that says that there was a request.

    To a proxy's upstreams nothing else is sent; in other protocols a last word is owed no answer.
    """
    return not loss.is_connect and loss.connection.protocol is Protocol.UNKNOWN and not analysis.has_proxy


def of_turns(words: GroupText) -> GroupText:
    """Return the words of a finding about bytes that may have been no request."""
    text = (
        " What was sent there was not captured, and nothing says that a proxy sent it: it may have been a last word"
        " (QUIT, close_notify) that no answer is owed to."
    )
    severity = words.severity if words.severity is Severity.INFO else Severity.WARNING
    return replace(words, message=words.message + text, severity=severity, confidence_at_most=Confidence.POSSIBLE)


def _evidence(loss: Loss, claim: Claim) -> tuple[Evidence, ...]:
    evidence = build_evidence(loss, claim.texts)
    if not claim.frames:
        return evidence
    known = {e.frame for e in claim.frames}
    merged = (*(e for e in evidence if e.frame not in known), *claim.frames)
    return tuple(sorted(merged, key=lambda e: (e.ts_ns, e.frame)))


def _with_arrival(proofs: Proofs, occurrence: Occurrence, arrival: Arrival) -> Occurrence:
    lines = (f"{arrival.path}:{arrival.line}",) if arrival.line > 0 else ()
    return replace(occurrence, log_lines=(*occurrence.log_lines, *lines), upstream_log=arrival_text(proofs, arrival))


def _occurrences(losses: Sequence[Loss], claims: Sequence[Claim]) -> Iterator[Occurrence]:
    for number, (loss, claim) in enumerate(zip(losses, claims, strict=True)):
        closing = claim.closing
        yield Occurrence(
            conn=loss.connection.conn,
            depth=loss.depth,
            uid=loss.connection.uid,
            orig=str(loss.connection.orig),
            resp=str(loss.connection.resp),
            request_frame=loss.request_frame,
            request_ts_ns=loss.request_ts_ns,
            idle_before_ns=loss.idle_before_ns,
            method=loss.method_name,
            target=loss.target,
            closing_frame=closing.frame if closing is not None else -1,
            closing_kind=closing.kind_name if closing is not None else "",
            evidence=_evidence(loss, claim) if number < MOST_WITH_EVIDENCE else (),
            host=loss.host,
            request_id=loss.request_id,
            stands_for=loss.stands_for,
        )
