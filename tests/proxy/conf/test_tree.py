"""YAML and JSON as a tree with lines, whatever somebody gives as one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.conf.settings import Setting
from pcapdiag.proxy.conf.tree import MOST_CHARS, read_tree, setting

scalars = st.one_of(st.integers(), st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF)))


def only(text):
    (node,), notes = read_tree(text, "x.yaml")
    assert notes == ()
    return node


def test_a_path_of_keys_leads_to_a_value_and_its_line():
    node = only("a:\n  b:\n    - 1\n    - two # comment\n  c: null\n")
    assert [element.text for element in node.get("a", "b").elements()] == ["1", "two"]
    assert [element.source for element in node.get("a", "b").elements()] == ["x.yaml:3", "x.yaml:4"]
    assert node.get("a", "c").text == ""
    assert node.get("a", "nothing", "more") is None
    assert node.get("a", "b", "c") is None


@given(st.dictionaries(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1), scalars))
def test_json_is_read_too_also_indented_with_tabs(values):
    node = only(json.dumps(values, indent="\t"))
    assert {key: value.text for key, value in node.items()} == {key: str(value) for key, value in values.items()}


def test_no_tag_runs_anything_and_an_alias_is_not_unfolded(tmp_path):
    target = tmp_path / "made"
    node = only(f"a: !!python/object/apply:os.mkdir ['{target}']\nb: &x [1]\nc: [*x, *x, *x]\n")
    assert not target.exists()
    assert [next(element.elements()).text for element in node.get("c").elements()] == ["1"] * 3


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("a: [1", "x.yaml:"),
        ("a: 1\n b: 2\n", "x.yaml:2"),
        ("a: \x07", "x.yaml"),
        ("[" * 5000, "x.yaml"),
        ("a" * (MOST_CHARS + 1), "x.yaml"),
    ],
)
def test_what_stops_the_reading_is_noted(text, note):
    _, (said,) = read_tree(text, "x.yaml")
    assert said.source.startswith(note)


def test_documents_before_a_mistake_are_kept():
    documents, notes = read_tree("a: 1\n---\nb: [\n", "x.yaml")
    assert [document.get("a").text for document in documents] == ["1"]
    assert len(notes) == 1


def test_a_value_that_is_none_leaves_the_default_and_is_noted():
    default, notes = Setting(60, "", assumed=True), []
    node = only("read: 5\nsend: soon\n")
    assert setting(node.get("read"), int, default, notes) == Setting(5, "x.yaml:1")
    assert setting(node.get("connect"), int, default, notes) is default
    assert notes == []
    assert setting(node.get("send"), int, default, notes) is default
    assert [note.source for note in notes] == ["x.yaml:2"]
