"""Lines of an Application Load Balancer, as AWS documents them."""

import pytest

from pcapdiag.proxy.logs.alb_log import ALB_LOG
from pcapdiag.proxy.logs.entries import LogKind

LOST = (
    "http 2026-11-03T09:00:05.905250Z app/lb-x/50dc6c495c0c9188 198.51.100.9:2817 10.31.9.40:3000 0.000 0.001 -1 502 -"
    ' 34 366 "POST http://app.example:80/orders/9 HTTP/1.1" "curl/8" - - arn:aws:elasticloadbalancing:x "Root=1-5"'
    ' "-" "-" 0 2026-11-03T09:00:05.905000Z "forward" "-" "-" "10.31.9.40:3000" "-" "-" "-"'
)
END_NS = 1_793_696_405_905_250_000


def read(line):
    return ALB_LOG.read("alb.log", 5, line)


def test_a_lost_request_is_told_with_all_that_its_line_says():
    entry = read(LOST).entry
    assert (entry.kind, entry.upstream_peer, entry.client) == (
        *(LogKind.TRY_FAILED, "10.31.9.40:3000"),
        "198.51.100.9:2817",
    )
    assert (entry.ts_ns, entry.width_ns) == (END_NS, 1000)
    assert (entry.method, entry.target, entry.upstream_uri) == (
        *("POST", "http://app.example:80/orders/9"),
        "/orders/9",
    )


def test_every_line_is_a_request_of_the_access_log_too():
    access = read(LOST).access
    assert (access.ts_ns, access.status, access.request_time_ns) == (END_NS, 502, 1_000_000)
    assert [(t.addr, t.status, t.header_time_ns) for t in access.tries] == [("10.31.9.40:3000", 502, -1)]


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("-1 502 -", "-1 504 -", LogKind.TIMED_OUT),
        ("-1 502 -", "-1 460 -", LogKind.CLIENT_CLOSED),
        ("-1 502 -", "0.000 502 502", None),  # the target's own answer
        ("-1 502 -", "0.000 200 200", None),
        ("10.31.9.40:3000 0.000 0.001 -1 502 -", "- -1 -1 -1 503 -", LogKind.NO_SERVER),
        ("10.31.9.40:3000 0.000 0.001 -1 502 -", "- -1 -1 -1 403 -", None),  # answered by a rule
        ("10.31.9.40:3000 0.000 0.001 -1 502 -", "- -1 -1 -1 502 -", None),  # a function, no target
    ],
)
def test_both_statuses_and_the_target_say_what_happened(old, new, kind):
    entry = read(LOST.replace(old, new)).entry
    assert (entry.kind if entry else None) == kind


def test_a_client_that_left_is_counted_as_one_that_gave_up():
    assert read(LOST.replace("-1 502 -", "-1 460 -")).access.status == 499


@pytest.mark.parametrize("line", ["", "http 2026-13-03T09:00:05Z a b c", LOST[:60], LOST.replace("2026-11", "2026-13")])
def test_other_lines_are_no_lines_of_it(line):
    assert read(line) is None
