"""Times as logs write them."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.logs.times import naive_seconds, parse_time

S = 10**9
AT = 1795218988


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1795218988.123", (AT * S + 123 * 10**6, 10**6, True)),
        ("1795218988", (AT * S, S, True)),
        ("1795218988123", (AT * S + 123 * 10**6, 10**6, True)),
        ("1795218988123456789", (AT * S + 123456789, 1, True)),
        ("20/Nov/2026:23:56:28 +0000", (AT * S, S, True)),
        ("21/Nov/2026:07:56:28 +0800", (AT * S, S, True)),
        ("20-Nov-2026 23:56:28", (AT * S, S, False)),
        ("2026-11-20T23:56:28Z", (AT * S, S, True)),
        ("2026-11-20T22:26:28.5-01:30", (AT * S + S // 2, S // 10, True)),
        ("2026-11-20 23:56:28,123", (AT * S + 123 * 10**6, 10**6, False)),
        ("2026/11/20 23:56:28", (AT * S, S, False)),
        ("2026-13-20 23:56:28", None),
        ("31/Feb/2026:23:56:28 +0000", None),
        ("20/Foo/2026:23:56:28 +0000", None),
        ("2026-11-20T23:56:28+99:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_time_is_read_with_its_width_and_zone(text, expected):
    assert parse_time(text) == expected


def test_a_leap_second_is_the_one_after():
    assert naive_seconds("2016/12/31 23:59:60") == naive_seconds("2017/01/01 00:00:00")


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2100, 1, 1)), st.integers(-56, 56))  # noqa: DTZ001 - zones are drawn apart
def test_what_strftime_writes_is_read_back(moment, quarters):
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=15 * quarters)), microsecond=0)
    wanted = int(aware.timestamp()) * S
    for form in ("%d/%b/%Y:%H:%M:%S %z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S %z"):
        assert parse_time(aware.strftime(form)) == (wanted, S, True)
    assert naive_seconds(moment.strftime("%Y/%m/%d %H:%M:%S")) * S == wanted + 15 * 60 * quarters * S


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text):
    assert parse_time(text) is None or len(parse_time(text)) == 3
