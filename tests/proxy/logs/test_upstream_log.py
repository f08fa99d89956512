"""Requests in the logs of applications."""

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.proxy.logs.upstream_log import read_upstream_log

RID = "67138b639e17ec9db1eeedfd3c766fa7"


def read(tmp_path, text, pattern=None):
    path = tmp_path / "app.log"
    path.write_text(text)
    log = read_upstream_log(str(path), pattern)
    return list(log), log.counts


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            f"1795219682.596676 pid=22482 rid={RID} GET /api peer=10.1.1.100:33088 ok",
            (1795219682_596676_000, 1000, True, RID, "GET", "/api", -1, "10.1.1.100:33088"),
        ),
        (
            f"1795219059.740359 rid={RID} /slow2 peer=10.1.1.100:33026",
            (1795219059_740359_000, 1000, True, RID, "", "/slow2", -1, "10.1.1.100:33026"),
        ),
        (
            'INFO:     10.1.1.100:33088 - "GET /api?a=1 HTTP/1.1" 200 OK',
            (-1, 0, False, "", "GET", "/api?a=1", 200, "10.1.1.100:33088"),
        ),
        (
            '2026-11-20 23:56:28,123 INFO [http] "POST /a HTTP/1.1" 503 - request_id="r-7-abc"',
            (1795218988_123_000_000, 10**6, False, "r-7-abc", "POST", "/a", 503, ""),
        ),
        (
            '10.1.1.100 -  20/Nov/2026:23:58:26 +0000 "GET /x.php" 200',
            (1795219106 * 10**9, 10**9, True, "", "GET", "/x.php", 200, "10.1.1.100"),
        ),
        (
            '10.1.1.100 - - [20/Nov/2026:23:58:26 +0100] "GET /a HTTP/1.1" 200 5 "-" "curl"',
            (1795215506 * 10**9, 10**9, True, "", "GET", "/a", 200, "10.1.1.100"),
        ),
        (
            '{"ts": 1795219106.5, "method": "GET", "path": "/a", "status": 200, "request_id": "r1"}',
            (1795219106_500_000_000, 10**8, True, "r1", "GET", "/a", 200, ""),
        ),
    ],
)
def test_a_request_is_recognised_whatever_the_format(tmp_path, line, expected):
    (entry,), _ = read(tmp_path, line + "\n")
    got = (entry.ts_ns, entry.ts_width_ns, entry.has_zone, entry.request_id)
    assert (*got, entry.method, entry.target, entry.status, entry.client) == expected


def test_lines_without_a_request_are_counted(tmp_path):
    text = "[2026-11-21 00:08:00 +0000] [22476] [INFO] Starting gunicorn 27.0.1\nTraceback\n"
    entries, counts = read(tmp_path, text)
    assert (entries, counts.n_unparsed) == ([], 2)


def test_a_pattern_may_be_a_regular_expression_or_a_format(tmp_path):
    text = "at 1795219106 id <r1> did PUT:/a = 204\nother\n"
    entries, counts = read(
        tmp_path, text, r"at (?P<time>\d+) id <(?P<request_id>\w+)> did (?P<method>\w+):(?P<target>\S+)"
    )
    assert [(e.ts_ns, e.request_id, e.method, e.target) for e in entries] == [(1795219106 * 10**9, "r1", "PUT", "/a")]
    assert counts.unparsed == [(2, "other")]
    form = "at $msec id <$request_id> did $request_method:$request_uri = $status"
    assert read(tmp_path, text, form)[0][0].status == 204


@pytest.mark.parametrize("pattern", ["no groups", "(?P<time>", "(?P<colour>x)"])
def test_a_pattern_that_says_nothing_is_refused(tmp_path, pattern):
    with pytest.raises(UsageError, match="pattern for a log"):
        read(tmp_path, "x", pattern)
