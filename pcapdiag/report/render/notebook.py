"""The report as a cell of a notebook shows it: verdict, findings, upstreams; plain HTML, no script, no link."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pcapdiag.base.units import count_of
from pcapdiag.privacy.escape import visible
from pcapdiag.report import summary
from pcapdiag.report.headline import headline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.report.model import Report


def render(report: Report, *, hint: str = "") -> str:
    """Return the report as a fragment of HTML.

    Parameters
    ----------
    report : Report
        What to show.
    hint : str
        What else there is to ask for.

    Returns
    -------
    str
        One ``div``; everything that a capture chose is escaped.
    """
    return "<div>" + "".join(_parts(report, hint)) + "</div>"


def _parts(report: Report, hint: str) -> Iterator[str]:
    yield f"<p><strong>{_text(headline(report))}</strong></p>"
    shown = report.findings[: summary.MAX_LINES]
    if shown:
        headers = ("code", "severity", "confidence", "subject", "count", "message")
        rows = tuple(
            (
                f"{f.code} {f.name}",
                f.severity.name.lower(),
                f.confidence.name.lower(),
                f.subject,
                f"{f.count:,}",
                f.message,
            )
            for f in shown
        )
        yield _table(summary.Grid(headers, rows, frozenset({4})))
    hidden = len(report.findings) - len(shown)
    if hidden:
        yield f"<p>and {count_of(hidden, 'more finding')}: the JSON report holds them all.</p>"
    if report.upstreams:
        yield _table(summary.upstream_grid(report.upstreams, has_proxy=report.has_proxy))
    if hint:
        yield f"<p>{_text(hint)}</p>"


def _table(grid: summary.Grid) -> str:
    head = "".join(f"<th>{_text(header)}</th>" for header in grid.headers)
    body = "".join(f"<tr>{''.join(_cells(row, grid.right))}</tr>" for row in grid.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: tuple[str, ...], right: frozenset[int]) -> Iterator[str]:
    for idx, cell in enumerate(row):
        align = "right" if idx in right else "left"
        yield f'<td style="text-align: {align}">{_text(cell)}</td>'


def _text(text: str) -> str:
    return escape(visible(text))
