"""What single connections show: hops, and how certain they leave a cause."""

import pytest

from pcapdiag.base.findings import Confidence, Note
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.rules._wire import hop_count
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import Scene, fin, only


def test_missing_segments_lower_the_confidence():
    scene = Scene()
    loss = scene.lost(fin(127), n_holes=1)
    assert only(diagnose(scene.analysis(loss)), "PD101").confidence is Confidence.LIKELY
    dropped = Capture([CaptureFile("proxy.pcap")], [Note("interface-drops", "the capturing machine dropped 3 packets")])
    analysis = scene.analysis(scene.lost(fin(127)), captures=(dropped,))
    assert only(diagnose(analysis), "PD101").confidence is Confidence.LIKELY


@pytest.mark.parametrize(
    ("ttl", "hops"), [(64, 0), (63, 1), (65, 63), (128, 0), (127, 1), (255, 0), (254, 1), (-1, -1)]
)
def test_hops_count_from_the_usual_initial_values(ttl, hops):
    assert hop_count(ttl) == hops
