"""rule: the catalogue and its pages, from the same text as the reports."""

import json

import pytest

from pcapdiag.rules import RULES


def test_every_rule_is_listed_with_its_headline(invoke):
    lines = invoke("rule").stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [[r.code, r.name, r.severity.name.lower()] for r in RULES]
    assert all(line.endswith(r.title) for line, r in zip(lines, RULES, strict=True))


@pytest.mark.parametrize(
    ("part", "codes"),
    [
        ("PD1", [r.code for r in RULES if r.code.startswith("PD1")]),
        ("pd20", [r.code for r in RULES if r.code.startswith("PD20")]),
        ("idle-close", [r.code for r in RULES if "idle-close" in r.name]),
        ("Timeout", [r.code for r in RULES if "timeout" in r.name]),
    ],
)
def test_a_part_of_a_code_or_name_lists_all_that_have_it(invoke, part, codes):
    found = json.loads(invoke("rule", part, "--format", "json").stdout)
    assert [r["code"] for r in found] == codes
    if len(codes) > 1:
        assert [line.split()[0] for line in invoke("rule", part).stdout.splitlines()] == codes


def test_json_holds_every_rule_with_its_page(invoke):
    rules = json.loads(invoke("rule", "--format", "json").stdout)
    assert [(r["code"], r["name"], r["title"]) for r in rules] == [(r.code, r.name, r.title) for r in RULES]
    for told, rule in zip(rules, RULES, strict=True):
        assert (told["severity"], told["since"]) == (rule.severity.name.lower(), rule.since)
        assert told["sections"] == rule.sections()
        assert told["supersedes"] == list(rule.supersedes)


@pytest.mark.parametrize("name", ["PD101", "pd101", "idle-close-race"])
def test_a_rule_is_explained_in_full(invoke, name):
    text = invoke("rule", name).stdout
    assert text.startswith("PD101 idle-close-race: ")
    for heading in ("What it looks for", "Why it matters", "Evidence", "When it is wrong", "Remedy", "References"):
        assert f"\n{heading}\n" in text
