"""The frames of a proof, with numbers as Wireshark has them."""

from dataclasses import replace

from pcapdiag.base.codes import Direction, Key
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import (
    Scene,
    fin,
    only,
    rst,
)


def test_evidence_counts_as_wireshark_does():
    scene = Scene()
    finding = only(diagnose(scene.analysis(scene.lost(fin(127), rst(160)))), "PD101")
    (occurrence,) = finding.occurrences
    before, sent, closed, reset = occurrence.evidence
    assert (before.rel_seq, before.rel_ack, before.payload_len) == (1, 124, 214)
    assert (sent.rel_seq, sent.rel_ack, sent.dir) == (124, 215, Direction.ORIG)
    assert (closed.rel_seq, closed.rel_ack) == (215, 124)
    assert (reset.rel_seq, reset.ack, reset.rel_ack) == (215, -1, -1)
    assert "acknowledges none of the request" in closed.text
    assert occurrence.closing_kind == "FIN"
    assert occurrence.closing_frame == closed.frame


def test_evidence_of_a_connection_without_syn_counts_from_the_first_number_known():
    scene = Scene()
    loss = scene.lost(fin(127), orig_isn=-1, resp_isn=-1)
    (occurrence,) = only(diagnose(scene.analysis(loss)), "PD101").occurrences
    assert [(e.rel_seq, e.rel_ack) for e in occurrence.evidence] == [(1, 1), (1, 215), (215, 1)]


def test_one_frame_that_is_two_things_is_shown_once():
    scene = Scene()
    loss = scene.lost(fin(127))
    keys = dict(loss.keys)
    keys[Key.REQUEST_END] = replace(keys[Key.REQUEST], key=Key.REQUEST_END)
    (occurrence,) = only(diagnose(scene.analysis(replace(loss, keys=keys))), "PD101").occurrences
    assert [e.label for e in occurrence.evidence].count("request, end of request") == 1


def test_a_flood_of_failures_needs_no_flood_of_proofs():
    scene = Scene()
    finding = only(diagnose(scene.analysis(*[scene.lost(fin(127)) for _ in range(600)])), "PD101")
    assert finding.count == len(finding.occurrences) == 600
    assert finding.occurrences[499].evidence
    assert finding.occurrences[500].evidence == ()
