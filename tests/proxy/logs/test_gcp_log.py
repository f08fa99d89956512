"""Entries of Google Cloud's load balancers, as their documentation has them."""

import json

import pytest

from pcapdiag.proxy.logs.entries import BODY, CONNECTING, HEADER, LogKind
from pcapdiag.proxy.logs.gcp_log import GCP_LOG, _line

K = LogKind
CLOSED = "backend_connection_closed_before_data_sent_to_client"


def read(line):
    return GCP_LOG.read("lb.log", 2, line)


@pytest.mark.parametrize(
    ("details", "kind", "action"),
    [
        (CLOSED, K.BROKEN, HEADER),
        ("backend_connection_closed_after_partial_response_sent", K.BROKEN, BODY),
        ("backend_timeout", K.TIMED_OUT, HEADER),
        ("failed_to_connect_to_backend", K.NO_CONNECTION, CONNECTING),
        ("client_disconnected_before_any_response", K.CLIENT_CLOSED, HEADER),
        ("response_sent_by_backend", None, ""),
        ("response_from_cache", None, ""),
        ("denied_by_security_policy", None, ""),
    ],
)
def test_the_details_of_a_status_say_what_failed(details, kind, action):
    entry = read(_line(details)).entry
    assert (entry.kind if entry else None) is kind
    assert (entry.action if entry else "") == action


def test_a_line_is_stamped_with_its_beginning_and_tells_its_end():
    entry, access = read(_line(CLOSED))
    assert entry.ts_ns == access.ts_ns == 1_795_218_988_101_123_000 + 72_311_000
    assert (entry.upstream_peer, entry.upstream_uri, entry.client) == ("10.31.9.40/backend", "/api", "198.51.100.9")
    assert (access.status, access.request_time_ns) == (502, 72_311_000)


def test_no_backend_names_none():
    assert read(_line("failed_to_pick_backend", 502, "")).entry.upstream_peer == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"httpRequest": None},
        {"jsonPayload": []},
        {"timestamp": "now"},
        {"jsonPayload": {}, "resource": {"type": "gce"}},
    ],
)
def test_what_lacks_what_matters_is_no_line_of_it(changes):
    assert read(json.dumps(json.loads(_line(CLOSED)) | changes)) is None
