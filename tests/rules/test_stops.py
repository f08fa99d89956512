"""Who ended a request that the proxy closed: the proxy itself, its client, or nobody knows."""

from datetime import UTC, datetime

import pytest

from pcapdiag.api.analyze import analyze
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import END, Scene, acknowledged, fin, proxy_fin
from tests.scenario import parse, write_capture

_ANSWERED = (
    '+0.01 @{c} > P. "GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"\n'
    '+0.01 @{c} < P. "HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n"\n'
    "+0.001 @{c} > .\n"
)


def _opened(conn):
    return f"+0.1 @{conn} > S\n+0.001 @{conn} < S.\n+0 @{conn} > .\n" + _ANSWERED.format(c=conn)


def _finding(tmp_path, idle_closed, idle_kept, **given):
    """Return the PD206 of one request in flight, closed with some idle connections while others stay."""
    n = idle_closed + idle_kept
    script = "".join(_opened(conn) for conn in range(n + 1))
    script += '+3 > P. "GET /slow HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"\n+0.0004 < .\n+0.337 > F.\n'
    script += "".join(f"+0.0003 @{conn} > F.\n" for conn in range(1, idle_closed + 1))
    script += "+0.0004 < .\n"
    script += "".join(_ANSWERED.format(c=conn) for conn in range(idle_closed + 1, n + 1))
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(script)))
    report = analyze(path, proxies=["10.9.0.100"], **given).report
    (finding,) = [f for f in report.findings if f.code == "PD206"]
    return finding


@pytest.mark.parametrize(
    ("idle_closed", "idle_kept", "is_stop"), [(1, 0, True), (2, 0, True), (5, 1, True), (1, 1, False), (0, 2, False)]
)
def test_a_proxy_that_closes_all_it_has_in_one_moment_stopped(tmp_path, idle_closed, idle_kept, is_stop):
    finding = _finding(tmp_path, idle_closed, idle_kept)
    assert ("most likely it stopped or was reloaded" in finding.message) == is_stop
    assert ("the packets do not tell which" in finding.message) != is_stop
    assert "499" not in finding.message


def test_an_nginx_that_lets_requests_finish_and_goes_on_was_left_by_its_client(tmp_path):
    conf = tmp_path / "nginx.conf"
    block = "http { upstream u { server 10.9.0.1:80; } server { location / { proxy_pass http://u; } } }\n"
    conf.write_text(block)
    assert "client most likely went away" in _finding(tmp_path, 0, 2, proxy_conf=conf).message
    conf.write_text("worker_shutdown_timeout 2s;\n" + block)
    finding = _finding(tmp_path, 0, 2, proxy_conf=conf)
    assert "do not tell which" in finding.message
    assert f"worker_shutdown_timeout 2s ({conf}:1)" in finding.remedy


@pytest.mark.parametrize(
    ("status", "words"),
    [("000", "without any answer (000)"), ("499", "client most likely went away"), ("200", "do not tell which")],
)
def test_the_access_log_tells_who_ended_the_requests_of_that_second(tmp_path, status, words):
    finding = _finding(tmp_path, 0, 1)
    at = finding.occurrences[0].request_ts_ns // 10**9
    stamps = [datetime.fromtimestamp(at + k, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000") for k in range(2)]
    log = tmp_path / "access.log"
    log.write_text("".join(f'10.1.1.1 - - [{t}] "GET /slow HTTP/1.1" {status} 0 "-" "curl"\n' for t in stamps))
    assert words in _finding(tmp_path, 0, 1, access_logs=[log]).message


def test_a_request_that_a_server_broke_off_is_no_stop_of_haproxy(tmp_path):
    """Its line has no status, as those of nginx that ended with their worker."""
    finding = _finding(tmp_path, 0, 1)
    at = finding.occurrences[0].request_ts_ns // 10**9
    stamps = [datetime.fromtimestamp(at + k, UTC).strftime("%d/%b/%Y:%H:%M:%S.000") for k in range(2)]
    log = tmp_path / "haproxy.log"
    log.write_text(
        "".join(
            f'10.1.1.1:4 [{t}] web app/s9 0/0/1/-1/9 -1 0 - - SD-- 1/1/0/0/0 0/0 "POST /a HTTP/1.1"\n' for t in stamps
        )
    )
    result = _finding(tmp_path, 0, 1, error_logs=[log], log_zone="UTC")
    assert "do not tell which" in result.message


@pytest.mark.parametrize(
    ("answer", "is_taken"),
    [(fin(1.2, ack=END + 1), True), (fin(1.2, ack=END), False)],
    ids=["behind-the-fin", "crossing-it"],
)
def test_a_server_that_closes_behind_a_half_close_is_said_to_have_had_all(answer, is_taken):
    scene = Scene()
    loss = scene.lost(proxy_fin(0.1), acknowledged(1), answer, depth=0)
    messages = [f.message + f.remedy for f in diagnose(scene.analysis(loss)).findings if f.code == "PD206"]
    assert any("and that FIN, and closed without an answer" in text for text in messages) is is_taken
    assert any("keeps its side open" in text for text in messages) is is_taken
