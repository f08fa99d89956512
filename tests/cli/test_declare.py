"""One declaration per option: line, variable and file."""

import click
import pytest

from pcapdiag.cli import main
from pcapdiag.cli.config import file_options
from pcapdiag.cli.declare import OptionPlace, PlacedOption
from tests.conftest import ROOT

RACE = ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap"


@pytest.fixture
def run(invoke, tmp_path, monkeypatch):
    """Return a function that runs with variables, and without any file."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **env: invoke(*arguments, env={"XDG_CONFIG_HOME": str(tmp_path), **env})


def test_a_bad_value_of_a_variable_names_the_variable_and_one_of_the_line_no_variable(run):
    assert "the variable PCAPDIAG_WIDTH: 5 is not in the range" in run("analyze", RACE, PCAPDIAG_WIDTH="5").stderr
    said = run("analyze", RACE, "--width", "5").stderr
    assert "'--width': 5 is not in the range" in said
    assert "PCAPDIAG_" not in said


def all_options():
    """Yield each command's name with each of its options."""
    context = click.Context(main)
    for name in main.list_commands(context):
        for param in main.get_command(context, name).params:
            if isinstance(param, click.Option):
                yield name, param


def test_every_option_is_declared_once_for_line_variable_and_file():
    """Only what decides about one run has no place beside the line: whether secrets stay, and files are overwritten."""
    variables = {}
    for name, option in all_options():
        assert isinstance(option, PlacedOption), (name, option.name)
        if option.place is OptionPlace.LINE:
            assert option.key in ("force", "no-redact", "config")
        else:
            assert option.envvar.startswith("PCAPDIAG_"), (name, option.key)
            assert option.show_envvar == (name.replace("-", "_").upper() not in option.envvar), option.envvar
            assert option.key in file_options(main, name)
            known = variables.setdefault(option.envvar, option)
            assert known.key == option.key, option.envvar
            assert known.type.name == option.type.name, option.envvar


def test_a_variable_of_one_command_bears_its_name(run):
    assert run("show", "exchanges", RACE, PCAPDIAG_SHOW_COLUMNS="resp", PCAPDIAG_SHOW_FORMAT="csv").stdout.startswith(
        "resp\n"
    )
