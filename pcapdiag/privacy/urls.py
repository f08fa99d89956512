"""Where a request target, a URL or a host holds secrets. Knows RFC 3986 and what people write instead."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from pcapdiag.privacy.names import (
    KNOWN_TOKEN,
    is_api_word,
    is_certain_segment,
    is_name,
    is_opaque,
    is_plain_word,
    is_telling,
    is_telling_segment,
)
from pcapdiag.privacy.secret import (
    CREDENTIALS,
    PATH_PARAMETER,
    PATH_SEGMENT,
    QUERY_VALUE,
    TOKEN,
    Secret,
    find_decoded,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# Most targets: small letters and short numbers between slashes. Nothing in them can be a secret but what a name tells.
_HARMLESS: Final = re.compile(r"(?:[/._-]{1,3}(?:[a-z]{1,19}[0-9]{0,6}|[0-9]{1,12}))*/?")
_LONGEST_HARMLESS: Final = 64
_END_OF_PATH: Final = re.compile(r"[?#]")
_PART: Final = re.compile(r"[^&;]+")
_PADDED: Final = 8

# Behind these an authority begins; `https:user:password@host` is read by some as if it had its slashes.
_AUTHORITY: Final = re.compile(
    r"//|(?<=[A-Za-z0-9]:)/(?!/)|(?i:(?<![A-Za-z])(?:https?|wss?|ftps?|amqps?|rediss?|postgres|postgresql|mysql|mongodb|ldaps?|smtps?)):(?!/)"
)
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_.*~${}-]{1,253}|\[[0-9A-Fa-f:.%]{2,60}\])(?::[0-9]{0,5})?|unix:")
_NAME_OF_HOST: Final = re.compile(r"[A-Za-z0-9_.*~-]{1,253}|\[[0-9A-Fa-f:.]{2,50}\]")
_PORT: Final = re.compile(r":[0-9]{1,5}")
_DOTTED: Final = re.compile(
    r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})+\.?(?::[0-9]{0,5})?|\[[^\]]*\](?::[0-9]{0,5})?"
)


def find_in_target(target: str) -> list[Secret]:
    """Return where a request target or a URL holds secrets, from left to right.

    Parameters
    ----------
    target : str
        Origin, absolute or authority form (RFC 9112 section 3.2), as captured.

    Returns
    -------
    list of Secret
        User information; the values of path parameters, query and fragment, and what stands there without a name;
        tokens in the path. Without overlaps.
    """
    is_short = len(target) <= _LONGEST_HARMLESS
    if is_short and _HARMLESS.fullmatch(target) and not _may_announce(target):
        return []
    return find_decoded(target, lambda text: _find_in_url(text, is_target=True))


def _may_announce(target: str) -> bool:
    """Whether a target of plain words may hold a secret after all: a known token, or one that a segment announces."""
    is_announced = is_telling_segment(target) or any(map(is_certain_segment, target.split("/")))
    return is_announced or KNOWN_TOKEN.search(target) is not None


def find_in_word(word: str) -> list[Secret]:
    """Return where a word of free text holds secrets, if it is a URL or a path; a path may be that of a file."""
    return list(_find_in_url(word, is_target=False))


def find_in_host(host: str) -> list[Secret]:
    """Return where a Host field, or an authority, holds what is neither a name, an address nor a port.

    Parameters
    ----------
    host : str
        As captured.

    Returns
    -------
    list of Secret
        One at most: what stands before the host, or behind it; all of it where nobody can tell.
    """
    _, at, name = host.rpartition("@")
    start = len(host) - len(name)
    match = _NAME_OF_HOST.match(name)
    end = start + match.end() if match else start
    port = _PORT.match(host, end)
    end = port.end() if port else end
    if end == len(host):
        return [Secret(0, start - 1, CREDENTIALS, "")] if at and start > 1 else []
    if at or "%" in host or "\\" in host or host[end] == ":" or not match:
        return [Secret(0, len(host), CREDENTIALS, "")]
    return [Secret(end, len(host), CREDENTIALS, "")]


def _find_in_url(text: str, *, is_target: bool) -> Iterator[Secret]:
    match = _END_OF_PATH.search(text)
    end = match.start() if match else len(text)
    path = text[:end]
    has_more = "@" in text[end:]
    yield from _find_userinfo(path, is_target=is_target, has_more=has_more)
    yield from _find_in_path(path, is_target=is_target)
    if match:
        yield from _find_in_query(text, end + 1)


def _find_userinfo(path: str, *, is_target: bool, has_more: bool) -> Iterator[Secret]:
    """Yield what stands before a host, and what stands where a host belongs and is none."""
    starts = [m.end() for m in _AUTHORITY.finditer(path)]
    if is_target and path[:1] not in {"/", ""} and "@" in path.partition("/")[0]:
        starts.insert(0, 0)
    for start, stop in pairwise((*starts, len(path))):
        slash = path.find("/", start, stop)
        authority_end = slash if slash >= 0 else stop
        authority = path[start:authority_end]
        user, at, host = authority.rpartition("@")
        if at:
            yield Secret(start, start + len(user), CREDENTIALS, "")
        else:
            last = path.rfind("@", start, stop)
            if last >= 0 and not (_DOTTED.fullmatch(authority) or authority == "unix:"):
                yield Secret(start, last, CREDENTIALS, "")
                continue
        is_host = not host or _HOST.fullmatch(host) is not None
        if not is_host or (has_more and not at and not _DOTTED.fullmatch(host)):
            yield Secret(authority_end - len(host), authority_end, CREDENTIALS, "")


def _find_in_path(path: str, *, is_target: bool) -> Iterator[Secret]:
    at, is_announced, is_certain = 0, False, False
    is_absolute = not path.startswith("/")
    for number, segment in enumerate(path.split("/")):
        start, end = at, at + len(segment)
        at = end + 1
        user, mark, _ = segment.rpartition("@")
        if mark and is_target and (":" in user or (is_absolute and number > 2)):
            yield Secret(start, start + len(user), CREDENTIALS, "")
        yield from _find_in_segment(segment, start, is_target=is_target)
        plain = segment.partition(";")[0]
        is_secret = (is_announced and not is_plain_word(plain)) or (is_certain and not is_api_word(plain))
        if is_target and plain and is_secret:
            yield Secret(start, start + len(plain), PATH_SEGMENT, "")
        if plain:
            is_certain = is_certain_segment(plain)
            is_announced = is_telling_segment(plain) and is_plain_word(plain)
    for match in KNOWN_TOKEN.finditer(path):
        yield Secret(*match.span("secret"), TOKEN, "")


def _find_in_segment(segment: str, start: int, *, is_target: bool) -> Iterator[Secret]:
    """Yield what a segment of a path holds: parameters (``;jsessionid=``, ``token=``), and what is no word."""
    for number, match in enumerate(re.finditer(r"[^;,&!]+", segment)):
        part, at = match[0], start + match.start()
        is_parameter = number > 0 or segment[:1] == ";"
        name, mark, value = part.partition("=")
        if not mark and is_telling(part.partition(":")[0]):
            name, mark, value = part.partition(":")
        end = at + len(part)
        if mark and is_name(name):
            # In free text a path may be that of a file, as `date=2026-01-01/`.
            if is_target or is_parameter or is_telling(name) or is_opaque(value):
                yield Secret(end - len(value), end, PATH_PARAMETER, name)
        elif mark and (is_target or is_opaque(part)):
            yield Secret(at, end, PATH_PARAMETER, "")
        elif is_target and (is_opaque(part) or (is_parameter and not is_plain_word(part))):
            yield Secret(at, end, PATH_SEGMENT, "")


def _find_in_query(text: str, start: int) -> Iterator[Secret]:
    """Yield the values of a query, and of a fragment behind it; what has no name, or one that is none, as a whole."""
    for match in _PART.finditer(text, start):
        part = match[0]
        key, mark, value = part.partition("=")
        if mark and is_name(key) and not _is_padding(part, key, value):
            yield Secret(match.end() - len(value), match.end(), QUERY_VALUE, key)
        else:
            yield Secret(match.start(), match.end(), QUERY_VALUE, "")


def _is_padding(part: str, key: str, value: str) -> bool:
    """Tell whether an equals sign is the end of base64 rather than that of a key."""
    if value.strip("="):
        return False
    is_word = key == key.lower() and key.isascii() and key.replace("_", "").replace("-", "").isalpha()
    return bool(value) or (len(part) >= _PADDED and len(part) % 4 == 0 and not is_word)
