"""``--where``: a small expression language over the columns of a table, and nothing else.

Python's syntax for comparisons, ``and``/``or``/``not``, ``in``, numbers, strings and arithmetic; beside it durations
(``60s``, ``1.5ms``), and columns of durations without their unit (``idle_before``). The expression is parsed, checked
node by node and evaluated here; it is never handed to ``eval``, so it can reach no function, no attribute and no file.
"""

from __future__ import annotations

import ast
import operator
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pcapdiag.base.errors import UsageError
from pcapdiag.base.suggest import did_you_mean
from pcapdiag.base.units import parse_duration
from pcapdiag.report.table_columns import column_words, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    from numpy.typing import NDArray

_MAX_CHARS = 2000

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?<![\w.])(?P<duration>\d+(?:\.\d+)?(?:ns|us|ms|[smhdw]))\b"""
)
_ASSIGNED = re.compile(r"(?<![=!<>])=(?!=)")


def _in_ns(token: re.Match[str]) -> str:
    return token["text"] or str(parse_duration(token["duration"]))


class Where:
    """A parsed expression.

    Parameters
    ----------
    expression : str
        For example ``idle_before_ns > 3.8e9 and outcome == "unanswered"``.

    Raises
    ------
    UsageError
        The expression is no expression of this language.
    """

    def __init__(self, expression: str) -> None:
        self._expression = expression
        if len(expression) > _MAX_CHARS:
            self._refuse(f"it is longer than {_MAX_CHARS} characters")
        try:
            self._tree = ast.parse(_TOKEN.sub(_in_ns, expression.strip()), mode="eval").body
        except SyntaxError as error:
            self._refuse("it compares with =, and equal is ==" if _ASSIGNED.search(expression) else error.msg, error)
        except (ValueError, RecursionError, MemoryError) as error:
            self._refuse(str(error), error)

    def check(self, columns: Mapping[str, object]) -> None:
        """Refuse, before there are rows, names of no column, and words that a column never holds.

        Parameters
        ----------
        columns : mapping by name
            Those of the table.

        Raises
        ------
        UsageError
            With the nearest name or word.
        """
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Name):
                self._known(node.id, columns)
            elif isinstance(node, ast.Compare):
                for one, other in pairwise((node.left, *node.comparators)):
                    self._check_words(one, other)
                    self._check_words(other, one)

    def _check_words(self, column: ast.expr, value: ast.expr) -> None:
        if not isinstance(column, ast.Name):
            return
        words = column_words(column.id)
        for node in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
            word = node.value if isinstance(node, ast.Constant) else ""
            if words and isinstance(word, str) and word not in {"", *words}:
                near = did_you_mean(word, words) or f"; it is one of {', '.join(words)}"
                self._refuse(f"{column.id} is never {word!r}{near}")

    def select(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of `frame` for which the expression is true.

        Parameters
        ----------
        frame : DataFrame
            Its column names are the names of the expression.

        Returns
        -------
        DataFrame
            In the order of `frame`.

        Raises
        ------
        UsageError
            An unknown column, or an operation that its values do not have.
        """
        try:
            mask = self._truth(self._value(self._tree, frame), frame)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError, RecursionError) as error:
            self._refuse(str(error), error)
        return frame[mask]

    def _refuse(self, reason: str, cause: Exception | None = None) -> NoReturn:
        msg = f"--where {self._expression[:200]!r}: {reason}"
        raise UsageError(msg) from cause

    def _truth(self, value: Any, frame: pd.DataFrame) -> NDArray[np.bool_]:
        array = np.asarray(value)
        if array.dtype != np.bool_:
            msg = "a comparison is needed here, such as status_code >= 500"
            raise TypeError(msg)
        return np.broadcast_to(array, (len(frame),))

    def _value(self, node: ast.expr, frame: pd.DataFrame) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.Name(id=name):
                return self._column(name, frame)
            case ast.BoolOp(op=op, values=values):
                masks = [self._truth(self._value(v, frame), frame) for v in values]
                return (np.logical_and if isinstance(op, ast.And) else np.logical_or).reduce(masks)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self._truth(self._value(operand, frame), frame)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -_number(self._value(operand, frame))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                numbers = _number(self._value(left, frame)), _number(self._value(right, frame))
                return _ARITHMETIC[type(op)](*numbers)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self._compare(left, ops, comparators, frame)
        return self._refuse(f"{ast.unparse(node)!r} is not allowed; see pcapdiag show --help")

    def _column(self, name: str, frame: pd.DataFrame) -> Any:
        return frame[self._known(name, dict.fromkeys(frame.columns))]

    def _known(self, name: str, columns: Mapping[str, object]) -> str:
        found = resolve(name, columns)
        if not found:
            near = did_you_mean(name, columns) or f"; there are {', '.join(columns)}"
            self._refuse(f"there is no column {name!r}{near}")
        return found

    def _compare(
        self, left: ast.expr, ops: list[ast.cmpop], comparators: list[ast.expr], frame: pd.DataFrame
    ) -> NDArray[np.bool_]:
        masks = []
        for op, right in zip(ops, comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                mask = self._contains(left, right, frame)
                masks.append(~mask if isinstance(op, ast.NotIn) else mask)
            elif type(op) in _COMPARISONS:
                compared = _COMPARISONS[type(op)](self._value(left, frame), self._value(right, frame))
                masks.append(self._truth(compared, frame))
            else:
                self._refuse("'is' is not allowed; use ==")
            left = right
        result: NDArray[np.bool_] = np.logical_and.reduce(masks)
        return result

    def _contains(self, left: ast.expr, right: ast.expr, frame: pd.DataFrame) -> NDArray[np.bool_]:
        item = self._value(left, frame)
        if isinstance(right, ast.List | ast.Tuple):
            choices = [self._value(choice, frame) for choice in right.elts]
            if any(not isinstance(choice, bool | int | float | str) for choice in choices):
                self._refuse("the list after 'in' may hold numbers and strings only")
            equal = [self._truth(item == choice, frame) for choice in choices]
            return np.logical_or.reduce(equal) if equal else np.zeros(len(frame), dtype=np.bool_)
        text = self._value(right, frame)
        if not isinstance(item, str) or isinstance(text, bool | int | float | str):
            self._refuse("'in' needs a list, or a string before a text column: '/api' in target")
        return self._truth(text.str.contains(item, regex=False), frame)


def _number(value: Any) -> Any:
    if isinstance(value, str) or getattr(getattr(value, "dtype", None), "kind", "i") not in "iuf":
        msg = "arithmetic needs numbers"
        raise TypeError(msg)
    return value
