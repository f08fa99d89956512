"""Tables on their way out: exact numbers, one header, and text that neither a terminal nor a spreadsheet obeys."""

import csv
import io
import json
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import MissingExtraError
from pcapdiag.cli import writers

FRAME = pd.DataFrame(
    {"frame": [1, 2], "idle_before_ns": [-1, 2**62 + 1], "target": ["/a", "=1+1"], "ok": [True, False]}
)
HOSTILE = [
    "=cmd|'/c calc'!A1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\x1b[31m",
    "\u202ea",
    'q"uote,comma\nline',
    "\x7f",
    " =1+1",
    "\n=1+1",
    "\uff1dcmd",
    "\uff0b1",
    "\uff0d1",
    "\uff20x",
]


def written(format_, *frames, columns=("frame", "idle_before_ns", "target")):
    file = io.BytesIO()
    writer = writers.open_writer(format_, file, columns)
    for frame in frames:
        writer.write(frame)
    writer.close()
    return file.getvalue()


def test_csv_has_one_header_and_exact_integers():
    rows = list(csv.reader(io.StringIO(written("csv", FRAME, FRAME).decode())))
    assert rows[0] == ["frame", "idle_before_ns", "target", "ok"]
    assert rows[1:] == [["1", "", "/a", "True"], ["2", "4611686018427387905", "'=1+1", "False"]] * 2


def test_csv_of_no_rows_is_a_header():
    assert written("csv", FRAME.iloc[:0]) == b"frame,idle_before_ns,target,ok\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_csv_cell_is_a_formula_or_holds_a_control_character(text):
    data = written("csv", pd.DataFrame({"target": [text]})).decode()
    cell = list(csv.reader(io.StringIO(data)))[1][0]
    assert not cell.strip().startswith(tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20"))
    assert not [c for c in data.replace("\n", "") if unicodedata.category(c) in {"Cc", "Cf"}]


def test_a_text_below_an_empty_cell_is_no_formula_either():
    rows = list(csv.reader(io.StringIO(written("csv", pd.DataFrame({"target": [None, "=1+1"]})).decode())))
    assert rows[2] == ["'=1+1"]


def test_json_is_one_array_with_one_object_per_line():
    data = written("json", FRAME, FRAME).decode()
    assert json.loads(data)[1] == {"frame": 2, "idle_before_ns": 2**62 + 1, "target": "=1+1", "ok": False}
    assert len(data.splitlines()) == 2 + 4


def test_json_of_no_rows_is_an_empty_array():
    assert json.loads(written("json", FRAME.iloc[:0])) == []


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_keeps_any_text_and_is_printable(text):
    data = written("json", pd.DataFrame({"target": ["x", text]})).decode()
    assert json.loads(data)[1]["target"] == text
    assert all(" " <= c <= "~" or c == "\n" for c in data)


def test_the_table_for_people_shows_chosen_columns_in_words():
    lines = written("table", FRAME).decode().splitlines()
    assert lines[0].split() == ["frame", "idle", "before", "target"]
    assert lines[1].split() == ["1", "/a"], "what is missing is empty"
    assert lines[2].endswith("  =1+1")
    assert {line.index("/a") if "/a" in line else line.index("=1+1") for line in lines[1:]} == {
        lines[0].index("target")
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_reaches_no_terminal_raw(text):
    data = written("table", FRAME.assign(target=[text, text])).decode()
    assert not [c for c in data.replace("\n", "") if unicodedata.category(c) in {"Cc", "Cf"}]
    assert len(data.splitlines()) == 3


def test_parquet_keeps_every_column_exactly():
    data = written("parquet", FRAME, FRAME.iloc[:0], FRAME)
    back = pd.read_parquet(io.BytesIO(data))
    assert back.to_dict("list") == pd.concat([FRAME, FRAME], ignore_index=True).to_dict("list")


def test_parquet_without_pyarrow_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pcapdiag\[parquet\]"):
        written("parquet", FRAME)
