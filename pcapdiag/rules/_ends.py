"""What captures of both ends do to a cause: they prove it, leave it as it is, or refute it.

The proof itself is made in `ends`; here it meets the rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.far_end import ProofKind
from pcapdiag.findings import Confidence

if TYPE_CHECKING:
    from pcapdiag.analysis import Analysis, Loss
    from pcapdiag.far_end import Proof
    from pcapdiag.rules._rule import Claim

_PROVED_BY = {
    "PD101": {ProofKind.CLOSED_FIRST},
    "PD102": {ProofKind.CLOSED_FIRST},
    "PD104": {ProofKind.NOT_ARRIVED},
    "PD105": {ProofKind.FORGED_RST},
    "PD106": {ProofKind.LOST_STATE},
    "PD201": {ProofKind.REQUEST_FIRST, ProofKind.CLOSED_FIRST},
    "PD202": {ProofKind.REQUEST_FIRST},
    "PD203": {ProofKind.REQUEST_FIRST},
    "PD204": {ProofKind.NO_ANSWER},
    "PD301": {ProofKind.REFUSED},
    "PD302": {ProofKind.NOT_ARRIVED, ProofKind.NO_ANSWER},
}
_REFUTED_BY = {
    "PD101": {ProofKind.REQUEST_FIRST, ProofKind.NO_ANSWER, ProofKind.ANSWER_LOST},
    "PD102": {ProofKind.REQUEST_FIRST, ProofKind.NO_ANSWER, ProofKind.ANSWER_LOST},
    "PD103": {ProofKind.NOT_ARRIVED, ProofKind.FORGED_RST, ProofKind.ANSWER_LOST},
    "PD104": {ProofKind.NO_ANSWER},
    "PD105": {ProofKind.LOST_STATE, ProofKind.REQUEST_FIRST},
    "PD106": {ProofKind.FORGED_RST},
    "PD201": {ProofKind.ANSWER_LOST},
    "PD202": {ProofKind.FORGED_RST, ProofKind.ANSWER_LOST},
    "PD203": {ProofKind.FORGED_RST},
    "PD204": {ProofKind.NOT_ARRIVED, ProofKind.ANSWER_LOST},
    "PD301": {ProofKind.FORGED_RST},
    "PD302": {ProofKind.ANSWER_LOST},
}
"""Where the cause may still be the next best name for what happened: the sentence of the proof says otherwise."""


def proof_of(analysis: Analysis, loss: Loss) -> Proof | None:
    """Return what both ends prove of a lost request; None without a capture of the other end."""
    far_end = analysis.far_end
    return None if far_end is None else far_end.proofs.get((loss.connection.conn, loss.depth))


def proved(analysis: Analysis, loss: Loss) -> ProofKind | None:
    """Return the kind of a proof that nothing can refute any more; None if there is none."""
    proof = proof_of(analysis, loss)
    return proof.kind if proof is not None and proof.is_certain else None


def is_fin_first(analysis: Analysis, loss: Loss) -> bool:
    """Tell whether both ends prove that the upstream's FIN left before the request arrived there."""
    proof = proof_of(analysis, loss)
    return proof is not None and proof.is_certain and proof.kind is ProofKind.CLOSED_FIRST and proof.is_fin


def weigh_ends(code: str, claim: Claim, proof: Proof | None) -> Claim:
    """Return a claim as certain as both ends leave it.

    Parameters
    ----------
    code : str
        Of the cause.
    claim : Claim
        As the proxy's capture has it.
    proof : Proof or None
        What both ends prove of the request.

    Returns
    -------
    Claim
    """
    if proof is None:
        return claim
    if proof.is_certain and proof.kind in _PROVED_BY.get(code, ()):
        return replace(claim, confidence=Confidence.CONFIRMED)
    if proof.kind is ProofKind.ANSWERED or proof.kind in _REFUTED_BY.get(code, ()):
        at_most = Confidence.POSSIBLE if proof.is_certain else Confidence.LIKELY
        return replace(claim, confidence=min(claim.confidence, at_most))
    return claim
