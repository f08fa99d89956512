"""What both ends make of a claim."""

from types import SimpleNamespace

import pytest

from pcapdiag.analysis.far_end import Proof, ProofKind
from pcapdiag.base.findings import Confidence
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._ends import is_fin_first, proof_of, proved, weigh_ends
from tests.rules.builders import Scene, fin

RACE = Proofs(proved_by=(ProofKind.CLOSED_FIRST,), refuted_by=(ProofKind.REQUEST_FIRST,))
LOW, LIKELY, SURE = Confidence.POSSIBLE, Confidence.LIKELY, Confidence.CONFIRMED


@pytest.mark.parametrize(
    ("kind", "is_certain", "before", "after"),
    [
        (ProofKind.CLOSED_FIRST, True, LOW, SURE),
        (ProofKind.CLOSED_FIRST, False, LOW, LOW),
        (ProofKind.REQUEST_FIRST, True, SURE, LOW),
        (ProofKind.REQUEST_FIRST, False, SURE, LIKELY),
        (ProofKind.REQUEST_FIRST, False, LOW, LOW),
        (ProofKind.ANSWERED, True, SURE, LOW),
        (ProofKind.ANSWERED, False, SURE, LIKELY),
        (ProofKind.NOT_ARRIVED, True, LIKELY, LIKELY),
    ],
)
def test_a_proof_confirms_refutes_or_leaves_a_claim(kind, is_certain, before, after):
    assert weigh_ends(RACE, Claim(before), Proof(kind, "", is_certain=is_certain)).confidence is after


def test_without_a_proof_a_claim_stays_as_it_is():
    claim = Claim(LIKELY)
    assert weigh_ends(RACE, claim, None) is claim


def with_proof(scene, loss, proof):
    return scene.analysis(loss, far_end=SimpleNamespace(proofs={(loss.connection.conn, loss.depth): proof}))


def test_a_capture_of_one_end_proves_nothing():
    scene = Scene()
    loss = scene.lost(fin(20))
    analysis = scene.analysis(loss)
    assert (proof_of(analysis, loss), proved(analysis, loss), is_fin_first(analysis, loss)) == (None, None, False)


@pytest.mark.parametrize(
    ("proof", "kind", "fin_first"),
    [
        (Proof(ProofKind.CLOSED_FIRST, "", is_certain=True, is_fin=True), ProofKind.CLOSED_FIRST, True),
        (Proof(ProofKind.CLOSED_FIRST, "", is_certain=True), ProofKind.CLOSED_FIRST, False),
        (Proof(ProofKind.CLOSED_FIRST, "", is_fin=True), None, False),
        (Proof(ProofKind.REQUEST_FIRST, "", is_certain=True, is_fin=True), ProofKind.REQUEST_FIRST, False),
    ],
)
def test_only_what_is_certain_counts_as_proved(proof, kind, fin_first):
    scene = Scene()
    loss = scene.lost(fin(20))
    analysis = with_proof(scene, loss, proof)
    assert proof_of(analysis, loss) is proof
    assert proved(analysis, loss) is kind
    assert is_fin_first(analysis, loss) is fin_first


def test_the_proof_of_another_request_of_the_connection_is_none_of_this():
    scene = Scene()
    loss, other = scene.lost(fin(20), depth=1), scene.lost(fin(20), depth=2)
    analysis = with_proof(scene, other, Proof(ProofKind.CLOSED_FIRST, "", is_certain=True))
    assert proof_of(analysis, loss) is None
