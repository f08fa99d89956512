"""PD105: who sent a reset, where the capture can tell."""

from pcapdiag.base.findings import Confidence, VerdictKind
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import Scene, only, rst, verdict


def test_resets_without_any_ttl_leave_their_sender_open():
    scene = Scene()
    diagnosis = diagnose(scene.analysis(scene.lost(rst(160, ttl=-1), idle_ms=2212, resp_ttl=-1)))
    assert verdict(diagnosis, "PD105").kind is VerdictKind.NOT_EVALUATED
    assert "TTL" in verdict(diagnosis, "PD105").reason
    assert only(diagnosis, "PD106").confidence is Confidence.LIKELY


def test_a_fast_reset_proves_nothing_at_the_upstream():
    scene = Scene()
    from pcapdiag.base.codes import CapturePoint

    loss = scene.lost(rst(2), idle_ms=300_000)
    assert only(diagnose(scene.analysis(loss, capture_points=(CapturePoint.UPSTREAM,))), "PD106")
