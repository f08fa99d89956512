"""The table of all occurrences of a cause: each has an anchor, can be sorted by, and opens the proof of its own.

Plain text and numbers to sort by; the template makes rows of them.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from pcapdiag.privacy.escape import visible
from pcapdiag.report import summary
from pcapdiag.report.far_end import proof_line
from pcapdiag.report.ladder import build_ladder
from pcapdiag.report.render.html.ladder import build_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcapdiag.report.anchors import Anchors
    from pcapdiag.report.ladder import Ladder
    from pcapdiag.report.model import LogEntryDetail, OccurrenceDetail, Report
    from pcapdiag.report.render.html.ladder import LadderFigure

MOST_ROWS: Final = 1000
"""Rows of one cause."""
MOST_IN_ALL: Final = 2000
"""Rows of a page: half a megabyte."""
MOST_TEXTS: Final = 150
"""Ladders in text on a page; a row without one still has its filter."""
MOST_DRAWN: Final = 8
"""Ladders that are drawn on a page, and of those of one cause."""
_MOST_OF_ONE: Final = 3


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell, and what it is sorted by; empty: by its text."""

    text: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class PageRow:
    """One occurrence. `figure` is its ladder where it is drawn in its row, `lines` where it is in text."""

    anchor: str
    cells: tuple[Cell, ...]
    figure: LadderFigure | None
    lines: tuple[str, ...]
    said: tuple[str, ...]
    filter_label: str
    filter: str
    command: str
    is_drawn_above: bool


@dataclass(frozen=True, slots=True)
class Occurrences:
    """All occurrences of a cause: the table, the ladder above it, and what is said of those that are not in it."""

    headers: tuple[str, ...]
    right: frozenset[int]
    rows: tuple[PageRow, ...]
    figure: LadderFigure | None
    figure_anchor: str
    left_out: str
    has_both_ends: bool


class RowMaker:
    """Makes the tables of a page, and sees that it does not grow without bound."""

    def __init__(self, report: Report, anchors: Anchors) -> None:
        self._report, self._anchors = report, anchors
        self._entries: Mapping[str, LogEntryDetail] = {f"{e.path}:{e.line}": e for e in report.log.entries}
        self._rows, self._texts, self._drawn = MOST_IN_ALL, MOST_TEXTS, MOST_DRAWN

    def make(self, group: summary.FindingGroup) -> Occurrences | None:
        """Return the occurrences of a cause; None where it lists none.

        Parameters
        ----------
        group : FindingGroup
            All findings of one code.

        Returns
        -------
        Occurrences or None
        """
        chosen = self._chosen(group.occurrences)
        first = chosen[0] if chosen else None
        others = chosen[1:]
        in_time = sorted(group.occurrences, key=lambda o: (o.request_ts_ns, o.capture, o.request_frame))
        shown = in_time[: min(MOST_ROWS, self._rows)]
        self._rows -= len(shown)
        if not shown:
            return None
        grid = summary.occurrence_grid(shown, limit=len(shown))
        figure = self._figure(first) if first is not None else None
        rows = tuple(
            self._row(o, cells, grid.headers, is_first=o is first, is_drawn=any(o is other for other in others))
            for o, cells in zip(shown, grid.rows, strict=True)
        )
        hidden = sum(o.stands_for for o in in_time) - len(shown)
        option = "--all --format json" if any(o.stands_for > 1 for o in in_time) else "--format json"
        return Occurrences(
            headers=grid.headers,
            right=grid.right,
            rows=rows,
            figure=figure,
            figure_anchor=f"{self._anchors.of(first)}-ladder" if first is not None else "",
            left_out=f"and {hidden:,} more: {option} lists them all" if hidden > 0 else "",
            has_both_ends=any(f.has_both_ends for f in (figure, *(row.figure for row in rows)) if f is not None),
        )

    def _chosen(self, occurrences: Sequence[OccurrenceDetail]) -> list[OccurrenceDetail]:
        """Return the occurrences to draw: those that prove most, at different upstreams."""
        proved = [o for o in occurrences if o.evidence]
        proved.sort(key=lambda o: (o.far_end is None, not o.log_lines))
        of_upstream = {o.resp: o for o in reversed(proved)}
        most = _MOST_OF_ONE if self._drawn > _MOST_OF_ONE else min(self._drawn, 1)
        chosen = [o for o in proved if of_upstream.get(o.resp) is o][:most]
        self._drawn -= len(chosen)
        return chosen

    def _figure(self, occurrence: OccurrenceDetail) -> LadderFigure:
        title = visible(summary.occurrence_title(occurrence))
        return build_figure(occurrence, self._report, self._entries, title, command=tshark_command(occurrence))

    def _row(
        self, o: OccurrenceDetail, cells: Sequence[str], headers: Sequence[str], *, is_first: bool, is_drawn: bool
    ) -> PageRow:
        figure = self._figure(o) if is_drawn else None
        lines: tuple[str, ...] = ()
        if o.evidence and not is_first and not is_drawn and self._texts > 0:
            self._texts -= 1
            lines = tuple(map(visible, in_text(build_ladder(o))))
        said = [proof_line(o)] if o.far_end is not None else []
        said += [f"Application's log: {o.upstream_log}"] if o.upstream_log else []
        said += [
            # The inputs have the whole path.
            f"Log entry: {PurePath(e.path).name}:{e.line}: {e.message}"
            for e in (self._entries[place] for place in o.log_lines if place in self._entries)
        ]
        keys = {"idle gap": str(o.idle_before_ns), "frame": str(o.request_frame)}
        return PageRow(
            anchor=self._anchors.of(o),
            cells=tuple(
                Cell(visible(text), keys.get(name, str(o.request_ts_ns) if "UTC" in name else ""))
                for name, text in zip(headers, cells, strict=True)
            ),
            figure=figure,
            lines=lines,
            said=() if figure is not None or is_first else tuple(map(visible, said)),
            filter_label=f"Wireshark filter for {visible(PurePath(o.capture).name)}"
            if o.capture
            else "Wireshark filter",
            filter=visible(o.display_filter),
            command=tshark_command(o),
            is_drawn_above=is_first,
        )


def in_text(ladder: Ladder) -> list[str]:
    """Return a ladder as lines of a fixed-width font."""
    width = max([len("time"), *(len(line.time) for line in ladder.lines)])
    frame = max([len("frame"), *(len(line.frame) for line in ladder.lines)])
    head = f"{'time':>{width}}  {ladder.header}  {'frame':>{frame}}"
    return [head, *(f"{e.time:>{width}}  {e.arrow}  {e.frame:>{frame}}  {e.text}".rstrip() for e in ladder.lines)]


def tshark_command(occurrence: OccurrenceDetail) -> str:
    """Return a command that shows the frames of an occurrence; empty where it could not be copied as it is."""
    if not occurrence.display_filter or visible(occurrence.capture) != occurrence.capture:
        return ""
    return f"tshark -r {shlex.quote(occurrence.capture)} -Y {shlex.quote(occurrence.display_filter)}"
