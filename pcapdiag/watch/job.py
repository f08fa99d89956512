"""Makes the report of an incident, in a process of its own: ``python -m pcapdiag.watch.job FOLDER``.

The folder holds ``order.json`` and what it names: parts of the recording and of the logs. What comes of it is written
beside them: the report, and ``result.json`` last. A process of its own gives all memory back, and whatever goes wrong
in it does not touch the recording.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.base.disk import is_no_room, replace_file
from pcapdiag.base.errors import PcapdiagError
from pcapdiag.base.findings import Severity
from pcapdiag.base.units import count_of
from pcapdiag.watch.known import KnownFailures, failing_of, is_cut, is_under_way
from pcapdiag.watch.model import JobOrder, JobResult, Reported
from pcapdiag.watch.piece import leave_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.api.analyze import CaptureReport
    from pcapdiag.base.findings import Occurrence
    from pcapdiag.watch.known import Failing

ORDER: Final = "order.json"
RESULT: Final = "result.json"
BUNDLE: Final = "incident.zip"
REPORT: Final = "incident"
NO_ROOM_STATUS: Final = 75
"""What the process ends with when the disk is full: EX_TEMPFAIL of sysexits.h."""

_PIECE: Final = "piece"

_MOST_KEYS: Final = 20_000


def write_order(folder: Path, order: JobOrder) -> None:
    """Write what `run` is to do.

    Parameters
    ----------
    folder : Path
        The job's own.
    order : JobOrder
        What to do.
    """
    replace_file(folder / ORDER, json.dumps(asdict(order)).encode())


def read_result(folder: Path) -> JobResult | None:
    """Return what came of a job; None if it did not come to an end."""
    path = folder / RESULT
    if not path.exists():
        return None
    values = json.loads(path.read_bytes())
    findings = tuple(Reported(**{**f, "keys": tuple(f["keys"])}) for f in values["findings"])
    return JobResult(**{**values, "findings": findings, "client_endpoints": tuple(values["client_endpoints"])})


def run(folder: Path) -> None:
    """Do the job of a folder.

    Parameters
    ----------
    folder : Path
        With its order.
    """
    os.chdir(folder)  # names in the report are those of the files, not where they lay for a minute
    values = json.loads(Path(ORDER).read_bytes())
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["inputs"].items()}
    order = JobOrder(**{**values, "inputs": Inputs(**given)})
    try:
        result = _report(order)
    except (PcapdiagError, OSError) as error:
        result = JobResult(error=str(error), no_room=is_no_room(error))
    replace_file(Path(RESULT), json.dumps(asdict(result)).encode())


def _report(order: JobOrder) -> JobResult:
    known = KnownFailures(order.known, order.known_until_ns)
    report = _analyze(order, order.captures)
    seen = _SeenByJob(report, known, order)
    found = tuple(_new_findings(report, seen))
    written = any(finding.identifier not in order.cooling for finding in found)
    if written:
        missing = (*order.missing, *_missing(report, seen))
        if seen.left_over or seen.under_way:
            missing = (*missing, *_left_out(seen))
            del report  # two of them at a time would take twice the memory
            report = _analyze(order, leave_out(order.captures, seen.left_over | seen.under_way, _PIECE))
            seen = _SeenByJob(report, known, order)
            found = tuple(_new_findings(report, seen))
            written = bool(found)
        if written:
            _write_incident(report, missing, as_bundle=order.bundle)
    clients = tuple(_client_endpoints(report))
    return JobResult(found, written, clients, count=seen.count, known_until_ns=seen.known_until_ns)


def _analyze(order: JobOrder, captures: Sequence[str]) -> CaptureReport:
    from pcapdiag.api.analyze import analyze_captures  # noqa: PLC0415 - the engine

    return analyze_captures(captures, replace(order.inputs, with_hashes=True))


class _SeenByJob:
    """What a report sees of failures: which are new, where only the rest of a known one is left, which may be none."""

    def __init__(self, report: CaptureReport, known: KnownFailures, order: JobOrder) -> None:
        analysis = report.analysis
        least = Severity[order.least.upper()]
        under_way_ns = analysis.last_ts_ns - order.patience_ns
        losses = {(loss.connection.conn, loss.depth): loss for loss in (*analysis.losses, *analysis.truncated)}
        self.new: dict[int, list[tuple[Occurrence, Failing]]] = {}
        self.left_over: dict[tuple[str, str], int] = {}
        self.under_way: dict[tuple[str, str], int] = {}
        last_ts_ns = analysis.connections["last_ts_ns"]
        for number, finding in enumerate(report.found):
            for occurrence in finding.occurrences:
                if occurrence.request_ts_ns < 0 or finding.severity < least:
                    continue
                failing = failing_of(occurrence, losses)
                loss = losses.get((occurrence.conn, occurrence.depth))
                ends = failing.orig, failing.resp
                if is_under_way(loss, under_way_ns):
                    self.under_way[ends] = analysis.last_ts_ns
                elif known.left_of(failing, loss) or (is_cut(loss) and known.holds(failing)):
                    self.left_over[ends] = max(int(last_ts_ns[occurrence.conn]), self.left_over.get(ends, 0))
                elif not known.holds(failing):
                    self.new.setdefault(number, []).append((occurrence, failing))
        times = sorted(failing.ts_ns for failing in {failing for new in self.new.values() for _, failing in new})
        self.count = len(times)
        self.known_until_ns = times[-_MOST_KEYS - 1] if self.count > _MOST_KEYS else -1


def _new_findings(report: CaptureReport, seen: _SeenByJob) -> Iterator[Reported]:
    """Yield the findings that tell of failures no earlier incident holds.

    Requests that were still waiting for their response when the recording was looked at are none, and INFO.
    """
    for number, (finding, shown) in enumerate(zip(report.found, report.report.findings, strict=True)):
        if new := seen.new.get(number):
            yield Reported(
                identifier=finding.identifier,
                code=finding.code,
                name=finding.name,
                severity=finding.severity.name.lower(),
                subject=shown.subject,
                message=shown.message,
                keys=tuple(str(failing) for _, failing in new if failing.ts_ns > seen.known_until_ns),
                count=len(new),
                first_ts_ns=min(failing.ts_ns for _, failing in new),
                last_ts_ns=max(failing.ts_ns for _, failing in new),
            )


def _missing(report: CaptureReport, seen: _SeenByJob) -> Iterator[str]:
    """Yield what the recording does not hold of the connections concerned."""
    inferred = report.analysis.connections["orig_inferred"]
    uids = {o.uid for new in seen.new.values() for o, _ in new if o.conn >= 0 and inferred[o.conn]}
    if uids:
        what = "1 connection was" if len(uids) == 1 else f"{len(uids)} connections were"
        yield (
            f"{what} open before the recording that is left begins: handshake and earlier exchanges are missing; a "
            "larger --ring reaches further back"
        )


def _left_out(seen: _SeenByJob) -> Iterator[str]:
    """Yield what is left out of the report although it is in the recording."""
    if n := len(seen.left_over):
        what = count_of(n, "failure is", "failures are")
        yield f"{what} left out: an earlier incident holds them, and here only their end is left"
    if n := len(seen.under_way):
        yield f"{count_of(n, 'request is', 'requests are')} left out: under way when the recording was looked at"


def _client_endpoints(report: CaptureReport) -> list[str]:
    """Return where the proxy's clients arrive."""
    import numpy as np  # noqa: PLC0415 - the engine has loaded it

    from pcapdiag.base.codes import Leg  # noqa: PLC0415 - the same
    from pcapdiag.base.units import format_endpoint  # noqa: PLC0415 - the same

    rows = report.analysis.connections.rows[report.analysis.legs == Leg.CLIENT]
    ends = np.unique(rows[["resp_hi", "resp_lo", "resp_port"]])[:_MOST_KEYS]
    return [format_endpoint(*end) for end in ends.tolist()]


def _write_incident(report: CaptureReport, missing: tuple[str, ...], *, as_bundle: bool) -> None:
    """Write the report in all its forms, as a bundle or unpacked."""
    from pcapdiag.report.model import ReportNote  # noqa: PLC0415 - the engine has loaded it

    notes = tuple(ReportNote("flight-recorder", text, -1, -1, "") for text in missing)
    report.report = replace(report.report, notes=(*report.report.notes, *notes))
    report.write_bundle(BUNDLE, force=True)
    if as_bundle:
        return
    folder = Path(REPORT)
    folder.mkdir(mode=0o700)
    with zipfile.ZipFile(BUNDLE) as bundle:  # our own: its names are known to be harmless
        for member in bundle.infolist():
            target = folder / member.filename
            target.parent.mkdir(mode=0o700, exist_ok=True)
            replace_file(target, bundle.read(member))
    Path(BUNDLE).unlink()


def main(arguments: list[str]) -> int:
    """Do the job that the command line names."""
    try:
        run(Path(arguments[0]))
    except OSError as error:
        if not is_no_room(error):
            raise
        return NO_ROOM_STATUS  # not even for a result
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
