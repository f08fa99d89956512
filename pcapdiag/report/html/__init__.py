"""The report as one HTML file that needs nothing else: no network, no server, no script to be read.

A strict Content-Security-Policy stands inside: nothing is fetched, style and script count by their hashes alone, no
`eval`. Jinja escapes everything; what is markup was proved to be a drawing (`figures`).
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pcapdiag.report.charts import charts as make_charts
from pcapdiag.report.escape import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Template

    from pcapdiag.analysis import Analysis
    from pcapdiag.report.charts import Chart
    from pcapdiag.report.model import Report

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
    from pcapdiag.report.html.figures import build_figure  # noqa: PLC0415 - with the template engine
    from pcapdiag.report.html.page import page_words  # noqa: PLC0415

    made = make_charts(analysis, report) if charts is None else charts
    style, script = _asset("report.css"), _asset("report.js")
    words: dict[str, Any] = {
        **page_words(report, made),
        "figures": {name: build_figure(chart) for name, chart in made.items()},
        "style": style,
        "script": script,
        "style_hash": _csp_hash(style),
        "script_hash": _csp_hash(script),
    }
    return _template().render(words)


@cache
def _template() -> Template:
    import jinja2  # noqa: PLC0415 - only this renderer needs it
    from markupsafe import Markup  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Our own files, not the input's: what their hashes in the policy stand for.
    environment.globals["markup"] = Markup
    return environment.get_template("report.html")


def _seen(value: Any) -> Any:
    """Return what is about to be printed with every character visible; escaping for HTML comes after."""
    return visible(value) if type(value) is str else value


@cache
def _asset(name: str) -> str:
    return (files("pcapdiag.report.html") / "templates" / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
