"""What the value of a variable in an access log can look like: as a pattern, and as sets of places in a line.

Two ways lead through a line that several variables could share among them. The pattern takes the first choice for each,
and never comes back to it. Where that leads nowhere, sets tell from which places the rest can still be matched; a set
of places is one number, bit ``n - p`` of it the place before character p of n, so that a step through it costs a few
operations on numbers, however many places it holds. Knows nothing of formats and entries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol

MOST_ITEMS: Final = 1024
"""Items of a list that is one value; an entry has no more tries."""

_DIGIT: Final = "[0-9]"
_PAIR: Final = re.compile(r"\\.", re.DOTALL)


class Line:
    """A line and where its characters stand, class by class.

    Parameters
    ----------
    text : str
        Without its end.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.n = len(text)
        self._marks: dict[str, int] = {}

    def marks(self, chars: str) -> int:
        """Return the places behind the characters of a class.

        Parameters
        ----------
        chars : str
            A character, or a class as regular expressions have it.

        Returns
        -------
        int
            As a set.
        """
        known = self._marks.get(chars)
        if known is None:
            known = self._marks[chars] = _marks(self.text, chars)
        return known

    def unescaped(self) -> int:
        """Return the places behind all characters but quotes that no backslash escapes."""
        known = self._marks.get("")
        if known is None:
            known = self._marks[""] = _marks(_PAIR.sub("xx", self.text), '[^"]')
        return known

    def within(self, places: int, first: int, last: int) -> int:
        """Return which of the places from `first` to `last` are in a set: bit 0 for `last`."""
        return (places >> (self.n - last)) & ((1 << (last - first + 1)) - 1)


def _marks(text: str, chars: str) -> int:
    if not text:
        return 0
    if len(chars) == 1 and ord(chars) > 255:
        return int("".join("1" if char == chars else "0" for char in text), 2)
    return int(text.encode("latin-1", "replace").translate(_table(chars)), 2)


@lru_cache(maxsize=256)
def _table(chars: str) -> bytes:
    pattern = re.compile(chars if len(chars) > 1 else re.escape(chars), re.ASCII)
    return bytes(ord("1") if pattern.fullmatch(chr(code)) else ord("0") for code in range(256))


def before_text(line: Line, places: int, text: str) -> int:
    """Return the places from which `text` leads to one of `places`."""
    for char in reversed(text):
        places = (places & line.marks(char)) << 1
    return places


def _before_run(places: int, marks: int) -> int:
    """Return the places from which characters of a class, or none, lead to one of `places`.

    A sum carries each place through the run that it ends (Cameron et al., Bitwise data parallelism in regular
    expression matching, 2014).
    """
    return (((places & marks) + marks) ^ marks) | places


class Shape(Protocol):
    """What a value can look like."""

    @property
    def pattern(self) -> str:
        """As a regular expression, whose first match is the one to be preferred."""

    def before(self, line: Line, places: int) -> int:
        """Return the places from which a value leads to one of `places`."""

    def spans(self, line: Line, at: int) -> list[tuple[int, int]]:
        """Return where a value that begins at `at` may end, first and last of each span, in rising order."""


@dataclass(frozen=True)
class Run:
    """Characters of a class; longest first.

    Parameters
    ----------
    chars : str
        As regular expressions have it.
    alone : bool
        Whether a dash may stand for it.
    is_lazy : bool
        Shortest first.
    """

    chars: str
    alone: bool = False
    is_lazy: bool = False
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile it once."""
        object.__setattr__(self, "_compiled", re.compile(f"{'-|' if self.alone else ''}{self.chars}*", re.ASCII))

    @property
    def pattern(self) -> str:
        """See `Shape`."""
        return self._compiled.pattern + "?" * self.is_lazy

    def before(self, line: Line, places: int) -> int:
        """See `Shape`."""
        found = _before_run(places, line.marks(self.chars))
        return found | (places & line.marks("-")) << 1 if self.alone else found

    def spans(self, line: Line, at: int) -> list[tuple[int, int]]:
        """See `Shape`."""
        match = self._compiled.match(line.text, at)
        return [(at, match.end() if match else at)]


class JsonText:
    """What stands between the quotes of a JSON string: it ends at a quote that no backslash escapes."""

    pattern = r'(?:[^"\\]|\\.)*'
    _compiled: Final = re.compile(pattern)

    def before(self, line: Line, places: int) -> int:
        """See `Shape`."""
        marks = line.unescaped()
        return _before_run(places & ~(marks << 1), marks)

    def spans(self, line: Line, at: int) -> list[tuple[int, int]]:
        """See `Shape`."""
        match = self._compiled.match(line.text, at)
        end = match.end() if match else at
        return [(end, end)]


class Decimal:
    """A number with or without a fraction, or a dash."""

    pattern = r"-|[0-9]*(?:\.[0-9]+)?"
    _whole: Final = re.compile(r"[0-9]*")
    _fraction: Final = re.compile(r"\.[0-9]+")

    def before(self, line: Line, places: int) -> int:
        """See `Shape`."""
        digits = line.marks(_DIGIT)
        fraction = before_text(line, _before_run((places & digits) << 1, digits), ".")
        return _before_run(places | fraction, digits) | (places & line.marks("-")) << 1

    def spans(self, line: Line, at: int) -> list[tuple[int, int]]:
        """See `Shape`."""
        if line.text.startswith("-", at):
            return [(at, at + 1)]
        match = self._whole.match(line.text, at)
        end = match.end() if match else at
        fraction = self._fraction.match(line.text, end)
        return [(at, end), (end + 2, fraction.end())] if fraction else [(at, end)]


class LocalTime:
    """nginx's ``$time_local``."""

    pattern = r"[0-9]{2}/[A-Za-z]{3}/[0-9]{4}:[0-9:]{8} [+-][0-9]{4}"
    _compiled: Final = re.compile(pattern)
    _chars: Final = (
        *(_DIGIT, _DIGIT, "/", "[A-Za-z]", "[A-Za-z]", "[A-Za-z]", "/", _DIGIT, _DIGIT, _DIGIT, _DIGIT, ":"),
        *("[0-9:]",) * 8,
        *(" ", "[+-]", _DIGIT, _DIGIT, _DIGIT, _DIGIT),
    )

    def before(self, line: Line, places: int) -> int:
        """See `Shape`."""
        for chars in reversed(self._chars):
            places = (places & line.marks(chars)) << 1
        return places

    def spans(self, line: Line, at: int) -> list[tuple[int, int]]:
        """See `Shape`."""
        match = self._compiled.match(line.text, at)
        return [(match.end(), match.end())] if match else []


@dataclass(frozen=True)
class Items:
    """A list as nginx writes it for several tries: ``, `` between tries, `` : `` between redirects; or nothing.

    Parameters
    ----------
    chars : str
        Characters of an item.
    alone : bool
        Whether a dash may stand for one.
    """

    chars: str
    alone: bool = False
    _item: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _between: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile it once."""
        object.__setattr__(self, "_item", re.compile(f"{self.chars}+{'|-' if self.alone else ''}", re.ASCII))
        object.__setattr__(self, "_between", re.compile(", | : "))

    @property
    def pattern(self) -> str:
        """See `Shape`."""
        item = self._item.pattern
        return f"(?:(?:{item})(?:(?:, | : )(?:{item}))*)?"

    def before(self, line: Line, places: int) -> int:
        """See `Shape`."""
        found = self._before_item(line, places)
        for _ in range(MOST_ITEMS):
            more = found | self._before_item(line, before_text(line, found, ", ") | before_text(line, found, " : "))
            if more == found:
                break
            found = more
        return found | places

    def _before_item(self, line: Line, places: int) -> int:
        marks = line.marks(self.chars)
        found = _before_run((places & marks) << 1, marks)
        return found | (places & line.marks("-")) << 1 if self.alone else found

    def spans(self, line: Line, at: int) -> list[tuple[int, int]]:
        """See `Shape`."""
        spans = [(at, at)]
        while len(spans) <= MOST_ITEMS and (item := self._item.match(line.text, at)):
            spans.append((at + 1, item.end()))
            if (between := self._between.match(line.text, item.end())) is None:
                break
            at = between.end()
        return spans
