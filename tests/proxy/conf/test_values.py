"""Values as configurations write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.units import parse_address
from pcapdiag.proxy.conf.values import (
    count,
    endpoint,
    flag,
    go_time_ns,
    nginx_time,
    seconds,
    size_bytes,
    time_ns,
    version_numbers,
)

S, MS = 1_000_000_000, 1_000_000


@pytest.mark.parametrize(("text", "ns"), [("75", 75 * S), ("75s", 75 * S), ("1m 30s", 90 * S), ("500ms", 500 * MS)])
def test_a_time_is_read_as_nginx_reads_it(text, ns):
    assert time_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1m30s", 90 * S),
        ("0.25s", S // 4),
        ("1.5h", 5400 * S),
        ("0", 0),
        ("2d", 172_800 * S),
        ("1us", 1000),
        ("1µs", 1000),
    ],
)
def test_a_time_is_read_as_go_and_protobuf_write_it(text, ns):
    assert go_time_ns(text) == ns


@given(st.integers(0, 10**9))
def test_a_time_is_written_as_it_is_read(ms):
    assert time_ns(nginx_time(ms * MS)) == ms * MS
    assert float(seconds(ms * MS)) == pytest.approx(ms / 1000)
    assert "e" not in seconds(ms * MS)


@pytest.mark.parametrize(("text", "n_bytes"), [("0", 0), ("100", 100), ("8k", 8192), ("8K", 8192), ("1m", 1 << 20)])
def test_a_size_is_read_as_nginx_reads_it(text, n_bytes):
    assert size_bytes(text) == n_bytes


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (time_ns, "soon"),
        (time_ns, "200y"),
        (go_time_ns, "5"),
        (go_time_ns, "-5s"),
        (go_time_ns, "1m 30s"),
        (go_time_ns, "9999999d"),
        (size_bytes, "8kb"),
        (size_bytes, "-1"),
        (count, "1.5"),
        (count, "٣"),
        (count, "1" * 16),
        (flag, "yes"),
        (flag, ""),
    ],
)
def test_what_is_no_such_value_is_refused(read, text):
    with pytest.raises(ValueError, match=r"is (not|too|neither)|not a"):
        read(text)


def test_on_and_off_are_those_of_nginx_and_of_yaml():
    assert [flag(text) for text in ("on", "OFF", "true", "False")] == [True, False, True, False]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("nginx/1.27.4", (1, 27, 4)),
        ("openresty/1.21.4.1", (1, 21, 4)),
        ("nginx", (0, 0, 0)),
        ("1.2", (0, 0, 0)),
        ("nginx/1.27.4 (Ubuntu 22.4.1)", (1, 27, 4)),
    ],
)
def test_a_version_is_its_first_three_numbers(text, numbers):
    assert version_numbers(text) == numbers


def test_an_address_may_lack_its_port_and_a_name_is_no_endpoint():
    here = parse_address("10.1.1.1")
    assert endpoint("10.1.1.1:8080", 80) == ((*here, 8080), 8080)
    assert endpoint("10.1.1.1", 80) == ((*here, 80), 80)
    assert endpoint("[2001:db8::1]:443", 80) == ((*parse_address("2001:db8::1"), 443), 443)
    assert endpoint("backend", 80) == (None, 80)
    assert endpoint("backend:8080", 80) == (None, 8080)
    assert endpoint("backend:99999", 80) == (None, 80)
    assert endpoint("unix:/run/app.sock", 80) == (None, -1)
