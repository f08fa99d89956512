"""Compiles nginx's ``log_format`` to a regular expression, and lists the formats that are known by heart.

Knows which characters the value of a variable can hold and how nginx escapes it; knows nothing of entries.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Final, NamedTuple

from pcapdiag.base.errors import UsageError
from pcapdiag.proxy.logs.lines import decode_line
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

_NUMBER: Final = r"[0-9]*|-"
_DECIMAL: Final = r"[0-9]*(?:\.[0-9]+)?|-"
_LISTS: Final = {
    "upstream_addr": r'[^\s,"]+',
    "upstream_status": "[0-9]+|-",
    **dict.fromkeys(("upstream_bytes_received", "upstream_bytes_sent", "upstream_response_length"), "[0-9]+|-"),
    **dict.fromkeys(
        *(("upstream_response_time", "upstream_connect_time", "upstream_header_time", "upstream_queue_time"),),
        r"[0-9.]+|-",
    ),
}
_SHAPES: Final = {
    **dict.fromkeys(("connection", "connection_requests", "status", "body_bytes_sent", "bytes_sent", "pid"), _NUMBER),
    **dict.fromkeys(("request_length", "remote_port", "server_port", "content_length"), _NUMBER),
    **dict.fromkeys(("msec", "request_time", "tcpinfo_rtt"), _DECIMAL),
    "time_local": r"[0-9]{2}/[A-Za-z]{3}/[0-9]{4}:[0-9:]{8} [+-][0-9]{4}",
    **dict.fromkeys(("time_iso8601", "request_id", "req_id", "kong_request_id", "remote_addr", "scheme"), r"[^\s\"]*"),
    **dict.fromkeys(("server_protocol", "request_method", "server_addr", "hostname", "host", "http_host"), r"[^\s\"]*"),
    **dict.fromkeys(("server_name", "binary_remote_addr", "realip_remote_addr", "pipe"), r"[^\s\"]*"),
    **{name: rf"(?:(?:{item})(?:(?:, | : )(?:{item}))*)?" for name, item in _LISTS.items()},
}

# With several values that may hold their own separator a hostile line costs the square of its length.
_LONGEST_AMBIGUOUS: Final = 4096


class LogFormat(NamedTuple):
    """A compiled format."""

    pattern: re.Pattern[str]
    plan: Plan
    escape: str
    longest: int

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
        if len(line) > self.longest or (match := self.pattern.fullmatch(line)) is None:
            return None
        values = values_by(self.plan, match.groups())
        if "\\" in line:
            return [_unescape(value, self.escape) if "\\" in value else value for value in values]
        return values


@lru_cache(maxsize=64)
def compile_format(text: str) -> LogFormat:
    """Compile a log format.

    Parameters
    ----------
    text : str
        The format as in the configuration, with its variables; with ``escape=json`` before it, or as the whole
        directive ``log_format name '...' '...';`` if it is so written there. Or the name of a known one.

    Returns
    -------
    LogFormat
        Ready to match lines.

    Raises
    ------
    UsageError
        It holds no variable.
    """
    escape, text = _unquote(KNOWN_FORMATS.get(text.strip(), text))
    parts = []
    names = []
    n_free = at = 0
    variables = list(_VARIABLE.finditer(text))
    if not variables:
        msg = f"a log format without variables cannot be read back: {text!r}; known by name: {', '.join(KNOWN_FORMATS)}"
        raise UsageError(msg)
    for variable in variables:
        parts.append(re.escape(text[at : variable.start()]))
        before, after = text[variable.start() - 1 : variable.start()], text[variable.end() : variable.end() + 1]
        name = variable[1] or variable[2]
        names.append(name)
        shape = _shape(name, escape, quoted=before == after == '"', is_last=not after)
        n_free += shape == ".*?"
        parts.append(f"({shape})")
        at = variable.end()
    # Some add a line's end or a space that editors take away.
    parts.append(re.escape(text[at:].rstrip()) + r"\s*")
    longest = _LONGEST_AMBIGUOUS if n_free > 1 else 1 << 16
    return LogFormat(re.compile("".join(parts)), plan_of(tuple(names)), escape, longest)


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


def _shape(name: str, escape: str, *, quoted: bool, is_last: bool) -> str:
    if name in _SHAPES:
        return _SHAPES[name]
    if is_last:
        return ".*"
    if quoted and escape == "default":
        return r'[^"]*'
    if quoted and escape == "json":
        return r'(?:[^"\\]|\\.)*'
    return ".*?"


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
