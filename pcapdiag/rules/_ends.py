"""What captures of both ends do to a cause: they prove it, leave it as it is, or refute it.

The proof itself is made in `analysis.ends`; here it meets the rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pcapdiag.analysis.far_end import ProofKind
from pcapdiag.base.findings import Confidence

if TYPE_CHECKING:
    from pcapdiag.analysis.far_end import Proof
    from pcapdiag.analysis.model import Analysis, Loss
    from pcapdiag.rules._claim import Claim, Proofs


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


def weigh_ends(proofs: Proofs, claim: Claim, proof: Proof | None) -> Claim:
    """Return a claim as certain as both ends leave it.

    Parameters
    ----------
    proofs : Proofs
        What the cause's rule declares.
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
    if proof.is_certain and proof.kind in proofs.proved_by:
        return replace(claim, confidence=Confidence.CONFIRMED)
    if proof.kind is ProofKind.ANSWERED or proof.kind in proofs.refuted_by:
        at_most = Confidence.POSSIBLE if proof.is_certain else Confidence.LIKELY
        return replace(claim, confidence=min(claim.confidence, at_most))
    return claim
