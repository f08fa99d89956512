"""Captures in, analysis out: what is handed on between the stages, and what the notes say."""

import numpy as np
import pytest

from pcapdiag.analysis.build import build_analysis
from pcapdiag.base.codes import Outcome
from pcapdiag.engine.capture.series import group_captures
from tests.scenario import parse, write_capture

ALSO_TESTS = ("notes",)

S = 10**9
OPEN = "+0 > S\n+0.02 < S.\n+0.0001 > .\n"
GET = '"GET /a HTTP/1.1\\r\\n\\r\\n"'
OK = '"HTTP/1.1 204 X\\r\\n\\r\\n"'
ANSWERED = OPEN + f"+0 > P. {GET}\n+0.1 < P. {OK}\n+0 > .\n"


@pytest.fixture
def analyse(tmp_path):
    """Return a function that analyses scripts, one capture each."""

    def run(*scripts, **options):
        paths = []
        for i, script in enumerate(scripts):
            (tmp_path / str(i)).mkdir(exist_ok=True)
            paths.append(tmp_path / str(i) / f"capture{i}.pcap")
            paths[-1].write_bytes(write_capture(parse(script), container="pcap-ns"))
        captures = [c for path in paths for c in group_captures([str(path)])]
        return build_analysis(captures, **options)

    return run


def codes_of(analysis):
    return {n.code for n in analysis.notes} | {n.code for c in analysis.captures for n in c.notes}


def test_a_sound_capture_has_its_tables_and_no_notes(analyse):
    a = analyse(ANSWERED)
    assert (a.n_frames, a.n_undecoded, len(a.connections), len(a.exchanges)) == (6, 0, 1, 1)
    assert a.exchanges["outcome"].tolist() == [Outcome.ANSWERED]
    assert a.last_ts_ns - a.first_ts_ns == 120_100_000
    assert codes_of(a) == set()


def test_an_empty_capture_is_an_empty_analysis(analyse):
    a = analyse("")
    assert (a.n_frames, len(a.connections), len(a.exchanges), a.losses, a.truncated) == (0, 0, 0, (), ())
    assert (a.first_ts_ns, a.last_ts_ns) == (-1, -1)


def test_connections_of_several_captures_are_numbered_through(analyse):
    a = analyse(ANSWERED, OPEN + f"+0 > P. {GET}\n+1 < R.\n")
    assert a.connections["conn"].tolist() == [0, 1]
    assert a.connections["capture_idx"].tolist() == [0, 1]
    assert sorted(zip(a.exchanges["conn"].tolist(), a.exchanges["outcome"].tolist(), strict=True)) == [
        (0, Outcome.ANSWERED),
        (1, Outcome.UNANSWERED),
    ]
    assert len(a.captures) == len(a.capture_points) == 2
    (loss,) = a.losses
    assert loss.connection.capture_idx == 1


def test_row_i_is_connection_i_in_whatever_order_they_ended(analyse):
    scripts = [f"+0.1 @{i} > S\n+0.01 @{i} < S.\n" for i in range(5)]
    endings = [f"+0.1 @{i} < R.\n" for i in (3, 0, 4)]
    a = analyse("".join(scripts + endings))
    assert a.connections["conn"].tolist() == [0, 1, 2, 3, 4]
    assert np.all(np.diff(a.connections["first_ts_ns"]) > 0)
    assert a.connections["resp_rst"].tolist() == [1, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (f"+0 > P. {GET}\n+0.1 < P. {OK}\n", "mid-stream"),
        (ANSWERED + "+0 < P. 20:30(10) lost\n+0 > . ack 30\n+1 > . ack 30\n", "holes"),
        (OPEN.replace("< S.", "< S. lost") + f"+0 > P. {GET}\n+1 > P. {GET}\n", "one-sided"),
        (OPEN + f"+0 > P. {GET}\n+0 > P. 1:20(19) {GET}\n", "duplicate-segments"),
        (OPEN + "+0 > P. 90000000:90000005(5)\n", "segments-outside-window"),
    ],
)
def test_what_is_odd_about_the_segments_is_noted(analyse, script, code):
    assert code in codes_of(analyse(script))
    assert code not in codes_of(analyse(ANSWERED))


def test_connections_beyond_the_bound_are_given_up_and_noted(analyse):
    script = "".join(f"+0.001 @{i} > S\n" for i in range(40))
    a = analyse(script, max_live=16)
    assert "connections-evicted" in codes_of(a)
    assert len(a.connections) == 40
    assert "connections-evicted" not in codes_of(analyse(script))


def test_segments_go_to_a_sink_that_asks_for_them_all(analyse):
    seen = []
    analyse(ANSWERED, segment_sink=lambda table: seen.append(table.rows.copy()))
    rows = np.concatenate(seen)
    assert rows["frame"].tolist() == [0, 1, 2, 3, 4, 5]
    assert rows["payload_len"].tolist() == [0, 0, 0, 19, 18, 0]
    assert rows["dir"].tolist() == [0, 1, 0, 0, 1, 0]


def test_the_sink_changes_no_other_table(analyse):
    with_sink, without = analyse(ANSWERED, segment_sink=len), analyse(ANSWERED)
    for name in ("connections", "exchanges"):
        a, b = getattr(with_sink, name), getattr(without, name)
        assert all(np.array_equal(a[c], b[c]) for c in a.schema.names)


def test_progress_is_told_in_bytes_and_frames(analyse):
    told = []
    a = analyse(ANSWERED, ANSWERED, on_progress=lambda *values: told.append(values))
    done, total, frames = told[-1]
    assert frames == a.n_frames == 12
    assert done <= a.n_bytes
    assert total > 0
    assert [t[0] for t in told] == sorted(t[0] for t in told)
