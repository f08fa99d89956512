"""Entries are counted by kind and upstream; what a server or client wrote is no part of the words."""

import pytest

from pcapdiag.proxy.join.symptoms import Symptom
from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.error_log import parse_record
from pcapdiag.triage.tally import MOST_ROWS, AccessTally, Tally

TAIL = ', client: 192.0.2.2, server: a, request: "GET /s?token=hush HTTP/1.1", upstream: "http://{}/s", host: "a"'
CLOSED = "upstream prematurely closed connection while reading response header from upstream"
NONE_LEFT = "no live upstreams while connecting to upstream"


def record(second, message, peer="10.1.1.1:80", level="error"):
    at = f"2026/11/20 23:{second // 60:02}:{second % 60:02}"
    (entry,) = parse_record(f"{at} [{level}] 7#7: *1 {message}{TAIL.format(peer)}")
    return entry


@pytest.fixture
def tally():
    return Tally(lambda _name: (10, "nginx.conf:3"))


def count(tally, *entries):
    for entry in entries:
        tally.add(entry)
    return tally


def test_the_same_message_about_the_same_upstream_is_one_row(tally):
    count(tally, record(1, CLOSED), record(9, CLOSED), record(5, CLOSED), record(7, CLOSED, "10.1.1.2:80"))
    rows = {key[3]: (row.count, row.last_s - row.first_s) for key, row in tally.rows.items()}
    assert rows == {"10.1.1.1:80": (3, 8), "10.1.1.2:80": (1, 0)}
    assert tally.symptoms == {(Symptom.CLOSED, "reading response header from upstream"): 4}


def test_what_is_said_again_of_a_failed_try_counts_once(tally):
    disabled = "upstream server temporarily disabled while reading response header from upstream"
    count(tally, record(1, CLOSED), record(1, disabled, level="warn"))
    assert (tally.failures, tally.disabled) == (1, 1)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ('upstream sent invalid header: "X-Secret: hush\\x00" while reading response header from upstream', "invalid"),
        ('FastCGI sent in stderr: "PHP message: hush" while reading response header from upstream', ""),
        ("connect() failed (111: Connection refused) while connecting to upstream", "(111: Connection refused)"),
    ],
)
def test_what_somebody_wrote_is_no_part_of_the_words(tally, message, words):
    count(tally, record(1, message))
    said = " ".join(row.words for row in tally.rows.values())
    assert "hush" not in said
    assert words in said


def test_requests_without_a_server_follow_failures_within_the_window(tally):
    count(tally, record(0, CLOSED), record(10, NONE_LEFT, "be"), record(11, NONE_LEFT, "be"))
    count(tally, record(12, NONE_LEFT, "be"))
    (group,) = tally.groups.values()
    assert (group.row.count, group.after_failures, dict(group.peers)) == (3, 2, {"10.1.1.1:80": 2})
    tally.begin_log()
    count(tally, record(1, NONE_LEFT, "be"))
    assert (group.row.count, group.after_failures) == (4, 2)


def test_rows_are_bounded_and_what_is_left_out_is_counted(tally):
    count(tally, *(record(n % 3000, CLOSED, f"10.1.{n >> 8}.{n & 255}:80") for n in range(MOST_ROWS + 7)))
    assert (len(tally.rows), tally.left_out, tally.failures) == (MOST_ROWS, 7, MOST_ROWS + 7)


def test_lines_of_an_access_log_are_counted_by_status_and_connection(tmp_path):
    path = tmp_path / "access.log"
    form = '$msec $status "$upstream_addr" "$upstream_status" "$upstream_connect_time" "$request"'
    lines = [
        ("200", "10.1.1.1:80", "200", "0.001"),
        ("502", "10.1.1.1:80", "502", "0.004"),
        ("200", "10.1.1.1:80, 10.1.1.2:80", "502, 200", "0.000, 0.001"),
        ("504", "10.1.1.1:80", "504", "-"),
        ("499", "10.1.1.1:80", "-", "0.000"),
    ]
    path.write_text(
        "".join(f'1795219518.{n} {s} "{a}" "{u}" "{c}" "GET / HTTP/1.1"\n' for n, (s, a, u, c) in enumerate(lines))
    )
    accesses = AccessTally()
    for entry in read_access_log(str(path), form):
        accesses.add(entry)
    assert (accesses.requests, dict(accesses.by_status), accesses.failures) == (5, {502: 1, 504: 1, 499: 1}, 2)
    assert (accesses.tries, accesses.new) == (2, 1)
