"""From logs and a configuration, without a capture, to what can be said: opened, counted, put together.

Knows which file is what; what is counted of it is known to `tally`, what it may mean to `meanings`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pcapdiag.analysis.add_logs import access_format
from pcapdiag.analysis.inputs import zone_offset_s
from pcapdiag.base.triage import ClientCount, EmptyGroup, FailedTries, LogBurst, MessageRow, Recurrence, Triage
from pcapdiag.base.units import NS_PER_S, count_of, parse_endpoint
from pcapdiag.privacy.redact import Redactor
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.copies import GivenTwice
from pcapdiag.proxy.logs.error_log import container_zone_s, read_error_log
from pcapdiag.proxy.logs.foreign import read_failures, read_served, recognise_log
from pcapdiag.triage.capture import advise_capture
from pcapdiag.triage.meanings import likely_and_undecided
from pcapdiag.triage.odds import timers_at_odds
from pcapdiag.triage.tally import AccessTally, Tally
from pcapdiag.triage.timeline import LEAST_BURST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.proxy.conf.settings import Endpoint, ProxySettings
    from pcapdiag.proxy.logs.entries import AccessEntry, ErrorEntry, Log, OfLine
    from pcapdiag.triage.tally import Key, TallyRow, Window

MOST_MESSAGES: Final = 100
MOST_BURSTS: Final = 20
_MOST_NAMED: Final = 10
_DEFAULT_WINDOW: Final[Window] = (10, "nginx's default fail_timeout")


def build_triage(inputs: Inputs) -> Triage:
    """Return what can be said without a capture.

    Parameters
    ----------
    inputs : Inputs
        With logs, a configuration, or both; expanded.

    Returns
    -------
    Triage

    Raises
    ------
    LogError
        A log cannot be read.
    UsageError
        The configuration cannot be read.
    """
    settings = read_proxy_conf(inputs.proxy_conf) if inputs.proxy_conf else None
    logs = _ReadLogs(inputs, settings)
    tally, accesses = logs.count()
    timers, unkept = timers_at_odds(settings)
    in_errors = bool(logs.errors)
    rows = tally.rows if in_errors else accesses.rows
    timeline = tally.timeline if in_errors else accesses.timeline
    clock, shift_s = logs.clock(timeline.first_s) if in_errors else ("UTC", 0)
    tries = FailedTries(accesses.tries, accesses.new) if accesses.tries else None
    likely, undecided = likely_and_undecided(tally.symptoms, tries, timers, unkept)
    if not in_errors and accesses.failures:
        undecided = ("of what the tries failed: an error log tells some of it, packets tell the rest",)
    redactor = Redactor(active=inputs.redact)
    recurrence = timeline.recurrence()
    bursts = sorted((run for run in timeline.runs() if run[2] >= LEAST_BURST), key=lambda run: -run[2])
    listed = sorted(rows.items(), key=lambda item: -item[1].count)
    left_out = sum(row.count for _, row in listed[MOST_MESSAGES:]) + (tally if in_errors else accesses).left_out
    return Triage(
        failures=tally.failures if in_errors else accesses.failures,
        counted_in=logs.counted_in,
        clock=clock if timeline.first_s >= 0 else "",
        first=_time(timeline.first_s, shift_s),
        last=_time(timeline.last_s, shift_s),
        messages=tuple(_message(key, row, shift_s, redactor) for key, row in listed[:MOST_MESSAGES]),
        left_out=left_out,
        servers_disabled=tally.disabled,
        bursts=tuple(LogBurst(_time(a, shift_s), _time(b, shift_s), n) for a, b, n in bursts[:MOST_BURSTS]),
        recurrence=Recurrence(*recurrence) if recurrence is not None else None,
        empty_groups=tuple(_empty_groups(tally, shift_s)),
        clients=ClientCount(accesses.requests, {str(s): n for s, n in sorted(accesses.by_status.items())})
        if logs.accesses
        else None,
        tries=tries,
        timers=timers,
        unkept=unkept,
        likely=likely,
        undecided=undecided,
        capture=advise_capture(settings, _endpoints(inputs, settings, tally), kind=logs.kind),
        notes=tuple(logs.notes(tally, accesses)),
    )


class _ReadLogs:
    """The logs that were given, opened; those of other proxies by their own readers."""

    def __init__(self, inputs: Inputs, settings: ProxySettings | None) -> None:
        twice = GivenTwice(inputs.error_logs), GivenTwice(inputs.access_logs)
        inputs = replace(inputs, error_logs=twice[0].kept, access_logs=twice[1].kept)
        self._twice = tuple(text for kind in twice for text in kind.sentences())
        self._inputs = inputs
        self._settings = settings
        given = dict.fromkeys((*inputs.error_logs, *inputs.access_logs))
        foreign = {path: log for path in given if (log := recognise_log(path)) is not None}
        addresses: Mapping[str, str] = settings.addresses() if settings is not None else {}
        form = access_format(inputs, settings)
        self._own_errors = [path for path in inputs.error_logs if path not in foreign]
        self.errors: list[Log[ErrorEntry]] = [read_error_log(path) for path in self._own_errors]
        self.errors += [read_failures(log, addresses) for log in foreign.values()]
        self.accesses: list[Log[AccessEntry]] = [
            read_access_log(path, form) for path in inputs.access_logs if path not in foreign
        ]
        self.accesses += [read_served(log, addresses) for log in foreign.values() if log.format.has_accesses]
        twice[0].cut(self.errors)
        twice[1].cut(self.accesses)
        self._names_zone = bool(foreign) and all(log.format.has_zone for log in foreign.values())
        kinds = {log.format.proxy for log in foreign.values()}
        self._kind = ProxyKind(kinds.pop()) if len(kinds) == 1 else ProxyKind.NGINX if self._own_errors else None

    @property
    def kind(self) -> ProxyKind | None:
        """What the proxy is; None where nothing tells."""
        return self._settings.kind if self._settings is not None else self._kind

    @property
    def counted_in(self) -> str:
        """Which log failures are counted in."""
        if self.errors:
            return "error log" if self._own_errors else "log"
        return "access log" if self.accesses else ""

    def count(self) -> tuple[Tally, AccessTally]:
        """Read all of them."""
        tally, accesses = Tally(self._window), AccessTally()
        for log in self.errors:
            tally.begin_log()
            for entry in log:
                tally.add(entry)
        for served in self.accesses:
            for line in served:
                accesses.add(line)
        return tally, accesses

    def _window(self, group: str) -> Window:
        block = self._settings.block(group) if self._settings is not None else None
        if block is None or not block.servers:
            return _DEFAULT_WINDOW
        longest = max((server.fail_timeout_ns for server in block.servers), key=lambda setting: setting.value)
        return max(longest.value // NS_PER_S, 0), longest.source or longest.why

    def clock(self, first_s: int) -> tuple[str, int]:
        """Return whose time the entries have, and what to take from it [s] for that."""
        zone_s = zone_offset_s(self._inputs.log_zone, max(first_s, 0) * NS_PER_S)
        if zone_s is None and self._names_zone and not self._own_errors:
            zone_s = 0
        if zone_s is None:
            zones = {container_zone_s(path) for path in self._own_errors}
            zone_s = zones.pop() if len(zones) == 1 else None
        return ("UTC", zone_s) if zone_s is not None else ("local time of the log", 0)

    def notes(self, tally: Tally, accesses: AccessTally) -> Iterator[str]:
        """Yield what is odd about the files."""
        if self._settings is not None:
            yield from (f"{note.source}: {note.text}" for note in self._settings.notes)
        yield from self._twice
        seen: set[str] = set()
        logs: list[Log[OfLine]] = [*self.errors, *self.accesses]
        for log in logs:
            counts = log.counts
            yield from (f"{log.path}: {note.text}" for note in counts.notes)
            if log.path in seen:
                continue
            seen.add(log.path)
            if not counts.n_records:
                yield f"{log.path}: none of its {count_of(counts.n_lines, 'line')} was understood"
            elif counts.n_unparsed:
                yield f"{log.path}: {counts.n_unparsed:,} of {count_of(counts.n_lines, 'line')} were not understood"
        if accesses.without_status:
            yield (
                f"{count_of(accesses.without_status, 'line')} of the access log with no status that is understood: give"
                " --log-format, or --proxy-conf that has it"
            )
        if tally.short_of_connections:
            yield (
                f"{count_of(tally.short_of_connections, 'entry', 'entries')} of worker_connections that are not enough:"
                " the proxy itself ran out of them"
            )


def _endpoints(inputs: Inputs, settings: ProxySettings | None, tally: Tally) -> list[Endpoint]:
    """Return the upstreams that the operator named, else those that failed where no configuration names any."""
    if inputs.upstreams or settings is not None:
        return list(inputs.upstream_endpoints)
    found = []
    for peer in tally.peers:
        try:
            found.append(parse_endpoint(peer))
        except ValueError:
            continue
    return found


def _time(at_s: int, shift_s: int) -> str:
    return datetime.fromtimestamp(at_s - shift_s, tz=UTC).strftime("%Y-%m-%d %H:%M:%S") if at_s >= 0 else ""


def _message(key: Key, row: TallyRow, shift_s: int, redactor: Redactor) -> MessageRow:
    kind, action, errno, upstream = key
    first, last = _time(row.first_s, shift_s), _time(row.last_s, shift_s)
    return MessageRow(kind, action, errno, redactor.text(row.words), upstream, row.count, first, last)


def _empty_groups(tally: Tally, shift_s: int) -> Iterator[EmptyGroup]:
    for name, group in sorted(tally.groups.items(), key=lambda item: -item[1].row.count)[:_MOST_NAMED]:
        yield EmptyGroup(
            name,
            group.row.count,
            _time(group.row.first_s, shift_s),
            _time(group.row.last_s, shift_s),
            group.after_failures,
            *group.window,
            tuple(peer for peer, _ in group.peers.most_common(_MOST_NAMED)),
        )
