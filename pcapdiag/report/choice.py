"""Which occurrences a report lists where they are very many: the first and last, and some spread over the time between.

Knows how many a reader and a ticket can take; counts are never touched, each listed one says how many it stands for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.base.findings import Finding, Occurrence

MOST_OF_FINDING: Final = 1000
"""Occurrences of one finding that are listed."""
MOST_IN_ALL: Final = 6000
"""... and of all findings together: 6 MB of JSON."""
_LEAST = 5


def listed(findings: Sequence[Finding], *, list_all: bool = False) -> tuple[Finding, ...]:
    """Return the findings with the occurrences that a report lists.

    Parameters
    ----------
    findings : sequence of Finding
        With all occurrences.
    list_all : bool
        Leave none out.

    Returns
    -------
    tuple of Finding
        The occurrences of each stand for as many as before.
    """
    if list_all:
        return tuple(findings)
    most = MOST_OF_FINDING
    while most > _LEAST and sum(min(len(f.occurrences), most) for f in findings) > MOST_IN_ALL:
        most -= max(most // 8, 1)
    return tuple(
        f if len(f.occurrences) <= most else replace(f, occurrences=_spread(f.occurrences, most)) for f in findings
    )


def _spread(occurrences: Sequence[Occurrence], most: int) -> tuple[Occurrence, ...]:
    """Return `most` of some occurrences, evenly, those with evidence among them."""
    proved = [n for n, o in enumerate(occurrences) if o.evidence][: most // 2]
    n_rest = most - len(proved)
    last = len(occurrences) - 1
    chosen = sorted({*proved, *(last * n // max(n_rest - 1, 1) for n in range(n_rest))})
    ends = [*chosen[1:], len(occurrences)]
    return tuple(
        replace(occurrences[at], stands_for=sum(o.stands_for for o in occurrences[at:end]))
        for at, end in zip(chosen, ends, strict=True)
    )
