"""Finds files by their names: folders, globs and URLs, down to the bottom; opens as few of them as it can.

Knows what a stamp is (size, time, inode or ETag); not what was read before. A folder of captures holds other things,
too: what neither is named like a capture nor begins like one is left alone.
"""

from __future__ import annotations

import errno
import os
import stat
from glob import glob, has_magic
from typing import TYPE_CHECKING

from pcapdiag.base.errors import CaptureError, UsageError
from pcapdiag.base.suggest import cannot_open
from pcapdiag.engine.capture.remote import find_remote, is_url
from pcapdiag.engine.capture.series import begins_like_capture, is_capture_name
from pcapdiag.nightly.scan.model import Found
from pcapdiag.nightly.store.model import FileStamp

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence


def find_files(
    places: Sequence[str], *, known: Collection[str], on_problem: Callable[[str, str], None]
) -> dict[str, Found]:
    """Return the files that places name and that may be captures, by path.

    Parameters
    ----------
    places : sequence of str
        Files, folders, globs (``**`` for folders within folders) and URLs.
    known : collection of str
        Paths that were read before: they need not be opened to know that they are captures.
    on_problem : callable
        Called with a path and a sentence for each folder that cannot be looked into.

    Returns
    -------
    dict
        Absolute path or URL to what was found, each file once, in the order of their names.

    Raises
    ------
    CaptureError
        A place does not exist, or cannot be reached.
    UsageError
        A place cannot be scanned.
    """
    found: dict[str, Found] = {}
    for place in places:
        for file in _find_remote(place, known) if is_url(place) else _find(place, known, on_problem):
            found.setdefault(file.path, file)
    return found


def _find_remote(url: str, known: Collection[str]) -> Iterator[Found]:
    for file in find_remote(url, recursive=True):
        # To open every object only to see that it is no capture would cost a request each.
        if file.is_named or file.url in known or is_capture_name(file.url.rpartition("/")[2]):
            yield Found(file.url, FileStamp(file.size, -1, etag=file.version), is_named=file.is_named)


def _find(place: str, known: Collection[str], on_problem: Callable[[str, str], None]) -> Iterator[Found]:
    if place == "-":
        msg = "a scan reads files, not standard input; for a pipe there is `pcapdiag analyze -`"
        raise UsageError(msg)
    is_there = os.path.lexists(place)
    if not is_there and has_magic(place):
        matches = sorted(glob(place, recursive=True))  # noqa: PTH207 - as the shell has it
        if not matches:
            msg = f"{place} matches no file"
            raise CaptureError(msg)
        for match in matches:
            yield from _within(match, known, on_problem, is_named=False)
        return
    if not is_there:
        raise CaptureError(cannot_open(place, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))))
    yield from _within(place, known, on_problem, is_named=True)


def _within(
    place: str, known: Collection[str], on_problem: Callable[[str, str], None], *, is_named: bool
) -> Iterator[Found]:
    path = os.path.realpath(place)
    try:
        status = os.stat(path)  # noqa: PTH116 - one of a hundred thousand
    except OSError as error:
        on_problem(path, error.strerror or str(error))
        return
    if not stat.S_ISDIR(status.st_mode):
        if stat.S_ISREG(status.st_mode) and (is_named or _may_be_capture(path, known)):
            yield Found(path, _stamp(status), is_named=is_named)
        elif is_named:
            msg = f"{place} is no regular file; a scan reads files and folders"
            raise UsageError(msg)
        return
    folders = [path]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            on_problem(folder, error.strerror or str(error))
            continue
        # A link to a folder may lead in a circle; one to a file is read as what it leads to.
        folders += [entry.path for entry in reversed(listed) if entry.is_dir(follow_symlinks=False)]
        for entry in listed:
            if found := _look_at(entry, known, on_problem):
                yield found


def _look_at(entry: os.DirEntry[str], known: Collection[str], on_problem: Callable[[str, str], None]) -> Found | None:
    path = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
    try:
        if not entry.is_file():
            return None
        status = entry.stat()
    except OSError as error:
        on_problem(path, error.strerror or str(error))
        return None
    return Found(path, _stamp(status)) if _may_be_capture(path, known) else None


def _may_be_capture(path: str, known: Collection[str]) -> bool:
    if path in known or is_capture_name(path.rpartition("/")[2]):
        return True
    try:
        return begins_like_capture(path)
    except CaptureError:
        return False  # unreadable, and nothing about its name says that it is of interest


def _stamp(status: os.stat_result) -> FileStamp:
    return FileStamp(status.st_size, status.st_mtime_ns, str(status.st_ino))
