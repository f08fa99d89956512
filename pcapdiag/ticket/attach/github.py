"""GitHub: a comment on an issue or pull request; the bundle as an asset of a release, where the operator names one.

GitHub's API takes no files in comments. Whoever names no release gets a comment that says who has the bundle.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from pcapdiag.ticket.attach.comment import compose, has_mark
from pcapdiag.ticket.attach.plan import api_of, link_of, uploads_of
from pcapdiag.ticket.attach.service import MAX_COMMENTS, Uploaded, plain_answers
from pcapdiag.ticket.attach.targets import Kind
from pcapdiag.ticket.attach.transport import Transport, TransportPolicy, origin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.ticket.attach.archive import Bundle
    from pcapdiag.ticket.attach.credentials import Credentials
    from pcapdiag.ticket.attach.service import Service
    from pcapdiag.ticket.attach.targets import Target

_PAGE = 100
_MAX_ASSETS = 1000  # GitHub's own limit


@contextmanager
def open_github(target: Target, bundle: Bundle, credentials: Credentials, release: str) -> Iterator[Service]:
    """Give the issue or pull request of a target to work with.

    Parameters
    ----------
    target : Target
        An issue or pull request.
    bundle : Bundle
        What to attach.
    credentials : Credentials
        A personal access token, or that of an app or a workflow.
    release : str
        Tag of a release of the same repository that takes the bundle; empty for a comment alone.

    Yields
    ------
    Service
        Until the block is left.
    """
    from github import Auth, Github, GithubException  # noqa: PLC0415 - an extra
    from github.Requester import (  # noqa: PLC0415 - with it
        HTTPRequestsConnectionClass,
        HTTPSRequestsConnectionClass,
        Requester,
    )

    api, uploads = api_of(target), uploads_of(target)
    origins = frozenset({origin_of(api), origin_of(uploads)})
    transport = Transport(TransportPolicy(origins, target.host, credentials.source, (credentials.token,)))

    class Http(HTTPRequestsConnectionClass):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            transport.mount(self.session)

    class Https(HTTPSRequestsConnectionClass):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            transport.mount(self.session)

    Requester.injectConnectionClasses(Http, Https)
    try:
        with plain_answers(target.host, GithubException, RuntimeError):
            client = Github(
                auth=Auth.Token(credentials.token),
                base_url=api,
                per_page=_PAGE,
                retry=None,
                seconds_between_requests=None,
                seconds_between_writes=None,
                lazy=True,
            )
            yield _GithubTicket(client, target, bundle, release)
            client.close()
    finally:
        Requester.resetConnectionClasses()


class _GithubTicket:
    finds_files = True

    def __init__(self, client: Any, target: Target, bundle: Bundle, release: str) -> None:
        self.takes_files = bool(release)
        self._target = target
        self._bundle = bundle
        self._tag = release
        self._repository = client.get_repo(target.project)
        self._issue = self._repository.get_issue(int(target.number))
        self._assets: dict[str, Any] = {}
        self._release: Any = None

    def find_comment(self) -> str | None:
        for comment in islice(self._issue.get_comments(), MAX_COMMENTS):
            if has_mark(Kind.GITHUB, self._bundle.manifest.report, comment.body):
                return self._place(comment.id)
        return None

    def add_comment(self, file: Uploaded | None) -> str:
        text = compose(Kind.GITHUB, self._bundle, file.link if file else "")
        return self._place(self._issue.create_comment(text).id)

    def find_file(self) -> Uploaded | None:
        self._release = self._release or self._repository.get_release(self._tag)
        found = None
        for asset in islice(self._release.get_assets(), _MAX_ASSETS):
            if asset.name != self._bundle.name:
                continue
            if asset.state == "uploaded" and asset.size == self._bundle.n_bytes:
                found = self._uploaded(asset)
            else:
                asset.delete_asset()  # what GitHub keeps of an upload that broke off
        return found

    def send_file(self) -> Uploaded:
        with self._bundle.reopened() as file:
            asset = self._release.upload_asset_from_memory(
                file, self._bundle.n_bytes, self._bundle.name, content_type="application/zip"
            )
        return self._uploaded(asset)

    def remove_file(self, file: Uploaded) -> None:
        self._assets[file.key].delete_asset()

    def _uploaded(self, asset: Any) -> Uploaded:
        key = str(asset.id)
        self._assets[key] = asset
        return Uploaded(key, link_of(self._target, self._bundle, self._tag))

    def _place(self, comment: Any) -> str:
        return f"{self._target.url}#issuecomment-{int(comment)}"
