"""Logs that were given twice: under another name, compressed, or as it was when it was shorter.

Each request would count twice, and no entry would be the only one that fits its try. Knows the first lines of files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pcapdiag.proxy.logs.entries import LogCounts
from pcapdiag.proxy.logs.lines import read_lines

if TYPE_CHECKING:
    from collections.abc import Sequence


def find_copies(paths: Sequence[str]) -> dict[str, str]:
    """Return the logs that are copies of others, or of their beginnings, and of which.

    Parameters
    ----------
    paths : sequence of str
        Logs of one kind, compressed or not.

    Returns
    -------
    dict of str to str
        From the name of a copy to that of the longer one; of two alike the one that was given first is kept.

    Raises
    ------
    LogError
        One cannot be opened.
    """
    if len(paths) < 2:
        return {}
    heads = {path: _head(path) for path in paths}
    kept: list[str] = []
    found: dict[str, str] = {}
    # The longest first; a file that is compressed does not tell how long it is.
    for path in sorted(paths, key=lambda path: (-len(heads[path]), -Path(path).stat().st_size)):
        mine = heads[path]
        of = next((other for other in kept if mine and heads[other][: len(mine)] == mine), None)
        if of is None:
            kept.append(path)
        else:
            found[path] = of
    return found


def _head(path: str) -> list[str]:
    """Return the first lines."""
    _, lines = next(read_lines(path, LogCounts()), (0, []))
    return lines
