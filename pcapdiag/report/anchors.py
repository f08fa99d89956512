"""Where on a page each occurrence stands: identifiers that a link, a mark of a chart and a row of a table share.

Knows the report alone; the same report gives the same identifiers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcapdiag.report.model import OccurrenceDetail, Report


class Anchors:
    """Identifiers of all occurrences of one report, which has to live as long."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._of: dict[int, str] = {}
        taken: dict[str, int] = {}
        for finding in report.findings:
            for occurrence in finding.occurrences:
                frame = occurrence.request_frame
                # Several files have a frame of the same number, and one frame may stand in two findings of a code.
                name = f"{finding.code}-frame-{frame}" if frame > 0 else f"{finding.code}-log"
                taken[name] = taken.get(name, 0) + 1
                is_alone = taken[name] == 1
                self._of[id(occurrence)] = name if is_alone else f"{name}-{taken[name]}"

    def of(self, occurrence: OccurrenceDetail) -> str:
        """Return the identifier of an occurrence; empty if it is none of the report's."""
        return self._of.get(id(occurrence), "")
