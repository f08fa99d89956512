"""The lab's incidents from both ends: what both prove is what the servers did, whatever the other clock shows."""

import json
import random
from collections import Counter
from functools import cache

import pytest

from pcapdiag.analysis.far_end import ProofKind
from tests.analysis.ends.rewrite import read, renumber, rewrite, split, translate, write
from tests.lab_truth import LAB, scenarios

pytestmark = [pytest.mark.lab, pytest.mark.compiled_only]

S = 1_000_000_000
PROOFS = {
    "race_fin": ProofKind.CLOSED_FIRST,
    "acked_then_fin": ProofKind.REQUEST_FIRST,
    "acked_then_rst": ProofKind.REQUEST_FIRST,
    "proxy_gave_up_acked": ProofKind.NO_ANSWER,
    "open_at_capture_end": ProofKind.NOT_ARRIVED,
    "syn_rst": ProofKind.REFUSED,
    "syn_unanswered": ProofKind.NO_ANSWER,
}
RST_PROOFS = {
    "c1_state_lost_rst": ProofKind.LOST_STATE,
    "c3_middlebox_rst": ProofKind.FORGED_RST,
    "k_loss_reorder": ProofKind.CLOSED_FIRST,
}
RST_CODES = {"c1_state_lost_rst": "PD106", "c3_middlebox_rst": "PD105", "k_loss_reorder": "PD101"}
ADDRESSES = {
    "10.1.1.100": "203.0.113.9",
    "10.1.1.1": "172.16.0.1",
    "10.1.1.2": "172.16.0.2",
    "10.1.1.3": "172.16.0.3",
    "10.2.2.1": "172.16.0.9",
}

SCENARIOS = scenarios() if LAB.is_dir() else []


@pytest.fixture(params=SCENARIOS)
def scenario(request, lab):
    return lab / request.param


@cache
def truth(folder):
    return json.loads((folder / "truth.json").read_text())


def expected_proof(folder, entry):
    return RST_PROOFS[folder.name] if entry["kind"] == "rst_no_fin" else PROOFS[entry["kind"]]


def upstream_captures(folder):
    return sorted(folder.glob("up?.pcap"))


def proofs_by_frame(analysis, far_end):
    return {loss.request_frame + 1: far_end.proofs[loss.connection.conn, loss.depth] for loss in analysis.losses}


def assert_proved(folder, analysis, far_end):
    """Every unanswered request has the proof that its servers' logs and tshark's fields demand, and is certain."""
    proofs = proofs_by_frame(analysis, far_end)
    for entry in truth(folder)["unanswered"]:
        proof = proofs[entry["req_frame"]]
        assert (proof.kind, proof.is_certain) == (expected_proof(folder, entry), True), (entry["req_frame"], proof.text)


def assert_offsets_hold(far_end, shift_ns):
    """Every measured interval contains the true offset; the lab's machines share one clock."""
    for clock in far_end.clocks:
        assert clock.is_consistent
        if clock.offset_ns is not None:
            assert abs(clock.offset_ns - shift_ns) <= clock.width_ns / 2
            assert clock.to_upstream.min >= 0 <= clock.to_proxy.min


def test_every_lost_request_is_proved_from_both_ends(scenario, both_ends):
    analysis, far_end = both_ends([scenario / "proxy.pcap"], upstream_captures(scenario))
    assert far_end.only_proxy == far_end.not_covered == far_end.ambiguous == far_end.renumbered == 0
    assert far_end.only_upstream == far_end.translated == 0
    assert_proved(scenario, analysis, far_end)
    assert_offsets_hold(far_end, 0)


def test_the_frames_of_a_race_are_those_of_the_servers_side(scenario, both_ends):
    analysis, far_end = both_ends([scenario / "proxy.pcap"], upstream_captures(scenario))
    proofs = proofs_by_frame(analysis, far_end)
    for entry in truth(scenario)["unanswered"]:
        there = entry.get("upstream_side") or {}
        proof = proofs[entry["req_frame"]]
        found = {(f.segment.frame + 1) for f in proof.frames}
        assert {there.get("req_frame"), there.get("fin_frame")} - {None} <= found
        if entry["kind"] == "race_fin":
            # For TLS the servers' side names the FIN, and the close_notify left shortly before it.
            lead_ns = round((there["req_arrived"] - there["fin_sent"]) * S)
            assert lead_ns - 1_000 <= proof.lead_ns <= lead_ns + 1_000_000


@pytest.mark.parametrize("shift_ns", [8 * 3600 * S, -137 * S, 350_000_000], ids=["8h", "-137s", "350ms"])
def test_another_clock_at_the_upstream_changes_nothing_but_the_offset(scenario, shift_ns, both_ends, tmp_path):
    far = [rewrite(p, tmp_path / p.name, shift_ns=shift_ns) for p in upstream_captures(scenario)]
    analysis, far_end = both_ends([scenario / "proxy.pcap"], far)
    assert_proved(scenario, analysis, far_end)
    assert_offsets_hold(far_end, shift_ns)


def test_other_addresses_and_ports_are_joined_by_sequence_numbers(scenario, both_ends, tmp_path):
    if scenario.name == "n_ipv6_race":
        return  # the rewriting helper translates IPv4; there is no NAT for these addresses
    change = translate(ADDRESSES, port_shift=4711, ports_of="10.1.1.100")
    far = [rewrite(p, tmp_path / p.name, shift_ns=-S, change=change) for p in upstream_captures(scenario)]
    analysis, far_end = both_ends([scenario / "proxy.pcap"], far)
    assert far_end.translated == far_end.joined > 0
    assert far_end.only_proxy == far_end.not_covered == far_end.ambiguous == 0
    assert_proved(scenario, analysis, far_end)
    assert_offsets_hold(far_end, -S)


def test_rewritten_sequence_numbers_are_said_and_prove_nothing(scenario, both_ends, tmp_path):
    far = [rewrite(p, tmp_path / p.name, change=renumber(123_456_789)) for p in upstream_captures(scenario)]
    _analysis, far_end = both_ends([scenario / "proxy.pcap"], far)
    assert far_end.joined == 0 < far_end.renumbered
    assert {p.kind for p in far_end.proofs.values()} <= {ProofKind.UNDECIDED}
    assert {note.code for note in far_end.notes} == {"ends-not-joined", "ends-renumbered"}


def test_captures_that_both_begin_in_the_middle_are_joined_without_handshakes(scenario, both_ends, tmp_path):
    _header, records = read(scenario / "proxy.pcap")
    middle = (2 * records[0].ts_ns + records[-1].ts_ns) // 3

    def keep(_number, record):
        return record.ts_ns > middle

    near = rewrite(scenario / "proxy.pcap", tmp_path / "proxy.pcap", keep=keep)
    far = [rewrite(p, tmp_path / p.name, keep=keep, shift_ns=S) for p in upstream_captures(scenario)]
    analysis, far_end = both_ends([near], far)
    assert_offsets_hold(far_end, S)
    n_before = sum(r.ts_ns <= middle for r in records)
    wanted = {e["req_frame"] - n_before: expected_proof(scenario, e) for e in truth(scenario)["unanswered"]}
    proofs = proofs_by_frame(analysis, far_end)
    for frame in wanted.keys() & proofs.keys():
        assert proofs[frame].kind in {wanted[frame], ProofKind.UNDECIDED}
    undecided = [p for p in proofs.values() if p.kind is ProofKind.UNDECIDED]
    assert len(undecided) <= len(proofs) // 3


@pytest.mark.parametrize("seed", range(3))
def test_packets_that_the_upstreams_capture_dropped_never_make_a_wrong_proof_certain(
    scenario, seed, both_ends, tmp_path
):
    chance = random.Random(seed)
    far = [rewrite(p, tmp_path / p.name, keep=lambda *_: chance.random() > 0.03) for p in upstream_captures(scenario)]
    analysis, far_end = both_ends([scenario / "proxy.pcap"], far)
    proofs = proofs_by_frame(analysis, far_end)
    wrong = [
        (entry["req_frame"], proof.text)
        for entry in truth(scenario)["unanswered"]
        if (proof := proofs[entry["req_frame"]]).is_certain and proof.kind is not expected_proof(scenario, entry)
    ]
    assert wrong == []
    assert_offsets_hold(far_end, 0)


@pytest.mark.parametrize("seed", range(3))
def test_packets_that_the_proxys_capture_dropped_never_make_a_wrong_proof_certain(scenario, seed, both_ends, tmp_path):
    chance = random.Random(seed)
    near = rewrite(scenario / "proxy.pcap", tmp_path / "proxy.pcap", keep=lambda *_: chance.random() > 0.03)
    analysis, far_end = both_ends([near], upstream_captures(scenario))
    expected = {round(e["t_req"] * 1e6): expected_proof(scenario, e) for e in truth(scenario)["unanswered"]}
    for loss in analysis.losses:
        proof = far_end.proofs[loss.connection.conn, loss.depth]
        true = expected.get(loss.request_ts_ns // 1000, ProofKind.ANSWERED)
        # Without the RST, or the first of its transmissions, a request that never arrived is still just that.
        never_arrived = {ProofKind.FORGED_RST, ProofKind.NOT_ARRIVED}
        if proof.is_certain and not {proof.kind, *expected.values()} <= never_arrived:
            assert proof.kind is true, (loss.request_frame + 1, proof.text)
    assert_offsets_hold(far_end, 0)


def test_a_request_whose_answer_only_the_proxys_capture_lacks_was_answered(lab, both_ends, tmp_path):
    folder = lab / "a_big_mf0"
    chance = random.Random(0)
    near = rewrite(folder / "proxy.pcap", tmp_path / "proxy.pcap", keep=lambda *_: chance.random() > 0.1)
    analysis, far_end = both_ends([near], upstream_captures(folder))
    lost = {round(entry["t_req"] * 1e6) for entry in truth(folder)["unanswered"]}
    kinds = {True: set(), False: set()}
    for loss in analysis.losses:
        proof = far_end.proofs[loss.connection.conn, loss.depth]
        kinds[loss.request_ts_ns // 1000 in lost].add((proof.kind, proof.is_certain))
    assert kinds[True] == {(ProofKind.CLOSED_FIRST, True)}
    # Numbers alone may tell that it was answered: then it is no loss, and needs no proof.
    assert kinds[False] <= {(ProofKind.ANSWERED, True)}
    assert far_end.missed_by_proxy > 50


def test_what_the_wire_dropped_is_counted_as_lost_on_the_way(lab, both_ends):
    folder = lab / "k_loss_reorder"
    _analysis, far_end = both_ends([folder / "proxy.pcap"], upstream_captures(folder))
    _header, dropped = read(folder / "wire_drops.pcap")
    lost = Counter(
        r.src == "10.1.1.100"
        for r in dropped
        if r.tcp >= 0
        and not r.flags & 0x04
        and (
            r.flags & 0x03
            or int.from_bytes(r.data[r.ip + 2 : r.ip + 4], "big") > r.tcp - r.ip + (r.data[r.tcp + 12] >> 4) * 4
        )
    )
    assert (far_end.lost_to_upstream, far_end.lost_to_proxy) == (lost[True], lost[False])
    assert far_end.missed_by_proxy == far_end.missed_by_upstream == 0


def test_an_upstreams_capture_that_ended_early_decides_nothing_of_what_came_later(lab, both_ends, tmp_path):
    folder = lab / "c2_middlebox_drop"
    _header, records = read(folder / "upA.pcap")
    end = (records[0].ts_ns + records[-1].ts_ns) // 2
    far = rewrite(folder / "upA.pcap", tmp_path / "upA.pcap", keep=lambda _n, r: r.ts_ns < end)
    analysis, far_end = both_ends([folder / "proxy.pcap"], [far])
    for loss in analysis.losses:
        kind = far_end.proofs[loss.connection.conn, loss.depth].kind
        last = max(segment.ts_ns for segment in loss.keys.values())
        if loss.request_ts_ns > end:
            assert kind is ProofKind.UNDECIDED
        elif loss.request_ts_ns < end - S and last > loss.request_ts_ns:
            assert kind is ProofKind.NOT_ARRIVED


def test_only_the_upstreams_that_were_captured_are_judged(lab, both_ends):
    folder = lab / "a_before"
    analysis, far_end = both_ends([folder / "proxy.pcap"], [folder / "upA.pcap"])
    for loss in analysis.losses:
        kind = far_end.proofs[loss.connection.conn, loss.depth].kind
        is_captured = loss.connection.resp.address == "10.1.1.1"
        assert kind is (ProofKind.CLOSED_FIRST if is_captured else ProofKind.UNDECIDED)
    assert far_end.not_covered == len(analysis.connections) - far_end.joined > 0


def test_a_capture_at_the_middlebox_shows_its_own_forgery(lab, both_ends):
    folder = lab / "c3_middlebox_rst"
    analysis, far_end = both_ends([folder / "proxy.pcap"], [folder / "middlebox_any.pcap"])
    kinds = Counter(far_end.proofs[loss.connection.conn, loss.depth].kind for loss in analysis.losses)
    # The RST leaves that machine, so that for this capture point it is the "upstream" that answered.
    assert kinds == {ProofKind.LOST_STATE: len(analysis.losses)}


def test_a_clock_that_was_set_during_the_capture_is_inconsistent(lab, both_ends, tmp_path):
    folder = lab / "b_lowrtt_race"
    header, records = read(folder / "upA.pcap")
    for record in records[len(records) // 2 :]:
        record.ts_ns += 3 * S
    far = write(tmp_path / "upA.pcap", header, records)
    _analysis, far_end = both_ends([folder / "proxy.pcap"], [far])
    assert [c.is_consistent for c in far_end.clocks] == [False]
    assert "ends-clock-inconsistent" in {note.code for note in far_end.notes}


@pytest.mark.parametrize("drift_ppm", [-80, 60, 200])
def test_a_drifting_clock_is_measured_where_the_path_is_short(drift_ppm, lab, both_ends, tmp_path):
    folder = lab / "b_lowrtt_race"
    far = rewrite(folder / "upA.pcap", tmp_path / "upA.pcap", shift_ns=5 * S, drift_ppm=drift_ppm)
    _analysis, far_end = both_ends([folder / "proxy.pcap"], [far])
    (clock,) = far_end.clocks
    assert clock.drift_ppb == pytest.approx(drift_ppm * 1000, rel=0.05)
    assert abs(clock.offset_ns - 5 * S) < 2_000_000
    assert "ends-clock-drift" in {note.code for note in far_end.notes}


def test_exchanged_ends_are_said_and_prove_nothing(lab, both_ends):
    folder = lab / "a_idle_race"
    analysis, far_end = both_ends(upstream_captures(folder), [folder / "proxy.pcap"])
    assert analysis.losses
    assert {p.kind for p in far_end.proofs.values()} == {ProofKind.UNDECIDED}
    assert "ends-not-at-upstream" in {note.code for note in far_end.notes}


def test_a_second_capture_at_the_proxys_side_is_no_upstreams_order(lab, both_ends):
    folder = lab / "n_vlan_span_race"
    _analysis, far_end = both_ends([folder / "proxy.pcap"], [folder / "span_vlan100.pcap"])
    assert {p.kind for p in far_end.proofs.values()} == {ProofKind.UNDECIDED}
    assert [clock.width_ns < 100_000 for clock in far_end.clocks] == [True] * 3


@pytest.mark.parametrize(
    "name",
    [
        "proxy.pcapng",
        "proxy_any.pcapng",
        "proxy_any_sll.pcap",
        "proxy_any_sll2.pcap",
        "proxy_nano.pcap",
        "proxy_s96.pcap",
    ],
)
def test_every_form_of_the_proxys_capture_is_proved_alike(name, lab, both_ends):
    folder = lab / "a_idle_race"
    analysis, far_end = both_ends([folder / name], upstream_captures(folder))
    assert len(analysis.losses) == 13
    assert {(p.kind, p.is_certain) for p in far_end.proofs.values()} == {(ProofKind.CLOSED_FIRST, True)}
    assert far_end.missed_by_proxy == far_end.missed_by_upstream == far_end.lost_to_proxy == 0
    assert_offsets_hold(far_end, 0)


def test_the_same_capture_twice_has_one_clock(lab, both_ends):
    capture = lab / "a_before" / "proxy.pcap"
    _analysis, far_end = both_ends([capture], [capture])
    assert far_end.joined == 42
    assert {clock.offset_ns for clock in far_end.clocks} == {0}
    assert far_end.lost_to_upstream == far_end.lost_to_proxy == 0


def test_the_parts_in_which_memory_is_bounded_change_nothing(lab, both_ends, monkeypatch):
    folder = lab / "k_loss_reorder"
    paths = [folder / "proxy.pcap"], upstream_captures(folder)
    _analysis, whole = both_ends(*paths)
    monkeypatch.setattr("pcapdiag.analysis.ends.segments.ROWS_AT_ONCE", 50)
    _analysis, parts = both_ends(*paths)
    assert parts.proofs == whole.proofs
    assert (parts.lost_to_upstream, parts.lost_to_proxy) == (whole.lost_to_upstream, whole.lost_to_proxy)
    for one, other in zip(whole.clocks, parts.clocks, strict=True):
        assert (one.offset_ns, one.width_ns, one.pairs) == (other.offset_ns, other.width_ns, other.pairs)


def test_segments_that_one_end_saw_in_one_piece_are_not_lost(lab, both_ends, tmp_path):
    folder = lab / "a_before"
    header, records = read(folder / "proxy.pcap")
    cut = [part for r in records for part in (split(r) if r.tcp >= 0 and len(r.data) > 150 else [r])]
    assert len(cut) > len(records) + 50
    near = write(tmp_path / "proxy.pcap", header, cut)
    analysis, far_end = both_ends([near], upstream_captures(folder))
    assert far_end.lost_to_upstream == far_end.lost_to_proxy == 0
    assert far_end.missed_by_proxy == far_end.missed_by_upstream == 0
    assert len(analysis.losses) == 11
    assert {(p.kind, p.is_certain) for p in far_end.proofs.values()} == {(ProofKind.CLOSED_FIRST, True)}
    assert_offsets_hold(far_end, 0)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_capture_of_the_other_end_ends_in_no_error(seed, lab, both_ends, tmp_path):
    folder, chance = lab / "a_before", random.Random(seed)
    far = []
    for path in upstream_captures(folder):
        content = bytearray(path.read_bytes())
        for at in chance.sample(range(24, len(content)), 400):
            content[at] = chance.randrange(256)
        (tmp_path / path.name).write_bytes(content)
        far.append(tmp_path / path.name)
    analysis, far_end = both_ends([folder / "proxy.pcap"], far)
    assert far_end.proofs.keys() == {(loss.connection.conn, loss.depth) for loss in analysis.losses}
    counted = far_end.joined + far_end.only_proxy + far_end.not_covered + far_end.ambiguous + far_end.renumbered
    assert counted == len(analysis.connections)
