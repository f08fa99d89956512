"""PD106: a reset where no idle timeout is known."""

from pcapdiag.base.findings import Confidence
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import Scene, only, rst


def test_a_timeout_that_is_only_possible_decides_nothing():
    scene = Scene()
    upstream = scene.upstream(4_000, confidence=Confidence.POSSIBLE)
    assert only(diagnose(scene.analysis(scene.lost(rst(162), idle_ms=3909), upstream=upstream)), "PD106")
