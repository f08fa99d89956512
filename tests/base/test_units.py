"""Facts about quantities and their text."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.units import (
    NS_PER_S,
    format_address,
    format_bytes,
    format_duration_ns,
    format_endpoint,
    format_ts_ns,
    format_zone,
    known_part,
    known_to,
    parse_address,
    parse_duration,
    parse_endpoint,
    parse_size,
    parse_zone,
    roughly,
)

HALVES = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (3_877_202_000, "3.877202 s"),
        (160_200_000, "160.2 ms"),
        (58_000, "58 us"),
        (58_001, "58.001 us"),
        (999, "999 ns"),
        (1_000, "1 us"),
        (999_999_999, "999.999999 ms"),
        (75 * 10**9, "75 s"),
        (10**14, "100000 s"),
        (0, "0 s"),
        (-1, "unknown"),
        (-160_200_000, "-160.2 ms"),
    ],
)
def test_a_duration_reads_like(ns, text):
    assert format_duration_ns(ns) == text


@given(st.integers(0, 10**20))
def test_a_duration_survives_its_text_exactly(ns):
    assert parse_duration(format_duration_ns(ns)) == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("75s", 75 * 10**9),
        ("75", 75 * 10**9),
        ("1.5", 1_500_000_000),
        ("500ms", 500 * 10**6),
        ("1h 30m", 5400 * 10**9),
        ("1m30s", 90 * 10**9),
        ("  2 d ", 2 * 86400 * 10**9),
        ("58 \N{MICRO SIGN}s", 58_000),
        ("0.000000001s", 1),
    ],
)
def test_durations_are_read_as_people_write_them(text, ns):
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    "text", ["", " ", "s", "-1s", "1 fortnight", "1.s", "1e3s", "1m 30", "0.5ns", "\N{ARABIC-INDIC DIGIT THREE}s", "."]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"duration|nanosecond"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("200", 200), ("512MB", 512 << 20), ("2 GiB", 2 << 30), ("1.5k", 1536), (" 20g ", 20 << 30), ("1T", 1 << 40)],
)
def test_sizes_are_read_as_people_write_them(text, n_bytes):
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "0", "0M", "M", "1.5", "-1M", "1P", "1.M", "\N{ARABIC-INDIC DIGIT THREE}"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@given(st.from_regex(r"([0-9]{0,4}\.?[0-9]{0,10} ?(ns|us|ms|s|m|h|d|w|x)? ?){0,3}", fullmatch=True))
def test_a_duration_is_read_or_refused_and_never_guessed(text):
    try:
        ns = parse_duration(text)
    except ValueError:
        return
    assert parse_duration(format_duration_ns(ns)) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (1_795_218_956_886_114_000, "2026-11-20T23:55:56.886114000Z"),
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (-(2**63), "1677-09-21T00:12:43.145224192Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
        (10**30, f"{10**30} ns"),
        (-(10**30), f"-{10**30} ns"),
    ],
)
def test_a_time_reads_like(ns, text):
    assert format_ts_ns(ns) == text


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2))
def test_times_sort_like_their_texts(pair):
    assert sorted(pair) == sorted(pair, key=format_ts_ns)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (1050, "1.1 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1_500_000_000, "1.5 GB"),
        (10**21, "1000.0 EB"),
        (-1, "unknown"),
    ],
)
def test_a_size_reads_like(n_bytes, text):
    assert format_bytes(n_bytes) == text


@given(HALVES, HALVES)
def test_an_address_survives_its_text(hi, lo):
    assert parse_address(format_address(hi, lo)) == (hi, lo)


@given(st.ip_addresses(v=4))
def test_ipv4_is_written_dotted_and_held_mapped(address):
    hi, lo = parse_address(str(address))
    assert (hi, lo) == (0, 0xFFFF << 32 | int(address))
    assert format_address(hi, lo) == str(address)
    assert parse_address(f"::ffff:{address}") == (hi, lo)


def test_a_name_is_no_address():
    with pytest.raises(ValueError, match="localhost"):
        parse_address("localhost")


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6), st.integers(-1, 65535))
def test_an_endpoint_survives_its_text(address, port):
    hi, lo = parse_address(str(address))
    assert parse_endpoint(format_endpoint(hi, lo, port)) == (hi, lo, port)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("1.2.3.4", "1.2.3.4", -1),
        ("1.2.3.4:80", "1.2.3.4", 80),
        ("::1", "::1", -1),
        ("[::1]", "::1", -1),
        ("[::1]:0", "::1", 0),
        ("fe80::1%eth0", "fe80::1", -1),
    ],
)
def test_endpoints_are_read_as_people_write_them(text, address, port):
    assert parse_endpoint(text) == (*parse_address(address), port)


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:x", "1.2.3.4:+8", "[1.2.3.4]:80", "[::1", "[::1]80", "[::1]:"],
)
def test_what_is_no_endpoint_is_refused(text):
    with pytest.raises(ValueError, match="not a"):
        parse_endpoint(text)


def test_units_need_only_the_standard_library():
    script = "import sys, pcapdiag.base.units; print([m for m in ('numpy', 'numba', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("width", "known", "part"),
    [
        (0, "0 s", "5.124 s"),
        (160_200_000, "200 ms", "5.1 s"),
        (71_139_000, "80 ms", "5.12 s"),
        (1_000_000_000, "1 s", "5 s"),
        (950_000_001, "1 s", "5.1 s"),
        (4_000_000, "4 ms", "5.124 s"),
    ],
)
def test_a_measured_value_has_no_digits_beyond_what_it_is_known_to(width, known, part):
    assert (known_to(width), known_part(5_123_999_000, width)) == (known, part)


@pytest.mark.parametrize(
    ("seconds", "text"), [(86_400 * 3, "3.0 days"), (28_810, "8.0 hours"), (3_700, "3700 s"), (0.5, "500 ms")]
)
def test_how_far_something_is_away_is_said_in_hours_and_days(seconds, text):
    assert roughly(round(seconds * NS_PER_S)) == text


@pytest.mark.parametrize(("offset_s", "text"), [(0, "UTC"), (28_800, "UTC+08:00"), (-12_600, "UTC-03:30")])
def test_a_zone_is_named_as_it_may_be_given(offset_s, text):
    assert format_zone(offset_s) == text
    assert parse_zone(text.removeprefix("UTC") or text) == offset_s
