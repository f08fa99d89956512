"""Findings and occurrences as tables: flat cells, the same columns with and without rows."""

import pandas as pd
import pytest

from pcapdiag.report.finding_tables import findings_frame, occurrences_frame
from tests.report import builders


@pytest.mark.parametrize("make", [findings_frame, occurrences_frame])
def test_an_empty_table_has_the_columns_of_a_full_one(make):
    empty, full = make(builders.report()), make(builders.race_report())
    assert list(empty.columns) == list(full.columns)
    assert list(empty.dtypes) == list(full.dtypes)
    assert len(empty) == 0


def test_no_cell_holds_a_list_or_several_lines():
    for frame in (findings_frame(builders.race_report()), occurrences_frame(builders.race_report())):
        cells = [cell for name in frame.columns for cell in frame[name]]
        assert not [cell for cell in cells if not isinstance(cell, str | int)]
        assert not [cell for cell in cells if isinstance(cell, str) and "\n" in cell]


def test_every_occurrence_is_a_row_with_its_cause():
    frame = occurrences_frame(builders.race_report())
    assert len(frame) == 13
    assert set(frame["code"]) == {"PD101"}
    assert list(frame.columns[:2]) == ["code", "subject"]
    assert frame["request_frame"].dtype == "int64"
    assert frame["request_ts"][0] == "2026-11-20T23:55:56.886114000Z"


def test_a_finding_without_a_time_has_no_text_for_it():
    frame = findings_frame(builders.report(builders.finding(occurrences=())))
    assert isinstance(frame, pd.DataFrame)
    assert (frame["first_ts_ns"][0], frame["first_ts"][0]) == (-1, "")
