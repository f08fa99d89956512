"""The message about a night: which findings are new or worse, in the order that matters."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import count_of
from pcapdiag.nightly.store.model import FindingState
from pcapdiag.ticket.notify.message import Message, bounded, harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pcapdiag.nightly.store.model import FindingRow


_ORDER: Final = (FindingState.NEW, FindingState.WORSE)


def compose(findings: Sequence[FindingRow], link: Callable[[FindingRow], str]) -> Message:
    """Return the message about findings.

    Parameters
    ----------
    findings : sequence of FindingRow
        Those that are new or worse, and those that were when nobody could be told; at least one.
    link : callable
        Returns the address of a finding's page, empty if there is none.

    Returns
    -------
    Message
        In plain text.
    """
    states = Counter(_word(finding) for finding in findings)
    counts = ", ".join(f"{states[word]:,} {word}" for word in ("new", "worse", "not told before") if states[word])
    last = max(finding.state_day for finding in findings)
    paragraphs = [_paragraph(finding, link(finding)) for finding in findings]
    return Message(f"pcapdiag: {counts} ({last})", bounded(paragraphs, "pcapdiag history lists them all"))


def _paragraph(finding: FindingRow, link: str) -> str:
    lines = [
        harmless(f"{_word(finding).upper()}: {finding.code} {finding.name} {finding.subject}".rstrip()),
        harmless(finding.message),
        f"{count_of(finding.last_count, 'time')} on {finding.state_day}, {finding.count:,} in all",
    ]
    return "\n".join([*lines, link] if link else lines)


def _word(finding: FindingRow) -> str:
    return finding.state.value if finding.state in _ORDER else "not told before"
