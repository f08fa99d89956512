import pytest

from pcapdiag.units import format_address, format_bytes, format_duration_ns, format_ts_ns, parse_address


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_500, "1.5 us"),
        (999_960_000, "1 s"),
        (126_995_000, "127 ms"),
        (160_200_000, "160.2 ms"),
        (3_877_202_000, "3.877 s"),
        (65_000_000_000, "65 s"),
        (599_000_000_000, "599 s"),
        (600_000_000_000, "10 min"),
        (3_900_000_000_000, "1 h 5 min"),
        (-126_995_000, "-127 ms"),
    ],
)
def test_a_duration_has_four_digits_and_the_unit_that_fits(duration_ns, text):
    assert format_duration_ns(duration_ns) == text


@pytest.mark.parametrize(
    ("ts_ns", "text"),
    [
        (1_795_218_956_886_114_001, "2026-11-20T23:55:56.886114001Z"),
        (0, "1970-01-01T00:00:00.000000000Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
    ],
)
def test_a_time_keeps_every_nanosecond(ts_ns, text):
    assert format_ts_ns(ts_ns) == text


def test_a_time_beyond_the_calendar_is_still_a_time():
    assert format_ts_ns(10**21 + 1) == "1000000000000.000000001s"


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (1_500_000_000, "1.5 GB")]
)
def test_bytes_have_decimal_prefixes(n_bytes, text):
    assert format_bytes(n_bytes) == text


@pytest.mark.parametrize("text", ["10.1.1.2", "0.0.0.0", "2001:db8::1", "::1", "::"])
def test_an_address_survives_the_way_to_its_halves_and_back(text):
    assert format_address(*parse_address(text)) == text


def test_brackets_around_an_address_are_taken_off():
    assert parse_address("[::1]") == (0, 1)


def test_a_name_is_no_address():
    with pytest.raises(ValueError, match="localhost"):
        parse_address("localhost")
