"""Lines of Traefik's access log, as its documentation has them."""

import json

import pytest

from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.proxy.logs.traefik_log import TRAEFIK_LOG, _json, _line

START_NS = 1_795_218_988_123_456_789
K = LogKind


def read(line):
    return TRAEFIK_LOG.read("access.log", 4, line)


def of(**changes):
    return read(json.dumps(json.loads(_json(502, 11)) | changes))


def test_text_and_json_tell_the_same():
    for line in (_line(502, 11), _json(502, 11)):
        assert TRAEFIK_LOG.is_record(line)
        entry, access = read(line)
        assert (entry.kind, entry.upstream_peer, entry.upstream_uri) == (K.TRY_FAILED, "10.1.1.1:80", "/api")
        assert (access.status, access.method, access.target, access.tries[0].header_time_ns) == (502, "GET", "/api", -1)


def test_a_line_is_stamped_with_its_beginning_and_tells_its_end():
    assert of().entry.ts_ns == START_NS + 72_500_000
    entry = read(_line(502, 11)).entry
    assert (entry.ts_ns, entry.width_ns) == (1_795_218_988_072_000_000, 1_001_000_000)


@pytest.mark.parametrize(
    ("status", "size", "server", "kind"),
    [
        (502, 11, "http://10.1.1.1:80", K.TRY_FAILED),
        (502, 157, "http://10.1.1.1:80", None),
        (504, 15, "http://10.1.1.1:80", K.TIMED_OUT),
        (504, 9, "http://10.1.1.1:80", None),
        (499, 21, "http://10.1.1.1:80", K.CLIENT_CLOSED),
        (503, 20, "-", K.NO_SERVER),
        (503, 20, "http://10.1.1.1:80", None),
        (502, 11, "-", None),
        (404, 19, "-", None),
        (200, 5, "http://10.1.1.1:80", None),
    ],
)
def test_only_what_traefik_answered_itself_is_a_failure_of_a_try(status, size, server, kind):
    entry = read(_line(status, size, server)).entry
    assert (entry.kind if entry else None) is kind


def test_without_the_length_of_the_answer_nobody_knows_whose_it_is():
    values = json.loads(_json(502, 11))
    del values["OriginContentSize"]
    record = read(json.dumps(values))
    assert record.entry is None
    assert record.access.status == 502


@pytest.mark.parametrize(
    ("url", "peer"),
    [
        ("http://10.1.1.1", "10.1.1.1:80"),
        ("https://10.1.1.1", "10.1.1.1:443"),
        ("http://[2001:db8::1]:8080/x", "[2001:db8::1]:8080"),
        ("http://[2001:db8::1]", "[2001:db8::1]:80"),
        ("http://user:word@app.internal:3000", "app.internal:3000"),
    ],
)
def test_a_server_is_its_address_and_port(url, peer):
    assert read(_line(502, 11, url)).entry.upstream_peer == peer


def test_tries_that_were_repeated_are_counted():
    assert [t.addr for t in of(RetryAttempts=2).access.tries] == ["", "", "10.1.1.1:80"]
    assert len(of(RetryAttempts=10**9).access.tries) == 101


def test_a_time_without_its_zone_is_none():
    assert of(StartUTC="2026-11-20 23:56:28") is None


def test_a_kept_header_is_the_request_id():
    assert of(**{"request_X-Request-Id": "c20b"}).entry.extra == (("request_id", "c20b"),)
