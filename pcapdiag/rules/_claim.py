"""What a rule says of one lost request, and what becomes of that where a proof comes from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcapdiag.analysis.far_end import ProofKind
    from pcapdiag.analysis.model import KeySegment
    from pcapdiag.base.codes import Key
    from pcapdiag.base.findings import Confidence, Evidence


@dataclass(frozen=True, slots=True)
class Claim:
    """One rule's explanation of one unanswered request.

    Attributes
    ----------
    confidence : Confidence
        How certain, before the capture's own defects are taken into account.
    group : str
        Claims with equal group and upstream become one finding.
    closing : KeySegment or None
        The segment that ended the connection, if one did.
    texts : dict of Key to str
        What single segments prove, in words; the others get the usual words.
    frames : tuple of Evidence
        Frames of the proof beyond the key segments.
    subject : str
        What the finding is about where that is not the upstream: one cause of failures at many.
    """

    confidence: Confidence
    group: str = ""
    closing: KeySegment | None = None
    texts: dict[Key, str] = field(default_factory=dict)
    frames: tuple[Evidence, ...] = ()
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Proofs:
    """What captures of both ends and the application's own log do to a cause.

    Attributes
    ----------
    proved_by, refuted_by : tuple of ProofKind
        What of both ends proves the cause, and what speaks against it. A refuted cause may still be the next best name
        for what happened: the sentence of the proof says otherwise.
    without_line : Confidence or None
        By this cause no application ever sees the request: the most that a line missing in its log makes of it. None
        for other causes.
    has_arrived : bool
        By this cause the application had the request; a missing line refutes nothing, for it is written at the end.
    """

    proved_by: tuple[ProofKind, ...] = ()
    refuted_by: tuple[ProofKind, ...] = ()
    without_line: Confidence | None = None
    has_arrived: bool = False
