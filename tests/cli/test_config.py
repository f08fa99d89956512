"""Defaults: the command line over the environment over pcapdiag.toml here over pcapdiag.toml at home."""

import pytest

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
        ('[analyze]\noutput = "/etc/passwd"\n', "'output' has no place in [analyze]"),
        ("[analyze]\nforce = true\n", "'force' has no place in [analyze]"),
        ("[analyze]\nno-redact = true\n", "'no-redact' has no place in [analyze]"),
        ('analyze = "x"\n', "[analyze] has no place there"),
        ('[analyze]\nformat = "pdf"\n', "'pdf' is not one of"),
    ],
)
def test_what_has_no_place_in_a_file_is_refused(run, text, reason):
    done = run("analyze", RACE, here=text)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stdout == ""
