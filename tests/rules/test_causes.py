"""Every scene has its cause, one rule claims it, and neither the clock nor the numbers matter."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.base.codes import ExchangeFlag, Key, TcpFlag
from pcapdiag.rules import RULES
from pcapdiag.rules._rule import CauseRule
from pcapdiag.rules.diagnose import assign_causes, diagnose
from tests.rules.builders import (
    BEFORE,
    END,
    START,
    T0,
    Scene,
    Seg,
    acknowledged,
    fin,
    proxy_fin,
    request,
    resent,
    rst,
    unsolicited,
)
from tests.rules.scenes import SCENES

CAUSES = [rule for rule in RULES if issubclass(rule, CauseRule) and rule.code != "PD999"]


def analyse(name, scene):
    build, _, settings = SCENES[name]
    return scene.analysis(*build(scene), **settings)


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_has_its_cause(name):
    causes = assign_causes(analyse(name, Scene()))
    assert [code for code, claims in causes.items() if claims] == [SCENES[name][1]]


def claims_left(analysis):
    """Return (frame of the request, code) of all claims, but for those that give way to another of the same request."""
    claims = [(loss.request_frame, rule) for rule in CAUSES for loss, _ in rule().claims(analysis)]
    return [(f, r.code) for f, r in claims if not any(f == g and r.code in other.supersedes for g, other in claims)]


@pytest.mark.parametrize("name", SCENES)
def test_one_rule_at_most_claims_a_request_or_says_which_others_give_way(name):
    claims = claims_left(analyse(name, Scene()))
    frames = [frame for frame, _ in claims]
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


TIMES = st.sampled_from([-30.0, -0.5, 0.0, 0.5, 50.0, 160.0, 196.0, 500.7, 2_000.2, 30_000.0, 60_003.0])
ACKS = st.sampled_from([-1, START, START + 50, END, END + 1])
SEGMENTS = st.one_of(
    st.builds(request, st.just(0.0), st.sampled_from([-1, BEFORE - 1, BEFORE, BEFORE + 1])),
    st.builds(acknowledged, TIMES),
    st.builds(fin, TIMES, ACKS, st.sampled_from([BEFORE, BEFORE + 24])),
    st.builds(rst, TIMES, ACKS, st.just(BEFORE), st.sampled_from([-1, 63, 64, 128])),
    st.builds(proxy_fin, TIMES, st.sampled_from([BEFORE, BEFORE + 1, BEFORE + 24])),
    st.builds(unsolicited, TIMES, st.sampled_from([START, END])),
    st.builds(resent, TIMES, st.sampled_from([Key.RETRANSMISSION, Key.LAST_RETRANSMISSION])),
    st.builds(
        Seg, st.sampled_from([Key.ORIG_RST, Key.RESPONSE]), TIMES, st.just(END), ACKS, st.just(0), st.just(TcpFlag.ACK)
    ),
)
FLAGS = [ExchangeFlag.ACKNOWLEDGED, ExchangeFlag.ACKNOWLEDGED_PART, ExchangeFlag.MID_STREAM, ExchangeFlag.LATE_ANSWER]


@given(
    segments=st.lists(SEGMENTS, max_size=6),
    idle_ms=st.sampled_from([-1.0, 17.0, 611.0, 2_212.0, 3_700.0, 3_877.0, 3_990.0, 4_000.5, 9_000.0]),
    depth=st.integers(0, 2),
    flags=st.sets(st.sampled_from(FLAGS)).map(sum),
    rtt_ms=st.sampled_from([0.05, 1.1, 160.0]),
    timeout_ms=st.sampled_from([None, 4_000.0]),
    resp_ttl=st.sampled_from([-1, 63, 64]),
)
@example([rst(-30.0, START, BEFORE, 64), proxy_fin(-30.0, BEFORE + 1)], 9_000.0, 1, 0, 160.0, None, 63)
@example([rst(0.0, END, BEFORE, -1), unsolicited(-30.0, END)], -1.0, 1, 0, 160.0, None, -1)
def test_whatever_was_seen_one_rule_has_it(segments, idle_ms, depth, flags, rtt_ms, timeout_ms, resp_ttl):
    scene = Scene(rtt_ms=rtt_ms)
    loss = scene.lost(*segments, idle_ms=idle_ms, depth=depth, flags=flags, resp_ttl=resp_ttl)
    analysis = scene.analysis(loss, upstream=scene.upstream(timeout_ms))
    claims = [code for _, code in claims_left(analysis)]
    assert len(claims) <= 1
    diagnosis = diagnose(analysis)
    assert [f.code for f in diagnosis.findings if f.code != "PD110"] == (claims or ["PD999"])
