"""The layers of docs/architecture.md section 3, as imports show them."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from pcapdiag.cli import _COMMANDS as COMMANDS
from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pcapdiag"

# Third party -> the only places that may import it. What is absent here may be imported nowhere, but for `EVERYWHERE`.
HOMES = {
    "numba": ("engine/http/kernels/_scan.py", "engine/compiler/compile.py", "engine/compiler/policy.py"),
    "llvmlite": ("engine/compiler/compile.py",),
    "click": ("cli/",),
    "rich": ("cli/", *(f"report/render/{name}.py" for name in ("terminal", "brief", "parts", "blocks"))),
    "pandas": ("base/tables.py", "api/result.py", "cli/", "report/"),
    "pyarrow": ("cli/", "nightly/scan/"),
    "sqlalchemy": ("nightly/store/",),
    "alembic": ("nightly/store/",),
    "psycopg": ("nightly/store/",),
    "fsspec": ("engine/capture/",),
    "distributed": ("nightly/scan/",),
    "apprise": ("ticket/notify/",),
    "jinja2": ("report/render/", "report/whatif/", "nightly/site/"),
    "crossplane": ("proxy/conf/",),
    "yaml": ("proxy/conf/",),
    "cryptography": ("engine/decryption/suites.py",),
    "dpkt": ("engine/asides/",),
    "hpack": ("engine/asides/",),
    "requests": ("ticket/attach/",),
    "requests_toolbelt": ("ticket/attach/",),
    "urllib3": ("ticket/attach/",),
    "jira": ("ticket/attach/",),
    "github": ("ticket/attach/",),
    "gitlab": ("ticket/attach/",),
    "keyring": ("ticket/attach/",),
    "isal": ("base/codecs.py",),
    "lz4": ("base/codecs.py",),
    "backports": ("base/codecs.py",),
    "compression": ("base/codecs.py",),  # the standard library's own from Python 3.14 on
    "markupsafe": ("report/render/html/",),
    "paramiko": ("engine/capture/ssh.py",),
    "vl_convert": ("report/render/charts/",),
    "yacryptopan": ("privacy/anonymize.py",),
    "zstandard": (),
    "scapy": (),
    "hypothesis": (),
    "pytest": (),
}
EVERYWHERE = {"numpy"}
BY_COMPUTED_NAME = {"__init__.py", "cli/__init__.py", "engine/compiler/compile.py"}
"""Who imports what a table names: the public names, the commands, the modules with kernels."""
NAMES_HIGHER = {"__init__.py", "engine/compiler/sources.py"}
"""Who loads the public names when they are first used, and who is told where kernels lie."""
CONTRACTS = [
    [{name.strip() for name in layer.split("|")} for layer in contract["layers"]]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
]
HEAVY = (
    "numpy",
    "numba",
    "pandas",
    "sqlalchemy",
    "fsspec",
    "scapy",
    "dpkt",
    "hpack",
    "requests",
    "jira",
    "github",
    "gitlab",
    "keyring",
    "apprise",
    "jinja2",
)


def is_import_by_name(node):
    """Tell whether a call imports what a string names."""
    called = {"import_module", "__import__", "run_module", "exec_module", "load_module"}
    return isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in called


@cache
def imports_of(path):
    """Return every imported module of a file, those inside functions and those that a string names too."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module)
        elif is_import_by_name(node) and node.args and isinstance(node.args[0], ast.Constant):
            names.append(node.args[0].value)
    return tuple(names)


def modules_in_strings(tree):
    """Return the modules of the package that strings name, wherever they stand; docstrings may name any."""
    told = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    }
    strings = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in told)
    named = {name for text in strings if isinstance(text, str) for name in re.findall(r"\bpcapdiag(?:\.\w+)+", text)}
    return {name for name in named if (at := ROOT / name.replace(".", "/")).is_dir() or at.with_suffix(".py").exists()}


def is_upward(module, other):
    """Tell whether a contract of pyproject.toml forbids `module` to import `other`, both with dots."""

    def place(layers, name):
        return next(((i, p) for i, layer in enumerate(layers) for p in layer if f"{name}.".startswith(f"{p}.")), None)

    places = [(place(layers, module), place(layers, other)) for layers in CONTRACTS]
    return any(mine and its and (its[0] < mine[0] or (its[0] == mine[0] and its != mine)) for mine, its in places)


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_each_layer_imports_only_from_the_layers_below_it():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert done.returncode == 0, done.stdout + done.stderr


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_string_names_a_module_of_a_higher_layer():
    """`import_module` and a worker's `-m` import as well, and import-linter does not see them."""
    found = {
        (str(path.relative_to(PACKAGE)), name)
        for path in MODULES
        for name in modules_in_strings(ast.parse(path.read_text()))
        # The package itself stands below all of its rooms.
        if is_upward("pcapdiag.base" if path == PACKAGE / "__init__.py" else dotted(path), name)
    }
    assert {(where, name) for where, name in found if where not in NAMES_HIGHER} == set()
    assert {where for where, _ in found} == NAMES_HIGHER


@pytest.mark.parametrize(
    ("code", "is_seen"),
    [
        ('import_module("pcapdiag.report.model")', True),
        ('name = "pcapdiag.report"', True),
        ('__import__(f"pcapdiag.cli.{name}")', True),
        ('run("-m", "pcapdiag.base.units")', False),
        ('"""What `pcapdiag.report` is told."""', False),
        ('print("see pcapdiag.toml")', False),
    ],
)
def test_a_string_that_names_a_higher_module_is_seen(code, is_seen):
    assert any(is_upward("pcapdiag.base.units", name) for name in modules_in_strings(ast.parse(code))) is is_seen


def test_only_few_import_what_they_compute_the_name_of():
    found = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if is_import_by_name(node) and not (node.args and isinstance(node.args[0], ast.Constant))
    }
    assert found == BY_COMPUTED_NAME


def test_every_module_belongs_to_a_layer():
    known = {name.removeprefix("pcapdiag.") for layer in CONTRACTS[0] for name in layer}
    present = {p.stem if p.is_file() else p.name for p in PACKAGE.iterdir() if p.suffix == ".py" or p.is_dir()}
    assert present - {"__pycache__", "__init__", "__main__"} == known


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions and for type checkers count as well: each is a thing one module knows of another."""
    names = {dotted(path): path for path in MODULES}

    def known(node):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module

    graph = {
        name: {other for node in ast.walk(ast.parse(path.read_text())) for other in known(node) if other in names}
        for name, path in names.items()
    }
    # Modules of a package import its `__init__` by being there.
    graph = {name: {o for o in others if not name.startswith(f"{o}.")} for name, others in graph.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_no_module_lies_loose_beside_the_rooms():
    assert {p.name for p in PACKAGE.iterdir() if p.is_file()} == {"__init__.py", "__main__.py", "py.typed"}


@pytest.mark.parametrize("third_party", HOMES)
def test_a_third_party_is_imported_only_where_it_lives(third_party):
    strays = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(name.split(".")[0] == third_party for name in imports_of(path))
        and not str(path.relative_to(PACKAGE)).startswith(HOMES[third_party] or ("-",))
    ]
    assert strays == []


def test_no_third_party_is_imported_that_has_no_home():
    known = {*HOMES, *EVERYWHERE, *sys.stdlib_module_names, "pcapdiag"}
    strays = {
        (str(path.relative_to(PACKAGE)), name)
        for path in MODULES
        for name in (imported.split(".")[0] for imported in imports_of(path))
        if name not in known
    }
    assert strays == set()


@pytest.mark.parametrize("third_party", [name for name, homes in HOMES.items() if homes])
def test_every_home_of_a_third_party_is_lived_in(third_party):
    users = [str(p.relative_to(PACKAGE)) for p in MODULES if third_party in {n.split(".")[0] for n in imports_of(p)}]
    assert [home for home in HOMES[third_party] if not any(user.startswith(home) for user in users)] == []


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["-h"], ["--version"], ["completion", "fish"], *([command, "--help"] for command in COMMANDS)],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import sys\n"
        f"sys.argv = ['pcapdiag', *{arguments!r}]\n"
        "from pcapdiag.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as leave:\n    assert not leave.code, leave.code\n"
        f"loaded = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, pcapdiag; assert not [m for m in {HEAVY!r} if m in sys.modules]"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr
