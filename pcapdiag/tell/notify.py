"""Sends messages about new and worse findings through Apprise, to each channel once.

URLs of channels hold secrets: none of them is shown, not in a message, not in an error, and the store knows a channel
by its kind and place in the list alone. A channel that could not be told is told by the next scan.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Final

from pcapdiag.errors import MissingExtraError, UsageError
from pcapdiag.store.announcements import findings_to_announce, write_announcements
from pcapdiag.store.history import list_findings
from pcapdiag.tell.message import compose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import apprise

    from pcapdiag.store.model import FindingRow
    from pcapdiag.store.store import Store
    from pcapdiag.tell.message import Message

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://.")
_STATUS: Final = re.compile(r"error=([1-5]\d\d)\b")
_RETRIES: Final = 2
_LOGGERS: Final = ("apprise", "requests", "urllib3")
"""What they log may hold parts of an URL."""


@dataclass(frozen=True, slots=True)
class Channel:
    """Somebody to tell; `name` may be shown, the URL never."""

    name: str
    service: apprise.Apprise


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one channel: how many findings it was told, or why it was not."""

    channel: str
    n_findings: int
    problem: str = ""


def open_channels(urls: Sequence[str]) -> tuple[Channel, ...]:
    """Return the channels behind URLs; before the work begins, so that a typing error is known at once.

    Parameters
    ----------
    urls : sequence of str
        As Apprise has them, such as ``slack://...`` or ``mailtos://...``.

    Returns
    -------
    tuple of Channel
        In the same order.

    Raises
    ------
    MissingExtraError
        Apprise is not installed.
    UsageError
        Apprise does not understand one.
    """
    if not urls:
        return ()
    try:
        import apprise  # noqa: PLC0415 - an extra, and only here
    except ImportError as error:
        msg = "messages need Apprise: pip install 'pcapdiag[notify]'"
        raise MissingExtraError(msg) from error
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())  # or Python would print what nobody handles
    asset = apprise.AppriseAsset(
        app_id="pcapdiag",
        app_desc="pcapdiag",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        default_service_retry=_RETRIES,
    )
    seen: Counter[str] = Counter()
    channels = []
    for number, url in enumerate(urls, start=1):
        match = _SCHEME.match(url)
        scheme = match[1].lower() if match else ""
        service = apprise.Apprise(asset=asset)
        if not match or not service.add(url):
            msg = f"URL {number} of those to notify is none that Apprise understands; it looks like json://host/path"
            raise UsageError(msg)
        seen[scheme] += 1
        channels.append(Channel(f"{scheme}-{seen[scheme]}", service))
    return tuple(channels)


def notify(store: Store, channels: Sequence[Channel], link: Callable[[FindingRow], str]) -> tuple[Told, ...]:
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
    tuple of Told
        One per channel; a failure to send is said there and raises nothing.
    """
    findings = list_findings(store)
    return tuple(_tell(store, channel, findings, link) for channel in channels)


def send(channel: Channel, message: Message) -> str:
    """Send one message.

    Parameters
    ----------
    channel : Channel
        To whom.
    message : Message
        What.

    Returns
    -------
    str
        Why it could not be sent, in words that hold nothing of the URL; empty if it was.
    """
    return _send(channel.service, message)


def _tell(store: Store, channel: Channel, findings: Sequence[FindingRow], link: Callable[[FindingRow], str]) -> Told:
    due = findings_to_announce(store, channel.name, findings)
    if not due:
        return Told(channel.name, 0)
    problem = _send(channel.service, compose(due, link))
    write_announcements(store, channel.name, due, is_owed=bool(problem))
    return Told(channel.name, len(due), problem)


def _send(service: apprise.Apprise, message: Message) -> str:
    """Send a message; return why it could not be sent, in words that hold nothing of the URL."""
    import apprise  # noqa: PLC0415 - there, or no channel would be

    said = StringIO()
    handler = logging.StreamHandler(said)
    logger = logging.getLogger(_LOGGERS[0])
    logger.addHandler(handler)
    try:
        is_sent = service.notify(
            title=message.title,
            body=message.body,
            notify_type=apprise.NotifyType.WARNING,
            body_format=apprise.NotifyFormat.TEXT,
        )
    except Exception as error:  # noqa: BLE001 - whatever a plugin stumbles over, the scan is done and written
        return f"Apprise failed with {type(error).__name__}"
    finally:
        logger.removeHandler(handler)
    if is_sent:
        return ""
    status = _STATUS.search(said.getvalue())
    return f"its server answered {status[1]}" if status else "it could not be reached, or refused the message"
