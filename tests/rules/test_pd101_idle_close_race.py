"""PD101: what it says of a race, and of closings that are none of the idle timer."""

from pcapdiag.base.findings import Confidence
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import MS, Scene, fin, only, rst


def test_a_race_says_how_many_requests_the_remedy_would_have_saved():
    scene = Scene()
    losses = [scene.lost(fin(127), idle_ms=idle) for idle in (3877, 3950)]
    finding = only(diagnose(scene.analysis(*losses)), "PD101")
    assert finding.identifier == "PD101/10.1.1.1:80/idle-4s"
    assert finding.confidence is Confidence.CONFIRMED
    assert "an idle limit of 3 s for connections to 10.1.1.1:80" in finding.remedy
    assert "2 of 2 lost requests" in finding.remedy
    assert "nginx keepalive_timeout" in finding.remedy
    assert finding.details["would_have_saved"] == 2
    assert finding.details["shortest_raced_gap_ns"] == 3877 * MS


def test_a_reload_is_told_apart_from_the_idle_timer():
    scene = Scene()
    diagnosis = diagnose(scene.analysis(scene.lost(fin(127)), scene.lost(fin(90), idle_ms=250)))
    assert {f.identifier for f in diagnosis.findings} == {
        "PD101/10.1.1.1:80/idle-4s",
        "PD101/10.1.1.1:80/other-age",
    }
    reload = next(f for f in diagnosis.findings if f.identifier.endswith("other-age"))
    assert "reload" in reload.remedy
    assert "keepalive_timeout 3s" not in reload.remedy


def test_a_race_without_a_measured_timeout_is_still_the_race():
    scene = Scene()
    finding = only(diagnose(scene.analysis(scene.lost(fin(127)), upstream=scene.upstream(None))), "PD101")
    assert finding.identifier.endswith("/unknown-age")
    assert finding.confidence is Confidence.CONFIRMED


def test_the_keep_alive_field_stands_in_for_a_measured_timeout():
    scene = Scene()
    upstream = scene.upstream(None, keep_alive_s=4)
    assert only(diagnose(scene.analysis(scene.lost(rst(162), idle_ms=3909), upstream=upstream)), "PD101")
