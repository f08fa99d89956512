"""Both ends in the report: how the upstreams' captures were joined, what they prove, and their frames beside the proof.

Knows the plain data of the far end; how it looks is a renderer's affair.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import Delay, ProofKind
from pcapdiag.base.codes import Direction
from pcapdiag.base.sequence import relative_sequence
from pcapdiag.base.units import about, count_of, known_part, known_to
from pcapdiag.report.model import EvidenceFrame, FarClock, FarEndProof, FarEndSummary, taken_over
from pcapdiag.report.words import flag_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pcapdiag.analysis.far_end import EndClock, FarEnd, FarFrame, Proof
    from pcapdiag.engine.capture.batch import Capture
    from pcapdiag.report.model import OccurrenceDetail

UPSTREAM = "upstream"
"""`end` of the far end's frames."""

_WORDS = {
    ProofKind.CLOSED_FIRST: "closed by the upstream before the request arrived there",
    ProofKind.REQUEST_FIRST: "closed by the upstream with the request in hand",
    ProofKind.NO_ANSWER: "arrived and left without an answer",
    ProofKind.ANSWER_LOST: "answered, and the answer lost on the way",
    ProofKind.ANSWERED: "answered, and only missing from the proxy's capture",
    ProofKind.NOT_ARRIVED: "lost before they reached the upstream",
    ProofKind.FORGED_RST: "ended by a RST that never left the upstream",
    ProofKind.LOST_STATE: "answered by the upstream itself with a RST",
    ProofKind.REFUSED: "refused by the upstream's own machine",
    ProofKind.UNDECIDED: "not decided",
}

# The one blank is how much earlier something left.
_SENTENCES = {
    ProofKind.CLOSED_FIRST: "the upstream's closing had left {}before the request arrived there.",
    ProofKind.REQUEST_FIRST: "the request had arrived at the upstream when its closing left.",
    ProofKind.NO_ANSWER: "it arrived at the upstream, and no answer left there.",
    ProofKind.ANSWER_LOST: "the upstream answered, and the answer never reached the proxy.",
    ProofKind.ANSWERED: "the upstream answered and the proxy got the answer, which its capture lacks.",
    ProofKind.NOT_ARRIVED: "it never reached the upstream.",
    ProofKind.FORGED_RST: "the RST that the proxy got never left the upstream.",
    ProofKind.LOST_STATE: "it arrived at the upstream, which answered with a RST of its own, without having closed.",
    ProofKind.REFUSED: "it arrived at the upstream, whose own machine refused it.",
}


def build_far_end(far_end: FarEnd, captures: Sequence[Capture]) -> FarEndSummary:
    """Return what the report says of the far end as a whole.

    Parameters
    ----------
    far_end : FarEnd
        Both ends, joined.
    captures : sequence of Capture
        The proxy's captures.

    Returns
    -------
    FarEndSummary
    """
    clocks = tuple(_clock(clock, far_end, captures) for clock in far_end.clocks)
    low, high = _offset_bounds(clocks)
    kinds = Counter(proof.kind for proof in far_end.proofs.values())
    return taken_over(
        FarEndSummary,
        far_end,
        clock_offset_ns=None if low is None or high is None else (low + high) // 2,
        clock_offset_width_ns=None if low is None or high is None else high - low,
        pairs=sum(clock.pairs for clock in clocks),
        delay_to_upstream_ns=_spanning(clock.delay_to_upstream_ns for clock in clocks),
        delay_to_proxy_ns=_spanning(clock.delay_to_proxy_ns for clock in clocks),
        clocks=clocks,
        proofs={kind.value: kinds[kind] for kind in ProofKind if kinds[kind]},
    )


def _clock(clock: EndClock, far_end: FarEnd, captures: Sequence[Capture]) -> FarClock:
    return FarClock(
        capture=captures[clock.near_idx].files[0].path,
        upstream_capture=far_end.captures[clock.far_idx].files[0].path,
        upstream=clock.address,
        clock_offset_ns=clock.offset_ns,
        clock_offset_width_ns=clock.width_ns,
        drift_ppb=clock.drift_ppb,
        origin_ts_ns=clock.origin_ns,
        pairs=clock.pairs,
        is_consistent=clock.is_consistent,
        delay_to_upstream_ns=clock.to_upstream,
        delay_to_proxy_ns=clock.to_proxy,
    )


def _offset_bounds(clocks: Iterable[FarClock]) -> tuple[int | None, int | None]:
    """Return the bounds [ns] between which every clock's offset lies; None where one of them fits none."""
    low: list[int] = []
    high: list[int] = []
    for clock in clocks:
        if not clock.is_consistent:
            return None, None
        if clock.clock_offset_ns is not None and clock.clock_offset_width_ns is not None:
            low.append(clock.clock_offset_ns - clock.clock_offset_width_ns // 2)
            high.append(low[-1] + clock.clock_offset_width_ns)
    return min(low, default=None), max(high, default=None)


def _spanning(delays: Iterable[Delay | None]) -> Delay | None:
    """Return the least minimum, the middle of the medians and the largest of the 99 %; None where there is none."""
    known = [delay for delay in delays if delay is not None]
    if not known:
        return None
    medians = sorted(delay.p50 for delay in known)
    return Delay(min(d.min for d in known), medians[len(medians) // 2], max(d.p99 for d in known))


def build_proof(proof: Proof | None) -> FarEndProof | None:
    """Return a proof as the report has it."""
    return None if proof is None else taken_over(FarEndProof, proof)


def far_frames(
    proof: Proof | None, near: Sequence[EvidenceFrame], locate: Callable[[int, int], tuple[str, int]]
) -> tuple[EvidenceFrame, ...]:
    """Return the far end's frames of a proof.

    Parameters
    ----------
    proof : Proof or None
        Of one occurrence.
    near : sequence of EvidenceFrame
        The proxy's frames of it; the far ones count sequence numbers as these do.
    locate : callable
        From a far capture and a 0-based frame to the file and the frame's number in it.

    Returns
    -------
    tuple of EvidenceFrame
    """
    if proof is None:
        return ()
    bases = {Direction.ORIG: -1, Direction.RESP: -1}
    for frame in near:
        other = Direction(1 - frame.dir)
        if frame.rel_seq >= 0:
            bases[frame.dir] = (frame.seq - frame.rel_seq) & 0xFFFFFFFF
        if frame.rel_ack >= 0 and bases[other] < 0:
            bases[other] = (frame.ack - frame.rel_ack) & 0xFFFFFFFF
    return tuple(_evidence(found, bases, proof.clock_offset_ns, locate) for found in proof.frames)


def _evidence(
    found: FarFrame,
    bases: dict[Direction, int],
    clock_offset_ns: int | None,
    locate: Callable[[int, int], tuple[str, int]],
) -> EvidenceFrame:
    segment = found.segment
    direction = Direction(segment.dir)
    capture, frame = locate(segment.capture_idx, segment.frame)
    return taken_over(
        EvidenceFrame,
        segment,
        frame=frame,
        capture=capture,
        dir=direction,
        flags=flag_names(segment.flags),
        rel_seq=relative_sequence(segment.seq, bases[direction]),
        rel_ack=relative_sequence(segment.ack, bases[Direction(1 - direction)]),
        label=found.label,
        text=found.text,
        end=UPSTREAM,
        clock_offset_ns=clock_offset_ns,
    )


def proof_line(occurrence: OccurrenceDetail) -> str:
    """Return what both ends prove of one occurrence, as a sentence; empty if no capture of the far end was given."""
    return "" if occurrence.far_end is None else f"Both ends: {occurrence.far_end.text}."


def far_filter(occurrence: OccurrenceDetail) -> tuple[str, str]:
    """Return label and Wireshark filter of the far end's frames of an occurrence; empty if there are none."""
    far = [e for e in occurrence.evidence if e.end == UPSTREAM and e.frame > 0]
    if not far:
        return "", ""
    frames = ", ".join(map(str, sorted({e.frame for e in far})))
    return f"Wireshark filter for {far[0].capture}", f"frame.number in {{{frames}}}"


def both_ends_lines(far_end: FarEndSummary | None) -> tuple[str, ...]:
    """Return the section on both ends in sentences; empty where no capture of the far end was given."""
    if far_end is None:
        return ()
    apart = [
        (far_end.only_proxy, "only at the proxy"),
        (far_end.only_upstream, "only at an upstream"),
        (far_end.not_covered, "to upstreams or at times that no upstream's capture covers"),
        (far_end.ambiguous, "not joined, because they cannot be told from others"),
        (far_end.renumbered, "not joined, because something rewrites their sequence numbers"),
    ]
    joined = f"{count_of(far_end.joined, 'connection')} seen at both ends"
    if far_end.translated:
        joined += f" ({far_end.translated:,} with other addresses or ports: NAT)"
    lines = [", ".join([joined, *(f"{n:,} {words}" for n, words in apart if n)]) + "."]
    if far_end.proofs:
        proved = [f"{far_end.proofs[k.value]:,} {_WORDS[k]}" for k in ProofKind if k.value in far_end.proofs]
        lines.append(f"Failures by what both ends prove: {', '.join(proved)}.")
    lines += [_clock_line(clock, many=len(far_end.clocks) > 1) for clock in far_end.clocks[:_MAX_CLOCKS]]
    if len(far_end.clocks) > _MAX_CLOCKS:
        lines.append(f"And {len(far_end.clocks) - _MAX_CLOCKS:,} more clocks: --format json lists them all.")
    if far_end.joined:
        lines.append(
            f"Segments lost on the way: {far_end.lost_to_upstream:,} to the upstreams, {far_end.lost_to_proxy:,} to the"
            f" proxy. Missed by a capture, not by the network: {far_end.missed_by_proxy:,} at the proxy,"
            f" {far_end.missed_by_upstream:,} at the upstreams."
        )
    return tuple(lines)


_MAX_CLOCKS = 20


def _clock_line(clock: FarClock, *, many: bool) -> str:
    whose = f"The clock of {clock.upstream}" + (f" ({clock.upstream_capture})" if many else "")
    if not clock.is_consistent:
        return f"{whose} fits no offset: {count_of(clock.pairs, 'segment')} seen at both ends contradict each other."
    if clock.clock_offset_ns is None or clock.delay_to_upstream_ns is None or clock.delay_to_proxy_ns is None:
        return f"{whose} could not be measured: no segments were seen at both ends in both directions."
    width = clock.clock_offset_width_ns or 0
    side = "behind" if clock.clock_offset_ns < 0 else "ahead of"
    if abs(clock.clock_offset_ns) <= width // 2:
        text = f"{whose} agrees with the proxy's (known to {known_to(width)}"
    else:
        off = known_part(abs(clock.clock_offset_ns), width)
        text = f"{whose} is {off} {side} the proxy's (known to {known_to(width)}"
    text += f", by {count_of(clock.pairs, 'segment')} seen at both ends)"
    if clock.drift_ppb:
        text += f" and drifts by {clock.drift_ppb / 1000:+.1f} us per second"
    up, down = clock.delay_to_upstream_ns, clock.delay_to_proxy_ns
    return (
        f"{text}. One way takes {about(up.p50)} to the upstream and {about(down.p50)} back (medians), if the shortest"
        " way takes as long in both directions."
    )


def proof_lines(occurrences: Sequence[OccurrenceDetail]) -> tuple[str, ...]:
    """Return what both ends prove of the occurrences of one cause, in one sentence per kind of proof."""
    proofs = [o.far_end for o in occurrences if o.far_end is not None]
    lines = []
    for kind, words in _SENTENCES.items():
        mine = [p for p in proofs if p.kind is kind]
        leads = sorted(p.lead_ns for p in mine if p.lead_ns is not None and p.lead_ns >= 0)
        earlier = "" if not leads else about(leads[0])
        if len(leads) > 1 and about(leads[-1]) != earlier:
            earlier += f" to {about(leads[-1])}"
        if mine:
            told = words.format(f"{earlier} " if earlier else "")
            lines.append(f"Both ends, {len(mine):,} of {len(occurrences):,}: {told}")
    return tuple(lines)
