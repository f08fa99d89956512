"""A Caddyfile's lines, blocks and snippets, and whatever somebody gives as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.conf.caddyfile import every, is_caddyfile, read_caddyfile

TEXT = """# comment
(common) {
	header "a b" `c d` # why
}
example.com {
	handle /x/* {
		import common
		reverse_proxy app:80
	}
}
"""


def flat(text):
    return [(len(around), d.words, d.source) for around, d in every(read_caddyfile(text, "C"))]


def test_a_snippet_stands_where_it_is_imported_with_its_own_lines():
    assert flat(TEXT) == [
        (0, ["example.com"], "C:5"),
        (1, ["handle", "/x/*"], "C:6"),
        (2, ["header", "a b", "c d"], "C:3"),
        (2, ["reverse_proxy", "app:80"], "C:8"),
    ]


def test_one_site_needs_no_braces():
    assert flat("example.com\nreverse_proxy app:80\n") == [
        (0, ["example.com"], "C:1"),
        (0, ["reverse_proxy", "app:80"], "C:2"),
    ]


def test_what_is_no_snippet_stays_an_import():
    assert flat("import sites/*\n") == [(0, ["import", "sites/*"], "C:1")]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (TEXT, True),
        ("a {\n reverse_proxy {\n  to b:80\n }\n}\n", True),
        ("a {\n file_server\n}\n", False),
        ("http {\n reverse_proxy x;\n}\n", False),
        ("reverse_proxy: x\n", False),
        ("# reverse_proxy x\n", False),
    ],
)
def test_a_caddyfile_is_told_by_its_directive(text, is_one):
    assert is_caddyfile(text) is is_one


def test_snippets_that_import_each_other_come_to_an_end():
    body = "".join("import a\nimport b\n" for _ in range(10))
    text = f"(a) {{\nx\n{body}}}\n(b) {{\ny\n{body}}}\ns {{\nimport a\n}}\n"
    assert len(flat(text)) <= 100_002


def test_a_long_file_is_read_to_its_end_whatever_its_snippets_unfold_to():
    bomb = "(a) {\n" + "import a\nx\n" * 10 + "}\ns {\nimport a\n}\n"
    assert flat(bomb + "b {\n" + "y\n" * 120_000 + "}\n")[-1] == (1, ["y"], f"C:{bomb.count(chr(10)) + 120_001}")


def test_blocks_as_deep_as_the_file_do_not_exhaust_the_stack():
    assert len(flat("a {\n" * 20_000)) == 20_000


@given(st.text(st.sampled_from('a {}"`#()\n\t\\'), max_size=300))
def test_every_directive_has_words_and_the_line_that_it_stands_on(text):
    lines = text.split("\n")
    for _, words, source in flat(text):
        number = int(source.removeprefix("C:"))
        assert all(word in lines[number - 1] for word in words)
