"""The layers of docs/architecture.md section 3, as imports show them."""

import ast
import subprocess
import sys
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
    "numba": ("engine/http/kernels/_scan.py",),  # what compiles asks for it, and for llvmlite, by name
    "llvmlite": (),
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


@cache
def imports_of(path):
    """Return every imported module of a file, those inside functions too."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module)
    return tuple(names)


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_each_layer_imports_only_from_the_layers_below_it():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_belongs_to_a_layer():
    import tomllib

    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    known = {name.strip().removeprefix("pcapdiag.") for layer in layers for name in layer.split("|")}
    present = {p.stem if p.is_file() else p.name for p in PACKAGE.iterdir() if p.suffix == ".py" or p.is_dir()}
    assert present - {"__pycache__", "__init__", "__main__"} == known


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions and for type checkers count as well: each is a thing one module knows of another."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}

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
