"""Findings and their occurrences as tables: one row each, no cell that holds another table.

Rows come from the JSON report, so that a table and the report never say different things. Every column is there even
where no row is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from pcapdiag.report.model import FindingDetail, OccurrenceDetail, json_fields

if TYPE_CHECKING:
    from pcapdiag.report.model import Report

_NESTED = ("occurrences", "details", "changes", "evidence", "far_end")


def findings_frame(report: Report) -> pd.DataFrame:
    """Return one row per finding, in report order."""
    columns = _columns(FindingDetail)
    rows = [[_cell(finding[name]) for name in columns] for finding in report.to_json()["findings"]]
    return _frame(rows, columns)


def occurrences_frame(report: Report) -> pd.DataFrame:
    """Return one row per occurrence, with the code and subject of its finding first."""
    columns = _columns(OccurrenceDetail)
    rows = [
        [finding["code"], finding["subject"], *(_cell(occurrence[name]) for name in columns)]
        for finding in report.to_json()["findings"]
        for occurrence in finding["occurrences"]
    ]
    return _frame(rows, {"code": "str", "subject": "str"} | columns)


def _columns(cls: type) -> dict[str, str]:
    """Return the columns of a class of the report and their types; beside a time stands its text."""
    columns: dict[str, str] = {}
    for field in json_fields(cls):
        if field.name in _NESTED:
            continue
        columns[field.name] = str(field.type)
        if field.name.endswith("_ts_ns"):
            columns[field.name.removesuffix("_ns")] = "str"
    return columns


def _cell(value: Any) -> Any:
    """Return a value that fits into one cell: paragraphs and lists on one line, no value as no text."""
    if isinstance(value, list):
        return "; ".join(map(str, value))
    if isinstance(value, str) and "\n" in value:
        return " ".join(value.split())
    return "" if value is None else value


def _frame(rows: list[list[Any]], columns: dict[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(columns))
    return frame.astype({name: "int64" if kind == "int" else object for name, kind in columns.items()})
