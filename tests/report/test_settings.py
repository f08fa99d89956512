"""Facts about the section on settings: only what findings rest on, each with its line or why it was assumed."""

import pytest

from pcapdiag.analysis.model import Endpoint
from pcapdiag.base.findings import Severity
from pcapdiag.proxy.conf.describe import SettingRow
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.report.settings import settings_grid, settings_read, settings_title
from tests.report.builders import analysis, finding, upstream

NGINX = """upstream be {
    server 10.1.1.1:80 max_fails=2;
    server 10.1.1.2:80;
    keepalive 32;
}
upstream other { server 10.9.9.9:80; }
server { location / { proxy_pass http://be; proxy_read_timeout 5s; } }
"""


@pytest.fixture
def given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nginx.conf").write_text(NGINX)
    return analysis(upstreams=(upstream(endpoint=Endpoint("10.1.1.1", 80)),), settings=read_proxy_conf("nginx.conf"))


def names(rows):
    return [f"{row.of}: {row.name}" for row in rows]


def test_without_a_configuration_there_is_nothing_to_say():
    assert settings_read(analysis(), ()) == ()


def test_a_race_rests_on_the_pool_of_its_own_block(given):
    rows = settings_read(given, [finding(code="PD101", subject="10.1.1.1:80")])
    assert names(rows) == ["upstream be: keepalive", "upstream be: keepalive_timeout"]
    assert [row.source for row in rows] == ["nginx.conf:4", ""]
    assert "default of nginx" in rows[1].why


def test_that_nothing_was_found_rests_on_the_pool_too(given):
    assert names(settings_read(given, [])) == ["upstream be: keepalive", "upstream be: keepalive_timeout"]


def test_a_slow_upstream_rests_on_the_timeout_of_its_location(given):
    rows = settings_read(given, [finding(code="PD204", subject="10.1.1.1:80")])
    assert "location /: proxy_read_timeout" in names(rows)
    assert not any("keepalive" in row.name for row in rows)


def test_a_block_is_found_by_its_name_as_well(given):
    rows = settings_read(given, [finding(code="PD601", subject="other", severity=Severity.ERROR)])
    assert {row.of for row in rows if row.of.startswith("upstream")} == {"upstream other"}


def test_servers_with_the_same_setting_share_a_row_and_the_only_file_is_named_once():
    rows = [
        SettingRow("upstream be", f"server 10.1.1.{n}:80 max_fails", "1", "", "default of nginx") for n in range(3)
    ] + [SettingRow("upstream be", "server 10.1.1.9:80 max_fails", "3", "a/nginx.conf:7", "")]
    assert settings_title(rows) == "Settings read from a/nginx.conf"
    assert settings_grid(rows).rows == (
        ("upstream be: max_fails of 3 servers", "1", "assumed: default of nginx"),
        ("upstream be: max_fails of 10.1.1.9:80", "3", "line 7"),
    )


def test_of_several_files_each_is_named_and_a_long_table_is_counted():
    rows = [SettingRow("upstream be", f"name{n}", "1", f"{n % 2}.conf:7", "") for n in range(30)]
    assert settings_title(rows) == "Settings read"
    grid = settings_grid(rows)
    assert grid.rows[0][2] == "0.conf:7"
    assert grid.rows[-1][0] == "and 10 more"
