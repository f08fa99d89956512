"""The logs beside the recording: they grow, they rotate, and an entry about an upstream is a failure, too.

Knows which log is what; how a log is followed is known to `tail`, what an entry says to `logs`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.proxy.logs.error_log import parse_record
from pcapdiag.proxy.logs.files import expand_logs
from pcapdiag.proxy.logs.heads import find_error_record
from pcapdiag.proxy.logs.lines import decode_line
from pcapdiag.proxy.logs.unwrap import Unwrapper
from pcapdiag.watch.model import Failure
from pcapdiag.watch.tail import LogTail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.watch.tail import LogPosition

_BAD_LEVELS: Final = frozenset({"error", "crit", "alert", "emerg"})
_MOST_PARSED: Final = 2000
"""Lines of one look that are parsed: a flood of them says no more."""


class LogWatch:
    """All logs of a recorder.

    Parameters
    ----------
    inputs : Inputs
        Names of logs: files (which need not exist yet), folders or globs.
    known : mapping of str to LogPosition
        Where an earlier run stood.
    backfill_bytes : int
        [bytes] How much of what is there already counts as added now.

    Raises
    ------
    LogError
        A folder holds no such log, or nothing fits a glob.
    """

    def __init__(self, inputs: Inputs, *, known: Mapping[str, LogPosition], backfill_bytes: int = 0) -> None:
        def follow(paths: Sequence[str], kind: str) -> list[LogTail]:
            found = expand_logs(paths, kind)
            return [LogTail(path, known=known.get(path), backfill_bytes=backfill_bytes) for path in found]

        self._inputs = inputs
        self._errors = follow(inputs.error_logs, "error")
        self._accesses = follow(inputs.access_logs, "access")
        self._applications = follow(inputs.upstream_logs, "")
        self._tails = (*self._errors, *self._accesses, *self._applications)
        self._unwrapper = Unwrapper()
        self._is_first = True

    def poll(self, now_ns: int) -> list[Failure]:
        """Take in what was added; return what of it tells of failures.

        Parameters
        ----------
        now_ns : int
            [ns] By the capture's clock.

        Returns
        -------
        list of Failure
            Nothing of what was there when the recorder began.
        """
        failures: list[Failure] = []
        for tail in self._errors:
            for n_line, line in enumerate(tail.poll(now_ns)):
                if n_line < _MOST_PARSED and not self._is_first:
                    failures += self._failures(line, now_ns)
        for tail in (*self._accesses, *self._applications):
            for _ in tail.poll(now_ns):
                pass
        self._is_first = False
        return failures

    def _failures(self, line: bytes, now_ns: int) -> list[Failure]:
        text = self._unwrapper.unwrap(decode_line(line))
        if not text:
            return []
        records = parse_record(text)
        if not records and (found := find_error_record(text)) is not None:
            records = parse_record(found.text)
        entries = [e for e in records if e.concerns_upstream and e.level in _BAD_LEVELS]
        return [Failure(f"log {e.kind.name.lower()} {e.upstream_peer}", "", now_ns, now_ns) for e in entries]

    def cut(self, folder: Path, since_ns: int) -> Inputs:
        """Copy what has arrived since a time.

        Parameters
        ----------
        folder : Path
            Where to.
        since_ns : int
            [ns] From when on.

        Returns
        -------
        Inputs
            With the copies, names in `folder`, in place of the logs.
        """
        taken: set[str] = set()

        def cut_all(tails: list[LogTail]) -> tuple[str, ...]:
            names: list[str] = []
            for tail in tails:
                name = base = Path(tail.path).name
                while name in taken:
                    name = f"{len(taken)}-{base}"
                taken.add(name)
                names += tail.cut(folder, name, since_ns)
            return tuple(names)

        return replace(
            self._inputs,
            error_logs=cut_all(self._errors),
            access_logs=cut_all(self._accesses),
            upstream_logs=cut_all(self._applications),
        )

    def forget(self, before_ns: int) -> None:
        """Let go of what arrived before a time."""
        for tail in self._tails:
            tail.forget(before_ns)

    def positions(self) -> dict[str, LogPosition]:
        """Return from where on a later run has to read each log."""
        known = {tail.path: tail.position() for tail in self._tails}
        return {path: position for path, position in known.items() if position is not None}

    def close(self) -> None:
        """Close all files."""
        for tail in self._tails:
            tail.close()
