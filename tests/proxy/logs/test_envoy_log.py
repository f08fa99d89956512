"""Lines of Envoy and of Istio's sidecars, as their documentation has them."""

import json

import pytest

from pcapdiag.proxy.logs.entries import BODY, CONNECTING, HEADER, LogKind
from pcapdiag.proxy.logs.envoy_log import ENVOY_LOG

ID = "c20b3cbc-8a5e-47e1-b1aa-e962a335559d"
PLAIN = (
    f'[2026-12-01T03:47:16.927Z] "GET /api HTTP/1.1" 503 UC 0 95 72 - "-" "curl/8" "{ID}" "app.example" "10.1.1.1:80"'
)
ISTIO = (
    '[2026-12-01T03:47:16.927Z] "GET /api HTTP/1.1" 503 UC'
    ' upstream_reset_before_response_started{connection_termination} - "-" 0 95 72 - "-" "curl/8"'
    f' "{ID}" "app.example" "10.1.1.1:80" outbound|80||app 10.2.2.2:4 10.2.2.2:80 192.0.2.2:5 - default'
)
VALUES = {
    "start_time": "2026-12-01T03:47:16.927Z",
    "method": "GET",
    "path": "/api",
    "protocol": "HTTP/1.1",
    "response_code": 503,
    "response_flags": "UC",
    "response_code_details": "upstream_reset_before_response_started{connection_termination}",
    "upstream_transport_failure_reason": None,
    "duration": 72,
    "upstream_service_time": None,
    "request_id": ID,
    "upstream_host": "10.1.1.1:80",
    "downstream_remote_address": "192.0.2.2:5",
}
END_NS = 1_796_096_836_999_000_000


def read(line):
    return ENVOY_LOG.read("envoy.log", 5, line)


def of_json(**changes):
    return read(json.dumps(VALUES | changes))


@pytest.mark.parametrize("line", [PLAIN, ISTIO, json.dumps(VALUES)], ids=["envoy", "istio", "json"])
def test_text_and_json_tell_the_same(line):
    assert ENVOY_LOG.is_record(line)
    entry, access = read(line)
    assert (entry.kind, entry.action, entry.upstream_peer) == (LogKind.BROKEN, HEADER, "10.1.1.1:80")
    assert (entry.ts_ns, entry.width_ns, entry.upstream_uri) == (END_NS, 2_000_000, "/api")
    assert entry.extra == (("request_id", ID),)
    assert (access.ts_ns, access.status, access.request_time_ns) == (END_NS, 503, 72_000_000)
    assert [(t.addr, t.header_time_ns) for t in access.tries] == [("10.1.1.1:80", -1)]


@pytest.mark.parametrize("line", [ISTIO, json.dumps(VALUES)], ids=["istio", "json"])
def test_the_client_is_named_where_the_format_has_it(line):
    assert read(line).entry.client == "192.0.2.2:5"


@pytest.mark.parametrize(
    ("flags", "changes", "kind", "action"),
    [
        ("UF", {}, LogKind.NO_CONNECTION, CONNECTING),
        ("UF,URX", {}, LogKind.NO_CONNECTION, CONNECTING),
        ("UF", {"response_code_details": "upstream_reset{connection_timeout}"}, LogKind.TIMED_OUT, CONNECTING),
        ("UC", {"upstream_service_time": "12"}, LogKind.BROKEN, BODY),
        ("UT", {}, LogKind.TIMED_OUT, HEADER),
        ("UPE", {}, LogKind.INVALID_RESPONSE, HEADER),
        ("UH", {"upstream_host": None}, LogKind.NO_SERVER, ""),
        ("UO", {"upstream_host": "-"}, LogKind.NO_RESOURCES, ""),
        ("DC", {"response_code": 0}, LogKind.CLIENT_CLOSED, HEADER),
        ("DC", {"response_code": 0, "upstream_host": None}, None, ""),
        ("NR", {}, None, ""),
        ("-", {}, None, ""),
    ],
)
def test_response_flags_say_who_ended_what(flags, changes, kind, action):
    entry = of_json(response_flags=flags, **changes).entry
    assert (entry.kind if entry else None) == kind
    assert entry is None or entry.action == action


def test_a_client_that_left_without_an_answer_is_counted_as_one_that_gave_up():
    assert of_json(response_flags="DC", response_code=0).access.status == 499


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", '{"log": "x"}', "[" * 9000, json.dumps(VALUES | {"start_time": 7}), PLAIN[:50], "{" * 5000],
)
def test_other_lines_are_no_lines_of_it(line):
    assert read(line) is None


@pytest.mark.parametrize("changes", [{"response_code": "x"}, {"duration": None}, {"duration": 10**30}, {"path": 5}])
def test_odd_values_are_unknown_and_no_error(changes):
    assert of_json(**changes).access is not None
