"""Lines of Apache httpd's error log about upstreams, as httpd 2.4 wrote them."""

import pytest

from pcapdiag.proxy.logs.entries import BODY, CONNECTING, HANDSHAKING, HEADER, SENDING, LogKind
from pcapdiag.proxy.logs.httpd_log import HTTPD_LOG

HEAD = "[Tue Dec 01 03:51:13.349124 2026] [proxy_http:error] [pid 6229:tid 6244] "
BY = "[client 192.0.2.2:34462] "
STATUS_LINE = "AH01102: error reading status line from remote server 10.1.1.1:80"
STAMP_NS = 1_796_097_073_349_124_000


def read(text):
    return HTTPD_LOG.read("error.log", 3, text)


def entry(text):
    return read(HEAD + text).entry


def test_a_failed_try_is_told_with_all_that_its_line_says():
    found = entry(f"(104)Connection reset by peer: {BY}{STATUS_LINE}, referer: http://x/ AH00957: ")
    assert (found.kind, found.action, found.errno_name) == (LogKind.RECV_FAILED, HEADER, "ECONNRESET")
    assert (found.ts_ns, found.width_ns) == (STAMP_NS, 1000)
    assert (found.pid, found.tid, found.level, found.client) == (6229, 6244, "error", "192.0.2.2:34462")
    assert found.upstream_peer == "10.1.1.1:80"
    assert found.message == f"{STATUS_LINE} (no status line could be read from the upstream)"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("(20014)Internal error (specific information not available): ", LogKind.BROKEN),
        ("(70014)End of file found: ", LogKind.PREMATURE_CLOSE),
        ("(70007)The timeout specified has expired: ", LogKind.TIMED_OUT),
        ("(104)Connection reset by peer: ", LogKind.RECV_FAILED),
        ("(103)Software caused connection abort: ", LogKind.BROKEN),
        ("", LogKind.BROKEN),
    ],
)
def test_the_status_before_a_message_says_what_happened(status, kind):
    assert entry(f"{status}{BY}{STATUS_LINE}").kind == kind
    assert entry(f"{BY}{status}{STATUS_LINE}").kind == kind


@pytest.mark.parametrize(
    ("text", "kind", "action", "peer"),
    [
        (
            "(111)Connection refused: AH00957: http: attempt to connect to 10.1.1.1:80 (app.internal:80) failed",
            *(LogKind.CONNECT_FAILED, CONNECTING, "10.1.1.1:80"),
        ),
        (
            "(70007)The timeout specified has expired: AH00957: HTTP: attempt to connect to 10.1.1.1:80 (app) failed",
            *(LogKind.TIMED_OUT, CONNECTING, "10.1.1.1:80"),
        ),
        (
            f"(32)Broken pipe: {BY}AH01084: pass request body failed to 10.1.1.1:80 (10.1.1.1)",
            *(LogKind.SEND_FAILED, SENDING, "10.1.1.1:80"),
        ),
        (
            f"{BY}AH02609: read request body failed to 10.1.1.1:80 (app) from 192.0.2.2 ()",
            *(LogKind.CLIENT_CLOSED, SENDING, "10.1.1.1:80"),
        ),
        (f"(104)Connection reset by peer: {BY}AH01110: error reading response", LogKind.RECV_FAILED, BODY, ""),
        ("[remote 10.1.1.1:443] AH02003: SSL Proxy connect failed", LogKind.TLS_FAILED, HANDSHAKING, "10.1.1.1:443"),
        (
            f"{BY}AH01102: error reading status line from remote server app.internal:8080",
            *(LogKind.BROKEN, HEADER, "app.internal:8080"),
        ),
        (
            f"{BY}AH01102: error reading status line from remote server [2001:db8::1]:80",
            *(LogKind.BROKEN, HEADER, "[2001:db8::1]:80"),
        ),
        (f"{BY}AH01102: error reading status line from remote server httpd-UDS:0", LogKind.BROKEN, HEADER, "unix:"),
        (f"{BY}AH00898: DNS lookup failure for: app returned by /api", LogKind.RESOLVE_FAILED, "", ""),
        ("AH00940: HTTP: disabled connection for (10.1.1.1:80)", LogKind.NO_SERVER, "", ""),
    ],
)
def test_a_message_says_what_failed_and_where(text, kind, action, peer):
    found = entry(text)
    assert (found.kind, found.action, found.upstream_peer) == (kind, action, peer)


def test_the_request_that_was_given_up_is_named_by_its_path():
    found = entry(f"{BY}AH00898: Error reading from remote server returned by /api/x")
    assert (found.kind, found.target, found.upstream_peer) == (LogKind.GIVEN_UP, "/api/x", "")


@pytest.mark.parametrize(
    "line",
    [
        "[Tue Dec 01 03:51:03.004325 2026] [mpm_event:notice] [pid 6228:tid 6228] AH00489: Apache/2.4.71 configured",
        "[Tue Dec  1 03:51:03 2026] [error] [client 192.0.2.2] File does not exist: /x AH01102: y",
        HEAD + "AH99999: something new",
    ],
)
def test_messages_about_no_upstream_are_understood_and_tell_of_none(line):
    assert read(line) == (None, None)


def test_stamps_of_whole_seconds_leave_the_second_open():
    found = read(f"[Tue Dec  1 03:51:13 2026] [proxy_http:error] [pid 6229] {BY}{STATUS_LINE}").entry
    assert (found.ts_ns, found.width_ns, found.tid) == (STAMP_NS // 10**9 * 10**9, 10**9, -1)


@pytest.mark.parametrize(
    "line", ["", "2026/12/01 03:51:13 [error] 9#9: *1 x", "[Tue Dec 41 03:51:13 2026] [a:error] x"]
)
def test_other_lines_are_no_lines_of_it(line):
    assert read(line) is None
