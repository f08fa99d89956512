"""Schemas describe every column; stores return what was appended, in memory or not; tables are read-only views."""

import numpy as np
import pytest

from pcapdiag.base import columns
from pcapdiag.base.columns import EXCHANGES, Column, Schema
from pcapdiag.base.tables import ByteStore, RowStore, StoredTable, Table

PAIR = Schema("pairs", Column("a", "i8", "ns", "a time"), Column("b", "i2", "", "a number"))
SCHEMAS = [value for value in vars(columns).values() if isinstance(value, Schema)]


def rows(*values):
    return np.array([(v, v % 100) for v in values], dtype=PAIR.dtype)


def spilled(*parts):
    """Return a store that keeps at most one row of 16 bytes in memory, filled with parts."""
    store = RowStore(PAIR, memory_bytes=16)
    for part in parts:
        store.append(rows(*part))
    return store


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: s.name)
def test_every_column_has_a_name_of_its_own_and_a_meaning(schema):
    assert len(set(schema.names)) == len(schema.names)
    assert all(c.doc for c in schema.columns)
    assert schema.names == schema.dtype.names


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: s.name)
def test_a_name_that_ends_in_its_unit_has_that_unit(schema):
    for c in schema.columns:
        for suffix, unit in (("_ns", "ns"), ("_bytes", "bytes"), ("_s", "s")):
            if c.name.endswith(suffix):
                assert c.unit == unit, c.name


def test_a_schema_tells_its_name_and_makes_zeroed_rows():
    assert repr(PAIR) == "Schema('pairs', 2 columns)"
    assert PAIR.empty(3)["a"].tolist() == [0, 0, 0]


def test_a_table_is_read_only_and_leaves_the_rows_writable():
    mine = rows(1, 2)
    table = Table(PAIR, mine)
    with pytest.raises(ValueError, match="read-only"):
        table.rows["a"][0] = 9
    mine["a"][0] = 7
    assert table["a"].tolist() == [7, 2]


def test_a_table_takes_rows_by_index_and_by_mask():
    table = Table(PAIR, rows(1, 2, 3))
    assert table.take([2, 0])["a"].tolist() == [3, 1]
    assert table.take(table["a"] > 1)["a"].tolist() == [2, 3]
    assert [len(c) for c in table.chunks()] == [3]
    assert list(Table(PAIR, PAIR.empty()).chunks()) == []


def test_a_table_becomes_a_frame_with_the_same_columns():
    frame = Table(PAIR, rows(5, 6)).to_frame()
    assert frame.to_dict("list") == {"a": [5, 6], "b": [5, 6]}
    assert frame["b"].dtype == np.int16


def test_a_store_copies_what_it_is_given():
    store, mine = RowStore(PAIR), rows(1)
    store.append(mine)
    mine["a"] = 9
    assert store.table()["a"].tolist() == [1]


def test_rows_that_do_not_fit_in_memory_come_back_the_same_and_in_order():
    parts = [(1, 2), (), (3,), (4, 5, 6), (7,)]
    inside = RowStore(PAIR)
    for part in parts:
        inside.append(rows(*part))
    outside = spilled(*parts)
    assert outside.n_rows == inside.n_rows == 7
    table = outside.table()
    assert isinstance(table, StoredTable)
    assert not isinstance(inside.table(), StoredTable)
    assert table["a"].tolist() == inside.table()["a"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert np.array_equal(table.rows, inside.table().rows)
    assert len(table) == 7
    assert sum(len(c) for c in table.chunks()) == 7


def test_a_store_may_be_read_while_it_grows():
    store = spilled((1, 2), (3,))
    assert [r["a"].tolist() for r in store.read_chunks()] == [[1], [2], [3]]
    store.append(rows(4))
    assert np.concatenate(list(store.read_chunks()))["a"].tolist() == [1, 2, 3, 4]


def test_an_empty_store_is_an_empty_table():
    table = RowStore(PAIR).table()
    assert len(table) == 0
    assert table["a"].dtype == np.int64


def test_a_stored_table_takes_rows_in_the_order_asked_for():
    table = spilled((1, 2), (3, 4), (5,)).table()
    assert table.take([4, 0, 3, 0])["a"].tolist() == [5, 1, 4, 1]
    assert table.take(np.array([False, True, False, False, True]))["a"].tolist() == [2, 5]
    assert len(table.take([])) == 0


@pytest.mark.parametrize("index", [[5], [0, 17], [-1]])
def test_a_stored_table_refuses_rows_it_does_not_have(index):
    with pytest.raises(IndexError):
        spilled((1, 2), (3, 4), (5,)).table().take(index)


def test_a_stored_table_is_read_only():
    table = spilled((1, 2), (3,)).table()
    with pytest.raises(ValueError, match="read-only"):
        table.rows["a"][0] = 9
    assert table["b"].tolist() == [1, 2, 3]


def test_bytes_come_back_from_wherever_they_are():
    store = ByteStore(memory_bytes=4)
    data = b"abcdefghijkl"
    for i in range(0, len(data), 3):
        store.append(np.frombuffer(data[i : i + 3], dtype=np.uint8))
    assert len(store) == len(data)
    for start in range(len(data)):
        for length in range(len(data) - start + 1):
            assert store.read(start, length) == data[start : start + length]
    store.append(np.frombuffer(b"m", dtype=np.uint8))
    assert store.read(10, 3) == b"klm"


def test_no_offset_and_no_length_are_no_bytes():
    store = ByteStore()
    store.append(np.frombuffer(b"abc", dtype=np.uint8))
    assert (store.read(-1, 3), store.read(0, 0), store.read(1, -1)) == (b"", b"", b"")


def test_rows_of_real_schemas_survive_the_file():
    store = RowStore(EXCHANGES, memory_bytes=0)
    mine = EXCHANGES.empty(2)
    mine["request_seq"], mine["flags"], mine["outcome"] = [2**32 - 1, 7], [0x7FF, 1], [1, 0]
    store.append(mine)
    assert np.array_equal(store.table().rows["request_seq"], mine["request_seq"])
    assert store.table()["flags"].tolist() == [0x7FF, 1]
