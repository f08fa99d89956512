"""What ``watch`` says to who started it: lines on stdout, remarks on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from pcapdiag.base.disk import is_no_room

if TYPE_CHECKING:
    from pcapdiag.watch.model import KeptIncident

_MOST_OWED_BYTES: Final = 1 << 20


class Lines:
    """Standard output, a line per incident; what it cannot take does not end the recording.

    Parameters
    ----------
    out : str
        Folder for incidents.
    as_json : bool
        Whether a line is JSON.
    """

    def __init__(self, out: str, *, as_json: bool) -> None:
        self._out = out
        self._as_json = as_json
        self._owed = b""
        self._is_gone = False

    def tell(self, incident: KeptIncident) -> None:
        """Write the line of an incident, behind those that there was no room for."""
        if self._is_gone:
            return
        text = json.dumps(incident.to_json()) if self._as_json else _line(incident, self._out)
        self._owed = (self._owed + text.encode() + b"\n")[-_MOST_OWED_BYTES:]
        self.flush()

    def flush(self) -> None:
        """Write what is owed, as far as there is room."""
        try:
            while self._owed:
                self._owed = self._owed[os.write(sys.stdout.fileno(), self._owed) :]
        except BrokenPipeError:
            self._is_gone, self._owed = True, b""
            say("nobody reads stdout any more; incidents.jsonl holds the incidents, and recording goes on")
        except OSError as error:
            if not is_no_room(error):
                raise
            say("no room on the disk for a line on stdout; it is written when there is some")


def say(text: str) -> None:
    """Write a remark on stderr."""
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - help needs no unicodedata

    try:
        click.echo(f"pcapdiag: {visible(text)}", err=True)
    except OSError:
        return  # a full disk under the log, or nobody reads it: no reason to stop, and nobody to tell


def silence(_text: str) -> None:
    """Say nothing."""


def _line(incident: KeptIncident, out: str) -> str:
    from pcapdiag.base.units import format_ts_ns  # noqa: PLC0415 - the same
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - help needs no unicodedata

    when = format_ts_ns(incident.first_ts_ns)[:19] + "Z"
    return visible(f"{when} {incident.code} {incident.message} [{incident.count} new] {out}/{incident.path}")
