"""Progress of a scan on stderr: a bar on a terminal, plain lines in a journal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from pcapdiag.cli.progress import ProgressMeter
from pcapdiag.privacy.escape import visible

if TYPE_CHECKING:
    from pcapdiag.nightly.scan.run import Progress

_LINE_EVERY_S = 30.0


class ScanMeter(ProgressMeter):
    """What a scan calls when a file is done.

    Parameters
    ----------
    quiet : bool
        Whether to stay silent.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(quiet=quiet)
        self._next_line = time.monotonic() + _LINE_EVERY_S

    def on_file(self, progress: Progress) -> None:
        """Say what went wrong with a file, and from time to time how far the scan is."""
        if self._quiet:
            return
        if progress.line:
            click.echo(f"pcapdiag: {visible(progress.line)}", err=True)
        if sys.stderr.isatty():
            self.on_progress(progress.bytes_done, progress.bytes_total, progress.files_done, unit="files")
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_EVERY_S
            share = 100 * progress.bytes_done // max(progress.bytes_total, 1)
            click.echo(f"pcapdiag: {progress.files_done} of {progress.files_total} files, {share} %", err=True)
