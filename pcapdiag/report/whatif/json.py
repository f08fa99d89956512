"""A what-if as one JSON document: ``schema_version`` 1."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcapdiag.base.scenarios import WhatIf
    from pcapdiag.report.model import Report

SCHEMA_VERSION = 1


def whatif_document(answer: WhatIf, report: Report) -> dict[str, Any]:
    """Return the document.

    Parameters
    ----------
    answer : WhatIf
        What to tell.
    report : Report
        Of the captured incident: tool and inputs.

    Returns
    -------
    dict
        Of plain values.
    """
    told = asdict(answer)
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": asdict(report.tool),
        "inputs": [asdict(file) for file in report.inputs],
        "scenarios": told["scenarios"],
        "recommendation": told["recommendation"],
        "model": told["model"],
        "sweep": told["sweep"],
        "first_swept": told["first_swept"],
        "disagreement": told["disagreement"],
    }


def render_json(answer: WhatIf, report: Report) -> str:
    """Return the document as text, ASCII only, a newline at the end."""
    text = json.dumps(whatif_document(answer, report), ensure_ascii=True, indent=2, allow_nan=False)
    return text.replace("\x7f", "\\u007f") + "\n"
