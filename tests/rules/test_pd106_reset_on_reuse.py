"""PD106: a reset where no idle timeout is known."""

import pytest

from pcapdiag.base.findings import Confidence
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import MS, Scene, only, rst


def test_a_timeout_that_is_only_possible_decides_nothing():
    scene = Scene()
    upstream = scene.upstream(4_000, confidence=Confidence.POSSIBLE)
    assert only(diagnose(scene.analysis(scene.lost(rst(162), idle_ms=3909), upstream=upstream)), "PD106")


@pytest.mark.parametrize(
    ("late_ms", "longest_ms", "is_timer"),
    [
        (90_000, 39_400, True),
        (1_000, 39_400, False),  # all were idle at one moment: a restart explains them
        (90_000, 50_000, False),  # a longer gap was answered
    ],
)
def test_a_clean_split_of_gaps_that_no_one_moment_explains_is_a_timer(late_ms, longest_ms, is_timer):
    scene = Scene()
    losses = [scene.lost(rst(162), idle_ms=41_600 + n * 3_000, late=n * late_ms) for n in range(4)]
    limits = {"longest_answered_gap_ns": longest_ms * MS, "longest_path_gap_ns": longest_ms * MS}
    upstream = scene.upstream(reused=40, **limits)
    finding = only(diagnose(scene.analysis(*losses, upstream=upstream)), "PD106")
    assert ("most likely an idle timer" in finding.message) is is_timer
    assert ("below 39.4 s" in finding.remedy) is is_timer
    assert ("a restart without orderly close" in finding.remedy) is not is_timer
