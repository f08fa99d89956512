"""Documentation that is made from the code is what the code says, and links lead somewhere."""

import ast
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from pcapdiag.cli import main as cli
from pcapdiag.proxy.conf.settings import ProxyKind
from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "captures").glob("*/README.md")])


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_made_pages_are_what_the_code_says(generate):
    assert generate.find_drift(generate.make_pages()) == []


def test_every_rule_has_a_page(generate):
    from pcapdiag.rules import RULES

    assert {f"rules/{rule.code}.md" for rule in RULES} < set(generate.make_pages())


def test_every_heading_of_a_rule_stands_on_its_page(generate):
    from pcapdiag.rules import RULES

    for rule in RULES:
        page = generate.make_rule_page(rule)
        assert [h for h in rule.sections() if f"\n## {h}\n" not in page] == []


MAN_PAGES = pytest.mark.parametrize("page", sorted((ROOT / "docs" / "man").glob("*.1")), ids=lambda p: p.stem)


def groff(page, *options, warns=False):
    """Return a man page as a terminal shows it."""
    program = shutil.which("groff")
    if program is None:
        pytest.skip("groff is not installed")
    argv = [program, "-man", "-ww", "-P-cbou", *options, str(page)]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=HANG_S)
    assert warns or printed.stderr == ""
    return printed.stdout


@MAN_PAGES
def test_a_man_page_prints_every_option_and_example_as_it_is(page):
    printed = groff(page, "-Tascii", "-rLL=2000n")  # lines so long that none is broken
    name = page.stem.removeprefix("pcapdiag").lstrip("-")
    command = cli.get_command(click.Context(cli), name) if name else cli
    shown = {
        option for p in command.params for option in (p.opts if isinstance(p, click.Option) and not p.hidden else ())
    }
    assert {option for option in shown if option not in printed} == set()
    examples = [line.strip() for line in inspect.cleandoc(command.help).splitlines() if line.startswith("  pcapdiag ")]
    assert [line for line in examples if line not in printed] == []


@MAN_PAGES
def test_a_man_page_breaks_no_word(page):
    """Of a terminal's width, where names of variables were broken and could not be copied."""
    printed = groff(page, "-Tascii", "-rLL=70n", warns=True)  # of words longer than a line
    names = set(re.findall(r"PCAPDIAG_[A-Z_]*[A-Z]", page.read_text()))
    assert "PCAPDIAG_CONFIG" in names
    assert {name for name in names if name not in printed} == set()


def test_man_finds_the_pages_beside_the_program(tmp_path):
    """Where the wheel puts them, that is: `man` looks around the folders that PATH names."""
    man = shutil.which("man")
    if man is None:
        pytest.skip("man is not installed")
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    ((source, place),) = wheel["shared-data"].items()
    shutil.copytree(ROOT / source, tmp_path / place)
    (tmp_path / "bin").mkdir()
    env = {name: value for name, value in os.environ.items() if name != "MANPATH"}
    env |= {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C"}
    argv = [man, "-w", "pcapdiag-analyze"]
    found = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert found.stdout.strip() == str(tmp_path / place / "pcapdiag-analyze.1"), found.stderr


def test_what_formatters_would_obey_is_printed_as_it_stands(generate, tmp_path):
    text = ".pcap is a name, C:\\new, it's --all\n'quoted' ~/x ^ `code`"
    page = tmp_path / "x.1"
    page.write_text(f".TH X 1\n.SH NAME\nx \\- y\n.SH TEXT\n.nf\n{generate.roff(text)}\n.fi\n")
    assert set(text.splitlines()) <= {line.strip() for line in groff(page, "-Tutf8").splitlines()}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [t for t in targets if not (page.parent / t).exists()] == []


BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"(?:^|[\s|;&]|/bin/)pcapdiag (?=[a-z/])([^|;&]*)")
CALLING = [
    page for page in PAGES if page.name != "CHANGELOG.md" and any(map(CALL.search, BLOCK.findall(page.read_text())))
]


@pytest.mark.parametrize("page", CALLING, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_on_a_page_are_commands_with_options_that_exist(page):
    """And have their values, where an option takes one; whether files are there is not asked."""
    lines = [line for block in BLOCK.findall(page.read_text()) for line in block.replace("\\\n", " ").splitlines()]
    for line in lines:
        for call in CALL.findall(line):
            with click.Context(cli, info_name="pcapdiag", **cli.context_settings) as top:
                try:
                    name, command, rest = cli.resolve_command(top, shlex.split(call, comments=True))
                    command.make_parser(click.Context(command, info_name=name, parent=top)).parse_args(rest)
                except (click.UsageError, ValueError) as error:
                    pytest.fail(f"{line}: {error}")


def test_pages_that_call_the_program_are_found():
    names = {page.name for page in CALLING}
    assert {"README.md", "attach.md", "cli.md", "how-to.md", "nightly.md", "watch.md", "whatif.md"} <= names


def test_each_how_to_says_whether_it_was_run():
    sections = (ROOT / "docs" / "how-to.md").read_text().split("\n## ")[1:]
    said = re.compile(r"^\*(Run|Not run) here: ", re.MULTILINE)
    assert [section.split("\n")[0] for section in sections if not said.search(section)] == []
    assert len(sections) > 4


@pytest.mark.parametrize("page", ["vocabulary.md", "architecture.md"])
def test_classes_that_a_page_names_exist(page):
    """By the form of their names: a class, what is set to one, or what is imported from elsewhere."""
    known = set()
    for path in (ROOT / "pcapdiag").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.alias):
                known.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                known.add(node.id)
    named = re.findall(r"`([A-Z][a-z]\w*)(?:\.\w+)?(?:\(\))?`", (ROOT / "docs" / page).read_text())
    assert named
    assert set(named) - known == set()


NAMED = re.compile(r"(?<![\w./-])(?:pcapdiag|tests|docs|benchmarks|captures|deploy)/[\w./-]*")
SHORT = re.compile(r"(?:\w+/)*\w+\.py")
MADE = ("benchmarks/data/",)
"""What a command makes, and git does not know."""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    """In code, that is; what is called ``its_name`` is still to be written."""
    if page.name == "CHANGELOG.md":
        return  # it tells of what was
    named = {name.rstrip(".") for code in re.findall(r"`([^`\n]+)`", page.read_text()) for name in NAMED.findall(code)}
    assert sorted(n for n in named if "its_name" not in n and n not in MADE and not (ROOT / n).exists()) == []


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
SOURCES = {str(path.relative_to(ROOT)) for top in ("pcapdiag", "tests", "docs") for path in (ROOT / top).rglob("*.py")}


def modules_named_in(text):
    """Return the modules that a text names in code, in full or by the end of their paths."""
    ends = tuple(f"/{name}" for name in re.findall(r"`([^`\s]+\.py)`", text))
    return {path for path in SOURCES if f"/{path}".endswith(ends)}


def test_modules_that_contributing_names_in_short_exist():
    short = {name for name in re.findall(r"`([^`\s]+)`", CONTRIBUTING) if SHORT.fullmatch(name)}
    assert len(short) > 50
    to_be_written = {name for name in short if "NNN" in name or "MODULE" in name}
    assert {name for name in short - to_be_written if not modules_named_in(f"`{name}`")} == set()


def test_adding_a_proxy_names_every_module_that_tells_proxies_apart():
    branching = {
        path
        for path in SOURCES
        if path.startswith("pcapdiag/")
        # What is one proxy's own has its name.
        if not {Path(path).stem, Path(path).stem.removesuffix("_log")} & {kind.name.lower() for kind in ProxyKind}
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ProxyKind")
        or (isinstance(node, ast.Name) and node.id in {"OF_OTHER_KIN", "FOREIGN_LOGS"})
    }
    assert len(branching) > 20
    (section,) = re.findall(r"^## Adding a proxy\n(.*?)^## ", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    assert sorted(branching - modules_named_in(section)) == []
