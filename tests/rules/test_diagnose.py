"""Selection, order and verdicts."""

import numpy as np
import pytest

from pcapdiag.analysis.disguise import disguise
from pcapdiag.base.codes import Leg
from pcapdiag.base.errors import UsageError
from pcapdiag.base.findings import Severity, VerdictKind
from pcapdiag.privacy.anonymize import Anonymizer
from pcapdiag.rules import RULES
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import Scene, acknowledged, fin, proxy_fin, refused, rst


def mixed():
    scene = Scene()
    return scene.analysis(
        scene.lost(acknowledged(160)),
        scene.lost(acknowledged(160), proxy_fin(723), idle_ms=17),
        scene.attempt(refused(40)),
        scene.lost(rst(160), idle_ms=2212),
        scene.lost(fin(127)),
        scene.lost(fin(127)),
    )


def verdicts(diagnosis):
    return {v.code: v for v in diagnosis.verdicts}


def test_findings_stand_worst_first_and_then_in_report_order():
    findings = diagnose(mixed()).findings
    assert [f.code for f in findings] == ["PD101", "PD106", "PD301", "PD206", "PD999"]
    assert [f.severity for f in findings] == sorted((f.severity for f in findings), reverse=True)


def test_every_rule_has_one_verdict_in_report_order():
    diagnosis = diagnose(mixed())
    assert [v.code for v in diagnosis.verdicts] == [r.code for r in RULES]
    found = {v.code for v in diagnosis.verdicts if v.kind is VerdictKind.FOUND}
    assert found == {f.code for f in diagnosis.findings}


def test_what_is_not_evaluated_says_why():
    scene = Scene()
    for upstream in (scene.upstream(), scene.upstream(None)):
        for verdict in diagnose(scene.analysis(upstream=upstream)).verdicts:
            assert bool(verdict.reason) == (verdict.kind is VerdictKind.NOT_EVALUATED)


def test_an_ignored_cause_keeps_its_requests():
    diagnosis = diagnose(mixed(), ignore=["PD101"])
    assert [f.code for f in diagnosis.findings] == ["PD106", "PD301", "PD206", "PD999"]
    assert [(f.code, f.count) for f in diagnosis.hidden] == [("PD101", 2)]
    assert verdicts(diagnosis)["PD101"].kind is VerdictKind.FOUND
    assert verdicts(diagnosis)["PD101"].reason == "not shown, as asked: 2 occurrences"


@pytest.mark.parametrize("select", [["PD1"], ["pd101", "PD106"], ["idle-close-race", "reset-on-reuse"]])
def test_codes_can_be_selected_by_beginning_and_by_name(select):
    assert [f.code for f in diagnose(mixed(), select=select).findings] == ["PD101", "PD106"]


def test_ignore_wins_over_select():
    assert [f.code for f in diagnose(mixed(), select=["PD1"], ignore=["PD106"]).findings] == ["PD101"]


@pytest.mark.parametrize("wrong", ["PD9999", "", "race"])
def test_a_code_that_does_not_exist_is_an_error(wrong):
    with pytest.raises(UsageError, match="no rule fits"):
        diagnose(mixed(), select=[wrong])


def test_nothing_is_evaluated_without_a_connection_to_an_upstream():
    scene = Scene()
    analysis = scene.analysis(legs=np.array([Leg.CLIENT], dtype=np.int8), upstreams=())
    for verdict in diagnose(analysis).verdicts:
        assert verdict.kind is VerdictKind.NOT_EVALUATED
        assert verdict.reason == "the capture holds no connection to an upstream"


def test_nothing_is_evaluated_with_one_direction_only():
    scene = Scene()
    analysis = scene.analysis()
    rows = analysis.connections.rows.copy()
    rows["resp_frames"] = 0
    one_sided = type(analysis.connections)(analysis.connections.schema, rows)
    for verdict in diagnose(scene.analysis(connections=one_sided, upstream=scene.upstream(None))).verdicts:
        assert verdict.kind is VerdictKind.NOT_EVALUATED
        assert "one direction" in verdict.reason


def test_more_lost_requests_come_first_among_equals():
    scene = Scene()
    analysis = scene.analysis(scene.lost(fin(90), idle_ms=250), scene.lost(fin(127)), scene.lost(fin(127)))
    assert [f.count for f in diagnose(analysis).findings] == [2, 1]
    assert all(f.severity is Severity.ERROR for f in diagnose(analysis).findings)


def test_findings_and_verdicts_carry_what_their_rules_declare():
    facts = {rule.code: rule.facts for rule in RULES}
    diagnosis = diagnose(mixed())
    assert all(finding.facts == facts[finding.code] for finding in diagnosis.findings)
    assert all(verdict.role is facts[verdict.code].role for verdict in diagnosis.verdicts)


def test_other_names_of_machines_are_none_for_settings(monkeypatch):
    monkeypatch.setenv("PCAPDIAG_ANONYMIZE_KEY", "00" * 32)
    anonymizer = Anonymizer.from_environment()
    anonymizer.learn(names={"keepalive"}, uids={}, paths=[])
    finding = diagnose(mixed()).findings[0]
    assert disguise(finding, anonymizer).facts == finding.facts
