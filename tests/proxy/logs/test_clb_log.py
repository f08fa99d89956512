"""Lines of Classic Load Balancers, as AWS documents them."""

import pytest

from pcapdiag.proxy.logs.clb_log import CLB_LOG
from pcapdiag.proxy.logs.entries import LogKind

K = LogKind
GOOD = (
    "2026-11-03T23:39:43.945958Z my-loadbalancer 192.0.2.39:2817 10.0.0.1:80 0.000073 0.001048 0.000057 200 200 0 29"
    ' "GET http://www.example.com:80/a HTTP/1.1" "curl/7.38.0" - -'
)
END_NS = 1_793_749_183_945_958_000 + 1_178_000


def read(line):
    return CLB_LOG.read("clb.log", 1, line)


def test_a_line_is_stamped_with_its_beginning_and_tells_its_end():
    entry, access = read(GOOD)
    assert entry is None
    assert (access.ts_ns, access.ts_width_ns, access.status, access.target) == (
        END_NS,
        1000,
        200,
        "http://www.example.com:80/a",
    )
    assert access.tries[0].addr == "10.0.0.1:80"


@pytest.mark.parametrize(
    ("instance", "times", "statuses", "kind"),
    [
        ("10.0.0.1:80", "0.00007 -1 -1", "502 0", K.TRY_FAILED),
        ("10.0.0.1:80", "0.00007 -1 -1", "502 -", K.TRY_FAILED),
        ("10.0.0.1:80", "0.00007 0.1 0.0", "502 502", None),
        ("10.0.0.1:80", "0.00007 -1 -1", "504 0", K.TRY_FAILED),
        ("-", "-1 -1 -1", "503 0", K.NO_SERVER),
        ("10.0.0.1:80", "-1 -1 -1", "503 0", None),
        ("-", "-1 -1 -1", "504 0", None),
        ("-", "-1 -1 -1", "400 0", None),
    ],
)
def test_a_status_without_the_instances_is_a_failure(instance, times, statuses, kind):
    line = GOOD.replace("10.0.0.1:80 0.000073 0.001048 0.000057 200 200", f"{instance} {times} {statuses}")
    entry = read(line).entry
    assert (entry.kind if entry else None) is kind
    if entry is not None:
        assert entry.width_ns == 61_000_000_000
        assert entry.upstream_uri == "/a"


def test_what_was_no_request_has_no_method():
    access = read(GOOD.replace("GET http://www.example.com:80/a HTTP/1.1", "- - - ")).access
    assert (access.method, access.target) == ("", "")


@pytest.mark.parametrize("line", ["", GOOD[:60], GOOD.replace("my-loadbalancer", "my balancer"), f"http {GOOD}"])
def test_other_lines_are_none_of_it(line):
    assert not CLB_LOG.is_record(line)
    assert read(line) is None
