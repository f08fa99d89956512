"""GitLab: the bundle as an upload of the project, and a note on an issue or merge request that points to it.

An upload is known by the secret in its address alone: it cannot be found again, so a note is looked for first.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests

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
def open_gitlab(target: Target, bundle: Bundle, credentials: Credentials) -> Iterator[Service]:
    """Give the issue or merge request of a target to work with.

    Parameters
    ----------
    target : Target
        An issue or merge request.
    bundle : Bundle
        What to attach.
    credentials : Credentials
        A personal, project or group access token with scope `api`.

    Yields
    ------
    Service
        Until the block is left.
    """
    from gitlab import Gitlab, GitlabError  # noqa: PLC0415 - an extra

    way = TransportPolicy(frozenset({target.origin}), target.host, credentials.source, (credentials.token,))
    with plain_answers(target.host, GitlabError), requests.Session() as session:
        Transport(way).mount(session)
        client = Gitlab(target.base, private_token=credentials.token, session=session, keep_base_url=True)
        yield _GitlabTicket(client, target, bundle)


class _GitlabTicket:
    takes_files = True
    finds_files = False

    def __init__(self, client: Any, target: Target, bundle: Bundle) -> None:
        self._client = client
        self._target = target
        self._bundle = bundle
        project = client.projects.get(target.project, lazy=True)
        self._uploads = f"/projects/{quote(target.project, safe='')}/uploads"
        tickets = project.mergerequests if target.is_change else project.issues
        self._notes = tickets.get(int(target.number), lazy=True).notes

    def find_comment(self) -> str | None:
        for note in islice(self._notes.list(iterator=True, per_page=_PAGE), MAX_COMMENTS):
            if has_mark(Kind.GITLAB, self._bundle.manifest.report, note.body):
                return self._place(note.id)
        return None

    def add_comment(self, file: Uploaded | None) -> str:
        text = compose(Kind.GITLAB, self._bundle, file.link if file else "")
        return self._place(self._notes.create({"body": text}).id)

    def find_file(self) -> Uploaded | None:
        return None

    def send_file(self) -> Uploaded:
        with self._bundle.reopened() as file:
            # Project.upload would hold all of it in memory, and encodes the name of a project twice.
            answer = self._client.http_post(self._uploads, files={"file": (self._bundle.name, file)})
        link = re.fullmatch(rf"/uploads/([0-9a-f]{{16,64}})/{re.escape(self._bundle.name)}", answer["url"])
        if link is None:
            msg = "the address of the upload is not one of GitLab's"
            raise ValueError(msg)
        return Uploaded(link[1], link[0])

    def remove_file(self, file: Uploaded) -> None:
        self._client.http_delete(f"{self._uploads}/{file.key}/{self._bundle.name}")

    def _place(self, note: Any) -> str:
        return f"{self._target.url}#note_{int(note)}"
