"""The Python API of what-if: the arrivals of a capture, replayed under other settings.

import pcapdiag

answer = pcapdiag.whatif("proxy.pcap", access_logs=["access.log"], proxy_conf="nginx.conf", cases=["max_fails=0"])
answer.scenarios[2].client_failures
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.analysis.model import Analysis
    from pcapdiag.api.result import CaptureReport
    from pcapdiag.base.scenarios import WhatIf
    from pcapdiag.proxy.logs.entries import AccessEntry
    from pcapdiag.whatif.group import Group

NOTHING_TO_REPLAY = "nothing to replay: the capture holds no request on a connection that was kept"
_EDGE_NS = 2 * NS_PER_S


def whatif_captures(
    captures: Sequence[str],
    inputs: Inputs,
    *,
    cases: Sequence[str] = (),
    sweep: str = "",
    recommend: bool = False,
    seed: int | None = None,
    on_progress: Callable[[int, int, int], None] | None = None,
    on_scenario: Callable[[int, int], None] | None = None,
) -> tuple[WhatIf, CaptureReport]:
    """Say what would have happened under other settings.

    Parameters
    ----------
    captures : sequence of str
        As for `analyze`.
    inputs : Inputs
        As for `analyze_captures`.
    cases : sequence of str
        One scenario each, ``key=value key=value``.
    sweep : str
        ``key=from:to:step``: one scenario per value.
    recommend : bool
        Whether the settings without a predicted loss at the least cost are looked for.
    seed : int, optional
        Of the draws; the same seed gives the same numbers.
    on_progress, on_scenario : callable, optional
        Called while the capture is read, and after each scenario.

    Returns
    -------
    tuple of (WhatIf, CaptureReport)
        The answer, and the report of the captured incident.

    Raises
    ------
    CaptureError, LogError
        An input cannot be read.
    UsageError
        A setting makes no sense, or there is nothing to replay.
    """
    from pcapdiag.whatif.keys import parse_case, parse_sweep  # noqa: PLC0415 - help must not wait for it

    asked = [parse_case(case) for case in cases]
    swept = parse_sweep(sweep) if sweep else None
    from pcapdiag.api.analyze import analyze_captures  # noqa: PLC0415
    from pcapdiag.whatif.compute import compute  # noqa: PLC0415
    from pcapdiag.whatif.recommend import recommend as find_best  # noqa: PLC0415
    from pcapdiag.whatif.replay import SEED  # noqa: PLC0415

    result = analyze_captures(captures, inputs, on_progress=on_progress)
    groups = groups_of(result, inputs)
    seed = SEED if seed is None else seed
    answer = compute(groups, asked, sweep=swept, seed=seed, on_progress=on_scenario)
    if recommend and not answer.disagreement:
        answer = replace(answer, recommendation=find_best(groups, answer, result.captured.analysis.settings, seed=seed))
    return answer, result


def groups_of(result: CaptureReport, inputs: Inputs) -> tuple[Group, ...]:
    """Return what can be replayed of a capture that was analyzed.

    Raises
    ------
    UsageError
        There is nothing.
    """
    from pcapdiag.whatif.groups import build_groups  # noqa: PLC0415

    analysis = result.captured.analysis
    read = (lambda: _entries(analysis, inputs)) if inputs.access_logs else None
    groups = build_groups(analysis, result.captured.findings, read)
    if not groups or not any(group.observed.get("reused", 0) for group in groups):
        raise UsageError(NOTHING_TO_REPLAY)
    return groups


def _entries(analysis: Analysis, inputs: Inputs) -> Iterable[AccessEntry]:
    """Yield the lines of the access logs that end within the time of the capture."""
    from pcapdiag.analysis.add_logs import access_format  # noqa: PLC0415
    from pcapdiag.proxy.logs.access_log import read_access_log  # noqa: PLC0415

    clock = analysis.log.clock if analysis.log is not None else None
    ahead_ns = clock.offset_ns if clock is not None and clock.is_measured and not clock.is_ambiguous else 0
    first, last = analysis.first_ts_ns + ahead_ns - _EDGE_NS, analysis.last_ts_ns + ahead_ns + _EDGE_NS
    for path in inputs.access_logs:
        for entry in read_access_log(path, access_format(inputs, analysis.settings)):
            if first <= entry.ts_ns <= last:
                yield entry
