"""PD301: refused by RST or by ICMP port unreachable; happy eyeballs and scans are none."""

from dataclasses import replace

import pytest

from pcapdiag.analysis.model import AttemptSign
from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.base.units import parse_address
from pcapdiag.proxy.join.ledger import JoinedTry, Ledger, WireVerdict
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules.diagnose import diagnose
from tests.proxy.join.builders import CONNECTING, entry, wire
from tests.rules.builders import PROXY, Scene, causes_of, icmp_error, only, refused, with_connections, with_icmp


def logged(loss, errno_name="ECONNREFUSED"):
    told = entry(0, kind=LogKind.CONNECT_FAILED, action=CONNECTING, errno_name=errno_name)
    tries = (JoinedTry(wire(0, conn=loss.connection.conn, depth=-1), WireVerdict.LOGGED, (told,)),)
    return Ledger(clock=None, entries=(), tries=tries)


def test_it_says_how_the_refusal_came():
    scene = Scene()
    by_rst, by_icmp = scene.attempt(refused(40)), with_icmp(scene.attempt(), code=3)
    finding = only(diagnose(scene.analysis(by_rst, by_icmp)), "PD301")
    assert "a RST, 1 of them with ICMP port unreachable (type 3 code 3) from 10.1.1.254" in finding.message
    assert (finding.count, finding.severity) == (2, Severity.ERROR)
    assert "kube-proxy" in finding.remedy


def test_the_icmp_error_stands_in_the_evidence():
    scene = Scene()
    loss = with_icmp(scene.attempt(), code=3)
    (occurrence,) = only(diagnose(scene.analysis(loss)), "PD301").occurrences
    _, icmp = occurrence.evidence
    assert (icmp.frame, icmp.label, icmp.flags, icmp.dir) == (loss.icmp[0].frame, "ICMP port unreachable", 0, 1)
    assert icmp.text == "10.1.1.254 says of the SYN: port unreachable"


def test_happy_eyeballs_are_information():
    scene = Scene()
    loss = scene.attempt(refused(40), sign=AttemptSign.RACED)
    finding = only(diagnose(scene.analysis(loss)), "PD301")
    assert finding.severity is Severity.INFO
    assert "happy eyeballs" in finding.message


def test_what_the_proxy_logs_as_failed_was_no_race():
    scene = Scene()
    loss = scene.attempt(refused(40), sign=AttemptSign.RACED)
    assert only(diagnose(scene.analysis(loss, log=logged(loss))), "PD301").severity is Severity.ERROR


def test_a_rst_that_acknowledges_something_else_refuses_nothing():
    scene = Scene()
    loss = scene.attempt(replace(refused(40), ack=500))
    assert causes_of(scene.analysis(loss)) == {"PD999": 1}


def test_a_packet_that_was_too_big_is_no_answer_to_a_syn():
    scene = Scene()
    loss = scene.attempt()
    loss = replace(loss, icmp=(icmp_error(loss, code=4, mtu=1400),))
    assert causes_of(scene.analysis(loss)) == {"PD302": 1}


@pytest.mark.parametrize(
    ("of_rst", "own", "is_foreign"),
    [
        (64, 61, True),
        (63, 61, True),
        (254, 61, True),
        (61, 61, False),
        (252, 61, False),
        (-1, 61, False),
        (64, -1, False),
    ],
)
def test_a_rst_over_another_number_of_hops_was_sent_by_a_device_on_the_path(of_rst, own, is_foreign):
    scene = Scene()
    loss = scene.attempt(replace(refused(40), ttl=of_rst))
    hi, lo = parse_address(PROXY.address)
    opened = with_connections(
        scene.analysis(loss), resp_ttl=own, syn_ack_frames=1, resp_bytes=100, orig_hi=hi, orig_lo=lo
    )
    finding = only(diagnose(opened), "PD301")
    assert ("A device on the path refused in its name" in finding.message) is is_foreign
    assert (finding.confidence is Confidence.CONFIRMED) is not is_foreign
    assert ("ss -ltn" in finding.remedy) is not is_foreign


def test_what_the_upstream_sends_to_others_or_another_of_its_ports_says_nothing_of_a_refusal():
    scene = Scene()
    loss = scene.attempt(replace(refused(40), ttl=64))
    hi, lo = parse_address(PROXY.address)
    common = {"resp_ttl": 61, "syn_ack_frames": 1, "resp_bytes": 100, "orig_hi": hi}
    for columns in ({"orig_lo": lo + 1}, {"orig_lo": lo, "resp_port": 81}, {"orig_lo": lo, "capture_idx": 1}):
        analysis = with_connections(scene.analysis(loss), **(common | columns))
        assert "device" not in only(diagnose(analysis), "PD301").message
