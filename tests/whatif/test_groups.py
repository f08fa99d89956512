"""Which groups there are, how they are set, and the requests that each got, from captures with and without logs."""

import numpy as np
import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.api.analyze import analyze_captures
from pcapdiag.api.whatif import groups_of
from pcapdiag.base.codes import Outcome
from pcapdiag.whatif.captured import captured_requests, count_seen, own_failures
from pcapdiag.whatif.kernels import replay_state as state
from pcapdiag.whatif.keys import is_possible, parse_case
from pcapdiag.whatif.places import measure_places
from tests.conftest import ROOT

pytestmark = pytest.mark.compiled_only
S = 10**9


def case(name, conf=None, **without):
    """Return analysis and groups of a case, with the files beside it unless one is given or left out."""
    folder = ROOT / "captures" / name
    inputs = {
        "error_logs": (str(folder / "error.log"),),
        "access_logs": (str(folder / "access.log"),),
        "proxy_conf": str(conf or folder / "nginx.conf"),
    } | without
    made = Inputs(**inputs)
    result = analyze_captures([str(folder / "proxy.pcap")], made)
    return result, groups_of(result, made)


NOTHING = {"error_logs": (), "access_logs": (), "proxy_conf": None}


def test_with_logs_and_configuration_a_group_is_as_it_was_set():
    _, (group,) = case("idle_close_race_before")
    s = group.settings
    assert group.name == "be"
    assert [(p.endpoint, p.place, p.max_fails, p.fail_timeout_s) for p in s.peers] == [
        (f"10.1.1.{n}:80", n - 1, 1, 10) for n in (1, 2, 3)
    ]
    assert (s.balance, s.workers, s.keepalive, s.keepalive_timeout_ns, s.is_picked) == (
        "round_robin",
        1,
        32,
        60 * S,
        True,
    )
    assert s.next_upstream == {"error", "timeout"}
    assert group.arrivals.source == "access log"
    assert len(group.arrivals.requests) == 74
    assert any(text.startswith("1 worker process (") for text in group.assumptions)


def test_what_was_observed_is_counted_from_log_and_capture():
    _, (group,) = case("idle_close_race_before")
    expected = {"client_502": 12, "no_live_upstreams": 9, "lost_tries": 11, "retried": 6, "connections_opened": 42}
    assert {name: group.observed[name] for name in expected} == expected


def test_without_logs_the_capture_tells_the_arrivals_and_a_retry_is_no_request():
    """73 tries were captured, some of them further tries of requests that failed; the log knows which."""
    result, (group,) = case("idle_close_race_before", **NOTHING)
    tries = sum(
        int((chunk["outcome"] != Outcome.ANSWERED).sum()) for chunk in result.captured.analysis.exchanges.chunks()
    )
    assert tries == group.observed["lost_tries"] == 11
    assert group.observed["requests"] == 73
    assert group.arrivals.source == "capture"
    _, (logged,) = case("idle_close_race_before")
    went_somewhere = logged.arrivals.requests["place"] >= 0
    assert len(group.arrivals.requests) == went_somewhere.sum() < 73
    assert not group.settings.is_picked
    assert (group.arrivals.requests["place"] >= 0).all()
    assert any("--access-log" in text for text in group.assumptions)
    assert any("--proxy-conf" in text for text in group.assumptions)


def test_a_server_that_is_listed_twice_is_two_peers_of_one_place(tmp_path):
    text = (ROOT / "captures" / "idle_close_race_before" / "nginx.conf").read_text()
    conf = tmp_path / "nginx.conf"
    conf.write_text(text.replace("server 10.1.1.3:80;", "server 10.1.1.3:80; server 10.1.1.3:80 backup;"))
    _, (group,) = case("idle_close_race_before", conf)
    assert [(p.endpoint, p.is_backup) for p in group.settings.peers][2:] == [
        ("10.1.1.3:80", False),
        ("10.1.1.3:80", True),
    ]
    assert len(group.places) == 3


def test_servers_that_were_not_seen_are_taken_to_be_like_the_others(tmp_path):
    text = (ROOT / "captures" / "idle_close_race_before" / "nginx.conf").read_text()
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        text.replace("server 10.1.1.3:80;", "server 10.1.1.3:80; server 10.1.1.9:80; server 10.1.1.8:80 down;")
    )
    _, (group,) = case("idle_close_race_before", conf)
    assert [(p.endpoint, p.place, p.is_down) for p in group.settings.peers][3:] == [
        ("10.1.1.9:80", 3, False),
        ("10.1.1.8:80", 4, True),
    ]
    assert group.places[3].timeout_ns == group.places[0].timeout_ns
    assert [text for text in group.assumptions if "was not seen" in text] == [
        "10.1.1.9:80 was not seen in the capture; it is taken to be like 10.1.1.1:80"
    ]


@pytest.mark.parametrize(
    ("line", "balance"),
    [
        ("least_conn;", "least_conn"),
        ("ip_hash;", "ip_hash"),
        ("hash $uri consistent;", "hash"),
        ("random;", "random"),
        ("random two least_conn;", "random two"),
    ],
)
def test_the_balancer_is_the_configured_one(line, balance, tmp_path):
    text = (ROOT / "captures" / "idle_close_race_before" / "nginx.conf").read_text()
    conf = tmp_path / "nginx.conf"
    conf.write_text(text.replace("server 10.1.1.1:80;", f"{line} server 10.1.1.1:80;"))
    _, (group,) = case("idle_close_race_before", conf)
    assert group.settings.balance == balance


def test_failures_of_their_own_are_those_that_no_pool_explains():
    """A read timeout stays with its request, a race is made anew by the replay."""
    slow = analyze_captures([str(ROOT / "captures/slow_upstream_read_timeout/proxy.pcap")], Inputs()).captured
    own = own_failures(slow.analysis, slow.findings)
    assert sum(map(len, own.values())) == sum(1 for loss in slow.analysis.losses if not loss.is_connect)
    assert {failure.kind for failures in own.values() for failure in failures} == {int(state.TIMEOUT)}
    raced = analyze_captures([str(ROOT / "captures/idle_close_race_before/proxy.pcap")], Inputs()).captured
    assert own_failures(raced.analysis, raced.findings) == {}


def test_captured_requests_come_in_order_and_only_to_places_of_the_group():
    captured = analyze_captures([str(ROOT / "captures/idle_close_race_before/proxy.pcap")], Inputs()).captured
    places = measure_places(captured.analysis, captured.findings)
    all_of_them = captured_requests(captured.analysis, captured.findings, places)
    assert (np.diff(all_of_them.start_ns) >= 0).all()
    assert (all_of_them.end_ns >= all_of_them.start_ns).all()
    assert set(all_of_them.place.tolist()) == {0, 1, 2}
    one = captured_requests(captured.analysis, captured.findings, places[:1])
    assert 0 < len(one.start_ns) < len(all_of_them.start_ns)
    assert captured_requests(captured.analysis, captured.findings, ()) is None


def test_attempts_that_failed_opened_no_connection():
    captured = analyze_captures([str(ROOT / "captures/connect_refused_and_timeout/proxy.pcap")], Inputs()).captured
    places = measure_places(captured.analysis, captured.findings)
    seen = count_seen(captured.analysis, places)
    n_failed = sum(loss.is_connect for loss in captured.analysis.losses)
    assert n_failed
    assert seen["connections_opened"] == sum(u.opened for u in captured.analysis.upstreams)


def test_failures_of_their_own_that_the_log_has_no_line_of_are_lost_whatever_is_set(tmp_path):
    """A proxy that is stopped logs none of the requests that were under way."""
    result, (group,) = case("slow_upstream_read_timeout")
    failures = own_failures(result.captured.analysis, result.captured.findings)
    n_failures = sum(map(len, failures.values()))
    assert group.lost_beside == 0
    assert group.arrivals.requests["n_fails"].sum() == n_failures
    lines = (ROOT / "captures" / "slow_upstream_read_timeout" / "access.log").read_text().splitlines(keepends=True)
    left_out = next(n for n, line in enumerate(lines) if '"504, 504"' in line)
    log = tmp_path / "access.log"
    log.write_text("".join(line for n, line in enumerate(lines) if n != left_out))
    _, (group,) = case("slow_upstream_read_timeout", access_logs=(str(log),))
    assert group.lost_beside == 2
    assert group.observed["lost_tries"] == n_failures


def test_a_group_that_is_picked_in_lua_has_no_settings_of_nginx_s_balancers(tmp_path):
    conf = tmp_path / "nginx.conf"
    told = (ROOT / "captures" / "idle_close_race_before" / "nginx.conf").read_text()
    conf.write_text(told.replace("keepalive 32;", "balancer_by_lua_block { pick() } keepalive 32;"))
    _, (group,) = case("idle_close_race_before", conf=conf)
    assert group.settings.is_lua
    assert is_possible(parse_case("proxy.keepalive_timeout=3s"), group.settings)
    assert not is_possible(parse_case("max_fails=0"), group.settings)
    _, (group,) = case("idle_close_race_before")
    assert is_possible(parse_case("max_fails=0"), group.settings)
