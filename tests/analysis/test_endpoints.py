"""What the operator names must be somewhere: in the capture, in the logs or in the configuration."""

import pytest

import pcapdiag
from pcapdiag.analysis.endpoints import check_endpoints
from pcapdiag.analysis.inputs import Inputs
from pcapdiag.base.errors import UsageError
from tests.conftest import ROOT

CASE = ROOT / "captures" / "idle_close_race_65s"


@pytest.fixture(scope="module")
def analysis():
    """Return the analysis of a race between 10.1.1.100 and its upstreams."""
    return pcapdiag.analyze(CASE / "proxy.pcap").analysis


@pytest.mark.parametrize(
    "given",
    [
        {"upstreams": ("10.1.1.1",)},
        {"upstreams": ("10.1.1.1:80", "10.1.1.2:80")},
        {"proxies": ("10.1.1.100",)},
        {"proxies": ("10.1.1.1",)},
        {},
    ],
)
def test_what_is_in_the_capture_may_be_named(analysis, given):
    check_endpoints(analysis, Inputs(**given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"upstreams": ("10.1.1.1:80", "10.9.9.9:80")},
            "--upstream 10.9.9.9:80: it is not in the capture. What answers",
        ),
        ({"upstreams": ("10.1.1.1:81",)}, "10.1.1.1:80"),
        ({"upstreams": ("10.1.1.100",)}, "10.1.1.1:80"),
        ({"upstreams": ("[2001:db8::1]:80",)}, "--upstream [2001:db8::1]:80"),
        ({"proxies": ("10.9.9.9",)}, "The addresses there: 10.1.1.100, "),
    ],
)
def test_what_is_nowhere_is_refused_with_those_that_are(analysis, given, said):
    with pytest.raises(UsageError) as refused:
        check_endpoints(analysis, Inputs(**given))
    assert said in str(refused.value)


def test_logs_and_configuration_may_name_what_the_capture_lacks(tmp_path):
    conf, log = tmp_path / "nginx.conf", tmp_path / "access.log"
    conf.write_text("events {}\nhttp {\n upstream be {\n  server 10.96.0.10:80;\n }\n}\n")
    log.write_text('1795218956.123 "10.97.0.10:80" "200" "0.1" "GET / HTTP/1.1" 200\n')
    line = '$msec "$upstream_addr" "$upstream_status" "$upstream_response_time" "$request" $status'
    result = pcapdiag.analyze(CASE / "proxy.pcap", proxy_conf=conf, access_logs=[log], log_format=line)
    for name in ("10.96.0.10:80", "10.97.0.10:80"):
        check_endpoints(result.analysis, Inputs(upstreams=(name,)))
    with pytest.raises(UsageError, match="neither in the capture nor in the logs nor in the configuration"):
        check_endpoints(result.analysis, Inputs(upstreams=("10.98.0.10:80",)))


@pytest.mark.parametrize("command", ["analyze", "slice"])
@pytest.mark.parametrize("option", [("--upstream", "10.9.9.9"), ("--proxy", "10.9.9.9")])
def test_the_command_ends_with_exit_2_and_writes_nothing(cli, tmp_path, command, option):
    output = tmp_path / "out"
    done = cli(command, CASE / "proxy.pcap", *option, "-o", output)
    assert done.returncode == 2
    assert "10.1.1.1" in done.stderr
    assert not output.exists()
