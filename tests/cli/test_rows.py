"""Rows and columns that were asked for, in the order that was asked for."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import parse_endpoint
from pcapdiag.cli.rows import RowSelection, limited

FRAME = pd.DataFrame({"depth": [1, 2]})


@pytest.mark.parametrize(
    ("limit", "lengths"), [(None, [2, 2, 2]), (0, [0]), (1, [1]), (2, [2]), (3, [2, 1]), (99, [2, 2, 2])]
)
def test_a_limit_stops_reading_when_it_is_reached(limit, lengths):
    assert [len(chunk) for chunk in limited(iter([FRAME] * 3), limit)] == lengths


def picked(values, *, n_chunk=3, column="depth", **options):
    frame = pd.DataFrame({"request_frame": range(len(values)), column: values})
    chunks = [frame[start : start + n_chunk] for start in range(0, max(len(frame), 1), n_chunk)]
    return [row for chunk in RowSelection("exchanges", **options).apply(chunks) for row in chunk.to_dict("records")]


@given(st.lists(st.integers(-1, 5)), st.sampled_from(["depth", "-depth"]), st.sampled_from([None, 0, 1, 4, 100]))
def test_rows_are_sorted_as_python_sorts_them_and_those_without_a_value_come_last(values, sort, limit):
    def key(row):
        missing = row["depth"] == -1
        return missing, 0 if missing else -row["depth"] if sort.startswith("-") else row["depth"]

    rows = [{"request_frame": n, "depth": value} for n, value in enumerate(values)]
    assert picked(values, sort=sort, limit=limit) == sorted(rows, key=key)[:limit]


def test_integers_beyond_those_of_floats_are_told_apart():
    values = [2**62 + 1, 2**62, 2**62 + 2]
    assert [row["request_frame"] for row in picked(values, sort="depth")] == [1, 0, 2]


def test_texts_are_sorted_with_the_empty_ones_last():
    values = ["b", "", "a", "c"]
    assert [row["target"] for row in picked(values, column="target", sort="target")] == ["a", "b", "c", ""]
    assert [row["target"] for row in picked(values, column="target", sort="-target")] == ["c", "b", "a", ""]


def test_no_more_than_what_is_shown_is_kept_of_what_is_sorted():
    kept = []

    def chunks():
        for n in range(50):
            yield pd.DataFrame({"depth": range(n * 10, n * 10 + 10)})

    selection = RowSelection("exchanges", sort="-depth", limit=2)
    in_order = selection._in_order
    selection._in_order = lambda frame: kept.append(len(frame)) or in_order(frame)
    (result,) = selection.apply(chunks())
    assert result["depth"].tolist() == [499, 498]
    assert max(kept) == 12


@pytest.mark.parametrize(
    ("upstream", "rows"),
    [
        ("10.0.0.1:80", [0]),
        ("10.0.0.1", [0, 1]),
        ("10.0.0.11", [2]),
        ("::1", [3]),
        ("[::1]:80", [3]),
        ("[::1]:8", []),
        ("10.0.0.2", []),
    ],
)
def test_an_upstream_is_an_address_with_or_without_its_port(upstream, rows):
    ends = ["10.0.0.1:80", "10.0.0.1:81", "10.0.0.11:80", "[::1]:80", ""]
    found = picked(ends, column="resp", upstreams=[parse_endpoint(upstream)])
    assert [row["request_frame"] for row in found] == rows


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": "resp,outcom"}, "--columns: exchanges have no column 'outcom'; did you mean outcome?"),
        ({"columns": "status,idle"}, "--columns: exchanges have no column 'status'; did you mean status_code?"),
        ({"sort": "idle"}, "--sort: exchanges have no column 'idle'; did you mean idle_before_ns?"),
        ({"sort": "-zzz"}, "--sort: exchanges have no column 'zzz'; there are request_frame, "),
        ({"where": "outcom == 'answered'"}, "there is no column 'outcom'; did you mean outcome?"),
    ],
)
def test_a_column_that_is_not_there_is_said_at_once_with_the_nearest(options, says):
    with pytest.raises(UsageError) as refused:
        RowSelection("exchanges", **options)
    assert says in str(refused.value)


def test_columns_come_in_the_order_that_was_asked_for_each_once():
    assert RowSelection("exchanges", columns=" outcome, idle_before,outcome,").columns == ("outcome", "idle_before_ns")
