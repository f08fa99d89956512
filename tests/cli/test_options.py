"""Options that commands share: what a command is given of them."""

import click
import pytest
from click.testing import CliRunner

from pcapdiag.base.errors import UsageError
from pcapdiag.cli import options
from pcapdiag.report.render import terminal


def run(*decorators, arguments=(), env=None):
    seen = {}

    def command(**values):
        seen.update(values)

    command = click.command()(options.options(*decorators)(command))
    done = CliRunner().invoke(command, list(arguments), env=env or {})
    return done, seen


def test_sections_are_those_of_the_report():
    assert tuple(terminal.SECTIONS) == options.SECTIONS


def test_help_lists_options_in_their_order():
    done, _ = run(options.option("--first"), options.option("--second-one"), arguments=["--help"])
    assert done.output.index("--first") < done.output.index("--second-one")
    assert "PCAPDIAG_SECOND_ONE" in done.output


def test_an_option_is_read_from_the_environment_and_the_command_line_wins():
    name = options.command_option("--log-thing", variable="THING")
    assert run(name, env={"PCAPDIAG_THING": "x"})[1] == {"log_thing": "x"}
    assert run(name, arguments=["--log-thing", "y"], env={"PCAPDIAG_THING": "x"})[1] == {"log_thing": "y"}


def test_inputs_come_as_one_and_take_nothing_else_along():
    decorators = options.collect_inputs, options.role_options, options.log_options(), options.redact_option
    done, seen = run(*decorators, options.verbose_option, arguments=["--proxy", "10.0.0.1", "--no-redact", "-v"])
    assert done.exit_code == 0, done.output
    inputs = seen["inputs"]
    assert (inputs.proxies, inputs.redact, inputs.log_zone) == (("10.0.0.1",), False, "auto")


@pytest.mark.parametrize(("value", "codes"), [("PD101,PD2", ("PD101", "PD2")), (" PD101 ,, ", ("PD101",)), ("", ())])
def test_codes_are_split_at_commas(value, codes):
    assert run(options.code_options, arguments=["--select", value])[1]["select"] == codes


def test_a_section_that_does_not_exist_is_refused_with_those_that_do():
    done, _ = run(options.show_option, arguments=["--show", "ledger,nothing"])
    assert done.exit_code == 2
    assert "'nothing' is no section" in done.output
    assert all(name in done.output for name in options.SECTIONS)
    assert run(options.show_option, arguments=["--show", "ledger, upstreams"])[1] == {"show": ("ledger", "upstreams")}


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [([], "terminal"), (["--format", "json"], "json"), (["-o", "x.json"], "json"), (["-o", "x.txt"], "terminal")],
)
def test_the_name_of_a_file_chooses_its_format(arguments, chosen):
    declared = options.format_option(["terminal", "json"], "Form.", variable="FORM")
    done, seen = run(declared, options.file_options, arguments=arguments)
    assert done.exit_code == 0, done.output
    assert seen["format_"] == chosen


def test_a_name_that_contradicts_the_format_is_refused():
    declared = options.format_option(["markdown", "json"], "Form.", variable="FORM")
    done, _ = run(declared, options.file_options, arguments=["--format", "markdown", "-o", "x.json"])
    assert isinstance(done.exception, UsageError)
    assert "contradicts -o x.json" in str(done.exception)
