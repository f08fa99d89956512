"""The first sentence of every report: what clients suffered, why, what to change.

Counts are those of the totals; it agrees with the logs, or says what they know that the packets do not show.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from pcapdiag.base.findings import Confidence, Effect, Exposure, Role, Severity, VerdictKind
from pcapdiag.base.units import NS_PER_S, count_of
from pcapdiag.report.impact import ACCESS_LOG, is_least, unlogged_words
from pcapdiag.report.ledger import span_of
from pcapdiag.report.sides import in_plain_words
from pcapdiag.report.summary import finding_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.report.model import Report
    from pcapdiag.report.summary import FindingGroup

_MOST_SUBJECTS = 3


def headline(report: Report) -> str:
    """Return what clients suffered as far as it is known, why, and what to change: the sentence to read if only one is.

    Tries to upstreams and requests of clients are counted apart: one request may be several tries. A report that was
    not redacted says so here, because no format is without its headline.
    """
    verdict = _with_unframed(report, _verdict(report))
    if not report.has_proxy:
        verdict = in_plain_words(verdict)
    return verdict if report.redaction.redacted else f"{verdict} NOT REDACTED: this report may hold credentials."


def _with_unframed(report: Report, verdict: str) -> str:
    """Say before a verdict on which connections it does not hold: HTTP/2 inside TLS, or with bytes missing."""
    note = _http2_note(report)
    if not note:
        return verdict
    counted = note.partition(";")[0]
    if any(u.exchanges or u.unanswered for u in report.upstreams) or report.findings:
        if verdict.startswith("No request was lost"):
            verdict = f"On the others n{verdict[1:]}"
        return f"Not evaluated: HTTP/2 ({counted}). {verdict}"
    return f"Not evaluated: HTTP/2 ({counted}). Whether a request was lost on them is not known."


def _http2_note(report: Report) -> str:
    return next((note.text for note in report.notes if note.code == "http2-not-evaluated"), "")


def _verdict(report: Report) -> str:
    totals = report.totals
    outside = _outside(report)
    if nothing := _nothing(report):
        return (
            f"There is nothing to judge in the packets ({nothing}), {outside}."
            if outside
            else (f"There is nothing to judge: {nothing}{_beside_nothing(report)}.")
        )
    if totals.unanswered or totals.truncated:
        more = f" Besides: {outside.removeprefix('but ')}." if outside else ""
        lost = f"{_lost(report)}: {_causes(report)}"
        clients = clients_words(report)
        text = f"{clients}; {lost}" if clients else lost
        if (main := main_cause(report)) is not None and clients and _is_answered(main):
            # The tries that got no answer have other causes, and cost clients less.
            text = f"{clients}: {_named(main, main.count)}; besides, {lost}"
        return f"{text}.{_other_errors(report)}{more}{change_to_make(main_cause(report))}"
    acting = [g for g in finding_groups(report) if g.head.severity >= Severity.WARNING]
    seen = [g for g in acting if g.head.role is not Role.OUTSIDE]
    if seen:
        more = f" Besides: {outside.removeprefix('but ')}." if outside else ""
        first = f"{_first_lower(seen[0].head.message)}{_likewise(seen[0])}"
        return f"No request was left without an answer, but: {first}{more}"
    if outside:
        return f"No request in the packets was left without an answer, {outside}."
    n_requests = sum(u.exchanges for u in report.upstreams)
    if blind := _not_judged(report):
        return f"Nothing can be judged: {blind}."
    n_connections = sum(u.connections for u in report.upstreams)
    text = (
        f"No request was lost: {count_of(n_requests, 'request')} on {count_of(n_connections, 'connection')} "
        f"to {count_of(len(report.upstreams), 'upstream')}, none unanswered"
    )
    if report.totals.pending:
        text += f"; {count_of(report.totals.pending, 'response')} still coming when the capture ended"
    if report.impact.failures > 0:
        # Both sentences are true, and without this one the first would be read as a denial of the second.
        text += (
            f"; the {count_of(report.impact.failures, 'failure')} that clients saw no packet to an upstream explains"
        )
    return f"{text}. {_turns(report, n_requests)}" if report.totals.turns else f"{text}."


def clients_words(report: Report) -> str:
    """Return how many requests of clients failed, as the beginning of a sentence; empty where that is not known."""
    impact = report.impact
    if impact.failures < 0 or not impact.requests or (is_least(impact) and not impact.failures):
        return ""
    hidden = impact.hidden_by_retries
    unlogged = f" ({unlogged_words(impact)})" if impact.tries_unlogged else ""
    requests = count_of(impact.requests, f"{'logged ' if unlogged else ''}client request")
    if not impact.failures:
        saved = f": retries saved {hidden:,}" if hidden > 0 else ""
        # Of a body that was cut off a log has the status that came before it.
        what = "got an error" if report.totals.truncated and impact.source == ACCESS_LOG else "failed"
        return f"None of {requests} {what}{saved}{unlogged}"
    least = "At least " if is_least(impact) else ""
    text = f"{least}{impact.failures:,} of {requests} failed{unlogged}"
    if n := _without_peer(report):
        # Of failures that nothing tells of, more may be such: the error log may end before the access log does.
        rest = impact.failures - n - sum(f.unserved for f in report.findings)
        text += f", {'at least ' * (rest > 0)}{n:,} of them because no upstream was live"
    return text


def _without_peer(report: Report) -> int:
    """Return how many of the clients' failures found no live upstream; 0 where they cannot be told from the others."""
    found = [f for f in report.findings if f.role is Role.NO_PEER]
    n = sum(f.count for f in found)
    first_ns = min((c.first_ts_ns for c in report.captures if c.first_ts_ns >= 0), default=-1)
    last_ns = max((c.last_ts_ns for c in report.captures), default=-1)
    # The log goes beyond the capture now and then, and of clients only its time was counted. It says whole seconds.
    is_within = all(first_ns - NS_PER_S <= o.request_ts_ns <= last_ns + NS_PER_S for f in found for o in f.occurrences)
    return n if is_within and n <= report.impact.failures and n == sum(len(f.occurrences) for f in found) else 0


def change_to_make(group: FindingGroup | None) -> str:
    """Return a sentence with the change that mends a cause, and a space before; empty where there is not just one.

    Parameters
    ----------
    group : FindingGroup or None
        Findings of one cause; None where nothing failed.
    """
    if group is None or group.head.severity < Severity.WARNING or group.head.confidence is Confidence.POSSIBLE:
        return ""
    # Of a race the limit was measured. A firewall's lies below what was lost, how far is a guess; and against other
    # causes a setting of the proxy can only wait longer or try again.
    if group.head.exposure is not Exposure.RACE:
        return ""
    changes = {(c.file, c.line, c.text) for f in group.findings for c in f.changes if c.is_supported is not False}
    if len(changes) != 1:
        return ""
    file, line, text = changes.pop()
    place = f" at {PurePath(file).name}:{line}" if file and line > 0 else ""
    return f" Set {text.rstrip(';')}{place}." if text and "\n" not in text else ""


def main_cause(report: Report) -> FindingGroup | None:
    """Return the cause of most of the failures; None if nothing failed."""
    causes = _causes_by_weight(report)
    first = next(iter(causes), None)
    if not _counts_statuses(report) or first is None:
        return first
    weight = _weight(report, first, causes)
    answered = [g for g in finding_groups(report) if _is_answered(g) and g.head.severity >= Severity.WARNING]
    heaviest = max(answered, key=lambda g: g.unserved, default=None)
    # More than what clients saw cannot have failed them: retries hid it, and the log does not tell which.
    is_heavier = heaviest is not None and weight < heaviest.unserved <= report.impact.failures
    return heaviest if is_heavier else first


def _causes_by_weight(report: Report) -> list[FindingGroup]:
    """Return the causes of failures, that of most first; those that are told for information last.

    Where an access log tells how many clients got an error, those count from which they got it.
    """
    groups = [g for g in finding_groups(report) if g.failures]
    return sorted(groups, key=lambda g: (g.head.severity < Severity.WARNING, -_weight(report, g, groups), -g.failures))


def _weight(report: Report, group: FindingGroup, groups: Sequence[FindingGroup]) -> int:
    """Return how many failures of clients a cause may have: of all failures, where statuses are not known."""
    if not _counts_statuses(report):
        return group.failures
    if group.head.effect is not Effect.LEFT:
        return group.unserved
    # Clients that had gone are counted apart. Only what nothing else explains can have been closed by the proxy alone.
    others = sum(g.unserved for g in groups if g.head.effect is not Effect.LEFT)
    return min(group.unserved, max(report.impact.failures - others, 0))


def _counts_statuses(report: Report) -> bool:
    """Tell whether an access log says how many clients got an error."""
    return report.impact.source == ACCESS_LOG and report.impact.failures > 0


def _is_answered(group: FindingGroup) -> bool:
    return group.head.effect is Effect.ANSWERED


def _likewise(group: FindingGroup) -> str:
    """Return a sentence that names the other subjects of a group; empty if there is none."""
    others = [s for s in dict.fromkeys(f.subject for f in group.findings) if s and s != group.head.subject]
    if not others:
        return ""
    more = f" and {len(others) - _MOST_SUBJECTS:,} more" if len(others) > _MOST_SUBJECTS else ""
    return f" Likewise {', '.join(others[:_MOST_SUBJECTS])}{more}."


def _nothing(report: Report) -> str:
    """Return why the packets hold nothing to judge; empty if they hold requests, losses or findings."""
    totals = report.totals
    if not totals.frames:
        return "the capture holds no frame"
    if not totals.connections:
        return f"{count_of(totals.frames, 'frame')}, but no TCP connection among them"
    acting = [f for f in report.findings if f.severity >= Severity.WARNING and f.role is not Role.OUTSIDE]
    if totals.unanswered or totals.truncated or acting or any(u.exchanges for u in report.upstreams):
        return ""
    return f"{count_of(totals.connections, 'connection')}, no request to an upstream"


def _beside_nothing(report: Report) -> str:
    """Return what clients saw fail where no packet is of an upstream, as the end of a sentence; empty if nothing."""
    impact = report.impact
    if impact.failures <= 0:
        return ""
    return (
        f". Clients saw {count_of(impact.failures, 'failure')} of {count_of(impact.requests, 'request')}: why, packets"
        " between the proxy and its upstreams would show"
    )


def _outside(report: Report) -> str:
    """Return what the logs know of failures that no packet shows, as the end of a sentence; empty if nothing."""
    group = next((g for g in finding_groups(report) if g.head.role is Role.OUTSIDE), None)
    if group is None:
        return ""
    failures = count_of(group.count, "failure")
    code = f"{group.head.code} {group.head.name}"
    text = f"but the proxy's logs know {failures} that nothing found in the packets explains ({code}"
    # Where no line is known to be of this time, that is said at once.
    doubt = ", perhaps of another time" if all(f.confidence is Confidence.POSSIBLE for f in group.findings) else ""
    return f"{text}{doubt})"


def is_judged(report: Report) -> bool:
    """Return whether there were requests to upstreams, and the capture could tell which of them failed."""
    return any(u.exchanges or u.unanswered for u in report.upstreams) and not _not_judged(report)


def _not_judged(report: Report) -> str:
    """Return why not even the rule that any lost request would fall to could be evaluated; empty if it was."""
    if _http2_note(report) and any(u.exchanges or u.unanswered for u in report.upstreams):
        return ""
    last = (v for v in report.verdicts if v.role is Role.UNEXPLAINED)
    return next((v.reason for v in last if v.verdict is VerdictKind.NOT_EVALUATED), "")


def _turns(report: Report, n_requests: int) -> str:
    turns = report.totals.turns
    which = "They are" if turns == n_requests else f"{turns:,} of them {'is' if turns == 1 else 'are'}"
    return f"{which} counted by turns of bytes (TLS, or not HTTP/1): what a turn holds is not seen."


def _lost(report: Report) -> str:
    totals = report.totals
    # What is told for information failed nobody: requests still open at the capture's end, the other address family.
    told = [f for f in report.findings if f.severity < Severity.WARNING and f.failures and f.occurrences]
    told_connects = sum(f.failures for f in told if f.occurrences[0].depth < 0)
    told_responses = sum(f.failures for f in told if f.effect is Effect.CUT_OFF)
    told_requests = sum(f.failures for f in told) - told_connects - told_responses
    requests = totals.unanswered - totals.failed_connects - told_requests
    connects = totals.failed_connects - told_connects
    beside = [
        *([count_of(told_requests, "request")] if told_requests else []),
        *([count_of(told_connects, "connection attempt")] if told_connects else []),
        *([f"{count_of(told_responses, 'response')} that the proxy ended"] if told_responses else []),
    ]
    parts = []
    if requests:
        n_requests = sum(u.exchanges for u in report.upstreams)
        # Where requests of clients were counted just before, these are the other kind.
        one, many = ("try at an upstream", "tries at upstreams") if clients_words(report) else ("request", "requests")
        parts.append(f"{requests:,} of {count_of(n_requests, one, many)} got no answer")
    if connects:
        parts.append(f"{count_of(connects, 'connection attempt')} failed")
    if truncated := totals.truncated - told_responses:
        parts.append(f"{count_of(truncated, 'response')} {'was' if truncated == 1 else 'were'} cut off")
    text = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
    if not beside:
        return text
    n_beside = told_requests + told_connects + told_responses
    verb = "was" if n_beside == 1 else "were"
    kind = f"{verb} still open when the capture ended"
    if n_beside != totals.still_open:
        kind = f"{'is' if n_beside == 1 else 'are'} told for information only"
    return f"{text} ({' and '.join(beside)} {kind})" if text else "No request is known to be lost; for information"


def _causes(report: Report) -> str:
    """Return the cause of most of the failures, and how many have others."""
    causes = _causes_by_weight(report)
    if not causes:
        is_one = report.totals.unanswered + report.totals.truncated == 1
        return "its cause is not shown" if is_one else "their causes are not shown"
    first, *others = causes
    head = first.head
    n_failures = report.totals.unanswered + report.totals.truncated
    text = _named(first, first.failures if first.failures < n_failures else 0)
    if head.severity < Severity.WARNING:
        text = f"{_first_lower(head.message.rstrip('.'))} ({head.code} {head.name})"
    acting = [g for g in others if g.head.severity >= Severity.WARNING]
    if acting or head.severity >= Severity.WARNING:
        others = acting  # what only informs the sentence has told before, or it stands further down
    if _counts_statuses(report) and _is_after_status(first):
        text += f", {_AFTER_STATUS}"
    if others:
        listed = (
            f"{g.failures:,} x {g.head.code} {g.head.name}"
            + (f" ({_AFTER_STATUS})" if _counts_statuses(report) and _is_after_status(g) else "")
            for g in others
        )
        text += "; besides " + ", ".join(listed)
    # A response that the proxy itself cut off has no finding, nor has what --select leaves out.
    unexplained = n_failures - sum(g.failures for g in causes)
    return f"{text}; for {unexplained:,} no cause is shown" if unexplained > 0 else text


def _beyond(report: Report, group: FindingGroup) -> str:
    """Return how many occurrences, which only a log tells of, are of another time than the capture, in brackets."""
    span = span_of(report)
    if span[0] < 0:
        return ""
    # A log says whole seconds.
    low, high = span[0] - 2 * NS_PER_S, span[1] + 2 * NS_PER_S
    shown = [o for f in group.findings for o in f.occurrences if not o.uid and o.request_ts_ns >= 0]
    n = sum(o.stands_for for o in shown if not low <= o.request_ts_ns <= high)
    return f" ({n:,} of them logged before or after the capture)" if n else ""


_AFTER_STATUS = "after their status: likely not among those failures"


def _is_after_status(group: FindingGroup) -> bool:
    """Tell whether clients had the status of all these answers before they were cut off."""
    return group.head.effect is Effect.CUT_OFF and not group.unserved


def _named(group: FindingGroup, times: int) -> str:
    """Return what a cause is, with code, name and confidence; how often unless that is 0."""
    head = group.head
    share = f", {count_of(times, 'time')}" if times else ""
    return f"{_first_lower(head.title.rstrip('.'))} ({head.code} {head.name}, {head.confidence.name.lower()}{share})"


def _other_errors(report: Report) -> str:
    """Return a sentence on errors that left no request to an upstream without an answer; empty if there is none."""
    main = main_cause(report)
    groups = [
        g
        for g in finding_groups(report)
        if g.head.severity >= Severity.ERROR
        and not g.failures
        and not (main is not None and g.findings == main.findings)
    ]
    if clients_words(report):
        groups = [g for g in groups if g.head.role is not Role.NO_PEER or not _without_peer(report)]
    listed = ", ".join(f"{g.count:,} x {g.head.code} {g.head.name}{_beyond(report, g)}" for g in groups)
    return f" Other errors: {listed}." if groups else ""


def _first_lower(text: str) -> str:
    """Lower the first letter unless the word is a name or an abbreviation."""
    return text[0].lower() + text[1:] if len(text) > 1 and not text[1].isupper() else text
