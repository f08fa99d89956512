"""Caddy's configuration in both its forms, held against what Caddy itself makes of it."""

import shutil
import subprocess

import pytest

from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind
from tests.waiting import HANG_S

S = 10**9
CADDYFILE = """{
	admin off
	auto_https off
}
(opts) {
	transport http {
		keepalive 30s
		dial_timeout 2s
	}
}
:8080 {
	reverse_proxy /api/* 10.0.0.1:80 http://10.0.0.2 {
		lb_try_duration 5s
		lb_retries 2
		import opts
	}
	handle_path /b/* {
		reverse_proxy http://10.0.0.3 {
			transport http {
				keepalive off
				response_header_timeout 1m30s
				read_timeout 5s
			}
		}
	}
	reverse_proxy /c {
		to h2c://10.0.0.5:50051
		transport http {
			keepalive_idle_conns_per_host 8
			versions h2c
		}
	}
	reverse_proxy unix//run/app.sock
	reverse_proxy /d {
		to [2001:db8::1]:81
	}
}
:9090 {
	php_fastcgi 10.0.0.4:9000 {
		dial_timeout 7s
		read_timeout 9s
	}
}
"""


def read(tmp_path, text, name="Caddyfile"):
    path = tmp_path / name
    path.write_text(text)
    settings = read_proxy_conf(path)
    assert settings.kind is ProxyKind.CADDY
    return settings


def facts(server):
    return (
        server.address,
        server.endpoint,
        server.reuse.value,
        *(held.value for held in (server.pool_limit_ns, server.connect_timeout_ns, server.read_timeout_ns)),
        server.retry_on.value,
        server.rewrites,
    )


def test_a_server_has_what_its_block_says_and_the_defaults(tmp_path):
    settings = read(tmp_path, CADDYFILE)
    (first,) = settings.servers_of("10.0.0.1:80")
    assert (first.block, first.source.rpartition(":")[2]) == (":8080 /api/*", "12")
    assert (first.pool_limit_ns.value, first.pool_limit_ns.source.rpartition(":")[2]) == (30 * S, "7")
    (third,) = settings.servers_of("10.0.0.3:80")
    assert (third.block, third.reuse.value, third.read_timeout_ns.value) == (":8080 /b/*", False, 5 * S)
    (fifth,) = settings.servers_of("10.0.0.5:50051")
    assert (fifth.pool_limit_ns.value, fifth.pool_limit_ns.assumed, fifth.read_timeout_ns.value) == (120 * S, True, -1)
    assert dict(fifth.settings)["keepalive_idle_conns_per_host"].value == "8"
    (sixth,) = settings.servers_of("[2001:db8::1]:81")
    assert sixth.block == ":8080 /d"
    (php,) = settings.servers_of("10.0.0.4:9000")
    assert (php.reuse.value, php.connect_timeout_ns.value, php.read_timeout_ns.value) == (False, 7 * S, 9 * S)
    assert "unix:/run/app.sock" in {server.address for server in settings.own}
    assert settings.notes == ()


def test_what_caddy_makes_of_the_file_says_the_same(tmp_path):
    if shutil.which("caddy") is None:
        pytest.skip("caddy is not installed")
    ours = read(tmp_path, CADDYFILE)
    command = ["caddy", "adapt", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=True).stdout
    theirs = read(tmp_path, made, "caddy.json")
    assert sorted(map(facts, theirs.own), key=str) == sorted(map(facts, ours.own), key=str)


def test_a_method_that_is_matched_rewrites_nothing_and_several_addresses_are_one_site(tmp_path):
    text = "a.test, b.test {{\n{}\n reverse_proxy @read b:1\n}}\n"
    (matched,) = read(tmp_path, text.format(" @read {\n  method GET\n }")).own
    assert (matched.rewrites, matched.block) == (False, "a.test @read")
    assert read(tmp_path, text.format(" method POST")).own[0].rewrites


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("a {\n reverse_proxy {$APP}\n}\n", "known only while Caddy runs"),
        ("a {\n reverse_proxy {\n  dynamic srv app\n }\n}\n", "dynamic upstreams"),
        ("import sites/*\na {\n reverse_proxy b:1\n}\n", "import of a file"),
        ("a {\n reverse_proxy b:1 {\n  transport http {\n   keepalive soon\n  }\n }\n}\n", "'soon' is not a time"),
    ],
)
def test_what_cannot_be_known_from_the_file_is_noted(tmp_path, text, note):
    assert any(note in said.text for said in read(tmp_path, text).notes)


def test_a_range_of_ports_is_as_many_servers(tmp_path):
    settings = read(tmp_path, "a {\n reverse_proxy 10.0.0.1:8001-8003\n reverse_proxy b:1-65535\n}\n")
    assert [server.port for server in settings.own][:3] == [8001, 8002, 8003]
    assert len(settings.own) == 1003


def test_a_block_without_a_name_is_passed_over(tmp_path):
    text = "a {\n reverse_proxy b:1 {\n  {\n  }\n  transport http {\n   {\n   }\n   keepalive 5s\n  }\n }\n}\n"
    (server,) = read(tmp_path, text).own
    assert server.pool_limit_ns.value == 5 * S
