"""What single connections show: how long the proxy had a FIN, and how certain they leave a cause."""

import pytest

from pcapdiag.base.codes import CapturePoint
from pcapdiag.base.findings import Confidence, Note
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.rules._wire import fin_lag_ns
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import BEFORE, MS, Scene, fin, only, request


def test_missing_segments_lower_the_confidence():
    scene = Scene()
    loss = scene.lost(fin(127), n_holes=1)
    assert only(diagnose(scene.analysis(loss)), "PD101").confidence is Confidence.LIKELY
    dropped = Capture([CaptureFile("proxy.pcap")], [Note("interface-drops", "the capturing machine dropped 3 packets")])
    analysis = scene.analysis(scene.lost(fin(127)), captures=(dropped,))
    assert only(diagnose(analysis), "PD101").confidence is Confidence.LIKELY


@pytest.mark.parametrize(
    ("point", "orig_us", "lag_us"),
    [(CapturePoint.PROXY, 36, 93), (CapturePoint.UPSTREAM, 160_000, 0), (CapturePoint.UPSTREAM, 36, 57)],
)
def test_at_the_proxy_nothing_of_the_way_is_taken_off_how_long_it_had_the_fin(point, orig_us, lag_us):
    scene = Scene(rtt_ms=0.2)
    loss = scene.lost(fin(-0.093), request(ack=BEFORE + 1), handshake_orig_ns=orig_us * 1_000)
    assert fin_lag_ns(scene.analysis(loss, capture_points=(point,)), loss) == lag_us * MS // 1_000


def test_a_request_that_does_not_acknowledge_the_fin_has_no_lag():
    scene = Scene()
    loss = scene.lost(fin(-0.5))
    assert fin_lag_ns(scene.analysis(loss), loss) == -1
