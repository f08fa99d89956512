"""What a capture from the other end does to causes: it raises, it corrects, and it never adds anything to count."""

import pytest

import pcapdiag
from pcapdiag.base.errors import UsageError
from tests.analysis.ends.rewrite import read, rewrite
from tests.conftest import ROOT
from tests.lab_truth import code_of, scenarios, truth_of

pytestmark = [pytest.mark.compiled_only]

CASE = ROOT / "captures" / "middlebox_reset_on_reuse"
RACE = ROOT / "captures" / "idle_close_race_65s"
PROXY = "10.1.1.100"
RST, FIN = 0x04, 0x01


def findings(report):
    return {(f["code"], f["subject"]): f for f in report.to_json()["findings"]}


def occurrences(report, code):
    return [o for f in report.to_json()["findings"] if f["code"] == code for o in f["occurrences"]]


def copy_ttl(record):
    """Make every segment look as if it came over as many hops as the upstream's own."""
    if record.src != PROXY:
        record.data[record.ip + 8] = 63


def test_a_forged_reset_with_the_upstreams_ttl_is_told_from_the_upstreams_own(tmp_path):
    near = rewrite(CASE / "proxy.pcap", tmp_path / "proxy.pcap", change=copy_ttl)
    alone = pcapdiag.analyze(near)
    assert {f["code"] for f in alone.to_json()["findings"]} == {"PD106"}
    report = pcapdiag.analyze(near, upstream_captures=[CASE / "upstream.pcap"])
    ((code, subject), finding), *others = findings(report).items()
    assert (code, subject, finding["confidence"], finding["count"]) == ("PD105", "10.2.2.1:80", "confirmed", 15)
    assert not others
    assert all(
        "never left the upstream" in o["far_end"]["text"] or "never left there" in o["far_end"]["text"]
        for o in finding["occurrences"]
    )


def test_a_fin_that_was_lost_makes_a_reset_the_race_at_whatever_age(tmp_path, lab):
    """Without the upstream's FIN and what the proxy answered to it, its RST is all that the proxy's capture has."""
    folder = lab / "e_upstream_reload"
    races = {e["req_frame"]: e for e in truth_of(folder.name)["unanswered"] if e["kind"] == "race_fin"}
    _header, records = read(folder / "proxy.pcap")
    ports = {records[f - 1].ports[0] for f in races}
    hidden = [bool(r.tcp >= 0 and r.flags & FIN and ports & set(r.ports)) for r in records]
    near = rewrite(folder / "proxy.pcap", tmp_path / "proxy.pcap", keep=lambda n, _r: not hidden[n])
    alone = pcapdiag.analyze(near)
    assert len(occurrences(alone, "PD106")) >= len(races) - 2
    report = pcapdiag.analyze(near, upstream_captures=sorted(folder.glob("up?.pcap")))
    assert occurrences(report, "PD106") == []
    found = occurrences(report, "PD101")
    assert len(found) >= len(races) - 1
    assert {o["far_end"]["kind"] for o in found} == {"closed_first"}
    assert {f["confidence"] for f in report.to_json()["findings"] if f["code"] == "PD101"} == {"confirmed"}


def test_a_reset_of_an_upstream_that_lost_its_state_stays_one(lab):
    """The near miss: a RST alone as well, but the other end shows that no FIN was ever sent."""
    folder = lab / "c1_state_lost_rst"
    report = pcapdiag.analyze(folder / "proxy.pcap", upstream_captures=sorted(folder.glob("up?.pcap")))
    assert {f["code"] for f in report.to_json()["findings"]} <= {"PD106", "PD901"}
    assert {o["far_end"]["kind"] for o in occurrences(report, "PD106")} == {"lost_state"}


def test_dropped_packets_at_the_proxy_lower_no_cause_that_the_other_end_proves(lab, tmp_path):
    folder = lab / "a_before"
    answers = [
        n for n, r in enumerate(read(folder / "proxy.pcap")[1]) if r.tcp >= 0 and r.src != PROXY and len(r.data) > 200
    ]
    drop = set(answers[3::8])
    near = rewrite(folder / "proxy.pcap", tmp_path / "proxy.pcap", keep=lambda n, _r: n not in drop)
    alone = [f["confidence"] for f in pcapdiag.analyze(near).to_json()["findings"] if f["code"] == "PD101"]
    assert set(alone) == {"likely"}
    report = pcapdiag.analyze(near, upstream_captures=sorted(folder.glob("up?.pcap")))
    assert {f["confidence"] for f in report.to_json()["findings"] if f["code"] == "PD101"} == {"confirmed"}


@pytest.mark.lab
@pytest.mark.parametrize("scenario", scenarios())
def test_the_other_end_adds_nothing_that_is_counted(scenario, lab):
    folder = lab / scenario
    alone = pcapdiag.analyze(folder / "proxy.pcap").to_json()
    both = pcapdiag.analyze(folder / "proxy.pcap", upstream_captures=sorted(folder.glob("up?.pcap"))).to_json()
    for part in ("totals", "upstreams"):
        assert both[part] == alone[part]
    assert [(f["code"], f["count"]) for f in both["findings"]] == [(f["code"], f["count"]) for f in alone["findings"]]
    causes = {
        o["request_frame"]: f["code"]
        for f in both["findings"]
        if f["failures"]
        for o in f["occurrences"]
        if o["far_end"] is not None
    }
    for entry in truth_of(scenario)["unanswered"]:
        assert causes[entry["req_frame"]] == code_of(scenario, entry["kind"])


def test_a_file_of_the_other_end_is_not_counted_as_the_proxys(tmp_path):
    for path in RACE.glob("*.pcap"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    report = pcapdiag.analyze(tmp_path, upstream_captures=[tmp_path / "upstream_?.pcap"]).to_json()
    assert report["totals"]["unanswered"] == 10
    assert [c["capture_point"] for c in report["captures"]] == ["proxy", "upstream", "upstream", "upstream"]


def test_no_capture_of_the_proxy_is_left_to_judge():
    with pytest.raises(UsageError, match="name the proxy's own capture"):
        pcapdiag.analyze(RACE / "upstream_a.pcap", upstream_captures=[RACE])


def test_far_frames_name_their_file_clock_and_end(tmp_path):
    shift_ns = 3600 * 10**9
    far = [rewrite(p, tmp_path / p.name, shift_ns=shift_ns) for p in sorted(RACE.glob("upstream_?.pcap"))]
    report = pcapdiag.analyze(RACE / "proxy.pcap", upstream_captures=far).to_json()
    assert abs(report["far_end"]["clock_offset_ns"] - shift_ns) <= report["far_end"]["clock_offset_width_ns"] / 2
    assert report["far_end"]["proofs"] == {"closed_first": 10}
    for occurrence in (o for f in report["findings"] for o in f["occurrences"]):
        frames = [e for e in occurrence["evidence"] if e["end"] == "upstream"]
        assert [e["label"] for e in frames] == ["FIN leaves", "request arrives", "RST leaves"]
        fin, request, _rst = frames
        assert {e["capture"] for e in frames} <= {str(p) for p in far}
        assert request["ts_ns"] - fin["ts_ns"] == occurrence["far_end"]["lead_ns"]
        arrival_ns = request["ts_ns"] - request["clock_offset_ns"]
        assert 0 < arrival_ns - occurrence["request_ts_ns"] < 170_000_000
        near = next(e for e in occurrence["evidence"] if e["end"] == "proxy" and e["label"] == "request")
        assert (near["rel_seq"], near["payload_len"]) == (request["rel_seq"], request["payload_len"])


def test_a_capture_of_another_place_is_said_to_join_nothing(lab):
    report = pcapdiag.analyze(RACE / "proxy.pcap", upstream_captures=[lab / "n_ipv6_race" / "upA.pcap"]).to_json()
    assert "ends-not-joined" in {n["code"] for n in report["notes"]}
    assert report["far_end"]["joined"] == 0
    assert report["far_end"]["clock_offset_ns"] is None
    assert {o["far_end"]["kind"] for f in report["findings"] for o in f["occurrences"]} == {"undecided"}


def test_a_far_clock_hours_off_makes_no_longer_observation(tmp_path):
    from pcapdiag.report.compare.side import read_side

    far = rewrite(RACE / "upstream_a.pcap", tmp_path / "up.pcap", shift_ns=8 * 3600 * 10**9)
    alone = pcapdiag.analyze(RACE / "proxy.pcap").to_json()
    both = pcapdiag.analyze(RACE / "proxy.pcap", upstream_captures=[far]).to_json()
    assert read_side(both, {}, "x").duration_ns == read_side(alone, {}, "x").duration_ns
    assert read_side(both, {}, "x").names == read_side(alone, {}, "x").names
    assert [c["end"] for c in both["captures"]] == ["proxy", "upstream"]
