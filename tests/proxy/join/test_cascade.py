"""A balancer in Lua that found no peer: what it had tried, and what its health checks had found."""

import pytest

from pcapdiag.base.findings import Confidence, Verdict, VerdictKind
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.join.ledger import Absence, EntryVerdict
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.report.build import build_report
from pcapdiag.rules.pd601_no_live_upstreams import NoLiveUpstreams
from tests.proxy.join.builders import OTHER, PEER, SPAN, access, entry, wire
from tests.report.builders import analysis

NO_PEER = LogKind.BALANCER_NO_PEER
APISIX = """upstreams:
  - id: be
    nodes: {"10.1.1.1:80": 1, "10.1.1.2:80": 1, "10.1.1.3:80": 1}
"""


def no_peer(at_s, line, **changes):
    return entry(at_s, line=line, kind=NO_PEER, peer=PEER, upstream="", upstream_peer="", **changes)


def health_check(at_s, line, peer):
    message = f"[lua] healthcheck.lua:1150: log(): [healthcheck] (up) unhealthy TCP increment (2/2) for 'a({peer})'"
    kind = LogKind.HEALTH_CHECK
    return entry(at_s, line=line, kind=kind, message=message, concerns_upstream=False, action="logging request")


def links_of(ledger):
    (chain,) = ledger.chains
    return {link.peer: (link.absence, link.entry.line if link.entry else -1) for link in chain.links}


def test_the_tries_of_the_same_request_used_the_peers_up():
    ledger = join_logs([wire(500)], SPAN, [entry(0), no_peer(0, 2)])
    assert links_of(ledger) == {PEER: (Absence.TRIED, 1)}
    last = ledger.entries[-1]
    assert last.verdict is EntryVerdict.NO_PACKETS_EXPECTED
    assert "balancer" in last.reason
    (finding,) = NoLiveUpstreams().check(analysis(log=ledger))
    assert finding.subject == "the balancer of api.example"
    assert "fail_timeout" not in finding.message + finding.remedy
    joined = analysis(log=ledger)
    verdicts = [Verdict("PD601", VerdictKind.CLEAN, role=NoLiveUpstreams.facts.role)]
    report = build_report(joined, [finding], verdicts, version="1")
    assert report.log.entries[-1].code == "PD601"


def test_another_request_s_failures_are_not_its_own():
    ledger = join_logs([wire(500)], SPAN, [entry(0, conn=8), no_peer(0, 2)])
    assert links_of(ledger) == {}
    (finding,) = NoLiveUpstreams().check(analysis(log=ledger))
    assert finding.confidence is Confidence.POSSIBLE


def test_a_health_check_that_counted_lately_is_named_and_an_old_one_is_not():
    entries = [health_check(-900, 1, "10.1.1.3:80"), health_check(-3, 2, OTHER), entry(0, line=3), no_peer(0, 4)]
    ledger = join_logs([wire(500)], SPAN, entries)
    assert links_of(ledger) == {PEER: (Absence.TRIED, 3), OTHER: (Absence.UNHEALTHY, 2)}
    assert [j.entry.line for j in ledger.entries] == [3, 4]


def test_the_access_log_names_the_tries_that_the_error_log_lost():
    line = access(900, (PEER, 502, 100), (OTHER, 502, 100), status=502)
    ledger = join_logs([wire(500)], SPAN, [entry(0), no_peer(0, 2)], [line])
    assert links_of(ledger) == {PEER: (Absence.TRIED, 1), OTHER: (Absence.TRIED, -1)}


@pytest.mark.parametrize("checked", [True, False])
def test_the_configuration_says_which_peers_there_are(tmp_path, checked):
    (tmp_path / "apisix.yaml").write_text(APISIX)
    settings = read_proxy_conf(tmp_path / "apisix.yaml")
    entries = [*([health_check(-3, 1, OTHER)] if checked else []), entry(0, line=2), no_peer(0, 3)]
    (chain,) = join_logs([wire(500)], SPAN, entries, (), settings).chains
    assert (chain.block, len(chain.links), chain.is_complete) == ("be", 3, False)
    second = chain.links[1].absence
    assert second is (Absence.UNHEALTHY if checked else Absence.UNKNOWN)


def test_a_unix_socket_and_an_ipv6_sibling_are_servers_as_any_other(tmp_path):
    (tmp_path / "nginx.conf").write_text(
        "http { upstream be { server 10.1.1.1:80; server [fd00::5]:80; server unix:/run/a.sock; } }"
    )
    settings = read_proxy_conf(tmp_path / "nginx.conf")
    peers = (PEER, "[fd00::5]:80", "unix:/run/a.sock")
    failed = [entry(0, line=n, peer=peer, kind=LogKind.CONNECT_FAILED, conn=n) for n, peer in enumerate(peers, 1)]
    no_live = entry(2, line=4, peer="be", kind=LogKind.NO_LIVE_UPSTREAMS, conn=9)
    (chain,) = join_logs([], SPAN, [*failed, no_live], (), settings, zone_s=0).chains
    assert [(k.peer, k.absence, k.entry.line) for k in chain.links] == [
        (peer, Absence.DISABLED, n) for n, peer in enumerate(peers, 1)
    ]
    assert chain.is_complete
