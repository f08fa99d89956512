"""One lost request seen from both ends: every order of events has its proof, and what may have been missed none.

Times are ms after the request left the proxy, by the proxy's clock; the upstream's is an hour ahead, the way 80 ms.
"""

import pytest

from pcapdiag.analysis.ends.prove import View, prove_attempt, prove_request
from pcapdiag.analysis.far_end import FarSegment, ProofKind
from pcapdiag.base.codes import Direction, TcpFlag
from tests.rules.builders import (
    BEFORE,
    END,
    MS,
    START,
    S,
    Scene,
    acknowledged,
    fin,
    proxy_fin,
    refused,
    resent,
    rst,
    syn,
    syn_again,
    unsolicited,
)

AHEAD_NS = 3600 * S
ORIG, RESP = Direction.ORIG, Direction.RESP
ACK, PUSH, FIN, RST = TcpFlag.ACK, TcpFlag.ACK | TcpFlag.PSH, TcpFlag.ACK | TcpFlag.FIN, TcpFlag.RST
REQUEST = (ORIG, 80, START, BEFORE, END - START, PUSH)
UP_ACK = (RESP, 80.1, BEFORE, END, 0, ACK)


@pytest.fixture
def scene():
    return Scene()


def view_of(loss, scene, *segments, is_complete=True, clock=True, ends_ms=3_600_000, proxy_ack=-1):
    """Return the far end of a lost request: (direction, ms, relative seq, relative ack, length, flags)."""
    bases = scene.orig_isn, scene.resp_isn
    far = tuple(
        FarSegment(
            capture_idx=0,
            frame=number,
            ts_ns=loss.request_ts_ns + AHEAD_NS + round(at * MS),
            dir=int(direction),
            flags=int(flags),
            seq=(bases[direction] + seq) & 0xFFFFFFFF,
            ack=(bases[1 - direction] + ack) & 0xFFFFFFFF if ack >= 0 else -1,
            payload_len=length,
            ttl=63,
        )
        for number, (direction, at, seq, ack, length, flags) in enumerate(sorted(segments, key=lambda s: s[1]))
    )
    return View(
        segments=far,
        clock_offset_ns=AHEAD_NS if clock else None,
        first_ns=loss.request_ts_ns + AHEAD_NS - 60 * S,
        last_ns=loss.request_ts_ns + AHEAD_NS + round(ends_ms * MS),
        margin_ns=160 * MS,
        is_complete=is_complete,
        proxy_max_ack=(scene.resp_isn + proxy_ack) & 0xFFFFFFFF if proxy_ack >= 0 else -1,
    )


def proved(loss, scene, *segments, **changes):
    return prove_request(loss, view_of(loss, scene, *segments, **changes))


def said(proof):
    return proof.kind, proof.is_certain


def test_a_fin_that_left_before_the_request_arrived_is_the_race(scene):
    proof = proved(scene.lost(fin(50), rst(160)), scene, (RESP, -30, BEFORE, START, 0, FIN), REQUEST)
    assert said(proof) == (ProofKind.CLOSED_FIRST, True)
    assert proof.lead_ns == 110 * MS
    assert proof.is_fin
    assert [f.segment.frame for f in proof.frames] == [0, 1]
    assert proof.text == "the upstream's FIN left 110 ms before the request arrived there"


def test_a_fin_that_never_reached_the_proxy_is_said_to_be_lost(scene):
    proof = proved(
        scene.lost(rst(160)), scene, (RESP, -30, BEFORE, START, 0, FIN), REQUEST, (RESP, 80.1, BEFORE, -1, 0, RST)
    )
    assert said(proof) == (ProofKind.CLOSED_FIRST, True)
    assert proof.text.endswith("it never reached the proxy")
    assert [f.label for f in proof.frames] == ["FIN leaves", "request arrives", "RST leaves"]


def test_a_close_notify_counts_as_the_closing(scene):
    loss = scene.lost(unsolicited(50), fin(50.1, seq=BEFORE + 24), proxy_fin(51))
    segments = (RESP, -30, BEFORE, START, 24, PUSH), (RESP, -29.9, BEFORE + 24, START, 0, FIN), REQUEST
    proof = proved(loss, scene, *segments)
    assert said(proof) == (ProofKind.CLOSED_FIRST, True)
    assert "close_notify left 110 ms" in proof.text


def test_a_fin_just_after_the_request_that_does_not_acknowledge_it_came_first_in_effect(scene):
    proof = proved(scene.lost(fin(160.5), rst(161)), scene, REQUEST, (RESP, 80.4, BEFORE, START, 0, FIN))
    assert said(proof) == (ProofKind.CLOSED_FIRST, True)
    assert proof.lead_ns == -400_000
    assert "too soon to have taken it" in proof.text


def test_a_fin_long_after_the_request_that_does_not_acknowledge_it_was_seen_elsewhere(scene):
    proof = proved(scene.lost(fin(200), rst(210)), scene, REQUEST, (RESP, 140, BEFORE, START, 0, FIN))
    assert said(proof) == (ProofKind.UNDECIDED, False)


@pytest.mark.parametrize(("kind", "flags"), [("FIN", FIN), ("RST", RST | ACK)])
def test_a_closing_that_acknowledges_the_request_came_after_it(kind, flags, scene):
    closing = fin(2080, ack=END) if kind == "FIN" else rst(2080, ack=END)
    proof = proved(scene.lost(acknowledged(160), closing), scene, REQUEST, UP_ACK, (RESP, 2000, BEFORE, END, 0, flags))
    assert said(proof) == (ProofKind.REQUEST_FIRST, True)
    assert proof.lead_ns == -1920 * MS
    assert proof.text == f"the request reached the upstream, and its {kind} left 1.92 s later"


def test_a_rst_of_the_upstream_without_fin_is_lost_state(scene):
    segments = REQUEST, (RESP, 80.02, BEFORE, -1, 0, RST)
    assert said(proved(scene.lost(rst(160)), scene, *segments)) == (ProofKind.LOST_STATE, True)
    uncertain = proved(scene.lost(rst(160)), scene, *segments, is_complete=False)
    assert said(uncertain) == (ProofKind.LOST_STATE, False)


def test_a_rst_that_left_before_the_request_arrived_closed_first_without_a_fin(scene):
    proof = proved(scene.lost(rst(50)), scene, (RESP, -30, BEFORE, START, 0, RST | ACK), REQUEST)
    assert said(proof) == (ProofKind.CLOSED_FIRST, True)
    assert not proof.is_fin


def test_a_rst_that_the_upstream_never_sent_is_forged(scene):
    proof = proved(scene.lost(rst(160)), scene)
    assert said(proof) == (ProofKind.FORGED_RST, True)
    assert proof.frames == ()


def test_a_rst_missing_beside_a_request_that_arrived_may_have_been_missed(scene):
    assert said(proved(scene.lost(rst(160)), scene, REQUEST)) == (ProofKind.FORGED_RST, False)


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_request_that_never_arrived_was_lost_in_between(is_complete, scene):
    loss = scene.lost(resent(200))
    assert said(proved(loss, scene, is_complete=is_complete)) == (ProofKind.NOT_ARRIVED, is_complete)


def test_nothing_is_said_of_times_when_the_upstreams_capture_saw_nothing_at_all(scene):
    assert said(proved(scene.lost(resent(200)), scene, ends_ms=100)) == (ProofKind.UNDECIDED, False)
    assert said(proved(scene.lost(resent(200)), scene, clock=False)) == (ProofKind.UNDECIDED, False)


def test_a_request_that_the_upstream_acknowledged_and_its_capture_lacks_is_undecided(scene):
    loss = scene.lost(acknowledged(160), fin(300, ack=END))
    proof = proved(loss, scene, (RESP, 220, BEFORE, END, 0, FIN))
    assert said(proof) == (ProofKind.UNDECIDED, False)
    assert "its capture lacks it" in proof.text


def test_a_fin_that_only_the_proxy_has_is_undecided(scene):
    proof = proved(scene.lost(fin(50), rst(160)), scene, REQUEST, (RESP, 80.1, BEFORE, -1, 0, RST))
    assert said(proof) == (ProofKind.UNDECIDED, False)


def test_silence_after_an_acknowledgement_is_no_answer(scene):
    loss = scene.lost(acknowledged(160), proxy_fin(60_000))
    segments = REQUEST, UP_ACK, (ORIG, 60_080, END, BEFORE, 0, FIN), (RESP, 60_080.1, BEFORE, END + 1, 0, FIN)
    proof = proved(loss, scene, *segments, ends_ms=120_000)
    assert said(proof) == (ProofKind.NO_ANSWER, True)
    assert proof.text.endswith("acknowledged it and sent nothing more until the proxy closed")


def test_a_request_that_arrived_and_was_not_even_acknowledged_met_a_silent_machine(scene):
    proof = proved(scene.lost(resent(200)), scene, REQUEST, (ORIG, 280, START, BEFORE, END - START, PUSH))
    assert said(proof) == (ProofKind.NO_ANSWER, True)
    assert "not even" in proof.text


def test_a_request_that_arrived_in_part_did_not_arrive(scene):
    first_half = (ORIG, 80, START, BEFORE, 60, PUSH)
    proof = proved(scene.lost(resent(200)), scene, first_half, (RESP, 80.1, BEFORE, START + 60, 0, ACK))
    assert said(proof) == (ProofKind.NOT_ARRIVED, True)
    assert "only a part" in proof.text


def test_an_acknowledgement_that_never_came_back_is_a_lost_answer(scene):
    proof = proved(scene.lost(resent(200)), scene, REQUEST, UP_ACK)
    assert said(proof) == (ProofKind.ANSWER_LOST, True)
    assert "acknowledgement never reached the proxy" in proof.text


RESPONSE = (RESP, 300, BEFORE, END, 500, PUSH)


@pytest.mark.parametrize("closing", [(), ((RESP, 301, BEFORE + 500, END, 0, FIN),)])
def test_a_response_that_never_reached_the_proxy_is_a_lost_answer(closing, scene):
    proof = proved(scene.lost(acknowledged(160)), scene, REQUEST, UP_ACK, RESPONSE, *closing)
    assert said(proof) == (ProofKind.ANSWER_LOST, True)
    assert "500 response bytes" in proof.text
    times = [f.segment.ts_ns for f in proof.frames]
    assert times == sorted(times)


def test_an_alert_instead_of_a_response_is_no_answer(scene):
    alert = unsolicited(160, ack=END, length=31)
    closings = proxy_fin(161, ack=BEFORE + 31), fin(320, ack=END + 1, seq=BEFORE + 31)
    loss = scene.lost(acknowledged(160), alert, *closings)
    far = (RESP, 80.2, BEFORE, END, 31, PUSH), (ORIG, 240, END, BEFORE + 31, 0, FIN)
    proof = proved(loss, scene, REQUEST, *far, (RESP, 240.1, BEFORE + 31, END + 1, 0, FIN), proxy_ack=BEFORE + 31)
    assert said(proof) == (ProofKind.REQUEST_FIRST, True)
    assert "its close_notify left" in proof.text


def test_a_response_that_the_proxy_acknowledged_is_missing_from_its_capture_only(scene):
    loss = scene.lost(acknowledged(160))
    proof = proved(loss, scene, REQUEST, UP_ACK, RESPONSE, proxy_ack=BEFORE + 500)
    assert said(proof) == (ProofKind.ANSWERED, True)


def test_bytes_that_neither_capture_holds_may_have_been_the_answer(scene):
    loss = scene.lost(acknowledged(160), fin(2080, ack=END, seq=BEFORE + 500))
    proof = proved(loss, scene, REQUEST, UP_ACK, (RESP, 2000, BEFORE + 500, END, 0, FIN))
    assert said(proof) == (ProofKind.UNDECIDED, False)


def test_a_response_after_the_proxy_had_closed_is_no_answer(scene):
    loss = scene.lost(acknowledged(160), proxy_fin(200))
    proof = proved(loss, scene, REQUEST, UP_ACK, (ORIG, 280, END, BEFORE, 0, FIN), RESPONSE)
    assert said(proof) == (ProofKind.NO_ANSWER, True)


def attempt(scene, *segments, far=(), **changes):
    loss = scene.attempt(*segments)
    return prove_attempt(loss, view_of(loss, scene, *far, **changes))


SYN = (ORIG, 80, 0, -1, 0, TcpFlag.SYN)


def test_a_refusal_of_the_upstreams_own_machine(scene):
    proof = attempt(scene, syn(), refused(160), far=[SYN, (RESP, 80.02, 0, 1, 0, RST | ACK)])
    assert said(proof) == (ProofKind.REFUSED, True)
    assert "20 us later" in proof.text


def test_a_refusal_of_something_in_between(scene):
    assert said(attempt(scene, syn(), refused(20))) == (ProofKind.FORGED_RST, True)
    assert said(attempt(scene, syn(), refused(20), far=[SYN])) == (ProofKind.FORGED_RST, False)


def test_a_syn_that_vanished_and_one_that_met_silence(scene):
    assert said(attempt(scene, syn(), syn_again(1000))) == (ProofKind.NOT_ARRIVED, True)
    assert said(attempt(scene, syn(), syn_again(1000), far=[SYN])) == (ProofKind.NO_ANSWER, True)
    assert said(attempt(scene, syn(), syn_again(1000), clock=False)) == (ProofKind.UNDECIDED, False)


def test_a_syn_ack_that_never_came_back(scene):
    proof = attempt(scene, syn(), syn_again(1000), far=[SYN, (RESP, 80.1, 0, 1, 0, TcpFlag.SYN | ACK)])
    assert said(proof) == (ProofKind.ANSWER_LOST, True)
