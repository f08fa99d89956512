"""Exchanges in detail: a folder of Parquet files by day and upstream, each complete or not there.

``date=2026-11-20/upstream=10.0.0.1%3A8080/KEY-0.parquet`` is what DuckDB, pandas and Spark read as one table with the
columns `date` and `upstream`. Knows files and names; what is in them is the scan's affair.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pcapdiag.nightly.store.model import DetailFile

_STAGING: Final = ".staging"


class DetailFolder:
    """The folder of details; made when the first file comes.

    Parameters
    ----------
    path : Path
        Where.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def staging(self, scan: int) -> Path:
        """Return the folder in which workers of this machine write the files of a scan before they have their place."""
        return self.path / _STAGING / str(scan)

    def discard(self, scan: int) -> None:
        """Remove what a scan that was ended has staged, and the folders that are empty then."""
        shutil.rmtree(self.staging(scan), ignore_errors=True)
        for folder in (self.path / _STAGING, self.path):
            try:
                folder.rmdir()
            except OSError:
                break  # not empty, or not there

    def place(self, details: Iterable[DetailFile]) -> None:
        """Give files their names; a file that is there already gives way.

        Parameters
        ----------
        details : iterable of DetailFile
            Staged, or as bytes.

        Raises
        ------
        StoreError
            There is no room, or the folder cannot be written.
        """
        try:
            for detail in details:
                target = self.path / detail.name
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                if detail.staged:
                    Path(detail.staged).replace(target)
                else:
                    _write(target, detail.content)
        except OSError as error:
            raise self.refused(error) from error

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, and folders that are empty then."""
        for name in names:
            path = self.path / name
            path.unlink(missing_ok=True)
            for folder in (path.parent, path.parent.parent):
                try:
                    folder.rmdir()
                except OSError:
                    break  # not empty, or not there

    def sweep(self, running: Collection[int]) -> None:
        """Remove what scans left staged that do not run any more."""
        try:
            left = [entry for entry in (self.path / _STAGING).iterdir() if entry.name not in set(map(str, running))]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self.refused(error) from error
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)

    def refused(self, error: OSError) -> StoreError:
        """Return the error to raise when a file could not be written."""
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return StoreError(
                f"no room left for the exchanges in {self.path}: make room on its disk, or leave them out with "
                "--no-exchanges; what was stored before is complete, run the same command again to go on from there"
            )
        return StoreError(
            f"cannot write the exchanges to {self.path}: {error.strerror}; name another folder with --exchanges"
        )


def _write(target: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=".part-", dir=target.parent)  # mode 0600
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
