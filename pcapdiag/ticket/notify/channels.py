"""Channels that messages go to, through Apprise: chats, mail, webhooks."""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apprise

    from pcapdiag.ticket.notify.message import Message


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
    import apprise  # noqa: PLC0415 - there, or no channel would be

    said = StringIO()
    handler = logging.StreamHandler(said)
    logger = logging.getLogger(_LOGGERS[0])
    logger.addHandler(handler)
    try:
        is_sent = channel.service.notify(
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
