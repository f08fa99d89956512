"""A webhook: one POST with the bundle, the comment and the identifier of the report.

The field `Idempotency-Key` is the same whenever the same bundle is sent, so a receiver can tell a repetition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from pcapdiag.ticket.attach.comment import compose
from pcapdiag.ticket.attach.service import plain_answers
from pcapdiag.ticket.attach.targets import Kind
from pcapdiag.ticket.attach.transport import Transport, TransportPolicy, repeat

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcapdiag.ticket.attach.archive import Bundle
    from pcapdiag.ticket.attach.credentials import Credentials
    from pcapdiag.ticket.attach.targets import Target


def webhook_fields(bundle: Bundle) -> dict[str, str]:
    """Return the text fields of the form, in their order; the file comes last, as `bundle`."""
    return {
        "report": bundle.manifest.report,
        "sha256": bundle.sha256,
        "comment": compose(Kind.WEBHOOK, bundle, ""),
    }


def idempotency_key(bundle: Bundle) -> str:
    """Return what is the same for the same bundle."""
    return f"pcapdiag-{bundle.manifest.report}-{bundle.sha256[:12]}"


def post_to_webhook(
    target: Target,
    bundle: Bundle,
    credentials: Credentials | None,
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> None:
    """Send a bundle to a webhook.

    Parameters
    ----------
    target : Target
        Where to.
    bundle : Bundle
        What to send.
    credentials : Credentials, optional
        Sent as a bearer token.
    say, sleep
        As in `transport.repeat`.

    Raises
    ------
    AttachError
        It was not taken.
    """
    from requests_toolbelt import MultipartEncoder  # noqa: PLC0415 - an extra

    secrets = (credentials.token,) if credentials else ()
    source = credentials.source if credentials else "nobody"
    way = TransportPolicy(frozenset({target.origin}), target.host, source, secrets)

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Present even without a token: requests would look for a password in .netrc.
        if credentials is not None:
            request.headers["Authorization"] = f"Bearer {credentials.token}"
        return request

    def post() -> None:
        with bundle.reopened() as file:
            form = MultipartEncoder({**webhook_fields(bundle), "bundle": (bundle.name, file, "application/zip")})
            fields = {"Content-Type": form.content_type, "Idempotency-Key": idempotency_key(bundle)}
            session.post(target.url, data=form, headers=fields, auth=authorize)

    with plain_answers(target.host), requests.Session() as session:
        Transport(way).mount(session)
        repeat(post, say=say, sleep=sleep)
    say("the bundle was sent")
