"""The lines of the access logs that belong to a capture, for who wants them once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.analysis.model import Analysis
    from pcapdiag.proxy.logs.entries import AccessEntry

_EDGE_NS: Final = 2 * NS_PER_S


def entries_of_capture(analysis: Analysis, inputs: Inputs) -> Callable[[], Iterable[AccessEntry]]:
    """Return what gives the entries that end within the time of the capture, each time anew.

    Parameters
    ----------
    analysis : Analysis
        Joined with its logs, which tells the clocks apart.
    inputs : Inputs
        The access logs and their format.
    """
    from pcapdiag.analysis.add_logs import access_format  # noqa: PLC0415 - after what can fail quickly
    from pcapdiag.proxy.logs.access_log import read_access_log  # noqa: PLC0415

    ahead_ns = analysis.log.ahead_ns if analysis.log is not None else 0
    first, last = analysis.first_ts_ns + ahead_ns - _EDGE_NS, analysis.last_ts_ns + ahead_ns + _EDGE_NS

    def read() -> Iterator[AccessEntry]:
        for path in inputs.access_logs:
            for entry in read_access_log(path, access_format(inputs, analysis.settings)):
                if first <= entry.ts_ns <= last:
                    yield entry

    return read
