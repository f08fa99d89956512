"""PD201: several failures of one moment."""

from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import END, Scene, acknowledged, fin, only


def test_failures_at_one_moment_are_the_end_of_a_process():
    scene = Scene()
    losses = [scene.lost(acknowledged(160), fin(500 + i, ack=END), idle_ms=17) for i in range(3)]
    finding = only(diagnose(scene.analysis(*losses)), "PD201")
    assert " 3 of them ended within a tenth of a second" in finding.message
