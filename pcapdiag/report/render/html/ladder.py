"""The ladder as a drawing: where each arrow, time, frame number and log entry of one occurrence goes.

Proxy left, upstream right, time downwards but not to scale: each event has a row. Where one end alone was captured, the
other end of an arrow is placed by what acknowledgement numbers prove: whoever does not acknowledge a request had not
got it. Knows coordinates and words; the template makes SVG of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from pcapdiag.base.codes import CapturePoint, Direction
from pcapdiag.base.units import count_of, format_ts_ns
from pcapdiag.privacy.escape import shorten, visible
from pcapdiag.report.ladder import zero_ns
from pcapdiag.report.model import LogEntryDetail
from pcapdiag.report.summary import IN_EVIDENCE, brief, evidence_filter, filter_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pcapdiag.report.model import EvidenceFrame, OccurrenceDetail, Report

    Row = EvidenceFrame | LogEntryDetail

_WIDTH = 400
_MARGIN, _BARE = 84.0, 34.0
"""[px] Beside a line with times, and beside one without."""
_ROW = 50
_SLANT = 0.6
"""Rows that an arrow falls where nothing says how much: two that follow each other cross, unless one proves it saw."""
_BEFORE = 0.2
_TOP = 44
_LINE = 16
_LOG_ROW = 34
_MOST_FRAMES = 40
_CLOSING = frozenset({"FIN", "RST"})


@dataclass(frozen=True, slots=True)
class LadderText:
    """Text at a place; several lines one below the other. `anchor` as in SVG."""

    x: float
    y: float
    lines: tuple[str, ...]
    anchor: str = "start"
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """One segment on its way; `guess` is the part of it, ``from`` or ``to``, that no capture has."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str
    guess: str
    label: str
    label_x: float
    label_y: float
    angle: float

    @property
    def x_mid(self) -> float:
        """[px] Half-way."""
        return (self.x1 + self.x2) / 2

    @property
    def y_mid(self) -> float:
        """[px] Half-way."""
        return (self.y1 + self.y2) / 2

    @property
    def head(self) -> str:
        """Points of the arrow's head."""
        direction = math.atan2(self.y2 - self.y1, self.x2 - self.x1)
        turns = (direction + math.pi - 0.42, direction + math.pi + 0.42)
        wings = [(self.x2 + 11 * math.cos(turn), self.y2 + 11 * math.sin(turn)) for turn in turns]
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in [(self.x2, self.y2), *wings])


@dataclass(frozen=True, slots=True)
class LogMark:
    """Where the proxy wrote an entry of a log: a mark on its line, and the entry's place; the words stand beside."""

    x: float
    y: float
    text: LadderText


@dataclass(frozen=True, slots=True)
class Step:
    """One event in words, for who reads rather than looks."""

    time: str
    end: str
    frame: str
    words: str
    is_log: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """A ladder with every part at its place."""

    width: int
    height: int
    left: float
    right: float
    heads: tuple[LadderText, ...]
    arrows: tuple[Arrow, ...]
    words: tuple[LadderText, ...]
    marks: tuple[LogMark, ...]


@dataclass(frozen=True, slots=True)
class LadderFigure:
    """One ladder: drawn, and in words."""

    title: str
    alt: str
    proof: tuple[str, ...]
    drawing: Drawing
    steps: tuple[Step, ...]
    has_both_ends: bool
    hidden: int
    filter_label: str
    evidence_label: str
    evidence_filter: str
    filter: str
    command: str


@dataclass(slots=True)
class _LadderMessage:
    """One segment; `at` holds the event of each end that was captured, 0 the proxy, 1 the upstream."""

    frame: EvidenceFrame
    at: list[EvidenceFrame | None]
    y: list[float]

    @property
    def sender(self) -> int:
        return 0 if self.frame.dir == Direction.ORIG else 1


def build_figure(
    occurrence: OccurrenceDetail,
    report: Report,
    entries: Mapping[str, LogEntryDetail],
    title: str,
    *,
    command: str = "",
) -> LadderFigure:
    """Return the ladder of an occurrence.

    Parameters
    ----------
    occurrence : OccurrenceDetail
        With its evidence.
    report : Report
        For where its captures were taken, and the clock of the log.
    entries : mapping of str to LogEntryDetail
        Entries of the log by ``path:line``.
    title : str
        Which request it was.
    command : str
        What shows its frames, to be copied.

    Returns
    -------
    LadderFigure
    """
    frames = sorted(occurrence.evidence, key=lambda e: (_proxy_ts(e), e.ts_ns, e.capture, e.frame))
    shown = frames[:_MOST_FRAMES]
    home = _home(occurrence, report)
    messages = _pair(shown, home)
    logs = [entries[place] for place in occurrence.log_lines if place in entries]
    logs.sort(key=lambda e: (e.ts_ns, e.path, e.line))
    rows = _rows(shown, logs, occurrence, home)
    both = any(e.end == "upstream" for e in shown)
    steps = tuple(_step(row, occurrence, home, both=both) for row in rows)
    alt = (
        f"Ladder diagram of {title}: {len(shown)} frames between {' and '.join(occurrence.sides)}; the list below says"
        " each in words."
    )
    return LadderFigure(
        title=title,
        alt=alt,
        proof=tuple(_proofs(occurrence)),
        drawing=_draw(rows, messages, occurrence, home, both=both),
        steps=steps,
        has_both_ends=both,
        hidden=len(frames) - len(shown),
        filter_label=visible(filter_label(occurrence, report)),
        filter=visible(occurrence.display_filter),
        evidence_label=IN_EVIDENCE,
        evidence_filter=visible(evidence_filter(occurrence)),
        command=command,
    )


def _proofs(occurrence: OccurrenceDetail) -> Iterator[str]:
    """Yield what the other end and the application's own log say of the request."""
    if occurrence.far_end is not None:
        yield f"Both ends: {visible(occurrence.far_end.text)}."
    if occurrence.upstream_log:
        yield f"Application's log: {visible(occurrence.upstream_log)}"


def _proxy_ts(evidence: EvidenceFrame) -> int:
    """Return the time of a frame by the proxy's clock, as well as it is known."""
    return evidence.ts_ns - (evidence.clock_offset_ns or 0)


def _home(occurrence: OccurrenceDetail, report: Report) -> int:
    """Return which end the occurrence's own capture is at: 0 the proxy (or not known), 1 the upstream."""
    points = {path: c.capture_point for c in report.captures for path in c.paths}
    return 1 if points.get(occurrence.capture) is CapturePoint.UPSTREAM else 0


def _end(evidence: EvidenceFrame, home: int) -> int:
    return 1 if evidence.end == "upstream" else home


def _pair(frames: Sequence[EvidenceFrame], home: int) -> list[_LadderMessage]:
    """Return the segments: the same one seen at both ends is one."""
    messages: list[_LadderMessage] = []
    for frame in frames:
        end = _end(frame, home)
        twin = next((m for m in messages if m.at[end] is None and _is_same(m.frame, frame)), None)
        if twin is None:
            at: list[EvidenceFrame | None] = [None, None]
            twin = _LadderMessage(frame, at, [math.nan, math.nan])
            messages.append(twin)
        twin.at[end] = frame
    return messages


def _is_same(one: EvidenceFrame, other: EvidenceFrame) -> bool:
    return (
        one.dir == other.dir
        and one.flags == other.flags
        and one.payload_len == other.payload_len
        and (one.rel_seq, one.rel_ack) == (other.rel_seq, other.rel_ack)
        and one.end != other.end
    )


def _rows(
    frames: Sequence[EvidenceFrame], logs: Sequence[LogEntryDetail], occurrence: OccurrenceDetail, home: int
) -> list[Row]:
    """Return events and log entries in the order of time; an entry follows the closing that it was written about."""
    rows: list[Row] = list(frames)
    least = -1
    for entry in logs:
        after = next((n for n, row in enumerate(rows) if _is_about(entry, row, occurrence)), -1)
        if after < 0:
            after = next((n for n, row in enumerate(rows) if _is_told(row, occurrence, home)), len(rows) - 1)
        # None stands before one that was written earlier.
        after = max(after, least)
        while after + 1 < len(rows) and isinstance(rows[after + 1], LogEntryDetail):
            after += 1
        rows.insert(after + 1, entry)
        least = after + 1
    return rows


def _is_about(entry: LogEntryDetail, row: Row, occurrence: OccurrenceDetail) -> bool:
    """Return whether an entry tells of a try that is another one than the occurrence's own."""
    return (
        not isinstance(row, LogEntryDetail)
        and not _is_request(row, occurrence)
        and entry.request_frame > 0
        and (entry.capture, entry.request_frame) == (row.capture, row.frame)
    )


def _is_told(row: Row, occurrence: OccurrenceDetail, home: int) -> bool:
    """Return whether this is the closing that a log entry is about: the first after the request."""
    return (
        not isinstance(row, LogEntryDetail)
        and _is_closing(row)
        and _end(row, home) == home
        and _proxy_ts(row) >= occurrence.request_ts_ns
    )


def _is_closing(frame: EvidenceFrame) -> bool:
    return bool(_CLOSING & set(frame.flags))


def _is_request(frame: EvidenceFrame, occurrence: OccurrenceDetail) -> bool:
    return frame.frame == occurrence.request_frame and frame.capture == occurrence.capture


def _step(item: Row, occurrence: OccurrenceDetail, home: int, *, both: bool) -> Step:
    if isinstance(item, LogEntryDetail):
        stamp = f"{format_ts_ns(item.ts_ns)[11:19]} by the log" if item.ts_ns >= 0 else "log entry"
        return Step(stamp, "log", "", _log_text(item), is_log=True)
    ends = occurrence.sides
    where = ends[_end(item, home)] if both else ""
    sender, receiver = ends if item.dir == Direction.ORIG else ends[::-1]
    file = f" of {visible(PurePath(item.capture).name)}" if item.capture != occurrence.capture else ""
    words = in_words(item)
    text = f"{sender} to {receiver}: {words}." if words else ""
    if item.text:
        said = visible(item.text)
        text += f" {said[:1].upper()}{said[1:]}."
    return Step(_time(item, occurrence), where, f"{item.frame}{file}", text)


def _time(frame: EvidenceFrame, occurrence: OccurrenceDetail) -> str:
    delta = _proxy_ts(frame) - zero_ns(occurrence)
    if delta == 0:
        return "0"
    return ("+" if delta > 0 else "\N{MINUS SIGN}") + brief(abs(delta))


def in_words(frame: EvidenceFrame) -> str:
    """Return a segment's flags and numbers in words; nothing for a request that stands for a whole try."""
    if _is_try(frame):
        return ""
    parts = [_flags(frame)] if _flags(frame) else []
    if frame.payload_len and frame.rel_seq >= 0:
        last = frame.rel_seq + frame.payload_len - 1
        parts.append(f"bytes {frame.rel_seq:,} to {last:,} of its stream")
    elif frame.payload_len:
        parts.append(f"{count_of(frame.payload_len, 'byte')}")
    elif frame.rel_seq > 0 and _is_closing(frame):
        parts.append(f"after byte {frame.rel_seq - 1:,} of its stream")
    if frame.rel_ack >= 0:
        parts.append(f"{'' if parts else 'ACK, '}has everything below byte {frame.rel_ack:,} of the other stream")
    return ", ".join(parts) or "ACK"


def _is_try(frame: EvidenceFrame) -> bool:
    return not frame.payload_len and frame.rel_seq < 0 and frame.rel_ack < 0 and not _flags(frame)


def _flags(frame: EvidenceFrame) -> str:
    """Return the flags that open or close."""
    names = [f for f in frame.flags if f in {"SYN", "FIN", "RST"}]
    return "SYN-ACK" if "SYN" in names and "ACK" in frame.flags else " ".join(names)


def _label(frame: EvidenceFrame, occurrence: OccurrenceDetail) -> str:
    """Return a few words to write on an arrow."""
    text = _flags(frame)
    if _is_request(frame, occurrence) and not text:
        text = occurrence.method or "request"
    if frame.payload_len:
        text += f"{', ' if text else ''}{count_of(frame.payload_len, 'byte')}"
    if _is_try(frame):
        text = f"try at {frame.label}" if frame.label else "try"
    elif not text:
        text = "ACK"
    if frame.rel_ack >= 0 and "SYN" not in frame.flags:
        text += f", ack {frame.rel_ack}"
    return shorten(visible(text), 30)


def _log_text(entry: LogEntryDetail) -> str:
    """Return an entry as it reads in the log, behind the file's name and the line; the inputs have the whole path."""
    level = f"[{entry.level}] " if entry.level else ""
    return visible(f"{PurePath(entry.path).name}:{entry.line}: {level}{entry.message}")


def _draw(
    rows: Sequence[Row],
    messages: Sequence[_LadderMessage],
    occurrence: OccurrenceDetail,
    home: int,
    *,
    both: bool,
) -> Drawing:
    has_logs = any(isinstance(item, LogEntryDetail) for item in rows)
    left = _MARGIN if both or home == 0 or has_logs else _BARE
    right = _WIDTH - (_MARGIN if both or home == 1 else _BARE)
    y = float(_TOP)
    tops: dict[int, float] = {}
    words: list[LadderText] = []
    marks: list[LogMark] = []
    for item in rows:
        if isinstance(item, LogEntryDetail):
            marks.append(_mark(item, left, y + 8))
            y += _LOG_ROW
            continue
        end = _end(item, home)
        tops[id(item)] = y + 10
        x, anchor = (left - 8, "end") if end == 0 else (right + 8, "start")
        kind = "request" if _is_request(item, occurrence) else ""
        words.append(LadderText(x, y + 8, (_time(item, occurrence),), anchor, f"time {kind}"))
        words.append(LadderText(x, y + 8 + _LINE - 2, (f"frame {item.frame}",), anchor, "frame"))
        y += _ROW
    arrows = _arrows(messages, tops, occurrence, left, right)
    lowest = max([y, *(max(a.y1, a.y2) + 14 for a in arrows)])
    heads = (
        LadderText(left, 16, occurrence.sides[:1], "middle", "head"),
        LadderText(right, 16, occurrence.sides[1:], "middle", "head"),
        # Without a connection of its own, the two are a client and a group of peers.
        *([LadderText(2, 31, (shorten(visible(occurrence.orig), 28),), "start", "address")] if occurrence.uid else []),
        LadderText(_WIDTH - 2, 31, (shorten(visible(occurrence.resp), 28),), "end", "address"),
    )
    return Drawing(_WIDTH, math.ceil(lowest + 8), left, right, heads, tuple(arrows), tuple(words), tuple(marks))


def _mark(entry: LogEntryDetail, x: float, y: float) -> LogMark:
    lines = (shorten(visible(PurePath(entry.path).name), 14), f"line {entry.line}")
    return LogMark(x, y, LadderText(x - 10, y, lines, "end", "log"))


def _arrows(
    messages: Sequence[_LadderMessage],
    tops: Mapping[int, float],
    occurrence: OccurrenceDetail,
    left: float,
    right: float,
) -> list[Arrow]:
    for message in messages:
        for end in (0, 1):
            event = message.at[end]
            if event is not None:
                message.y[end] = tops[id(event)]
    _place_unseen(messages)
    arrows = []
    for m in messages:
        to_right = m.sender == 0
        (x1, y1), (x2, y2) = ((left, m.y[0]), (right, m.y[1]))[:: 1 if to_right else -1]
        near = 0.3
        angle = math.degrees(math.atan2(m.y[1] - m.y[0], right - left))
        label_x, label_y = x1 + (x2 - x1) * near, y1 + (y2 - y1) * near - 5
        missing = next((end for end in (0, 1) if m.at[end] is None), -1)
        guess = "" if missing < 0 else "from" if missing == m.sender else "to"
        request = any(e is not None and _is_request(e, occurrence) for e in m.at)
        kind = "request" if request else "closing" if _is_closing(m.frame) else "plain"
        arrows.append(Arrow(x1, y1, x2, y2, kind, guess, _label(m.frame, occurrence), label_x, label_y, angle))
    return arrows


def _place_unseen(messages: Sequence[_LadderMessage]) -> None:
    """Give the end of an arrow that was not captured a height that agrees with the acknowledgement numbers."""
    fall = _ROW * _SLANT
    for n, m in enumerate(messages):
        if not math.isnan(m.y[0]) and not math.isnan(m.y[1]):
            continue
        seen = 0 if not math.isnan(m.y[0]) else 1
        if seen == m.sender:
            m.y[1 - seen] = m.y[seen] + fall
            continue
        # The sender was not captured: it sent this after what it acknowledges had come, before what it does not.
        sent = m.y[seen] - fall
        for before in messages[:n]:
            takes_room = before.frame.payload_len or {"SYN", "FIN"} & set(before.frame.flags)
            if before.sender == m.sender or not takes_room or before.frame.rel_seq < 0:
                continue
            arrival = before.y[1 - seen]
            if m.frame.rel_ack < 0 or math.isnan(arrival):
                continue
            if m.frame.rel_ack > before.frame.rel_seq:
                sent = max(sent, min(arrival + _BEFORE * _ROW, m.y[seen]))
            else:
                sent = min(sent, arrival - _BEFORE * _ROW)
        m.y[1 - seen] = sent
