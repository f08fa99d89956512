"""Regular checks of a proxy are told from what clients asked for: by their pace, and by what they carry."""

import pytest

from pcapdiag.analysis.build import build_analysis
from pcapdiag.analysis.checks import check_intervals
from pcapdiag.base.findings import Severity
from pcapdiag.base.units import NS_PER_MS
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.rules.diagnose import diagnose
from tests.scenario import parse, write_capture

OPENED = ("> S", "< S.", "> .")
BARE = (*OPENED, "> R.")
REFUSED = ("> S", "< R.")
ANSWERED = '< P. "HTTP/1.1 {} X\\r\\nContent-Length: 0\\r\\n\\r\\n"'


def asked(request, *, status=200, end="> F."):
    head = f'> P. "{request} HTTP/1.0\\r\\nHost: a\\r\\n\\r\\n"'
    return (*OPENED, head, *((ANSWERED.format(status),) if status else ()), end)


def script_of(connections):
    """Return the script of connections, each its start in ms, its number and its lines 0.2 ms apart."""
    lines = []
    for number, (at_ms, conn_lines) in enumerate(connections):
        for step, line in enumerate(conn_lines):
            lines.append((round(at_ms * 1000) + 200 * step, number, line))
    text, now = [], 0
    for at_us, number, line in sorted(lines, key=lambda item: item[:2]):
        text.append(f"+{(at_us - now) / 1e6:.6f} @{number} {line}")
        now = at_us
    return "\n".join(text)


def analysis_of(tmp_path, connections):
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(script_of(sorted(connections, key=lambda c: c[0])))))
    return build_analysis(group_captures([str(path)]))


def paces_of(tmp_path, connections):
    return [round(ns / NS_PER_MS) for ns in check_intervals(analysis_of(tmp_path, connections)).tolist()]


def every(interval_ms, lines, n, first_ms=0.0):
    """Return connections at a pace; one of them is two milliseconds late, as timers are."""
    return [(first_ms + number * interval_ms + 2 * (number == 2), lines) for number in range(n)]


def test_what_opens_without_a_byte_at_a_pace_is_a_check_and_so_is_the_refused_attempt_in_step(tmp_path):
    up = every(500, BARE, 6)
    down = every(500, REFUSED, 4, 3000)
    assert paces_of(tmp_path, up + down) == [500] * 10
    before = every(500, REFUSED, 4)
    assert paces_of(tmp_path, before + every(500, BARE, 6, 2000)) == [500] * 10


def test_an_attempt_beside_the_pace_is_no_check(tmp_path):
    up, down = every(500, BARE, 6), every(500, REFUSED, 4, 3000)
    # A request that is tried again after a second each: 70 ms and more beside the checks.
    retried = [(3090 + 1001 * number, REFUSED) for number in range(2)]
    together = sorted([*((c, 500) for c in up + down), *((c, 0) for c in retried)], key=lambda pair: pair[0][0])
    assert paces_of(tmp_path, up + down + retried) == [pace for _, pace in together]


@pytest.mark.parametrize(
    "connections",
    [
        every(500, BARE, 3),  # too few
        [(at, BARE) for at in (0, 130, 700, 790, 1900, 2500)],  # at no pace
        every(500, REFUSED, 10),  # a client that tries again and again looks the same
        every(500, (*OPENED, "< R."), 6),  # closed by the server
        every(500, asked("GET /health"), 8),  # a client that asks regularly, on connections of its own
        every(500, asked("OPTIONS /api/users"), 8),
        every(500, asked("POST /"), 8),
    ],
)
def test_what_may_be_a_client_s_is_no_check(tmp_path, connections):
    assert set(paces_of(tmp_path, connections)) == {0}


def test_options_of_the_root_at_a_pace_are_haproxy_s(tmp_path):
    assert paces_of(tmp_path, every(2000, asked("OPTIONS /"), 5)) == [2000] * 5
    refused = [*every(2000, asked("OPTIONS /"), 5), *((at, REFUSED) for at in (10000, 10700, 12000))]
    assert paces_of(tmp_path, refused) == [*([2000] * 6), 0, 2000]


def reusing(n):
    pair = ('> P. "GET /a HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"', ANSWERED.format(200))
    return (*OPENED, *(pair * n), "> F.")


def test_a_get_at_a_pace_is_a_check_only_beside_requests_that_reuse_connections(tmp_path):
    checks = every(2000, asked("GET /health"), 5)
    assert paces_of(tmp_path, [*checks, (700, reusing(4))]) == [2000, 0, 2000, 2000, 2000, 2000]
    assert set(paces_of(tmp_path, [*checks, (700, reusing(1))])) == {0}
    # The same request on a connection that is used again is a client's.
    again = (asked("GET /health")[3], ANSWERED.format(200))
    mixed = (*OPENED, *(again * 3), "> F.")
    assert set(paces_of(tmp_path, [*checks, (700, mixed)])) == {0}


def test_refused_checks_failed_no_client_and_a_refused_request_beside_them_did(tmp_path):
    connections = every(500, BARE, 6) + every(500, REFUSED, 4, 3000) + [(3090, REFUSED)]
    found = [f for f in diagnose(analysis_of(tmp_path, connections)).findings if f.code == "PD301"]
    assert [(f.severity, f.count) for f in found] == [(Severity.ERROR, 1), (Severity.INFO, 4)]
    assert "the pace of a health check, one about every 500 ms" in found[1].message
    assert "health check" not in found[0].message
    assert found[1].identifier.endswith("/check")


@pytest.mark.parametrize(("status", "code"), [(503, "PD403"), (0, "PD206")])
def test_checks_of_http_that_failed_are_no_requests_of_clients(tmp_path, status, code):
    connections = every(2000, asked("OPTIONS /"), 5) + every(2000, asked("OPTIONS /", status=status), 3, 10000)
    found = [f for f in diagnose(analysis_of(tmp_path, connections)).findings if f.count == 3]
    assert [f.severity for f in found] == [Severity.INFO], code
    assert "health check" in found[0].message
