"""The name after -o chooses the format, unless --format contradicts it."""

import json
import zipfile

import pytest

from tests.conftest import ROOT

RACE = ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap"


def named(value):
    return value[0] if isinstance(value, list) else getattr(value, "__name__", value)


def is_csv(text):
    return text.startswith("request_frame,")


def is_markdown(text):
    return text.startswith("**") and "\n## " in text


def is_page(text):
    return text.lower().startswith("<!doctype html>")


BEGINS = {
    "r.html": b"<!doctype html>",
    "r.HTM": b"<!doctype html>",
    "r.json": b"{\n",
    "r.md": b"**8 of 53 requests",
    "r.csv": b"code,",
    "r.parquet": b"PAR1",
    "r.zip": b"PK",
    "r.sarif": b'{\n  "$schema": "https://json.schemastore.org/sarif-2.1.0.json"',
    "r.xml": b'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>',
    "r.txt": b"",
}


@pytest.mark.parametrize("name", BEGINS)
def test_the_name_of_the_file_chooses_the_format_of_a_report(invoke, tmp_path, name):
    done = invoke("analyze", RACE, "-o", tmp_path / name, "-q")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    written = (tmp_path / name).read_bytes()
    assert written.startswith(BEGINS[name])
    if name == "r.txt":
        assert written.decode() == invoke("analyze", RACE).stdout


def test_a_zip_is_the_bundle(invoke, tmp_path):
    assert invoke("analyze", RACE, "-o", tmp_path / "a.zip", "-q").returncode == 1
    assert invoke("analyze", RACE, "--bundle", tmp_path / "b.zip", "-q").returncode == 1
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert "report.html" in zipfile.ZipFile(tmp_path / "a.zip").namelist()


def test_a_zip_of_a_pipe_is_refused_before_it_is_read(invoke, tmp_path):
    done = invoke("analyze", "-", "-o", tmp_path / "a.zip", stdin=RACE.read_bytes())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "standard input" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "name", "check"),
    [
        (["show", "exchanges", RACE], "t.csv", is_csv),
        (["show", "exchanges", RACE], "t.json", json.loads),
        (["compare", RACE, RACE], "c.json", json.loads),
        (["compare", RACE, RACE], "c.md", is_markdown),
        (["whatif", RACE], "w.html", is_page),
        (["whatif", RACE], "w.json", json.loads),
    ],
    ids=named,
)
def test_so_it_does_for_the_other_commands(invoke, tmp_path, command, name, check):
    assert invoke(*command, "-o", tmp_path / name, "-q").returncode in {0, 1}
    assert check((tmp_path / name).read_text())


@pytest.mark.parametrize(
    ("command", "format_", "name"),
    [
        (["analyze", RACE], "json", "r.html"),
        (["analyze", RACE], "jira", "r.md"),
        (["show", "frames", RACE], "csv", "t.parquet"),
        (["compare", RACE, RACE], "terminal", "c.json"),
        (["whatif", RACE], "html", "w.md"),
        (["history"], "table", "h.csv"),
    ],
    ids=named,
)
def test_a_contradiction_is_refused(invoke, tmp_path, command, format_, name):
    done = invoke(*command, "--format", format_, "-o", tmp_path / name)
    assert done.returncode == 2
    assert done.stderr == (
        f"pcapdiag: --format {format_} contradicts -o {tmp_path / name}:"
        " leave out one of them, or give the file another name\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_jira_takes_is_json_too(invoke, tmp_path):
    assert invoke("analyze", RACE, "--format", "adf", "-o", tmp_path / "r.json").returncode == 1
    assert json.loads((tmp_path / "r.json").read_text())["type"] == "doc"


def test_what_a_command_cannot_write_is_refused(invoke, tmp_path):
    done = invoke("show", "frames", RACE, "-o", tmp_path / "t.html")
    assert done.returncode == 2
    assert done.stderr.startswith("pcapdiag: show writes no .html file; choose --format from table, csv, json, parquet")


def test_a_default_from_elsewhere_gives_way_to_the_name(invoke, tmp_path):
    env = {"PCAPDIAG_FORMAT": "jira"}
    assert invoke("analyze", RACE, "-o", tmp_path / "r.json", env=env).returncode == 1
    assert json.loads((tmp_path / "r.json").read_text())["totals"]
    env = {"PCAPDIAG_FORMAT": "adf"}
    assert invoke("analyze", RACE, "-o", tmp_path / "s.json", env=env).returncode == 1
    assert "totals" not in json.loads((tmp_path / "s.json").read_text()), "it fits, so it stands"


def test_a_folder_has_no_suffix(invoke, tmp_path):
    folder = tmp_path / "night.csv"
    folder.mkdir()
    assert invoke("analyze", RACE, "--format", "markdown", "-o", folder, "-q").returncode == 1
    assert (folder / "report.md").exists()
