"""What the operator gave is held as it was given, and what of it makes no sense is said at once."""

import pytest

from pcapdiag.analysis.inputs import NO_INPUTS, Inputs, zone_offset_s
from pcapdiag.base.errors import UsageError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"proxies": ("10.0.0",)}, "10.0.0"),
        ({"upstreams": ("10.0.0.1:x",)}, "10.0.0.1:x"),
        ({"log_zone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"anonymize": True, "redact": False}, "not anonymous"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_read(given, said):
    with pytest.raises(UsageError, match=said):
        Inputs(**given)


def test_addresses_are_read_once_for_all():
    inputs = Inputs(proxies=("::1",), upstreams=("10.0.0.1", "[::2]:80"))
    assert inputs.proxy_addresses == ((0, 1),)
    assert inputs.upstream_endpoints == ((0, 0xFFFF0A000001, -1), (0, 2, 80))


def test_each_file_has_its_kind():
    inputs = Inputs(error_logs=("e",), access_logs=("a",), upstream_logs=("u",), proxy_conf="c")
    assert inputs.logs == ("e", "a", "u")
    assert inputs.kinds == {"e": "error_log", "a": "access_log", "u": "upstream_log", "c": "proxy_conf"}
    assert NO_INPUTS.kinds == {}


def test_a_zone_is_as_far_from_utc_as_on_the_day_of_the_capture():
    assert zone_offset_s("auto", 0) is None
    assert zone_offset_s("+08:00", 0) == 8 * 3600
    winter, summer = 1_795_218_956 * 10**9, 1_782_000_000 * 10**9
    assert [zone_offset_s("Europe/Berlin", at) for at in (winter, summer)] == [3600, 7200]


S = 1_000_000_000
WINTER_NS, SUMMER_NS = 1_795_218_956 * S, 1_782_000_000 * S


def test_every_file_is_named_by_its_kind():
    inputs = Inputs(error_logs=("e",), access_logs=("a", "b"), upstream_logs=("u",), proxy_conf="nginx.conf")
    assert inputs.kinds == {
        "e": "error_log",
        "a": "access_log",
        "b": "access_log",
        "u": "upstream_log",
        "nginx.conf": "proxy_conf",
    }
    assert Inputs().kinds == {}


@pytest.mark.parametrize(
    ("zone", "offset_s"),
    [("auto", None), ("", None), ("UTC", 0), ("+08:00", 28_800), ("-03:30", -12_600), ("Asia/Shanghai", 28_800)],
)
def test_a_zone_is_written_in_these_ways(zone, offset_s):
    assert zone_offset_s(zone, WINTER_NS) == offset_s


def test_daylight_saving_depends_on_when():
    assert (zone_offset_s("Europe/Berlin", WINTER_NS), zone_offset_s("Europe/Berlin", SUMMER_NS)) == (3600, 7200)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "+8000:00"])
def test_a_zone_that_does_not_exist_is_refused(zone):
    with pytest.raises(UsageError, match="there is no zone"):
        zone_offset_s(zone, WINTER_NS)
