"""Logs of other proxies are recognised by their lines, and by nothing else."""

import gzip

import pytest

from pcapdiag.proxy.logs.foreign import APACHE, HAPROXY, recognise_log

APACHE_LINES = (
    "[Tue Dec 01 03:51:03.004325 2026] [mpm_event:notice] [pid 6228:tid 6228] AH00489: Apache/2.4.71 configured",
    "[Tue Dec 01 03:51:13.233325 2026] [proxy_http:error] [pid 6229:tid 6231] (20014)Internal error: AH01102: error",
    "[Tue Dec  1 03:51:14 2026] [proxy:error] [pid 6229] AH00898: Error reading from remote server returned by /api",
)
HAPROXY_LINE = (
    '192.0.2.2:42496 [01/Dec/2026:03:47:06.576] f b/s2 0/0/160/209/369 200 188 - - ---- 3/3/2/0/0 0/0 "GET /"'
)
NGINX_ERROR = '2026/12/01 03:47:06 [error] 9#9: *5 upstream prematurely closed connection, upstream: "http://10.1.1.1/"'
NGINX_ACCESS = '192.0.2.2 - - [01/Dec/2026:03:47:06 +0000] "GET / HTTP/1.1" 200 188 "-" "curl"'


@pytest.fixture
def log(tmp_path):
    def write(*lines, name="some.log"):
        path = tmp_path / name
        text = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return recognise_log(str(path))

    return write


def test_an_error_log_of_apache_is_recognised_and_its_codes_are_counted(log):
    found = log(*APACHE_LINES, *APACHE_LINES[1:2] * 3)
    assert (found.proxy, dict(found.codes)) == (APACHE, {"AH01102": 4, "AH00898": 1})


@pytest.mark.parametrize("prefix", ["", "Dec  1 03:47:06 lb haproxy[812]: ", "<134>Dec  1 03:47:06 haproxy[8]: "])
def test_a_log_of_haproxy_is_recognised_with_and_without_syslog(log, prefix):
    assert log(prefix + HAPROXY_LINE).proxy == HAPROXY
    assert log(prefix + HAPROXY_LINE, name="h.log.gz").proxy == HAPROXY


@pytest.mark.parametrize(
    "lines", [(), ("",), (NGINX_ERROR,), (NGINX_ACCESS,), (NGINX_ERROR, NGINX_ERROR, APACHE_LINES[0])]
)
def test_logs_of_nginx_and_nothing_are_nobody_elses(log, lines):
    assert log(*lines) is None


def test_a_log_that_is_not_there_is_nobodys(tmp_path):
    assert recognise_log(str(tmp_path / "none.log")) is None
    assert recognise_log(str(tmp_path)) is None


def test_hostile_lines_are_read_in_bounded_time(log):
    assert log("[" * 100_000, "1:" * 50_000, "\0" * 1000, "\x1b[31m" + "9" * 90_000) is None
