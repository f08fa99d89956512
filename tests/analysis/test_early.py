"""Early answers are losses where the log says so, and no others."""

from pathlib import Path

import pytest

import pcapdiag
from tests.scenario import parse, write_capture

CASES = Path(__file__).parents[2] / "captures"


def losses_of(name, *logs):
    folder = CASES / name
    analysis = pcapdiag.analyze(folder / "proxy.pcap", error_logs=[str(folder / log) for log in logs]).analysis
    return len(analysis.losses), len(analysis.early)


def test_without_a_log_nobody_knows():
    assert losses_of("fastcgi_early_answer") == (0, 1)


def test_the_log_says_that_the_answer_was_lost():
    assert losses_of("fastcgi_early_answer", "error.log") == (1, 0)


def test_a_log_that_nothing_ties_to_the_capture_is_no_testimony(tmp_path):
    log = tmp_path / "error.log"
    log.write_text("2026/11/03 09:00:00 [notice] 31#31: signal process started\n")
    case = CASES / "fastcgi_early_answer" / "proxy.pcap"
    report = pcapdiag.analyze(case, error_logs=[str(log)])
    assert not report.analysis.losses
    assert [f.code for f in report.found if f.severity] == ["PD207"]
    assert [f.severity.name for f in report.found if f.code == "PD207"] == ["WARNING"]


OPEN = "+{at} @{n} > S\n+0.0004 @{n} < S.\n+0.0001 @{n} > .\n"
POST = (
    '+0.01 @{n} > P. "POST /up HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 60\\r\\n\\r\\n01234567890123456789"\n'
    '+0.01 @{n} < P. "HTTP/1.1 413 Too Large\\r\\nContent-Length: 2\\r\\n\\r\\nno"\n+0.0001 @{n} < F.\n'
    '+0.0001 @{n} > P. "01234567890123456789"\n+0.0001 @{n} < R\n'
)
ORDERLY = (
    '+0.01 @{n} > P. "POST /up HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 2\\r\\n\\r\\nok"\n'
    '+0.01 @{n} < P. "HTTP/1.1 413 Too Large\\r\\nContent-Length: 2\\r\\n\\r\\nno"\n+1 @{n} > F.\n+0.0001 @{n} < F.\n'
)
LINE = '192.0.2.7 - - [14/Nov/2023:{clock} +0000] "{request}" {status} 2 "-" "curl"\n'


def line(clock="22:13:20", request="POST /up HTTP/1.1", status=413):
    return LINE.format(clock=clock, request=request, status=status)


def early(at=0, n=0):
    return (OPEN + POST).format(at=at, n=n)


@pytest.fixture
def left_of(tmp_path):
    """Return a function that returns the early answers that may be lost, by their connection, and what is said."""

    def run(script, access, **inputs):
        (tmp_path / "a.pcap").write_bytes(write_capture(parse(script), container="pcap-ns"))
        (tmp_path / "access.log").write_text(access)
        logs = [str(tmp_path / "access.log")] if access else []
        report = pcapdiag.analyze(tmp_path / "a.pcap", access_logs=logs, proxies=["10.9.0.100"], **inputs)
        said = " ".join(f.message for f in report.found if f.code == "PD207")
        return [loss.connection.conn for loss in report.analysis.early], said

    return run


def test_without_any_log_its_answer_may_be_lost(left_of):
    left, said = left_of(early(), "")
    assert left == [0]
    assert "The proxy's log would tell" in said


@pytest.mark.parametrize("clock", ["22:13:20", "22:13:21", "22:13:19"])
def test_a_status_that_reached_the_client_was_read(left_of, clock):
    assert left_of(early(), line(clock)) == ([], "")


NEAR = {
    "another status": line(status=401),
    "a failure": line(status=502),
    "another target": line(request="POST /other HTTP/1.1"),
    "another method": line(request="PUT /up HTTP/1.1"),
    "a minute later": line("22:14:20"),
}


@pytest.mark.parametrize("access", NEAR.values(), ids=NEAR)
def test_a_line_of_something_else_tells_nothing_of_it(left_of, access):
    left, said = left_of(early(), access)
    assert left == [0]
    assert "The logs that were given do not tell" in said


def test_of_several_the_one_beside_the_line_was_read(left_of):
    script = early() + early(at=1.5, n=1) + early(at=1.5, n=2)
    assert left_of(script, line("22:13:21") + line("22:13:23", status=502))[0] == [0, 2]


def test_a_line_that_another_answer_needs_tells_nothing_of_it(left_of):
    script = early() + (OPEN + ORDERLY).format(at=0, n=1)
    assert left_of(script, line())[0] == [0]
    assert left_of(script, line() + line())[0] == []


HTTPD = (
    "[Tue Nov 14 22:13:20.{us} 2023] [{module}:error] [pid 6229:tid 6244] {status}[client 192.0.2.2:34462] {code}:"
    " pass request body failed to 10.9.0.1:80 (10.9.0.1){more}\n"
)


def test_what_httpd_says_twice_of_one_request_is_one_lost_answer(tmp_path):
    (tmp_path / "a.pcap").write_bytes(write_capture(parse(early()), container="pcap-ns"))
    log = HTTPD.format(us="021000", module="proxy", status="(32)Broken pipe: ", code="AH01084", more="")
    log += HTTPD.format(us="021040", module="proxy_http", status="", code="AH01097", more=" from 192.0.2.2 ()")
    (tmp_path / "error.log").write_text(log)
    report = pcapdiag.analyze(tmp_path / "a.pcap", error_logs=[str(tmp_path / "error.log")])
    assert [(f.code, f.count) for f in report.found if f.severity] == [("PD207", 1)]
    assert [e["verdict"] for e in report.to_json()["log"]["entries"]] == ["explained", "explained"]


def test_an_early_answer_is_found_lost_beside_other_failures(tmp_path):
    lost = '+1 @1 > P. "GET /x HTTP/1.1\\r\\n\\r\\n"\n+0.01 @1 < .\n+0.01 @1 < F.\n+0.0001 @1 > F.\n'
    script = early() + OPEN.format(at=0, n=1) + lost
    (tmp_path / "a.pcap").write_bytes(write_capture(parse(script), container="pcap-ns"))
    entry = (
        '2023/11/14 22:13:{} [error] 7#7: *{} {}, client: 192.0.2.2, server: a, request: "{} HTTP/1.1", '
        'upstream: "http://10.9.0.1:80{}", host: "a"\n'
    )
    sent = "writev() failed (32: Broken pipe) while sending request to upstream"
    closed = "upstream prematurely closed connection while reading response header from upstream"
    log = entry.format(20, 1, sent, "POST /up", "/up") + entry.format(21, 2, closed, "GET /x", "/x")
    (tmp_path / "error.log").write_text(log)
    report = pcapdiag.analyze(tmp_path / "a.pcap", error_logs=[str(tmp_path / "error.log")])
    assert sorted((f.code, f.count) for f in report.found if f.severity) == [("PD201", 1), ("PD207", 1)]
    assert "the proxy lost that answer, its log says" in next(f.message for f in report.found if f.code == "PD207")
