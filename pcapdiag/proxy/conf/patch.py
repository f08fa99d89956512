"""Changes of an nginx configuration as a unified diff of the operator's own files, for ``patch``.

A change names a file, a line and what stands there; here it is put into the text of the file itself. Where that is not
certain (the directive stands twice on its line, a block is closed in the middle of one), there is no diff rather than
a wrong one. A diff quotes lines that nobody asked about: only directives that can hold no secret are quoted.
"""

from __future__ import annotations

import re
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import UsageError
from pcapdiag.proxy.conf.nginx_source import MOST_BYTES, dump_sections
from pcapdiag.proxy.conf.settings import ProxyKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.base.findings import Change

_CONTEXT: Final = 3
_QUOTED: Final = frozenset(
    {
        *("events", "http", "server", "upstream", "location", "listen", "server_name", "proxy_pass", "fastcgi_pass"),
        *("worker_processes", "worker_connections"),
        *("keepalive", "keepalive_timeout", "keepalive_requests", "keepalive_time", "zone", "least_conn", "ip_hash"),
        *("random", "hash", "proxy_http_version", "proxy_next_upstream", "proxy_next_upstream_tries"),
        *("proxy_next_upstream_timeout", "proxy_connect_timeout", "proxy_read_timeout", "proxy_send_timeout"),
        *("proxy_buffering", "proxy_request_buffering", "fastcgi_keep_conn", "fastcgi_next_upstream", "sendfile"),
    }
)
"""Directives that a diff may quote: none of them holds a password, a token or a path that tells something."""
_HARMLESS: Final = re.compile(
    r"proxy_set_header\s+(?:Host|Connection|Upgrade|X-Request-ID|X-Real-IP|X-Forwarded-\w+)"
    r"\s+(?:\"\"|''|\"?\$[a-z_]+\"?|\"?(?:keep-alive|upgrade|close)\"?)\s*;",
    re.IGNORECASE,
)
"""Fields that a diff may quote, for they hold nothing or a variable."""
_STATEMENT: Final = re.compile(r"[^;{}]*[;{}]")
_BRACES: Final = re.compile(r"\\.|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|#[^\n]*|[{}]", re.DOTALL)
_ONE_ARGUMENT: Final = frozenset({"keepalive"})
"""Directives of which only the first argument changes; ``local`` behind it stays."""


def unified_patch(changes: Sequence[Change], path: str) -> str:
    """Return the changes as a unified diff.

    Parameters
    ----------
    changes : sequence of Change
        Of one nginx configuration.
    path : str
        The configuration as the operator named it, or what ``nginx -T`` printed.

    Returns
    -------
    str
        What ``patch -p0`` takes, in the folder in which `path` means the file; empty where a change cannot be put into
        the text for certain, or would quote what may be secret, or is of another proxy.
    """
    if not changes or any(c.proxy != ProxyKind.NGINX.value or c.line < 1 for c in changes):
        return ""
    sections = dump_sections(_content(path))
    made: list[str] = []
    for file in dict.fromkeys(change.file for change in changes):
        before = sections.get(file, "") if sections else _content(file)
        after = _edited(before, [change for change in changes if change.file == file])
        if after in {"", before}:
            return ""
        made.append(_diff(before, after, file))
    return "".join(made) if all(made) else ""


def _content(path: str) -> str:
    """Return the text of a file with its own ends of lines; empty where it cannot be quoted letter by letter."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        msg = f"{path}: {error.strerror}; it was read a moment ago"
        raise UsageError(msg) from error
    try:
        return content.decode() if len(content) <= MOST_BYTES else ""
    except UnicodeDecodeError:
        return ""


def _edited(text: str, changes: Sequence[Change]) -> str:
    """Return a file with its changes made, from the last line to the first; empty where one has no certain place."""
    # What is new goes to the end of its block, whose lines are counted from its beginning.
    for change in sorted(changes, key=lambda c: -c.line):
        text = _with_change(text, change)
        if not text:
            return ""
    return text


def _with_change(text: str, change: Change) -> str:
    starts = _line_starts(text)
    if change.line > len(starts):
        return ""
    start = starts[change.line - 1]
    end = text.find("\n", start)
    line = (start, len(text) if end < 0 else end)
    if change.where.startswith("server ") and change.setting == "max_fails":
        return _with_parameter(text, line, change)
    if not change.is_new:
        return _replaced(text, line, change)
    if _opens_block(text, line):
        return _at_end_of_block(text, line, change)
    return _behind(text, line, change)


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _only_match(pattern: str, text: str, line: tuple[int, int]) -> re.Match[str] | None:
    """Return where a directive begins on a line, if it does so once, and not in a comment."""
    found = list(re.finditer(pattern, text[line[0] : line[1]]))
    if len(found) != 1 or "#" in text[line[0] : line[0] + found[0].start()]:
        return None
    return re.compile(pattern).match(text, line[0] + found[0].start())


def _replaced(text: str, line: tuple[int, int], change: Change) -> str:
    """Change the value of a directive, or take it out."""
    begin = _only_match(rf"(?<![\w.$-]){re.escape(change.setting)}(?=\s|$)", text, line)
    whole = re.compile(r"\S+\s+([^;{}#\"'\\]+);").match(text, begin.start()) if begin else None
    if whole is None:
        return ""
    if change.new:
        first, last = whole.span(1)
        if change.setting in _ONE_ARGUMENT:
            last = first + len(whole[1].split()[0])
        return text[:first] + change.new + text[last:]
    at, end = whole.span()
    is_alone = not text[line[0] : at].strip() and not text[end : _end_of_line(text, end)].strip()
    if is_alone:
        return text[: line[0]] + text[_end_of_line(text, end) + 1 :]
    return text[:at] + text[end:].removeprefix(" ")


def _with_parameter(text: str, line: tuple[int, int], change: Change) -> str:
    """Change a parameter of a server, or add it."""
    address = change.where.removeprefix("server ").partition(" in upstream ")[0]
    begin = _only_match(rf"(?<![\w.$-])server\s+{re.escape(address)}(?=[\s;])", text, line)
    whole = re.compile(r"server\s[^;{}#\"'\\]*;").match(text, begin.start()) if begin else None
    if whole is None:
        return ""
    said = whole[0]
    new, n = re.subn(r"(?<=\s)max_fails=\S*?(?=[\s;])", change.text, said)
    if not n:
        new = f"{said[:-1].rstrip()} {change.text};"
    return text[: whole.start()] + new + text[whole.end() :]


def _opens_block(text: str, line: tuple[int, int]) -> bool:
    return re.match(r"[^;#]*?(?<![\w.$-])upstream\s", text[line[0] : line[1]]) is not None


def _at_end_of_block(text: str, line: tuple[int, int], change: Change) -> str:
    """Put a directive before the brace that closes the block which begins on a line."""
    begin = _only_match(r"(?<![\w.$-])upstream(?=\s|$)", text, line)
    depth = 0
    for brace in _BRACES.finditer(text, begin.start()) if begin else ():
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if brace[0] == "}" and depth == 0:
            head = text[text.rfind("\n", 0, brace.start()) + 1 : brace.start()]
            if head.strip():
                return f"{text[: brace.start()].rstrip()} {change.text} {text[brace.start() :]}"
            at = brace.start() - len(head)
            return f"{text[:at]}{_indent_before(text, at, head)}{change.text}\n{text[at:]}"
    return ""


def _indent_before(text: str, at: int, closing: str) -> str:
    """Return how the directives before a closing brace are indented."""
    for said in reversed(text[:at].splitlines()):
        if said.strip() and not said.strip().endswith("{"):
            return said[: len(said) - len(said.lstrip())]
        if said.strip():
            break
    return closing + "    "


def _behind(text: str, line: tuple[int, int], change: Change) -> str:
    """Put a directive behind the one that passes requests on."""
    begin = _only_match(r"(?<![\w.$-])\w+_pass(?=\s|$)", text, line)
    whole = re.compile(r"\w+_pass\s+[^;{}#\"'\\]+;").match(text, begin.start()) if begin else None
    if begin is None or whole is None:
        return ""
    indent = text[line[0] : begin.start()]
    end = whole.end()
    if indent.strip() or text[end : _end_of_line(text, end)].strip():
        return f"{text[:end]} {change.text}{text[end:]}"
    return f"{text[:end]}\n{indent}{change.text}{text[end:]}"


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _diff(before: str, after: str, file: str) -> str:
    """Return the diff of one file, with as many lines around as may be quoted; empty where what changes may not be."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    if len(old) != before.count("\n") + (not before.endswith("\n")):
        return ""  # ends of lines that patch does not take for such
    for n_context in range(_CONTEXT, -1, -1):
        lines = list(unified_diff(old, new, file, file, n=n_context))
        if all(_is_quoted(line[1:]) for line in lines[2:] if not line.startswith("@@")):
            return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return ""


def _is_quoted(line: str) -> bool:
    """Tell whether a line holds nothing but directives that may be quoted, in characters that are plainly visible."""
    text = line.removesuffix("\n")
    if not text.replace("\t", "").isprintable() or "#" in text or not text.isascii():
        return False
    text = _HARMLESS.sub(";", text)
    rest = _STATEMENT.sub("", text).split()
    names = [part.split()[0] for part in _STATEMENT.findall(text) if part.split()]
    return all(name in _QUOTED or name in "{}" or name == ";" for name in [*names, *rest[:1]])
