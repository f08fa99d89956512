"""Rows of the store as JSON has them: dicts, with ISO 8601 text beside every absolute time."""

from __future__ import annotations

from typing import Any, Final

from pcapdiag.base.units import format_ts_ns
from pcapdiag.report.model import to_plain

_TIMES: Final = ("first_seen_ns", "last_seen_ns", "started_at_ns", "ended_at_ns")


def plain_row(row: Any) -> dict[str, Any]:
    """Return a row (a dataclass of this package) as a dict for JSON.

    Parameters
    ----------
    row : dataclass
        Such as `model.FindingRow`.

    Returns
    -------
    dict
        In the order of its fields.
    """
    plain: dict[str, Any] = {}
    for name, value in to_plain(row).items():
        plain[name] = value
        if name in _TIMES:
            plain[name.removesuffix("_ns")] = format_ts_ns(value) if value >= 0 else None
    return plain
