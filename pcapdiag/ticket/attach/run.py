"""Attach a bundle to the ticket of a target: the client libraries load here, and only the one that is needed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pcapdiag.base.errors import MissingExtraError, UsageError
from pcapdiag.ticket.attach.targets import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pcapdiag.ticket.attach.archive import Bundle
    from pcapdiag.ticket.attach.credentials import Credentials
    from pcapdiag.ticket.attach.service import Service
    from pcapdiag.ticket.attach.targets import Target


def attach_bundle(
    target: Target,
    bundle: Bundle,
    credentials: Credentials | None,
    *,
    release: str = "",
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Attach a bundle.

    Parameters
    ----------
    target : Target
        Where to.
    bundle : Bundle
        What to attach.
    credentials : Credentials, optional
        A webhook may do without.
    release : str
        Tag of a GitHub release that takes the bundle; empty for a comment alone.
    say : callable
        Told of every step.
    sleep : callable
        What waiting is done with.

    Returns
    -------
    str
        Address of the comment; that of the webhook where there is none.

    Raises
    ------
    AttachError
        It could not be done.
    MissingExtraError
        A client library is not installed.
    UsageError
        There are no credentials for a tracker.
    """
    try:
        if target.kind is Kind.WEBHOOK:
            from pcapdiag.ticket.attach.webhook import post_to_webhook  # noqa: PLC0415 - an extra

            post_to_webhook(target, bundle, credentials, say=say, sleep=sleep)
            return target.url
        if credentials is None:
            msg = f"{target.host} wants credentials"
            raise UsageError(msg)
        from pcapdiag.ticket.attach.service import deliver  # noqa: PLC0415 - an extra

        with _open(target, bundle, credentials, release) as service:
            return deliver(service, say=say, sleep=sleep)
    except ImportError as error:
        msg = f"attaching needs {error.name}, which is not installed: pip install 'pcapdiag[attach]'"
        raise MissingExtraError(msg) from error


def _open(target: Target, bundle: Bundle, credentials: Credentials, release: str) -> AbstractContextManager[Service]:
    if target.kind is Kind.GITHUB:
        from pcapdiag.ticket.attach.github import open_github  # noqa: PLC0415 - an extra

        return open_github(target, bundle, credentials, release)
    if target.kind is Kind.GITLAB:
        from pcapdiag.ticket.attach.gitlab import open_gitlab  # noqa: PLC0415 - an extra

        return open_gitlab(target, bundle, credentials)
    from pcapdiag.ticket.attach.jira import open_jira  # noqa: PLC0415 - an extra

    return open_jira(target, bundle, credentials)
