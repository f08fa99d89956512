"""What is said before there is a capture, in each of its forms."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pcapdiag.report.render import markdown
from pcapdiag.report.render.blocks import WIDTH, render_blocks
from pcapdiag.report.triage.words import LEVELS, full_blocks, page_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.base.triage import Triage
    from pcapdiag.report.model import InputFile, Tool

SCHEMA_VERSION = 1
MOST_LINES = 40
"""Of the page for a terminal, at 80 columns."""


def render_terminal(triage: Triage, *, is_whole: bool = False, width: int = WIDTH, color: bool = False) -> str:
    """Return a page for a terminal, or all of it; see `report.render.blocks.render_blocks`."""
    style = "bold yellow" if triage.failures else "bold"
    if is_whole:
        return render_blocks(full_blocks(triage), style=style, width=width, color=color)
    page = ""
    for level in range(LEVELS):
        page = render_blocks(page_blocks(triage, level), style=style, width=width, color=color)
        if page.count("\n") <= MOST_LINES:
            break
    return page


def render_markdown(triage: Triage) -> str:
    """Return all of it as Markdown for the tickets of GitHub and GitLab."""
    return markdown.render_blocks(full_blocks(triage))


def triage_document(triage: Triage, tool: Tool, inputs: Sequence[InputFile]) -> dict[str, Any]:
    """Return one JSON document, of plain values."""
    before = {"schema_version": SCHEMA_VERSION, "tool": asdict(tool), "inputs": [asdict(file) for file in inputs]}
    return before | asdict(triage)


def render_json(triage: Triage, tool: Tool, inputs: Sequence[InputFile]) -> str:
    """Return the document as text, ASCII only, a newline at the end."""
    text = json.dumps(triage_document(triage, tool, inputs), ensure_ascii=True, indent=2, allow_nan=False)
    return text.replace("\x7f", "\\u007f") + "\n"
