"""Lines that were given twice: a log under another name, a piece of one, and what two logs share that overlap.

Copies may be compressed, or as the log was when it was shorter; rotated copies and exports of windows overlap. Each
request would count twice, and no entry would be the only one that fits its try. Knows lines alone, and those only as
they follow each other: that a line is like another says nothing, for two requests of one second may leave it so.
"""

from __future__ import annotations

import re
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pcapdiag.proxy.logs.entries import LogCounts
from pcapdiag.proxy.logs.lines import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.proxy.logs.entries import Log, OfLine

_MOST_ALIKE: Final = 1000
"""Lines at the beginning of a log that may all be the same; of one with more no place in another is looked for."""
_MOST_PLACES: Final = 100
"""Places in a log at which another may begin that are held against it line by line."""
_TELLS: Final = re.compile(r"\d#\d{1,10}: \*\d")
"""What makes a line of nginx's error log one of its own: its process and the number of the client's connection."""


class Overlap(NamedTuple):
    """From this line on, counted from 1, a log repeats the beginning of another."""

    line: int
    of: str


class GivenTwice:
    """What of logs of one kind was given more than once.

    Parameters
    ----------
    paths : sequence of str
        The logs.

    Attributes
    ----------
    kept : tuple of str
        Those that are to be read.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        copies = find_copies(paths)
        self._overlaps, pieces = find_overlaps([path for path in paths if path not in copies])
        self._copies = copies | pieces
        self.kept = tuple(path for path in paths if path not in self._copies)

    def cut(self, logs: Iterable[Log[OfLine]]) -> None:
        """Let each of these logs end where another goes on with the same lines."""
        for log in logs:
            if log.path in self._overlaps:
                log.before = self._overlaps[log.path].line

    def sentences(self) -> Iterator[str]:
        """Yield a sentence for each log that was given twice, wholly or in part."""
        for path, of in self._copies.items():
            yield f"{path} has the same lines as {of}, or a piece of them: they count once"
        for path, (line, of) in self._overlaps.items():
            yield f"{path} has from line {line:,} on the lines with which {of} begins: they count once"


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


def find_overlaps(paths: Sequence[str]) -> tuple[dict[str, Overlap], dict[str, str]]:
    """Return the logs that end with the lines with which others begin, and those that are a piece of another.

    Parameters
    ----------
    paths : sequence of str
        Logs of one kind, compressed or not, without those of `find_copies`.

    Returns
    -------
    tuple of (dict of str to Overlap, dict of str to str)
        From the name of a log to where it begins to repeat another; and from a piece to the whole.

    Raises
    ------
    LogError
        One cannot be opened.
    """
    if len(paths) < 2:
        return {}, {}
    begun = {path: head for path in paths if (head := _first_lines(path))}
    found: dict[str, Overlap] = {}
    pieces: dict[str, str] = {}
    for path in paths:
        n_held = 0
        for line, other in _places(path, begun):
            if other in pieces or n_held >= _MOST_PLACES:
                continue
            n_held += 1
            is_same, is_whole = _goes_on(path, line, other)
            if is_whole:
                pieces[other] = path
            elif is_same and (path not in found or line < found[path].line):
                found[path] = Overlap(line, other)
    return {path: overlap for path, overlap in found.items() if path not in pieces}, pieces


def _first_lines(path: str) -> list[int]:
    """Return the lines with which a log begins, up to the first that makes their row one of its own; none without.

    Each as its hash: lines may be long, and `_goes_on` holds them against each other themselves.
    """
    head: list[int] = []
    for line in islice(_lines(path), _MOST_ALIKE):
        head.append(hash(line))
        if head[-1] != head[0] or _TELLS.search(line):
            return head
    return []


def _places(path: str, begun: dict[str, list[int]]) -> Iterator[tuple[int, str]]:
    """Yield where the first lines of other logs may stand in this one: number of the line, and the other."""
    wanted = {head[-1] for other, head in begun.items() if other != path}
    if not wanted:
        return
    recent: list[int] = []
    keep = max(len(head) for head in begun.values())
    for number, line in enumerate(map(hash, _lines(path)), 1):
        recent.append(line)
        if len(recent) > 2 * keep:
            del recent[:-keep]
        if line not in wanted:
            continue
        for other, head in begun.items():
            if other != path and recent[-len(head) :] == head:
                yield number - len(head) + 1, other


def _goes_on(path: str, line: int, other: str) -> tuple[bool, bool]:
    """Tell whether a log has, from a line on, the lines of another to the end of either; and whether to its end."""
    is_whole = True
    for mine, its in zip_longest(islice(_lines(path), line - 1, None), _lines(other)):
        if its is None:
            break
        if mine is None:
            is_whole = False
            break
        if mine != its:
            return False, False
    return True, is_whole


def _lines(path: str) -> Iterator[str]:
    return chain.from_iterable(lines for _, lines in read_lines(path, LogCounts()))
