"""The ladder: the frames of one occurrence as lines between two ends, proxy left, upstream right.

Plain text lines, built once, shown by every renderer that has a fixed-width font. ASCII only: arrows and box characters
have no agreed width in East Asian terminals, and a ladder that does not line up proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pcapdiag.base.codes import Direction
from pcapdiag.report.summary import brief

if TYPE_CHECKING:
    from pcapdiag.report.model import EvidenceFrame, OccurrenceDetail

_MIN_ARROW = 42
_MOST_FRAMES = 7
"""That stand on a page, the handshake included."""


@dataclass(frozen=True, slots=True)
class LadderLine:
    """One frame: `time` relative to the request, `arrow` drawn between the two ends, `frame` as Wireshark counts."""

    time: str
    arrow: str
    frame: str
    text: str
    dir: Direction
    is_closing: bool
    is_request: bool


@dataclass(frozen=True, slots=True)
class Ladder:
    """All lines of one occurrence; `header` names the two ends above the arrows and is as wide as they are."""

    header: str
    lines: tuple[LadderLine, ...]


def build_ladder(occurrence: OccurrenceDetail) -> Ladder:
    """Return the ladder of `occurrence`, in capture order.

    Parameters
    ----------
    occurrence : OccurrenceDetail
        With its evidence; none gives a ladder without lines.

    Returns
    -------
    Ladder
        Text that still needs the renderer's escaping where it quotes a rule's words.
    """
    frames = sorted(occurrence.evidence, key=_order)
    segments = [_segment_text(e) for e in frames]
    inner = max([_MIN_ARROW, *(len(s) + 8 for s in segments)])
    left, right = _ends(occurrence, inner + 4)
    header = left + " " * (inner + 4 - len(left) - len(right)) + right
    lines = tuple(_line(occurrence, frame, segment, inner) for frame, segment in zip(frames, segments, strict=True))
    return Ladder(header, lines)


def on_a_page(occurrence: OccurrenceDetail) -> OccurrenceDetail:
    """Return an occurrence with the frames that a page has room for, in their order.

    Those that opened its connection stand there only where few others do and no request came before; of frames that
    say the same the first is enough where there are many. What is left out stands in the filter and in
    the whole report.
    """
    frames = occurrence.evidence
    opened = tuple(frame for frame in frames if "SYN" not in frame.flags)
    if opened and (occurrence.depth > 0 or (occurrence.depth == 0 and len(frames) > _MOST_FRAMES)):
        frames = opened
    if len(frames) > _MOST_FRAMES:
        first = {(frame.end, frame.text): frame for frame in reversed(frames)}
        frames = tuple(frame for frame in frames if not frame.text or first[frame.end, frame.text] is frame)
    return replace(occurrence, evidence=frames)


def zero_ns(occurrence: OccurrenceDetail) -> int:
    """[ns] What the times of a ladder count from: the request, or the first frame where only a log tells of it.

    A stamp of a log has whole seconds; to count milliseconds from it would claim what nobody knows.
    """
    if occurrence.uid or not occurrence.evidence:
        return occurrence.request_ts_ns
    return min(e.ts_ns for e in occurrence.evidence)


def _order(evidence: EvidenceFrame) -> tuple[bool, int, str, int]:
    """Order frames by the proxy's clock; those whose clock is not known stand at the end, in their own order."""
    offset = evidence.clock_offset_ns
    return offset is None, evidence.ts_ns - (offset or 0), evidence.capture, evidence.frame


def _ends(occurrence: OccurrenceDetail, width: int) -> tuple[str, str]:
    if not occurrence.uid:
        return "proxy", f"peers of {occurrence.resp}"[-width + 7 :]
    near, far = occurrence.sides
    left, right = f"{near} {occurrence.orig}", f"{occurrence.resp} {far}"
    return (left, right) if len(left) + len(right) + 2 <= width else (near, far)


def _line(occurrence: OccurrenceDetail, evidence: EvidenceFrame, segment: str, inner: int) -> LadderLine:
    if evidence.end == "upstream":
        elsewhere = f" ({evidence.capture.rpartition('/')[2]})"
    else:
        elsewhere = f" (in {evidence.capture})" if evidence.capture != occurrence.capture else ""
    return LadderLine(
        time=_relative_time(evidence.ts_ns - evidence.clock_offset_ns - zero_ns(occurrence))
        if evidence.clock_offset_ns is not None
        else "?",
        arrow=f"| {_arrow(segment, inner, to_right=evidence.dir == Direction.ORIG)} |",
        frame=str(evidence.frame),
        text=evidence.text + elsewhere,
        dir=evidence.dir,
        is_closing=bool({"FIN", "RST"} & set(evidence.flags)),
        is_request=evidence.frame == occurrence.request_frame and evidence.capture == occurrence.capture,
    )


def _relative_time(delta_ns: int) -> str:
    if delta_ns == 0:
        return "0"
    sign = "+" if delta_ns > 0 else "-"
    return f"{sign}{brief(abs(delta_ns))}"


def _segment_text(evidence: EvidenceFrame) -> str:
    # A segment without flags is no TCP segment: an ICMP error.
    parts = [",".join(evidence.flags) or evidence.label]
    if evidence.rel_seq >= 0:
        parts.append(f"{evidence.rel_seq}:{evidence.rel_seq + evidence.payload_len}({evidence.payload_len})")
    elif evidence.payload_len:
        parts.append(f"({evidence.payload_len})")
    if evidence.rel_ack >= 0:
        parts.append(f"ack {evidence.rel_ack}")
    return " ".join(p for p in parts if p)


def _arrow(segment: str, inner: int, *, to_right: bool) -> str:
    dashes = inner - len(segment) - 3
    before = dashes // 2
    after = dashes - before
    if to_right:
        return f"{'-' * before} {segment} {'-' * after}>"
    return f"<{'-' * before} {segment} {'-' * after}"
