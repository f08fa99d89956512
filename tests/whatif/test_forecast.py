"""A forecast without a capture."""

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.whatif.forecast import forecast_groups, parse_idle

pytestmark = pytest.mark.slow

CONF = """
events {}
http {
  log_format t '$msec "$upstream_addr" "$upstream_status" "$upstream_response_time" "$upstream_connect_time"'
               ' $status $request_time $remote_addr "$request"';
  upstream be { server 10.0.0.1:80; server 10.0.0.2:80 backup; keepalive 8; keepalive_timeout 60s; }
  server { location / { proxy_pass http://be; proxy_http_version 1.1; proxy_set_header Connection ""; } }
}
"""
FORMAT = (
    '$msec "$upstream_addr" "$upstream_status" "$upstream_response_time" "$upstream_connect_time" $status $request_time'
    ' $remote_addr "$request"'
)
LINES = """\
1700000000.400 "10.0.0.1:80" "200" "0.300" "0.100" 200 0.300 192.0.2.1 "GET / HTTP/1.1"
1700000009.400 "10.0.0.1:80" "200" "0.200" "0.000" 200 0.200 192.0.2.1 "GET / HTTP/1.1"
1700000019.400 "be" "502" "0.000" "-" 502 0.000 192.0.2.1 "GET / HTTP/1.1"
"""


@pytest.fixture
def groups_of(tmp_path):
    def build(lines=LINES, log_format=FORMAT, conf=CONF):
        (tmp_path / "nginx.conf").write_text(conf)
        (tmp_path / "access.log").write_text(lines)
        settings = read_proxy_conf(str(tmp_path / "nginx.conf"), version="")
        return forecast_groups(
            settings, lambda: read_access_log(str(tmp_path / "access.log"), log_format), 5 * NS_PER_S, 0, "five seconds"
        )

    return build


@pytest.mark.parametrize(
    ("text", "timeout_s", "is_late"),
    [("5s", 5, False), ("300ms", 0.3, False), ("Uvicorn", 5, False), ("uvicorn", 5, False), ("lighttpd", 5, True)],
)
def test_an_idle_time_or_the_name_of_a_server_is_read(text, timeout_s, is_late):
    timeout_ns, late_ns, said = parse_idle(text)
    assert timeout_ns == timeout_s * NS_PER_S
    assert (late_ns > 0) is is_late
    assert said


def test_a_server_that_is_not_known_gets_the_list():
    with pytest.raises(UsageError, match="Uvicorn"):
        parse_idle("no such server")


def test_requests_and_round_trip_come_from_the_log(groups_of):
    (group,) = groups_of()
    assert [peer.is_backup for peer in group.settings.peers] == [False, True]
    assert len(group.arrivals.requests) == 3
    assert {place.rtt_ns for place in group.places} == {100_000_000}
    assert {place.timeout_ns for place in group.places} == {5 * NS_PER_S}
    assert group.observed["client_502"] == 1
    assert group.observed["no_live_upstreams"] == 1
    assert any("five seconds" in text for text in group.assumptions)


def test_a_log_that_names_no_upstream_goes_to_the_only_group_and_says_so(groups_of):
    lines = '1700000000.400 200 0.300 192.0.2.1 "GET / HTTP/1.1"\n'
    (group,) = groups_of(lines, '$msec $status $request_time $remote_addr "$request"')
    assert len(group.arrivals.requests) == 1
    assert any("does not name upstreams" in text for text in group.assumptions)
    assert any("tells no round trip" in text for text in group.assumptions)


def test_a_log_that_does_not_say_when_requests_began_is_no_help(groups_of):
    assert groups_of('1700000000.400 200 192.0.2.1 "GET / HTTP/1.1"\n', '$msec $status $remote_addr "$request"') == ()
