"""Every folder of captures/ is a case: what its case.toml expects is a set of queries over the JSON report.

A query selects items (`in`, a dotted path on which lists are walked), keeps those that match (`match`: a name may be
dotted, an item also answers for the finding it stands in) and counts them (`count`, 0 included). `near_miss` names
rules that must stay silent although the case looks like theirs. Every rule needs a case that triggers it and a near
miss: without either a rule is not known to work.
"""

import tomllib
from collections import ChainMap
from functools import cache
from pathlib import Path

import pytest

from captures.generate import scripts
from tests.lab_truth import CAUSES_NOT_OF_UNANSWERED, run_report
from tests.scenario import parse, write_capture

CASES = Path(__file__).parent.parent / "captures"
NAMES = sorted(p.parent.name for p in CASES.glob("*/case.toml"))


@cache
def case_of(name):
    return tomllib.loads((CASES / name / "case.toml").read_text())


@cache
def report_of(name):
    case = case_of(name)
    logs = [
        word
        for key, files in case.get("logs", {}).items()
        for file in ([files] if isinstance(files, str) else files)
        for word in (f"--{key}", CASES / name / file)
    ]
    return run_report([CASES / name / c for c in case["captures"]], *case.get("options", []), *map(str, logs))


def select(node, path, outer=None):
    """Return the items at a dotted path; lists on the way are walked, an item also has its parents' names."""
    outer = outer if outer is not None else ChainMap()
    if isinstance(node, list):
        return [item for element in node for item in select(element, path, outer)]
    if not path:
        return [outer.new_child(node)]
    head, _, rest = path.partition(".")
    return select(node[head], rest, outer.new_child(node))


def is_match(item, wanted):
    """Return whether every named value of the item is the wanted one, or within the wanted bounds."""
    return all(_is_value(_value(item, name), value) for name, value in wanted.items())


def _value(item, name):
    for part in name.split("."):
        item = item[part] if item is not None else None
    return item


def _is_value(have, want):
    if not isinstance(want, dict):
        return have == want
    if have is None:
        return False
    return (
        have >= want.get("min", have)
        and have <= want.get("max", have)
        and ("contains" not in want or want["contains"] in have)
        and ("in" not in want or have in want["in"])
    )


def is_count(have, want):
    """Return whether a count is the wanted one, or within the wanted bounds."""
    return _is_value(have, want)


def rule_codes():
    from pcapdiag.rules import RULES

    return [rule.code for rule in RULES]


def triggers(case):
    """Return the codes that a case proves to be found."""
    return {
        check["match"]["code"]
        for check in case["check"]
        if check["in"].startswith("findings") and "code" in check["match"] and not is_count(0, check["count"])
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_report_is_what_the_case_expects(name):
    report = report_of(name)
    for check in case_of(name)["check"]:
        items = select(report, check["in"])
        matching = [item for item in items if is_match(item, check["match"])]
        assert is_count(len(matching), check["count"]), (
            f"{len(matching)} of {len(items)} in {check['in']} match {check['match']}, expected {check['count']}"
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_near_miss_stays_silent(name):
    found = {finding["code"] for finding in report_of(name)["findings"]}
    assert not found & set(case_of(name).get("near_miss", []))


def is_answered(finding):
    """Whether its requests were answered: a stall inside a response, an answer that came too early."""
    return any(part in finding["identifier"] for part in ("/inside-", "/stalled", "/answer-may-"))


@pytest.mark.parametrize("name", NAMES)
def test_every_unanswered_request_has_exactly_one_cause(name):
    report = report_of(name)
    causes = [f for f in report["findings"] if f["code"] not in CAUSES_NOT_OF_UNANSWERED and not is_answered(f)]
    occurrences = [o for f in causes for o in f["occurrences"]]
    keys = {(o.get("capture"), o["uid"], o["depth"]) for o in occurrences}
    assert len(keys) == len(occurrences) == report["totals"]["unanswered"]


@pytest.mark.parametrize("name", NAMES)
def test_no_finding_is_expected_of_a_case_by_accident(name):
    """Whatever is found is named by a check: a new rule that fires on an old case has to be looked at."""
    case = case_of(name)
    found = {finding["code"] for finding in report_of(name)["findings"]}
    assert found <= triggers(case) | set(case.get("also_found", []))


def test_every_rule_has_a_case_that_triggers_it():
    covered = set().union(*(triggers(case_of(name)) for name in NAMES))
    assert set(rule_codes()) <= covered


def test_every_rule_has_a_near_miss():
    covered = set().union(*(case_of(name).get("near_miss", []) for name in NAMES))
    assert set(rule_codes()) <= covered


@pytest.mark.parametrize("name", NAMES)
def test_a_case_says_where_it_comes_from(name):
    readme = (CASES / name / "README.md").read_text()
    assert readme.startswith(f"# {case_of(name)['title']}\n")
    assert "\n## What to look at\n" in readme
    assert "\n## Where it comes from\n" in readme


@pytest.mark.parametrize(("capture", "script", "form"), scripts(), ids=[c.parent.name for c, _, _ in scripts()])
def test_a_written_capture_is_what_its_script_says(capture, script, form):
    assert capture.read_bytes() == write_capture(parse(script.read_text()), **form)


def test_a_query_counts_what_matches():
    report = {
        "findings": [
            {"code": "PD101", "occurrences": [{"depth": 1}, {"depth": 2}]},
            {"code": "PD106", "occurrences": []},
        ]
    }
    items = select(report, "findings.occurrences")
    assert [is_match(item, {"code": "PD101", "depth": {"min": 2}}) for item in items] == [False, True]
    assert is_count(0, 0)
    assert not is_count(1, 0)
    assert not is_count(1, {"min": 2})
