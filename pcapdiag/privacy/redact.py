"""What may leave the machine: credentials and the values of query strings and fields stay where they were captured.

A report goes into tickets and chats, and a request carries tokens. Names of parameters and fields stay, because they
tell which call it was. This module knows targets, fields and lines of text; nothing of reports, nothing of packets.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import Enum
from typing import Final, NamedTuple

MASK = "***"

CREDENTIALS: Final = "credentials"
QUERY_VALUE: Final = "query value"
PATH_PARAMETER: Final = "path parameter"
FIELD_VALUE: Final = "field value"
LOG_VALUE: Final = "value in a log line"
CUT_PAYLOAD: Final = "payload bytes cut off"

_USERINFO: Final = re.compile(r"(?:^|//)(?P<secret>[^/?#]+)@")
_PATH_PARAMETER: Final = re.compile(r";(?P<name>[^=;/?#]+)=(?P<secret>[^;/?#]+)")

# Fields whose values a reader of packets needs and that hold no secret. All others are masked: whoever invents a field
# for a secret does not ask for our list of names.
_KEPT_FIELDS: Final = frozenset(
    """
    accept accept-charset accept-encoding accept-language accept-ranges age allow alt-svc cache-control connection
    content-disposition content-encoding content-language content-length content-range content-type date expect expires
    forwarded host if-modified-since if-unmodified-since keep-alive last-modified max-forwards mime-version pragma
    proxy-connection range retry-after server status strict-transport-security te trailer transfer-encoding upgrade
    user-agent vary via warning
    x-accel-buffering x-accel-expires x-cache x-correlation-id x-forwarded-for x-forwarded-host x-forwarded-port
    x-forwarded-proto x-forwarded-server x-powered-by x-real-ip x-request-id x-response-time x-runtime x-trace-id
    x-upstream x-upstream-addr x-upstream-status
    """.split()  # noqa: SIM905 - forty quoted words are harder to read and to check
)
_URL_FIELDS: Final = frozenset(
    """
    content-location destination location origin referer x-accel-redirect x-forwarded-uri x-original-uri x-original-url
    x-rewrite-url
    """.split()  # noqa: SIM905 - as above
)
_NAMES_MACHINES: Final = frozenset(
    """
    forwarded host via x-forwarded-for x-forwarded-host x-forwarded-server x-real-ip x-upstream x-upstream-addr x-cache
    alt-svc warning
    """.split()  # noqa: SIM905 - as above
)
"""Of the kept fields, those whose values are addresses or names of machines."""

# A name that says its value is a secret, within a longer word such as X-Api-Key or client_secret.
_TELLING_NAME: Final = (
    r"[\w.-]{0,64}(?:authoriz|cookie|token|secret|api-?_?key|apikey|-key\b|_key\b|passw|pwd|credential|signature|session"
    r"|jwt|csrf|xsrf|assertion)[\w-]{0,64}"
)
# `Cookie: a=b; c=d`: the value goes on to the end of the quotation or of the line.
_FIELD_IN_TEXT: Final = re.compile(rf"(?i)(?<![\w.-])(?P<name>{_TELLING_NAME}) ?: ?(?P<secret>[^\"'\r\n]+)")
_PAIR_IN_TEXT: Final = re.compile(rf"(?i)(?<![\w.-])(?P<name>{_TELLING_NAME})=(?P<secret>[^\s&;,\"'<>]+)")
_SCHEME_IN_TEXT: Final = re.compile(
    r"(?i)\b(?P<name>bearer|basic|digest|negotiate) (?P<secret>[\w+/=.~-]{6,}[^\"'\r\n]*)"
)
# nginx: client sent invalid header line: "Name: value".
_INVALID_FIELD: Final = re.compile(r"header(?: line)?: \"(?P<name>[^\":]{0,64}):? ?(?P<secret>[^\"]*)")
_QUERY_IN_TEXT: Final = re.compile(r"\?(?P<secret>[^\s\"'<>]+)")
_USERINFO_IN_TEXT: Final = re.compile(r"//(?P<secret>[^\s/?#\"'<>@]+(?:@[^\s/?#\"'<>@]+)*)@")
_JWT_IN_TEXT: Final = re.compile(r"\b(?P<secret>eyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)?)")


_LONGEST_NAME: Final = 64
_MOST_NAMES: Final = 500


class Secret(NamedTuple):
    """Where a secret stands in a text, and what it is."""

    start: int
    end: int
    kind: str
    name: str


class FieldPolicy(Enum):
    """What happens to the value of a field."""

    KEEP = "keep"
    URL = "url"
    """Kept but for credentials and query values."""
    MASK = "mask"


def field_policy(name: str, *, anonymize: bool = False) -> FieldPolicy:
    """Return what happens to the value of a field.

    Parameters
    ----------
    name : str
        Field name, in any case.
    anonymize : bool
        Whether values that name machines are secrets, too; that of Host is not, because it is replaced.

    Returns
    -------
    FieldPolicy
    """
    name = name.lower()
    if anonymize and (name in _URL_FIELDS or (name in _NAMES_MACHINES and name != "host")):
        return FieldPolicy.MASK
    if name in _URL_FIELDS:
        return FieldPolicy.URL
    return FieldPolicy.KEEP if name in _KEPT_FIELDS else FieldPolicy.MASK


def find_in_target(target: str) -> list[Secret]:
    """Return where a request target or a URL holds secrets, from left to right.

    Parameters
    ----------
    target : str
        Origin, absolute or authority form (RFC 9112 section 3.2), as captured.

    Returns
    -------
    list of Secret
        User information, path parameters (``;jsessionid=``), the values of the query; a part of the query without
        ``=`` is a value without a key.
    """
    path, mark, query = target.partition("?")
    found = [Secret(*m.span("secret"), CREDENTIALS, "") for m in _USERINFO.finditer(path)]
    for match in _PATH_PARAMETER.finditer(path):
        if not any(s.start < match.end("secret") and match.start("secret") < s.end for s in found):
            found.append(Secret(*match.span("secret"), PATH_PARAMETER, match["name"]))
    found.sort()
    return found + (_find_in_query(query, len(path) + 1) if mark else [])


def _find_in_query(query: str, start: int) -> list[Secret]:
    found = []
    for match in re.finditer(r"[^&;]+", query):
        key, mark, value = match[0].partition("=")
        if mark:
            found.append(Secret(start + match.end() - len(value), start + match.end(), QUERY_VALUE, key))
        else:
            found.append(Secret(start + match.start(), start + match.end(), QUERY_VALUE, ""))
    return found


def find_in_text(text: str) -> list[Secret]:
    """Return where free text, such as a log message, holds what looks like a secret, from left to right.

    Parameters
    ----------
    text : str
        One line.

    Returns
    -------
    list of Secret
        They do not overlap.
    """
    found: list[Secret] = []
    for pattern, kind in (
        (_FIELD_IN_TEXT, LOG_VALUE),
        (_INVALID_FIELD, LOG_VALUE),
        (_SCHEME_IN_TEXT, LOG_VALUE),
        (_USERINFO_IN_TEXT, CREDENTIALS),
        (_PAIR_IN_TEXT, LOG_VALUE),
        (_JWT_IN_TEXT, LOG_VALUE),
    ):
        names = "name" in pattern.groupindex
        found += [Secret(*m.span("secret"), kind, m["name"].lower() if names else "") for m in pattern.finditer(text)]
    for match in _QUERY_IN_TEXT.finditer(text):
        found += _find_in_query(match["secret"], match.start("secret"))
    return _without_overlaps(found)


def _without_overlaps(found: list[Secret]) -> list[Secret]:
    kept: list[Secret] = []
    for secret in sorted(found, key=lambda s: (s.start, -s.end)):
        if kept and secret.start < kept[-1].end:
            if secret.end > kept[-1].end:
                kept[-1] = kept[-1]._replace(end=secret.end)
            continue
        kept.append(secret)
    return kept


def redact_target(target: str) -> str:
    """Return a request target without credentials and without the values of its query.

    Parameters
    ----------
    target : str
        As captured.

    Returns
    -------
    str
        The same target; ``user:password@`` becomes ``***@``, ``?key=value&flag`` becomes ``?key=***&***``.
    """
    return Redactor().target(target)


class Redactor:
    """Masks texts and keeps count of what it masked.

    Parameters
    ----------
    active : bool
        Whether to mask at all.
    """

    def __init__(self, *, active: bool = True) -> None:
        self.active = active
        self._counts: Counter[tuple[str, str]] = Counter()

    def target(self, target: str) -> str:
        """Return a request target, or any URL, without secrets."""
        return self._mask(target, find_in_target(target)) if self.active else target

    def text(self, text: str) -> str:
        """Return free text without what looks like a secret."""
        return self._mask(text, find_in_text(text)) if self.active else text

    def host(self, host: str) -> str:
        """Return a host without the credentials that somebody put before it."""
        user, mark, name = host.rpartition("@")
        if not self.active or not mark or not user:
            return host
        self.count(CREDENTIALS, "")
        return f"{MASK}@{name}"

    def count(self, kind: str, name: str, number: int = 1) -> None:
        """Note that something was masked.

        Parameters
        ----------
        kind : str
            What it was, in words.
        name : str
            Of the parameter or field; it comes out of the capture, so long and many names are counted without.
        number : int
            How often.
        """
        if len(name) > _LONGEST_NAME or (len(self._counts) >= _MOST_NAMES and (kind, name) not in self._counts):
            name = ""
        self._counts[kind, name] += number

    @property
    def counts(self) -> tuple[tuple[str, str, int], ...]:
        """Kind, name and number of everything masked, in order of kind and name."""
        return tuple((kind, name, n) for (kind, name), n in sorted(self._counts.items()))

    def _mask(self, text: str, secrets: list[Secret]) -> str:
        parts, at = [], 0
        for secret in secrets:
            parts += [text[at : secret.start], MASK]
            at = secret.end
            self.count(secret.kind, secret.name)
        return "".join((*parts, text[at:])) if parts else text
