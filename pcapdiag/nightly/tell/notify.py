"""Sends messages about new and worse findings through Apprise, to each channel once.

URLs of channels hold secrets: none of them is shown, not in a message, not in an error, and the store knows a channel
by its kind and place in the list alone. A channel that could not be told is told by the next scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcapdiag.nightly.store.announcements import findings_to_announce, write_announcements
from pcapdiag.nightly.store.history import list_findings
from pcapdiag.nightly.tell.compose import compose
from pcapdiag.ticket.notify.channels import send

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pcapdiag.nightly.store.model import FindingRow
    from pcapdiag.nightly.store.store import Store
    from pcapdiag.ticket.notify.channels import Channel


@dataclass(frozen=True, slots=True)
class ChannelResult:
    """What became of one channel: how many findings it was told, or why it was not."""

    channel: str
    n_findings: int
    problem: str = ""


def notify(store: Store, channels: Sequence[Channel], link: Callable[[FindingRow], str]) -> tuple[ChannelResult, ...]:
    """Tell every channel what it has not been told.

    Parameters
    ----------
    store : Store
        What there is to tell, and what was told.
    channels : sequence of Channel
        Whom.
    link : callable
        Returns the address of a finding's page, empty if there is none.

    Returns
    -------
    tuple of ChannelResult
        One per channel; a failure to send is said there and raises nothing.
    """
    findings = list_findings(store)
    return tuple(_tell(store, channel, findings, link) for channel in channels)


def _tell(
    store: Store, channel: Channel, findings: Sequence[FindingRow], link: Callable[[FindingRow], str]
) -> ChannelResult:
    due = findings_to_announce(store, channel.name, findings)
    if not due:
        return ChannelResult(channel.name, 0)
    problem = send(channel, compose(due, link))
    write_announcements(store, channel.name, due, is_owed=bool(problem))
    return ChannelResult(channel.name, len(due), problem)
