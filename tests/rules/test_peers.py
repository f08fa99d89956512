"""What other connections to the same upstream tell of one that the capture holds the end of only."""

import dpkt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.analysis.model import Endpoint
from pcapdiag.api.analyze import analyze
from pcapdiag.base.columns import CONNECTIONS
from pcapdiag.base.findings import Confidence
from pcapdiag.base.tables import Table
from pcapdiag.base.units import parse_address
from pcapdiag.rules import RULES
from pcapdiag.rules._peers import hop_count, rows_of_peer
from tests.conftest import ROOT
from tests.rules.builders import Scene


@pytest.mark.parametrize(
    ("ttl", "hops"), [(64, 0), (63, 1), (65, 63), (128, 0), (127, 1), (255, 0), (254, 1), (-1, -1)]
)
def test_hops_count_from_the_usual_initial_values(ttl, hops):
    assert hop_count(ttl) == hops


ADDRESSES = ["10.0.0.1", "10.0.0.2", "255.255.255.255", "2001:db8::1", "2001:db8:0:1::1", "::1"]
PEERS = st.builds(Endpoint, st.sampled_from(ADDRESSES), st.sampled_from([0, 80, 8080, 65535]))


@given(st.lists(PEERS, max_size=30), PEERS)
def test_connections_to_a_peer_are_those_that_a_look_at_each_finds(responders, asked):
    rows = CONNECTIONS.empty(len(responders))
    rows["conn"] = np.arange(len(rows))
    for row, peer in zip(rows, responders, strict=True):
        row["resp_hi"], row["resp_lo"] = parse_address(peer.address)
        row["resp_port"] = peer.port
    analysis = Scene().analysis(connections=Table(CONNECTIONS, rows))
    found = [n for n, peer in enumerate(responders) if peer == asked]
    assert rows_of_peer(analysis, asked)["conn"].tolist() == found


RULE_OF = {rule.code: rule() for rule in RULES}


def without_the_beginning(case, folder, n):
    """Return a copy of a case's capture that holds the n-th lost request, and of its connection nothing before it."""
    source = ROOT / "captures" / case / "proxy.pcap"
    losses = [loss for loss in analyze(source).analysis.losses if loss.is_reused]
    port, frame = losses[n].connection.orig.port, losses[n].request_frame
    target = folder / "cut.pcap"
    with source.open("rb") as file, target.open("wb") as cut:
        reader = dpkt.pcap.Reader(file)
        writer = dpkt.pcap.Writer(cut, nano=True, linktype=reader.datalink())
        for number, (ts, data) in enumerate(reader, start=1):
            packet = dpkt.ethernet.Ethernet(data) if reader.datalink() == 1 else dpkt.sll.SLL(data)
            tcp = packet.data.data
            if number >= frame or port not in (getattr(tcp, "sport", 0), getattr(tcp, "dport", 0)):
                writer.writepkt(data, ts)
    return target


@pytest.mark.parametrize(
    ("case", "code"), [("middlebox_reset_on_reuse", "PD105"), ("reset_on_reuse_state_lost", "PD106")]
)
@pytest.mark.parametrize("n", [0, -1])
def test_who_reset_a_connection_older_than_the_capture_is_told_by_its_upstreams_others(tmp_path, case, code, n):
    whole = analyze(ROOT / "captures" / case / "proxy.pcap").report
    report = analyze(without_the_beginning(case, tmp_path, n)).report
    assert count_of(code, report) == count_of(code, whole)


@pytest.mark.parametrize(
    ("case", "code"), [("middlebox_reset_on_reuse", "PD105"), ("reset_on_reuse_state_lost", "PD106")]
)
def test_what_only_other_connections_tell_is_likely_and_no_more(tmp_path, case, code):
    analysis = analyze(without_the_beginning(case, tmp_path, 0)).analysis
    older = [loss for loss in analysis.losses if loss.connection.resp_ttl < 0]
    claims = {loss.request_frame: claim for loss, claim in RULE_OF[code].claims(analysis)}
    assert [claims[loss.request_frame].confidence for loss in older] == [Confidence.LIKELY]
    assert Confidence.CONFIRMED in {claim.confidence for claim in claims.values()}


def count_of(code, report):
    return sum(f.failures for f in report.findings if f.code == code)


def test_that_a_connection_older_than_the_capture_was_never_closed_is_not_said(tmp_path):
    report = analyze(without_the_beginning("reset_on_reuse_state_lost", tmp_path, 0)).report
    assert sum("cannot be told" in f.message for f in report.findings if f.code == "PD106") == 1
