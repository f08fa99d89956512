"""Lines of HAProxy's log, as HAProxy 2.6 wrote them and as its manual has them."""

import pytest

from pcapdiag.proxy.logs.entries import BODY, CONNECTING, CUT_OFF, HEADER, SENDING, LogKind
from pcapdiag.proxy.logs.haproxy_log import HAPROXY_LOG

LOST = (
    "192.0.2.2:38016 [01/Dec/2026:03:47:16.927] f b/s1 0/0/0/-1/72 502 209 - - SH-- 5/5/2/0/0 0/0"
    ' {c20b3cbc-8a5e-47e1-b1aa-e962a335559d} "GET /api HTTP/1.1"'
)
END_NS = 1_796_096_836_999_000_000  # 03:47:16.927 and 72 ms


def read(line):
    return HAPROXY_LOG.read("haproxy.log", 12, line)


def test_a_lost_request_is_told_with_all_that_its_line_says():
    entry = read(LOST).entry
    assert (entry.kind, entry.action, entry.upstream_peer) == (LogKind.BROKEN, HEADER, "b/s1")
    assert (entry.ts_ns, entry.width_ns) == (END_NS, 2_000_000)
    assert (entry.client, entry.method, entry.target, entry.upstream_uri) == (
        *("192.0.2.2:38016", "GET", "/api"),
        "/api",
    )
    assert entry.extra == (("request_id", "c20b3cbc-8a5e-47e1-b1aa-e962a335559d"),)
    assert entry.message.startswith("SH--: the server closed or reset the connection before")


def test_every_line_is_a_request_of_the_access_log_too():
    access = read(LOST).access
    assert (access.ts_ns, access.request_time_ns, access.status) == (END_NS, 72_000_000, 502)
    assert [(t.addr, t.status, t.header_time_ns) for t in access.tries] == [("b/s1", 502, -1)]


def test_tries_that_were_repeated_are_counted_and_have_no_address():
    access = read(LOST.replace("-1/72 502 209 - - SH--", "9/72 200 209 - - ----").replace("0/0 0/0", "0/2 0/0")).access
    assert [(t.addr, t.status) for t in access.tries] == [("", 502), ("", 502), ("b/s1", 200)]


@pytest.mark.parametrize(
    ("state", "kind", "action"),
    [
        ("sH--", LogKind.TIMED_OUT, HEADER),
        ("SD--", LogKind.BROKEN, BODY),
        ("sD--", LogKind.TIMED_OUT, BODY),
        ("SC--", LogKind.NO_CONNECTION, CONNECTING),
        ("sC--", LogKind.TIMED_OUT, CONNECTING),
        ("SHVN", LogKind.BROKEN, HEADER),  # with persistence cookies
        ("PH--", LogKind.INVALID_RESPONSE, HEADER),
        ("CH--", LogKind.CLIENT_CLOSED, HEADER),
        ("CD--", LogKind.CLIENT_CLOSED, BODY),
        ("RC--", LogKind.NO_RESOURCES, CONNECTING),
    ],
)
def test_a_termination_state_says_who_ended_what(state, kind, action):
    entry = read(LOST.replace("SH--", state)).entry
    assert (entry.kind, entry.action) == (kind, action)


@pytest.mark.parametrize("state", ["----", "LR--", "PR--", "CR--", "cR--", "LH--", "CL--", "PT--", "--VN"])
def test_what_ended_at_no_server_is_no_entry(state):
    record = read(LOST.replace("SH--", state))
    assert record.entry is None
    assert record.access is not None


@pytest.mark.parametrize(
    ("state", "kind"),
    [("SC--", LogKind.NO_SERVER), ("sQ--", LogKind.QUEUED), ("CQ--", LogKind.QUEUED), ("PR--", None), ("SH--", None)],
)
def test_where_no_server_was_picked_nothing_was_sent(state, kind):
    entry = read(LOST.replace("SH--", state).replace("b/s1", "b/<NOSRV>")).entry
    assert (entry.kind if entry else None) == kind


def test_what_haproxy_answered_itself_is_no_try():
    record = read(LOST.replace("b/s1", "b/<STATS>"))
    assert (record.entry, record.access.tries) == (None, ())


def test_a_connection_without_a_request_is_none():
    assert read(LOST.replace("b/s1", "b/<NOSRV>").replace("SH--", "CR--").replace("GET /api HTTP/1.1", "<BADREQ>")) == (
        None,
        None,
    )


def test_a_client_that_left_without_an_answer_is_counted_as_one_that_gave_up():
    assert read(LOST.replace("-1/72 502 209 - - SH--", "-1/72 -1 0 - - CH--")).access.status == 499


@pytest.mark.parametrize(
    ("sent", "action", "status"),
    [(0, SENDING, CUT_OFF), (61, BODY, -1)],  # HAProxy 2.6 passed an early 413 on without reading its status
)
def test_of_an_upload_that_broke_the_client_got_what_was_sent_to_it(sent, action, status):
    record = read(LOST.replace("-1/72 502 209 - - SH--", f"-1/2 -1 {sent} - - SD--"))
    assert (record.entry.kind, record.entry.action, record.access.status) == (LogKind.BROKEN, action, status)


def test_a_line_written_before_the_end_says_nothing_of_the_end():
    record = read(LOST.replace("-1/72 502 209 - - SH--", "9/+72 200 +209 - - SD--"))
    assert record.entry is None


@pytest.mark.parametrize(
    "prefix", ["Dec  1 03:47:06 lb haproxy[812]: ", "<134>Dec  1 03:47:06 haproxy[8]: ", "pod-x haproxy "]
)
def test_whatever_a_collector_wrote_before_it_is_passed_over(prefix):
    assert read(prefix + LOST).entry == read(LOST).entry


def test_a_line_within_quotes_is_no_line():
    assert not HAPROXY_LOG.is_record(f'1.2.3.4 - - "GET / HTTP/1.1" 200 "{LOST}')


def test_a_request_that_was_cut_off_names_no_target_to_compare():
    entry = read(LOST.removesuffix(' HTTP/1.1"')).entry
    assert (entry.method, entry.target, entry.upstream_uri) == ("GET", "/api", "")


def test_a_target_with_its_host_is_compared_by_its_path():
    entry = read(LOST.replace("GET /api HTTP/1.1", "GET https://x.example/api HTTP/2.0")).entry
    assert (entry.target, entry.upstream_uri, entry.protocol) == ("https://x.example/api", "/api", "HTTP/2.0")


def test_the_order_of_fields_of_httpslog_and_ipv6_are_read():
    line = LOST.replace("192.0.2.2:38016", "2001:db8::2:38016") + " 0/0000000000000000/0/0/- -/-/-"
    assert read(line).entry.client == "2001:db8::2:38016"


@pytest.mark.parametrize(
    "line",
    [
        "192.0.2.2:38016 [01/Dec/2026:03:47:16.927] f/1: SSL handshake failure",
        "192.0.2.2:38016 [01/Dec/2026:03:47:16.927] f b/s1 0/0/72 209 SD 5/5/2/0/0 0/0",
        "Server b/s1 is DOWN, reason: Layer4 connection problem",
    ],
)
def test_notices_and_sessions_without_requests_are_understood_and_tell_of_none(line):
    assert read(line) == (None, None)
    assert not HAPROXY_LOG.is_record(line)


def test_a_date_that_does_not_exist_makes_no_line():
    assert read(LOST.replace("01/Dec", "41/Dec")) is None
