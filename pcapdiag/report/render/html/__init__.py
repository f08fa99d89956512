"""The report as one HTML file that needs nothing else: no network, no server, no script to be read.

A strict Content-Security-Policy stands inside: nothing is fetched, style and script count by their hashes alone, no
`eval`. Jinja escapes everything; what is markup was proved to be a drawing (`figures`).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pcapdiag.report.render.charts import charts as make_charts
from pcapdiag.report.render.html.engine import asset, csp_hash, make_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Template

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.report.model import Report
    from pcapdiag.report.render.charts import Chart

__all__ = ["render_html"]


def render_html(report: Report, analysis: Analysis, *, charts: Mapping[str, Chart] | None = None) -> str:
    """Return the report as one HTML document.

    Parameters
    ----------
    report : Report
        What to show.
    analysis : Analysis
        The tables behind it, for the charts.
    charts : mapping of str to Chart, optional
        The charts, where they were made already.

    Returns
    -------
    str
        The same bytes for the same report; encode it as UTF-8.

    Raises
    ------
    DrawingError
        A chart came out as something other than a drawing.
    """
    from pcapdiag.report.render.html.figures import build_figure  # noqa: PLC0415 - with the template engine
    from pcapdiag.report.render.html.page import page_words  # noqa: PLC0415

    made = make_charts(analysis, report) if charts is None else charts
    style, script = asset("report.css"), asset("report.js")
    words: dict[str, Any] = {
        **page_words(report, made),
        "figures": {name: build_figure(chart) for name, chart in made.items()},
        "style": style,
        "script": script,
        "style_hash": csp_hash(style),
        "script_hash": csp_hash(script),
    }
    return _template().render(words)


@cache
def _template() -> Template:
    return make_environment(asset).get_template("report.html")
