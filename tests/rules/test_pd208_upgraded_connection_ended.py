"""PD208: an upgraded connection is named by the request that upgraded it."""

from pcapdiag.analysis.build import build_analysis
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import only
from tests.scenario import parse, write_capture

SCRIPT = r"""
+0   > S
+0.1 < S.
+0   > .
+0   > P. "GET /a HTTP/1.1\r\n\r\n"
+0.1 < P. "HTTP/1.1 204 No\r\n\r\n"
+1   > P. "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
+0.1 < P. "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n"
+9   < R.
"""


def test_it_names_the_request_and_not_the_syn(tmp_path):
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(SCRIPT), container="pcap-ns"))
    finding = only(diagnose(build_analysis(group_captures([str(path)]))), "PD208")
    (occurrence,) = finding.occurrences
    assert (occurrence.request_frame, occurrence.depth, occurrence.closing_frame) == (5, 1, 7)
    assert "ended by a RST of 10.9.0.1:80, after a silence of 9 s" in finding.message


def test_an_upgrade_to_http2_is_none(tmp_path):
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(SCRIPT.replace("Upgrade: websocket", "Upgrade: h2c")), container="pcap-ns"))
    analysis = build_analysis(group_captures([str(path)]))
    assert [f for f in diagnose(analysis).findings if f.code == "PD208"] == []
    # Its answer was to come as the first stream.
    assert [(loss.stream, loss.target) for loss in analysis.losses] == [(1, "/ws")]
