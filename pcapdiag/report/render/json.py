"""The report as JSON: ASCII only, so that no terminal, log or ticket sees a control character."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcapdiag.report.model import Report


def render(report: Report) -> str:
    r"""Return the report as one JSON document with a newline at the end.

    Everything outside printable ASCII is written as ``\uNNNN``, DEL too, which the standard library lets through.
    """
    text = json.dumps(report.to_json(), ensure_ascii=True, indent=2, allow_nan=False)
    return text.replace("\x7f", "\\u007f") + "\n"
