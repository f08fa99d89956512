"""The flight recorder: takes the recording in, follows the logs, and has the report made when something has failed.

The main thread is here; it decides and waits. What reads is `intake`, what makes reports `maker`.
"""

from __future__ import annotations

import array
import fcntl
import termios
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.capture.sources import STDIN
from pcapdiag.errors import UsageError
from pcapdiag.units import format_bytes, format_duration_ns, format_ts_ns
from pcapdiag.watch.detect import Detector
from pcapdiag.watch.feed import FolderFeed, PipeFeed
from pcapdiag.watch.incidents import prune, publish, still_there, write_list
from pcapdiag.watch.intake import Intake
from pcapdiag.watch.logwatch import LogWatch
from pcapdiag.watch.maker import ReportMaker
from pcapdiag.watch.model import JobOrder
from pcapdiag.watch.ring import Ring
from pcapdiag.watch.schedule import Schedule
from pcapdiag.watch.state import StateFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcapdiag.watch.model import Incident, JobResult, Pending, WatchOptions

_TICK_S: Final = 0.1
_POLL_LOGS_S: Final = 0.25
_SAVE_EVERY_S: Final = 1.0
_STATUS_EVERY_S: Final = 60.0
_DRAIN_S: Final = 2.0
_REST_S: Final = 1.0
_BEHIND_NS: Final = 5_000_000_000
_S: Final = 1_000_000_000
_FULL_TICKS: Final = 10
_BACKFILL_BYTES: Final = 16 << 20
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

    Raises
    ------
    LogError
        A folder holds no log, or nothing fits a glob.
    UsageError
        The options make no sense, or another recorder uses the folder.
    """

    def __init__(
        self, options: WatchOptions, on_incident: Callable[[Incident], None], say: Callable[[str], None]
    ) -> None:
        self._options = options
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
        self._feed = PipeFeed() if is_pipe else FolderFeed(options.place, state.sources)
        if not is_pipe and state.ring_mark[0] >= 0:
            self._ring.go_back(*state.ring_mark)
        analysis = options.analysis
        self._logs = LogWatch(
            analysis.error_logs,
            analysis.access_logs,
            known=state.logs,
            backfill_bytes=0 if is_pipe else _BACKFILL_BYTES,
        )
        self._schedule = Schedule(state, options)
        try:
            detector = Detector(analysis.proxies, analysis.upstreams)
        except ValueError as error:
            raise UsageError(str(error)) from error
        self._intake = Intake(self._feed, self._ring, detector, say)
        self._maker = ReportMaker(private / "jobs")
        self._missing: tuple[str, ...] = ()
        self._stopping = threading.Event()
        self._next: dict[str, float] = {}
        self._n_full = 0
        self._n_lost = 0
        self.has_incidents = False
        """Whether there was an incident in this run."""
        self.n_unreported = 0
        """Reports that could not be made."""

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
            until = time.monotonic() + min(_DRAIN_S, self._options.grace_ns / _S)
            while time.monotonic() < until:
                self._tick(is_last=False)
                time.sleep(_TICK_S)
        while self._state.pending or self._maker.is_busy:
            self._tick(is_last=True)
            time.sleep(_TICK_S)
        self._save()
        self._tell_status()

    def _tick(self, *, is_last: bool) -> None:
        self._collect()
        if self._is_time("logs", _POLL_LOGS_S):
            self._poll()
        if (result := self._maker.poll()) is not None:
            self._settle(result)
        if not self._maker.is_busy and (is_last or self._is_time("job", 0)):
            self._start_job(is_last=is_last)
        if self._is_time("save", _SAVE_EVERY_S):
            self._watch_pace()
            self._save()
        if self._is_time("status", _STATUS_EVERY_S):
            self._tell_status()

    def _is_time(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every_s
        return True

    def _collect(self) -> None:
        for failure in self._intake.failures():
            self._schedule.add(failure)

    def _poll(self) -> None:
        for failure in self._logs.poll(self._intake.now_ns):
            self._schedule.add(failure)

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
        since_ns = min(min(p.since_ns, p.first_ts_ns - self._options.context_ns) for p in taken)
        folder = self._maker.new_folder()
        self._poll()
        captures = self._ring.link(folder, since_ns)
        errors, accesses = self._logs.cut(folder, since_ns)
        analysis = self._options.analysis
        conf = str(Path(analysis.proxy_conf).resolve()) if analysis.proxy_conf else ""
        self._missing = tuple(self._what_is_missing(taken, oldest_ns))
        order = JobOrder(
            captures=captures,
            options=replace(analysis, error_logs=errors, access_logs=accesses, proxy_conf=conf),
            known=tuple(self._state.keys),
            cooling=() if is_last else self._schedule.cooling(now_ns),
            missing=self._missing,
            least=self._options.least,
            bundle=self._options.bundle,
        )
        self._save()
        self._maker.start(order)

    def _what_is_missing(self, taken: list[Pending], oldest_ns: int) -> list[str]:
        missing = []
        first_ns = min(p.first_ts_ns for p in taken)
        if first_ns < oldest_ns:
            missing.append(
                f"the recording that is left begins at {format_ts_ns(oldest_ns)}, after the first of these failures "
                f"({format_ts_ns(first_ns)}); a larger --ring reaches further back"
            )
        if self._ring.n_lost > self._n_lost:
            n = self._ring.n_lost - self._n_lost
            self._n_lost = self._ring.n_lost
            missing.append(f"{n:,} frames are missing: there was no room for them on the disk")
        if self._intake.behind_ns > _BEHIND_NS:
            missing.append(
                f"reading was {format_duration_ns(self._intake.behind_ns)} behind the capture, which may have dropped "
                "packets: its own last line tells"
            )
        return missing

    def _settle(self, result: JobResult) -> None:
        self._next["job"] = time.monotonic() + _REST_S + self._maker.took_s
        now_ns = self._intake.now_ns
        if result.error:
            self._say(f"a report could not be made: {result.error}")
        state = self._state
        self.n_unreported += self._schedule.settle(result, now_ns) and bool(result.error)
        if result.written:
            incident = publish(result, self._maker.folder, self._out, self._missing)
            state.n_incidents += 1
            state.incidents = prune(
                [*state.incidents, incident], self._out, self._options.keep_incidents, self._options.keep_bytes
            )
            write_list(state.incidents, self._out)
            self.has_incidents = True
        self._save()
        self._maker.clear()
        if result.written:
            self._on_incident(incident)

    def _save(self) -> None:
        now_ns = self._intake.now_ns
        oldest_ns = self._ring.oldest_ts_ns
        reach_ns = max(now_ns - oldest_ns if oldest_ns >= 0 else 0, 0)
        self._logs.forget(now_ns - max(2 * self._options.context_ns, min(reach_ns, self._options.cool_down_ns * 2)))
        self._state.logs = self._logs.positions()
        self._file.write(self._state, *self._intake.books())

    def _watch_pace(self) -> None:
        """Say so when the recorder does not keep up with the capture."""
        self._n_full = self._n_full + 1 if self._options.place == STDIN and _pipe_is_full() else 0
        if not self._intake.behind_ns:
            return
        if self._n_full >= _FULL_TICKS and self._is_time("pace", _STATUS_EVERY_S):
            self._say(
                "the pipe is full: the capture waits and may drop packets (its own last line tells); narrow its "
                "filter, or give it a larger buffer (tcpdump -B 65536)"
            )
        elif self._intake.behind_ns > _BEHIND_NS and not self._n_full and self._is_time("pace", _STATUS_EVERY_S):
            self._say(
                f"frames arrive {format_duration_ns(self._intake.behind_ns // _S * _S)} late: the capture gathers "
                "them; tcpdump -U hands each on at once"
            )

    def _tell_status(self) -> None:
        oldest_ns = self._ring.oldest_ts_ns
        reach_ns = max(self._intake.now_ns - oldest_ns, 0) // _S * _S if oldest_ns >= 0 else 0
        self._say(
            f"{self._intake.n_frames:,} frames, {self._schedule.n_failures:,} failures, "
            f"{self._schedule.n_waiting:,} waiting, {self._state.n_incidents:,} incidents; the ring holds "
            f"{format_bytes(self._ring.n_bytes)} and reaches back {format_duration_ns(reach_ns)}"
        )


def _pipe_is_full() -> bool:
    """Tell whether standard input is a pipe that holds all it can, so that its writer waits."""
    try:
        capacity = fcntl.fcntl(0, fcntl.F_GETPIPE_SZ)
        waiting = array.array("i", [0])
        fcntl.ioctl(0, termios.FIONREAD, waiting)
    except (OSError, AttributeError):  # no pipe, or a platform that does not tell
        return False
    return waiting[0] > capacity - 2 * 4096
