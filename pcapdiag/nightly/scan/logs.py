"""Which logs belong to a capture: names with the directives of `strftime`, filled in for its days."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.analysis.inputs import Inputs

_MOST_DAYS: Final = 400
_HOUR: Final = timedelta(hours=1)


def has_patterns(inputs: Inputs) -> bool:
    """Tell whether the name of a log holds a directive."""
    return any("%" in name for name in inputs.logs)


def must_be_there(inputs: Inputs) -> None:
    """Raise unless the configuration, and each log whose name holds no directive, can be read.

    Raises
    ------
    LogError, UsageError
        As `expand_inputs`.
    """
    from pcapdiag.analysis.add_logs import expand_inputs  # noqa: PLC0415 - the engine, which workers load

    error_logs, access_logs, upstream_logs = (
        tuple(name for name in names if "%" not in name)
        for names in (inputs.error_logs, inputs.access_logs, inputs.upstream_logs)
    )
    expand_inputs(replace(inputs, error_logs=error_logs, access_logs=access_logs, upstream_logs=upstream_logs))


def logs_of(inputs: Inputs, span: tuple[int, int]) -> Inputs:
    """Return the inputs with the logs that a capture needs in place of patterns, each once.

    Parameters
    ----------
    inputs : Inputs
        A name that holds ``%`` is filled in for every hour of the capture and the hour around it, in UTC and in the
        zone of this machine, and only files that are there count. Any other stands for itself.
    span : (int, int)
        [ns] First and last time of the capture; -1 if not known.

    Returns
    -------
    Inputs
        With logs in the order of the patterns.
    """
    return replace(
        inputs,
        error_logs=_expand(inputs.error_logs, span),
        access_logs=_expand(inputs.access_logs, span),
        upstream_logs=_expand(inputs.upstream_logs, span),
    )


def _expand(patterns: Sequence[str], span: tuple[int, int]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for pattern in patterns:
        if "%" not in pattern:
            names.setdefault(pattern)
            continue
        for name in _filled_in(pattern, span):
            found = sorted(glob(name)) if has_magic(name) else [name]  # noqa: PTH207 - as the shell has it
            names.update(dict.fromkeys(path for path in found if Path(path).is_file()))
    return tuple(names)


def _filled_in(pattern: str, span: tuple[int, int]) -> dict[str, None]:
    if span[0] < 0:
        return {}
    try:
        first, last = (datetime.fromtimestamp(ts_ns // 10**9, UTC) for ts_ns in span)
    except (OverflowError, OSError, ValueError):
        return {}  # no calendar has such a time
    names: dict[str, None] = {}
    moment, end = first - _HOUR, min(last, first + timedelta(days=_MOST_DAYS)) + _HOUR
    while moment <= end:
        # What a log was rotated as depends on the zone of whoever rotated it.
        names.setdefault(moment.strftime(pattern))
        names.setdefault(moment.astimezone().strftime(pattern))
        moment += _HOUR
    return names
