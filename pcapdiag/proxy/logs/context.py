"""The context that nginx appends to a message: ``, client: ..., request: "...", upstream: "..."``.

Knows the fields and their order; nginx escapes nothing in them, so the first end that fits counts. Runs in linear time
on anything. Knows nothing of the message before it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Context(NamedTuple):
    """Fields as logged; empty where there is none."""

    client: str = ""
    server: str = ""
    request: str = ""
    subrequest: str = ""
    upstream: str = ""
    host: str = ""
    referrer: str = ""
    extra: tuple[tuple[str, str], ...] = ()


class UpstreamField(NamedTuple):
    """The parts of an ``upstream:`` field."""

    schema: str
    peer: str
    uri: str


_QUOTED: Final = ("request", "subrequest", "upstream", "host", "referrer")
_KNOWN: Final = frozenset(("client", "server", *_QUOTED))

# The shape of nearly every line: no quotes within values, nothing after the referrer.
_PLAIN: Final = re.compile(
    r', (?:udp )?client: ([^",]*)(?:, server: ([^",]*))?(?:, request: "([^"]*)")?(?:, subrequest: "([^"]*)")?'
    r'(?:, upstream: "([^"]*)")?(?:, host: "([^"]*)")?(?:, referrer: "([^"]*)")?'
)
_EXTRA_KEY: Final = re.compile(r', ([A-Za-z_][\w.-]{0,60}): "$')
_BYTES: Final = re.compile(r", bytes from/to client:(-?\d+/-?\d+), bytes from/to upstream:(-?\d+/-?\d+)$")
_CONTEXT: Final = re.compile(r", (?:udp )?client: ")
_REQUEST_END: Final = re.compile(r' HTTP/\d(?:\.\d)?"')
_WHOLE_PEER: Final = re.compile(r"\w+://(?:unix:[^:]*:|[^/]*/)")
_PEER_END: Final = re.compile("[/?]")
_CUT_KEY: Final = re.compile(r'",? ?\w*:? ?$')
_UNQUOTED_END: Final = re.compile(r', (?:server: |request: "|subrequest: "|upstream: "|host: "|referrer: ")')
_VALUE_ENDS: Final = {
    key: re.compile(rf'", (?=(?:{"|".join(_QUOTED[n + 1 :])}): ")') for n, key in enumerate(_QUOTED[:-1])
}


def find_context(text: str) -> int:
    """Return where the context begins, -1 if there is none.

    Parameters
    ----------
    text : str
        A record, from behind its ``*N``.

    Returns
    -------
    int
        Index of the first ``, client: ``.
    """
    match = _CONTEXT.search(text)
    return match.start() if match else -1


def parse_context(text: str) -> Context:
    """Return the fields of a context.

    Parameters
    ----------
    text : str
        From ``, client: `` to the end of the record, possibly cut there.

    Returns
    -------
    Context
        What could be read of it.
    """
    if match := _PLAIN.fullmatch(text):
        return Context._make((*match.groups(""), ()))
    return _parse_odd(text)


def _parse_odd(text: str) -> Context:
    extra: list[tuple[str, str]] = []
    if match := _BYTES.search(text):
        extra += [("bytes from/to upstream", match[2]), ("bytes from/to client", match[1])]
        text = text[: match.start()]
    text = _take_extra(text, extra)
    values = dict.fromkeys(_KNOWN, "")
    at = text.find(": ") + 2
    key = "client"
    while True:
        start = at
        if key in {"client", "server"}:
            end = _UNQUOTED_END.search(text, start)
            values[key] = text[start : end.start()] if end else text[start:].split(", ")[0].rstrip(",")
        else:
            end = _end_of_value(key, text, start)
            values[key] = text[start : end.start()] if end else _last_value(key, text, start)
        if end is None:
            break
        # The pattern of a value's end looks ahead at the next key, that of an unquoted one takes it along.
        colon = text.index(": ", end.start())
        key = text[text.rindex(", ", end.start(), colon) + 2 : colon]
        if values[key]:
            break
        at = colon + (2 if key == "server" else 3)
    return Context._make((*(values[name] for name in Context._fields[:-1]), tuple(reversed(extra))))


def _end_of_value(key: str, text: str, start: int) -> re.Match[str] | None:
    pattern = _VALUE_ENDS.get(key)
    if pattern is None:
        return None
    if key == "request" and (match := _REQUEST_END.search(text, start)):
        # No target holds a space, so this is the request line's end, whatever quotes come before.
        return pattern.match(text, match.end() - 1)
    return pattern.search(text, start)


def _last_value(key: str, text: str, start: int) -> str:
    """Return the value up to the end of the record, which may have been cut anywhere."""
    value = text[start:]
    if value.endswith('"'):
        return value[:-1]
    # Half an address would be another peer's.
    if key == "upstream" and not _WHOLE_PEER.match(value):
        return ""
    return _CUT_KEY.sub("", value, count=1)


def _take_extra(text: str, extra: list[tuple[str, str]]) -> str:
    """Move pairs with unknown keys from the end of `text` to `extra`, last first."""
    while len(extra) < 32 and text.endswith('"'):
        opening = text.rfind('"', 0, -1) + 1
        match = _EXTRA_KEY.search(text[max(0, opening - 70) : opening]) if opening else None
        if match is None or match[1] in _KNOWN:
            break
        extra.append((match[1], text[opening:-1]))
        text = text[: opening - len(match[0])]
    return text


def split_request(request: str) -> tuple[str, str, str]:
    """Return method, target and protocol of a request line; empty where it has none.

    Parameters
    ----------
    request : str
        As logged, possibly cut.

    Returns
    -------
    tuple of str
        Such as ``("GET", "/api", "HTTP/1.1")``.
    """
    method, _, rest = request.partition(" ")
    target, space, protocol = rest.rpartition(" ")
    if space and protocol.startswith("HTTP/"):
        return method, target, protocol
    return (method, rest, "") if rest else ("", method, "") if method.startswith("/") else (method, "", "")


def split_upstream(upstream: str) -> UpstreamField:
    """Return schema, peer and URI of an ``upstream:`` field.

    Parameters
    ----------
    upstream : str
        Such as ``http://10.1.1.1:80/api``, ``http://unix:/run/app.sock:/api``, ``10.1.1.1:53`` or ``http://block/``.

    Returns
    -------
    UpstreamField
        The schema without ``://``.
    """
    schema, separator, rest = upstream.partition("://")
    # A path may hold `://`; a schema holds only letters.
    if not separator or not schema.isalnum():
        schema, rest = "", upstream
    if rest.startswith("unix:"):
        path, _, uri = rest[5:].partition(":")
        return UpstreamField(schema, f"unix:{path}", uri)
    peer = _PEER_END.split(rest, 1)[0]
    return UpstreamField(schema, peer, rest[len(peer) :])
