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


def test_without_a_configuration_requests_go_where_they_went():
    result = pcapdiag.what_if(CASE / "proxy.pcap", cases=["proxy.keepalive_timeout=3s"])
    assert result.answer.scenarios[2].lost_tries.high == 0
    assert any("no configuration was given" in text for text in result.answer.model.assumptions)
    with pytest.raises(pcapdiag.UsageError, match="--proxy-conf"):
        pcapdiag.what_if(CASE / "proxy.pcap", cases=["max_fails=0"])
