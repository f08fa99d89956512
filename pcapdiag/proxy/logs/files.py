"""Which files a log is: folders and globs to names, and what logrotate has put aside. Opens none of them."""

from __future__ import annotations

import re
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import LogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ROTATED: Final = re.compile(
    r"(?P<base>.+?)[.-](?:(?P<number>\d{1,4})|(?P<date>\d{8}(?:[-_T]?\d{2,6})?|\d{4}-\d\d-\d\d(?:[-_T.]?\d\d){0,3}))"
    r"(?P<log>\.log)?(?:\.(?:gz|bz2|xz|zst|lz4|br))?"
)
"""``error.log.1``, ``error.log.2.gz``, ``error.log-20261120``, ``error-20261120.log.gz``."""
_MOST_FILES: Final = 1000


def expand_logs(given: Sequence[str], hint: str) -> tuple[str, ...]:
    """Return the files that were meant, each once.

    Parameters
    ----------
    given : sequence of str
        Files, folders or globs. Of a folder the logs in use are taken, not what was rotated: see `older_files`.
    hint : str
        What the name of such a log in a folder holds: ``error`` or ``access``; empty: anything.

    Returns
    -------
    tuple of str
        In the order in which they were given.

    Raises
    ------
    LogError
        A folder holds no such log, or nothing fits a glob.
    """
    found: dict[str, str] = {}
    for name in given:
        for path in _expand(name, hint):
            found.setdefault(str(Path(path).resolve()), path)
    return tuple(found.values())


def _expand(name: str, hint: str) -> Iterable[str]:
    path = Path(name)
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        msg = f"cannot open {name}: {error}"
        raise LogError(msg) from error
    if is_folder:
        files = {file.name: file for file in sorted(path.iterdir()) if file.is_file()}
        fitting = [file for name, file in files.items() if hint in name.lower() and (hint or ".log" in name)]
        in_use = [str(file) for file in fitting if _base_of(file.name) not in files]
        if not in_use:
            msg = f"{name}: no {hint} log in this folder; name the file itself"
            raise LogError(msg)
        return in_use[:_MOST_FILES]
    if not is_there and has_magic(name):
        matching = sorted(match for match in glob(name) if Path(match).is_file())  # noqa: PTH207 - as the shell has it
        if not matching:
            msg = f"nothing fits {name}"
            raise LogError(msg)
        return matching[:_MOST_FILES]
    return [name]


def older_files(path: str) -> tuple[str, ...]:
    """Return what was rotated away from a log, the newest first; of a file that is there twice, the plain one.

    Parameters
    ----------
    path : str
        A log in use.

    Returns
    -------
    tuple of str
        Files beside it, named after it.
    """
    log = Path(path)
    numbered: dict[str, Path] = {}
    dated: dict[str, Path] = {}
    try:
        beside = sorted(log.parent.iterdir())
    except OSError:
        # Whoever may read a file may not always list its folder.
        return ()
    for file in beside:
        match = _ROTATED.fullmatch(file.name)
        if match is None or _base_of(file.name) != log.name or not file.is_file():
            continue
        # Sorted by name, the plain file comes before the compressed one.
        if match["number"]:
            numbered.setdefault(match["number"], file)
        else:
            dated.setdefault(match["date"], file)
    newest = [numbered[n] for n in sorted(numbered, key=int)] + [dated[d] for d in sorted(dated, reverse=True)]
    return tuple(str(file) for file in newest[:_MOST_FILES])


def _base_of(name: str) -> str:
    """Return the name of the log that a file was rotated away from; empty if it was not."""
    match = _ROTATED.fullmatch(name)
    return match["base"] + (match["log"] or "") if match else ""
