"""PD202: resets on fresh connections."""

from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import Scene, only, rst


def test_resets_of_fresh_connections_do_not_say_that_the_requests_were_taken():
    scene = Scene()
    losses = [scene.lost(rst(141), depth=0, late=5_000 * i) for i in range(4)]
    finding = only(diagnose(scene.analysis(*losses)), "PD202")
    assert "took" not in finding.message
    assert "4 requests on fresh connections without having acknowledged any" in finding.message
    assert "a process went away" not in finding.message
