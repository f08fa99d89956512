"""What is said of a what-if, as blocks for the terminal and every ticket dialect: the answer, then the numbers."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Final

from pcapdiag.base.rates import PerDay, spell_per_day
from pcapdiag.base.units import count_of, format_duration_ns
from pcapdiag.report.render.document import Bullets, Code, Heading, Paragraph, TableBlock
from pcapdiag.report.summary import Grid, brief

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.base.findings import Change
    from pcapdiag.base.scenarios import Quantity, Recommendation, Scenario, UpstreamRate, WhatIf
    from pcapdiag.report.render.document import Block

UNKNOWN: Final = "?"
MOST_POINTS: Final = 40
"""Of a sweep, in a table."""
_HEADERS = ("scenario", "failed", "lost tries", "no live", "connections")
_WORST: Final = 3
_CAPTURED: Final = 2
"""Scenarios when nothing was asked for: what was observed, and its replay."""
_JUDGED: Final = {"failed": "client_failures", "lost tries": "lost_tries", "connections": "connections_opened"}
_MOST_RATES: Final = 10
_FIELDS = ("client_failures", "lost_tries", "no_live_upstreams", "connections_opened")


def build_blocks(answer: WhatIf) -> tuple[Block, ...]:
    """Return what a person reads: raw text, which a renderer escapes.

    Parameters
    ----------
    answer : WhatIf
        What to tell.

    Returns
    -------
    tuple of Block
        The answer first.
    """
    return tuple(_blocks(answer))


def _blocks(answer: WhatIf) -> Iterator[Block]:
    yield Paragraph(headline(answer), "strong")
    best = answer.recommendation
    if best is not None:
        yield from _change_blocks(best)
        if best.warnings:
            yield Bullets(tuple(_sentence(text) for text in best.warnings))
        yield Heading("What people do about it, replayed", 2)
        rows = tuple(_judged(s, answer.scenarios[1]) for s in best.tried)
        yield TableBlock(Grid(("what is changed", *_JUDGED, "so it"), rows, frozenset({1, 2, 3})))
        yield from _warnings(best.tried)
    yield Heading("Observed, replayed, and what if", 2)
    yield TableBlock(scenario_grid(answer))
    # Where intervals hold fewer, the line below that names their scenarios is the exception.
    is_exact = not any(scenario.scattered for scenario in _side_by_side(answer))
    most = "Nine of ten replays" if is_exact else "Unless said below, nine of ten"
    yield Paragraph(
        "Failed: requests of clients answered by an error; lost: tries without an answer; no live: requests that found"
        f" no upstream. {most} lie between the numbers in brackets."
    )
    if answer.per_day:
        yield Bullets(tuple(_rates(answer.per_day)))
    yield from _warnings(_side_by_side(answer)[1:])
    if answer.first_swept >= 0 and not answer.disagreement:
        yield Heading(f"Sweep of {answer.sweep}", 2)
        yield TableBlock(sweep_grid(answer))
        # Where nothing else was asked for, the first line is the headline.
        is_told = best is None and answer.first_swept == _CAPTURED
        yield from (Paragraph(line) for line in islice(sweep_lines(answer), int(is_told), None))
    yield Heading("How these numbers came about", 2)
    yield Bullets(tuple(model_lines(answer)))
    if not answer.disagreement and best is None and len(answer.scenarios) == _CAPTURED:
        yield Paragraph(
            "Next: --recommend looks for the settings that lose nothing and replays what people do about it;"
            " --set KEY=VALUE replays one change, --sweep KEY=FROM:TO:STEP a range; --help names the keys."
        )


def _rates(rates: Sequence[UpstreamRate]) -> Iterator[str]:
    """Yield what the race takes per day at the upstreams that it takes most at."""
    for rate in sorted(rates, key=lambda r: -r.high)[:_MOST_RATES]:
        seen = "none" if not rate.gaps else f"{rate.gaps:,}"
        yield (
            f"{rate.endpoint}, with the captured settings: the race takes"
            f" {spell_per_day(PerDay(rate.low, rate.expected, rate.high))}; {seen} of the idle gaps came near it."
        )


def headline(answer: WhatIf) -> str:
    """Return the one sentence to read if only one is read."""
    if answer.disagreement:
        return _sentence(answer.disagreement)
    observed, replayed = answer.scenarios[0], answer.scenarios[1]
    best = answer.recommendation
    if best is not None and not best.settings:
        return f"None of the settings that were tried keeps every request; {_instead(observed, replayed)}."
    if best is not None:
        chosen = next((s for s in best.tried if s.settings == best.settings), None)
        name = chosen.name if chosen is not None else " ".join(f"{key}={value}" for key, value in best.settings.items())
        if chosen is not None and _most_lost(chosen) > 0:
            return (
                f"With {name} no client's request is predicted to fail, though {spell(chosen.lost_tries)} tries are"
                f" lost; {_instead(observed, replayed)}."
            )
        return f"With {name} no request is predicted to be lost; {_instead(observed, replayed)}."
    asked = answer.scenarios[2 : answer.first_swept if answer.first_swept >= 0 else None]
    if asked:
        best_asked = min(asked, key=_cost)
        of_all = f", the best of {len(asked)} that were asked for" if len(asked) > 1 else ""
        does = _judgement(best_asked, replayed) if replayed.lost_tries and replayed.lost_tries.low > 0 else ""
        verdict = f", which {does}" if does not in {"", UNKNOWN} else ""
        return (
            f"With {best_asked.name}{of_all}{verdict}: {_bounded(best_asked, 'client_failures')} of clients' requests"
            f" fail, {_bounded(best_asked, 'lost_tries')} tries are lost; {_instead(observed, replayed)}."
        )
    if answer.first_swept >= 0:
        told = next((line.rstrip(".") for line in sweep_lines(answer)), f"{answer.sweep}, swept")
        return f"{told}; {_instead(observed, replayed)}."
    if not answer.agrees:
        return f"What these assumptions give is not what the log shows: {_instead(observed, replayed)}."
    return f"The replay of the captured settings agrees with what was observed: {_instead(observed, replayed)}."


def _cost(scenario: Scenario) -> tuple[float, float, bool]:
    """Return what a scenario is judged by among others: what clients suffer, what is lost, whether that is a bound."""
    failed, lost = scenario.client_failures, scenario.lost_tries
    unknown = float("inf")
    return (
        unknown if failed is None else failed.expected,
        unknown if lost is None else lost.expected,
        bool(scenario.bound),
    )


def _instead(observed: Scenario, replayed: Scenario) -> str:
    """Say what was observed, or, where that is not known, what the replay of it gives."""
    is_known = observed.client_failures is not None and observed.lost_tries is not None
    seen, said = (observed, "as captured ") if is_known else (replayed, "as it is set now, by the replay, ")
    failed, lost = _number(seen.client_failures), _number(seen.lost_tries)
    if is_known:
        return f"{said}{failed} requests failed and {lost} tries were lost"
    return f"{said}{failed} requests fail and {lost} tries are lost"


def _bounded(scenario: Scenario, name: str) -> str:
    value: Quantity | None = getattr(scenario, name)
    least = "at least " if scenario.bound == "lower" else "at most " if scenario.bound == "upper" else ""
    return least + spell(value)


def spell(value: Quantity | None) -> str:
    """Return a quantity as people read it: ``12``, or ``10 (8-13)``."""
    if value is None:
        return UNKNOWN
    low, high = round(value.low), round(value.high)
    return _number(value) if low == high else f"{_number(value)} ({low:,}-{high:,})"


def _number(value: Quantity | None) -> str:
    return UNKNOWN if value is None else f"{round(value.expected):,}"


def spell_ns(value: Quantity | None) -> str:
    """Return a quantity of ns as people read it."""
    if value is None:
        return UNKNOWN
    low, mean, high = (brief(max(round(ns), 0)) for ns in (value.low, value.expected, value.high))
    return mean if low == high else f"{mean} ({low} to {high})"


def scenario_grid(answer: WhatIf) -> Grid:
    """Return observed, replayed and each scenario that was asked for, side by side."""
    return Grid(_HEADERS, tuple(map(_row, _side_by_side(answer))), frozenset(range(1, len(_HEADERS))))


def _side_by_side(answer: WhatIf) -> tuple[Scenario, ...]:
    """Return all scenarios but the points of a sweep, and what nothing can be said of."""
    if answer.disagreement:
        return answer.scenarios[:2]
    return answer.scenarios[: answer.first_swept] if answer.first_swept >= 0 else answer.scenarios


def _row(scenario: Scenario, fields: Sequence[str] = _FIELDS) -> tuple[str, ...]:
    mark = {"lower": ">= ", "upper": "<= "}.get(scenario.bound, "")
    return scenario.name, *(mark + spell(getattr(scenario, name)) for name in fields)


def _judged(scenario: Scenario, replayed: Scenario) -> tuple[str, ...]:
    """Return the row of a remedy of the field, with whether it mends, hides or moves the failure."""
    return *_row(scenario, tuple(_JUDGED.values())), _judgement(scenario, replayed)


def _judgement(scenario: Scenario, replayed: Scenario) -> str:
    lost, failed = scenario.lost_tries, scenario.client_failures
    lost_before, failed_before = replayed.lost_tries, replayed.client_failures
    if lost is None or failed is None or lost_before is None or failed_before is None:
        return UNKNOWN
    if lost.high == 0:
        return "may mend it" if scenario.bound else "mends it"
    if lost.expected < lost_before.expected / 2:
        return "loses fewer"
    return "hides it" if failed.expected < failed_before.expected / 2 else "does not help"


def sweep_grid(answer: WhatIf) -> Grid:
    """Return the points of a sweep, at most about `MOST_POINTS` of them, evenly chosen, and those that lose most."""
    points = answer.scenarios[answer.first_swept :]
    step = -(-len(points) // MOST_POINTS)
    chosen = {*range(0, len(points), step), len(points) - 1}
    worst = sorted(range(len(points)), key=lambda n: -_most_lost(points[n]))[:_WORST]
    chosen |= {n for n in worst if _most_lost(points[n]) > 0}
    rows = tuple(
        (points[n].settings[answer.sweep], *_row(points[n], tuple(_JUDGED.values()))[1:]) for n in sorted(chosen)
    )
    return Grid((answer.sweep, *_JUDGED), rows, frozenset({1, 2, 3}))


def _most_lost(scenario: Scenario) -> float:
    return scenario.lost_tries.high if scenario.lost_tries is not None else -1.0


def sweep_lines(answer: WhatIf) -> Iterator[str]:
    """Yield what the sweep says in words."""
    points = answer.scenarios[answer.first_swept :]
    runs: list[list[Scenario]] = [[]]
    for point in points:
        if _most_lost(point) == 0 and not point.bound:
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    names = [
        f"{run[0].settings[answer.sweep]} to {run[-1].settings[answer.sweep]}"
        if len(run) > 1
        else run[0].settings[answer.sweep]
        for run in runs
        if run
    ]
    if names:
        yield f"Nothing is lost with {answer.sweep} at {' and '.join(names)}, of the values tried."
    bounded = [point for point in points if point.bound]
    if bounded:
        first = bounded[0]
        n_others = len(bounded) - 1
        also = f" and at {count_of(n_others, 'other value')}" if n_others else ""
        why = next(iter(first.warnings), "what happens then the capture does not show")
        yield f"With {answer.sweep} at {first.settings[answer.sweep]}{also} the numbers are bounds: {why}."
    low, high = answer.model.window_ns
    if low >= 0 and answer.sweep == "proxy.keepalive_timeout":
        yield (
            f"A request that comes {format_duration_ns(round(low, -7))} to {format_duration_ns(round(high, -7))} after "
            "the last one on its connection may be lost."
        )


def _warnings(scenarios: Sequence[Scenario]) -> Iterator[Bullets]:
    """Yield what to know of scenarios, each thing once."""
    said: dict[str, list[str]] = defaultdict(list)
    for scenario in scenarios:
        for text in (*scenario.warnings, *scenario.scattered):
            said[text].append(scenario.name)
    lines = [f"{'; '.join(names)}: {text}." for text, names in said.items()]
    if lines:
        yield Bullets(tuple(lines))


def model_lines(answer: WhatIf) -> Iterator[str]:
    """Yield what the numbers rest on."""
    yield from (_sentence(text) for text in answer.model.assumptions)
    latency = answer.scenarios[1].added_latency_ns
    if latency is not None:
        yield (
            f"In the replay of the captured settings handshakes and lost tries add {spell_ns(latency.mean)} to an "
            f"answered request, {spell_ns(latency.p99)} at the 99th percentile."
        )
    yield f"The same --seed ({answer.model.seed}) gives the same numbers. docs/whatif.md explains the model."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def change_lines(changes: Sequence[Change]) -> list[str]:
    """Return changes of a configuration as lines of a diff."""
    lines: list[str] = []
    for change in changes:
        place = f"{change.file}:{change.line}" if change.file and change.line > 0 else change.file
        lines.append(f"# {place or change.proxy}, {change.where}")
        lines += [f"-{change.old_text}"] if change.old_text else []
        lines += [f"+{change.text}"] if change.text else []
    return lines


def _change_blocks(best: Recommendation) -> Iterator[Block]:
    if best.patch:
        yield Code(tuple(best.patch.splitlines()), "diff", is_exact=True)
        yield Paragraph(_how_to_patch(best.changes))
    elif best.changes:
        yield Code(tuple(change_lines(best.changes)))


def _how_to_patch(changes: Sequence[Change]) -> str:
    """Say what takes the diff: GNU patch strips no slash by itself, and takes no name that leads out of its folder."""
    files = list(dict.fromkeys(change.file for change in changes))
    if any(file.startswith("/") for file in files):
        how = "-p1 -d /"
    elif any(file.startswith("..") for file in files):
        how = files[0]
    else:
        how = "-p0"
    return f"`patch {how}` takes these lines as they stand; then `nginx -t`, before the reload."
