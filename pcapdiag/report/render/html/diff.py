"""The remedy as a diff of the operator's own configuration: the lines that stand there, and what to write instead.

Knows changes as plain data; nothing of rules, and no markup.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from pcapdiag.privacy.escape import visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcapdiag.base.findings import Change
    from pcapdiag.report.model import FindingDetail


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line: `sign` is ``-``, ``+`` or a space."""

    sign: str
    text: str


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines that change at one place, and what to know about it."""

    place: str
    where: str
    lines: tuple[DiffLine, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileDiff:
    """What changes in one file; `file` is empty where no configuration was given."""

    file: str
    proxy: str
    hunks: tuple[Hunk, ...]


def build_diffs(findings: Iterable[FindingDetail]) -> tuple[FileDiff, ...]:
    """Return the changes that findings ask for, by file and line, each once.

    Parameters
    ----------
    findings : iterable of FindingDetail
        With their changes.

    Returns
    -------
    tuple of FileDiff
        Text made visible, markup left to the template.
    """
    changes = list(dict.fromkeys(change for finding in findings for change in finding.changes))
    changes.sort(key=lambda c: (c.proxy, c.file, c.line, c.where, c.setting, c.new))
    return tuple(
        FileDiff(visible(file), visible(proxy), _without_echo([_hunk(c) for c in of_file]))
        for (proxy, file), of_file in groupby(changes, key=lambda c: (c.proxy, c.file))
    )


def _without_echo(hunks: list[Hunk]) -> tuple[Hunk, ...]:
    """Return the hunks with remarks that the next one repeats left to it."""
    nexts = (*hunks[1:], None)
    return tuple(
        replace(hunk, remarks=()) if after is not None and after.remarks == hunk.remarks else hunk
        for hunk, after in zip(hunks, nexts, strict=True)
    )


def _hunk(change: Change) -> Hunk:
    lines = []
    if change.old_text:
        lines.append(DiffLine("-", visible(change.old_text)))
    if change.text:
        lines.append(DiffLine("+", visible(change.text)))
    line = f"line {change.line}" if change.line > 0 else ""
    return Hunk(line, visible(change.where), tuple(lines), tuple(_remarks(change)))


def _remarks(change: Change) -> Iterable[str]:
    if change.is_new:
        yield "To be added."
    if change.old_is_assumed and change.old:
        yield f"Not written there now: the default, {visible(change.old)}, applies."
    if change.since:
        yield f"Known since version {visible(change.since)}."
    if change.is_supported is False:
        yield "This version does not know the setting: upgrade first."
    elif change.is_supported is None:
        yield "Which version runs here is not known."
    if change.caution:
        caution = visible(change.caution)
        yield f"Mind: {caution}{'' if caution.endswith('.') else '.'}"
