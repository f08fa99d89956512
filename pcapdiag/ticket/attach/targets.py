"""From the URL of a ticket to what a client library needs: the kind of system, its server, and the ticket.

A URL is what the operator copied from the browser. It never holds a credential, and it is HTTPS unless the server is
this machine. Knows no library and sends nothing.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pcapdiag.base.errors import UsageError


class Kind(Enum):
    """What a URL leads to."""

    JIRA = "jira"
    JIRA_CLOUD = "jira-cloud"
    GITHUB = "github"
    GITLAB = "gitlab"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a bundle goes.

    Attributes
    ----------
    kind : Kind
        Which system.
    url : str
        As the operator gave it, without what a browser adds at the end.
    origin : str
        Scheme, host and port of the server.
    base : str
        Where the system begins on that server: origin and context path.
    project : str
        Repository or project; empty for Jira and webhooks.
    number : str
        Key or number of the ticket; empty for webhooks.
    is_change : bool
        Whether the number is that of a pull or merge request.
    """

    kind: Kind
    url: str
    origin: str
    base: str
    project: str = ""
    number: str = ""
    is_change: bool = False

    @property
    def host(self) -> str:
        """Host and port, as they stand in the URL."""
        return self.origin.partition("://")[2]


_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_JIRA = re.compile(r"(?P<context>(?:/[\w.-]+)*?)/browse/(?P<number>[A-Z][A-Z0-9_]+-[0-9]{1,12})", re.ASCII)
_GITHUB = re.compile(rf"/(?P<project>{_PART}/{_PART})/(?P<what>issues|pull)/(?P<number>[0-9]{{1,12}})", re.ASCII)
_GITLAB = re.compile(
    rf"/(?P<project>{_PART}(?:/{_PART})+)/-/(?P<what>issues|work_items|merge_requests)/(?P<number>[0-9]{{1,12}})",
    re.ASCII,
)
_FORMS = {
    Kind.JIRA: (_JIRA, "https://HOST/browse/KEY-1"),
    Kind.JIRA_CLOUD: (_JIRA, "https://SITE.atlassian.net/browse/KEY-1"),
    Kind.GITHUB: (_GITHUB, "https://github.com/OWNER/REPOSITORY/issues/1 or .../pull/1"),
    Kind.GITLAB: (_GITLAB, "https://gitlab.com/GROUP/PROJECT/-/issues/1 or .../-/merge_requests/1"),
}
_CLOUD = (".atlassian.net", ".jira.com")
_TRACKERS = ("github.com", "gitlab.com", *(suffix.removeprefix(".") for suffix in _CLOUD))
_SECRET = re.compile(
    r"(?i)token|secret|passw|pwd|api_?key|^key$|^sig$|signature|^auth$|authori[sz]ation|credential|session"
)
_MAX_URL = 2000


def parse_target(url: str, kind: str = "auto") -> Target:
    """Return what a URL leads to.

    Parameters
    ----------
    url : str
        Of an issue, a pull or merge request, or a webhook.
    kind : str
        Value of a `Kind`, for a server whose URLs look like another system's; ``auto`` goes by the URL.

    Returns
    -------
    Target
        Sound in every part.

    Raises
    ------
    UsageError
        It is no URL, holds a credential, is not encrypted, or leads to no ticket.
    """
    parts = _split(url)
    origin = f"{parts.scheme}://{_netloc(parts)}"
    path = parts.path.rstrip("/")
    found = Kind(kind) if kind != "auto" else _guess(parts, path)
    if found is Kind.WEBHOOK:
        query = f"?{parts.query}" if parts.query else ""
        return Target(found, f"{origin}{parts.path or '/'}{query}", origin, origin)
    form, example = _FORMS[found]
    match = form.fullmatch(path)
    if match is None or ".." in path:
        msg = f"the URL leads to no ticket of {found.value}; it looks like {example}"
        raise UsageError(msg)
    names = match.groupdict()
    return Target(
        kind=found,
        url=f"{origin}{path}",
        origin=origin,
        base=origin + names.get("context", ""),
        project=names.get("project", ""),
        number=names["number"],
        is_change=names.get("what", "") in {"pull", "merge_requests"},
    )


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine, by its name alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult:
    """Return the parts of a URL; no message repeats it, because it may hold what should not be there."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError as error:
        msg = "--to is no URL; copy it from the browser"
        raise UsageError(msg) from error
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        msg = "--to holds a user name or password; take it out and set the environment variable that `-h` names"
        raise UsageError(msg)
    host = parts.hostname or ""
    if (
        parts.scheme not in {"https", "http"}
        or not has_port
        or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9a-fA-F:.]+", host)
        or not url.isascii()
        or not url.isprintable()
        or " " in url
        or "\\" in url
        or len(url) > _MAX_URL
    ):
        msg = "--to is no URL that begins with https://; copy it from the browser"
        raise UsageError(msg)
    if parts.scheme == "http" and not is_loopback(host):
        msg = f"http://{host} would be sent in the clear, credentials too; use https://"
        raise UsageError(msg)
    named = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET.search(unquote(name))]
    if named:
        msg = "the query of --to holds a credential; take it out and set PCAPDIAG_WEBHOOK_TOKEN"
        raise UsageError(msg)
    return parts


def _netloc(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    is_default = parts.port in {None, 443 if parts.scheme == "https" else 80}
    return host if is_default else f"{host}:{parts.port}"


def _guess(parts: SplitResult, path: str) -> Kind:
    host = (parts.hostname or "").lower()
    if _GITLAB.fullmatch(path):
        return Kind.GITLAB
    if _JIRA.fullmatch(path):
        return Kind.JIRA_CLOUD if host.endswith(_CLOUD) else Kind.JIRA
    if _GITHUB.fullmatch(path):
        return Kind.GITHUB
    if any(host == tracker or host.endswith(f".{tracker}") for tracker in _TRACKERS):
        examples = "; ".join(example for kind, (_, example) in _FORMS.items() if kind is not Kind.JIRA)
        msg = f"the URL leads to no ticket; these do: {examples}"
        raise UsageError(msg)
    return Kind.WEBHOOK
