"""What ``watch`` says to whom: lines on stdout, remarks on stderr, messages about new incidents, metrics."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pcapdiag.cli.tell import NOTIFY_VARIABLE, plan_telling
from pcapdiag.errors import PcapdiagError
from pcapdiag.report.words import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcapdiag.tell.message import Message
    from pcapdiag.tell.notify import Channel
    from pcapdiag.watch.model import Incident, Status

    F = TypeVar("F", bound=Callable[..., Any])

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_MOST_OWED_BYTES: Final = 1 << 20
_PATIENCE_S: Final = 1.0
_GAUGES: Final = (
    ("frames", "frames", "Frames taken in since the recorder was started.", 1),
    ("frames_lost", "frames_lost", "Frames that the disk had no room for.", 1),
    ("failures", "failures", "Failures seen since the recorder was started.", 1),
    ("failures_waiting", "failures_waiting", "Failures that wait for their report.", 1),
    ("failures_gone", "failures_gone", "Failures that left the ring before their report was begun.", 1),
    ("reports_failed", "reports_failed", "Reports that could not be made.", 1),
    ("incidents", "incidents", "Incidents that were ever recorded into the folder.", 1),
    ("ring_bytes", "ring_bytes", "What the ring holds.", 1),
    ("ring_reach_seconds", "ring_reach_ns", "How far the ring reaches back.", 1e9),
    ("last_frame_timestamp_seconds", "last_frame_ns", "When the newest frame was captured; 0 before the first.", 1e9),
    ("behind_seconds", "behind_ns", "How far reading is behind the capture.", 1e9),
    ("unwatched_files", "unwatched_files", "Captures in the folder that are of a series nobody watches.", 1),
    ("messages_owed", "untold", "Messages that could not be sent yet.", 1),
)


def watch_tell_options(function: F) -> F:
    """Add --metrics and --notify-url-env."""
    function = click.option(
        "--notify-url-env",
        default="",
        metavar="NAME",
        help="Tell about new incidents: the variable that holds the URLs of Apprise, separated by blanks;"
        f" {NOTIFY_VARIABLE} if not given. A URL holds secrets, so it has no place on a command line.",
    )(function)
    return click.option(
        "--metrics",
        default="",
        metavar="FILE.prom",
        type=click.Path(dir_okay=False),
        envvar="PCAPDIAG_WATCH_METRICS",
        show_envvar=True,
        help="Keep metrics for node_exporter's textfile collector.",
    )(function)


@dataclass(frozen=True, slots=True)
class WatchTelling:
    """Whom to tell, and where."""

    metrics: str
    channels: tuple[Channel, ...]
    place: str
    """Where incidents lie, as messages have it."""

    def senders(self) -> Mapping[str, Callable[[Sequence[Incident]], str]]:
        """Return for each channel what tells it of incidents and returns what went wrong."""
        if not self.channels:
            return {}
        from pcapdiag.tell.message import News, compose_news  # noqa: PLC0415 - only who is to be told
        from pcapdiag.tell.notify import send  # noqa: PLC0415 - the same
        from pcapdiag.units import format_ts_ns  # noqa: PLC0415 - help needs it not

        def message_of(incidents: Sequence[Incident]) -> Message:
            news = [
                News(
                    f"{one.code} {one.name} {one.subject}".rstrip(),
                    one.message,
                    f"{count_of(one.count, 'failure')}, {self.place}{one.path}",
                )
                for one in incidents
            ]
            return compose_news(news, format_ts_ns(max(one.last_ts_ns for one in incidents))[:19] + "Z")

        def sender(channel: Channel) -> Callable[[Sequence[Incident]], str]:
            return lambda incidents: send(channel, message_of(incidents))

        return {channel.name: sender(channel) for channel in self.channels}

    def write_metrics(self, status: Status) -> None:
        """Write the metrics anew.

        Raises
        ------
        PcapdiagError
            They cannot be written.
        """
        from pcapdiag.tell.textfile import gauge, write_gauges  # noqa: PLC0415 - only for metrics

        gauges = [
            gauge(
                f"watch_{name}", help_, [({}, getattr(status, field) / unit if unit != 1 else getattr(status, field))]
            )
            for name, field, help_, unit in _GAUGES
        ]
        write_gauges(self.metrics, gauges, patience_s=_PATIENCE_S)


def plan_watch_telling(
    ctx: click.Context, *, out: str, metrics: str, notify_url_env: str, anonymize: bool
) -> WatchTelling:
    """Return whom to tell and where, before the recording begins; what is wrong with it is said now.

    Parameters
    ----------
    ctx : Context
        Its defaults may hold `notify`.
    out : str
        Folder for incidents.
    metrics, notify_url_env : str
        As the options.
    anonymize : bool
        Whether messages leave out the name of the machine.

    Returns
    -------
    WatchTelling

    Raises
    ------
    MissingExtraError
        Apprise is not installed.
    UsageError
        The variable is not there, or a URL makes no sense.
    """
    # Of `scan --watch`, the defaults are those of scan.
    with_defaults = ctx if ctx.default_map else ctx.parent or ctx
    telling = plan_telling(with_defaults, out="", site_url="", metrics=metrics, jsonl="", notify_url_env=notify_url_env)
    place = "" if anonymize else f"{socket.gethostname()}:{os.path.abspath(out)}/"  # noqa: PTH100 - links stay
    return WatchTelling(metrics, telling.channels, place)


class Lines:
    """Standard output, a line per incident; what it cannot take does not end the recording.

    Parameters
    ----------
    out : str
        Folder for incidents.
    as_json : bool
        Whether a line is JSON.
    """

    def __init__(self, out: str, *, as_json: bool) -> None:
        self._out = out
        self._as_json = as_json
        self._owed = b""
        self._is_gone = False

    def tell(self, incident: Incident) -> None:
        """Write the line of an incident, behind those that there was no room for."""
        if self._is_gone:
            return
        text = json.dumps(incident.to_json()) if self._as_json else _line(incident, self._out)
        self._owed = (self._owed + text.encode() + b"\n")[-_MOST_OWED_BYTES:]
        self.flush()

    def flush(self) -> None:
        """Write what is owed, as far as there is room."""
        try:
            while self._owed:
                self._owed = self._owed[os.write(sys.stdout.fileno(), self._owed) :]
        except BrokenPipeError:
            self._is_gone, self._owed = True, b""
            say("nobody reads stdout any more; incidents.jsonl holds the incidents, and recording goes on")
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            say("no room on the disk for a line on stdout; it is written when there is some")


def say(text: str) -> None:
    """Write a remark on stderr."""
    from pcapdiag.report.escape import visible  # noqa: PLC0415 - help needs no unicodedata

    try:
        click.echo(f"pcapdiag: {visible(text)}", err=True)
    except OSError:
        return  # a full disk under the log, or nobody reads it: no reason to stop, and nobody to tell


def silence(_text: str) -> None:
    """Say nothing."""


def write_metrics_or_say(telling: WatchTelling) -> Callable[[Status], None] | None:
    """Return what keeps the metrics; a place that cannot be written is said once and does not end the recording."""
    if not telling.metrics:
        return None
    said: list[str] = []

    def write(status: Status) -> None:
        try:
            telling.write_metrics(status)
        except PcapdiagError as error:
            if not said:
                say(f"{error}; it is tried again, and recording goes on")
            said[:] = [str(error)]
        else:
            said.clear()

    return write


def _line(incident: Incident, out: str) -> str:
    from pcapdiag.report.escape import visible  # noqa: PLC0415 - help needs no unicodedata
    from pcapdiag.units import format_ts_ns  # noqa: PLC0415 - the same

    when = format_ts_ns(incident.first_ts_ns)[:19] + "Z"
    return visible(f"{when} {incident.code} {incident.message} [{incident.count} new] {out}/{incident.path}")
