"""From files to the joined ledger: logs and configuration are read here, and joined with the analysis.

Knows which file is what; neither what is in it nor how it is joined.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.codes import Leg
from pcapdiag.conf.read import read_proxy_conf
from pcapdiag.conf.values import version_numbers
from pcapdiag.correlate.arrivals import judge_arrivals
from pcapdiag.correlate.clients import ClientTally
from pcapdiag.correlate.join import CaptureSpan, join_logs
from pcapdiag.findings import Note
from pcapdiag.log_inputs import AUTO, zone_offset_s
from pcapdiag.logs.access_log import read_access_log
from pcapdiag.logs.error_log import container_zone_s, read_error_log
from pcapdiag.logs.files import expand_logs
from pcapdiag.logs.older import OlderLogs, find_older
from pcapdiag.logs.upstream_log import read_upstream_log
from pcapdiag.losses import to_connection
from pcapdiag.tries import list_served, list_tries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis import Analysis
    from pcapdiag.conf.settings import ProxySettings
    from pcapdiag.correlate.ledger import Clock, Ledger
    from pcapdiag.log_inputs import LogInputs
    from pcapdiag.logs.entries import LogCounts

_MOST_CLIENTS = 200
"""Connections of clients that are asked which version the proxy is."""


def add_logs(analysis: Analysis, inputs: LogInputs) -> Analysis:
    """Return the analysis with its ledger, if a log was given.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    inputs : LogInputs
        Files and options.

    Returns
    -------
    Analysis
        With notes on lines that are no log lines.

    Raises
    ------
    LogError
        A log cannot be read.
    UsageError
        The configuration cannot be read, or the zone makes no sense.
    """
    if not inputs.kinds:
        return analysis
    settings = read_proxy_conf(inputs.proxy_conf, version=proxy_version(analysis)) if inputs.proxy_conf else None
    notes = [Note("configuration", f"{n.source}: {n.text}") for n in settings.notes] if settings is not None else []
    zone_s = zone_offset_s(inputs.log_zone, analysis.first_ts_ns)
    if zone_s is None:
        zones = {zone for path in inputs.error_logs if (zone := container_zone_s(path)) is not None}
        zone_s = zones.pop() if len(zones) == 1 else None
    form = access_format(inputs, settings)
    errors = [read_error_log(path) for path in inputs.error_logs]
    accesses = [read_access_log(path, form) for path in inputs.access_logs]
    older = OlderLogs()
    pattern = None if inputs.upstream_log_format in ("", AUTO) else inputs.upstream_log_format
    applications = [read_upstream_log(path, pattern) for path in inputs.upstream_logs]
    ledger, arrivals = None, {}
    wires = list_tries(analysis) if errors or accesses or applications else ()
    if errors or accesses:
        span = CaptureSpan(
            analysis.first_ts_ns, analysis.last_ts_ns, frozenset(str(u.endpoint) for u in analysis.upstreams)
        )

        def join(old: OlderLogs) -> Ledger:
            tally = ClientTally()
            entries = tally.watch(chain(*accesses, *old.accesses))
            ledger = join_logs(wires, span, chain(*errors, *old.errors), entries, settings, zone_s=zone_s)
            return replace(ledger, clients=tally if accesses else None)

        def find(clock: Clock | None) -> OlderLogs:
            is_known = clock is not None and clock.is_measured and not clock.is_ambiguous
            offset = clock.total_ns if clock is not None and is_known else None
            return find_older(
                inputs.error_logs, inputs.access_logs, form, span.first_ns, span.last_ns, offset, given=inputs.kinds
            )

        ledger = join(older)
        older = find(ledger.clock)
        if older.errors or older.accesses:
            n_before = 0 if ledger.clock is None else ledger.clock.pairs
            ledger = join(older)
            # Where they told the zone, less of them is needed.
            if not n_before and ledger.clock is not None:
                older = find(ledger.clock)
                ledger = join(older)
        notes += _left_out(ledger)
        notes += [Note("rotated-log-added", text) for text in older.remarks()]
    if applications:
        served, is_sampled = list_served(analysis, wires)
        arrivals = judge_arrivals(wires, served, [(log.path, log) for log in applications], is_sampled=is_sampled)
    for path, counts in [(log.path, log.counts) for log in (*errors, *accesses, *(its.log for its in older.used))]:
        notes += [*counts.notes, *_unparsed(path, counts, "are no log lines")]
    for path, counts in [(log.path, log.counts) for log in applications]:
        notes += [*counts.notes, *_unparsed(path, counts, "hold no request")]
    return replace(
        analysis,
        settings=settings,
        log=ledger,
        arrivals=arrivals,
        added_logs={log.log.path: log.kind for log in older.used},
        notes=(*analysis.notes, *notes),
    )


def expand_inputs(inputs: LogInputs) -> LogInputs:
    """Return the inputs with files in place of folders and globs, each once.

    Raises
    ------
    LogError
        A folder holds no such log, or nothing fits a glob.
    """
    return replace(
        inputs,
        error_logs=expand_logs(inputs.error_logs, "error"),
        access_logs=expand_logs(inputs.access_logs, "access"),
        upstream_logs=expand_logs(inputs.upstream_logs, ""),
    )


def _left_out(ledger: Ledger) -> Iterator[Note]:
    """Yield a note on what was too much to be kept."""
    advice = "give a log of the capture's time alone"
    if ledger.entries_left_out:
        text = (
            f"the last {ledger.entries_left_out:,} entries about upstreams are too many and were not joined; {advice}"
        )
        yield Note("log-too-long", text)
    if ledger.accesses_left_out:
        text = f"{ledger.accesses_left_out:,} lines of the access log are too many and were left out; {advice}"
        yield Note("log-too-long", text)


def _unparsed(path: str, counts: LogCounts, what: str) -> tuple[Note, ...]:
    """Return a note on lines that were passed over, if there are any."""
    if not counts.n_unparsed:
        return ()
    numbers = ", ".join(str(number) for number, _ in counts.unparsed[:5])
    more = ", ..." if counts.n_unparsed > 5 else ""
    text = f"{counts.n_unparsed:,} of {counts.n_lines:,} lines {what} (line {numbers}{more})"
    return (Note("log-lines-skipped", text, file=path),)


def proxy_version(analysis: Analysis) -> str:
    """Return the proxy's Server field, as its clients get it; empty where the capture lacks the client leg."""
    of_clients = np.flatnonzero(np.asarray(analysis.legs) == Leg.CLIENT)[:_MOST_CLIENTS]
    rows = analysis.connections.rows
    fields = (to_connection(rows[conn], analysis.texts).server for conn in of_clients.tolist())
    return next((field for field in fields if version_numbers(field) != (0, 0, 0)), "")


def access_format(inputs: LogInputs, settings: ProxySettings | None) -> str | None:
    """Return the format of the access logs: as given, else as configured, else None to have it recognised."""
    if inputs.log_format not in ("", AUTO):
        return inputs.log_format
    if settings is None:
        return None
    names = dict.fromkeys(log.format_name for log in settings.access_logs)
    formats = [f for name in names if (f := settings.log_format(name)) is not None]
    if len(formats) != 1:
        return None
    known = formats[0]
    return f"escape={known.escape} {known.text}" if known.escape not in ("", "default") else known.text
