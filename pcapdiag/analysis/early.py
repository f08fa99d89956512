"""Answers that came before the request was whole: which of them the proxy lost, and which it read, its logs say.

Packets show such an answer and the RST behind it, not whether the proxy had read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.losses import with_losses
from pcapdiag.base.codes import Key, Leg, Method, Outcome
from pcapdiag.base.units import NS_PER_S, format_endpoint
from pcapdiag.proxy.join.ledger import EntryVerdict
from pcapdiag.proxy.logs.entries import BODY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.proxy.join.ledger import Ledger
    from pcapdiag.proxy.logs.entries import AccessEntry

MOST_LINES = 500
_MOST_WITHOUT_ZONE = 200
_APART_NS = 2 * NS_PER_S
"""[ns] How far a line may be from its request and answer: it holds whole seconds, and is written a moment later."""
_QUARTER_NS = 900 * NS_PER_S
_MOST_QUARTERS = 60
"""Zones reach from -12 to +14 hours."""


@dataclass(slots=True)
class StatusLines:
    """Lines of the access log with the status of an early answer, kept while the log is read for the join.

    Attributes
    ----------
    early : sequence of Loss
        The early answers that are looked for.
    has_zone : bool
        Whether the log names its zone.
    lines : list of AccessEntry
        At most `MOST_LINES`.
    is_cut : bool
        Whether there were more.
    """

    early: Sequence[Loss]
    has_zone: bool = True
    lines: list[AccessEntry] = field(default_factory=list)
    is_cut: bool = False

    def watch(self, entries: Iterable[AccessEntry]) -> Iterator[AccessEntry]:
        """Yield the entries as they are, and keep those that may be of an early answer."""
        statuses = {loss.status_code for loss in self.early if loss.status_code > 0}
        for entry in entries:
            if entry.status in statuses:
                if len(self.lines) < MOST_LINES:
                    self.lines.append(entry)
                else:
                    self.is_cut = True
            yield entry


def add_lost_answers(analysis: Analysis, lines: StatusLines | None = None) -> Analysis:
    """Return an analysis whose losses hold the early answers that the error log calls failed before they were read.

    Parameters
    ----------
    analysis : Analysis
        With the joined logs, if they were given.
    lines : StatusLines, optional
        What the access log holds of such statuses.

    Returns
    -------
    Analysis
        Where the log tells of this capture, no other early answer is left: it was read. So were those whose status a
        client got, by the access log.
    """
    log = analysis.log
    if log is None or not analysis.early:
        return analysis
    told = {
        joined.wire.key
        for joined in log.entries
        if joined.wire is not None and joined.verdict is EntryVerdict.EXPLAINED and joined.entry.action != BODY
    }
    lost = [loss for loss in analysis.early if (loss.connection.conn, loss.depth) in told]
    others = tuple(loss for loss in analysis.early if (loss.connection.conn, loss.depth) not in told)
    left = () if _is_testimony(log) else others
    if left and lines is not None and lines.lines and not lines.is_cut:
        read = _read_answers(analysis, left, lines)
        left = tuple(loss for loss in left if (loss.connection.conn, loss.depth) not in read)
    return replace(with_losses(analysis, lost), early=left)


def _is_testimony(log: Ledger) -> bool:
    """Tell whether it means something that a log is silent: it is of this capture, and knows nothing unexplained."""
    if log.outside:
        return False
    is_tied = log.has_errors and log.clock is not None and log.clock.pairs > 0
    return is_tied or log.names_tries


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer with a status that an early one has: what its line in the access log must agree with."""

    key: tuple[int, int]
    status: int
    method: str
    target: str
    peer: str
    from_ns: int
    to_ns: int
    is_early: bool

    def distance_ns(self, line: AccessEntry, shift_ns: int) -> int:
        """[ns] Return how far a line is from this request and its answer, by a clock that is `shift_ns` ahead."""
        at = line.ts_ns - shift_ns
        return max(self.from_ns - at - line.ts_width_ns, at - self.to_ns, 0)

    def fits(self, line: AccessEntry) -> bool:
        """Tell whether a line may be of this answer, by what it says."""
        if line.status != self.status or (self.method and line.method and line.method != self.method):
            return False
        is_of_peer = any(t.addr == self.peer and t.status == self.status for t in line.tries)
        return is_of_peer or (bool(self.target) and line.target == self.target)


def _read_answers(analysis: Analysis, early: Sequence[Loss], lines: StatusLines) -> set[tuple[int, int]]:
    """Return which early answers have a line of their own; where several zones are possible, none."""
    others = tuple(islice(_others(analysis, early), MOST_LINES))
    if len(others) == MOST_LINES:
        return set()
    answers = [*others, *map(_answer_of, early)]
    entries = sorted(lines.lines, key=lambda line: line.ts_ns)
    clock = analysis.log.clock if analysis.log is not None else None
    if lines.has_zone:
        return _with_line(answers, entries, 0)
    if clock is not None and clock.is_measured and not clock.is_ambiguous:
        return _with_line(answers, entries, clock.total_ns)
    if len(entries) > _MOST_WITHOUT_ZONE:
        return set()
    shifts = {round((line.ts_ns - a.from_ns) / _QUARTER_NS) for line in entries for a in answers if a.is_early}
    shifts = {n for n in shifts if abs(n) <= _MOST_QUARTERS}
    found = [read for n in sorted(shifts) if (read := _with_line(answers, entries, n * _QUARTER_NS))]
    return found[0] if len(found) == 1 else set()


def _with_line(answers: Sequence[_Answer], entries: Sequence[AccessEntry], shift_ns: int) -> set[tuple[int, int]]:
    """Return the early answers that have a line: the nearest pairs first, and of equal ones the other answers."""
    pairs = sorted(
        (distance, number, at)
        for number, answer in enumerate(answers)
        for at, line in enumerate(entries)
        if (distance := answer.distance_ns(line, shift_ns)) <= _APART_NS and answer.fits(line)
    )
    taken: set[int] = set()
    used: set[int] = set()
    for _, number, at in pairs:
        if number not in taken and at not in used:
            taken.add(number)
            used.add(at)
    return {answers[number].key for number in taken if answers[number].is_early}


def _answer_of(loss: Loss) -> _Answer:
    ends = [segment.ts_ns for key, segment in loss.keys.items() if key in (Key.RESP_FIN, Key.RESP_RST, Key.RESPONSE)]
    return _Answer(
        key=(loss.connection.conn, loss.depth),
        status=loss.status_code,
        method=loss.method_name,
        target=loss.target,
        peer=str(loss.connection.resp),
        from_ns=loss.request_ts_ns,
        to_ns=max(ends, default=loss.request_ts_ns),
        is_early=True,
    )


def _others(analysis: Analysis, early: Sequence[Loss]) -> Iterator[_Answer]:
    """Yield the other answers of the capture with such a status: they have lines, too."""
    statuses = sorted({loss.status_code for loss in early if loss.status_code > 0})
    known = {(loss.connection.conn, loss.depth) for loss in early}
    for chunk in analysis.exchanges.chunks():
        wanted = (chunk["outcome"] == Outcome.ANSWERED) & np.isin(chunk["status_code"], statuses)
        for row in chunk.rows[wanted & (analysis.legs[chunk["conn"]] == Leg.UPSTREAM)]:
            key = int(row["conn"]), int(row["depth"])
            if key in known:
                continue
            ends = analysis.connections.rows[key[0]]
            at, offset, method = int(row["request_ts_ns"]), int(row["text_offset"]), Method(int(row["method"]))
            target = analysis.texts.read(offset, int(row["target_len"])) if offset >= 0 else b""
            yield _Answer(
                key=key,
                status=int(row["status_code"]),
                method="" if method is Method.NONE else method.name,
                target=target.decode("utf-8", errors="backslashreplace"),
                peer=format_endpoint(int(ends["resp_hi"]), int(ends["resp_lo"]), int(ends["resp_port"])),
                from_ns=at,
                to_ns=at + max(int(row["duration_ns"]), 0),
                is_early=False,
            )
