"""Where free text holds secrets: lines of logs, what a proxy or an application says, configuration, our own prose.

Nobody knows the grammar of such a text; so it is taken apart into words, pairs and quotations, and a value is shown if
its name does not tell that it is a secret and it looks like something that people write.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pcapdiag.privacy.names import KNOWN_TOKEN, is_opaque, is_telling
from pcapdiag.privacy.secret import LOG_VALUE, TOKEN, Secret, find_decoded
from pcapdiag.privacy.urls import find_in_target, find_in_word

if TYPE_CHECKING:
    from collections.abc import Iterator

# Words without any of these hold nothing that the functions below would find, but for tokens.
_SUSPICIOUS: Final = re.compile(
    r"[=?#@%\\;]|: ?\S|//|eyJ|_|[A-Za-z0-9]{16}|-----|(?i:bearer|basic|digest|negotiate|auth)"
)

_NAME: Final = r"(?<![\w.$-])(?P<name>[\w.$\[\]-]++)"
# `Cookie: a=b; c=d` goes on to the end of the quotation or of the line, `token=a` to that of the word.
_REST: Final = re.compile(r"[^\"'\r\n]+")
_FIELD: Final = re.compile(_NAME + r"\\?[\"']?\s?:\s?\\?[\"']?")
_PAIR: Final = re.compile(_NAME + r"\\?[\"']? ?=>? ?(?:\\?[\"'](?P<quoted>[^\"']*+)|(?P<bare>[^\s&;,\"'<>]++))")
_SCHEME: Final = re.compile(
    r"(?<![A-Za-z])(?P<scheme>(?i:bearer|basic|digest|negotiate|ntlm))[ +\0]{1,2}"
    r"(?P<secret>[\w+/=.~-]{6,}+[^\"'\r\n]*+)"
)
_TOO_PLAIN: Final = re.compile(r"[a-z]{1,20}(?:[ ,.:;)-].*)?", re.DOTALL)
# nginx: client sent invalid header line: "Name: value".
_INVALID_FIELD: Final = re.compile(r"header(?: line)?: \"(?P<name>[^\":]{0,64}):? ?(?P<secret>[^\"]*)")
_QUOTED_REQUEST: Final = re.compile(r"\"[A-Z]{3,16} (?P<target>[^\"]*?) HTTP/[0-9.]{1,3}\"")
_QUOTED_URL: Final = re.compile(r"\"(?P<target>(?:[a-z]{2,10}:/|/)[^\"]*)\"")
_WORD: Final = re.compile(r"[^\s\"'<>()]+")
# Configuration: `proxy_set_header Authorization "Basic ..."`, `fastcgi_param DB_PASSWORD ...`, `set $key ...`.
_DIRECTIVE: Final = re.compile(
    r"(?<![\w.])(?:(?:proxy|grpc)_set_header|add_header|more_set_\w{1,20}|(?:fastcgi|uwsgi|scgi)_param|set|env"
    r"|http-request set-header)"
    r" {1,8}[\"']?(?P<name>[\w$-]{1,64})[\"']? {1,8}(?P<secret>[^;\r\n]+)"
)
_COMMAND: Final = re.compile(
    r"(?<![\w.])(?:AUTH|requirepass|masterauth|(?i:identified by|password)(?= ['\"])) {1,4}"
    r"(?P<secret>[^\s;,]+(?: [^\s;,]+)?)"
)
_HARMLESS_VALUE: Final = re.compile(r"\$\{?\w+\}?|\"\"|''|close|upgrade|keep-alive|on|off|\*+", re.IGNORECASE)
_READABLE: Final = re.compile(
    r"-?[0-9][0-9.,:/T+-]{0,40}[A-Za-z%]{0,4}|[A-Za-z_*.-]{1,40}|\[?[0-9A-Fa-f:.]{3,45}\]?(?::[0-9]{1,5})?|[\w.-]{1,60}:[0-9]{1,5}"
    r"|[A-Za-z]{1,20}[0-9]{1,4}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[/$({].*|\*+",
    re.DOTALL,
)
_IDENTIFIES: Final = re.compile(
    r"(?i)(?:^|[_.-])(?:[a-z]{0,12}(?:request|trace|correlation|span|req|conn|r)_?)?-?u?id$|etag|hash|sha|commit|version"
)
_SHORT: Final = 8


def find_in_text(text: str) -> list[Secret]:
    """Return where free text, such as a log message, holds what looks like a secret, from left to right.

    Parameters
    ----------
    text : str
        One line, or several.

    Returns
    -------
    list of Secret
        They do not overlap.
    """
    if not _SUSPICIOUS.search(text):
        return []
    return find_decoded(text, _find)


def _find(text: str) -> Iterator[Secret]:
    for match in KNOWN_TOKEN.finditer(text):
        yield Secret(*match.span("secret"), TOKEN, "")
    for match in _SCHEME.finditer(text):
        if not (match["scheme"].islower() and _TOO_PLAIN.fullmatch(match["secret"])):
            yield Secret(*match.span("secret"), LOG_VALUE, "")
    for match in _INVALID_FIELD.finditer(text):
        yield Secret(*match.span("secret"), LOG_VALUE, match["name"].lower())
    for match in _DIRECTIVE.finditer(text):
        if is_telling(match["name"]) and not _HARMLESS_VALUE.fullmatch(match["secret"].strip()):
            yield Secret(*match.span("secret"), LOG_VALUE, match["name"].lower())
    for match in _COMMAND.finditer(text):
        yield Secret(*match.span("secret"), LOG_VALUE, "")
    yield from _find_pairs(text)
    for pattern in (_QUOTED_REQUEST, _QUOTED_URL):
        for match in pattern.finditer(text):
            at = match.start("target")
            yield from (s._replace(start=s.start + at, end=s.end + at) for s in find_in_target(match["target"]))
    for match in _WORD.finditer(text):
        word, at = match[0], match.start()
        if "/" in word or "?" in word or ("@" in word and ":" in word) or ("#" in word and "=" in word):
            word = word if "/" in word or "?" in word or "#" in word else ""
            yield from (s._replace(start=s.start + at, end=s.end + at) for s in find_in_word(word))


def _find_pairs(text: str) -> Iterator[Secret]:
    """Yield the values of fields and pairs whose names tell of secrets, and those that nobody would write by hand."""
    for match in _FIELD.finditer(text):
        if is_telling(match["name"]) and (rest := _REST.match(text, match.end())):
            yield Secret(*rest.span(), LOG_VALUE, match["name"].lower())
    for pair in _PAIR.finditer(text):
        which = "quoted" if pair["quoted"] is not None else "bare"
        name, value, span = pair["name"], str(pair[which]), pair.span(which)
        if is_telling(name):
            if not _HARMLESS_VALUE.fullmatch(value):
                yield Secret(*span, LOG_VALUE, name.lower())
        elif _IDENTIFIES.search(name):
            continue
        elif is_opaque(value) or (which == "bare" and len(value) >= _SHORT and _is_made_up(value)):
            yield Secret(*span, LOG_VALUE, name.lower())


def _is_made_up(value: str) -> bool:
    """Tell whether a value has letters and digits as nothing has that people or programs write to be read."""
    value = value.partition("/")[0]  # a folder `date=2026-01-01/`, and what lies in it
    is_mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return is_mixed and not _READABLE.fullmatch(value)
