"""The Python API of what-if."""

import pytest

import pcapdiag
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

CASE = ROOT / "captures" / "idle_close_race_before"
INPUTS = {
    "access_logs": [CASE / "access.log"],
    "error_logs": [CASE / "error.log"],
    "proxy_conf": CASE / "nginx.conf",
}


def test_cases_are_scenarios():
    result = pcapdiag.what_if(CASE / "proxy.pcap", **INPUTS, cases=["max_fails=0"], recommend=True)
    observed, replayed, asked = result.answer.scenarios
    assert observed.client_failures.expected == 12
    assert abs(replayed.client_failures.expected - 12) < 3
    assert asked.no_live_upstreams.high == 0
    assert result.answer.recommendation.settings == {"proxy.keepalive_timeout": "3s"}
    assert result.report.findings is not None


@pytest.mark.parametrize("given", [{"access_logs": ["haproxy.log"]}, {"proxy_conf": "haproxy.cfg"}])
def test_a_proxy_without_a_model_is_not_replayed_as_if_it_were_nginx(given):
    folder = ROOT / "captures" / "haproxy_as_proxy"
    inputs = {key: [folder / n for n in v] if isinstance(v, list) else folder / v for key, v in given.items()}
    with pytest.raises(pcapdiag.UsageError, match="of HAProxy there is no model"):
        pcapdiag.what_if(folder / "proxy.pcap", **inputs)


def test_without_a_configuration_requests_go_where_they_went():
    result = pcapdiag.what_if(CASE / "proxy.pcap", cases=["proxy.keepalive_timeout=3s"])
    assert result.answer.scenarios[2].lost_tries.high == 0
    assert any("no configuration was given" in text for text in result.answer.model.assumptions)
    with pytest.raises(pcapdiag.UsageError, match="--proxy-conf"):
        pcapdiag.what_if(CASE / "proxy.pcap", cases=["max_fails=0"])
