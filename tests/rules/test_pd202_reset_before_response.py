"""PD202: resets on fresh connections."""

import pytest

from pcapdiag.base.findings import Confidence
from pcapdiag.rules._pool import pool_plan
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import END, MS, Scene, acknowledged, only, rst


def test_resets_of_fresh_connections_do_not_say_that_the_requests_were_taken():
    scene = Scene()
    losses = [scene.lost(rst(141), depth=0, late=5_000 * i) for i in range(4)]
    finding = only(diagnose(scene.analysis(*losses)), "PD202")
    assert "took" not in finding.message
    assert "4 requests on fresh connections without having acknowledged any" in finding.message
    assert "a process went away" not in finding.message


@pytest.mark.parametrize(
    ("idle_ms", "wait_ms", "is_at_age"),
    [
        (3_500, 503, True),  # 4.003 s after the answer before, as its idle connections
        (3_100, 903, True),
        (3_500, 450, False),
        (3_500, 700, False),
        (900, 3_103, False),  # longer than any server is late
    ],
)
def test_connections_that_end_at_the_age_of_idle_ones_may_be_the_timers(idle_ms, wait_ms, is_at_age):
    """As of a server that looks at its timers now and then, and not when a request comes."""
    scene = Scene()
    loss = scene.lost(acknowledged(1), rst(wait_ms, ack=END), idle_ms=idle_ms)
    analysis = scene.analysis(loss)
    finding = only(diagnose(analysis), "PD202")
    assert ("at the age at which 10.1.1.1:80 closes idle ones" in finding.remedy) is is_at_age
    assert ("No timer at the proxy helps" in finding.remedy) <= (not is_at_age)
    assert finding.confidence is not Confidence.CONFIRMED or not is_at_age
    limit = pool_plan(analysis).limits[loss.connection.resp]
    assert limit < idle_ms * MS or not is_at_age
