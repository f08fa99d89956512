"""The state of the store as metrics for node_exporter's textfile collector.

What a capture can make up (an upstream per port) is bounded.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from pcapdiag.base.version import __version__
from pcapdiag.nightly.store.history import list_findings, list_scans, list_upstreams
from pcapdiag.nightly.store.model import FindingState
from pcapdiag.ticket.notify.textfile import gauge, write_gauges

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from pcapdiag.nightly.store.history import ScanRow, UpstreamTrend
    from pcapdiag.nightly.store.model import FindingRow
    from pcapdiag.nightly.store.store import Store

_MOST_SERIES: Final = 500
_FILES: Final = ("ok", "partial", "failed", "unchanged", "waiting")
_NOT_NOW: Final = (FindingState.GONE, FindingState.QUIET)


def write_metrics(store: Store, path: str | os.PathLike[str], *, notify_failures: int = 0) -> None:
    """Write the file anew, or leave it as it is: node_exporter never sees half of it.

    Parameters
    ----------
    store : Store
        What to tell.
    path : str or path
        In the folder that node_exporter reads; ends in ``.prom``. Readable by whoever may read the folder.
    notify_failures : int
        Channels that could not be told.

    Raises
    ------
    UsageError
        It cannot be written, or node_exporter would not read it.
    """
    write_gauges(path, _gauges(store, notify_failures))


def _gauges(store: Store, notify_failures: int) -> Iterator[str]:
    yield from _scan_metrics(next((scan for scan in list_scans(store) if scan.state == "finished"), None))
    yield from _finding_metrics(list_findings(store))
    yield from _upstream_metrics(_last_days(list_upstreams(store)))
    yield gauge("notify_failures", "Channels that the last scan could not tell.", [({}, notify_failures)])


def _scan_metrics(scan: ScanRow | None) -> Iterator[str]:
    yield gauge("version", "Version of pcapdiag, as a label.", [({"version": __version__}, 1)])
    if scan is None:
        return
    ended, took = scan.ended_at_ns / 1e9, (scan.ended_at_ns - scan.started_at_ns) / 1e9
    yield gauge("scan_end_timestamp_seconds", "When the last scan ended.", [({}, ended)])
    yield gauge("scan_duration_seconds", "How long the last scan took.", [({}, took)])
    counts = [({"status": status}, getattr(scan, status)) for status in _FILES]
    yield gauge("scan_files", "Files of the last scan by what became of them.", counts)


def _finding_metrics(findings: Iterable[FindingRow]) -> Iterator[str]:
    findings = list(findings)
    states = Counter(finding.state for finding in findings)
    by_state = [({"state": state.value}, states[state]) for state in FindingState]
    yield gauge("findings", "Findings by how they stand on the last night of their upstream.", by_state)
    samples = [
        (
            {"code": f.code, "name": f.name, "upstream": f.subject, "identifier": f.identifier},
            0 if f.state in _NOT_NOW else f.last_count,
        )
        for f in findings[:_MOST_SERIES]
    ]
    yield gauge("finding_last_night", "How often a finding was seen on the last night of its upstream.", samples)


def _upstream_metrics(rows: Iterable[UpstreamTrend]) -> Iterator[str]:
    rows = sorted(
        sorted(rows, key=lambda r: (-r.lost, -r.exchanges, r.endpoint))[:_MOST_SERIES], key=lambda r: r.endpoint
    )
    for name, help_ in (
        ("exchanges", "Requests to an upstream on its last night."),
        ("lost", "Requests that an upstream did not answer on its last night."),
        ("near_misses", "Requests that were answered although they came close to the race, on the last night."),
        ("reused", "Requests on a connection that had carried one before, on the last night."),
    ):
        yield gauge(f"upstream_{name}", help_, [({"upstream": r.endpoint}, getattr(r, name)) for r in rows])
    for name, field, unit, help_ in (
        ("race_per_day", "risk_expected", 1, "Requests that the idle-close race is expected to take per day."),
        ("idle_timeout_seconds", "idle_timeout_ns", 1e9, "After how long an upstream closes idle connections."),
        ("rtt_median_seconds", "rtt_p50_ns", 1e9, "Round-trip time to an upstream, median of its handshakes."),
    ):
        values = [({"upstream": r.endpoint}, getattr(r, field) / unit) for r in rows if getattr(r, field) >= 0]
        yield gauge(f"upstream_{name}", help_, values)


def _last_days(rows: Iterable[UpstreamTrend]) -> list[UpstreamTrend]:
    last: dict[str, UpstreamTrend] = {}
    for row in rows:
        if row.endpoint not in last or row.day > last[row.endpoint].day:
            last[row.endpoint] = row
    return list(last.values())
