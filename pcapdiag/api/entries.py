"""The lines of the access logs that belong to a capture, for who wants them once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.access_clock import ahead_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.analysis.model import Analysis
    from pcapdiag.proxy.logs.entries import AccessEntry
    from pcapdiag.whatif.access_log_clock import AccessLogClock

_EDGE_NS: Final = 2 * NS_PER_S


def entries_of_capture(
    analysis: Analysis, inputs: Inputs
) -> tuple[Callable[[], Iterable[AccessEntry]], AccessLogClock]:
    """Return what gives the entries that end within the time of the capture, each time anew, and their clock.

    Parameters
    ----------
    analysis : Analysis
        Joined with its logs: an error log tells the clocks apart; without one the requests themselves may.
    inputs : Inputs
        The access logs and their format.
    """
    from pcapdiag.analysis.add_logs import access_format  # noqa: PLC0415 - after what can fail quickly
    from pcapdiag.proxy.logs.access_log import read_access_log  # noqa: PLC0415
    from pcapdiag.proxy.logs.copies import GivenTwice  # noqa: PLC0415
    from pcapdiag.whatif.access_log_clock import FARTHEST_NS, AccessLogClock, measure_access_log_clock  # noqa: PLC0415

    twice = GivenTwice(inputs.access_logs)

    def read(ahead: int, edge_ns: int) -> Iterator[AccessEntry]:
        first, last = analysis.first_ts_ns + ahead - edge_ns, analysis.last_ts_ns + ahead + edge_ns
        logs = [read_access_log(path, access_format(inputs, analysis.settings)) for path in twice.kept]
        twice.cut(logs)
        for log in logs:
            for entry in log:
                if first <= entry.ts_ns <= last:
                    yield entry

    ledger = analysis.log
    if ledger is not None and ledger.clock is not None and ledger.clock.is_measured and not ledger.clock.is_ambiguous:
        clock = AccessLogClock(ahead_ns(ledger), fits=True)
    else:
        clock = measure_access_log_clock(analysis, read(0, FARTHEST_NS))
    return lambda: read(clock.ahead_ns, _EDGE_NS), clock
