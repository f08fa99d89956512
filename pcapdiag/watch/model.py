"""What crosses the seams within the flight recorder, as plain data.

All times are of the capture's clock, in ns, unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pcapdiag.analysis.inputs import NO_INPUTS, Inputs


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What to watch, and within which bounds.

    Attributes
    ----------
    place : str
        ``-`` for standard input, a folder, or a glob.
    out : str
        Folder for incidents and for everything the recorder keeps.
    inputs : Inputs
        How a piece of the recording is judged; all its logs are followed.
    ring_bytes : int
        [bytes] Most that is kept of the recording.
    grace_ns : int
        [ns] How long after a failure its report is begun: retransmissions, the closing and the log entry arrive late.
    cool_down_ns : int
        [ns] How long a trouble that was reported is only counted.
    context_ns : int
        [ns] How much of the recording before a failure is read with it, if it is there.
    keep_incidents : int
        Most incidents that are kept.
    keep_bytes : int
        [bytes] Most that incidents may take.
    least : str
        Lowest severity that makes an incident.
    bundle : bool
        Whether an incident is one ZIP instead of a folder.
    """

    place: str
    out: str
    inputs: Inputs = NO_INPUTS
    ring_bytes: int = 512 << 20
    grace_ns: int = 10_000_000_000
    cool_down_ns: int = 600_000_000_000
    context_ns: int = 300_000_000_000
    keep_incidents: int = 200
    keep_bytes: int = 2 << 30
    least: str = "warning"
    bundle: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Something failed on the upstream leg, or the log says so.

    Attributes
    ----------
    signature : str
        What is alike gets the same one: the endpoint and how it failed.
    resp : str
        Responder of the connection, ``address:port``; empty for what only a log tells.
    since_ns : int
        First sight of the connection.
    ts_ns : int
        When it was seen to have failed.
    """

    signature: str
    resp: str
    since_ns: int
    ts_ns: int


@dataclass(slots=True)
class Pending:
    """Failures of one signature that wait for their report.

    Attributes
    ----------
    first_ts_ns, last_ts_ns : int
        Of the failures.
    since_ns : int
        From when on the recording is needed.
    due_ns : int
        When the report is to be begun.
    """

    signature: str
    since_ns: int
    first_ts_ns: int
    last_ts_ns: int
    due_ns: int
    n_failures: int = 1
    n_tries: int = 0


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What the process that makes a report is told; `captures` and the logs are names in its own folder.

    Attributes
    ----------
    inputs : Inputs
        How they are judged.
    known : tuple of str
        Keys of occurrences that earlier incidents hold.
    known_until_ns : int
        Until when all of them are held: older keys were dropped.
    cooling : tuple of str
        Identifiers that are only counted now.
    missing : tuple of str
        What the recording lacks, in sentences.
    least : str
        Lowest severity that makes an incident.
    patience_ns : int
        [ns] A request so short before the end of the recording may be under way, and is no failure yet.
    """

    captures: tuple[str, ...]
    inputs: Inputs = NO_INPUTS
    known: tuple[str, ...] = ()
    known_until_ns: int = -1
    cooling: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    least: str = "warning"
    bundle: bool = False
    patience_ns: int = 0


@dataclass(frozen=True, slots=True)
class Reported:
    """A finding that the job came to; `keys` are those of its occurrences that were not known."""

    identifier: str
    code: str
    name: str
    severity: str
    subject: str
    message: str
    keys: tuple[str, ...]
    count: int
    first_ts_ns: int
    last_ts_ns: int


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of a job.

    Attributes
    ----------
    findings : tuple of Reported
        Findings with something new, worst first.
    written : bool
        Whether there is a report: not if all of them are only counted now, or there is none.
    client_endpoints : tuple of str
        Endpoints that turned out to be the proxy's own, where clients arrive.
    error : str
        Why there is no report though there should be one.
    no_room : bool
        Whether that is because the disk was full.
    count : int
        Failures that were not known, each once.
    known_until_ns : int
        Until when failures are known whose keys are too many to be handed on; -1 if they are not.
    """

    findings: tuple[Reported, ...] = ()
    written: bool = False
    client_endpoints: tuple[str, ...] = ()
    error: str = ""
    no_room: bool = False
    count: int = 0
    known_until_ns: int = -1


@dataclass(frozen=True, slots=True)
class KeptIncident:
    """A report that was written.

    Attributes
    ----------
    path : str
        Its folder or bundle, under the folder for incidents.
    code, severity, subject, message : str
        Of its worst new finding.
    identifiers : tuple of str
        Of all its new findings.
    count : int
        Failures that no earlier incident holds.
    first_ts_ns, last_ts_ns : int
        When they happened.
    n_bytes : int
        [bytes] What it takes on disk.
    missing : tuple of str
        What the recording lacks, in sentences.
    is_new : bool
        Whether it tells of a trouble that was not there the day before; else of one that goes on.
    """

    path: str
    code: str
    name: str
    severity: str
    subject: str
    message: str
    identifiers: tuple[str, ...]
    count: int
    first_ts_ns: int
    last_ts_ns: int
    n_bytes: int = 0
    missing: tuple[str, ...] = ()
    is_new: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as a line of ``incidents.jsonl``, with times as ISO 8601 beside the numbers."""
        from pcapdiag.base.units import format_ts_ns  # noqa: PLC0415 - options need no calendar

        values = asdict(self)
        return values | {f"{name}_ts": format_ts_ns(values[f"{name}_ts_ns"]) for name in ("first", "last")}


@dataclass(frozen=True, slots=True)
class Status:
    """How the recorder stands.

    Attributes
    ----------
    frames, frames_lost : int
        Taken in by this run, and those of them that the disk had no room for.
    failures, failures_waiting, failures_gone : int
        Seen by this run; waiting for their report; those that left the ring before it.
    reports_failed : int
        Reports that this run could not make.
    incidents : int
        All that there ever were in this folder.
    ring_bytes : int
        [bytes] What the ring holds.
    ring_reach_ns : int
        [ns] How far it reaches back.
    last_frame_ns : int
        [ns] Time of the newest frame; 0 before the first one.
    behind_ns : int
        [ns] How far reading is behind the capture.
    unwatched_files : int
        Files of the folder that are of another series.
    untold : int
        Messages that could not be sent yet.
    """

    frames: int
    frames_lost: int
    failures: int
    failures_waiting: int
    failures_gone: int
    reports_failed: int
    incidents: int
    ring_bytes: int
    ring_reach_ns: int
    last_frame_ns: int
    behind_ns: int
    unwatched_files: int
    untold: int


@dataclass(slots=True)
class SourceFile:
    """A file of the folder that was read, wholly or in part.

    Attributes
    ----------
    head : str
        Digest of its beginning, which it keeps under another name and compressed.
    head_bytes : int
        [bytes] Of how much of it.
    n_frames : int
        Frames read.
    is_done : bool
        Whether all of it was read.
    first_ns : int
        [ns] When it begins.
    """

    head: str
    head_bytes: int
    n_frames: int = 0
    is_done: bool = False
    first_ns: int = -1
