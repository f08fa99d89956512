"""Settings of what-if, put into nginx's configuration and found there again."""

import pytest

from pcapdiag.proxy.conf.put import put_setting
from pcapdiag.proxy.conf.read import read_proxy_conf

CONF = """upstream be {
    server 10.1.1.1:80 weight=3;
    server 10.1.1.2:80 max_fails=2 fail_timeout=5s;
    keepalive 32;
}
upstream other {
    server 10.2.2.2:80;
    keepalive 8;
}
server {
    location / { proxy_pass http://be; }
    location /b { proxy_pass http://be; proxy_next_upstream timeout; }
}
"""


def put(tmp_path, key, value, *, text=CONF, version="1.22.1"):
    path = tmp_path / "nginx.conf"
    path.write_text(text)
    return [(c.line, c.text) for c in put_setting(read_proxy_conf(path, version=version), ["be"], key, value)]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("proxy.keepalive_timeout", "3s", [(1, "keepalive_timeout 3s;")]),
        ("proxy.keepalive_timeout", "500ms", [(1, "keepalive_timeout 500ms;")]),
        ("proxy.keepalive", "8", [(4, "keepalive 8;")]),
        ("proxy.keepalive", "32", []),
        ("max_fails", "10", [(2, "max_fails=10"), (3, "max_fails=10")]),
        ("max_fails", "2", [(2, "max_fails=2")]),
        ("max_fails", "0", [(2, "max_fails=0"), (3, "max_fails=0")]),
        (
            "backup",
            "+10.1.1.1:80 +10.1.1.2:80",
            [
                (1, "server 10.1.1.1:80 weight=3 backup;"),
                (1, "server 10.1.1.2:80 max_fails=2 fail_timeout=5s backup;"),
            ],
        ),
        (
            "next_upstream",
            "error,timeout,non_idempotent",
            [
                (11, "proxy_next_upstream error timeout non_idempotent;"),
                (12, "proxy_next_upstream error timeout non_idempotent;"),
            ],
        ),
        ("upstream.keepalive_timeout", "75s", []),
    ],
)
def test_what_is_not_so_yet_is_changed_where_it_stands(tmp_path, key, value, expected):
    assert put(tmp_path, key, value) == expected


@pytest.mark.parametrize(("version", "expected"), [("1.22.1", [(4, "")]), ("1.29.7", [(4, "keepalive 0;")])])
def test_an_nginx_of_before_pools_by_default_knows_no_pool_of_nothing(tmp_path, version, expected):
    assert put(tmp_path, "proxy.keepalive", "0", version=version) == expected


def test_a_server_alone_counts_no_failures(tmp_path):
    alone = "upstream be { server 10.1.1.1:80; }\nserver { location / { proxy_pass http://be; } }\n"
    assert put(tmp_path, "max_fails", "10", text=alone) == []


def test_other_proxies_say_what_they_say_elsewhere(tmp_path):
    conf = 'upstreams:\n  - id: be\n    nodes: {"10.1.1.1:80": 1}\n    keepalive_pool: {idle_timeout: 60}\n'
    path = tmp_path / "conf.yaml"
    path.write_text(conf)
    settings = read_proxy_conf(path)
    assert put_setting(settings, ["be"], "max_fails", "0") == ()
    (change,) = put_setting(settings, ["be"], "proxy.keepalive_timeout", "3s")
    assert change.setting == "keepalive_pool.idle_timeout"
