"""A what-if in each of its forms."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from pcapdiag.report.render import markdown
from pcapdiag.report.render.blocks import WIDTH, render_blocks
from pcapdiag.report.render.document import Bullets, Code, Heading, Paragraph, TableBlock
from pcapdiag.report.render.html.engine import asset, csp_hash, make_environment
from pcapdiag.report.whatif.sweep import sweep_chart
from pcapdiag.report.whatif.words import build_blocks, headline

if TYPE_CHECKING:
    from jinja2 import Template

    from pcapdiag.base.scenarios import WhatIf
    from pcapdiag.report.model import Tool


def render_terminal(answer: WhatIf, *, width: int = WIDTH, color: bool = False) -> str:
    """Return a what-if as text for a terminal; see `report.render.blocks.render_blocks`."""
    styles = {"warning": "bold yellow", "clean": "bold green", "info": "bold"}
    return render_blocks(build_blocks(answer), style=styles[_state(answer)], width=width, color=color)


def render_markdown(answer: WhatIf) -> str:
    """Return a what-if as Markdown for the tickets of GitHub and GitLab."""
    return markdown.render_blocks(build_blocks(answer))


def render_html(answer: WhatIf, tool: Tool) -> str:
    """Return a what-if as one HTML file that needs nothing else; see `report.render.html`.

    Raises
    ------
    DrawingError
        The chart came out as something other than a drawing.
    """
    from pcapdiag.report.render.html.figures import build_figure  # noqa: PLC0415 - with the template engine

    chart = sweep_chart(answer)
    style, script = asset("report.css"), asset("report.js")
    kinds = {Heading: "heading", Paragraph: "paragraph", Bullets: "bullets", Code: "code", TableBlock: "table"}
    return _template().render(
        headline=headline(answer),
        state=_state(answer),
        blocks=[(kinds[type(block)], block) for block in build_blocks(answer)[1:] if type(block) in kinds],
        figure=build_figure(chart) if chart is not None else None,
        tool=f"{tool.name} {tool.version}",
        style=style,
        script=script,
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
    )


def _state(answer: WhatIf) -> str:
    if answer.disagreement:
        return "warning"
    return "clean" if answer.recommendation is not None and answer.recommendation.settings else "info"


@cache
def _template() -> Template:
    def load(name: str) -> str:
        if name == "whatif.html":
            return (files("pcapdiag.report.whatif") / "templates" / name).read_text(encoding="utf-8")
        return asset(name)

    return make_environment(load).get_template("whatif.html")
