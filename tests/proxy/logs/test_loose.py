"""Lines of applications whose format nobody told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.logs.loose import parse_json, parse_loose
from pcapdiag.proxy.logs.variables import SLOTS, access_entry


def named(values):
    return None if values is None else {name: v for name, v in zip(SLOTS, values, strict=True) if v}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (
            '10.0.0.9 - - [21/Nov/2026:10:15:56 +0000] "GET /api?x=1 HTTP/1.1" 502 0',
            {"request": "GET /api?x=1 HTTP/1.1", "status": "502", "client": "10.0.0.9"},
        ),
        (
            'INFO:     10.0.0.9:5123 - "POST /orders HTTP/1.1" 201 Created',
            {"request": "POST /orders HTTP/1.1", "status": "201", "client": "10.0.0.9:5123"},
        ),
        ("level=info method=GET path=/api status=200", None),
        ("Started worker 3", None),
        ("", None),
    ],
)
def test_what_a_line_says_of_a_request(line, wanted):
    found = named(parse_loose(line))
    if wanted is None:
        assert found is None
    else:
        assert {name: found.get(name) for name in wanted} == wanted


def test_json_is_read_by_its_names_and_holds_a_request_or_is_none():
    line = json.dumps({"request_id": "abc", "path": "/api", "status": 502, "extra": [1]})
    assert named(parse_json(line)) == {"request_id": "abc", "target": "/api", "status": "502"}
    for other in ('{"path": "/api"}', '{"level": "info"}', "[1]", "{", "[" * 100_000):
        assert parse_json(other) is None


@given(st.text(max_size=300))
def test_whatever_a_line_holds_it_is_read_or_passed_over(line):
    for parse in (parse_loose, parse_json):
        values = parse(line)
        assert values is None or len(values) == len(SLOTS)


def test_a_line_without_end_is_read_as_far_as_it_goes():
    assert named(parse_loose('"GET /api HTTP/1.1" 200 ' + "a" * 10_000_000))["status"] == "200"


@pytest.mark.parametrize("status", ["000", "200", "499"])
def test_a_request_that_its_proxy_closed_without_an_answer_has_status_000(status):
    line = f'127.0.0.1 - - [02/Dec/2026:06:51:17 +0000] "GET /slow HTTP/1.1" {status} 0 "-" "curl/7.88.1"'
    assert named(parse_loose(line))["status"] == status
    assert access_entry("", 1, parse_loose(line)).status == int(status)
