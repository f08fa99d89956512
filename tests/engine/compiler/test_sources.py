"""The library belongs to its sources, so all of them are known."""

import subprocess
import sys
from pathlib import Path

import pytest

from pcapdiag.engine.compiler import sources

ROOT = Path(__file__).resolve().parents[3]


def test_whatever_kernels_import_of_the_package_is_among_the_sources():
    program = (
        "import importlib, sys\n"
        f"for name in {sources.kernel_modules()}: importlib.import_module(name)\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('pcapdiag') and m.__file__), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {Path(line) for line in done.stdout.splitlines()}
    # They hold no numbers: that a folder is a package, errors, who may have written a file, the program's version.
    imported -= {path for path in imported if path.name in {"__init__.py", "errors.py", "trusted.py", "version.py"}}
    assert len(imported) > 10
    assert imported <= set(sources.source_files())


def test_every_module_with_kernels_is_compiled():
    users = {
        path
        for path in sources.PACKAGE.rglob("*.py")
        if "compiler.policy import" in (text := path.read_text()) and "@kernel" in text
    }
    assert {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in users} <= set(sources.kernel_modules())


@pytest.mark.parametrize("name", ["engine/tcp/kernels/tcp.py", "base/codes.py", "engine/compiler/arguments.py"])
def test_an_edit_changes_the_fingerprint(name, monkeypatch):
    before = sources.fingerprint()
    read = Path.read_bytes
    assert sources.PACKAGE / name in sources.source_files()
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == sources.PACKAGE / name))
    assert sources.fingerprint() != before
    assert sources.fingerprint("other") != sources.fingerprint()
