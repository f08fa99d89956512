"""Small drawings of the site as coordinates: sparklines, the chart by night, months of the calendar.

Knows numbers and days; the templates make SVG and tables of them.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcapdiag.nightly.site.data import Night

SPARK_NIGHTS: Final = 30
CHART_NIGHTS: Final = 60
_LEAST: Final = 14
"""Nights that a drawing has room for, however few there are."""
_SPARK_WIDTH, _SPARK_HEIGHT = 120, 24
_CHART_WIDTH, _CHART_HEIGHT = 800, 140
_STUB: Final = 1.5
"""[px] Height of a bar for a night that was looked at and had nothing: it is there, and it is none."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One night; `kind` is ``none``, ``some`` or ``last``."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Bars:
    """A drawing of bars; `alt` says it in words."""

    width: int
    height: int
    bars: tuple[Bar, ...]
    alt: str
    top: str = ""
    first: str = ""
    last: str = ""

    @property
    def paths(self) -> tuple[tuple[str, str], ...]:
        """The bars of each kind as one path: a page may have a hundred sparklines."""
        return tuple(
            (
                kind,
                "".join(
                    f"M{bar.x:.1f} {bar.y:.1f}h{bar.width:.1f}V{self.height}h-{bar.width:.1f}z"
                    for bar in self.bars
                    if bar.kind == kind
                ),
            )
            for kind in dict.fromkeys(bar.kind for bar in self.bars)
        )


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """One day of the calendar; `kind` is ``empty``, ``clean``, ``risk``, ``some`` or ``many``; `number` 0: no day."""

    number: int
    day: str = ""
    kind: str = "empty"
    mark: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Month:
    """A month of the calendar in weeks from Monday to Sunday."""

    name: str
    weeks: tuple[tuple[CalendarDay, ...], ...]


def draw_spark(
    days: Sequence[str], values: Mapping[str, float], what: str, spelled: Mapping[str, str] | None = None
) -> Bars:
    """Return a sparkline of the last nights.

    Parameters
    ----------
    days : sequence of str
        All nights in order.
    values : mapping of str to float
        What to draw, by day; a day without any may be missing. Of values that are no counts a missing one is not known,
        and nothing stands there.
    what : str
        What is counted, in the plural; of values that are no counts, what they are.
    spelled : mapping of str to str, optional
        Values that are no counts in words.
    """
    shown = days[-SPARK_NIGHTS:]
    return _draw(shown, values, what, spelled, (_SPARK_WIDTH, _SPARK_HEIGHT), SPARK_NIGHTS)


def draw_chart(
    days: Sequence[str], values: Mapping[str, float], what: str, spelled: Mapping[str, str] | None = None
) -> Bars:
    """Return the chart of the last nights; parameters as of `draw_spark`."""
    shown = days[-CHART_NIGHTS:]
    return _draw(shown, values, what, spelled, (_CHART_WIDTH, _CHART_HEIGHT), CHART_NIGHTS)


def _draw(
    days: Sequence[str],
    by_day: Mapping[str, float],
    what: str,
    spelled: Mapping[str, str] | None,
    size: tuple[int, int],
    most: int,
) -> Bars:
    width, height = size
    values = [by_day.get(day, 0) for day in days]
    highest = max(values, default=0)
    # Few nights do not hide in a corner of the chart.
    step = width / min(max(len(days), _LEAST), most)
    bars = []
    for i, (day, value) in enumerate(zip(days, values, strict=True)):
        if spelled is not None and day not in by_day:
            continue
        tall = max(value / highest * height, 3.0) if value else _STUB
        kind = "none" if not value else "last" if i == len(days) - 1 else "some"
        # The last night stands at the right end, whatever there was before it.
        x = width - (len(days) - i) * step
        label = f"{day}: {value:,} {what}" if spelled is None else f"{day}: {spelled[day]}"
        bars.append(Bar(x, height - tall, step * 0.8, tall, kind, label))
    is_known = spelled is None or any(day in by_day for day in days)
    alt = f"no {what} in {len(days)} nights" if is_known else f"{what}: not known"
    top = f"{highest:,}"
    if highest and spelled is not None:
        first = next(day for day, value in zip(days, values, strict=True) if value)
        most_day = days[values.index(highest)]
        top = spelled[most_day]
        last = spelled.get(days[-1], "not known")
        alt = (
            f"{what} in {len(days)} nights: first on {first}, most on {most_day} ({top}), {days[-1]}, the last: {last}"
        )
    elif highest:
        first = next(day for day, value in zip(days, values, strict=True) if value)
        most_day = days[values.index(highest)]
        alt = (
            f"{sum(values):,} {what} in {len(days)} nights: first on {first}, most on {most_day} ({highest:,}), "
            f"{values[-1]:,} on the last, {days[-1]}"
        )
    return Bars(width, height, tuple(bars), alt, top, days[0] if days else "", days[-1] if days else "")


def draw_months(nights: Sequence[Night], most: int) -> tuple[Month, ...]:
    """Return the calendar of the months that have nights, the latest first, at most so many."""
    by_day = {night.day: night for night in nights}
    worst = max((night.failures for night in nights), default=0)
    months = sorted({night.day[:7] for night in nights}, reverse=True)[:most]
    return tuple(_month(name, by_day, worst) for name in months)


def _month(name: str, nights: Mapping[str, Night], worst: int) -> Month:
    year, month = int(name[:4]), int(name[5:])
    weeks = tuple(
        tuple(
            _cell(number, date(year, month, number).isoformat(), nights, worst) if number else CalendarDay(0)
            for number in week
        )
        for week in calendar.Calendar().monthdayscalendar(year, month)
    )
    return Month(f"{calendar.month_name[month]} {year}", weeks)


def _cell(number: int, day: str, nights: Mapping[str, Night], worst: int) -> CalendarDay:
    night = nights.get(day)
    if night is None:
        return CalendarDay(number)
    n = night.failures
    if n:
        return CalendarDay(
            number, day, "many" if n * 2 > worst else "some", f"{n:,}", f"{count_of(n, 'request')} failed"
        )
    if night.seen:
        return CalendarDay(number, day, "risk", "!", f"{count_of(len(night.seen), 'finding')}, no failed request")
    return CalendarDay(number, day, "clean", "ok", "nothing found")
