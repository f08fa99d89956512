"""A piece of the recording without some of its connections."""

import pytest

from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.watch.piece import leave_out
from tests.scenario import Form, parse, write_capture

FORM = Form()
ENDS = (f"{FORM.orig}:{FORM.orig_port}", f"{FORM.resp}:{FORM.resp_port}")
SCRIPT = '+0 > S\n+1 < S.\n+1 > .\n+1 @1 > S\n+1 @1 < S.\n+1 > P. "GET"\n+10 > S\n+1 < S.\n'


def ports_of(*paths):
    """Return (originator's port, seconds since the start) of every frame."""
    found = []
    for batch in read_batches(Capture([CaptureFile(str(path)) for path in paths])):
        for frame in batch.frames:
            port = int(max(frame["src_port"], frame["dst_port"]))
            found.append((port - FORM.orig_port, (int(frame["ts_ns"]) - FORM.start_ns) // 10**9))
    return found


@pytest.fixture
def piece(tmp_path):
    path = tmp_path / "00.pcap"
    path.write_bytes(write_capture(parse(SCRIPT), FORM))
    return path


@pytest.mark.parametrize("ends", [ENDS, ENDS[::-1]])
def test_both_directions_of_a_connection_go_and_a_later_one_of_the_same_ports_stays(piece, tmp_path, ends):
    left = leave_out([str(piece)], {ends: FORM.start_ns + 5 * 10**9}, str(tmp_path / "left"))
    assert ports_of(*left) == [(1, 3), (1, 4), (0, 15), (0, 16)]
    assert not piece.exists()


def test_what_nobody_named_stays_as_it_was(piece, tmp_path):
    before = ports_of(piece)
    assert ports_of(*leave_out([str(piece)], {}, str(tmp_path / "left"))) == before


def test_of_a_piece_of_nothing_else_nothing_is_left(piece, tmp_path):
    everything = {ENDS: 1 << 62, (f"{FORM.orig}:{FORM.orig_port + 1}", ENDS[1]): 1 << 62}
    assert leave_out([str(piece)], everything, str(tmp_path / "left")) == ()
