"""The Markdown report: the same words as on a terminal, and hostile text forms no markup of its own."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pcapdiag.report.headline import headline
from pcapdiag.report.render.document import Details, Paragraph
from pcapdiag.report.render.markdown import code_block, code_span, prose, render, render_blocks
from tests.report import builders

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PLAIN = {"paragraph_open", "paragraph_close", "inline", "text", "text_special", "html_inline", "code_inline"}
TEXT = st.text(st.characters(), max_size=60) | st.text("`*_[]()<>|\\~#@&!-+.1=:/ \na", max_size=40)


def inline_types(markdown):
    tokens = PARSER.parse(markdown)
    children = [child for token in tokens for child in token.children or []]
    return {token.type for token in tokens} | {child.type for child in children}


def test_a_reader_sees_the_verdict_first():
    assert render(builders.race_report()).startswith(f"**{headline(builders.race_report())[:20]}")


def test_the_ladder_is_a_code_block_with_the_words_beside_the_arrows():
    fences = [token.content for token in PARSER.parse(render(builders.race_report())) if token.type == "fence"]
    assert fences[0] == "upstream be {\n    keepalive_timeout 3s;\n}\n"
    assert "| <------ FIN,ACK 852:852(0) ack 716 ------- |    109  the upstream closes" in fences[1]


@pytest.mark.parametrize("title", ["@everyone #1 GH-7", "</summary><script>", "a\nb", "www.x.example http://y :tada:"])
def test_the_line_of_a_folded_part_is_text(title):
    text = render_blocks([Details(title, (Paragraph("x"),))])
    assert "<script" not in text
    assert not re.search(r"@\w|#\d|GH-\d|://|www\.\w|:tada:", text)
    assert len(text.splitlines()) == 6


def test_tables_are_tables():
    assert "table_open" in inline_types(render(builders.race_report()))


@pytest.mark.parametrize("make", [builders.race_report, builders.hostile_report])
def test_no_link_image_or_html_is_ever_formed(make):
    text = render(make())
    assert not inline_types(text) & {"link_open", "image", "s_open"}
    tokens = PARSER.parse(text)
    html = {child.content for t in tokens for child in t.children or [] if child.type == "html_inline"}
    assert html <= {"<!-- -->"}
    blocks = {t.content for t in tokens if t.type == "html_block"}
    assert all(
        re.fullmatch(r"<details>\n<summary>(?:[^<>\n]|<!-- -->)+</summary>\n|</details>\n", block) for block in blocks
    )


def test_every_table_row_has_the_cells_of_its_header():
    for line in render(builders.hostile_report()).splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in {6, 9}


def test_nothing_that_github_links_after_rendering_is_left_whole():
    outside_code = re.sub(r"(?ms)^(`{3,}).*?^\1$|(`+)(?!`).*?(?<!`)\2(?!`)", "", render(builders.hostile_report()))
    assert not re.search(r"@\w|#\d|://|www\.\w", outside_code)


@given(TEXT)
def test_prose_is_one_paragraph_of_plain_text(text):
    assert inline_types("x " + prose(text)) <= PLAIN


@given(TEXT)
def test_prose_at_the_start_of_a_line_opens_no_block(text):
    assert inline_types(prose(text)) <= PLAIN


@given(TEXT)
def test_a_code_span_holds_its_text_and_nothing_escapes(text):
    children = PARSER.parseInline("a " + code_span(text) + " b")[0].children
    assert [c.type for c in children] == ["text", "code_inline", "text"]


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_no_line_closes_its_block(lines):
    tokens = PARSER.parse(code_block(lines))
    assert [t.type for t in tokens] == ["fence"]
    assert tokens[0].content.count("\n") == len(lines)
