"""The tcpdump line runs as it is printed, and takes what it says; the log settings are those that the reader wants."""

import os
import shlex
import shutil
import socket
import subprocess
import time

import pytest

from pcapdiag.base.units import parse_endpoint
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.logs.log_format import compile_format
from pcapdiag.triage.capture import _NGINX_FORMAT, advise_capture
from tests.waiting import HANG_S, wait_until

TCPDUMP = shutil.which("tcpdump")
needs_tcpdump = pytest.mark.skipif(TCPDUMP is None, reason="tcpdump is not installed")

BLOCK = "http {{ upstream be {{ {servers} }} server {{ location / {{ proxy_pass http://be; }} }} }}"


@pytest.fixture
def advise(tmp_path):
    def of(*servers, more=""):
        path = tmp_path / "nginx.conf"
        path.write_text(BLOCK.format(servers=" ".join(f"server {s};" for s in servers)) + more)
        return advise_capture(read_proxy_conf(path))

    return of


def compiles(filter_):
    done = subprocess.run(
        [TCPDUMP, "-d", "-y", "EN10MB", filter_], capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SERVERS = {
    "one": ["10.1.1.1:80"],
    "two of one port": ["10.1.1.1:80", "10.1.1.2:80"],
    "two ports": ["10.1.1.1:80", "10.1.1.2:8080"],
    "IPv6": ["[2001:db8::1]:80", "10.1.1.2:80"],
    "a name": ["app.internal:3000"],
    "a name and an address": ["app.internal:3000", "10.1.1.1:80"],
    "a socket": ["unix:/run/app.sock"],
    "many": [f"10.1.{n}.1:80" for n in range(200)],
    "many ports": [f"10.1.1.1:{n}" for n in range(1000, 1200)],
    "many names": [f"app{n}.internal:{n}" for n in range(1000, 1200)],
    "none": ["10.1.1.1:80 down"],
}


@needs_tcpdump
@pytest.mark.parametrize("name", SERVERS)
def test_the_filter_is_one_of_tcpdump(advise, name):
    advice = advise(*SERVERS[name])
    compiles(advice.filter)
    words = shlex.split(" ".join(line.removesuffix("\\") for line in advice.command))
    assert words[0] == "tcpdump"
    assert words[-1].split() == advice.filter.split()
    compiles(words[-1])
    assert all(len(line) <= 76 for line in advice.command)


@needs_tcpdump
def test_alternatives_are_grouped_as_they_are_meant(advise):
    """``and`` and ``or`` bind alike: without parentheses the second host would lose its port."""
    program = compiles(advise("10.1.1.1:80", "10.1.1.2:8080").filter)
    meant = compiles("(tcp port 80 and host 10.1.1.1) or (tcp port 8080 and host 10.1.1.2) or (icmp) or (icmp6)")
    assert program == meant


def test_what_a_filter_cannot_take_is_said(advise):
    assert any("unix socket" in text for text in advise("unix:/run/app.sock").remarks)
    assert "by port" in advise("app.internal:3000").remarks[0]
    assert "app.internal" not in " ".join(advise("app.internal:3000").command)
    assert "narrows it down" in advise_capture(None).remarks[0]


def test_upstreams_that_were_named_are_taken():
    advice = advise_capture(None, (parse_endpoint("10.1.1.1"), parse_endpoint("[::1]:80")))
    assert advice.upstreams == ("10.1.1.1", "[::1]:80")
    assert advice.filter == "(tcp and host 10.1.1.1) or (tcp port 80 and host ::1) or icmp or icmp6"


@pytest.mark.parametrize("hostile", ["$(touch x)", "`id`", "a;reboot", "'x'", "a\\b"])
def test_nothing_of_a_configuration_reaches_the_shell(tmp_path, hostile):
    path = tmp_path / "haproxy.cfg"
    path.write_text(f"backend b{hostile}\n  mode http\n  server s{hostile} h{hostile}:80\n  server t 10.1.1.1:81\n")
    advice = advise_capture(read_proxy_conf(path))
    text = "\n".join((*advice.command, *advice.log_settings))
    assert hostile not in text


def test_only_what_the_logs_lack_is_asked_for(advise, tmp_path):
    *http, level = advise("10.1.1.1:80").log_settings
    assert http[0].startswith("log_format pcapdiag ")
    assert level == "error_log /var/log/nginx/error.log info;"
    path = tmp_path / "whole.conf"
    path.write_text(f"{level} http {{ {' '.join(http)} upstream a {{ server 10.1.1.1:80; }} }}")
    assert advise_capture(read_proxy_conf(path)).log_settings == ()
    path.write_text(f"http {{ {' '.join(http)} upstream a {{ server 10.1.1.1:80; }} }}")
    assert advise_capture(read_proxy_conf(path)).log_settings == (level,)


def test_the_format_that_is_asked_for_is_one_that_is_read():
    line = '1796140788.769 2 3 10.9.9.9:44146 200 0.169 "10.1.1.1:80" "200" "0.000" "0.169" "0.169" "GET /a HTTP/1.1"'
    values = compile_format(" ".join(_NGINX_FORMAT)).match(line)
    assert {"1796140788.769", "2", "10.1.1.1:80", "0.169", "GET /a HTTP/1.1"} <= set(values)


@pytest.mark.parametrize("kind", ProxyKind)
def test_each_proxy_is_asked_in_its_own_words(kind):
    advice = advise_capture(None, kind=kind)
    assert advice.log_remark.endswith(".")
    # Those that log by themselves what is read of them.
    assert bool(advice.log_settings) is (kind not in {ProxyKind.APACHE, ProxyKind.ENVOY})
    if kind is not ProxyKind.NGINX:
        assert not any("log_format pcapdiag '" in line and line.endswith(";") for line in advice.log_settings)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_the_log_settings(advise, tmp_path):
    *lines, level = advise("10.1.1.1:80").log_settings
    text = f"{level} events {{}} http {{ {chr(10).join(lines)} }}".replace("/var/log/nginx", str(tmp_path))
    (tmp_path / "n.conf").write_text(f"pid {tmp_path}/pid; {text}")
    done = subprocess.run(
        ["nginx", "-t", "-c", str(tmp_path / "n.conf")], capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr


@needs_tcpdump
@pytest.mark.skipif(os.geteuid() != 0, reason="capturing needs root")
def test_the_command_captures_what_it_names_and_nothing_else(advise, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port = server.getsockname()[1]
        command = "\n".join(advise(f"127.0.0.1:{port}").command)
        folder = tmp_path / "ring"
        folder.mkdir()
        folder.chmod(0o777)
        for parent in folder.parents:
            if parent.stat().st_uid == os.getuid() and parent != parent.parent and "pytest" in str(parent):
                parent.chmod(0o755)
        command = command.replace("/var/tmp/", f"{folder}/").replace("-i any", "-i lo -U --immediate-mode")  # noqa: S108 - what is replaced
        process = subprocess.Popen(["sh", "-c", f"exec {command}"], stderr=subprocess.PIPE, text=True)
        try:
            assert any("listening on" in line for line in process.stderr), "tcpdump did not start"
            for end in (server, other):
                with socket.create_connection(end.getsockname()) as client:
                    client.sendall(b"GET /a HTTP/1.1\r\n\r\n")
                    end.accept()[0].close()
            wait_until(lambda: sum(file.stat().st_size for file in folder.iterdir()) > 300)
            time.sleep(0.2)
        finally:
            process.terminate()
            process.wait(HANG_S)
            process.stderr.close()
    from pcapdiag import analyze

    result = analyze(*map(str, sorted(folder.iterdir())), upstreams=[f"127.0.0.1:{port}"])
    assert {int(str(name).rpartition(":")[2]) for name in result.connections["resp"]} == {port}
