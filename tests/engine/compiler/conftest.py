"""A source tree of its own, with one small kernel that is compiled in a second or two."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pcapdiag.engine.compiler.sources import INPUTS, KERNELS, PACKAGE
from tests.waiting import HANG_S

KERNEL = """
from typing import Annotated

import numpy as np

from pcapdiag.engine.compiler.arguments import ArrayOf
from pcapdiag.engine.compiler.policy import entry_kernel, kernel


@kernel
def _add(total, value):
    return total + value


@entry_kernel
def add_all(values: Annotated[np.ndarray, ArrayOf(np.int64)], start: int, stop: int, twice: bool):
    total = 0
    for k in range(start, stop):
        total = _add(total, values[k])
    return 2 * total if twice else total
"""
CALL = f"""
import sys
import numpy as np
from {KERNELS[0]}.sums import add_all
values = np.arange(10, dtype=np.int64)
print(add_all(values, 2, int(sys.argv[1]), True), "numba" in sys.modules)
"""

BESIDE = ("pcapdiag.base.errors", "pcapdiag.base.trusted", "pcapdiag.base.version")


class SourceTree:
    """A checkout with what the compiler needs of this one."""

    def __init__(self, root):
        self.root = root
        package = root / "pcapdiag"
        for name in ("pcapdiag", *BESIDE, *INPUTS):
            self._copy(PACKAGE.parent.joinpath(*name.split(".")))
        (root / "pyproject.toml").touch()
        (root / "hatch_build.py").touch()
        for name in KERNELS:
            folder = root.joinpath(*name.split("."))
            folder.mkdir(parents=True, exist_ok=True)
            for parent in (folder, *folder.parents):
                if parent.is_relative_to(package):
                    (parent / "__init__.py").touch()
        folder = root.joinpath(*KERNELS[0].split("."))
        self.kernel = folder / "sums.py"
        self.kernel.write_text(KERNEL)
        self.folder = package / "engine" / "compiler"

    def _copy(self, source):
        files = source.glob("*.py") if source.is_dir() else [source.with_suffix(".py")]
        for path in files:
            target = self.root / path.relative_to(PACKAGE.parent)
            if not source.is_dir() or source != PACKAGE or path.name == "__init__.py":
                target.parent.mkdir(parents=True, exist_ok=True)
                for parent in target.relative_to(self.root).parents:
                    if parent.parts:
                        (self.root / parent / "__init__.py").touch()
                shutil.copyfile(path, target)

    def libraries(self):
        return sorted(self.folder.glob("kernels-*.so"))

    def command(self, stop, program):
        return [sys.executable, "-c", program, str(stop)]

    def environment(self, **variables):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "PCAPDIAG_"))}
        return {**inherited, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1", **variables}

    def start(self, stop=4, program=CALL, **variables):
        return subprocess.Popen(
            self.command(stop, program),
            env=self.environment(**variables),
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, stop=4, program=CALL, **variables):
        """Call the kernel in a process of its own; return its exit code, stdout and stderr."""
        with self.start(stop, program, **variables) as process:
            out, err = process.communicate(timeout=HANG_S)
        return process.returncode, out, err


@pytest.fixture
def tree(tmp_path):
    """Return a source tree without a library."""
    return SourceTree(tmp_path)


@pytest.fixture(scope="session")
def _built(tmp_path_factory):
    tree = SourceTree(tmp_path_factory.mktemp("tree"))
    code, _, stderr = tree.run()
    assert code == 0, stderr
    return tree


@pytest.fixture
def built(_built, tmp_path):
    """Return a source tree with its library."""
    shutil.copytree(_built.root, tmp_path, dirs_exist_ok=True)
    tree = SourceTree(tmp_path)
    assert len(tree.libraries()) == 1
    return tree


@pytest.fixture
def installed(built):
    """Return the same as an installation: nothing beside the package says that this is a source tree."""
    Path(built.root / "pyproject.toml").unlink()
    Path(built.root / "hatch_build.py").unlink()
    return built
