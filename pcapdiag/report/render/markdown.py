"""The report as Markdown for the tickets of GitHub and GitLab: the same words in the same order as on a terminal.

Text of captures and rules is escaped for both: it forms no link, no HTML, no mention, no reference, no emoji, no quick
action, no table cell of its own.
"""

from __future__ import annotations

import html
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from pcapdiag.privacy.escape import visible
from pcapdiag.report.remedy import split_code
from pcapdiag.report.render.document import (
    Bullets,
    Code,
    Details,
    Heading,
    Image,
    Labelled,
    Paragraph,
    TableBlock,
    build_document,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcapdiag.report.model import Report
    from pcapdiag.report.render.document import Block
    from pcapdiag.report.summary import Grid

# As little as possible, because people read the source in tickets too: an underscore within a word is no emphasis, a
# parenthesis is a link only behind a bracket.
_PUNCTUATION = re.compile(r"([\\`*\[\]|~$&]|(?<![^\W_])_|_(?![^\W_])|[!%^](?=\w))")
_LINE_START = re.compile(r"^(\s*)([-+=>/:]|#(?!\S)|\d+[.)](?=\s|$))")
# GitHub makes links and emoji of these after rendering, so that a backslash does not help; an empty comment splits
# them. GitLab does it, too, and there the backslash helps.
_AFTERWARDS = re.compile(
    r"(?i)([@#](?=\S)|://(?=\S)|\bwww\.(?=\S)|\bGH-(?=\S)|:(?=(?:[\w+-]*[a-z+_-][\w+-]*|100|1234):))"
)
# An address of version 6 holds what would be emoji (:a:, :100:); as code it can be copied, too.
_IPV6 = re.compile(
    r"\[?(?<![\w:.])[0-9A-Fa-f:.]{0,45}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{0,45}[0-9A-Fa-f:]\]?(?::\d{1,5})?"
)


def render(report: Report) -> str:
    """Return the whole report as one Markdown document.

    Parameters
    ----------
    report : Report
        What to show.

    Returns
    -------
    str
        Blocks separated by blank lines, a newline at the end.
    """
    return render_blocks(build_document(report).blocks)


def render_blocks(blocks: Iterable[Block]) -> str:
    """Return `blocks` separated by blank lines, a newline at the end."""
    return "\n\n".join(map(_block, blocks)) + "\n"


def prose(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, on one line; what stands between backticks as code."""
    out: list[str] = []
    for part, is_code in split_code(visible(text)):
        out.append(code_span(part) if is_code else _plain(part, is_start=not out))
    return "".join(out)


def _plain(shown: str, *, is_start: bool) -> str:
    out: list[str] = []
    at = 0
    for match in _IPV6.finditer(shown):
        if "::" in match[0] or match[0].count(":") > 3:
            out += [_escaped(shown[at : match.start()], is_start=is_start and not at), code_span(match[0])]
            at = match.end()
    out.append(_escaped(shown[at:], is_start=is_start and not at))
    return "".join(out)


def _escaped(text: str, *, is_start: bool) -> str:
    escaped = _PUNCTUATION.sub(r"\\\1", text).replace("<", "&lt;")
    if is_start:
        escaped = _LINE_START.sub(_escape_line_start, escaped)
    return _AFTERWARDS.sub(_split_reference, escaped)


def _escape_line_start(match: re.Match[str]) -> str:
    blank, marker = match.groups()
    return f"{blank}{marker[:-1]}\\{marker[-1]}"


def _summary(text: str) -> str:
    """Return `text` for the line of a folded part: HTML, in which GitHub still looks for references."""
    return _AFTERWARDS.sub(lambda found: f"{found[1][0]}<!-- -->{found[1][1:]}", html.escape(visible(text)))


def _split_reference(match: re.Match[str]) -> str:
    found = match[1]
    if found == "://":
        return f":<!-- -->{found[1:]}"
    return f"{'' if found[0].isalpha() else chr(92)}{found}<!-- -->"


def code_span(text: str) -> str:
    """Return `text` as a code span whose fence is longer than any run of backticks in it."""
    text = visible(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") or text != text.strip() or not text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _cell(text: str) -> str:
    """Return `text` as a code span for a table; GitHub splits cells before it looks for code."""
    return code_span(text).replace("|", "\\|") if text not in {"", "-"} else text


def code_block(lines: Iterable[str], language: str = "text", *, is_exact: bool = False) -> str:
    """Return `lines` as a fenced block whose fence no line can close; letter by letter where it `is_exact`."""
    if is_exact:
        body = ["\t".join(map(visible, line.split("\t"))) for line in lines]
    else:
        # GitLab takes a line that begins with a slash for a command, and not everywhere does it know code from text.
        body = [re.sub("^/", " /", visible(line).rstrip()) for line in lines]
    longest = max((len(run) for line in body for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *body, fence])


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {prose(text)}"
        case Paragraph(text, "strong"):
            return f"**{prose(text)}**"
        case Paragraph(text, "emphasis"):
            return f"*{prose(text)}*"
        case Paragraph(text):
            return prose(text)
        case Labelled(label, code):
            return f"{prose(label)}: {code_span(code)}"
        case Code(lines, language, is_exact):
            return code_block(lines, language, is_exact=is_exact)
        case TableBlock(grid):
            return _grid(grid)
        case Bullets(lines):
            return "\n".join(f"- {prose(line)}" for line in lines)
        case Image(path, text):
            return f"![{prose(text)}]({quote(str(PurePosixPath(path)))})"
        case Details(title, blocks):
            return f"<details>\n<summary>{_summary(title)}</summary>\n\n{render_blocks(blocks)}\n</details>"


def _grid(grid: Grid) -> str:
    rule = ["---:" if idx in grid.right else "---" for idx in range(len(grid.headers))]
    rows = [tuple(map(prose, grid.headers)), tuple(rule), *(tuple(_cell(c) for c in row) for row in grid.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
