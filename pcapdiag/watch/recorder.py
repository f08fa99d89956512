"""The flight recorder: takes the recording in, follows the logs, and has the report made when something has failed.

The main thread is here; it decides and waits. What reads is `intake`, what makes reports `maker`.
"""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.base.disk import is_no_room
from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import NS_PER_S, format_bytes, format_duration_ns, format_ts_ns
from pcapdiag.engine.capture.sources import STDIN
from pcapdiag.watch.detect import PATIENCE_NS, Detector
from pcapdiag.watch.disk_reserve import DiskReserve
from pcapdiag.watch.feed import FolderFeed, PipeFeed
from pcapdiag.watch.incidents import prune, publish, still_there, write_list
from pcapdiag.watch.intake import Intake
from pcapdiag.watch.logwatch import LogWatch
from pcapdiag.watch.maker import ReportMaker
from pcapdiag.watch.messages import Messenger
from pcapdiag.watch.model import JobOrder, Status
from pcapdiag.watch.pace import BEHIND_NS, Pace
from pcapdiag.watch.ring import Ring
from pcapdiag.watch.schedule import Schedule
from pcapdiag.watch.state import StateFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcapdiag.watch.model import JobResult, KeptIncident, Pending, WatchOptions

_TICK_S: Final = 0.1
_POLL_LOGS_S: Final = 0.25
_SAVE_EVERY_S: Final = 1.0
_STATUS_EVERY_S: Final = 60.0
_DRAIN_S: Final = 2.0
_REST_S: Final = 1.0
_METRICS_EVERY_S: Final = 10.0
_LAST_TRIES: Final = 2
_LAST_MESSAGES_S: Final = 15.0
_BACKFILL_BYTES: Final = 16 << 20
_REPORT: Final = "a report"
PRIVATE: Final = ".watch"


class Recorder:
    """A recorder in its folder.

    Parameters
    ----------
    options : WatchOptions
        What to watch, and within which bounds.
    on_incident : callable
        Called with each incident when its report is in its place.
    say : callable
        Called with remarks and lines on the state.
    channels : mapping of str to callable
        Whom to tell of new incidents; see `messages.Messenger`.
    on_status : callable
        Called every some seconds with how the recorder stands.

    Raises
    ------
    LogError
        A folder holds no log, or nothing fits a glob.
    UsageError
        The options make no sense, or another recorder uses the folder.
    """

    def __init__(
        self,
        options: WatchOptions,
        on_incident: Callable[[KeptIncident], None],
        say: Callable[[str], None],
        *,
        channels: Mapping[str, Callable[[Sequence[KeptIncident]], str]] | None = None,
        on_status: Callable[[Status], None] | None = None,
    ) -> None:
        self._options = options
        self._on_status = on_status
        self._on_incident = on_incident
        self._say = say
        self._out = Path(options.out)
        private = self._out / PRIVATE
        try:
            self._out.mkdir(mode=0o700, parents=True, exist_ok=True)
            private.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            msg = f"cannot write into {options.out}: {error.strerror}"
            raise UsageError(msg) from error
        self._file = StateFile(private)
        self._state = state = self._file.read()
        state.incidents = still_there(state.incidents, self._out)
        is_pipe = options.place == STDIN
        self._ring = Ring(private / "ring", options.ring_bytes)
        self._feed = PipeFeed() if is_pipe else FolderFeed(options.place, state)
        if not is_pipe and state.ring_mark[0] >= 0:
            self._ring.go_back(*state.ring_mark)
        self._logs = LogWatch(options.inputs, known=state.logs, backfill_bytes=0 if is_pipe else _BACKFILL_BYTES)
        self._schedule = Schedule(state, options)
        self._intake = Intake(self._feed, self._ring, Detector(options.inputs), say)
        self._maker = ReportMaker(private / "jobs")
        self._room = DiskReserve(self._ring, say)
        self._pace = Pace(say, is_pipe=is_pipe)
        self._messenger = Messenger(channels or {}, state, say)
        self._missing: tuple[str, ...] = ()
        self._is_list_written = True
        self._stopping = threading.Event()
        self._next: dict[str, float] = {}
        self._n_full = 0
        self._n_lost = 0
        self.has_incidents = False
        """Whether there was an incident in this run."""
        self.n_unreported = 0
        """Reports that could not be made."""
        self.n_gone = 0
        """Failures that had left the ring when their report began."""

    def stop(self) -> None:
        """End soon: take in what has arrived, finish what waits. Safe to call from a signal handler."""
        self._stopping.set()

    def poll_logs(self) -> None:
        """Look at the logs with the next tick. Safe to call from a signal handler."""
        self._next["logs"] = 0.0

    def run(self) -> None:
        """Record until the input ends or `stop` is called, then finish what waits.

        Raises
        ------
        CaptureError
            Standard input is no capture.
        OSError
            The folder can no longer be written to.
        """
        try:
            self._poll()
            self._next["status"] = time.monotonic() + _STATUS_EVERY_S
            what = "standard input" if self._options.place == STDIN else self._options.place
            self._say(f"recording {what} into {self._out}, ring of {format_bytes(self._options.ring_bytes)}")
            self._intake.start()
            while not (self._stopping.is_set() or self._intake.has_ended):
                self._tick(is_last=False)
                self._stopping.wait(_TICK_S)
            self._finish()
        finally:
            self._maker.stop()
            self._ring.close()
            self._logs.close()
            self._file.close()
        if self._intake.error is not None:
            raise self._intake.error

    def _finish(self) -> None:
        """Take in the rest, let what belongs to the last failures arrive, and report them."""
        self._feed.stop()
        until = time.monotonic() + _DRAIN_S
        while not self._intake.wait(_TICK_S) and time.monotonic() < until:
            self._tick(is_last=False)
        self._collect()
        if self._state.pending:
            until = time.monotonic() + min(_DRAIN_S, self._options.grace_ns / NS_PER_S)
            while time.monotonic() < until:
                self._tick(is_last=False)
                time.sleep(_TICK_S)
        self._room.found_room()
        while self._maker.is_busy or (self._state.pending and self._room.n_tries < _LAST_TRIES):
            self._tick(is_last=True)
            time.sleep(_TICK_S)
        self._messenger.finish(_LAST_MESSAGES_S)
        self._save()
        self._tell_status()
        if n := self._schedule.n_waiting:
            self.n_unreported += 1
            self._say(f"no room on the disk: {n:,} failures wait for the next run, as long as the ring has them")

    def _tick(self, *, is_last: bool) -> None:
        self._collect()
        if self._is_time("logs", _POLL_LOGS_S):
            self._poll()
        if (result := self._maker.poll()) is not None:
            self._settle(result)
        if not (self._maker.is_busy or self._room.is_short) and (is_last or self._may_start()):
            self._start_job(is_last=is_last)
        self._messenger.tick()
        if self._is_time("save", _SAVE_EVERY_S):
            self._pace.look(self._intake.behind_ns)
            self._room.look()
            self._save()
        if self._on_status is not None and self._is_time("metrics", _METRICS_EVERY_S):
            self._on_status(self.status())
        if self._is_time("status", _STATUS_EVERY_S):
            self._tell_status()

    def _may_start(self) -> bool:
        """Tell whether the rest between two reports is over, or something cannot wait for that."""
        oldest_ns = self._ring.oldest_ts_ns
        if self._ring.is_full and oldest_ns >= 0 and self._schedule.has_leaving(self._intake.now_ns, oldest_ns):
            return True
        return time.monotonic() >= self._next.get("job", 0.0)

    def _is_time(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every_s
        return True

    def _collect(self) -> None:
        self._schedule.add(*self._intake.failures())

    def _poll(self) -> None:
        self._schedule.add(*self._logs.poll(self._intake.now_ns))

    def _start_job(self, *, is_last: bool) -> None:
        now_ns = self._intake.now_ns
        oldest_ns = self._ring.oldest_ts_ns
        if oldest_ns < 0:
            if is_last:
                self._state.pending.clear()  # only logs told of them, and there is no recording at all
            return
        taken = self._schedule.take_due(now_ns, oldest_ns, is_full=self._ring.is_full, is_last=is_last)
        if not taken:
            return
        is_leaving = self._ring.is_full and any(self._schedule.is_leaving(p, now_ns, oldest_ns) for p in taken)
        self._missing = tuple(self._what_is_missing(taken, oldest_ns))
        try:
            cooling = () if is_last or is_leaving else self._schedule.cooling(now_ns)
            self._order(taken, cooling=cooling, patience_ns=0 if is_last else PATIENCE_NS)
        except OSError as error:
            self._put_back(error)

    def _put_back(self, error: OSError) -> None:
        """Let the failures of a report for which there was no room wait on."""
        self._give_way(error, _REPORT)
        self._schedule.put_back()
        self._maker.clear()

    def _order(self, taken: list[Pending], *, cooling: tuple[str, ...], patience_ns: int) -> None:
        since_ns = min(min(p.since_ns, p.first_ts_ns - self._options.context_ns) for p in taken)
        folder = self._maker.new_folder()
        self._poll()
        captures = self._ring.link(folder, since_ns)
        inputs = self._logs.cut(folder, since_ns)
        conf = str(Path(inputs.proxy_conf).resolve()) if inputs.proxy_conf else ""
        order = JobOrder(
            captures=captures,
            inputs=replace(inputs, proxy_conf=conf),
            known=tuple(self._state.keys),
            known_until_ns=self._state.known_until_ns,
            cooling=cooling,
            missing=self._missing,
            least=self._options.least,
            bundle=self._options.bundle,
            patience_ns=patience_ns,
        )
        self._save()
        self._maker.start(order)

    def _give_way(self, error: OSError, what: str) -> None:
        """Make room when an error says that there was none; any other error is raised again."""
        if not is_no_room(error):
            raise error
        waiting = (*self._state.pending, *self._state.running)
        self._room.ran_out(what, min((p.since_ns for p in waiting), default=-1), is_report=what == _REPORT)

    def _what_is_missing(self, taken: list[Pending], oldest_ns: int) -> list[str]:
        missing = []
        first_ns = min(p.first_ts_ns for p in taken)
        if first_ns < oldest_ns:
            self.n_gone += sum(p.n_failures for p in taken if p.last_ts_ns < oldest_ns)
            missing.append(
                f"the recording that is left begins at {format_ts_ns(oldest_ns)}, after the first of these failures "
                f"({format_ts_ns(first_ns)}); a larger --ring reaches further back"
            )
            self._say(f"failures left the ring before their report: {missing[0]}")
        if self._ring.n_lost > self._n_lost:
            n = self._ring.n_lost - self._n_lost
            self._n_lost = self._ring.n_lost
            missing.append(f"{n:,} frames are missing: there was no room for them on the disk")
        if self._intake.behind_ns > BEHIND_NS:
            missing.append(
                f"reading was {format_duration_ns(self._intake.behind_ns)} behind the capture, which may have dropped "
                "packets: its own last line tells"
            )
        return missing

    def _settle(self, result: JobResult) -> None:
        took_s = self._maker.took_s
        self._next["job"] = time.monotonic() + _REST_S + took_s
        self._schedule.report_ns = int(took_s * NS_PER_S)
        incident = None
        if result.no_room:
            self._put_back(OSError(errno.ENOSPC, result.error))
            return
        try:
            if result.written:
                incident = publish(result, self._maker.folder, self._out, self._missing)
        except OSError as error:
            self._put_back(error)
            return
        now_ns = self._intake.now_ns
        if result.error:
            self._say(f"a report could not be made: {result.error}")
        self.n_unreported += self._schedule.settle(result, now_ns, self._ring.oldest_ts_ns) and bool(result.error)
        if incident is not None:
            self._add(incident, now_ns)
        self._maker.clear()
        self._room.found_room()
        self._save()
        if incident is not None:
            self._on_incident(self._state.incidents[-1])

    def _add(self, incident: KeptIncident, now_ns: int) -> None:
        state = self._state
        incident = replace(incident, is_new=state.is_new(incident.identifiers, now_ns))
        state.n_incidents += 1
        state.incidents = prune(
            [*state.incidents, incident], self._out, self._options.keep_incidents, self._options.keep_bytes
        )
        state.has_news = True
        self._is_list_written = False
        self.has_incidents = True
        if incident.is_new:
            self._messenger.add(incident)

    def _save(self) -> None:
        now_ns = self._intake.now_ns
        oldest_ns = self._ring.oldest_ts_ns
        reach_ns = max(now_ns - oldest_ns if oldest_ns >= 0 else 0, 0)
        self._logs.forget(now_ns - max(2 * self._options.context_ns, min(reach_ns, self._options.cool_down_ns * 2)))
        self._state.logs = self._logs.positions()
        self._state.forget(now_ns)
        try:
            if not self._is_list_written:
                write_list(self._state.incidents, self._out)
                self._is_list_written = True
            self._file.write(self._state, *self._intake.books())
        except OSError as error:
            self._give_way(error, "the recorder's own state")

    def status(self) -> Status:
        """Return how the recorder stands."""
        oldest_ns = self._ring.oldest_ts_ns
        return Status(
            frames=self._intake.n_frames,
            frames_lost=self._ring.n_lost,
            failures=self._schedule.n_failures,
            failures_waiting=self._schedule.n_waiting,
            failures_gone=self.n_gone,
            reports_failed=self.n_unreported,
            incidents=self._state.n_incidents,
            ring_bytes=self._ring.n_bytes,
            ring_reach_ns=max(self._intake.now_ns - oldest_ns, 0) if oldest_ns >= 0 else 0,
            last_frame_ns=self._intake.latest_ns,
            behind_ns=self._intake.behind_ns,
            unwatched_files=len(self._feed.unwatched),
            untold=self._messenger.n_owed,
        )

    def _tell_status(self) -> None:
        now = self.status()
        self._say(
            f"{now.frames:,} frames, {now.failures:,} failures, {now.failures_waiting:,} waiting, "
            f"{now.incidents:,} incidents; the ring holds {format_bytes(now.ring_bytes)} and reaches back "
            f"{format_duration_ns(now.ring_reach_ns // NS_PER_S * NS_PER_S)}"
        )
        if others := self._feed.unwatched:
            self._say(
                f"not watched: {others[0]}{' and others' if len(others) > 1 else ''}, of another series of captures; "
                "start a recorder of its own for it, or capture with -i any"
            )
        if 2 * self._schedule.report_ns > now.ring_reach_ns and self._ring.is_full:
            whole_ns = self._schedule.report_ns // NS_PER_S * NS_PER_S
            self._say(
                f"the last report took {format_duration_ns(whole_ns)}, and the ring reaches "
                "back less than twice that: what fails meanwhile may leave it; give a larger --ring"
            )
