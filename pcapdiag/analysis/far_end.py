"""What a second capture from the upstreams' end says: plain data, hung on an `Analysis` as its log is.

Times of a far segment are of the upstream's own clock; `Clock` leads from there to the proxy's. How the two ends are
joined is the affair of `ends`, what a proof means for a cause that of the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcapdiag.base.findings import Note
    from pcapdiag.engine.capture.batch import Capture


class ProofKind(Enum):
    """What both ends together prove of one lost request."""

    CLOSED_FIRST = "closed_first"
    """The upstream's closing left before the request arrived there."""
    REQUEST_FIRST = "request_first"
    """The request arrived, and then the upstream closed."""
    NO_ANSWER = "no_answer"
    """The request arrived, and nothing of a response left the upstream before the proxy gave up."""
    ANSWER_LOST = "answer_lost"
    """The upstream answered, and the answer never reached the proxy."""
    ANSWERED = "answered"
    """The upstream answered and the proxy got the answer: only the proxy's capture lacks it."""
    NOT_ARRIVED = "not_arrived"
    """The request never reached the upstream: it was lost in between."""
    FORGED_RST = "forged_rst"
    """The proxy got a RST that never left the upstream."""
    LOST_STATE = "lost_state"
    """The upstream itself answered the request with a RST, without having closed before."""
    REFUSED = "refused"
    """The upstream's own machine refused the connection."""
    UNDECIDED = "undecided"
    """The two ends together say no more than the proxy's alone; the sentence says why."""


@dataclass(frozen=True, slots=True)
class FarSegment:
    """One segment as the far end captured it; `frame` is 0-based within `capture_idx` of the far captures."""

    capture_idx: int
    frame: int
    ts_ns: int
    dir: int
    flags: int
    seq: int
    ack: int
    payload_len: int
    ttl: int


@dataclass(frozen=True, slots=True)
class FarFrame:
    """One far segment of a proof: `label` names it, `text` says what it proves."""

    segment: FarSegment
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Delay:
    """[ns] One-way delay, under the assumption that the shortest way takes as long in both directions."""

    min: int
    p50: int
    p99: int


@dataclass(frozen=True, slots=True)
class EndClock:
    """Clock of one upstream's capture against the proxy's.

    Attributes
    ----------
    near_idx, far_idx : int
        Which capture of the proxy, which of the upstreams.
    address : str
        The upstream, as its own capture names it.
    offset_ns : int or None
        [ns] The upstream's clock minus the proxy's, the middle of what is possible; None where nothing is.
    width_ns : int or None
        [ns] Length of the interval of possible offsets, `offset_ns` in its middle.
    drift_ppb : int
        The upstream's clock gains so many ns per second on the proxy's; 0 where none has to be assumed.
    origin_ns : int
        [ns] Time of the proxy's clock at which `offset_ns` holds; matters only with a drift.
    pairs : int
        Segments seen at both ends.
    is_consistent : bool
        False where no offset and no drift fits all pairs.
    """

    near_idx: int
    far_idx: int
    address: str
    offset_ns: int | None
    width_ns: int | None
    drift_ppb: int
    origin_ns: int
    pairs: int
    is_consistent: bool
    to_upstream: Delay | None
    to_proxy: Delay | None

    def offset_at(self, near_ts_ns: int) -> int | None:
        """Return the offset [ns] at a time of the proxy's clock; None if it is not known."""
        if self.offset_ns is None:
            return None
        return self.offset_ns + (near_ts_ns - self.origin_ns) * self.drift_ppb // 1_000_000_000


@dataclass(frozen=True, slots=True)
class Proof:
    """What both ends prove of one lost request.

    Attributes
    ----------
    text : str
        The proof in one sentence.
    lead_ns : int or None
        [ns] By the upstream's clock: how long before the request's arrival its closing left (negative: after); None
        where one of the two is missing.
    is_certain : bool
        Whether nothing that the captures lack could refute it.
    is_fin : bool
        The closing that left first is a FIN, or the close_notify before it.
    frames : tuple of FarFrame
        The far end's frames, in its own order.
    clock_offset_ns : int or None
        [ns] The far clock minus the proxy's at this time; None if it is not known.
    """

    kind: ProofKind
    text: str
    lead_ns: int | None = None
    is_certain: bool = False
    is_fin: bool = False
    frames: tuple[FarFrame, ...] = ()
    clock_offset_ns: int | None = None


@dataclass(frozen=True, slots=True)
class FarEnd:
    """Everything the upstreams' captures add.

    Attributes
    ----------
    captures : tuple of Capture
        The far captures, read.
    joined, only_proxy, only_upstream : int
        Connections seen at both ends; at the proxy's alone though an upstream's capture covers them; at an upstream's
        alone.
    not_covered : int
        Connections of the proxy to upstreams, or at times, that no upstream's capture covers.
    ambiguous : int
        Connections of the proxy that fit more than one of the upstreams.
    renumbered : int
        Connections with equal addresses and ports but other sequence numbers at both ends: something rewrites them.
    translated : int
        Of those joined: with other addresses or ports at the two ends (NAT).
    lost_to_upstream, lost_to_proxy : int
        Transmissions that left one end and never reached the other.
    missed_by_proxy, missed_by_upstream : int
        Segments that one end's capture lacks although they passed it.
    proofs : dict of (int, int) to Proof
        By connection and depth of each loss.
    """

    captures: tuple[Capture, ...]
    joined: int
    only_proxy: int
    only_upstream: int
    not_covered: int
    ambiguous: int
    renumbered: int
    translated: int
    lost_to_upstream: int
    lost_to_proxy: int
    missed_by_proxy: int
    missed_by_upstream: int
    clocks: tuple[EndClock, ...] = ()
    proofs: dict[tuple[int, int], Proof] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
