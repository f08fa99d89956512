"""rule: the catalogue and its pages, from the same text as the reports."""

import pytest

from pcapdiag.rules import RULES


def test_every_rule_is_listed_with_its_headline(invoke):
    lines = invoke("rule").stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [[r.code, r.name, r.severity.name.lower()] for r in RULES]
    assert all(line.endswith(r.title) for line, r in zip(lines, RULES, strict=True))


@pytest.mark.parametrize("name", ["PD101", "pd101", "idle-close-race"])
def test_a_rule_is_explained_in_full(invoke, name):
    text = invoke("rule", name).stdout
    assert text.startswith("PD101 idle-close-race: ")
    for heading in ("What it looks for", "Why it matters", "Evidence", "When it is wrong", "Remedy", "References"):
        assert f"\n{heading}\n" in text
