"""What is said of the input: connections of HTTP/2 that began before the capture."""

import struct

import pytest

import pcapdiag
from tests.conftest import ROOT

CASE = ROOT / "captures" / "grpc_goaway_race" / "proxy.pcap"


def from_frame(path, first):
    """Write the case's capture from a frame on."""
    data, at = CASE.read_bytes(), 24
    for _ in range(first - 1):
        at += 16 + struct.unpack_from("<I", data, at + 8)[0]
    path.write_bytes(data[:24] + data[at:])
    return path


@pytest.mark.parametrize(("first", "n_late"), [(1, 0), (30, 1)])
def test_connections_of_http2_that_began_before_the_capture_are_counted(tmp_path, first, n_late):
    notes = pcapdiag.analyze(from_frame(tmp_path / "a.pcap", first)).analysis.notes
    texts = [note.text for note in notes if note.code == "http2-began-before"]
    assert [text.partition(" ")[0] for text in texts] == [str(n_late)] * n_late


def test_where_no_other_connection_speaks_http2_nothing_is_said_of_it(tmp_path):
    data, at = from_frame(tmp_path / "a.pcap", 30).read_bytes(), 24
    for _ in range(6):
        at += 16 + struct.unpack_from("<I", data, at + 8)[0]
    (tmp_path / "b.pcap").write_bytes(data[:at])
    analysis = pcapdiag.analyze(tmp_path / "b.pcap").analysis
    assert len(analysis.connections) == 1
    assert "http2-began-before" not in {note.code for note in analysis.notes}
