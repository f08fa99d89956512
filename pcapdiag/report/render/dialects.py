"""Reports in the dialects of ticket systems, each within the size that the system takes.

What does not fit is left out from the end: occurrences first, then ladders, sections and findings; the verdict and its
remedy stay. The document says what is missing and where the whole is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pcapdiag.base.errors import UsageError
from pcapdiag.report.render import jira, markdown, slack
from pcapdiag.report.render.document import Block, Budget, Image, Paragraph, build_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pcapdiag.report.model import Report

WHOLE = "pcapdiag analyze with --format json"
"""Where everything is, if nobody says anything better."""

MIN_LIMIT = 2000
"""[bytes] A verdict and a remedy need so much."""

_MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one ticket system takes: at most `limit` bytes of UTF-8, which are never fewer than its characters."""

    service: str
    limit: int
    render: Callable[[Iterable[Block]], str] | None
    folds: bool


DIALECTS = {
    # "body is too long (maximum is 65536 characters)", status 422.
    "github": Dialect("GitHub", 65_536, markdown.render_blocks, folds=True),
    # Administration manual, instance limits: comments and descriptions.
    "gitlab": Dialect("GitLab", 1_000_000, markdown.render_blocks, folds=True),
    # jira.text.field.character.limit and Cloud's: "It exceeds the allowed limit of 32,767 characters."
    "jira": Dialect("Jira", 32_767, jira.render_wiki, folds=False),
    "adf": Dialect("Jira", 32_767, jira.render_adf, folds=True),
    # The text of a section block; a message could have 40,000, which nobody reads in a chat.
    "slack": Dialect("Slack", 3000, None, folds=False),
}


def render_ticket(
    report: Report, dialect: str, *, limit: int | None = None, whole: str = "", images: Sequence[Image] = ()
) -> str:
    """Return a report as the comment or message of a ticket system.

    Parameters
    ----------
    report : Report
        What to show, redacted as it is to be sent.
    dialect : str
        ``github``, ``gitlab``, ``jira`` (wiki markup), ``adf`` (the same as JSON) or ``slack`` (the short form).
    limit : int, optional
        [bytes] Most that the result may have, in UTF-8; the system's own limit if not given.
    whole : str
        Where the reader finds the whole report, such as the name of an attached bundle.
    images : sequence of Image
        Charts that lie beside the text; Markdown shows them.

    Returns
    -------
    str
        Text that can be sent as it is: everything that a capture, log or configuration chose is escaped.

    Raises
    ------
    UsageError
        There is no such dialect, or `limit` is below `MIN_LIMIT`.
    """
    if dialect not in DIALECTS:
        msg = f"there is no ticket dialect {dialect!r}; there are {', '.join(DIALECTS)}"
        raise UsageError(msg)
    kind = DIALECTS[dialect]
    most = kind.limit if limit is None else limit
    if most < MIN_LIMIT:
        msg = f"{most} bytes are too few for a report; give it at least {MIN_LIMIT}"
        raise UsageError(msg)

    def attempt(budget: Budget) -> str:
        return _render(report, kind, budget, most=most, whole=whole, images=images)

    budget = Budget() if kind.folds else Budget(folded_rows=0)
    text = attempt(budget)
    for field, highest in _highest(report, is_short=kind.render is None).items():
        if _size(text) <= most:
            break
        budget = _largest_that_fits(budget, field, highest, lambda b: _size(attempt(b)) <= most)
        text = attempt(budget)
    return text


def _highest(report: Report, *, is_short: bool) -> dict[str, int]:
    """Return the parts of a budget in the order in which they are cut, each with the most that makes a difference."""
    if is_short:
        return {"ladders": 1, "text": _MAX_TEXT}
    return {
        "rows": sum(len(f.occurrences) for f in report.findings),
        "ladders": len(report.findings),
        "sections": 32,
        "findings": len(report.findings),
        "text": _MAX_TEXT,
    }


def _largest_that_fits(budget: Budget, field: str, highest: int, fits: Callable[[Budget], bool]) -> Budget:
    """Return `budget` with the largest value of `field` that fits; with nothing of it where none does."""
    low, high = 0, highest
    while low < high:
        middle = (low + high + 1) // 2
        if fits(replace(budget, **{field: middle})):
            low = middle
        else:
            high = middle - 1
    return replace(budget, **{field: low})


def _render(report: Report, kind: Dialect, budget: Budget, *, most: int, whole: str, images: Sequence[Image]) -> str:
    if kind.render is None:
        return slack.render(report, text_limit=budget.text, whole=whole or WHOLE, has_ladder=budget.ladders > 0)
    document = build_document(report, budget, images=images)
    blocks = list(document.blocks)
    missing = document.omissions()
    if missing:
        blocks.append(Paragraph(f"Left out here, to stay within {most:,} characters: {missing}."))
    if missing or whole:
        blocks.append(Paragraph(f"The whole report: {whole or WHOLE}."))
    return kind.render(blocks)


def _size(text: str) -> int:
    return len(text.encode())
