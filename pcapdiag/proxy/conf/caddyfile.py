"""A Caddyfile as directives within directives, each with its line. Knows its syntax and no directive but ``import``.

As in Caddy's documentation ("Caddyfile Concepts"): words by blanks, quotes, backquotes, comments, blocks whose brace
ends a line, snippets. Linear in the length of the file; what snippets unfold to is bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|`[^`]*`?|[^\s]+')
_PROXYING: Final = re.compile(r"\s*(?:reverse_proxy|php_fastcgi)\s+[^\s;]|\s*(?:reverse_proxy|php_fastcgi)\s*\{?\s*$")
_MOST_DEPTH: Final = 50
_MOST_UNFOLDED: Final = 100_000


@dataclass(slots=True)
class CaddyLine:
    """One line: its words, where it stands, and the lines of its block."""

    words: list[str]
    source: str
    inner: list[CaddyLine] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its first word; empty for a block without one."""
        return self.words[0] if self.words else ""


def is_caddyfile(text: str) -> bool:
    """Whether a text passes requests on as a Caddyfile does, and no line ends as nginx's do."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return any(map(_PROXYING.match, lines)) and not any(line.rstrip().endswith(";") for line in lines)


def read_caddyfile(text: str, path: str) -> list[CaddyLine]:
    """Return the directives of a Caddyfile, with snippets put where they are imported.

    Parameters
    ----------
    text : str
        The file.
    path : str
        Its name, for sources.

    Returns
    -------
    list of CaddyLine
        Those outside of any block: sites by their addresses, the global options without a word, or, where a file has
        one site without braces, its addresses and what belongs to it beside each other. What closes too much is left
        out, and blocks deeper than 50 are flat.
    """
    root = CaddyLine([], path)
    open_: list[CaddyLine] = [root]
    for number, line in enumerate(text.split("\n"), 1):
        words = list(_words(line))
        if words == ["}"]:
            if len(open_) > 1:
                open_.pop()
            continue
        opens = bool(words) and words[-1] == "{"
        if not words:
            continue
        made = CaddyLine(words[:-1] if opens else words, f"{path}:{number}")
        open_[-1].inner.append(made)
        if opens:
            open_.append(made if len(open_) < _MOST_DEPTH else open_[-1])
    snippets = {d.words[0][1:-1]: d for d in root.inner if len(d.words) == 1 and d.words[0].startswith("(")}
    top = [d for d in root.inner if d.words[:1] not in [[f"({name})"] for name in snippets]]
    left = [_MOST_UNFOLDED]
    return _unfolded(top, snippets, left, 0)


def every(directives: list[CaddyLine]) -> Iterator[tuple[tuple[CaddyLine, ...], CaddyLine]]:
    """Yield each directive with those that it stands in, the outermost first."""
    waiting: list[tuple[tuple[CaddyLine, ...], CaddyLine]] = [((), d) for d in reversed(directives)]
    while waiting:
        around, directive = waiting.pop()
        yield around, directive
        waiting += (((*around, directive), inner) for inner in reversed(directive.inner))


def _words(line: str) -> Iterator[str]:
    for match in _WORD.finditer(line):
        word = match[0]
        if word.startswith("#"):
            return
        yield word[1:-1] if word[0] in '"`' and word[-1] == word[0] and len(word) > 1 else word


def _unfolded(
    directives: list[CaddyLine], snippets: Mapping[str, CaddyLine], left: list[int], depth: int, *, is_own: bool = True
) -> list[CaddyLine]:
    """Return directives with the lines of a snippet where it is imported; no more of these once too many came of it."""
    made: list[CaddyLine] = []
    for directive in directives:
        left[0] -= not is_own
        if (left[0] < 0 and not is_own) or depth > 2 * _MOST_DEPTH:
            break
        name = directive.words[1] if len(directive.words) > 1 and directive.name == "import" else ""
        if name in snippets:
            made += _unfolded(snippets[name].inner, snippets, left, depth + 1, is_own=False)
        else:
            inner = _unfolded(directive.inner, snippets, left, depth + 1, is_own=is_own) if directive.inner else []
            made.append(CaddyLine(directive.words, directive.source, inner))
    return made
