"""How certain a cause may be said at most: what it was worth where the truth is known.

`precision.tsv` counts, for each code and protocol, claims on captures whose frames were read one by one or whose
servers said what had happened (`python -m tests.precision` makes it, `docs/precision.md` shows it). Knows the table
only.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

from pcapdiag.base.findings import Confidence

LEAST_JUDGED = 10
LEAST_TRUE = 0.95
ANY = "any"
"""Protocol of a cause that counts events, not requests of one connection."""


class Precision(NamedTuple):
    """Judged claims of one code and protocol."""

    true: int
    misleading: int
    false: int

    @property
    def judged(self) -> int:
        """How many there are."""
        return self.true + self.misleading + self.false


@cache
def precision() -> dict[tuple[str, str], Precision]:
    """Return the table, by code and protocol."""
    lines = (files("pcapdiag.rules") / "precision.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = (line.split("\t") for line in lines)
    return {(code, protocol): Precision(*map(int, numbers)) for code, protocol, *numbers in rows}


def most_certain(code: str, protocol: str) -> Confidence:
    """Return the highest confidence that a claim of `code` over `protocol` may have.

    Parameters
    ----------
    code : str
        Of the rule.
    protocol : str
        `codes.Protocol` in lower case, ``tcp`` for connection attempts, `ANY` for events.

    Returns
    -------
    Confidence
        CONFIRMED only where at least ten claims were judged and 95 % of them were true.
    """
    judged = precision().get((code, protocol))
    if judged is None or judged.judged < LEAST_JUDGED or judged.true < LEAST_TRUE * judged.judged:
        return Confidence.LIKELY
    return Confidence.CONFIRMED
