"""What the fuzzers run: one function per parser, from bytes to an analysis whose tables are then checked.

`capture` takes a whole file (containers, decoding, connections, exchanges, rules); `heads` takes the two streams of one
connection (the HTTP framer), cut into segments as the first bytes say; `logs` takes a file as every kind of log.
"""

from pathlib import Path

import numpy as np

from pcapdiag.analysis.build import build_analysis
from pcapdiag.base.codes import Outcome
from pcapdiag.base.errors import PcapdiagError
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.error_log import read_error_log
from pcapdiag.proxy.logs.upstream_log import read_upstream_log
from pcapdiag.rules.diagnose import diagnose
from tests.scenario import Segment, write_capture


def _analyse(data, path):
    path.write_bytes(data)
    try:
        analysis = build_analysis(group_captures([str(path)]))
    except PcapdiagError:
        return  # refused with a message: not a capture
    check_tables(analysis)
    diagnose(analysis)


def check_tables(analysis):
    """Assert what every analysis promises, whatever the bytes were.

    Raises
    ------
    AssertionError
        If a column points outside its table or a count contradicts another.
    """
    connections, exchanges = analysis.connections, analysis.exchanges
    n_conn = len(connections)
    assert 0 <= analysis.n_undecoded <= analysis.n_frames
    assert np.array_equal(connections["conn"], np.arange(n_conn))
    for table, names in (
        (connections, ("first_frame", "last_frame", "closing_frame")),
        (exchanges, ("request_frame", "response_frame")),
    ):
        for name in names:
            assert ((table[name] >= -1) & (table[name] < analysis.n_frames)).all(), name
    for name in (
        "orig_bytes",
        "resp_bytes",
        "hole_bytes",
        "orig_frames",
        "resp_frames",
        "idle_at_close_ns",
        "rtt_min_ns",
    ):
        assert (connections[name] >= -1).all(), name
    for name in ("request_bytes", "response_bytes", "idle_before_ns", "first_byte_ns", "duration_ns"):
        assert (exchanges[name] >= -1).all(), name
    assert ((exchanges["conn"] >= 0) & (exchanges["conn"] < n_conn)).all()
    assert np.isin(exchanges["outcome"], [int(o) for o in Outcome]).all()
    counted = np.bincount(exchanges["conn"], minlength=n_conn)
    assert np.array_equal(counted, connections["n_exchanges"])
    lost = np.bincount(exchanges["conn"][exchanges["outcome"] == Outcome.UNANSWERED], minlength=n_conn)
    assert np.array_equal(lost, connections["n_unanswered"])
    text_end = exchanges["text_offset"] + exchanges["target_len"] + exchanges["host_len"] + exchanges["request_id_len"]
    assert (text_end <= len(analysis.texts)).all()


def run_capture(data, folder):
    """Read `data` as a capture file."""
    _analyse(data, Path(folder) / "current.bin")


def run_heads(data, folder):
    """Take `data` as (how to cut, length of the request stream, request stream, response stream)."""
    if len(data) < 4:
        return
    step, order, split = 1 + data[0] * 4, data[1] & 3, int.from_bytes(data[2:4], "big")
    streams = (data[4 : 4 + split], data[4 + split :])
    segments = [Segment(0, 0, 0, 0x02, 0, -1), Segment(10**7, 0, 1, 0x12, 0, 1), Segment(2 * 10**7, 0, 0, 0x10, 1, 1)]
    at, now_ns = [0, 0], 3 * 10**7
    while at[0] < len(streams[0]) or at[1] < len(streams[1]):
        side = 0 if at[0] < len(streams[0]) and (order & 1 or at[0] <= at[1] or at[1] >= len(streams[1])) else 1
        piece = streams[side][at[side] : at[side] + step]
        segments.append(Segment(now_ns, 0, side, 0x18, 1 + at[side], 1 + at[1 - side], piece))
        at[side] += len(piece)
        now_ns += 10**6
    if order & 2:
        segments.append(Segment(now_ns, 0, 1, 0x11, 1 + at[1], 1 + at[0]))
    _analyse(write_capture(segments, checksums=False), Path(folder) / "current.bin")


LOG_FORMAT = (
    '$remote_addr [$time_local] "$request" $status $http_user_agent $args "$upstream_addr" "$upstream_status" $msec'
)


def run_logs(data, folder):
    """Read `data` as an error log, as access logs of a known, an ambiguous and an unknown format, and as another."""
    path = Path(folder) / "current.log"
    path.write_bytes(data)
    for log in (
        read_error_log(str(path)),
        read_access_log(str(path)),
        read_access_log(str(path), LOG_FORMAT),
        read_upstream_log(str(path)),
        read_upstream_log(str(path), r"(?P<time>\S+) (?P<method>\S+) (?P<target>\S+)"),
    ):
        n_entries, latest = 0, 0
        for entry in log:
            n_entries += 1
            assert latest <= entry.line <= log.counts.n_lines
            latest = entry.line
        assert n_entries == log.counts.n_records
        assert len(log.counts.unparsed) <= log.counts.n_unparsed <= log.counts.n_lines + 1


TARGETS = {"capture": run_capture, "heads": run_heads, "logs": run_logs}
