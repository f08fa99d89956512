"""What containers, collectors, consoles and exports wrap around the lines of a log, taken off; parts joined again.

Knows wrappers whose end can be told without knowing the line inside; what stands before a record otherwise is searched
for in `heads`. Time is linear in the length of a line, memory is bounded.
"""

from __future__ import annotations

import json
import re
from html import unescape
from typing import TYPE_CHECKING, Final

from pcapdiag.proxy.logs.heads import ACCESS_HEAD, DATE, ERROR_HEAD, LEVELS, is_prefix, take_field
from pcapdiag.proxy.logs.lines import LONGEST_LINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ISO_STAMP: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)"
_WRAPPER: Final = re.compile(
    r"(?:\x1b\[[0-9;]*m)*"
    r"(?:\[pod/[^\]\s]+\] |[\w.-]+ +\| )?"  # kubectl logs --prefix, docker compose
    r"(?:\x1b\[[0-9;]*m)*"
    r"(?:"
    rf"(?P<time>{ISO_STAMP}) "  # kubectl logs --timestamps, docker logs -t
    r"(?:(?:stdout|stderr) (?P<part>[FP]) |(?P<tag>\S+ [\w./-]+(?:\[\d+\])?: ))?"  # CRI; journalctl, rsyslog
    r"|(?:<\d{1,3}>)?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (?:\S+ )?[\w./-]+(?:\[\d+\])?: "  # BSD syslog, journalctl
    rf"|<\d{{1,3}}>1 (?P<sent>{ISO_STAMP}) \S+ \S+ \S+ \S+ (?:-|\[[^\]]*\]) (?:\ufeff)?"  # RFC 5424
    r")?"
)
_WRAPPING: Final = re.compile(r"(?:\x1b|\[pod/|[\w.-]+ +\| |\d{4}-\d\d-\d\dT|<\d|[A-Z][a-z]{2} [ \d]\d )")
_DATED: Final = re.compile(r"[ \t]{1,16}\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[", re.ASCII)
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[mK]")
"""What consoles and `grep --color` write into a line; servers escape such bytes of what they log."""
_RECORD: Final = re.compile(rf"{DATE} \[(?:{LEVELS})\] ", re.ASCII)
_BETWEEN: Final = re.compile(r"--|==> .* <==")
"""What grep writes between groups of lines, and tail before those of a file."""

_TEXT_KEYS: Final = ("log", "MESSAGE", "message", "msg", "textPayload", "@message", "line", "body", "_raw", "content")
_TIME_KEYS: Final = ("time", "timestamp", "@timestamp")
_DEEPEST: Final = 8
_MOST_LAYERS: Final = 3
_OBJECT_BEHIND: Final = re.compile(r'(?<![^\s,:|])"?(?=\{"[^{}])')
_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
_MEMBER: Final = re.compile(rf'\s*"([^"\\]{{1,60}})"\s*(?::|=>)\s*({_QUOTED}),?\s*')
_ELEMENT: Final = re.compile(rf"\s*({_QUOTED}),?\s*")
_SKELETON: Final = re.compile(rf"\s*(?:[\[\]{{}},]+|{_QUOTED}(?:\s*(?::|=>).*)?,?|[-+.\w]+,?)\s*")
_FLUENT: Final = re.compile(rf'\[\d+\] \S+: \[[^{{]{{0,80}}(?:\{{\}}\], )?\{{.*?"(?:{"|".join(_TEXT_KEYS)})"=>"')
"""Fluent Bit's output to a console: number, tag, time, then a hash in Ruby's notation, whose quotes may be bare."""
_FLUENT_END: Final = re.compile(r'(?<!\\)"(?:, "[\w.@-]+"=>|\}+\]?\s*$)')
_OPENING: Final = re.compile(r"\s*[\[{]\s*")
_HELD: Final = re.compile(r'(?<!\\)("\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(?:[^"\\]|\\.)*+")', re.ASCII)
_WEB_QUOTE: Final = re.compile("&(?:quot|#34|#x22);", re.IGNORECASE)


class Unwrapper:
    """Takes off what was wrapped around the lines of one log, and joins the parts of long ones.

    Parameters
    ----------
    is_own : callable, optional
        Tells a line of the log, which may itself look like a wrapper: an object of JSON, a stamp before words.

    Notes
    -----
    `time` is what the runtime stamped the latest line with, as text; empty where it did not.

    Examples
    --------
    >>> Unwrapper().unwrap("2026-11-20T23:56:28.1Z stderr F text")
    'text'
    """

    def __init__(self, is_own: Callable[[str], bool] | None = None) -> None:
        self.time = ""
        self._is_own = is_own
        self._parts: list[str] = []
        self._n_chars = 0
        self._is_spread = False
        self._has_tag = False

    def unwrap(self, line: str) -> str | None:
        """Return the text inside; None if more of it follows on the next line.

        Parameters
        ----------
        line : str
            As in the file.

        Returns
        -------
        str or None
            The same if nothing is wrapped around it; several lines where it holds several records; empty where it is
            only what an export writes between two.
        """
        self.time = ""
        text, is_part = _uncoloured(line), False
        for layer in range(_MOST_LAYERS):
            if self._is_own is not None and self._is_own(text):
                break
            inner, is_cut = self._peel(text, layer)
            is_part = is_part or is_cut
            if inner == text:
                break
            text = _uncoloured(inner)
        # A pager or a terminal's column puts blanks before each line; a record that goes on may begin with them.
        if text[:1] in {" ", "\t"} and _DATED.match(text):
            text = text.lstrip(" \t")
        text = _plain_quotes(text)
        if is_part and self._n_chars + len(self._parts) < LONGEST_LINE:
            self._parts.append(text)
            self._n_chars += len(text)
            return None
        return self.rest() + text if self._parts else text

    def rest(self) -> str:
        """Return what waits for an end that did not come."""
        rest = "".join(self._parts)
        self._parts.clear()
        self._n_chars = 0
        return rest

    def _peel(self, text: str, layer: int) -> tuple[str, bool]:
        """Return what one wrapper holds, and whether more follows; the same text if there is none."""
        if _WRAPPING.match(text):
            # One of the alternatives of the pattern is the empty text, so that it always matches.
            end, is_part = 0, False
            if match := _WRAPPER.match(text):
                end, is_part = self._end_of(match), match["part"] == "P"
                self.time = match["time"] or match["sent"] or self.time
            return text[end:], is_part
        if text[:1] and text[0] in '{[" \t]}' and (found := self._of_export(text, layer)) is not None:
            return found
        if _BETWEEN.fullmatch(text):
            return "", False
        return self._of_object_behind(text), False

    def _end_of(self, match: re.Match[str]) -> int:
        """Return where the text begins: a name and a colon stand before it in all lines of a log, or are its own."""
        if self._is_own is not None and match["time"] and self._is_own(match.string[match.start("time") :]):
            return match.start("time")
        if match["tag"] is not None:
            self._has_tag = self._has_tag or match.string[match.end() : match.end() + 1].isdecimal()
            return match.end() if self._has_tag else match.start("tag")
        return match.end()

    def _of_export(self, line: str, layer: int) -> tuple[str, bool] | None:
        """Return what a line of JSON holds: an object, an array, or a line of either; None if it is none of them."""
        if _OPENING.fullmatch(line) and not layer:
            self._is_spread = True
            return "", False
        if line.lstrip()[:1] == "{" or line[:2] in {"[{", '["', "[["}:
            try:
                values = json.loads(line.rstrip().removesuffix(","))
            except (ValueError, RecursionError):
                # Half of one that was too long. Quotes within its strings are escaped.
                quoted = _HELD.findall(line) if '":' in line else []
                held = [text.rstrip() for text in map(_string, quoted) if text]
                return ("\n".join(held), False) if held else None
            return self._of_values(values, line, layer)
        if layer:
            return None
        member = _MEMBER.fullmatch(line)
        string = member[2] if member else element[1] if (element := _ELEMENT.fullmatch(line)) else ""
        if string:
            text = _string(string)
            if _is_record(text) or (self._is_spread and member is not None and member[1] in _TEXT_KEYS):
                self._is_spread = True
                return text.rstrip("\r\n"), False
        return ("", False) if self._is_spread and _SKELETON.fullmatch(line) else None

    def _of_values(self, values: object, line: str, layer: int) -> tuple[str, bool] | None:
        texts = list(_texts(values, _DEEPEST))
        # What a program wrote as JSON into a wrapped line is its own, unless that is a wrapper, too.
        if (layer and not any(map(_is_record, texts))) or not texts:
            return None
        is_part = False
        if isinstance(values, dict):
            self.time = next((t for key in _TIME_KEYS if isinstance(t := values.get(key), str)), self.time)
            # Docker keeps the line's own end; where it is missing, the line goes on in the next object.
            log = values.get("log")
            is_part = log == texts[0] and "stream" in values and not texts[0].endswith("\n") and len(texts[0]) >= 16000
        text = "\n".join(text.rstrip("\r\n") for text in texts)
        return (text, is_part) if text != line else None

    def _of_object_behind(self, text: str) -> str:
        """Return the records that an object holds which stands behind something else, or is a field of a table."""
        if (begin := _FLUENT.match(text)) and (end := _FLUENT_END.search(text, begin.end())):
            held = text[begin.end() : end.start()]
            return (_string(f'"{held}"') or held).rstrip("\r\n")
        inner = object_behind(text)
        # Where it holds none, it may be part of what a record says.
        found = self._of_export(inner, 1) if inner else None
        return found[0] if found is not None else text


def object_behind(text: str) -> str:
    """Return the JSON object that stands behind names and stamps, or is a field of a table; empty if none does.

    Parameters
    ----------
    text : str
        A line.

    Returns
    -------
    str
        From its bracket on.
    """
    match = _OBJECT_BEHIND.search(text, 0, 400)
    if match is None or not match.end() or not is_prefix(text[: match.start()]) or _RECORD.search(text, 0, match.end()):
        return ""
    is_field = match[0] == '"'
    is_odd = text.count('"', 0, match.end()) % 2 == 1
    if is_field != is_odd or is_field != text.startswith('{""', match.end()):
        return ""
    inner = take_field(text[match.end() :])[0] if is_field else text[match.end() :]
    return inner if inner.rstrip().endswith("}") else ""


def _texts(values: object, depth: int) -> Iterator[str]:
    """Yield the lines that values of JSON hold: under a key that is known to hold them, or records anywhere else.

    An object that has a text of its own says nothing else: what is beside it, it only quotes.
    """
    if isinstance(values, str):
        if _is_record(values):
            yield values
    elif not depth:
        return
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value, depth - 1)
    elif isinstance(values, dict):
        text = next((t for key in _TEXT_KEYS if (t := _text_of(values.get(key))) is not None), None)
        if text is not None:
            yield text
            return
        for value in values.values():
            if not isinstance(value, int | float):
                yield from _texts(value, depth - 1)


def _text_of(value: object) -> str | None:
    """Return a text; journald writes one that is not printable, such as one in colours, as an array of its bytes."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(byte, int) and 0 <= byte <= 255 for byte in value):
        return None
    return bytes(value).decode(errors="replace")


def _uncoloured(text: str) -> str:
    return _COLOUR.sub("", text) if "\x1b" in text else text


def _is_record(text: str) -> bool:
    return ERROR_HEAD.match(text) is not None or ACCESS_HEAD.match(text) is not None


def _string(quoted: str) -> str:
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError:
        return ""


def _plain_quotes(text: str) -> str:
    """Return a line with its own quotes, if a web page or a program's source has written all of them otherwise."""
    if '"' not in text:
        return unescape(text) if _WEB_QUOTE.search(text) else text
    if '\\"' in text and text.count('"') == text.count('\\"'):
        return _string(f'"{text}"') or text
    return text
