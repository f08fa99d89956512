"""Compiles nginx's ``log_format``, takes lines apart by it, and lists the formats that are known by heart.

Knows which shape the value of a variable has and how nginx escapes it; knows nothing of entries. A format is the
operator's and a line is anybody's: however many ways there are to share a line among the variables, its time is that
of its length.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Final, NamedTuple

from pcapdiag.base.errors import UsageError
from pcapdiag.proxy.logs.lines import decode_line
from pcapdiag.proxy.logs.shapes import Decimal, Items, JsonText, Line, LocalTime, Run, Shape, before_text
from pcapdiag.proxy.logs.variables import Plan, plan_of, values_by

COMBINED: Final = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
)
KNOWN_FORMATS: Final = {
    "combined": COMBINED,
    "common": '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent',
    "main": f'{COMBINED} "$http_x_forwarded_for"',
    "timed": (
        f'{COMBINED} "$http_x_forwarded_for" rt=$request_time uct="$upstream_connect_time" '
        'uht="$upstream_header_time" urt="$upstream_response_time"'
    ),
    "ingress-nginx": (
        f"{COMBINED} $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] "
        "$upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id"
    ),
    "kong": f'{COMBINED} kong_request_id: "$kong_request_id"',
    "apisix": (
        '$remote_addr - $remote_user [$time_local] $http_host "$request" $status $body_bytes_sent $request_time '
        '"$http_referer" "$http_user_agent" $upstream_addr $upstream_status $upstream_response_time '
        '"$upstream_scheme://$upstream_host$upstream_uri"'
    ),
}

_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
_DIRECTIVE: Final = re.compile(r"\s*log_format\s+(\S+)\s+(.*?);?\s*", re.DOTALL)
_QUOTED: Final = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(\S+)""", re.DOTALL)
_ESCAPE: Final = re.compile(r"\s*escape=(default|json|none)\s+")
_HEX: Final = re.compile(rb"\\x([0-9A-Fa-f]{2})|\\([\"\\])")

_NUMBER: Final = Run("[0-9]", alone=True)
_WORD: Final = Run(r"[^\s\"]")
_REST: Final = Run(r"[^\n]")
_ANYTHING: Final = Run(r"[^\n]", is_lazy=True)
_QUOTED_TEXT: Final = Run('[^"]')
_JSON_TEXT: Final = JsonText()
_SHAPES: Final[dict[str, Shape]] = {
    **dict.fromkeys(("connection", "connection_requests", "status", "body_bytes_sent", "bytes_sent", "pid"), _NUMBER),
    **dict.fromkeys(("request_length", "remote_port", "server_port", "content_length"), _NUMBER),
    **dict.fromkeys(("msec", "request_time", "tcpinfo_rtt"), Decimal()),
    "time_local": LocalTime(),
    **dict.fromkeys(("time_iso8601", "request_id", "req_id", "kong_request_id", "remote_addr", "scheme"), _WORD),
    **dict.fromkeys(("server_protocol", "request_method", "server_addr", "hostname", "host", "http_host"), _WORD),
    **dict.fromkeys(("server_name", "binary_remote_addr", "realip_remote_addr", "pipe"), _WORD),
    "upstream_addr": Items(r'[^\s,"]'),
    "upstream_status": Items("[0-9]", alone=True),
    **dict.fromkeys(
        ("upstream_bytes_received", "upstream_bytes_sent", "upstream_response_length"), Items("[0-9]", alone=True)
    ),
    **dict.fromkeys(
        ("upstream_response_time", "upstream_connect_time", "upstream_header_time", "upstream_queue_time"),
        Items("[0-9.]", alone=True),
    ),
}

_LONGEST: Final = 1 << 16
_BLANKS: Final = " \t\n\r\f\v"  # what \s is in ASCII


class CompiledFormat(NamedTuple):
    """A compiled format.

    Attributes
    ----------
    pattern : Pattern
        Takes the first choice for each value and never another, so that its time is that of the line's length.
    shapes : tuple of Shape
        Of the values.
    texts : tuple of str
        What stands before the first value, between them, and behind the last.
    """

    pattern: re.Pattern[str]
    shapes: tuple[Shape, ...]
    texts: tuple[str, ...]
    plan: Plan
    escape: str

    def match(self, line: str) -> list[str] | None:
        """Return the values of a line by slot, None if it has another format.

        Parameters
        ----------
        line : str
            A whole line.

        Returns
        -------
        list of str or None
            See `variables.SLOTS`.
        """
        if len(line) > _LONGEST:
            return None
        match = self.pattern.fullmatch(line)
        found = match.groups() if match is not None else self._search(line)
        if found is None:
            return None
        values = values_by(self.plan, found)
        if "\\" in line:
            return [_unescape(value, self.escape) if "\\" in value else value for value in values]
        return values

    def _search(self, text: str) -> list[str] | None:
        """Return the values that backtracking would find first; in time of the line's length as well."""
        if not self._may_fit(text):
            return None
        line = Line(text)
        end = len(text.rstrip(_BLANKS))
        places = (1 << (line.n - end + 1)) - 1
        sets = []
        for shape, behind in zip(reversed(self.shapes), reversed(self.texts), strict=False):
            sets.append(before_text(line, places, behind))
            places = shape.before(line, sets[-1])
        if not before_text(line, places, self.texts[0]) >> line.n & 1:
            return None
        values = []
        at = len(self.texts[0])
        for shape, behind in zip(self.shapes, self.texts[1:], strict=True):
            stop = _end_of(line, shape, at, sets.pop())
            values.append(text[at:stop])
            at = stop + len(behind)
        return values

    def _may_fit(self, line: str) -> bool:
        """Tell whether the texts between the values stand in this order in a line: most that do not fit lack one."""
        at = 0
        for text in self.texts:
            if (at := line.find(text, at)) < 0:
                return False
            at += len(text)
        return line.startswith(self.texts[0])


def _end_of(line: Line, shape: Shape, at: int, places: int) -> int:
    """Return where the value that begins at `at` ends: one of `places`, the first in the order that its shape has."""
    for first, last in reversed(shape.spans(line, at)):
        if found := line.within(places, first, last):
            bit = found if isinstance(shape, Run) and shape.is_lazy else found & -found
            return last - bit.bit_length() + 1
    msg = f"no value of {shape} ends where it must"
    raise AssertionError(msg)


@lru_cache(maxsize=64)
def compile_format(text: str) -> CompiledFormat:
    """Compile a log format.

    Parameters
    ----------
    text : str
        The format as in the configuration, with its variables; with ``escape=json`` before it, or as the whole
        directive ``log_format name '...' '...';`` if it is so written there. Or the name of a known one.

    Returns
    -------
    CompiledFormat
        Ready to match lines.

    Raises
    ------
    UsageError
        It holds no variable.
    """
    escape, text = _unquote(KNOWN_FORMATS.get(text.strip(), text))
    names, shapes, texts = [], [], []
    at = 0
    variables = list(_VARIABLE.finditer(text))
    if not variables:
        msg = f"a log format without variables cannot be read back: {text!r}; known by name: {', '.join(KNOWN_FORMATS)}"
        raise UsageError(msg)
    for variable in variables:
        texts.append(text[at : variable.start()])
        before, after = text[variable.start() - 1 : variable.start()], text[variable.end() : variable.end() + 1]
        name = variable[1] or variable[2]
        names.append(name)
        shapes.append(_shape(name, escape, quoted=before == after == '"', is_last=not after))
        at = variable.end()
    # Some add a line's end or a space that editors take away.
    texts.append(text[at:].rstrip())
    ends = [re.escape(behind) for behind in texts[1:]]
    ends[-1] += r"\s*\Z"
    parts = [f"(?>({shape.pattern}){end})" for shape, end in zip(shapes, ends, strict=True)]
    pattern = re.compile(re.escape(texts[0]) + "".join(parts), re.ASCII)
    return CompiledFormat(pattern, tuple(shapes), tuple(texts), plan_of(tuple(names)), escape)


def _unquote(text: str) -> tuple[str, str]:
    """Return the way of escaping and the format itself."""
    escape = "default"
    directive = _DIRECTIVE.fullmatch(text)
    if directive:
        text = directive[2]
    if match := _ESCAPE.match(text):
        escape, text = match[1], text[match.end() :]
    if directive or match:
        quoted = (
            _QUOTED.findall(text)
            if text.lstrip()[:1] in {"'", '"'} and (directive or text.rstrip()[-1:] == "'")
            else []
        )
        if quoted:
            text = "".join(re.sub(r"\\(['\"\\])", r"\1", a or b) or c for a, b, c in quoted)
    return escape, text


def _shape(name: str, escape: str, *, quoted: bool, is_last: bool) -> Shape:
    if name in _SHAPES:
        return _SHAPES[name]
    if is_last:
        return _REST
    if quoted and escape == "default":
        return _QUOTED_TEXT
    if quoted and escape == "json":
        return _JSON_TEXT
    return _ANYTHING


def _unescape(value: str, escape: str) -> str:
    """Return a value as it was before nginx escaped it."""
    if escape == "json":
        try:
            text = json.loads(f'"{value}"')
        except ValueError:
            return value
        return text if isinstance(text, str) else value
    if escape == "none":
        return value
    raw = value.encode("utf-8", "surrogateescape")
    return decode_line(_HEX.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1] else match[2], raw))
