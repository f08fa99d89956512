"""Fields of HTTP heads that may be shown, each with the grammar of its elements; and methods, reasons, hosts.

Whoever invents a field for a secret does not ask for our list of names, and whoever puts one into a known field does
not ask what belongs there: a field that is not listed is masked, and so is what does not fit in a listed one.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from pcapdiag.privacy.names import KNOWN_TOKEN, is_name, is_opaque
from pcapdiag.privacy.secret import FIELD_VALUE, Secret
from pcapdiag.privacy.urls import find_in_host, find_in_target

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS: Final = frozenset(
    """
    ACL BAN BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK M-SEARCH MERGE
    MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE NOTIFY OPTIONS ORDERPATCH PATCH POST PROPFIND PROPPATCH
    PURGE PUT QUERY REBIND REFRESH REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UNSUBSCRIBE
    UPDATE UPDATEREDIRECTREF VERSION-CONTROL
    """.split()  # noqa: SIM905 - forty quoted words are harder to read and to check
)
"""Registered methods, and those of caches: any other may be anything."""

_REASONS: Final = frozenset(
    {status.phrase.lower() for status in HTTPStatus}
    | {
        "",
        *(
            "request time-out",
            "gateway time-out",
            "service temporarily unavailable",
            "not allowed",
            "moved temporarily",
        ),
        *("request entity too large", "request-uri too large", "request uri too long", "payload too large"),
        *("requested range not satisfiable", "object not found", "unprocessable entity", "unprocessable content"),
        *("http version not supported", "client closed request", "server error", "service unavailable", "found", "ok"),
        *("connection established", "web socket protocol handshake", "content too large", "connection timed out"),
    }
)

_PORT: Final = r"(?::[0-9]{1,5})?"
_NAME: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})"
_ADDRESS: Final = (
    r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[?[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.[0-9]{1,3}){0,3}\]?)"
)
_NODE: Final = rf"(?:{_ADDRESS}|{_NAME}){_PORT}"
_Q: Final = r"(?:;q=[01](?:\.[0-9]{0,3})?)?"
_WORD: Final = r"[A-Za-z][A-Za-z_.-]{0,23}[0-9]{0,2}[A-Za-z]{0,3}"
_VERSION: Final = (
    r"v?[0-9]{1,6}(?:[._][0-9]{1,6}){0,5}[a-z]{0,5}[0-9]{0,3}"
    r"(?:[+~.-][0-9]{0,2}[a-z]{1,10}[0-9.]{0,10}){0,3}(?:-[0-9]{1,4})?"
)
_PRODUCT: Final = rf"{_WORD}(?:/{_VERSION})?|{_VERSION}|x86_64|rv:{_VERSION}|\+https?://{_NAME}/?[a-z/._-]{{0,60}}"
_DAY: Final = (
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)|[0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4}"
    r" [0-9]{2}:[0-9]{2}:[0-9]{2} (?:GMT|UTC)|-?[0-9]{1,10}"
)
_MEDIA: Final = (
    r"(?:\*|application|audio|font|image|message|model|multipart|text|video)/"
    r"(?:\*|(?:x-|vnd\.|prs\.)?[a-z]{1,24}[0-9]{0,2}(?:[.+_-][a-z]{1,24}[0-9]{0,2}){0,8})"
)
_CODING: Final = r"gzip|x-gzip|deflate|br|zstd|compress|identity|chunked|trailers|dcb|dcz|\*"
_IDENTIFIER: Final = r"[0-9A-Za-z_][0-9A-Za-z_.:|-]{0,127}"


class _Field(NamedTuple):
    """How a value is divided, and what its elements may be; in any case."""

    separators: str
    element: re.Pattern[str]


def _list(element: str, separators: str = ",") -> _Field:
    return _Field(separators, re.compile(element, re.IGNORECASE))


_DATE: Final = _list(_DAY)
_NUMBER: Final = _list(r"-?[0-9]{1,19}(?:\.[0-9]{1,9})?(?: ?m?s)?")
_SOFTWARE: Final = _list(_PRODUCT, " ;,()")
_ADDRESSES: Final = _list(rf"{_ADDRESS}{_PORT}|unknown|unix:|-", ", ")
_NODES: Final = _list(rf"{_NODE}|unknown")
_REQUEST_ID: Final = _list(_IDENTIFIER)
_FLAG: Final = _list(r"yes|no|on|off|[01]|true|false")

_FIELDS: Final = {
    **dict.fromkeys(("date", "expires", "last-modified", "if-modified-since", "if-unmodified-since"), _DATE),
    **dict.fromkeys(
        ("age", "content-length", "max-forwards", "x-response-time", "x-runtime", "x-forwarded-port"), _NUMBER
    ),
    **dict.fromkeys(("server", "user-agent", "x-powered-by"), _SOFTWARE),
    **dict.fromkeys(("x-forwarded-for", "x-real-ip", "x-upstream-addr"), _ADDRESSES),
    **dict.fromkeys(("x-forwarded-host", "x-forwarded-server", "x-upstream"), _NODES),
    **dict.fromkeys(("x-request-id", "x-correlation-id", "x-trace-id"), _REQUEST_ID),
    **dict.fromkeys(("accept-encoding", "content-encoding", "transfer-encoding", "te"), _list(rf"(?:{_CODING}){_Q}")),
    "accept": _list(rf"{_MEDIA}(?:;(?:charset=utf-?8|version=[0-9.]{{1,8}}|v=b[0-9]))?{_Q}"),
    "accept-charset": _list(rf"(?:\*|utf-?(?:8|16|32)|iso-8859-[0-9]{{1,2}}|us-ascii|windows-125[0-9]){_Q}"),
    "accept-language": _list(rf"(?:\*|[a-z]{{2,3}}(?:-[a-z0-9]{{1,4}}){{0,2}}){_Q}"),
    "accept-ranges": _list(r"bytes|none"),
    "allow": _list("|".join(sorted(METHODS))),
    "alt-svc": _list(rf"clear|h[23](?:-[0-9]{{2}})?=\"(?:{_NAME})?:[0-9]{{1,5}}\"|ma=[0-9]{{1,10}}|persist=1", ",;"),
    "cache-control": _list(
        r"(?:(?:s-)?max-?age|max-stale|min-fresh|stale-while-revalidate|stale-if-error)(?:=[0-9]{1,10})?"
        r"|no-cache|no-store|no-transform|only-if-cached|must-revalidate|must-understand|proxy-revalidate|public|private"
        r"|immutable"
    ),
    "connection": _list(r"close|keep-alive|upgrade|te|http2-settings|trailers?|proxy-connection"),
    "content-disposition": _list(r"inline|attachment|form-data", ";"),
    "content-language": _list(r"[a-z]{2,3}(?:-[a-z0-9]{1,4}){0,2}"),
    "content-range": _list(r"bytes (?:\*|[0-9]{1,19}-[0-9]{1,19})/(?:\*|[0-9]{1,19})"),
    "content-type": _list(rf"{_MEDIA}|charset=\"?(?:utf-?(?:8|16)|iso-8859-[0-9]{{1,2}}|us-ascii)\"?", ";"),
    "expect": _list(r"100-continue"),
    "forwarded": _list(rf"(?:for|by|host)=\"?(?:{_NODE}|unknown)\"?|proto=(?:https?|wss?)", ",;"),
    "host": _list(_NODE),
    "keep-alive": _list(r"(?:timeout|max)=[0-9]{1,10}"),
    "mime-version": _list(r"1\.0"),
    "pragma": _list(r"no-cache"),
    "proxy-connection": _list(r"close|keep-alive"),
    "range": _list(r"(?:bytes=)?(?:[0-9]{1,19}-[0-9]{0,19}|-[0-9]{1,19})"),
    "retry-after": _DATE,
    "status": _list(r"[1-5][0-9]{2}"),
    "strict-transport-security": _list(r"max-age=\"?[0-9]{1,10}\"?|includeSubDomains|preload", ";"),
    "traceparent": _list(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
    "trailer": _list(r"(?:grpc-(?:status|message)|server-timing|content-md5|digest|expires)"),
    "upgrade": _list(r"websocket|h2c?|tls/1\.[0-3]|http/[12](?:\.[01])?"),
    "upgrade-insecure-requests": _FLAG,
    "vary": _list(
        r"\*|(?:accept|origin|cookie|user-agent|authorization|x-forwarded|sec|access)(?:-[a-z]{1,16}){0,4}|host"
    ),
    "via": _list(rf"(?:https?/)?[123](?:\.[0-9])? (?:{_NODE})(?: \((?:{_PRODUCT}|[A-Za-z ]{{1,24}})\))?"),
    "x-accel-buffering": _FLAG,
    "x-accel-expires": _list(r"@?[0-9]{1,12}|off"),
    "x-cache": _list(
        r"(?:tcp_)?(?:hit|miss|expired|stale|bypass|updating|revalidated|refresh_hit|pass)"
        rf"(?: from (?:{_NODE}))?"
    ),
    "x-forwarded-proto": _list(r"https?|wss?"),
    "x-upstream-status": _list(r"[1-5][0-9]{2}|-", ", :"),
}
_URL_FIELDS: Final = frozenset(
    """
    content-location destination location origin referer x-accel-redirect x-forwarded-uri x-original-uri x-original-url
    x-rewrite-url
    """.split()  # noqa: SIM905 - as above
)
_NAMES_MACHINES: Final = frozenset(
    """
    forwarded host via x-forwarded-for x-forwarded-host x-forwarded-server x-real-ip x-upstream x-upstream-addr x-cache
    alt-svc
    """.split()  # noqa: SIM905 - as above
)
"""Of the kept fields, those whose values are addresses or names of machines."""


class FieldPolicy(Enum):
    """What happens to the value of a field."""

    KEEP = "keep"
    """What fits its grammar is kept."""
    URL = "url"
    """Kept but for what a URL may hide."""
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
    return FieldPolicy.KEEP if name in _FIELDS else FieldPolicy.MASK


def find_in_field(name: str, value: str, *, anonymize: bool = False) -> list[Secret]:
    """Return what must not be shown of a field's value, from left to right.

    Parameters
    ----------
    name : str
        Field name, in any case.
    value : str
        Without the white space around it.
    anonymize : bool
        As in `field_policy`.

    Returns
    -------
    list of Secret
        They do not overlap.
    """
    name = name.lower()
    policy = field_policy(name, anonymize=anonymize)
    if policy is FieldPolicy.URL:
        return find_in_target(value)
    if policy is FieldPolicy.MASK or not name.isascii():
        return [Secret(0, len(value), FIELD_VALUE, name if is_name(name) else "")] if value else []
    if name == "host":
        return find_in_host(value)
    return list(_find_unfit(name, value))


def _find_unfit(name: str, value: str) -> Iterator[Secret]:
    field = _FIELDS[name]
    is_identifier = field is _REQUEST_ID or name == "traceparent"
    for match in _elements(field.separators).finditer(value):
        element = match[0]
        is_fit = field.element.fullmatch(element) is not None and not KNOWN_TOKEN.search(element)
        if not is_fit or (not is_identifier and is_opaque(element)):
            yield Secret(*match.span(), FIELD_VALUE, name)


@cache
def _elements(separators: str) -> re.Pattern[str]:
    """Return what finds elements: no separator in them, no blank around them."""
    outside = re.escape(separators)
    return re.compile(rf"[^{outside}\s](?:[^{outside}]*[^{outside}\s])?")


def is_known_reason(reason: str) -> bool:
    """Whether a reason phrase is one that servers send for a status, and nothing else."""
    return reason.strip().lower() in _REASONS
