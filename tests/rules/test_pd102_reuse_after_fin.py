"""PD102: how long the proxy had had the FIN."""

from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import Scene, fin, only, request


def test_reuse_after_fin_says_for_how_long_the_proxy_had_the_fin():
    scene = Scene()
    finding = only(diagnose(scene.analysis(scene.lost(fin(-30), request(ack=216)))), "PD102")
    assert "had had for 30 ms" in finding.message
