"""From files to the joined ledger: logs and configuration are read here, and joined with the analysis.

Knows which file is what; neither what is in it nor how it is joined.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.contradicted import without_contradicted
from pcapdiag.analysis.early import StatusLines, add_lost_answers
from pcapdiag.analysis.handshake import HTTP2
from pcapdiag.analysis.inputs import AUTO, zone_offset_s
from pcapdiag.analysis.losses import to_connection
from pcapdiag.analysis.rejected import add_rejected
from pcapdiag.analysis.tls import add_refused
from pcapdiag.analysis.tries import list_served, list_tries
from pcapdiag.base.codes import Leg
from pcapdiag.base.findings import Note
from pcapdiag.base.units import count_of, format_endpoint
from pcapdiag.privacy.escape import shorten
from pcapdiag.proxy.conf import read
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.conf.values import version_numbers
from pcapdiag.proxy.join.arrivals import judge_arrivals
from pcapdiag.proxy.join.clients import ClientTally
from pcapdiag.proxy.join.join import join_logs, without_absence
from pcapdiag.proxy.join.pairs import is_name
from pcapdiag.proxy.join.places import CaptureSpan
from pcapdiag.proxy.join.served_zone import ServedLines, find_zone_s
from pcapdiag.proxy.logs import lines
from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.copies import GivenTwice
from pcapdiag.proxy.logs.error_log import container_zone_s, read_error_log
from pcapdiag.proxy.logs.files import expand_logs
from pcapdiag.proxy.logs.foreign import read_failures, read_served, recognise_log
from pcapdiag.proxy.logs.older import OlderLogs, find_older
from pcapdiag.proxy.logs.upstream_log import read_upstream_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.analysis.model import Analysis
    from pcapdiag.proxy.conf.settings import ProxySettings
    from pcapdiag.proxy.join.arrivals import Arrival
    from pcapdiag.proxy.join.ledger import Ledger, LogClock, WireTry
    from pcapdiag.proxy.logs.entries import LogCounts

_MOST_PEERS = 10
_MOST_QUOTED = 160
"""[characters] Of a line that was not understood."""
_MOST_CLIENTS = 200
"""Connections of clients that are asked which version the proxy is."""


def add_logs(analysis: Analysis, inputs: Inputs) -> Analysis:
    """Return the analysis with its ledger, if a log was given.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    inputs : Inputs
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
        The configuration cannot be read.
    """
    if not inputs.kinds:
        return analysis
    settings = read.read_proxy_conf(inputs.proxy_conf, version=proxy_version(analysis)) if inputs.proxy_conf else None
    errors, accesses = GivenTwice(inputs.error_logs), GivenTwice(inputs.access_logs)
    inputs = replace(inputs, error_logs=errors.kept, access_logs=accesses.kept)
    logs = _Logs(inputs, settings, analysis)
    errors.cut(logs.errors)
    accesses.cut(logs.accesses)
    twice = (Note("log-given-twice", text) for text in (*errors.sentences(), *accesses.sentences()))
    wires = list_tries(analysis) if inputs.logs else ()
    ledger, older = logs.join(wires)
    if settings is not None and ledger is not None and ledger.services:
        settings = replace(settings, services=ledger.services)
    settings = without_contradicted(settings, analysis) if settings is not None else None
    if ledger is not None and analysis.early:
        ledger = _without_early(ledger, analysis)
    if ledger is not None and any(loss.stands_for > 1 for loss in (*analysis.losses, *analysis.truncated)):
        ledger = without_absence(ledger)
    arrivals = logs.judge_arrivals(wires)
    joined = replace(
        analysis,
        settings=settings,
        proxy_kind=_proxy_kind(settings, logs, ledger),
        log=ledger,
        arrivals=arrivals,
        added_logs={log.log.path: log.kind for log in older.used},
        notes=(*analysis.notes, *twice, *_notes(settings, logs, ledger, older)),
    )
    return add_lost_answers(add_rejected(add_refused(joined)), logs.status_lines)


def _without_early(ledger: Ledger, analysis: Analysis) -> Ledger:
    """Leave out early answers that no entry tells of: they were read, and no try failed."""
    early = {(loss.connection.conn, loss.depth) for loss in analysis.early}
    return replace(ledger, tries=tuple(t for t in ledger.tries if t.entries or t.wire.key not in early))


class _Logs:
    """The logs that were given, opened; each pass over one reads it anew."""

    def __init__(self, inputs: Inputs, settings: ProxySettings | None, analysis: Analysis) -> None:
        self._inputs = inputs
        self._settings = settings
        self._analysis = analysis
        self._zone_s = _zone_s(inputs, analysis.first_ts_ns)
        self._format = access_format(inputs, settings)
        pattern = None if inputs.upstream_log_format in ("", AUTO) else inputs.upstream_log_format
        recognised = map(recognise_log, dict.fromkeys((*inputs.error_logs, *inputs.access_logs)))
        self.foreign = {log.path: log for log in recognised if log is not None}
        addresses = self._addresses = settings.addresses() if settings is not None else {}
        rewrites = settings is not None and any(server.rewrites for server in settings.own)
        self._own_errors = tuple(path for path in inputs.error_logs if path not in self.foreign)
        self._own_accesses = tuple(path for path in inputs.access_logs if path not in self.foreign)
        others = self.foreign.values()
        self.errors = [read_error_log(path) for path in self._own_errors]
        self.errors += [read_failures(log, addresses, rewrites=rewrites) for log in others]
        self.accesses = [read_access_log(path, self._format) for path in self._own_accesses]
        self.accesses += [read_served(log, addresses) for log in others if log.format.has_accesses]
        if self._zone_s is None and others and not self._own_errors and all(log.format.has_zone for log in others):
            self._zone_s = 0
        self.status_lines = StatusLines(())
        self._served_lines = ServedLines()
        self.applications = [read_upstream_log(path, pattern) for path in inputs.upstream_logs]

    def join(self, wires: Sequence[WireTry]) -> tuple[Ledger | None, OlderLogs]:
        """Join the proxy's logs with the tries on the wire, and older logs of the same time with them.

        Which older ones are needed is known once the first join has measured the log's clock; where only they tell the
        zone, less of them is needed than that.
        """
        older = OlderLogs()
        if not (self.errors or self.accesses):
            return None, older
        ledger = self._join(wires, older)
        if ledger.zone_s is None and ledger.clients is not None and not ledger.clients.has_zone:
            # No failure ties the log to the capture; the answered requests of both may.
            served, _ = list_served(self._analysis, wires)
            self._zone_s = find_zone_s(self._served_lines, served)
            if self._zone_s is not None:
                ledger = self._join(wires, older)
        is_clock_told = ledger.clock is not None and ledger.clock.pairs > 0
        older = self._find_older(ledger.clock)
        if older.errors or older.accesses:
            ledger = self._join(wires, older)
            if not is_clock_told and ledger.clock is not None:
                older = self._find_older(ledger.clock)
                ledger = self._join(wires, older)
        return ledger, older

    def judge_arrivals(self, wires: Sequence[WireTry]) -> dict[tuple[int, int], Arrival]:
        """Return what the applications' logs say of each lost request: whether it arrived."""
        if not self.applications:
            return {}
        served, is_sampled = list_served(self._analysis, wires)
        return judge_arrivals(wires, served, [(log.path, log) for log in self.applications], is_sampled=is_sampled)

    def _join(self, wires: Sequence[WireTry], older: OlderLogs) -> Ledger:
        upstreams = frozenset(str(u.endpoint) for u in self._analysis.upstreams)
        span = CaptureSpan(self._analysis.first_ts_ns, self._analysis.last_ts_ns, upstreams, _unframed(self._analysis))
        formats = [log.format for log in self.foreign.values() if log.format.has_accesses]
        tally = ClientTally(
            has_zone=all(known.has_zone for known in formats),
            counts_retries=all(known.counts_retries for known in formats),
        )
        errors = chain(*self.errors, *older.errors)
        self.status_lines = StatusLines(self._analysis.early, has_zone=tally.has_zone)
        self._served_lines = ServedLines()
        accesses = tally.watch(chain(*self.accesses, *older.accesses))
        accesses = self.status_lines.watch(accesses if tally.has_zone else self._served_lines.watch(accesses))
        has_lines = not self._own_errors and all(log.format.has_accesses for log in self.foreign.values())
        ledger = join_logs(
            wires,
            span,
            errors,
            accesses,
            self._settings,
            zone_s=self._zone_s,
            covers=tally.covers if has_lines else None,
        )
        return replace(
            ledger,
            clients=tally if self.accesses else None,
            errors_read=sum(log.counts.n_records for log in (*self.errors, *(o.log for o in older.errors)))
            if self.errors
            else -1,
            accesses_read=sum(log.counts.n_records for log in self.accesses) if self.accesses else -1,
        )

    def _find_older(self, clock: LogClock | None) -> OlderLogs:
        is_known = clock is not None and clock.is_measured and not clock.is_ambiguous
        return find_older(
            self._own_errors,
            self._own_accesses,
            self._format,
            self._analysis.first_ts_ns,
            self._analysis.last_ts_ns,
            clock.total_ns if clock is not None and is_known else None,
            given=self._inputs.kinds,
            foreign=self.foreign,
            addresses=self._addresses,
        )


def _unframed(analysis: Analysis) -> frozenset[str]:
    """Return the upstreams to which a connection carries HTTP/2, or may."""
    if analysis.tls is None:
        return frozenset()
    conns = np.flatnonzero((analysis.tls.http2 > HTTP2.NO) & (analysis.legs == Leg.UPSTREAM))
    ends = analysis.connections.rows[conns][["resp_hi", "resp_lo", "resp_port"]]
    return frozenset(format_endpoint(*end) for end in np.unique(ends).tolist())


def _zone_s(inputs: Inputs, at_ns: int) -> int | None:
    """Return the zone of the error logs [s] as given, else as all that a container wrote agree; None if unknown."""
    zone_s = zone_offset_s(inputs.log_zone, at_ns)
    if zone_s is not None:
        return zone_s
    zones = {zone for path in inputs.error_logs if (zone := container_zone_s(path)) is not None}
    return zones.pop() if len(zones) == 1 else None


def _proxy_kind(settings: ProxySettings | None, logs: _Logs, ledger: Ledger | None) -> ProxyKind | None:
    """Return what the proxy is: by its configuration, by logs of another one, or by entries that only nginx writes."""
    if settings is not None:
        return settings.kind
    others = {log.format.proxy for log in logs.foreign.values()}
    if others:
        return ProxyKind(others.pop()) if len(others) == 1 else None
    return ProxyKind.NGINX if ledger is not None and ledger.entries else None


def expand_inputs(inputs: Inputs) -> Inputs:
    """Return the inputs with files in place of folders and globs, each once, each known to be there.

    Raises
    ------
    LogError
        A folder holds no such log, nothing fits a glob, or a log cannot be opened.
    UsageError
        The configuration cannot be.
    """
    expanded = replace(
        inputs,
        error_logs=expand_logs(inputs.error_logs, "error"),
        access_logs=expand_logs(inputs.access_logs, "access"),
        upstream_logs=expand_logs(inputs.upstream_logs, ""),
    )
    for path in expanded.logs:
        lines.must_be_readable(path)
    if expanded.proxy_conf:
        read.must_be_readable(expanded.proxy_conf)
    return expanded


def _notes(settings: ProxySettings | None, logs: _Logs, ledger: Ledger | None, older: OlderLogs) -> Iterator[Note]:
    """Yield what was odd about the configuration and the logs."""
    if settings is not None:
        yield from (Note("configuration", f"{n.source}: {n.text}") for n in settings.notes)
    if ledger is not None:
        yield from _left_out(ledger)
        yield from (Note("rotated-log-added", text) for text in older.remarks())
        yield from _translated(ledger)
    served = (log for log in logs.accesses if log.path not in logs.foreign)  # of the others each line was counted once
    for log in (*logs.errors, *served, *(its.log for its in older.used)):
        yield from log.counts.notes
        yield from _unparsed(log.path, log.counts, "are no log lines")
    yield from _of_the_other_kind(logs)
    for application in logs.applications:
        yield from (*application.counts.notes, *_unparsed(application.path, application.counts, "hold no request"))


def _translated(ledger: Ledger) -> Iterator[Note]:
    """Yield a note for each address of the log that stands for others in the capture."""
    for service in sorted(set(ledger.services.values())):
        peers = sorted(peer for peer, known_as in ledger.services.items() if known_as == service)
        shown = f"{', '.join(peers[:_MOST_PEERS])}{' and others' if len(peers) > _MOST_PEERS else ''}"
        yield Note(
            "address-translated",
            f"{service} of the log{'' if is_name(service) else ' and the configuration'} is {shown} in the capture:"
            " learned from failures that agree in time, order and request line",
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
    if not counts.n_lines:
        return (Note("log-empty", "the log is empty: it says nothing of any time", file=path),)
    if not counts.n_unparsed:
        return ()
    number, first = counts.unparsed[0]
    if not counts.n_records:
        text = f"none of its {count_of(counts.n_lines, 'line')} was understood; line {number} begins: {_quoted(first)}"
        return (Note("log-not-understood", text, file=path),)
    numbers = ", ".join(str(number) for number, _ in counts.unparsed[:5])
    more = ", ..." if counts.n_unparsed > 5 else ""
    text = f"{counts.n_unparsed:,} of {counts.n_lines:,} lines {what} (line {numbers}{more})"
    if counts.n_unparsed > counts.n_records:
        text += f"; line {number} begins: {_quoted(first)}"
    return (Note("log-lines-skipped", text, file=path),)


def _quoted(line: str) -> str:
    return f"'{shorten(line.strip(), _MOST_QUOTED)}'"


def _of_the_other_kind(logs: _Logs) -> Iterator[Note]:
    """Yield a note on files that hold lines of the other log, which nobody reads there."""
    given = {Path(log.path).resolve() for log in logs.errors} & {Path(log.path).resolve() for log in logs.accesses}
    for its_logs, other, option in ((logs.errors, "access", "--access-log"), (logs.accesses, "error", "--error-log")):
        for log in its_logs:
            n_foreign = log.counts.n_foreign
            if n_foreign and Path(log.path).resolve() not in given:
                lines = count_of(n_foreign, "line")
                verb = "belongs" if n_foreign == 1 else "belong"
                yield Note(
                    "log-mixed", f"{lines} of it {verb} to an {other} log: give it as {option}, too", file=log.path
                )


def proxy_version(analysis: Analysis) -> str:
    """Return the proxy's Server field, as its clients get it; empty where the capture lacks the client leg."""
    of_clients = np.flatnonzero(analysis.legs == Leg.CLIENT)[:_MOST_CLIENTS]
    rows = analysis.connections.rows
    fields = (to_connection(rows[conn], analysis.texts).server for conn in of_clients.tolist())
    return next((field for field in fields if version_numbers(field) != (0, 0, 0)), "")


def access_format(inputs: Inputs, settings: ProxySettings | None) -> str | None:
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
