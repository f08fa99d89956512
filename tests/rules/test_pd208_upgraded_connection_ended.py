"""PD208: an upgraded connection is named by the request that upgraded it."""

from dataclasses import replace

import pytest

from pcapdiag.analysis.build import build_analysis
from pcapdiag.base.findings import Confidence
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.proxy.join.ledger import EntryVerdict, JoinedEntry, Ledger
from pcapdiag.proxy.logs.entries import BODY, LogKind
from pcapdiag.rules.diagnose import diagnose
from tests.proxy.join.builders import entry, wire
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


@pytest.mark.parametrize(
    ("kind", "closer", "says"),
    [(LogKind.TIMED_OUT, ">", True), (LogKind.TIMED_OUT, "<", False), (LogKind.PREMATURE_CLOSE, "<", False)],
)
@pytest.mark.parametrize("action", [BODY, "proxying upgraded connection"])
def test_its_end_is_told_once_whatever_the_log_calls_it(tmp_path, kind, closer, says, action):
    """A proxy whose client asked for no upgrade takes what follows a 101 for a body, and logs a failure inside it."""
    codes = told_with(tmp_path, SCRIPT.replace("+9   < R.", f"+9   {closer} F."), kind, action)
    assert set(codes) == {"PD208"}
    assert ("The proxy's log says that its timeout ran out." in codes["PD208"]) is says


@pytest.mark.parametrize(("kind", "code"), [(LogKind.TIMED_OUT, "PD204"), (LogKind.PREMATURE_CLOSE, "PD203")])
def test_the_end_of_a_body_is_no_end_of_an_upgraded_connection(tmp_path, kind, code):
    plain = (
        SCRIPT.replace("101 X", "200 X").replace("Upgrade: websocket", "X-Nothing: x").replace("+9   < R.", "+9   > F.")
    )
    assert set(told_with(tmp_path, plain, kind, BODY)) == {code}


def told_with(tmp_path, script, kind, action):
    """Return what is said, by code, where the log has such an entry of the connection's last exchange."""
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(script), container="pcap-ns"))
    analysis = build_analysis(group_captures([str(path)]))
    attempt = replace(wire(0), conn=0, depth=1, is_failure=False, is_end_known=False)
    joined = JoinedEntry(entry(9, kind=kind, action=action), EntryVerdict.EXPLAINED, "", Confidence.CONFIRMED, attempt)
    analysis = replace(analysis, log=Ledger(clock=None, entries=(joined,), tries=(), errors_read=1))
    return {f.code: f.message for f in diagnose(analysis).findings}
