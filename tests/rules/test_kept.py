"""What rules count of kept connections: who is counted, what was announced, how many were open."""

from dataclasses import replace

import numpy as np
import pytest

from pcapdiag.analysis.build import build_analysis
from pcapdiag.analysis.inputs import Inputs
from pcapdiag.analysis.model import Endpoint
from pcapdiag.base.codes import CapturePoint
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.rules import _kept as kept
from tests.conversations import LAST, Conversation, in_order
from tests.scenario import ORIG, RESP, write_capture

UPSTREAM = Endpoint("10.9.0.1", 80)


@pytest.fixture
def analysis(tmp_path):
    """Return an analysis of three connections: two that overlap, one whose response announces its end."""
    first, second, last = (Conversation(n, at) for n, at in enumerate((0, 200, 9_000)))
    first.close(first.ask(200) + 500, ORIG)
    second.ask(400)
    last.close(last.ask(9_200, response=LAST) + 1, RESP)
    path = tmp_path / "proxy.pcap"
    path.write_bytes(write_capture(in_order(first, second, last), container="pcap-ns"))
    return build_analysis(group_captures([str(path)]), Inputs(upstreams=(str(UPSTREAM),)))


def test_all_that_leads_to_an_endpoint_is_counted_and_nothing_else(analysis):
    assert kept.of_endpoint(analysis, UPSTREAM).index.tolist() == [0, 1, 2]
    assert len(kept.of_endpoint(analysis, Endpoint("10.9.0.1", 81))) == 0
    assert len(kept.of_endpoint(analysis, Endpoint("10.9.0.2", 80))) == 0
    for tell in (kept.to_upstreams, kept.is_readable, kept.is_seen_at_proxy):
        assert tell(analysis).tolist() == [True] * 3
    elsewhere = replace(analysis, capture_points=(CapturePoint.UPSTREAM,))
    assert kept.is_seen_at_proxy(elsewhere).tolist() == [False] * 3


def test_what_announced_its_end_is_told(analysis):
    assert kept.announced_ends(analysis).tolist() == [False, False, True]
    assert kept.announced_ends(analysis) is kept.announced_ends(analysis)


def test_open_connections_are_counted_at_any_time(analysis):
    columns = kept.of_endpoint(analysis, UPSTREAM)
    begin = analysis.first_ts_ns
    times = begin + np.array([-1, 0, 300_000_000, 2_000_000_000, 20_000_000_000])
    assert kept.n_open_at(columns, times).tolist() == [0, 1, 2, 1, 1]
    assert kept.most_open(columns) == 2


def test_handshakes_are_those_that_were_seen_whole(analysis):
    columns = kept.of_endpoint(analysis, UPSTREAM)
    assert kept.mean_handshake_ns(columns) == 160_000_000
    assert kept.mean_handshake_ns(columns.pick(slice(0, 0))) == -1
