"""What other connections to the same upstream tell of one that the capture holds the end of only."""

import dpkt
import pytest

from pcapdiag.api.analyze import analyze
from tests.conftest import ROOT


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


def count_of(code, report):
    return sum(f.failures for f in report.findings if f.code == code)


def test_that_a_connection_older_than_the_capture_was_never_closed_is_not_said(tmp_path):
    report = analyze(without_the_beginning("reset_on_reuse_state_lost", tmp_path, 0)).report
    assert sum("cannot be told" in f.message for f in report.findings if f.code == "PD106") == 1
