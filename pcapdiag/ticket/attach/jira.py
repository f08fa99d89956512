"""Jira: the bundle as an attachment of an issue, and a comment that names it.

Data Center: REST API 2, wiki markup, a personal access token or a user with a password. Cloud: REST API 3, documents,
an API token with the e-mail address of its account.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pcapdiag.base.errors import AttachError
from pcapdiag.ticket.attach.comment import compose, has_mark
from pcapdiag.ticket.attach.service import MAX_COMMENTS, Uploaded, plain_answers
from pcapdiag.ticket.attach.targets import Kind
from pcapdiag.ticket.attach.transport import Transport, TransportPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.ticket.attach.archive import Bundle
    from pcapdiag.ticket.attach.credentials import Credentials
    from pcapdiag.ticket.attach.service import Service
    from pcapdiag.ticket.attach.targets import Target

_PAGE = 100


@contextmanager
def open_jira(target: Target, bundle: Bundle, credentials: Credentials) -> Iterator[Service]:
    """Give the issue of a target to work with.

    Parameters
    ----------
    target : Target
        An issue.
    bundle : Bundle
        What to attach.
    credentials : Credentials
        With a user they go as HTTP Basic, without as a bearer token.

    Yields
    ------
    Service
        Until the block is left.
    """
    from jira import JIRA, JIRAError  # noqa: PLC0415 - an extra

    is_basic = bool(credentials.user)
    with plain_answers(target.host, JIRAError):
        client: Any = JIRA(
            server=target.base,
            options={"rest_api_version": _version(target)},
            basic_auth=(credentials.user, credentials.token) if is_basic else None,
            token_auth=None if is_basic else credentials.token,
            get_server_info=False,
            max_retries=0,
            logging=False,
        )
        way = TransportPolicy(frozenset({target.origin}), target.host, credentials.source, (credentials.token,))
        Transport(way).mount(client._session)  # noqa: SLF001 - the library has no other place for an adapter
        try:
            yield _Issue(client, target, bundle)
        finally:
            client.close()


def _version(target: Target) -> str:
    return "3" if target.kind is Kind.JIRA_CLOUD else "2"


class _Issue:
    takes_files = True
    finds_files = True

    def __init__(self, client: Any, target: Target, bundle: Bundle) -> None:
        self._client = client
        self._target = target
        self._bundle = bundle

    def find_comment(self) -> str | None:
        seen: set[str] = set()
        while len(seen) < MAX_COMMENTS:
            page = self._client.comments(self._target.number, start_at=len(seen), max_results=_PAGE)
            for comment in page:
                if has_mark(self._target.kind, self._bundle.manifest.report, comment.raw.get("body")):
                    return self._place(comment.id)
            new = {str(comment.id) for comment in page} - seen
            if not new:  # the last page, or a server that knows no pages
                break
            seen |= new
        return None

    def add_comment(self, file: Uploaded | None) -> str:
        del file  # wiki markup and documents name an attachment, they do not point to it
        body: Any = compose(self._target.kind, self._bundle, "")
        if self._target.kind is Kind.JIRA_CLOUD:
            body = json.loads(body)
        return self._place(self._client.add_comment(self._target.number, body).id)

    def find_file(self) -> Uploaded | None:
        issue = self._client.issue(self._target.number, fields="attachment")
        found = None
        for attachment in issue.raw["fields"].get("attachment", ()):
            if attachment.get("filename") != self._bundle.name:
                continue
            file = Uploaded(str(attachment["id"]))
            if attachment.get("size") == self._bundle.n_bytes:
                found = file
            else:
                self.remove_file(file)
        return found

    def send_file(self) -> Uploaded:
        with self._bundle.reopened() as file:
            sent = self._client.add_attachment(self._target.number, file, filename=self._bundle.name)
        if sent.raw.get("size") != self._bundle.n_bytes:
            msg = f"{self._target.host} kept {sent.raw.get('size')} of {self._bundle.n_bytes} bytes; repeat the command"
            raise AttachError(msg)
        return Uploaded(str(sent.id))

    def remove_file(self, file: Uploaded) -> None:
        self._client.delete_attachment(file.key)

    def _place(self, comment: Any) -> str:
        return f"{self._target.url}?focusedCommentId={int(comment)}"
