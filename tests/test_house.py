"""House rules that a script can see."""

import ast
import re
import subprocess
import warnings
from functools import cache
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pcapdiag"
MODULES = sorted(PACKAGE.rglob("*.py"))
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|farm|root|home)/\w|/root/\.")
UNFINISHED = re.compile(r"NotImplemented[E]rror|\bTO[D]O\b|\bFIX[M]E\b|\bXX[X]\b")
MOST_LINES = 800
# Tests of the product as a whole, and of what is beside the package.
WHOLE_PRODUCT = {
    *("benchmarks", "browser", "deploy", "dist", "fuzz", "hostile", "lab"),
    *(
        "test_audit.py",
        "test_cases.py",
        "test_corpus.py",
        "test_docs.py",
        "test_golden.py",
        "test_house.py",
        "test_judged.py",
    ),
    *(
        "test_lab.py",
        "test_lab_arrivals.py",
        "test_lab_logs.py",
        "test_layers.py",
        "test_modes.py",
        "test_notebook.py",
        "test_properties.py",
    ),
    *("test_loads.py", "test_readme.py", "test_requirements.py", "test_scenario.py", "test_site.py", "world"),
}


def relative(path):
    return str(path.relative_to(ROOT))


def tracked(*patterns):
    listing = subprocess.run(["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        pytest.fail(f"this test wants a git checkout: {listing.stderr.decode()}")
    return [path for name in listing.stdout.decode().split("\0")[:-1] if (path := ROOT / name).is_file()]


def texts():
    """Yield every tracked text file that people wrote, and its content."""
    for path in tracked():
        if relative(path).startswith(("captures/", "tests/golden/", "tests/fuzz/seeds/")) or path.name == "LICENSE":
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            yield path, content.decode()


def test_the_readme_names_both_commands_of_a_fresh_machine():
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_every_make_target_says_what_it_does():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    explained = re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE)
    assert sorted(phony) == sorted(explained)


def test_make_without_a_target_prints_the_help():
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "lint", "docs", "bench", "clean", "help"):
        assert f"make {target} " in done.stdout


def test_no_tracked_text_holds_a_machine_path():
    found = [
        f"{relative(path)}:{n}: {line.strip()}"
        for path, text in texts()
        for n, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_nothing_is_left_unfinished():
    found = [relative(path) for path, text in texts() if path.suffix == ".py" and UNFINISHED.search(text)]
    assert found == []


def test_every_exception_to_a_check_gives_its_reason():
    """Once per file and code is enough."""
    blanket = re.compile(r"# noqa(?!: [A-Z]+\d)|# type: ignore(?!\[)|# pragma: no cover")
    exception = re.compile(r"# noqa: ([A-Z]+\d+(?:, [A-Z]+\d+)*)( - \w)?")
    found = []
    for path, text in texts():
        if path.suffix != ".py" or path == Path(__file__).resolve():
            continue
        found += [f"{relative(path)}: {match[0]}" for match in blanket.finditer(text)]
        used = [(code, reason) for codes, reason in exception.findall(text) for code in codes.split(", ")]
        explained = {code for code, reason in used if reason}
        found += sorted({f"{relative(path)}: {code} without a reason" for code, _ in used if code not in explained})
    assert found == []


def test_modules_are_short():
    lengths = {relative(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}


def test_every_module_says_what_it_is():
    python = [p for p in tracked("*.py") if not relative(p).startswith("captures/")]
    silent = [relative(p) for p in {*MODULES, *python} if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []


def test_the_changelog_has_an_unreleased_section_or_the_present_version():
    from pcapdiag.base.version import __version__

    versions = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] in {"Unreleased", __version__}


def test_the_version_is_stated_once_and_the_same():
    import tomllib

    from pcapdiag.base.version import __version__

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


def public_functions(path):
    """Yield the public functions and methods of a module: qualified name, node, whether it is a method."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node, False
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
                    yield f"{node.name}.{item.name}", item, True


def documented_names(doc):
    """Return the names of a docstring's Parameters section in order; `a, b : int` counts as two."""
    return [name.strip(" *") for entry in NumpyDocString(doc)["Parameters"] for name in entry.name.split(",")]


def parameters_of(node, *, is_method):
    arguments = node.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    names += [arguments.vararg.arg] if arguments.vararg else []
    names += [a.arg for a in arguments.kwonlyargs]
    names += [arguments.kwarg.arg] if arguments.kwarg else []
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    return names[1:] if is_method and not static else names


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_parameters_section_names_the_parameters(path):
    """In order; but for kernels, which document arrays of one kind together."""
    wrong = {}
    arrange = sorted if path.parent.name == "kernels" else list
    for name, node, is_method in public_functions(path):
        doc = ast.get_docstring(node)
        documented = documented_names(doc) if doc else []
        actual = parameters_of(node, is_method=is_method)
        if documented and arrange(documented) != arrange(actual):
            wrong[name] = (documented, actual)
    assert wrong == {}


def names_in(path):
    """Return what a module defines, imports or asks for of something else."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ClassDef(name=name) | ast.alias(asname=str(name)) | ast.alias(name=name):
                found.add(name)
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
    return found


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_docstring_names_types_that_its_module_knows(path):
    """Those of kernels are named tuples of arrays, which compiled code is handed without an import."""
    known = names_in(path)
    if path.parent.name == "kernels":
        known |= {"FramerArrays", "TrackerArrays"}
    strays = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or not ast.get_docstring(node):
            continue
        with warnings.catch_warnings(action="ignore"):  # sections of rules are their own
            doc = NumpyDocString(ast.get_docstring(node))
        for section in ("Parameters", "Attributes", "Returns", "Yields"):
            for entry in doc[section]:
                # Of an outer package, `fsspec.AbstractFileSystem`, no module here need know more.
                words = re.findall(r"(?<![\w.])[A-Z]\w*[a-z]\w*", entry.type or "")
                strays |= {f"{node.name}: {word}" for word in words if word not in {"None", "True", "False", *known}}
    assert strays == set()


def kernels_called_from_python():
    """Yield (module path, function) for what the rest of the package imports from `kernels`."""
    for path in MODULES:
        if path.parent.name == "kernels":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and ".kernels." in node.module:
                yield from ((ROOT / f"{node.module.replace('.', '/')}.py", a.name) for a in node.names)


def test_the_api_and_the_kernels_that_python_calls_are_documented_in_full():
    wanted = {*kernels_called_from_python(), *((PACKAGE / "api" / "analyze.py", name) for name in ("analyze",))}
    missing = []
    for path in {path for path, _ in wanted}:
        for name, node, is_method in public_functions(path):
            doc = ast.get_docstring(node) or ""
            if (path, name) in wanted and parameters_of(node, is_method=is_method) and not documented_names(doc):
                missing.append(f"{relative(path)}: {name}")
    assert sorted(missing) == []


def test_every_test_lies_in_the_folder_of_what_it_tests():
    strays = [
        relative(path)
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.relative_to(ROOT / "tests").parts[0] not in WHOLE_PRODUCT
        and (path.parent == ROOT / "tests" or not (PACKAGE / path.parent.relative_to(ROOT / "tests")).is_dir())
    ]
    assert strays == []


@cache
def imported_by(path):
    """Return what a file imports: modules, and names that may be modules."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def also_tested_in(path):
    """Return the modules that a test names as those that it tests by way of others."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ALSO_TESTS":
            return set(ast.literal_eval(node.value))
    return set()


def has_counterpart(module):
    """Tell whether the tests of a module's folder name it: in the name of a file, in an import or in `ALSO_TESTS`."""
    folder = module.parent.relative_to(PACKAGE)
    tests = ROOT / "tests" / folder
    dotted = ".".join(module.relative_to(ROOT).with_suffix("").parts)
    if (tests / f"test_{module.stem.lstrip('_')}.py").exists():
        return True
    # A rule's facts are its case and its near miss, which `test_cases.py` asks of every rule.
    if str(folder) == "rules" and re.match(r"pd\d", module.stem):
        return True
    # Twins of kernels compare all that an entry does: what only kernels call is tested with them.
    if folder.name == "kernels" and not is_imported_by_tests(dotted, tests):
        callers = [other for other in module.parent.glob("*.py") if dotted in imported_by(other)]
        return any(has_counterpart(other) for other in callers)
    return is_imported_by_tests(dotted, tests) or any(module.stem in also_tested_in(p) for p in tests.glob("test_*.py"))


def is_imported_by_tests(dotted, tests):
    return any(dotted in imported_by(path) for path in tests.rglob("*.py"))


def test_every_module_has_tests_in_its_place():
    missing = {
        str(module.relative_to(PACKAGE))
        for module in MODULES
        if module.stem not in {"__init__", "__main__"}
        and any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(module.read_text())))
        and not has_counterpart(module)
    }
    assert missing == set(), "write a test beside its module"


CALLED_FROM_OUTSIDE = {
    "Result": ("_repr_html_", "to_markdown", "to_text"),  # whoever calls pcapdiag.analyze, and notebooks
    "Table": ("to_frame",),
    "alembic": ("downgrade",),
    "click": ("format_commands",),
    "paramiko": ("missing_host_key",),
    "sqlalchemy": ("prepare",),
}


def test_nothing_is_there_for_tests_alone():
    """By name: each function, method and class is named by something of the package that is not its definition."""
    named, defined = set(), {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name):
                    named.add(name)
                # What is looked up by its name: a command, a kernel, a property in a template.
                case ast.Constant(value=str(text)):
                    named.add(text.replace("-", "_"))
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if not name.startswith("__"):
                    defined.setdefault(name, relative(path))
    for path in tracked("pcapdiag/*.html", "pcapdiag/*.js", "hatch_build.py", "docs/*.py"):
        named |= set(re.findall(r"\w+", path.read_text()))
    for names in CALLED_FROM_OUTSIDE.values():
        assert not named.intersection(names), "no exception any more"
        assert defined.keys() >= set(names)
        named.update(names)
    assert {name: path for name, path in defined.items() if name not in named} == {}


OF_OTHERS = {"tests/lab/apps/grpc_app.py"}
"""A program of the lab: its timeout is what a client of gRPC has."""


def test_what_a_test_waits_for_has_no_bound_but_the_guard_against_hangs():
    """Of a second or more; what is to run out is shorter."""
    bounds = [
        f"{relative(path)}:{node.value.lineno}"
        for path in (ROOT / "tests").rglob("*.py")
        if relative(path) not in OF_OTHERS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword) and node.arg in {"timeout", "patience_s"}
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, int | float) and node.value.value >= 1
    ]
    assert bounds == []


def test_no_two_modules_have_classes_of_one_name():
    """Who searches for a class finds it."""
    homes = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}
