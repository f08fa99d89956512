"""The report for Jira: wiki markup (Data Center, and REST API 2 of Cloud) and ADF, the JSON that Cloud's API 3 wants.

Wiki markup: what the renderer lets be escaped by a backslash is; what it does not becomes an entity, which it keeps.
ADF needs no escaping: text is a value there, never markup.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pcapdiag.privacy.escape import visible
from pcapdiag.report.remedy import split_code
from pcapdiag.report.render.document import Bullets, Code, Details, Heading, Image, Labelled, Paragraph, TableBlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.report.render.document import Block
    from pcapdiag.report.summary import Grid

# A backslash itself cannot be escaped: two of them are a line break. An ampersand is one unless an entity follows.
_ENTITY = re.compile(r"\\|&(?=#?\w+;)")
# Within a word, underscore, hyphen and plus are no markup, and setting names stay readable.
_MARKUP = re.compile(
    r"&#\d+;|\\[-()]|([{}\[\]|*^~!@]|#(?=[\s#*-]|$)|\?(?=\?)|(?<=\?)\?|(?<![^\W_])[_+-]|[_+-](?![^\W_]))"
)
_ISSUE_KEY = re.compile(r"(?<![A-Z0-9_])([A-Z][A-Z0-9_]+)-(?=\d)")
# Addresses, smileys and the beginnings of headings and quotations that no backslash takes apart.
_NO_BACKSLASH = re.compile(r"(?:(?P<head>^\s*(?i:h[1-6]|bq))|(?<=\b(?i:www)))\.|:(?=//|-?[DP])|(?<=\b(?i:mailto)):")
_SMILEY = re.compile(r"(?i)(?:(?<=[:;])|(?<=[:;]-))[()]|\((?=(?:[!x/yni?*+-]|\*[rgby]|on|off|flag|flagoff)\))")


def render_wiki(blocks: Iterable[Block]) -> str:
    """Return `blocks` as wiki markup, a newline at the end."""
    return "\n\n".join(map(_wiki, blocks)) + "\n"


def wiki_text(text: str) -> str:
    """Return `text` so that Jira's wiki renderer shows it as it is, on one line."""
    # Entities first: a backslash would come between a sign and what makes it one.
    shown = _ENTITY.sub(_as_entity, visible(text))
    shown = _NO_BACKSLASH.sub(_as_entity, shown)
    # An entity ends in a semicolon, so that only now it is known what looks like a smiley.
    shown = _SMILEY.sub(r"\\\g<0>", shown)
    return _MARKUP.sub(_escape_markup, _ISSUE_KEY.sub(r"\1\\-", shown))


def _as_entity(match: re.Match[str]) -> str:
    head = match.groupdict().get("head") or ""
    return f"{head}&#{ord(match[0].removeprefix(head))};"


def _escape_markup(match: re.Match[str]) -> str:
    return f"\\{match[1]}" if match[1] else match[0]


def _wiki(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"h{level}. {wiki_text(text)}"
        case Paragraph(text, "strong"):
            return f"*{wiki_text(text)}*"
        case Paragraph(text, "emphasis"):
            return f"_{wiki_text(text)}_"
        case Paragraph(text):
            return wiki_text(text)
        case Labelled(label, code):
            return f"{wiki_text(label)}:\n{_noformat([code])}"
        case Code(lines):
            return _noformat(lines)
        case TableBlock(grid):
            return "\n".join(_wiki_rows(grid))
        case Bullets(lines):
            return "\n".join(f"* {wiki_text(line)}" for line in lines)
        case Image(path, text):
            return f"{wiki_text(text)}: {wiki_text(path)}"
        case Details(title, blocks):
            # Jira's own wiki markup has no macro that folds; ADF has.
            return f"h2. {wiki_text(title)}\n\n{render_wiki(blocks).rstrip()}"


def _noformat(lines: Iterable[str]) -> str:
    body = [re.sub(r"\{(?=\s*noformat)", "{ ", visible(line).rstrip(), flags=re.IGNORECASE) for line in lines]
    return "\n".join(["{noformat}", *body, "{noformat}"])


def _wiki_rows(grid: Grid) -> Iterator[str]:
    yield f"||{'||'.join(wiki_text(header) or ' ' for header in grid.headers)}||"
    for row in grid.rows:
        yield f"|{'|'.join(wiki_text(cell) or ' ' for cell in row)}|"


def render_adf(blocks: Iterable[Block]) -> str:
    """Return `blocks` as a document of the Atlassian Document Format, version 1, a newline at the end."""
    content = [node for block in blocks for node in _adf(block)]
    document = {"version": 1, "type": "doc", "content": content}
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).replace("\x7f", "\\u007f") + "\n"


def _adf(block: Block) -> Iterator[dict[str, Any]]:
    match block:
        case Heading(text, level):
            yield _node("heading", [_text(text)], level=level)
        case Paragraph(text, style):
            mark = {"strong": "strong", "emphasis": "em"}.get(style, "")
            parts = split_code(text) if not mark else ((text, False),)
            nodes = [_text(part, "code" if is_code else mark) for part, is_code in parts]
            yield _node("paragraph", nodes or [_text("")])
        case Labelled(label, code):
            yield _node("paragraph", [_text(f"{label}: "), _text(code, "code")])
        case Code(lines):
            yield _node("codeBlock", [_text("\n".join(visible(line).rstrip() for line in lines), is_lines=True)])
        case TableBlock(grid):
            header = _node("tableRow", [_cell("tableHeader", text) for text in grid.headers])
            rows = [_node("tableRow", [_cell("tableCell", text) for text in row]) for row in grid.rows]
            yield _node("table", [header, *rows])
        case Bullets(lines):
            items = [_node("listItem", [_node("paragraph", [_text(line)])]) for line in lines]
            yield _node("bulletList", items)
        case Image(path, text):
            yield _node("paragraph", [_text(f"{text}: {path}")])
        case Details(title, blocks):
            yield _node("expand", [node for inner in blocks for node in _adf(inner)], title=visible(title))


def _node(kind: str, content: list[dict[str, Any]], **attributes: int | str) -> dict[str, Any]:
    return {"type": kind, **({"attrs": attributes} if attributes else {}), "content": content}


def _cell(kind: str, text: str) -> dict[str, Any]:
    return _node(kind, [_node("paragraph", [_text(text)])])


def _text(text: str, mark: str = "", *, is_lines: bool = False) -> dict[str, Any]:
    """Return a text node; it must not be empty."""
    shown = (text if is_lines else visible(text)) or " "
    return {"type": "text", "text": shown, **({"marks": [{"type": mark}]} if mark else {})}
