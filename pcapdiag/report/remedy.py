"""Paragraphs and settings in a rule's remedy: told apart by indentation, as in its docstring."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive lines of one kind: a paragraph, or settings to be shown as they are."""

    lines: tuple[str, ...]
    is_code: bool


_CODE = re.compile(r"`([^`]+)`")


def split_code(text: str) -> tuple[tuple[str, bool], ...]:
    """Return a sentence as parts, each with whether it is code: what stands between two backticks."""
    parts: list[tuple[str, bool]] = []
    at = 0
    for found in _CODE.finditer(text):
        parts += [(text[at : found.start()], False), (found[1], True)]
        at = found.end()
    parts.append((text[at:], False))
    return tuple(part for part in parts if part[0])


def split_blocks(text: str) -> tuple[Block, ...]:
    """Return the blocks of `text`: indented lines are settings, a blank line ends a paragraph."""
    blocks: list[Block] = []
    lines: list[str] = []
    is_code = False

    def flush() -> None:
        if lines:
            blocks.append(Block(tuple(lines), is_code))
            lines.clear()

    for line in text.splitlines():
        indented = line.startswith("    ")
        if not line.strip() or indented != is_code:
            flush()
        if line.strip():
            is_code = indented
            lines.append(line[4:].rstrip() if indented else line.strip())
    flush()
    return tuple(blocks)
