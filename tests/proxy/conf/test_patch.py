"""Changes as a diff that the real `patch` takes, after which the real nginx still reads the file."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pcapdiag.proxy.conf.patch import unified_patch
from pcapdiag.proxy.conf.put import put_setting
from pcapdiag.proxy.conf.read import read_proxy_conf
from tests.waiting import HANG_S

HTTP = """daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
access_log off;
{body}
}}
"""
SPACED = """  upstream be {
    least_conn;
    server 10.1.1.1:80;
    server 10.1.1.2:80 weight=2;

    keepalive 32;
    keepalive_timeout 60s;
  }
  upstream other {
    server 10.2.2.2:80;
    keepalive 8;
  }
  server {
    listen 127.0.0.1:8080;
    location / {
      proxy_pass http://be;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
    location /b { proxy_pass http://be; proxy_next_upstream timeout; proxy_set_header Connection ''; }
  }"""
SHAPES = {
    "spaces": SPACED,
    "tabs": SPACED.replace("  ", "\t"),
    "nothing set": SPACED.replace("    keepalive_timeout 60s;\n", ""),
    "one line": (
        "upstream be { server 10.1.1.1:80; server 10.1.1.2:80; keepalive 32; keepalive_timeout 1m; }\n"
        "server { listen 127.0.0.1:8080; location / { proxy_pass http://be; } }"
    ),
    "one line, nothing set": (
        "upstream be { server 10.1.1.1:80; server 10.1.1.2:80; keepalive 32; }\n"
        "server { listen 127.0.0.1:8080; location / { proxy_pass http://be; } }"
    ),
    "braces of their own": (
        "upstream be\n{\n  server 10.1.1.1:80 weight=2;\n  server 10.1.1.2:80;\n  keepalive 32;\n"
        "  # } keepalive_timeout 5s;\n  keepalive_timeout   60s ;\n}\n"
        "server\n{\n listen 127.0.0.1:8080;\n location /\n {\n  proxy_pass http://be;\n }\n}"
    ),
}
ASKED = [
    ("proxy.keepalive_timeout", "3s"),
    ("proxy.keepalive_timeout", "300ms"),
    ("proxy.keepalive", "8"),
    ("proxy.keepalive", "0"),
    ("max_fails", "0"),
    ("max_fails", "10"),
    ("backup", "+10.1.1.1:80 +10.1.1.2:80"),
    ("next_upstream", "error,timeout,non_idempotent"),
]
needs_patch = pytest.mark.skipif(shutil.which("patch") is None, reason="patch is not installed")


def changes_of(path, *asked):
    settings = read_proxy_conf(path, version="1.22.1")
    return [change for key, value in asked for change in put_setting(settings, ["be"], key, value)]


def patched(folder, text, *options):
    """Let the real `patch` take a diff, strictly: no line may be guessed."""
    command = ["patch", "--fuzz=0", "--batch", *(options or ("-p0",))]
    return subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, timeout=HANG_S, check=False)


def write(folder, body, *, name="nginx.conf"):
    path = folder / name
    path.write_text(HTTP.format(folder=folder, body=body))
    return path


@needs_patch
@pytest.mark.parametrize("asked", ASKED, ids="=".join)
@pytest.mark.parametrize("shape", SHAPES)
def test_patch_takes_it_and_then_nothing_is_left_to_change(tmp_path, monkeypatch, shape, asked):
    monkeypatch.chdir(tmp_path)
    path = Path("nginx.conf")
    write(tmp_path, SHAPES[shape])
    before = path.read_text()
    changes = changes_of(path, asked)
    text = unified_patch(changes, str(path))
    assert text
    done = patched(tmp_path, text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fuzz" not in done.stdout
    assert "offset" not in done.stdout
    assert path.read_text() != before
    # No pool, once its line is gone, is what nginx had before 1.29.7; all else is read back as it was asked for.
    assert changes_of(path, asked) == []
    nginx = shutil.which("nginx")
    if nginx is not None:
        command = [nginx, "-t", "-q", "-p", str(tmp_path), "-c", str(tmp_path / path)]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
        assert "emerg" not in checked.stderr, checked.stderr
        assert checked.returncode == 0, checked.stderr


@needs_patch
def test_two_settings_are_one_diff(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, SPACED)
    asked = [("max_fails", "0"), ("proxy.keepalive_timeout", "3s"), ("next_upstream", "error,timeout,non_idempotent")]
    text = unified_patch(changes_of(Path("nginx.conf"), *asked), "nginx.conf")
    done = patched(tmp_path, text)
    assert text
    assert done.returncode == 0, done.stdout
    assert changes_of(Path("nginx.conf"), *asked) == []


@needs_patch
def test_included_files_and_absolute_names(tmp_path):
    write(tmp_path, "include be.conf;")
    (tmp_path / "be.conf").write_text(SPACED)
    path = tmp_path / "nginx.conf"
    asked = ("proxy.keepalive_timeout", "3s")
    text = unified_patch(changes_of(path, asked), str(path))
    assert text.startswith(f"--- {tmp_path}/be.conf\n")
    done = patched(tmp_path, text, "-p1", "-d", "/")
    assert done.returncode == 0, done.stdout
    assert "keepalive_timeout 3s;" in (tmp_path / "be.conf").read_text()


@needs_patch
def test_of_a_dump_each_file_is_named_as_nginx_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main = HTTP.format(folder=tmp_path, body="include conf.d/be.conf;")
    dump = f"# configuration file main.conf:\n{main}\n# configuration file conf.d/be.conf:\n{SPACED}\n"
    Path("dump.txt").write_text(dump)
    text = unified_patch(changes_of(Path("dump.txt"), ("max_fails", "0")), "dump.txt")
    assert text.startswith("--- conf.d/be.conf\n")
    Path("conf.d").mkdir()
    Path("conf.d/be.conf").write_text(f"{SPACED}\n")
    done = patched(tmp_path, text)
    assert done.returncode == 0, done.stdout
    assert Path("conf.d/be.conf").read_text().count("max_fails=0") == 2


@pytest.mark.parametrize(
    "secret",
    [
        'proxy_set_header Authorization "Basic aHVzaDpodXNo";',
        "# password: hush",
        "auth_basic_user_file /etc/nginx/hush;",
        'set $key "hush"; keepalive_requests 9;',
        'proxy_set_header X-Key\n      "hush";',
    ],
)
def test_lines_that_may_hold_a_secret_are_not_quoted(tmp_path, monkeypatch, secret):
    monkeypatch.chdir(tmp_path)
    around = f"{secret}\nupstream be {{\n server 10.1.1.1:80;\n keepalive 4; keepalive_timeout 60s;\n}}\n{secret}\n"
    write(tmp_path, around)
    text = unified_patch(changes_of(Path("nginx.conf"), ("proxy.keepalive_timeout", "3s")), "nginx.conf")
    assert "+ keepalive 4; keepalive_timeout 3s;" in text
    assert "hush" not in text
    assert "aHVz" not in text


@pytest.mark.parametrize(
    "body",
    [
        # Which of the two is meant no line number tells.
        "upstream be { server ::1; keepalive 4; keepalive_timeout 9s;} upstream b { server ::2; keepalive_timeout 9s;}",
        # What stands beside it on its line may be a secret.
        'upstream be { server 10.1.1.1:80; keepalive 4; keepalive_timeout 60s; } map $uri $a { default "hush"; }',
        # patch and nginx disagree on where a line ends.
        "upstream be {\r\n server 10.1.1.1:80;\r\n keepalive 4;\r\n keepalive_timeout 60s;\r\n}",
        "upstream be {\n server 10.1.1.1:80;\n keepalive 4;\n keepalive_timeout 60s; # slow application\n}",
        "upstream be {\n server 10.1.1.1:80;\n keepalive 4;\n keepalive_timeout\n  60s;\n}",
    ],
)
def test_where_no_diff_is_certain_or_safe_there_is_none(tmp_path, body):
    path = tmp_path / "nginx.conf"
    path.write_bytes(HTTP.format(folder=tmp_path, body=body).encode())
    changes = changes_of(path, ("proxy.keepalive_timeout", "3s"))
    assert changes
    assert unified_patch(changes, str(path)) == ""


def test_without_changes_there_is_nothing_to_patch(tmp_path):
    assert unified_patch([], str(tmp_path / "none")) == ""
