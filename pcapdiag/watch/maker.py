"""Has one report made at a time, by a process of its own, from links to the ring and copies of the logs.

Knows the job's folder and its process; what goes into it is decided by who asks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pcapdiag
from pcapdiag.watch.job import NO_ROOM_STATUS, read_result, write_order
from pcapdiag.watch.model import JobResult

if TYPE_CHECKING:
    from pcapdiag.watch.model import JobOrder

_MOST_S: Final = 900.0
_NICE: Final = 10
_ERRORS: Final = "errors.txt"
_MOST_ERROR_BYTES: Final = 2000


class ReportMaker:
    """Makes reports in folders below one; what an earlier run left there is deleted.

    Parameters
    ----------
    folder : Path
        Private to this maker, on the file system of the ring.
    """

    def __init__(self, folder: Path) -> None:
        # A process of an earlier run may still be at work; without its folder it ends.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        self._base = folder
        self._number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0.0
        self.took_s = 0.0
        """[s] The latest job that ended."""
        self.folder = folder
        """Of the present job."""

    @property
    def is_busy(self) -> bool:
        """Whether a report is being made."""
        return self._process is not None

    def new_folder(self) -> Path:
        """Return an empty folder for the next job."""
        self._number += 1
        self.folder = self._base / str(self._number)
        self.folder.mkdir(mode=0o700)
        return self.folder

    def start(self, order: JobOrder) -> None:
        """Begin with a report.

        Parameters
        ----------
        order : JobOrder
            What `folder` holds and what to do with it.
        """
        write_order(self.folder, order)
        self._begun = time.monotonic()
        package = str(Path(pcapdiag.__file__).resolve().parent.parent)
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-P", "-m", "pcapdiag.watch.job", str(self.folder.resolve())]
        with (self.folder / _ERRORS).open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                # What does not fit into its memory goes into its folder, which is on the disk that is looked after.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(self.folder.resolve())},
                # Ctrl-C is for the recorder, which lets its reports be finished.
                start_new_session=True,
            )
        with suppress(PermissionError):  # in a sandbox that lets nobody give way
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)  # the recording comes first

    def poll(self) -> JobResult | None:
        """Return what came of the job; None while it is at work."""
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            if time.monotonic() - self._begun < _MOST_S:
                return None
            process.kill()
            process.wait()
        self._process = None
        self.took_s = time.monotonic() - self._begun
        result = read_result(self.folder)
        if result is None:
            text = (self.folder / _ERRORS).read_bytes()[-_MOST_ERROR_BYTES:].decode(errors="backslashreplace")
            last = text.strip().rpartition("\n")[2] or f"its process ended with status {process.returncode}"
            result = JobResult(error=last, no_room=process.returncode == NO_ROOM_STATUS)
        return result

    def clear(self) -> None:
        """Delete the folder of the job that has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """End the process that is at work, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
