"""Opens files that are obeyed, code and configuration, only where nobody else can have put them.

As sshd looks at its own: the file and every folder on the way to it belong to root or to the user, and nobody else may
write there. Each is opened relative to the one before it, so that what was looked at is what is read.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import PcapdiagError

if TYPE_CHECKING:
    from collections.abc import Collection

_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class UntrustedError(PcapdiagError):
    """A file that would be obeyed may be somebody else's; the text says which, and why."""


def open_trusted(path: Path, *, owners: Collection[int] = (), beside: Path | None = None) -> int:
    """Open a file that nobody but its owner and root can have written.

    Parameters
    ----------
    path : Path
        Links to folders on the way are followed once, and where they lead is looked at; a link itself is refused.
    owners : collection of int
        Users that are trusted beside root and the one who runs this.
    beside : Path or None
        Code in the same folder that runs already. Who may write to that folder can change the code itself, so the
        folders are not looked at, and the file may be as writable as the code is.

    Returns
    -------
    int
        A descriptor to read from; the caller closes it.

    Raises
    ------
    UntrustedError
        It, or a folder on the way, is a link, belongs to somebody else, or can be written by others.
    OSError
        It cannot be opened.
    """
    trusted = {0, os.geteuid(), *owners}
    folder = path.parent.resolve(strict=True)
    if beside is not None and beside.parent.resolve(strict=True) == folder:
        return _open_beside(folder, path.name, trusted, beside.stat())
    at = Path(folder.anchor)
    descriptor = os.open(at, _FOLDER)
    try:
        _check(os.fstat(descriptor), at, trusted)
        for name in folder.parts[1:]:
            at /= name
            descriptor = _step(descriptor, name, _FOLDER, at)
            _check(os.fstat(descriptor), at, trusted)
        at /= path.name
        descriptor = _step(descriptor, path.name, _FILE, at)
        _check(os.fstat(descriptor), at, trusted)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_beside(folder: Path, name: str, trusted: Collection[int], code: os.stat_result) -> int:
    at = folder / name
    descriptor = os.open(folder, _FOLDER)
    try:
        descriptor = _step(descriptor, name, _FILE, at)
        status = os.fstat(descriptor)
        may_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        is_as_code = may_write & ~code.st_mode == 0 and (status.st_gid == code.st_gid or not may_write & stat.S_IWGRP)
        _check(status, at, trusted, is_shared=is_as_code)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _step(folder: int, name: str, flags: int, shown: Path) -> int:
    """Open what is in a folder and close the folder; where that fails the folder stays open."""
    if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        msg = f"{shown} is a link; put the file itself there"
        raise UntrustedError(msg)
    inner = os.open(name, flags, dir_fd=folder)
    os.close(folder)
    return inner


def _check(status: os.stat_result, shown: Path, trusted: Collection[int], *, is_shared: bool = False) -> None:
    mode = status.st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        msg = f"{shown} is no file"
        raise UntrustedError(msg)
    if status.st_uid not in trusted:
        msg = f"{shown} belongs to user {status.st_uid}, neither to root nor to the one who runs this"
        raise UntrustedError(msg)
    if is_shared or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
        return  # whoever may write there may not replace what others put there
    if mode & stat.S_IWOTH:
        msg = f"everybody may write to {shown}: chmod o-w {shown}"
        raise UntrustedError(msg)
    if mode & stat.S_IWGRP and not _is_own_group(status.st_gid):
        msg = f"group {status.st_gid} may write to {shown}: chmod g-w {shown}"
        raise UntrustedError(msg)


def _is_own_group(gid: int) -> bool:
    """Whether a group is root's, or has one member: many systems give each user a group of that kind."""
    if gid == 0:
        return True
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
