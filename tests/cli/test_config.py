"""Defaults: the command line over the environment over the nearest pcapdiag.toml over the one at home."""

import json

import pytest

from pcapdiag.cli.config import _find_lines
from tests.conftest import ROOT

RACE = ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap"


@pytest.fixture
def run(invoke, tmp_path, monkeypatch):
    """Return a function that runs with the given configuration files and variables."""

    def run(*arguments, here="", home="", **env):
        (tmp_path / "here").mkdir(exist_ok=True)
        (tmp_path / "home" / "pcapdiag").mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / "pcapdiag.toml").write_text(here)
        (tmp_path / "home" / "pcapdiag" / "pcapdiag.toml").write_text(home)
        monkeypatch.chdir(tmp_path / "here")
        return invoke(*arguments, env={"XDG_CONFIG_HOME": str(tmp_path / "home"), **env})

    return run


def test_a_file_here_wins_over_one_at_home_key_by_key(run):
    home = '[analyze]\nfail-on = "never"\nformat = "json"\n'
    done = run("analyze", RACE, home=home, here='[analyze]\nformat = "markdown"\n')
    assert done.stdout.startswith("**")
    assert done.returncode == 0


def test_the_environment_wins_over_files_and_the_command_line_over_all(run):
    here = '[analyze]\nformat = "markdown"\n'
    assert run("analyze", RACE, here=here, PCAPDIAG_FORMAT="json").stdout.startswith("{")
    assert run("analyze", RACE, "--format", "markdown", PCAPDIAG_FORMAT="json").stdout.startswith("**")


def test_several_values_are_a_list(run):
    done = run("analyze", RACE, here='[analyze]\nignore = ["PD101", "PD110"]\n')
    assert done.returncode == 0
    assert run("analyze", RACE, PCAPDIAG_IGNORE="PD101,PD110").returncode == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[analyze\n", "not valid TOML"),
        ("[analyse]\n", "[analyse] has no place there"),
        ('[analyze]\noutput = "/etc/passwd"\n', "pcapdiag.toml:2: 'output' in [analyze] has a place only in"),
        ("[analyze]\nforce = true\n", "'force' has no place in [analyze]"),
        ("[analyze]\nno-redact = true\n", "'no-redact' has no place in [analyze]"),
        ('analyze = "x"\n', "[analyze] has no place there"),
        ('[analyze]\nformat = "pdf"\n', "format in [analyze], pcapdiag.toml:2: 'pdf' is not one of"),
        ("# mine\n[analyze]\n\nwidth = 5\n", "width in [analyze], pcapdiag.toml:4: 5 is not in the range"),
        ("[show]\nlimit = 3\n[analyze]\nlimit = 3\n", "pcapdiag.toml:4: 'limit' has no place in [analyze]"),
        ('[analyze]\nformt = "json"\n', "did you mean format?"),
        ("[analyze]\nwidth = [80, 90]\n", "pcapdiag.toml:2: 'width' in [analyze] takes one value"),
        ("analyze.width = 5\n", "width in [analyze], pcapdiag.toml: 5 is not in the range"),
        ('[completion]\nshell = "zsh"\n', "[completion] has no place there"),
    ],
)
def test_what_has_no_place_in_a_file_is_refused(run, text, reason):
    done = run("analyze", RACE, here=text)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stdout == ""


OWN = """[scan]
paths = ["{captures}"]
store = "{work}/store.db"
out = "{work}/site"
metrics = "{work}/pcapdiag.prom"
jsonl = "{work}/findings.jsonl"
no-exchanges = true
keep-days = 30
fail-on = "never"
[history]
store = "{work}/store.db"
"""


@pytest.mark.compiled_only
def test_ones_own_file_may_hold_everything_that_a_scan_needs(run, tmp_path):
    (tmp_path / "captures").mkdir()
    (tmp_path / "captures" / "proxy.pcap").write_bytes(RACE.read_bytes())
    home = OWN.format(captures=tmp_path / "captures", work=tmp_path)
    done = run("scan", home=home)
    assert done.returncode == 0, done.stderr
    assert "1 read" in done.stdout
    assert (tmp_path / "site" / "index.html").exists()
    assert (tmp_path / "pcapdiag.prom").exists()
    assert (tmp_path / "findings.jsonl").exists()
    assert "PD101" in run("history", home=home).stdout


@pytest.mark.parametrize(
    "line",
    [
        'out = "/etc"',
        'metrics = "x.prom"',
        'notify = ["json://evil.example"]',
        'paths = ["/"]',
        'store = "x.db"',
        "keep-days = 1",
        'error-log = "/etc/passwd"',
    ],
)
def test_a_file_beside_captures_chooses_neither_places_nor_whom_to_tell(run, line):
    done = run("scan", RACE, here=f"[scan]\n{line}\n")
    assert done.returncode == 2
    assert f"'{line.split()[0]}' in [scan] has a place only in" in done.stderr
    assert "evil.example" not in done.stderr


def test_urls_that_everybody_may_read_are_refused(run):
    home = '[scan]\nnotify = ["json://127.0.0.1/hidden-token"]\n'
    done = run("scan", RACE, home=home)
    assert done.returncode == 2
    assert "chmod o-r" in done.stderr
    assert "hidden-token" not in done.stderr + done.stdout


def test_what_to_watch_for_may_stand_in_a_file(run):
    done = run("watch", "--help", here='[watch]\nfail-on = "error"\nproxy = ["10.0.0.1"]\n')
    assert done.returncode == 0


def test_a_file_that_others_can_write_is_not_obeyed(run, tmp_path):
    """Here it is passed over aloud; at home, where more is asked of it, it ends the run."""
    run("analyze", RACE, here='[analyze]\nformat = "json"\n')
    (tmp_path / "here" / "pcapdiag.toml").chmod(0o666)
    done = run("analyze", RACE, here='[analyze]\nformat = "json"\n')
    assert not done.stdout.startswith("{")
    assert done.stderr.startswith("pcapdiag: pcapdiag.toml is not read: everybody may write to ")
    (tmp_path / "here" / "pcapdiag.toml").chmod(0o600)
    (tmp_path / "home" / "pcapdiag").chmod(0o777)
    done = run("analyze", RACE)
    assert done.returncode == 2
    assert "everybody may write to" in done.stderr


def test_the_nearest_file_above_counts(run, tmp_path, monkeypatch, invoke):
    run("analyze", RACE, here='[analyze]\nformat = "json"\n')
    below = tmp_path / "here" / "deep" / "deeper"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    home = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    assert invoke("analyze", RACE, env=home).stdout.startswith("{")
    (tmp_path / "here" / "deep" / "pcapdiag.toml").write_text('[analyze]\nformat = "markdown"\n')
    assert invoke("analyze", RACE, env=home).stdout.startswith("**")
    (tmp_path / "here" / "deep" / "pcapdiag.toml").write_text('[analyze]\nbundle = "x"\n')
    refused = invoke("analyze", RACE, env=home)
    assert f"{tmp_path}/here/deep/pcapdiag.toml:2: 'bundle' in [analyze] has a place only in" in refused.stderr


@pytest.mark.parametrize("before", [True, False])
def test_a_file_that_is_named_counts_alone_and_may_hold_all_that_a_file_may(run, tmp_path, before):
    named = tmp_path / "night.toml"
    named.write_text(f'[analyze]\noutput = "{tmp_path}/x.json"\nfail-on = "never"\n')
    option = ("--config", named)
    words = (*option, "analyze", RACE) if before else ("analyze", RACE, *option)
    done = run(*words, here="no TOML", home="no TOML either")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "x.json").read_text())["findings"]
    assert run("analyze", RACE, "--config", tmp_path / "none.toml").returncode == 2


def test_a_file_that_others_can_write_is_not_obeyed_though_named(run, tmp_path):
    named = tmp_path / "night.toml"
    named.write_text("")
    named.chmod(0o666)
    done = run("analyze", RACE, "--config", named)
    assert done.returncode == 2
    assert "everybody may write to" in done.stderr


def test_a_named_file_that_is_not_there_or_is_a_folder_is_refused(run, tmp_path):
    refused = run("analyze", RACE, "--config", tmp_path / "none.toml")
    assert (refused.returncode, "none.toml, which --config names, is not there" in refused.stderr) == (2, True)
    (tmp_path / "folder.toml").mkdir()
    assert run("analyze", RACE, "--config", tmp_path / "folder.toml").returncode == 2


def test_lines_are_found_in_one_pass_whatever_stands_between():
    text = '# [analyze]\n[scan]\nformat = "x"\n\n[analyze]\n"width" = 5\nselect = [\n  "PD1",\n]\n[scan.x]\n'
    lines = _find_lines(text)
    assert (lines["scan", ""], lines["scan", "format"]) == (2, 3)
    assert (lines["analyze", ""], lines["analyze", "width"], lines["analyze", "select"]) == (5, 6, 7)
