"""Fixtures, modes and profiles that every test shares.

Three modes: compiled, ``NUMBA_DISABLE_JIT=1`` (fewer Hypothesis examples, tests marked `compiled_only` deselected) and
``NUMBA_BOUNDSCHECK=1`` (only what is in `KERNELS`). The folders in `ONCE`, and what compares with tshark or starts the
tool, are tested in the first only.

With ``PCAPDIAG_NO_SKIP=1`` a skip is a failure: a run that is meant to be complete cannot pass because the captures or
an oracle were not there.
"""

import importlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.waiting import HANG_S

# Kernels that Python calls come from the library, as everywhere; tests call others one by one, and those are compiled.
# That is read once, here; processes that tests start run as an operator's do, without a compiler in their memory.
os.environ.setdefault("PCAPDIAG_KERNELS", "each")
importlib.import_module("pcapdiag.engine.compiler.policy")
del os.environ["PCAPDIAG_KERNELS"]
# Widths and colours are those of no terminal, whatever the shell exports.
for variable in ("COLUMNS", "FORCE_COLOR"):
    os.environ.pop(variable, None)
# A shell's background job ignores Ctrl-C, and so would every program that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
NO_JIT = os.environ.get("NUMBA_DISABLE_JIT") == "1"
CHECKS_BOUNDS = os.environ.get("NUMBA_BOUNDSCHECK") == "1"
# What no kernel runs through, and processes of their own: how kernels run makes no difference to them.
ONCE = (
    *("benchmarks/", "browser/", "cli/", "deploy/", "hostile/", "lab/", "nightly/", "privacy/", "proxy/", "report/"),
    *("rules/", "ticket/attach/", "ticket/notify/", "watch/"),
    *("whatif/test_plain_selection.py", "whatif/test_real_nginx.py"),
)
ONCE_WITH = {"cli", "tshark"}
# What runs through kernels, on bytes that nothing else here brings to them.
KERNELS = (
    *("analysis/ends/", "analysis/test_shards.py", "engine/", "fuzz/", "ticket/evidence/"),
    *("test_cases.py", "test_corpus.py", "test_lab.py", "test_properties.py", "test_scenario.py"),
)
# What starts whole programs again and again, with servers, browsers, full disks, kills and builds around them, and what
# goes through all public captures beside other tools (below): half the suite's time, and of little use to who edits a
# rule. `make test-all` runs it, and CI.
WHOLE = (
    *(
        "benchmarks/",
        "browser/",
        "cli/test_current_folder.py",
        "cli/test_pipes.py",
        "deploy/",
        "engine/compiler/test_build.py",
        "hostile/test_claims.py",
        "hostile/test_endless.py",
        "hostile/test_full_disk.py",
    ),
    *(f"nightly/scan/test_{name}.py" for name in ("pool", "remote", "services", "split", "unattended")),
    *("nightly/scan/test_told_from_postgresql.py", "nightly/tell/test_notify.py", "test_corpus.py", "test_loads.py"),
    *(f"watch/test_{name}.py" for name in ("full_disk", "job", "speaks", "watch")),
)
NO_SKIP = os.environ.get("PCAPDIAG_NO_SKIP") == "1"
LAB = Path(os.environ.get("PCAPDIAG_LAB") or ROOT.parent / "shared" / "captures" / "lab")
CORPUS = Path(os.environ.get("PCAPDIAG_CORPUS") or ROOT.parent / "shared" / "corpus")

# The first call of a kernel compiles it, so no single example has a deadline and a slow first one says nothing.
_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("compiled", max_examples=100, **_COMMON)
settings.register_profile("bounds", max_examples=60, **_COMMON)
settings.register_profile("plain", max_examples=12, **_COMMON)
# A red build must be red for everyone: the same examples on every machine, no database of earlier failures.
settings.register_profile("ci", max_examples=12 if NO_JIT else 60, derandomize=True, database=None, **_COMMON)
settings.register_profile("thorough", max_examples=2000, **_COMMON)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE")
    or ("ci" if os.environ.get("CI") else "plain" if NO_JIT else "bounds" if CHECKS_BOUNDS else "compiled")
)


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write the golden reports instead of comparing them")


def _is_for_another_mode(item):
    path = str(Path(item.path).relative_to(ROOT / "tests"))
    if path.startswith(ONCE) or ONCE_WITH & set(item.fixturenames):
        return NO_JIT or CHECKS_BOUNDS
    if CHECKS_BOUNDS:
        return not path.startswith(KERNELS)
    return NO_JIT and item.get_closest_marker("compiled_only")


def pytest_collection_modifyitems(config, items):
    for item in items:
        is_whole = str(Path(item.path).relative_to(ROOT / "tests")).startswith(WHOLE)
        if is_whole or {"corpus", "tshark"} <= set(item.fixturenames):
            item.add_marker(pytest.mark.whole)
    excluded = [item for item in items if _is_for_another_mode(item)]
    if excluded:
        config.hook.pytest_deselected(items=excluded)
        items[:] = [item for item in items if not _is_for_another_mode(item)]


def _fail_instead_of_skip(report):
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"PCAPDIAG_NO_SKIP=1, but: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):  # noqa: ARG001 - the hook's own signature
    return _fail_instead_of_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):  # noqa: ARG001 - the hook's own signature
    return _fail_instead_of_skip((yield))


@pytest.fixture(scope="session")
def lab():
    """Folder of the lab captures with ground truth."""
    if not LAB.is_dir():
        pytest.skip(f"no lab captures at {LAB} (PCAPDIAG_LAB)")
    return LAB


@pytest.fixture(scope="session")
def corpus():
    """Folder of the public captures and what other tools make of them."""
    if not CORPUS.is_dir():
        pytest.skip(f"no public captures at {CORPUS} (PCAPDIAG_CORPUS)")
    return CORPUS


@pytest.fixture(scope="session")
def tshark():
    """Return a function that gives the chosen fields of every frame of a capture, as tshark sees them."""
    program = shutil.which("tshark")
    if program is None:
        pytest.skip("tshark is not installed")

    def fields(path, *names, display_filter=None, options=()):
        command = [program, "-n", "-r", str(path), "-T", "fields", "-E", "separator=\t", "-E", "occurrence=f", *options]
        for name in names:
            command += ["-e", name]
        if display_filter:
            command += ["-Y", display_filter]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
        assert done.returncode == 0, done.stderr
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    return fields


@pytest.fixture(scope="session")
def cli():
    """Return a function that runs the tool in a process of its own: exit code, stdout and stderr as a caller sees."""

    def run(*arguments, stdin=None, env=None, cwd=None):
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.run(
            [sys.executable, "-m", "pcapdiag", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=not isinstance(stdin, bytes),
            env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", **(env or {})},
            cwd=cwd,
            timeout=HANG_S,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def update_golden(request):
    """Whether golden files are to be written instead of compared."""
    return request.config.getoption("--update-golden")
