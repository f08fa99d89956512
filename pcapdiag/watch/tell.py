"""Whom the flight recorder tells beside its standard output: messages about new incidents, and metrics."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import PcapdiagError
from pcapdiag.base.units import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcapdiag.ticket.notify.channels import Channel
    from pcapdiag.ticket.notify.message import Message
    from pcapdiag.watch.model import KeptIncident, Status

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


@dataclass(frozen=True, slots=True)
class WatchTelling:
    """Whom to tell, and where."""

    metrics: str
    channels: tuple[Channel, ...]
    place: str
    """Where incidents lie, as messages have it."""

    def senders(self) -> Mapping[str, Callable[[Sequence[KeptIncident]], str]]:
        """Return for each channel what tells it of incidents and returns what went wrong."""
        if not self.channels:
            return {}
        from pcapdiag.base.units import format_ts_ns  # noqa: PLC0415 - help needs it not
        from pcapdiag.ticket.notify.channels import send  # noqa: PLC0415 - the same
        from pcapdiag.ticket.notify.message import News, compose_news  # noqa: PLC0415 - only who is to be told

        def message_of(incidents: Sequence[KeptIncident]) -> Message:
            news = [
                News(
                    f"{one.code} {one.name} {one.subject}".rstrip(),
                    one.message,
                    f"{count_of(one.count, 'failure')}, {self.place}{one.path}",
                )
                for one in incidents
            ]
            return compose_news(news, format_ts_ns(max(one.last_ts_ns for one in incidents))[:19] + "Z")

        def sender(channel: Channel) -> Callable[[Sequence[KeptIncident]], str]:
            return lambda incidents: send(channel, message_of(incidents))

        return {channel.name: sender(channel) for channel in self.channels}

    def write_metrics(self, status: Status) -> None:
        """Write the metrics anew.

        Raises
        ------
        PcapdiagError
            They cannot be written.
        """
        from pcapdiag.ticket.notify.textfile import gauge, write_gauges  # noqa: PLC0415 - only for metrics

        gauges = [
            gauge(
                f"watch_{name}", help_, [({}, getattr(status, field) / unit if unit != 1 else getattr(status, field))]
            )
            for name, field, help_, unit in _GAUGES
        ]
        write_gauges(self.metrics, gauges, patience_s=_PATIENCE_S)

    def metrics_writer(self, say: Callable[[str], None]) -> Callable[[Status], None] | None:
        """Return what keeps the metrics, if they are wanted.

        Parameters
        ----------
        say : callable
            Is told once that they cannot be written; that does not end the recording.

        Returns
        -------
        callable or None
        """
        if not self.metrics:
            return None
        said: list[str] = []

        def write(status: Status) -> None:
            try:
                self.write_metrics(status)
            except PcapdiagError as error:
                if not said:
                    say(f"{error}; it is tried again, and recording goes on")
                said[:] = [str(error)]
            else:
                said.clear()

        return write


def place_of(out: str, *, anonymize: bool) -> str:
    """Return where incidents lie, as messages have it: without the name of the machine if that is to be hidden."""
    return "" if anonymize else f"{socket.gethostname()}:{os.path.abspath(out)}/"  # noqa: PTH100 - links stay
