"""A change to the configuration, in words."""

from dataclasses import replace

import pytest

from pcapdiag.base.findings import Change
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.rules._changes import change_block, change_line

CHANGE = Change(
    *("nginx", "nginx.conf", 23, "upstream api", "keepalive_timeout", "60s", "55s"),
    *("keepalive_timeout 60s;", "keepalive_timeout 55s;"),
    old_is_assumed=False,
    is_new=False,
)


@pytest.fixture
def conf(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(text, name="nginx.conf", version=""):
        (tmp_path / name).write_text(text)
        return read_proxy_conf(name, version=version)

    return read


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "nginx.conf line 23, upstream api: keepalive_timeout 60s -> 55s"),
        (
            {"is_new": True, "old_is_assumed": True, "old_text": ""},
            "nginx.conf line 23, upstream api: add keepalive_timeout 55s; (the default holds, 60s)",
        ),
        ({"new": "", "text": ""}, "nginx.conf line 23, upstream api: remove keepalive_timeout 60s;"),
        ({"file": "", "line": -1}, "upstream api: keepalive_timeout 60s -> 55s"),
        ({"old": ""}, "nginx.conf line 23, upstream api: keepalive_timeout 55s"),
        (
            {"since": "1.15.3", "is_supported": None},
            "nginx.conf line 23, upstream api: keepalive_timeout 60s -> 55s (nginx 1.15.3 or later)",
        ),
        (
            {"setting": "x", "since": "1.15.3", "is_supported": False},
            "nginx.conf line 23, upstream api: x 60s -> 55s; this version does not know it, nginx 1.15.3 does",
        ),
        ({"where": "location /a\n    rm b"}, "nginx.conf line 23, location /a rm b: keepalive_timeout 60s -> 55s"),
    ],
)
def test_a_change_is_one_line(changes, text):
    assert change_line(replace(CHANGE, **changes)) == text


def test_many_changes_are_counted_and_what_they_bring_is_said_once():
    block = change_block([replace(CHANGE, line=n, caution="it costs") for n in range(1, 16)])
    assert block.count("upstream api") == 12
    assert "    and 3 more" in block
    assert block.endswith("Mind that it costs.")
