"""A what-if as one JSON document: ``schema_version`` 1."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.base.scenarios import WhatIf
    from pcapdiag.report.model import InputFile, Tool

SCHEMA_VERSION = 1


def whatif_document(answer: WhatIf, tool: Tool, inputs: Sequence[InputFile]) -> dict[str, Any]:
    """Return the document.

    Parameters
    ----------
    answer : WhatIf
        What to tell.
    tool : Tool
        Which program.
    inputs : sequence of InputFile
        What it read.

    Returns
    -------
    dict
        Of plain values.
    """
    told = asdict(answer)
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": asdict(tool),
        "inputs": [asdict(file) for file in inputs],
        "scenarios": told["scenarios"],
        "recommendation": told["recommendation"],
        "model": told["model"],
        "sweep": told["sweep"],
        "first_swept": told["first_swept"],
        "disagreement": told["disagreement"],
        "agrees": told["agrees"],
        "per_day": list(told["per_day"]),
    }


def render_json(answer: WhatIf, tool: Tool, inputs: Sequence[InputFile]) -> str:
    """Return the document as text, ASCII only, a newline at the end."""
    text = json.dumps(whatif_document(answer, tool, inputs), ensure_ascii=True, indent=2, allow_nan=False)
    return text.replace("\x7f", "\\u007f") + "\n"
