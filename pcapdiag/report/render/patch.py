"""What to change, in few words: the lines of a patch of the operator's own files, and what of a remedy belongs to it.

Knows changes and blocks of a remedy as plain data; no markup. Pages that have room show the whole remedy as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pcapdiag.base.findings import Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.base.findings import Change
    from pcapdiag.report.remedy import Block
    from pcapdiag.report.summary import FindingGroup

MOST_LINES: Final = 12
"""Changes that are shown, and lines of settings."""


def changes_of(group: FindingGroup) -> list[Change]:
    """Return what the findings of a cause change, each once."""
    return list(dict.fromkeys(change for finding in group.findings for change in finding.changes))


def in_few_words(group: FindingGroup, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the settings of a remedy and what belongs to them.

    Of a race the limit was measured, so that the change speaks for itself, with what it would have done, or why it is
    just that value. Of any other cause the words before it say on what it depends, and those behind it how sure it is.

    Parameters
    ----------
    group : FindingGroup
        The cause.
    blocks : sequence of Block
        Of its remedy.

    Returns
    -------
    tuple of Block
    """
    at = next((n for n, block in enumerate(blocks) if block.is_code), None)
    if at is None or not changes_of(group):
        return tuple(blocks[:2])
    if group.head.exposure is not Exposure.RACE:
        return tuple(blocks[: at + 2])
    behind = blocks[at + 1 :]
    told = [block for block in behind if block.lines[0].startswith("Replayed with that")]
    return (blocks[at], *(told or [block for block in behind if block.lines[0].startswith("That is ")]))


def patch_lines(changes: Sequence[Change], *, more: str) -> Iterator[str]:
    """Yield the changes as the lines of a diff.

    Parameters
    ----------
    changes : sequence of Change
        Each once.
    more : str
        Where the others are, if they are very many.

    Yields
    ------
    str
        A line for each place, then those that go and those that come.
    """
    place = ""
    for change in changes[:MOST_LINES]:
        here = f"{change.file}:{change.line}" if change.file and change.line > 0 else change.file or change.proxy
        since = f" ({change.proxy} {change.since} or later)" if change.since and change.is_supported is None else ""
        if place != f"{here}, {change.where}{since}":
            place = f"{here}, {change.where}{since}"
            yield place
        yield from (f"-{line}" for line in change.old_text.splitlines())
        yield from (f"+{line}" for line in change.text.splitlines())
    if len(changes) > MOST_LINES:
        yield f"and {len(changes) - MOST_LINES:,} more: {more}"
