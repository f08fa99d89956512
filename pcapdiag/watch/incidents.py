"""The incidents on disk: each report in its place, a list of them, and no more than there may be.

Knows folders and sizes; nothing of how a report is made.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pcapdiag.base.disk import replace_file
from pcapdiag.base.findings import Severity
from pcapdiag.watch.job import BUNDLE, REPORT
from pcapdiag.watch.model import KeptIncident

if TYPE_CHECKING:
    from pathlib import Path

    from pcapdiag.watch.model import JobResult

LIST: Final = "incidents.jsonl"


def publish(result: JobResult, job: Path, out: Path, missing: tuple[str, ...]) -> KeptIncident:
    """Move a report to its place.

    Parameters
    ----------
    result : JobResult
        What the job came to; there is a report.
    job : Path
        The job's folder.
    out : Path
        Folder for incidents, on the same file system.
    missing : tuple of str
        What the recording lacked.

    Returns
    -------
    KeptIncident
        What was written.
    """
    worst = max(result.findings, key=lambda f: Severity[f.severity.upper()])  # the first of them: causes come first
    name = f"{_stamp(worst.first_ts_ns)}-{worst.code}"
    made = job / BUNDLE if (job / BUNDLE).exists() else job / REPORT
    suffix = made.suffix
    number, target = 1, out / f"{name}{suffix}"
    while os.path.lexists(target):
        number += 1
        target = out / f"{name}-{number}{suffix}"
    made.rename(target)
    return KeptIncident(
        path=target.name,
        code=worst.code,
        name=worst.name,
        severity=worst.severity,
        subject=worst.subject,
        message=worst.message,
        identifiers=tuple(f.identifier for f in result.findings),
        count=result.count,
        first_ts_ns=min(f.first_ts_ns for f in result.findings),
        last_ts_ns=max(f.last_ts_ns for f in result.findings),
        n_bytes=_size(target),
        missing=missing,
    )


def prune(incidents: list[KeptIncident], out: Path, most: int, most_bytes: int) -> list[KeptIncident]:
    """Delete the oldest incidents beyond the bounds; the newest always stays.

    Parameters
    ----------
    incidents : list of KeptIncident
        Oldest first.
    out : Path
        Folder for incidents.
    most, most_bytes : int
        The bounds.

    Returns
    -------
    list of KeptIncident
        Those that are left.
    """
    kept: list[KeptIncident] = []
    n_bytes = 0
    for incident in reversed(incidents):
        n_bytes += incident.n_bytes
        if kept and (len(kept) >= most or n_bytes > most_bytes):
            break
        kept.append(incident)
    for incident in incidents[: len(incidents) - len(kept)]:
        path = out / incident.path
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return kept[::-1]


def write_list(incidents: list[KeptIncident], out: Path) -> None:
    """Write ``incidents.jsonl``: a line for each incident that is kept.

    Parameters
    ----------
    incidents : list of KeptIncident
        Oldest first.
    out : Path
        Folder for incidents.
    """
    lines = b"".join(json.dumps(incident.to_json()).encode() + b"\n" for incident in incidents)
    replace_file(out / LIST, lines)


def still_there(incidents: list[KeptIncident], out: Path) -> list[KeptIncident]:
    """Return the incidents that nobody has removed meanwhile, with their sizes."""
    return [replace(i, n_bytes=_size(out / i.path)) for i in incidents if os.path.lexists(out / i.path)]


def _stamp(ts_ns: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ts_ns // 10**9, UTC):%Y%m%dT%H%M%SZ}"
    except (OverflowError, OSError, ValueError):
        return f"{ts_ns}ns"  # no calendar has such a time


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files)
