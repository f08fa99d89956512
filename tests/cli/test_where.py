"""--where: comparisons over columns, and no way out of them."""

import pandas as pd
import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.cli.where import Where
from pcapdiag.report.table_columns import TABLES

FRAME = pd.DataFrame(
    {
        "depth": [0, 1, 2, 3],
        "idle_before_ns": [-1, 3_900_000_000, 10, 4_100_000_000],
        "outcome": ["answered", "unanswered", "answered", "unanswered"],
        "target": ["/a", "/api?x=***", "/api", "/b"],
        "open_exchange": [True, False, True, False],
    }
)


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("depth > 1", [2, 3]),
        ("0 < depth <= 2", [1, 2]),
        ("idle_before_ns > 3.8e9 and outcome == 'unanswered'", [1, 3]),
        ("depth == 0 or depth == 3", [0, 3]),
        ("not depth == 0", [1, 2, 3]),
        ("depth in (0, 2)", [0, 2]),
        ("depth not in [0, 2]", [1, 3]),
        ("outcome in ('answered',)", [0, 2]),
        ("depth in ()", []),
        ("'/api' in target", [1, 2]),
        ("'/api' not in target", [0, 3]),
        ("'.' in target", []),
        ("idle_before_ns == -1", [0]),
        ("idle_before_ns / 1000000 >= depth * 2000 - 1", [0, 1]),
        ("depth % 2 == 1", [1, 3]),
        ("depth - 1 + 1 == depth", [0, 1, 2, 3]),
        ("open_exchange", [0, 2]),
        ("not open_exchange and depth == 1", [1]),
        ("True", [0, 1, 2, 3]),
        ("1 > 2", []),
        ("outcome == 3", []),
        ("idle_before > 3.8s", [1, 3]),
        ("idle_before_ns > 3.8s and idle_before < 4000ms", [1]),
        ("0s <= idle_before < 1us", [2]),
        ("idle_before > 0.0001m or outcome == '60s'", [1, 3]),
    ],
)
def test_rows_are_those_for_which_the_expression_is_true(expression, rows):
    assert Where(expression).select(FRAME).index.tolist() == rows


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "depth >",
        "depth",
        "nothing == 1",
        "__import__('os').system('true')",
        "depth.__class__ == 1",
        "@depth == 1",
        "target[0] == 'a'",
        "(lambda: 1)() == 1",
        "[x for x in depth] == 1",
        "f'{depth}' == 1",
        "(depth := 1) == 1",
        "depth ** 9 == 1",
        "depth is 1",
        "outcome > 3",
        "outcome + 'x' == 'y'",
        "'x' * 1000000000 == outcome",
        "1 / 0 == depth",
        "depth in target",
        "depth in (depth, 1)",
        "'a' in 'abc'",
        "depth and True",
        "b'x' == target",
        "None == depth",
        "depth if True else depth",
        "x" * 3000,
        "(" * 400 + "1" + ")" * 400,
        "-" * 1500 + "1 == depth",
        "depth == 1\0",
        "idle_before > 0.5ns",
        "idle_before > 5 s",
        "60 > idle_befor_ns",
    ],
)
def test_anything_else_is_refused_with_a_reason(expression):
    with pytest.raises(UsageError, match="--where"):
        Where(expression).select(FRAME)


def test_an_unknown_column_lists_those_that_exist():
    with pytest.raises(UsageError, match="there is no column 'zzz'; there are depth, idle_before_ns, outcome"):
        Where("zzz > 1").select(FRAME)


@pytest.mark.parametrize(
    ("expression", "reason"), [("outcome = 'answered'", "equal is =="), ("outcome == 'answered", "unterminated string")]
)
def test_what_is_no_expression_is_refused_in_words(expression, reason):
    with pytest.raises(UsageError, match=reason) as refused:
        Where(expression)
    assert "<unknown>" not in str(refused.value)


@pytest.mark.parametrize(
    ("expression", "near"),
    [
        ("idle > 1s", "there is no column 'idle'; did you mean idle_before_ns?"),
        ("idle_befor > 1s", "there is no column 'idle_befor'; did you mean idle_before_ns?"),
        ("1 in (depth, xyzzy)", "there is no column 'xyzzy'; there are request_frame, "),
        ("outcome == 'unanswerd'", "outcome is never 'unanswerd'; did you mean unanswered?"),
        ("'gett' != method", "method is never 'gett'; did you mean GET?"),
        ("outcome in ('answered', 'lost')", "outcome is never 'lost'; it is one of answered, unanswered, "),
    ],
)
def test_what_no_row_can_have_is_refused_before_there_are_rows(expression, near):
    with pytest.raises(UsageError) as refused:
        Where(expression).check(TABLES["exchanges"])
    assert near in str(refused.value)


def test_what_a_row_can_have_is_not_refused():
    Where("method == '' or outcome == 'answered' and target == 'answred' and idle_before > 1s").check(
        TABLES["exchanges"]
    )


def test_no_rows_stay_no_rows():
    assert len(Where("depth > 1 and '/x' in target").select(FRAME.iloc[:0])) == 0
