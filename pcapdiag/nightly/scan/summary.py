"""The one summary of a scan: for people, as JSON, or as JSON Lines.

Names and messages come from captures: text for people is made safe here, JSON escapes by itself.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from pcapdiag.base.version import __version__
from pcapdiag.nightly.store.model import FindingState
from pcapdiag.nightly.store.plain import plain_row
from pcapdiag.privacy.escape import visible
from pcapdiag.report.model import to_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.nightly.scan.model import ScanSummary

SCHEMA_VERSION = 1


def render(summary: ScanSummary, format_: str) -> str:
    """Return the summary as text.

    Parameters
    ----------
    summary : ScanSummary
        What a scan found.
    format_ : str
        ``text``, ``json`` or ``jsonl``.

    Returns
    -------
    str
        Ends with a new line.
    """
    if format_ == "text":
        return "\n".join(_lines(summary)) + "\n"
    plain = _plain(summary)
    if format_ == "json":
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
    files, findings = plain.pop("files"), plain.pop("findings")
    records = [
        *({"kind": "file", **file} for file in files),
        *({"kind": "finding", **finding} for finding in findings),
        {"kind": "scan", **plain},
    ]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _plain(summary: ScanSummary) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(summary)
    states = Counter(finding.state.value for finding in summary.findings)
    plain["findings"] = [plain_row(finding) for finding in summary.findings]
    for file in plain["files"]:
        file["notes"] = [{"code": code, "text": text} for code, text in file["notes"]]
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "pcapdiag", "version": __version__},
        "scan": plain["scan"],
        "totals": plain["totals"] | {"outside": plain["outside"]},
        "states": {state.value: states[state.value] for state in FindingState},
        "captures": plain["captures"],
        "files": plain["files"],
        "findings": plain["findings"],
    }


def _lines(summary: ScanSummary) -> Iterator[str]:
    totals = summary.totals
    read = f"{totals.read} read"
    if totals.partial or totals.failed:
        read += f" ({totals.ok} ok, {totals.partial} partial, {totals.failed} failed)"
    counts = [read, f"{totals.unchanged} unchanged"]
    counts += [f"{totals.waiting} left for later"] if totals.waiting else []
    counts += [f"{summary.outside} outside of the time range"] if summary.outside else []
    yield f"scan {summary.scan}: {totals.found} files: {', '.join(counts)}"
    for file in summary.files:
        yield f"  {file.status:8} {visible(file.path)}: {visible('; '.join(text for _, text in file.notes[:3]))}"
    states = Counter(finding.state for finding in summary.findings)
    if not states:
        yield "nothing found"
        return
    yield "findings: " + ", ".join(f"{states[state]} {state.value}" for state in FindingState if states[state])
    for finding in summary.findings:
        if finding.state in {FindingState.GONE, FindingState.QUIET}:
            continue
        yield (
            f"  {finding.state.value:8} {finding.code} {finding.severity.name.lower():8} {visible(finding.subject)}  "
            f"{finding.last_count} on {finding.state_day}, {finding.count} in all"
        )
        yield f"           {visible(finding.message)}"
