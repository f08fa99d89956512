"""Every code that a report may show has its word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.codes import TcpFlag
from pcapdiag.report import words

TABLES = {name: table for name, table in vars(words).items() if name.isupper() and isinstance(table, dict)}


@pytest.mark.parametrize("name", [name for name in TABLES if name != "HISTORY"])
def test_a_table_knows_every_member_of_its_enumeration_and_says_each_differently(name):
    table = TABLES[name]
    kind = type(next(iter(table)))
    assert set(table) == set(kind)
    assert len(set(table.values())) == len(table)


@given(st.integers(0, 255))
def test_flags_are_named_and_together_are_the_number(flags):
    named = words.flag_names(flags)
    assert sum(TcpFlag[name] for name in named) == flags & sum(TcpFlag)


def test_flags_are_said_in_the_order_in_which_people_say_them():
    assert words.flag_names(TcpFlag.ACK | TcpFlag.SYN) == ("SYN", "ACK")
    assert words.flag_names(0) == ()


def test_a_history_is_read_in_both_directions():
    assert words.history_words("ShAd") == "> SYN, < SYN-ACK, > ACK, < data"
    assert words.history_words("^") == "< direction guessed"
    assert words.history_words("") == ""
