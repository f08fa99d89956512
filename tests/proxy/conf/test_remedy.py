"""Facts about changes to a configuration, in each proxy's own language."""

import pytest

from pcapdiag.proxy.conf import remedy
from pcapdiag.proxy.conf.describe import describe
from pcapdiag.proxy.conf.read import read_proxy_conf

ALSO_TESTS = ("change",)

S = 1_000_000_000
PEER = "10.1.1.1:80"

NGINX = """upstream be {
    server 10.1.1.1:80 max_fails=1;
    server 10.1.1.2:80;
    keepalive 32;
    keepalive_timeout 300s;
}
server {
    server_name api.example;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 5s;
    location /a { proxy_pass http://be; }
    location /b {
        proxy_pass http://be;
        proxy_next_upstream timeout non_idempotent;
    }
}
"""
APISIX = """nginx_config: {http: {upstream: {keepalive: 5}}}
upstreams:
  - id: be
    nodes: {"10.1.1.1:80": 1, "10.1.1.2:80": 1}
    keepalive_pool:
      idle_timeout: 300
"""
CONFIG_MAP = "kind: ConfigMap\ndata:\n  upstream-keepalive-timeout: '300'\n  retry-non-idempotent: 'true'\n"
KONG = "log_level = info\nupstream_keepalive_idle_timeout = 300\n"


def place(change):
    return f"{change.file}:{change.line}"


def lower_pool(settings, peer, to_ns):
    return remedy.lower_pool_timeouts(settings, {block.name: to_ns for block in settings.blocks_of_peer(peer)})


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def _read(text, name="nginx.conf", version=""):
        (tmp_path / name).write_text(text)
        return read_proxy_conf(name, version=version)

    return _read


@pytest.mark.parametrize(
    ("name", "text", "setting", "source", "old", "line"),
    [
        ("nginx.conf", NGINX, "keepalive_timeout", "nginx.conf:5", "300s", "keepalive_timeout 55500ms;"),
        (
            "x.yaml",
            APISIX,
            "keepalive_pool.idle_timeout",
            "x.yaml:6",
            "300",
            '"keepalive_pool": {"idle_timeout": 55.5}',
        ),
        ("c.yaml", CONFIG_MAP, "upstream-keepalive-timeout", "c.yaml:3", "300", 'upstream-keepalive-timeout: "55"'),
        (
            "kong.conf",
            KONG,
            "upstream_keepalive_idle_timeout",
            "kong.conf:2",
            "300",
            "upstream_keepalive_idle_timeout = 55",
        ),
    ],
)
def test_the_pool_timeout_is_lowered_in_the_language_of_the_proxy(read, name, text, setting, source, old, line):
    (change,) = lower_pool(read(text, name), PEER, 55 * S + S // 2)
    assert (change.setting, place(change), change.old, change.text) == (setting, source, old, line)
    assert not change.is_new


@pytest.mark.parametrize("text", [KONG, CONFIG_MAP])
def test_a_proxy_that_counts_seconds_is_never_told_zero(read, text):
    assert lower_pool(read(text, "kong.conf" if text is KONG else "c.yaml"), PEER, S // 2) == ()


def test_what_is_low_enough_is_left_alone(read):
    assert lower_pool(read(NGINX), PEER, 300 * S) == ()
    assert lower_pool(read(NGINX), "10.9.9.9:80", S) == ()
    assert lower_pool(read(NGINX.replace("keepalive 32", "keepalive 0")), PEER, S) == ()


def test_a_default_is_changed_by_a_new_line_in_its_block(read):
    (change,) = lower_pool(read(NGINX.replace("    keepalive_timeout 300s;\n", "")), PEER, 55 * S)
    assert (change.is_new, change.old, change.old_is_assumed) == (True, "60s", True)
    assert (place(change), change.where, change.new) == ("nginx.conf:1", "upstream be", "55s")


@pytest.mark.parametrize(("version", "supported"), [("", None), ("1.15.3", True), ("1.29.7", True)])
def test_a_directive_is_guarded_by_the_version(read, version, supported):
    (change,) = lower_pool(read(NGINX, version=version), PEER, S)
    assert (change.since, change.is_supported) == ("1.15.3", supported)


def test_before_the_directive_existed_only_the_pool_can_go(read):
    text = NGINX.replace("    keepalive_timeout 300s;\n", "")
    (change,) = lower_pool(read(text, version="1.14.2"), PEER, S)
    assert (change.setting, change.old, change.new, change.text, place(change)) == (
        "keepalive",
        "32",
        "",
        "",
        "nginx.conf:4",
    )
    assert "1.15.3" in change.caution


def test_a_pool_that_nobody_wrote_gets_a_block(read):
    text = "server { location / { proxy_pass http://10.1.1.1:80; } }"
    assert lower_pool(read(text, version="1.29.6"), PEER, S) == ()
    (change,) = lower_pool(read(text, version="1.29.7"), PEER, 55 * S)
    assert change.text == "upstream backend { server 10.1.1.1:80; keepalive 32; keepalive_timeout 55s; }"


def test_an_inherited_timeout_is_changed_once_where_it_stands(read):
    (change,) = remedy.raise_timeout(read(NGINX), PEER, "read", 70 * S)
    assert (change.text, place(change), change.old) == ("proxy_read_timeout 70s;", "nginx.conf:11", "5s")


def test_an_assumed_timeout_is_set_in_each_location(read):
    changes = remedy.raise_timeout(read(NGINX), PEER, "send", 70 * S)
    assert [place(change) for change in changes] == ["nginx.conf:12", "nginx.conf:14"]
    assert [change.where for change in changes] == [f"location /{x} of server api.example" for x in "ab"]
    assert remedy.raise_timeout(read(NGINX), PEER, "send", 60 * S) == ()


@pytest.mark.parametrize(("ran_out_s", "old"), [(60, "60s"), (75, "")])
def test_a_default_that_ran_out_later_than_it_says_is_not_told_as_what_holds(read, ran_out_s, old):
    (first, *_) = remedy.raise_timeout(read(NGINX), PEER, "send", 200 * S, ran_out_ns=ran_out_s * S)
    assert (first.old, first.old_is_assumed) == (old, True)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("x.yaml", APISIX, '"timeout": {"read": 70.5}'),
        ("c.yaml", CONFIG_MAP, 'proxy-read-timeout: "71"'),
        ("kong.conf", KONG, '"read_timeout": 70500'),
    ],
)
def test_the_read_timeout_is_raised_in_the_language_of_the_proxy(read, name, text, line):
    (change,) = remedy.raise_timeout(read(text, name), PEER, "read", 70 * S + S // 2)
    assert change.text == line
    assert change.is_new


def test_a_long_time_is_written_without_an_exponent(read):
    (change,) = remedy.raise_timeout(read(APISIX, "x.yaml"), PEER, "read", 3_600_000 * S + 250_000_000)
    assert change.new == "3600000.25"


def test_a_condition_that_repeats_requests_is_taken_out(read):
    (change,) = remedy.stop_repeating_requests(read(NGINX), PEER)
    assert (place(change), change.text) == ("nginx.conf:15", "proxy_next_upstream timeout;")
    (change,) = remedy.stop_repeating_requests(read(CONFIG_MAP, "c.yaml"), PEER)
    assert (place(change), change.text) == ("c.yaml:4", 'retry-non-idempotent: "false"')
    assert remedy.stop_repeating_requests(read(APISIX, "x.yaml"), PEER) == ()


def test_retries_are_allowed_where_there_is_another_peer_and_never_for_posts(read):
    (change,) = remedy.allow_retries(read(NGINX.replace(" timeout non_idempotent", " off")), PEER)
    assert (change.old, change.new) == ("off", "error")
    assert "POST" in change.caution
    assert remedy.allow_retries(read(NGINX.replace("    server 10.1.1.2:80;\n", "")), PEER) == ()


def test_no_failure_puts_a_peer_out_once_none_is_counted(read):
    first, second = remedy.keep_in_rotation(read(NGINX), "be")
    assert (place(first), first.old_text, first.text) == ("nginx.conf:2", "max_fails=1", "max_fails=0")
    assert (place(second), second.is_new, second.old_text) == ("nginx.conf:3", True, "")
    (change,) = remedy.keep_in_rotation(read(NGINX.replace("max_fails=1", "max_fails=0")), "be")
    assert place(change) == "nginx.conf:3"


@pytest.mark.parametrize(
    ("text", "name"), [(NGINX.replace("    server 10.1.1.2:80;\n", ""), "nginx.conf"), (APISIX, "x.yaml")]
)
def test_where_no_failures_are_counted_there_is_nothing_to_change(read, text, name):
    assert remedy.keep_in_rotation(read(text, name), "be") == ()


def test_a_wait_is_shortened_where_it_is_longer(read):
    changes = remedy.lower_timeout(read(NGINX), PEER, "connect", 2 * S)
    assert {change.text for change in changes} == {"proxy_connect_timeout 2s;"}
    assert remedy.lower_timeout(read(NGINX), PEER, "read", 5 * S) == ()


def test_a_buffer_grows_by_whole_pages(read):
    changes = remedy.raise_buffer_size(read(NGINX), PEER, 9000)
    assert {change.text for change in changes} == {"proxy_buffer_size 12k;"}
    assert remedy.raise_buffer_size(read(NGINX), PEER, 4096) == ()


def test_the_pool_of_all_of_apisix_is_changed_in_its_config(read):
    (change,) = lower_pool(read("nginx_config: {http: {}}", "config.yaml"), PEER, 55 * S)
    assert (change.text, change.old, change.is_new) == ("keepalive_timeout: 55s", "60s", True)
    assert "config.yaml" in change.where


def test_the_description_says_for_each_setting_where_or_why(read):
    rows = describe(read(NGINX))
    assert all(bool(row.source) or bool(row.why) for row in rows)
    by_name = {(row.of, row.name): row for row in rows}
    assert by_name["upstream be", "keepalive_timeout"].value == "300s"
    assert by_name["upstream be", "keepalive_timeout"].source == "nginx.conf:5"
    assert by_name["upstream be", "server 10.1.1.2:80 fail_timeout"].value == "10s"
    assert by_name["location /a", "proxy_connect_timeout"].why == "default of nginx"


def test_other_proxies_are_described_as_well(read):
    for name, text in (("x.yaml", APISIX), ("c.yaml", CONFIG_MAP), ("kong.conf", KONG)):
        assert all(row.source or row.why or row.name in {"method", "proxy_pass"} for row in describe(read(text, name)))


TWO_PLACES = """upstream be { server 10.1.1.1:80; }
server {
    location / { proxy_pass http://be; proxy_read_timeout 3s; }
    location /slow/ { proxy_pass http://be; proxy_read_timeout 10s; }
    location = /once { proxy_pass http://be; proxy_read_timeout 4s; }
}
"""


@pytest.mark.parametrize(
    ("ran_out_s", "targets", "lines"),
    [
        (10, (), [4]),
        (10, ("/slow/x?q=1",), [4]),
        (3, ("/slow/x",), [4]),  # the place that served it, whatever was measured
        (-1, ("/a", "/once"), [3, 5]),
        (-1, (), [3, 4, 5]),
        (7, (), [3, 4, 5]),
    ],
)
def test_only_the_places_whose_timeout_ran_out_are_to_wait_longer(read, ran_out_s, targets, lines):
    changes = remedy.raise_timeout(read(TWO_PLACES), PEER, "read", 20 * S, ran_out_ns=ran_out_s * S, targets=targets)
    assert [change.line for change in changes] == lines


def test_a_limit_of_requests_is_lowered_where_connections_may_carry_more(read):
    (change,) = remedy.lower_request_limit(read(NGINX), PEER, 4)
    assert (change.setting, change.text, change.is_new) == ("keepalive_requests", "keepalive_requests 4;", True)
    lower = NGINX.replace("keepalive 32;", "keepalive 32; keepalive_requests 3;")
    assert remedy.lower_request_limit(read(lower), PEER, 4) == ()
    higher = NGINX.replace("keepalive 32;", "keepalive 32; keepalive_requests 9;")
    (change,) = remedy.lower_request_limit(read(higher), PEER, 4)
    assert (change.old, change.new) == ("9", "4")
    assert remedy.lower_request_limit(read(NGINX.replace("keepalive 32;", "")), PEER, 4) == ()
