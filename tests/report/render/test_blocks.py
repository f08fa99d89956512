"""Blocks on a terminal."""

from pcapdiag.report.render.blocks import render_blocks
from pcapdiag.report.render.document import Bullets, Code, Heading, Paragraph, TableBlock
from pcapdiag.report.summary import Grid


def test_every_block_is_shown_and_none_is_wider_than_the_terminal():
    blocks = [
        Paragraph("the answer", "strong"),
        Heading("a heading", 2),
        Bullets(("one\x1b[31m",)),
        Code(("-old;", "+new;")),
        TableBlock(Grid(("name", "n"), (("a" * 100, "12 (3-4)"),), frozenset({1}))),
    ]
    lines = render_blocks(blocks, style="bold", width=60).splitlines()
    assert lines[0] == "the answer"
    assert "    -old;" in lines
    assert any("12 (3-4)" in line for line in lines)
    assert all(len(line) <= 60 for line in lines)
    assert "\x1b" not in "".join(lines)


def test_colour_is_there_when_asked_for():
    assert "\x1b[1;32m" in render_blocks([Paragraph("yes", "strong")], style="bold green", color=True)
