"""The registry: codes, names, modules, pages, and what only a rule itself may know."""

import ast
import re
from pathlib import Path

import pytest

from pcapdiag.base.findings import Role
from pcapdiag.base.version import __version__
from pcapdiag.proxy.conf.describe import describe
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.rules import RULES, _rule
from pcapdiag.rules._rule import HEADINGS

FOLDER = Path(_rule.__file__).parent
PACKAGE = FOLDER.parent
CODES = [rule.code for rule in RULES]


def test_the_rules_stand_in_the_order_of_their_codes():
    assert sorted(set(CODES)) == CODES


def test_names_are_unique():
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_no_rule_is_newer_than_the_program():
    version = tuple(int(n) for n in __version__.split(".")[:2])
    assert [r.code for r in RULES if tuple(int(n) for n in r.since.split(".")) > version] == []


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
def test_other_rules_that_a_rule_names_exist(rule):
    assert {*rule.supersedes, *rule.facts.risk_of} <= set(CODES) - {rule.code}


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_title_is_a_headline(rule):
    assert rule.title[0].isupper()
    assert not rule.title.endswith(".")


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.CAUSE])
def test_a_role_that_is_drawn_or_counted_in_its_own_way_has_one_rule(role):
    assert [rule.facts.role for rule in RULES].count(role) == 1


def test_what_nothing_explains_stands_last():
    assert RULES[-1].facts.role is Role.UNEXPLAINED


def test_settings_that_a_rule_rests_on_are_settings_that_are_described():
    settings = read_proxy_conf(str(PACKAGE.parent / "captures" / "idle_close_race_before" / "nginx.conf"))
    names = {word for row in describe(settings) for word in row.name.split()} | {"backup", "down"}
    wanted = {name for rule in RULES for name in rule.facts.settings}
    assert [name for name in wanted if not any(n.endswith(name) for n in names)] == []


def texts_of(path):
    """Yield the texts of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_no_module_but_its_own_names_a_rule():
    """What is known of a rule stands on its class; the help of commands has examples."""
    others = [p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE / "cli" and not p.name.startswith("pd")]
    found = {str(p.relative_to(PACKAGE)): text for p in others for text in texts_of(p) if re.search(r"PD\d", text)}
    assert found == {}


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_rule_names_others_only_in_what_it_declares(rule):
    path = FOLDER / f"{rule.__module__.rsplit('.', 1)[1]}.py"
    named = {text for text in texts_of(path) if re.fullmatch(r"PD\d+", text)}
    assert named == {rule.code, *rule.supersedes, *rule.facts.risk_of}
