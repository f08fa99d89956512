"""Every scene has its cause, one rule claims it, and neither the clock nor the numbers matter."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.diagnose import assign_causes, diagnose
from pcapdiag.rules import RULES
from pcapdiag.rules._rule import CauseRule
from tests.rules.builders import T0, Scene
from tests.rules.scenes import SCENES

CAUSES = [rule for rule in RULES if issubclass(rule, CauseRule) and rule.code != "PD999"]


def analyse(name, scene):
    build, _, settings = SCENES[name]
    return scene.analysis(*build(scene), **settings)


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_has_its_cause(name):
    causes = assign_causes(analyse(name, Scene()))
    assert [code for code, claims in causes.items() if claims] == [SCENES[name][1]]


@pytest.mark.parametrize("name", SCENES)
def test_one_rule_at_most_claims_a_request(name):
    analysis = analyse(name, Scene())
    claims = [(rule.code, loss.request_frame) for rule in CAUSES for loss, _ in rule().claims(analysis)]
    frames = [frame for _, frame in claims]
    assert len(frames) == len(set(frames)), claims


@pytest.mark.parametrize("name", SCENES)
def test_a_rule_alone_says_what_the_diagnosis_says(name):
    analysis = analyse(name, Scene())
    rule = next(r for r in RULES if r.code == SCENES[name][1])
    assert tuple(rule().check(analysis)) == tuple(f for f in diagnose(analysis).findings if f.code == rule.code)


@pytest.mark.parametrize("name", SCENES)
def test_every_finding_can_be_refuted_and_says_what_to_do(name):
    for finding in diagnose(analyse(name, Scene())).findings:
        assert finding.refuted_by
        assert finding.remedy
        assert finding.subject in finding.message
        assert finding.identifier.startswith(f"{finding.code}/10.1.1.1:80")
        assert finding.count == len(finding.occurrences)
        for occurrence in finding.occurrences:
            assert occurrence.evidence
            assert all(e.text and e.label for e in occurrence.evidence)
            assert occurrence.request_frame in {e.frame for e in occurrence.evidence}


def told(diagnosis, t0):
    """Return what is said, without what may depend on the clock and on raw numbers."""
    return [
        (
            replace(f, occurrences=(), first_ts_ns=f.first_ts_ns - t0, last_ts_ns=f.last_ts_ns - t0),
            [
                replace(
                    o,
                    request_ts_ns=o.request_ts_ns - t0,
                    evidence=tuple(replace(e, ts_ns=e.ts_ns - t0, seq=0, ack=0) for e in o.evidence),
                )
                for o in f.occurrences
            ],
        )
        for f in diagnosis.findings
    ]


@given(
    name=st.sampled_from(sorted(SCENES)),
    orig_isn=st.integers(0, 2**32 - 1),
    resp_isn=st.integers(0, 2**32 - 1),
    later=st.integers(-(10**18), 10**18),
)
def test_neither_sequence_numbers_nor_the_clock_change_anything(name, orig_isn, resp_isn, later):
    plain = diagnose(analyse(name, Scene(orig_isn=1000, resp_isn=2000)))
    moved = diagnose(analyse(name, Scene(orig_isn=orig_isn, resp_isn=resp_isn, t0=T0 + later)))
    assert told(moved, T0 + later) == told(plain, T0)


@given(names=st.lists(st.sampled_from(sorted(SCENES)), min_size=1, max_size=6))
def test_every_loss_of_any_mixture_has_exactly_one_cause(names):
    scene = Scene()
    losses = [loss for name in names for loss in SCENES[name][0](scene)]
    diagnosis = diagnose(scene.analysis(*losses))
    frames = sorted(o.request_frame for f in diagnosis.findings for o in f.occurrences)
    assert frames == sorted(loss.request_frame for loss in losses)
