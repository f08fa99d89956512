"""The registry: codes, names, modules and pages."""

import re
from pathlib import Path

import pytest

from pcapdiag.rules import RULES, _rule
from pcapdiag.rules._rule import HEADINGS

FOLDER = Path(_rule.__file__).parent
THIS_ISSUE = (
    *("PD101", "PD102", "PD103", "PD104", "PD105", "PD106", "PD110", "PD201", "PD202", "PD203", "PD204", "PD206"),
    *("PD301", "PD302", "PD401", "PD402", "PD601", "PD901", "PD999"),
)


def test_the_rules_stand_in_report_order():
    assert tuple(rule.code for rule in RULES) == THIS_ISSUE


def test_names_are_unique():
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_every_rule_module_is_registered():
    modules = {path.stem for path in FOLDER.glob("pd*.py")}
    assert modules == {rule.__module__.rsplit(".", 1)[1] for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_module_is_named_after_its_rule(rule):
    assert rule.__module__.rsplit(".", 1)[1] == f"{rule.code}_{rule.name}".lower().replace("-", "_")


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_rule_has_every_heading_in_order_and_text_below_each(rule):
    sections = rule.sections()
    assert tuple(sections) == HEADINGS
    assert all(sections.values())


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_summary_is_one_sentence(rule):
    assert re.fullmatch(r"[A-Z].*\.", rule.summary())


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_superseded_codes_exist(rule):
    assert set(rule.supersedes) <= set(THIS_ISSUE)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_title_is_a_headline(rule):
    assert rule.title[0].isupper()
    assert not rule.title.endswith(".")
