"""What the README shows is what the program prints."""

import re
from pathlib import Path

from click.testing import CliRunner

from pcapdiag.cli import main

ROOT = Path(__file__).resolve().parent.parent


def demo_arguments():
    """Return what `make demo` gives to the command."""
    values = dict(re.findall(r"^(\w+) := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    return re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], values["DEMO_INPUT"]).split()


def test_the_what_if_in_the_readme_is_that_of_the_demo(monkeypatch):
    """Every row of its table is one that the program prints."""
    monkeypatch.chdir(ROOT)
    arguments = ["whatif", *demo_arguments(), "--recommend", "--format", "markdown", "-q"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    readme = (ROOT / "README.md").read_text()
    table = readme.split("| what is changed |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (\w[^|]*) \|(.*)\|$", table, re.MULTILINE)
    assert len(rows) == 3

    def cells(text):
        return [cell.strip("` ") for cell in text.split("|")]

    printed = [cells(line)[1:-1] for line in result.stdout.splitlines() if line.startswith("|")]
    assert [[name, *cells(rest)] for name, rest in rows if [name, *cells(rest)] not in printed] == []


def test_the_report_in_the_readme_is_that_of_the_demo(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    result = CliRunner().invoke(main, ["analyze", *demo_arguments(), "--width", "100"])
    assert result.exit_code == 1, result.output
    assert result.stdout.splitlines() == blocks[0].splitlines()
