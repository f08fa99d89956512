"""Charts of an incident: for the HTML report, and as pictures beside a Markdown report.

``charts(analysis, report)`` gives them by name; each has ``.svg()`` and ``.png()``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.privacy.escape import visible
from pcapdiag.report.render.charts.cascade import cascade
from pcapdiag.report.render.charts.chart import CSS, LIGHT, NARROW_PX, WIDE_PX, Chart, Palette, Tip
from pcapdiag.report.render.charts.closings import closings
from pcapdiag.report.render.charts.idle_gaps import idle_gaps
from pcapdiag.report.render.charts.scene import Scene
from pcapdiag.report.render.charts.timeline import timeline

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis
    from pcapdiag.report.model import Report

__all__ = ["CSS", "LIGHT", "NARROW_PX", "WIDE_PX", "Chart", "Palette", "Tip", "charts"]


def charts(analysis: Analysis, report: Report) -> dict[str, Chart]:
    """Return the charts that this incident has, by name, in the order in which they are to be read.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    report : Report
        Made from it: names, targets and causes are taken from here, redacted as they are.

    Returns
    -------
    dict of str to Chart
        Of ``timeline``, ``idle-gaps``, ``closings`` and ``cascade`` those for which there is anything to draw.
    """
    scene = Scene(analysis, report)
    made = (timeline(scene), idle_gaps(scene), closings(scene), cascade(scene))
    return {chart.name: _seen(chart) for chart in made if chart is not None}


def _seen(chart: Chart) -> Chart:
    """Return a chart whose words hold nothing that is not plainly visible."""
    rows = tuple(tuple(visible(cell) for cell in row) for row in chart.table.rows)
    return replace(
        chart,
        alt=visible(chart.alt),
        caption=visible(chart.caption),
        table=replace(chart.table, rows=rows),
        tips=tuple(replace(tip, text=visible(tip.text)) for tip in chart.tips),
    )
