"""PD305: who says that the upstream cannot be reached, and of how many upstreams."""

import pytest

from pcapdiag.analysis.model import AttemptSign, Endpoint
from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import Scene, causes_of, found, only, syn_again, with_icmp


@pytest.mark.parametrize(
    ("its_type", "code", "words", "errno", "where"),
    [
        (3, 0, "network unreachable", "101", "routing table"),
        (3, 1, "host unreachable", "113", "ARP"),
        (3, 13, "communication administratively prohibited", "113", "packet filter"),
        (11, 0, "time to live exceeded", "113", "traceroute"),
    ],
)
def test_it_says_what_and_who_and_where_to_look(its_type, code, words, errno, where):
    scene = Scene()
    finding = only(diagnose(scene.analysis(with_icmp(scene.attempt(), its_type=its_type, code=code))), "PD305")
    assert f"ICMP {words} (type {its_type} code {code}) from 10.1.1.254" in finding.message
    assert f"errno {errno}" in finding.message
    assert where in finding.remedy


def test_a_syn_that_is_sent_again_is_no_request():
    scene = Scene()
    finding = only(diagnose(scene.analysis(with_icmp(scene.attempt(syn_again(1_000))))), "PD305")
    texts = [e.text for e in finding.occurrences[0].evidence]
    assert "the SYN is sent again" in texts
    assert not any("request" in text for text in texts)


def test_the_upstream_itself_may_say_so():
    scene = Scene()
    loss = with_icmp(scene.attempt(), code=10, sender=(0, 0xFFFF0A010101))
    assert "the upstream's own address" in only(diagnose(scene.analysis(loss)), "PD305").message


def test_at_once_is_said_of_errors_that_came_before_the_syn_was_sent_again():
    scene = Scene()
    finding = only(diagnose(scene.analysis(with_icmp(scene.attempt()))), "PD305")
    assert " failed at once: ICMP" in finding.message
    assert "No timeout at the proxy matters" in finding.remedy
    late = only(diagnose(scene.analysis(with_icmp(scene.attempt(syn_again(1000), syn_again(3000))))), "PD305")
    assert " failed: ICMP" in late.message
    assert "No timeout" not in late.remedy


def test_an_answered_syn_is_not_unanswered_however_often_it_was_sent():
    scene = Scene()
    assert causes_of(scene.analysis(with_icmp(scene.attempt(syn_again(1000)), code=1))) == {"PD305": 1}


@pytest.mark.parametrize(("n_upstreams", "subjects"), [(2, ["10.1.1.1:80", "10.1.1.2:80"]), (5, ["10.1.1.254"])])
def test_a_router_that_answers_for_many_upstreams_is_one_cause(n_upstreams, subjects):
    scene = Scene()
    losses = [with_icmp(scene.attempt(resp=Endpoint(f"10.1.1.{n + 1}", 80))) for n in range(n_upstreams)]
    findings = found(scene.analysis(*losses))
    assert [f.subject for f in findings] == subjects
    assert sum(f.count for f in findings) == n_upstreams


def test_two_senders_are_two_causes():
    scene = Scene()
    losses = [with_icmp(scene.attempt(), sender=(0, 0xFFFF0A010100 + n)) for n in (250, 251)]
    assert len(found(scene.analysis(*losses))) == 2


def test_the_other_family_that_opened_at_once_makes_it_information():
    scene = Scene()
    finding = only(diagnose(scene.analysis(with_icmp(scene.attempt(sign=AttemptSign.RACED)))), "PD305")
    assert finding.severity is Severity.INFO


def test_a_quotation_that_the_capture_cut_is_not_certain():
    scene = Scene()
    whole = only(diagnose(scene.analysis(with_icmp(scene.attempt()))), "PD305")
    assert (whole.confidence, "cut" in whole.message) == (Confidence.CONFIRMED, False)
    cut = only(diagnose(scene.analysis(with_icmp(scene.attempt(), is_cut=True))), "PD305")
    assert cut.confidence is Confidence.LIKELY
    assert "told by addresses, the sender's port and time" in cut.message
    assert any("most likely was the SYN" in e.text for e in cut.occurrences[0].evidence)


def test_of_a_refusal_whose_quotation_is_cut_that_is_said_as_well():
    scene = Scene()
    cut = only(diagnose(scene.analysis(with_icmp(scene.attempt(), code=3, is_cut=True))), "PD301")
    assert cut.confidence is Confidence.LIKELY
    assert "snap length cut" in cut.message
