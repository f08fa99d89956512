"""What is said of columns is what tables have."""

import pytest

from pcapdiag.report.table_columns import TABLES, WORDS, column_words, resolve
from tests.conftest import ROOT

CAPTURES = [
    ROOT / "captures" / case / "proxy.pcap"
    for case in ("idle_close_race_ipv6", "worker_exit", "connect_refused_and_timeout", "truncated_response")
]


@pytest.fixture(scope="module")
def tables():
    """Return every table of some captures."""
    from pcapdiag.analysis.build import build_analysis
    from pcapdiag.analysis.inputs import NO_INPUTS
    from pcapdiag.base.columns import SEGMENTS
    from pcapdiag.base.tables import RowStore
    from pcapdiag.engine.capture.reader import read_batches
    from pcapdiag.engine.capture.series import group_captures
    from pcapdiag.report.frame_numbers import FrameNumbers
    from pcapdiag.report.tables import TableBuilder, frames_frame

    found = {name: [] for name in TABLES}
    for path in CAPTURES:
        segments = RowStore(SEGMENTS)
        captures = group_captures([str(path)])
        analysis = build_analysis(
            captures, NO_INPUTS, segment_sink=lambda part, to=segments: to.append(part.rows), keep_all=True
        )
        builder = TableBuilder(analysis)
        numbers = FrameNumbers(captures)
        found["frames"] += [frames_frame(batch.frames, 0, numbers) for batch in read_batches(captures[0])]
        found["segments"] += builder.segments(segments.table())
        found["exchanges"] += builder.exchanges()
        found["connections"].append(builder.connections())
        found["closings"].append(builder.closings())
    return found


@pytest.mark.parametrize("table", TABLES)
def test_each_table_has_the_columns_that_are_described_in_their_order(tables, table):
    assert {tuple(frame.columns) for frame in tables[table]} == {tuple(TABLES[table])}


@pytest.mark.parametrize("table", TABLES)
def test_a_column_of_words_holds_no_other(tables, table):
    for name in set(WORDS) & set(TABLES[table]):
        held = {word for frame in tables[table] for word in frame[name]}
        assert held - {"", *column_words(name)} == set()
        assert held


def test_a_duration_is_known_without_its_unit_and_nothing_else_is():
    columns = dict.fromkeys(["idle_before_ns", "ts", "ts_ns"])
    assert [resolve(name, columns) for name in ("idle_before", "ts", "idle_before_ns", "idle")] == [
        "idle_before_ns",
        "ts",
        "idle_before_ns",
        "",
    ]
