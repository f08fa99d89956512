"""Nothing that lies in the current folder is ever run, whatever its name, and whichever process would import it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only
ROOT = Path(__file__).resolve().parents[2]
CAPTURE = ROOT / "captures" / "idle_close_race_65s" / "proxy.pcap"
NAMES = (
    *("numpy", "numba", "llvmlite", "pandas", "rich", "click", "isal", "zstandard", "sqlalchemy", "pyarrow", "apprise"),
    *(
        "multiprocessing",
        "pickle",
        "signal",
        "subprocess",
        "hashlib",
        "tomllib",
        "json",
        "ctypes",
        "tempfile",
        "alembic",
    ),
)


@pytest.fixture
def folder(tmp_path):
    """Folder full of modules that leave a mark when they are imported."""
    here = tmp_path / "here"
    here.mkdir()
    for name in NAMES:
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + ' ')\n")
    return here


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyze", str(CAPTURE), "--quiet"],
        ["analyze", str(CAPTURE), "--quiet", "--format", "html", "-o", "out.html"],
        ["show", "connections", str(CAPTURE)],
        ["slice", str(CAPTURE), "-o", "out.pcapng"],
        ["scan", str(CAPTURE.parent), "--jobs", "2", "--store", "sqlite:///store.db", "--out", "site"],
        ["watch", "-", "--out", "watched"],
        ["rule", "PD101"],
    ],
    ids=lambda arguments: arguments[0] + ("-html" if "html" in arguments else ""),
)
@pytest.mark.parametrize(
    "program", [["-P", "-c", "from pcapdiag.cli import run; run()"], ["-m", "pcapdiag"]], ids=["script", "module"]
)
def test_nothing_of_the_current_folder_runs(arguments, program, folder, tmp_path, tmp_path_factory):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "PCAPDIAG_"))}
    env |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path_factory.getbasetemp() / "cache")}
    command = [sys.executable, *program, *arguments]
    with CAPTURE.open("rb") as pipe:
        done = subprocess.run(
            command, cwd=folder, env=env, stdin=pipe, capture_output=True, text=True, timeout=HANG_S, check=False
        )
    assert done.returncode in {0, 1}, done.stderr
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


STANDARD = ("typing", "pathlib", "re", "enum", "collections", "glob", "signal", "tomllib", "subprocess", "__future__")
"""What the package imports first of all."""


@pytest.mark.parametrize("module", [["-m", "pcapdiag"], ["-mpcapdiag"], ["-Bm", "pcapdiag"]], ids=" ".join)
def test_the_package_looks_nowhere_else_before_it_imports_anything(module, folder, tmp_path):
    """What `runpy` itself imports nobody can keep from the current folder: that SECURITY.md says."""
    before = "import runpy, sys; print(*(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-P", "-c", before], capture_output=True, text=True, check=True)
    for name in {*STANDARD, *sys.stdlib_module_names} - set(done.stdout.split()) - {"runpy"}:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + ' ')\n")
    command = [sys.executable, *module, "--version"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


@pytest.mark.parametrize("flags", [["-E"], ["-Es"], ["-I"]], ids="".join)
def test_workers_of_scripts_that_ignore_the_environment_look_nowhere_else_either(flags, folder, tmp_path):
    script = tmp_path / "pcapdiag"
    script.write_text("from pcapdiag.cli import run\nif __name__ == '__main__':\n    run()\n")
    arguments = ["scan", str(CAPTURE.parent), "--jobs", "2", "--store", f"sqlite:///{tmp_path}/store.db"]
    command = [sys.executable, *flags, str(script), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode in {0, 1}, done.stderr
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
