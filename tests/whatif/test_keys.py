"""Settings as they are asked for: what each key does, and what is refused in which words."""

import re
from dataclasses import replace

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.whatif.group import GroupSettings, Peer
from pcapdiag.whatif.keys import KEYS, MOST_POINTS, Asked, apply, check_addresses, parse_case, parse_sweep

S = 10**9
PEERS = (Peer("10.0.0.1:80", 0), Peer("10.0.0.2:80", 1))
HELD = GroupSettings(PEERS)


def applied(text, settings=HELD):
    return apply(parse_case(text), settings)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("proxy.keepalive_timeout=3900ms", "keepalive_timeout_ns", 3_900_000_000),
        ("proxy.keepalive_timeout=0", "keepalive_timeout_ns", 0),
        ("proxy.keepalive=8", "keepalive", 8),
        ("proxy.keepalive_requests=100", "keepalive_requests", 100),
        ("proxy.keepalive_time=1h", "keepalive_time_ns", 3600 * S),
        ("upstream.keepalive_timeout=75s", "upstream_timeout_ns", 75 * S),
        ("next_upstream=error,timeout,non_idempotent", "next_upstream", {"error", "timeout", "non_idempotent"}),
        ("next_upstream=error|http_502", "next_upstream", {"error", "http_502"}),
        ("next_upstream_tries=2", "tries", 2),
        ("next_upstream_timeout=1500ms", "next_timeout_ns", 1_500_000_000),
        ("zone=on", "has_zone", True),
        ("balance=random_two", "balance", "random two"),
        ("balance=ip_hash", "balance", "ip_hash"),
    ],
)
def test_a_key_changes_its_setting_and_nothing_else(text, field, value):
    made = applied(text)
    assert getattr(made, field) == value
    assert replace(made, **{field: getattr(HELD, field)}) == HELD


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("max_fails=0", "max_fails", [0, 0]),
        ("fail_timeout=3s", "fail_timeout_s", [3, 3]),
        ("max_conns=5", "max_conns", [5, 5]),
        ("weight.10.0.0.2:80=7", "weight", [1, 7]),
        ("backup=10.0.0.2:80", "is_backup", [False, True]),
        ("backup=+10.0.0.2:80", "is_backup", [False, False, True]),
    ],
)
def test_a_key_changes_the_peers_that_it_is_about(text, field, values):
    assert [getattr(peer, field) for peer in applied(text).peers] == values


def test_every_key_has_a_test():
    asked = [mark.args[1] for f in (test_a_key_changes_its_setting_and_nothing_else,) for mark in f.pytestmark]
    asked += [mark.args[1] for mark in test_a_key_changes_the_peers_that_it_is_about.pytestmark]
    names = {case[0].partition("=")[0] for cases in asked for case in cases}
    assert {"weight" if name.startswith("weight.") else name for name in names} == set(KEYS)


def test_a_backup_that_is_added_is_a_new_place_or_the_same_once_more():
    again = applied("backup=+10.0.0.2:80").peers[-1]
    other = applied("backup=+10.9.9.9:80").peers[-1]
    assert (again.place, other.place) == (1, -1)


def test_settings_of_a_case_are_applied_together_in_order():
    case = parse_case("max_fails=0  proxy.keepalive_timeout=3s")
    assert case == Asked((("max_fails", "0"), ("proxy.keepalive_timeout", "3s")))
    assert case.name == "max_fails=0 proxy.keepalive_timeout=3s"
    made = apply(case, HELD)
    assert (made.peers[0].max_fails, made.keepalive_timeout_ns) == (0, 3 * S)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs key=value"),
        ("max_fails", "no key=value"),
        ("max_fails=", "no key=value"),
        ("keepalive_timeout=3s", "is no key; there are proxy.keepalive_timeout=TIME, proxy.keepalive=NUMBER, "),
        ("weight=3", "weight.ADDRESS:PORT"),
        ("weight.=3", "is no key"),
        ("max_fail=3", "; did you mean max_fails=NUMBER?"),
        ("next_upstream=error,timeot", "; did you mean timeout?"),
        ("weight.10.0.0.1:80=0", "from 1 to"),
        ("max_fails=-1", "whole number from 0"),
        ("max_fails=1.5", "whole number from 0"),
        ("max_fails=" + "9" * 5000, "whole number from 0"),
        ("max_conns=\u0663", "whole number from 0"),
        ("proxy.keepalive=1000001", "to 1000000"),
        ("proxy.keepalive_timeout=soon", "not a duration"),
        ("proxy.keepalive_timeout=-1s", "not a duration"),
        ("proxy.keepalive_timeout=400d", "365 days"),
        ("fail_timeout=1500ms", "whole seconds"),
        ("zone=yes", "on or off"),
        ("balance=fair", "one of round_robin, least_conn, ip_hash, hash, random, random_two"),
        ("next_upstream=error,http_418", "no condition 'http_418'; there are error, timeout"),
        ("next_upstream=error,,timeout", "no condition ''"),
        ("backup=second", "an address with its port"),
        ("backup=+:", "an address with its port"),
        ("backup=+1.2.3.4:99999999", "an address with its port"),
        ("backup=+foo:80", "an address with its port"),
        ("backup=+[::1:80", "an address with its port"),
        ("proxy.keepalive_timeout=1ns", "from 1 ms"),
        ("max_fails=0 max_fails=5", "given 2 times"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_does(text, said):
    with pytest.raises(UsageError) as refused:
        parse_case(text)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("proxy.keepalive_timeout=3s", (1, 15, 2)),
        ("proxy.keepalive_requests=10", (1, 15, 2)),
        ("proxy.keepalive_time=2h", (1, 19, 9)),
        ("max_conns=3", (1, 11, 4)),
        ("next_upstream_tries=2", (1, 7, 4)),
        ("next_upstream_timeout=2s", (1, 7, 4)),
        ("zone=on", (1, 8, 1)),
        ("next_upstream=error,non_idempotent", (1, 9, 12)),
        ("next_upstream=http_429", (1, 11, 12)),
        ("balance=random", (1, 15, 0)),
        ("balance=hash", (1, 7, 1)),
    ],
)
def test_a_setting_that_the_version_lacks_is_refused(text, version):
    own = re.escape(".".join(map(str, version)))
    with pytest.raises(UsageError, match=f"nginx has it since .*, this one is {own}"):
        applied(text, replace(HELD, version=version))
    before = (*version[:2], version[2] + 1)
    later = {(1, 8, 2): (1, 9, 0)}.get(before, before)
    assert applied(text, replace(HELD, version=later)) != replace(HELD, version=later)


@pytest.mark.parametrize(
    ("text", "settings", "there", "missing"),
    [
        (
            "proxy.keepalive_time=2h",
            replace(HELD, version=(1, 19, 9)),
            {"proxy.keepalive_timeout=TIME", "max_conns=NUMBER", "weight.ADDRESS:PORT=NUMBER"},
            {"proxy.keepalive_time=TIME"},
        ),
        (
            "zone=on",
            replace(HELD, version=(1, 8, 1)),
            {"proxy.keepalive=NUMBER", "next_upstream_tries=NUMBER"},
            {"zone=on|off", "max_conns=NUMBER", "proxy.keepalive_timeout=TIME"},
        ),
        (
            "max_fails=0",
            replace(HELD, is_lua=True),
            {"proxy.keepalive_timeout=TIME", "next_upstream=CONDITION,...", "weight.ADDRESS:PORT=NUMBER"},
            {"max_fails=NUMBER", "fail_timeout=SECONDS", "backup=[+]ADDRESS:PORT", "zone=on|off"},
        ),
        (
            "weight.10.0.0.1:80=2",
            replace(HELD, is_picked=False),
            {"proxy.keepalive=NUMBER", "next_upstream_timeout=TIME"},
            {"weight.ADDRESS:PORT=NUMBER", "next_upstream=CONDITION,..."},
        ),
        ("next_upstream=http_429", replace(HELD, version=(1, 9, 13)), {"error", "non_idempotent"}, {"http_429"}),
        ("next_upstream=non_idempotent", replace(HELD, version=(1, 9, 12)), {"error", "off"}, {"non_idempotent"}),
        ("balance=random", replace(HELD, version=(1, 15, 0)), {"round_robin", "hash"}, {"random", "random_two"}),
        ("max_fail=0", HELD, {key.form for key in KEYS.values()}, {"max_fail"}),
    ],
)
def test_what_there_is_instead_is_listed_in_the_form_in_which_it_is_written(text, settings, there, missing):
    with pytest.raises(UsageError) as refused:
        applied(text, settings)
    listed = set(str(refused.value).rpartition("there are ")[2].split(";")[0].split(", "))
    assert there <= listed
    assert not missing & listed


def test_backups_and_balancers_that_know_none_exclude_each_other():
    with pytest.raises(UsageError, match="knows no backup"):
        applied("balance=ip_hash backup=10.0.0.2:80")
    with pytest.raises(UsageError, match="knows no backup"):
        applied("backup=10.0.0.2:80 balance=random_two")
    assert applied("backup=10.0.0.2:80 balance=least_conn").balance == "least_conn"


def test_one_server_at_least_is_no_backup():
    with pytest.raises(UsageError, match="no backup"):
        applied("backup=10.0.0.1:80 backup=10.0.0.2:80")
    assert len(applied("backup=+10.0.0.1:80 backup=+10.0.0.2:80").peers) == 4


def test_how_peers_are_picked_cannot_be_changed_where_nobody_knows_how_they_are():
    unknown = replace(HELD, is_picked=False)
    assert applied("proxy.keepalive_timeout=3s", unknown).keepalive_timeout_ns == 3 * S
    for text in ("max_fails=0", "backup=10.0.0.2:80", "balance=hash", "weight.10.0.0.1:80=2", "next_upstream=off"):
        with pytest.raises(UsageError, match="--proxy-conf"):
            applied(text, unknown)


def test_addresses_are_those_of_servers():
    check_addresses([parse_case("backup=10.0.0.2:80 weight.10.0.0.1:80=2 backup=+10.9.9.9:80")], [HELD])
    for text in ("backup=10.0.0.3:80", "weight.10.0.0.1:81=2"):
        with pytest.raises(UsageError, match=r"there are 10\.0\.0\.1:80, 10\.0\.0\.2:80"):
            check_addresses([parse_case(text)], [HELD])


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("proxy.keepalive_timeout=1s:2s:500ms", "proxy.keepalive_timeout", ["1s", "1.5s", "2s"]),
        ("proxy.keepalive_timeout=3900ms:3915ms:7ms", "proxy.keepalive_timeout", ["3.9s", "3.907s", "3.914s"]),
        ("proxy.keepalive=0:10:4", "proxy.keepalive", ["0", "4", "8"]),
        ("weight.10.0.0.1:80=1:2:1", "weight.10.0.0.1:80", ["1", "2"]),
        ("fail_timeout=1s:3s:1s", "fail_timeout", ["1s", "2s", "3s"]),
    ],
)
def test_a_sweep_is_a_case_for_each_point_up_to_its_end(text, key, values):
    assert parse_sweep(text) == (key, [Asked(((key, value),)) for value in values])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("proxy.keepalive_timeout=1s:2s", "key=from:to:step"),
        ("proxy.keepalive_timeout=2s:1s:100ms", "key=from:to:step"),
        ("proxy.keepalive_timeout=1s:2s:0s", "key=from:to:step"),
        ("proxy.keepalive_timeout", "no key=value"),
        ("nothing=1:2:1", "is no key"),
        ("zone=0:1:1", "zone=on|off has no values from one to another; there are proxy.keepalive_timeout=TIME, "),
        ("balance=1:2:1", "no values from one to another"),
        ("proxy.keepalive=1:x:1", "whole number"),
        (f"proxy.keepalive=0:{MOST_POINTS}:1", "take larger steps"),
        ("fail_timeout=1s:2s:500ms", "whole seconds"),
    ],
)
def test_sweeps_of_another_form_are_refused(text, said):
    with pytest.raises(UsageError) as refused:
        parse_sweep(text)
    assert said in str(refused.value)
