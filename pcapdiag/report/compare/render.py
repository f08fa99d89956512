"""A comparison as blocks for every ticket dialect and the terminal, and as JSON: verdict, table, reasons, inputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pcapdiag.base.units import count_of
from pcapdiag.report.compare.judge import outcome_words
from pcapdiag.report.render.document import Bullets, Heading, Paragraph, TableBlock
from pcapdiag.report.summary import MAX_LINES, Grid, brief

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pcapdiag.report.compare.model import ComparedSide, Comparison, UpstreamChange
    from pcapdiag.report.compare.side import Measures
    from pcapdiag.report.render.document import Block


def render_json(comparison: Comparison) -> str:
    """Return the comparison as one JSON document, ASCII only, a newline at the end."""
    text = json.dumps(comparison.to_json(), ensure_ascii=True, indent=2, allow_nan=False)
    return text.replace("\x7f", "\\u007f") + "\n"


_MAX_TABLES = 4
"""Upstreams that get a table each; of more, one row each must do."""


def build_blocks(comparison: Comparison) -> tuple[Block, ...]:
    """Return what a person reads: raw text, which a renderer escapes.

    Parameters
    ----------
    comparison : Comparison
        What to show; of more than `MAX_LINES` upstreams, those that need somebody most.

    Returns
    -------
    tuple of Block
        The verdict first.
    """
    return tuple(_blocks(comparison))


def _blocks(comparison: Comparison) -> Iterator[Block]:
    yield Paragraph(comparison.headline, "strong")
    shown = comparison.upstreams[:MAX_LINES]
    measured = [change for change in shown if change.before is not None or change.after is not None]
    for change in shown:
        yield Heading(f"{change.subject}: {outcome_words(change.outcome)}", 2)
        yield Bullets(tuple(_cause_line(change)))
        if len(measured) <= _MAX_TABLES and change in measured:
            yield TableBlock(_grid(change))
    if len(measured) > _MAX_TABLES:
        yield Heading("Before and after", 2)
        yield TableBlock(_wide_grid(measured))
    hidden = len(comparison.upstreams) - len(shown)
    if hidden:
        yield Paragraph(f"and {hidden:,} more upstreams: --format json lists them all.")
    yield Heading("Input", 2)
    lines = [_side_line("BEFORE", comparison.before), _side_line("AFTER", comparison.after)]
    if comparison.as_one:
        lines.append("All upstreams are compared as one: that was asked for, or no address of one is in both.")
    yield Bullets(tuple(lines))


def _cause_line(change: UpstreamChange) -> Iterator[str]:
    for cause in change.causes:
        label = f"{cause.code} {cause.name}: {outcome_words(cause.outcome)}. " if cause.code else ""
        yield label + cause.reason


def _side_line(label: str, side: ComparedSide) -> str:
    names = ", ".join(side.paths[:3]) + (f" and {len(side.paths) - 3:,} more files" if len(side.paths) > 3 else "")
    lasted = f", {brief(side.duration_ns)}" if side.duration_ns >= 0 else ""
    return f"{label}: {names}: {count_of(side.frames, 'frame')}, {count_of(side.requests, 'request')}{lasted}."


def _grid(change: UpstreamChange) -> Grid:
    sides = (change.before, change.after)
    rows = tuple((label, *("-" if m is None else show(m) for m in sides)) for label, show in _ROWS)
    return Grid(("", "before", "after"), rows, frozenset({1, 2}))


def _wide_grid(changes: Sequence[UpstreamChange]) -> Grid:
    """Return one row per upstream, `before > after` in each cell."""
    rows = []
    for change in changes:
        sides = (change.before, change.after)
        cells = [" > ".join("-" if m is None else show(m) for m in sides) for _, show in _WIDE_ROWS]
        rows.append((change.subject, *cells))
    return Grid(("upstream", *(label for label, _ in _WIDE_ROWS)), tuple(rows))


def _time(ns: int) -> str:
    return brief(ns) if ns >= 0 else "-"


def _timeout(m: Measures) -> str:
    return brief(m.idle_timeout_ns) if m.idle_timeout_ns >= 0 else "not measured"


def _share(m: Measures) -> str:
    return f"{m.reused:,} ({100 * m.reused / m.requests:.0f} %)" if m.requests else "0"


def _handshakes(m: Measures) -> str:
    if m.opened < 0 or m.handshake_ns < 0:
        return "unknown"
    return f"{m.opened:,}, {brief(m.handshake_ns)}"


def _per_request(m: Measures) -> str:
    if m.handshake_ns < 0 or not m.requests:
        return "-"
    return brief(m.handshake_ns // m.requests)


_ROWS: tuple[tuple[str, Callable[[Measures], str]], ...] = (
    ("requests", lambda m: f"{m.requests:,}"),
    ("lost", lambda m: f"{m.lost:,}"),
    ("lost to the race", lambda m: f"{m.races:,}"),
    # Without a timeout nobody knows what is near it.
    ("near misses", lambda m: f"{m.near_misses:,}" if m.idle_timeout_ns >= 0 else "-"),
    ("idle timeout T", _timeout),
    ("proxy closes idle after", lambda m: _time(m.proxy_idle_close_ns)),
    ("longest idle gap used", lambda m: _time(m.longest_gap_ns)),
    ("on reused connections", _share),
    ("TCP handshakes, time in them", _handshakes),
    ("handshake time per request", _per_request),
)
_WIDE_ROWS: tuple[tuple[str, Callable[[Measures], str]], ...] = (
    ("lost", lambda m: f"{m.lost:,} of {m.requests:,}"),
    ("idle timeout T", lambda m: _time(m.idle_timeout_ns)),
    ("longest gap used", lambda m: _time(m.longest_gap_ns)),
    ("reused", lambda m: f"{100 * m.reused / m.requests:.0f} %" if m.requests else "-"),
    ("handshake time per request", _per_request),
)
