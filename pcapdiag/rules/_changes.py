"""Changes to the configuration that was given, in words: file and line, from what to what.

Knows how a change reads; which setting meets which need is in `pcapdiag.proxy.conf.remedy`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.base.findings import Change

_MOST_LINES = 12


def change_line(change: Change) -> str:
    """Return one change on one line.

    Parameters
    ----------
    change : Change
        From `pcapdiag.proxy.conf.remedy`.

    Returns
    -------
    str
        Such as ``nginx.conf line 23, upstream api: keepalive_timeout 60s -> 55s``.
    """
    place = f"{change.file} line {change.line}" if change.line > 0 else change.file
    own = "" if change.file.endswith(change.where) else change.where
    where = ", ".join(part for part in (place, own) if part)
    if not change.new:
        what = f"remove {change.old_text or change.setting}"
    elif change.is_new:
        what = f"add {change.text}"
        if change.old:
            what += f" (the default holds, {change.old})"
    else:
        what = " ".join(part for part in (change.setting, change.old, "->" if change.old else "", change.new) if part)
    if change.is_supported is False:
        what += f"; this version does not know it, {change.proxy} {change.since} does"
    elif change.is_supported is None and change.since:
        what += f" ({change.proxy} {change.since} or later)"
    # A name in a configuration may hold anything, a line of this text must stay one.
    return " ".join(f"{where}: {what}".split())


def change_block(changes: Sequence[Change]) -> str:
    """Return changes as an indented block, and what else they bring as a paragraph."""
    lines = [f"    {change_line(change)}" for change in changes[:_MOST_LINES]]
    if len(changes) > _MOST_LINES:
        lines.append(f"    and {len(changes) - _MOST_LINES:,} more")
    cautions = "; ".join(dict.fromkeys(change.caution for change in changes if change.caution))
    return "\n".join(lines) + (f"\n\nMind that {cautions}." if cautions else "")
