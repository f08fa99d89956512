"""What a report says of both ends, in words and on the ladder."""

import dataclasses

from pcapdiag.analysis.far_end import Delay, ProofKind
from pcapdiag.base.codes import Direction
from pcapdiag.report.far_end import both_ends_lines, far_filter, proof_line, proof_lines
from pcapdiag.report.ladder import build_ladder
from pcapdiag.report.model import EvidenceFrame, FarClock, FarEndProof, FarEndSummary, OccurrenceDetail

MS, S = 1_000_000, 1_000_000_000
T0 = 1_795_218_956_886_114_000
CLOCK = FarClock(
    capture="proxy.pcap",
    upstream_capture="up.pcap",
    upstream="10.1.1.1",
    clock_offset_ns=-137 * S,
    clock_offset_width_ns=4 * MS,
    drift_ppb=0,
    origin_ts_ns=T0,
    pairs=50,
    is_consistent=True,
    delay_to_upstream_ns=Delay(2 * MS, 3 * MS, 9 * MS),
    delay_to_proxy_ns=Delay(2 * MS, 4 * MS, 9 * MS),
)


def summary(**changes):
    base = FarEndSummary(
        joined=12,
        only_proxy=0,
        only_upstream=0,
        not_covered=0,
        ambiguous=0,
        renumbered=0,
        translated=0,
        lost_to_upstream=3,
        lost_to_proxy=1,
        missed_by_proxy=0,
        missed_by_upstream=2,
        clock_offset_ns=-137 * S,
        clock_offset_width_ns=4 * MS,
        pairs=50,
        delay_to_upstream_ns=CLOCK.delay_to_upstream_ns,
        delay_to_proxy_ns=CLOCK.delay_to_proxy_ns,
        clocks=(CLOCK,),
        proofs={"closed_first": 2, "undecided": 1},
    )
    return dataclasses.replace(base, **changes)


def frame(number, ms, *, end="upstream", offset_ns=-137 * S, flags=("FIN", "ACK"), text="the FIN leaves"):
    shift = offset_ns or 0
    return EvidenceFrame(
        frame=number,
        capture="/captures/up.pcap" if end == "upstream" else "proxy.pcap",
        ts_ns=T0 + ms * MS + shift,
        dir=Direction.RESP if "FIN" in flags else Direction.ORIG,
        flags=flags,
        seq=1,
        ack=1,
        rel_seq=1,
        rel_ack=1,
        payload_len=0,
        ttl=64,
        label="",
        text=text,
        end=end,
        clock_offset_ns=offset_ns,
    )


def occurrence(*evidence, proof=None):
    return OccurrenceDetail(
        uid="1:x/1",
        orig="10.0.0.1:1",
        resp="10.1.1.1:80",
        depth=1,
        capture="proxy.pcap",
        request_frame=5,
        request_ts_ns=T0,
        idle_before_ns=S,
        method="GET",
        target="/",
        host="",
        request_id="",
        closing_frame=-1,
        closing_kind="",
        closing_capture="",
        display_filter="",
        log_lines=(),
        evidence=evidence,
        far_end=proof,
    )


def test_no_capture_of_the_other_end_no_section():
    assert both_ends_lines(None) == ()
    assert proof_lines([occurrence()]) == ()
    assert proof_line(occurrence()) == ""
    assert far_filter(occurrence(frame(5, 0, end="proxy", offset_ns=0))) == ("", "")


def test_the_clock_is_told_with_its_width_pairs_and_assumption():
    lines = both_ends_lines(summary())
    assert lines[0] == "12 connections seen at both ends."
    assert lines[1] == (
        "Failures by what both ends prove: 2 closed by the upstream before the request arrived there, 1 not decided."
    )
    assert lines[2] == (
        "The clock of 10.1.1.1 is 137 s behind the proxy's (known to 4 ms, by 50 segments seen at both ends). One way"
        " takes 3 ms to the upstream and 4 ms back (medians), if the shortest way takes as long in both directions."
    )
    assert lines[3].startswith("Segments lost on the way: 3 to the upstreams, 1 to the proxy.")


def test_an_inconsistent_clock_and_an_unmeasured_one_are_said():
    broken = dataclasses.replace(CLOCK, clock_offset_ns=None, clock_offset_width_ns=None, is_consistent=False)
    assert "contradict each other" in both_ends_lines(summary(clocks=(broken,)))[2]
    unknown = dataclasses.replace(broken, is_consistent=True)
    assert "could not be measured" in both_ends_lines(summary(clocks=(unknown,)))[2]
    drifting = dataclasses.replace(CLOCK, drift_ppb=-25_000)
    assert "drifts by -25.0 us per second" in both_ends_lines(summary(clocks=(drifting,)))[2]


def test_what_is_not_joined_is_counted():
    (line, *_) = both_ends_lines(summary(translated=3, only_proxy=1, only_upstream=2, not_covered=4, ambiguous=5))
    assert line == (
        "12 connections seen at both ends (3 with other addresses or ports: NAT), 1 only at the proxy, 2 only at an"
        " upstream, 4 to upstreams or at times that no upstream's capture covers, 5 not joined, because they cannot be"
        " told from others."
    )


def test_a_proof_is_summed_over_occurrences():
    def proved(lead_ns, kind=ProofKind.CLOSED_FIRST):
        return occurrence(proof=FarEndProof(kind, "because", lead_ns, is_certain=True))

    assert proof_lines([proved(5 * MS), proved(80 * MS), occurrence()]) == (
        "Both ends, 2 of 3: the upstream's closing had left 5 ms to 80 ms before the request arrived there.",
    )
    assert proof_lines([proved(None, ProofKind.NOT_ARRIVED)]) == ("Both ends, 1 of 1: it never reached the upstream.",)
    assert proof_lines([proved(None, ProofKind.UNDECIDED)]) == ()
    assert proof_line(proved(5 * MS)) == "Both ends: because."


def test_the_ladder_orders_both_ends_by_the_proxys_clock():
    request = frame(5, 0, end="proxy", offset_ns=0, flags=("PSH",), text="request")
    lines = build_ladder(occurrence(frame(2, 40), request, frame(1, -30))).lines
    assert [(line.frame, line.time) for line in lines] == [("1", "-30.00 ms"), ("5", "0"), ("2", "+40.00 ms")]
    assert lines[0].text == "the FIN leaves (up.pcap)"


def test_frames_of_an_unknown_clock_stand_at_the_end_without_a_time():
    request = frame(5, 0, end="proxy", offset_ns=0, flags=("PSH",), text="request")
    lines = build_ladder(occurrence(frame(2, -9_000, offset_ns=None), request)).lines
    assert [(line.frame, line.time) for line in lines] == [("5", "0"), ("2", "?")]


def test_the_far_frames_have_a_filter_of_their_own():
    label, text = far_filter(occurrence(frame(9, 1), frame(3, 0), frame(5, 0, end="proxy", offset_ns=0)))
    assert (label, text) == ("Wireshark filter for /captures/up.pcap", "frame.number in {3, 9}")
