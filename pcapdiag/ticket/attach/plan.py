"""What would be sent, to where, in which order: for the operator to read before anything leaves the machine.

Needs no client library and no network. The tests compare these requests with those that arrive at a server.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import format_bytes
from pcapdiag.ticket.attach.comment import compose
from pcapdiag.ticket.attach.targets import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.ticket.attach.archive import Bundle
    from pcapdiag.ticket.attach.targets import Target

_NAMES = {
    Kind.JIRA: "Jira issue {number}",
    Kind.JIRA_CLOUD: "Jira Cloud issue {number}",
    Kind.GITHUB: "GitHub {what} {project}#{number}",
    Kind.GITLAB: "GitLab {what} {project}#{number}",
    Kind.WEBHOOK: "webhook",
}
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,99}", re.ASCII)
_CHANGES = {Kind.GITHUB: "pull request", Kind.GITLAB: "merge request"}


def check_release(target: Target, release: str) -> None:
    """Refuse a release where there is none.

    Raises
    ------
    UsageError
        Only GitHub takes files that way; or the tag is none.
    """
    if release and target.kind is not Kind.GITHUB:
        msg = f"--release is for GitHub; {target.kind.value} takes the bundle without it"
        raise UsageError(msg)
    if release and not _TAG.fullmatch(release):
        msg = "--release is the tag of a release, such as v1.2 or incidents"
        raise UsageError(msg)


def api_of(target: Target) -> str:
    """Return the address below which the requests of a target's API lie."""
    if target.kind is Kind.GITHUB:
        is_public = target.host == "github.com" or target.host.endswith(".ghe.com")
        return f"https://api.{target.host}" if is_public else f"{target.base}/api/v3"
    paths = {Kind.JIRA: "/rest/api/2", Kind.JIRA_CLOUD: "/rest/api/3", Kind.GITLAB: "/api/v4"}
    return target.base + paths.get(target.kind, "")


def uploads_of(target: Target) -> str:
    """Return the address below which GitHub takes files."""
    is_public = target.host == "github.com" or target.host.endswith(".ghe.com")
    return f"https://uploads.{target.host}" if is_public else f"{target.base}/api/uploads"


def requests_of(target: Target, release: str) -> tuple[str, ...]:
    """Return method and URL of each request that attaches a bundle for the first time, in order.

    Parameters
    ----------
    target : Target
        Where the bundle goes.
    release : str
        Tag of a GitHub release that takes it; empty for none.

    Returns
    -------
    tuple of str
        Queries that only page through lists are left out; ``ID`` is a number that the server gives.
    """
    api = api_of(target)
    if target.kind is Kind.WEBHOOK:
        return (f"POST {target.url}",)
    if target.kind is Kind.GITLAB:
        project = f"{api}/projects/{quote(target.project, safe='')}"
        notes = f"{project}/{'merge_requests' if target.is_change else 'issues'}/{target.number}/notes"
        return f"GET {notes}", f"POST {project}/uploads", f"GET {notes}", f"POST {notes}"
    if target.kind is Kind.GITHUB:
        repository = f"{api}/repos/{target.project}"
        comments = f"{repository}/issues/{target.number}/comments"
        assets = (
            f"GET {repository}/releases/tags/{quote(release, safe='')}",
            f"GET {repository}/releases/ID/assets",
            f"POST {uploads_of(target)}/repos/{target.project}/releases/ID/assets",
        )
        return f"GET {comments}", *(assets if release else ()), f"GET {comments}", f"POST {comments}"
    issue = f"{api}/issue/{target.number}"
    return (
        f"GET {issue}/comment",
        f"GET {issue}",
        f"POST {issue}/attachments",
        f"GET {issue}/comment",
        f"POST {issue}/comment",
    )


def plan_lines(target: Target, bundle: Bundle, release: str, source: str) -> Iterator[str]:
    """Yield what a dry run says.

    Parameters
    ----------
    target : Target
        Where the bundle goes.
    bundle : Bundle
        What would be sent.
    release : str
        Tag of a GitHub release; empty for none.
    source : str
        Where the credentials come from; empty if there are none.

    Yields
    ------
    str
        Lines; those of the comment are as they would be sent.
    """
    manifest = bundle.manifest
    what = _CHANGES.get(target.kind, "issue") if target.is_change else "issue"
    name = _NAMES[target.kind].format(what=what, project=target.project, number=target.number)
    sends_file = target.kind is not Kind.GITHUB or bool(release)
    yield "Dry run: nothing was sent, no server was asked."
    yield ""
    yield f"To           {name}, {target.url}"
    yield f"Credentials  {source or 'none'}"
    yield f"Report       {manifest.report}, {_redaction(manifest.redacted, manifest.anonymized)}"
    yield ""
    yield "Requests, if neither the file nor the comment is there yet:"
    yield from (f"  {request}" for request in requests_of(target, release))
    yield ""
    if sends_file:
        yield f"File         {bundle.name}, {format_bytes(bundle.n_bytes)}, sha256 {bundle.sha256}"
        yield from (f"  {member.name}  {member.n_bytes:,} bytes" for member in manifest.members)
    else:
        yield "File         none: GitHub takes no files in comments; --release TAG makes it an asset of that release"
    yield ""
    link = link_of(target, bundle, release)
    text = compose(target.kind, bundle, link)
    is_document = target.kind is Kind.JIRA_CLOUD
    yield f"Comment      {len(text):,} characters{' of JSON, which Jira shows as' if is_document else ''}:"
    yield ""
    yield from (_document_text(json.loads(text)) if is_document else text).splitlines()


def link_of(target: Target, bundle: Bundle, release: str) -> str:
    """Return the address that the uploaded file will have, as far as it is known beforehand."""
    if target.kind is Kind.GITHUB and release:
        return f"{target.base}/{target.project}/releases/download/{quote(release, safe='')}/{bundle.name}"
    return f"/uploads/SECRET-OF-THE-UPLOAD/{bundle.name}" if target.kind is Kind.GITLAB else ""


def _document_text(node: dict[str, Any]) -> str:
    """Return the text of a document of Jira Cloud, each block on lines of its own."""
    if node.get("type") in {"text", "hardBreak"}:
        return str(node.get("text", "\n"))
    inside = "".join(_document_text(child) for child in node.get("content", ()))
    return f"{inside.rstrip()}\n"


def _redaction(redacted: bool, anonymized: bool) -> str:  # noqa: FBT001 - two marks of a manifest
    masked = "credentials and values masked" if redacted else "NOT REDACTED: as captured"
    return f"{masked}, {'addresses and names replaced' if anonymized else 'addresses as captured'}"
