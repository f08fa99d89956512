"""Where the result of analyze goes: files, folders, tickets and tables, and what is never overwritten or followed."""

import csv
import io
import json
import os
import re
import stat
import sys

import pandas as pd
import pytest

import pcapdiag
from pcapdiag.report.render.dialects import DIALECTS
from tests.conftest import ROOT
from tests.ticket.evidence import scenes

RACE = ROOT / "captures" / "idle_close_race_before" / "proxy.pcap"
TABLES = {"findings": 3, "occurrences": 11, "exchanges": 73}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("table", TABLES)
def test_one_table_goes_into_one_file(invoke, table):
    done = invoke("analyze", RACE, "--format", "csv", "--table", table)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == TABLES[table]
    assert done.returncode == 1


def test_findings_are_the_table_that_nobody_has_to_ask_for(invoke):
    assert invoke("analyze", RACE, "--format", "csv").stdout.startswith("code,name,title,severity,confidence,subject,")


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_a_folder_gets_every_table(invoke, tmp_path, format_):
    folder = tmp_path / "tables"
    assert invoke("analyze", RACE, "--format", format_, "-o", f"{folder}/").returncode == 1
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}[format_]
    assert {path.stem: len(read(path)) for path in folder.iterdir()} == TABLES
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_table_says_what_the_api_says(invoke, tmp_path):
    invoke("analyze", RACE, "--format", "parquet", "--table", "exchanges", "-o", tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "x.parquet"), pcapdiag.analyze(RACE).exchanges, check_dtype=False
    )


@pytest.mark.compiled_only
def test_a_folder_gets_the_ticket_and_its_charts(invoke, tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    invoke("analyze", RACE, "--format", "markdown", "-o", folder)
    text = (folder / "report.md").read_text()
    shown = re.findall(r"^!\[[^]]+\]\(([a-z-]+\.png)\)$", text, re.MULTILINE)
    assert {*shown, "report.md"} == {path.name for path in folder.iterdir()}
    assert len(shown) >= 2
    assert all((folder / name).read_bytes().startswith(PNG) for name in shown)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    again = tmp_path / "again"
    invoke("analyze", RACE, "--format", "markdown", "-o", f"{again}/")
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in (*shown, "report.md"))


def test_nothing_in_a_folder_is_overwritten_by_accident(invoke, tmp_path):
    (tmp_path / "occurrences.csv").write_text("mine")
    done = invoke("analyze", RACE, "--format", "csv", "-o", tmp_path)
    assert done.returncode == 2
    assert "occurrences.csv exists already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["occurrences.csv"]
    assert (tmp_path / "occurrences.csv").read_text() == "mine"
    assert invoke("analyze", RACE, "--format", "csv", "-o", tmp_path, "--force").returncode == 1
    assert (tmp_path / "occurrences.csv").read_text() != "mine"


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_no_link_leads_out_of_the_folder(invoke, tmp_path, force):
    outside = tmp_path / "precious"
    outside.write_text("mine")
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "findings.csv").symlink_to(outside)
    done = invoke("analyze", RACE, "--format", "csv", "-o", folder, *force)
    assert done.returncode == 2
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("format_", ["terminal", "json", "jira", "adf", "slack"])
def test_what_is_one_file_wants_no_folder(invoke, tmp_path, format_):
    done = invoke("analyze", RACE, "--format", format_, "-o", tmp_path)
    assert done.returncode == 2
    assert "is one file" in done.stderr
    assert not os.listdir(tmp_path)  # noqa: PTH208 - empty is the point


def test_a_folder_that_cannot_be_made_is_named(invoke, tmp_path):
    done = invoke("analyze", RACE, "--format", "csv", "-o", f"{tmp_path}/none/tables/")
    assert done.returncode == 2
    assert "cannot make the folder" in done.stderr


@pytest.mark.parametrize("format_", ["markdown", "jira", "adf", "slack"])
def test_a_ticket_fits_its_system(invoke, format_):
    text = invoke("analyze", RACE, "--format", format_).stdout
    assert "11 of 73 requests got no answer" in text
    assert len(text.encode()) <= DIALECTS["github" if format_ == "markdown" else format_].limit
    if format_ == "adf":
        assert json.loads(text)["type"] == "doc"


@pytest.mark.parametrize("table", TABLES)
def test_an_anonymous_table_holds_no_address_and_no_name_of_the_capture(invoke, table):
    plain = invoke("analyze", RACE, "--format", "csv", "--table", table).stdout
    hidden = invoke("analyze", RACE, "--format", "csv", "--table", table, "--anonymize").stdout
    assert "10.1.1." in plain
    assert ("api.example.test" in plain) == (table != "findings")
    assert "10.1.1." not in hidden
    assert "api.example.test" not in hidden
    assert len(hidden.splitlines()) == len(plain.splitlines())


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return a capture and an error log that hold secrets wherever a request may carry one."""
    folder = tmp_path_factory.mktemp("planted")
    scenes.write(folder / "proxy.pcap", scenes.race())
    (folder / "error.log").write_text(
        "2026/11/20 23:56:01 [error] 7#7: *5 upstream prematurely closed connection while reading response header from "
        f'upstream, client: 203.0.113.7, server: s, request: "POST /orders?token={scenes.QUERY} HTTP/1.1", '
        f'upstream: "http://{scenes.USER}@10.1.1.2:80/orders?token={scenes.QUERY}", host: "shop.example.test"\n'
    )
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--format", name] for name in ("terminal", "markdown", "jira", "adf", "slack", "json")),
        *(["--format", "csv", "--table", name] for name in TABLES),
    ],
)
def test_no_planted_secret_leaves_unless_that_is_asked_for(invoke, planted, arguments):
    inputs = (planted / "proxy.pcap", "--error-log", planted / "error.log")
    text = invoke("analyze", *inputs, *arguments).stdout
    assert text
    assert not [secret for secret in scenes.SECRETS if secret in text]
    if "exchanges" in arguments or "json" in arguments:
        assert scenes.QUERY in invoke("analyze", *inputs, *arguments, "--no-redact").stdout


def test_parquet_without_pyarrow_is_refused_before_the_work(invoke, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = invoke("analyze", tmp_path / "none.pcap", "--format", "parquet", "-o", tmp_path / "x.parquet")
    assert done.returncode == 2
    assert "pip install 'pcapdiag[parquet]'" in done.stderr
    assert not (tmp_path / "x.parquet").exists()
