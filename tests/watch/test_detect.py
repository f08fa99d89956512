"""The detector sees every failure while it happens, and none where there is none."""

import pytest

import pcapdiag
from pcapdiag.analysis.inputs import NO_INPUTS, Inputs
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.watch.detect import Detector

FAILING = (
    "a_idle_race", "a65_idle_race", "b_gthread_race", "c1_state_lost_rst", "c2_middlebox_drop", "c3_middlebox_rst",
    "d1_worker_exit", "d4_close_variants", "e_upstream_reload", "g_read_timeout", "h_connect_fail",
    "i_client_abort_headers", "k_loss_reorder", "l_tls_race", "n_fastcgi_reload", "n_ipv6_race", "n_vlan_span_race",
)  # fmt: skip
HEALTHY = ("b_fix_gunicorn75", "f_keepalive_requests", "j_healthy", "j2_no_keepalive", "j3_idle_closes_no_race")

pytestmark = [pytest.mark.lab, pytest.mark.compiled_only]


def detect(path, block_bytes=4096, **options):
    detector = Detector(Inputs(**options))
    failures = []
    for batch in read_batches(Capture([CaptureFile(str(path))]), block_bytes=block_bytes):
        failures += detector.update(batch)
        failures += detector.look()
    return failures


BESIDE = {"PD108", "PD403"}
"""What counts events beside the cause of each request."""


@pytest.mark.parametrize("name", FAILING)
def test_every_failure_is_seen_before_the_capture_has_ended(lab, name):
    path = lab / name / "proxy.pcap"
    report = pcapdiag.analyze(path)
    lost = [
        (o.resp, o.request_ts_ns)
        for finding in report.found
        for o in finding.occurrences
        if finding.code < "PD6" and finding.severity and finding.code not in BESIDE
    ]
    assert lost
    seen = detect(path)
    by_endpoint = {resp: sum(f.resp == resp for f in seen) for resp, _ in lost}
    for resp, n_seen in by_endpoint.items():
        assert n_seen >= sum(r == resp for r, _ in lost), resp
    assert all(f.since_ns <= f.ts_ns for f in seen)


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_seen_where_nothing_failed(lab, name):
    assert detect(lab / name / "proxy.pcap") == []


def test_how_the_bytes_come_in_changes_nothing(lab):
    path = lab / "a_idle_race" / "proxy.pcap"
    pieces, whole = detect(path, 1000), detect(path, 4 << 20)
    assert sorted(f.resp for f in pieces) == sorted(f.resp for f in whole)
    assert len(whole) == 13


def test_only_the_upstreams_that_the_operator_names_count(lab):
    path = lab / "a_idle_race" / "proxy.pcap"
    assert {f.resp for f in detect(path, upstreams=["10.1.1.1"])} == {"10.1.1.1:80"}
    assert detect(path, upstreams=["10.9.9.9"]) == []


def test_what_reaches_the_proxy_that_the_operator_names_is_the_client_leg(lab):
    path = lab / "a_idle_race" / "proxy.pcap"
    assert detect(path, proxies=["10.1.1.1", "10.1.1.2", "10.1.1.3"]) == []


def test_numbers_of_connections_go_round(lab):
    path = lab / "a_idle_race" / "proxy.pcap"
    detector = Detector(NO_INPUTS)
    detector._tracker._ctl["next_conn"] = (1 << 30) + 1  # as after two years
    failures = []
    for _ in range(2):
        for batch in read_batches(Capture([CaptureFile(str(path))]), block_bytes=4096):
            failures += detector.update(batch)
            failures += detector.look()
    assert len(failures) >= 13
    assert detector._tracker.n_connections < 1 << 20
