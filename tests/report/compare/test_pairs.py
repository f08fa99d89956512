"""Recorded pairs: the verdict on a remedy is the one that the lab's settings prove."""

import pytest

import pcapdiag
from pcapdiag.report.compare.model import Judgement
from tests.conftest import ROOT

CASES = ROOT / "captures"
FIXED, STILL, NEW, UNKNOWN, NOT = (
    Judgement.FIXED,
    Judgement.STILL_EXPOSED,
    Judgement.NEWLY_EXPOSED,
    Judgement.CANNOT_TELL,
    Judgement.NOT_EXPOSED,
)


def compared(before, after):
    return pcapdiag.compare_reports(pcapdiag.analyze(before), pcapdiag.analyze(after))


@pytest.mark.parametrize(
    ("after", "outcome", "why"),
    [
        ("proxy_timeout_shorter", FIXED, "The proxy now closes idle connections first, 3.00"),
        ("no_keepalive", FIXED, "Connections are not reused any more"),
        # It closes after 4 s where T was 4 s: whether the upstream has another T now, nobody saw.
        ("healthy_keepalive", UNKNOWN, "No gap came near the upstream's timeout"),
        ("idle_closes_without_race", STILL, "still closes idle connections after 3.00"),
        ("idle_close_race_before", STILL, "no clear change"),
    ],
)
def test_the_eleven_losses_and_what_became_of_them(after, outcome, why):
    comparison = compared(CASES / "idle_close_race_before" / "proxy.pcap", CASES / after / "proxy.pcap")
    assert [c.outcome for c in comparison.upstreams] == [outcome] * 3
    assert sum(c.before.races for c in comparison.upstreams) == 11
    assert all(cause.reason.count(why) == 1 for c in comparison.upstreams for cause in c.causes)


def test_a_remedy_that_was_taken_back_is_new_trouble():
    comparison = compared(
        CASES / "proxy_timeout_shorter" / "proxy.pcap", CASES / "idle_close_race_before" / "proxy.pcap"
    )
    assert {c.outcome for c in comparison.upstreams} == {NEW}


def test_handshakes_are_the_price_of_closing_first():
    comparison = compared(
        CASES / "idle_close_race_before" / "proxy.pcap", CASES / "proxy_timeout_shorter" / "proxy.pcap"
    )
    for change in comparison.upstreams:
        assert change.before.opened == change.before.connections == 14
        assert change.after.opened > change.before.opened
        # 160 ms of round trip, once per handshake.
        assert change.after.handshake_ns / change.after.opened == pytest.approx(160e6, rel=0.05)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ("b_gthread_race", "b_fix_gunicorn75", FIXED),
        ("b_uvicorn_race", "b_fix_gunicorn75", FIXED),
        ("b_gthread_race", "b_uvicorn_race", STILL),
        ("a_before", "m1_proxy_shorter", FIXED),
        ("a_before", "m1b_proxy_slightly_shorter", STILL),
        ("a_before", "a_idle_race", STILL),
        ("a_idle_race", "m1_proxy_shorter", FIXED),
        ("a_idle_race", "j2_no_keepalive", FIXED),
        ("a_idle_race", "j_healthy", UNKNOWN),
        ("a_big_mf0", "j2_no_keepalive", FIXED),
        ("a65_idle_race", "m1_proxy_shorter", FIXED),
        # Closing at 4 s is far below 65 s, whatever the upstream does.
        ("a65_idle_race", "j_healthy", FIXED),
        ("j_healthy", "m1_proxy_shorter", NOT),
        ("m1_proxy_shorter", "j3_idle_closes_no_race", NEW),
        ("d1_worker_exit", "j_healthy", FIXED),
        ("g_read_timeout", "j_healthy", FIXED),
        ("j_healthy", "d1_worker_exit", NEW),
    ],
)
def test_pairs_of_the_lab(lab, before, after, outcome):
    comparison = compared(lab / before / "proxy.pcap", lab / after / "proxy.pcap")
    assert comparison.outcome is outcome, [cause.reason for c in comparison.upstreams for cause in c.causes]


def test_the_cost_of_handshakes_is_what_tshark_says(tshark):
    path = CASES / "idle_close_race_before" / "proxy.pcap"
    rtts = {}
    for stream, source, target, rtt in tshark(path, "tcp.stream", "ip.src", "ip.dst", "tcp.analysis.initial_rtt"):
        if rtt:
            rtts[stream] = (max(source, target, key=lambda a: a != "10.1.1.100"), float(rtt))
    summed = {}
    for address, rtt in rtts.values():
        summed.setdefault(f"{address}:80", []).append(rtt)
    measured = {u.endpoint: (u.opened, u.handshake_ns / 1e9) for u in pcapdiag.analyze(path).report.upstreams}
    assert measured == {endpoint: (len(own), pytest.approx(sum(own), abs=1e-6)) for endpoint, own in summed.items()}
