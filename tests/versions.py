"""Run what goes through other people's libraries with the oldest versions that `pyproject.toml` admits, or the newest.

    python tests/versions.py lowest|newest [arguments for pytest]

Each has an environment of its own, made anew with the Python that runs this: `.venv-lowest`, `.venv-newest`. Oldest are
the libraries that the package imports, with all its extras; what those need themselves, and the tools of the tests, are
the newest that go with them. Nothing is built from source: a version without a wheel for this Python is none that a
user could be asked to have.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOUND = re.compile(r"(?P<name>[\w.-]+)(\[[\w,.-]+\])?>=(?P<oldest>[\w.]+)")
BUILD = "from pcapdiag.engine.compiler.policy import load_kernels; load_kernels()"

# What calls no library, or the same calls as a test that is run: versions of libraries make no difference to it.
SAME_WITH_ALL = (
    *(
        "analysis",
        "benchmarks",
        "browser",
        "deploy",
        "dist",
        "engine/compiler",
        "engine/http",
        "engine/tcp",
        "fuzz",
        "hostile",
    ),
    "lab",
    *(
        "proxy/join",
        "rules",
        "watch",
        "test_audit.py",
        "test_corpus.py",
        "test_docs.py",
        "test_house.py",
        "test_lab*.py",
        "test_layers.py",
    ),
    *(
        "test_modes.py",
        "test_notebook.py",
        "test_properties.py",
        "test_readme.py",
        "test_requirements.py",
        "test_scenario.py",
    ),
    "test_site.py",
)


def oldest(project: dict) -> list[str]:
    """Return the lower bounds of all that the package imports, as constraints for pip."""
    extras = project["optional-dependencies"].values()
    wanted = {line for group in (project["dependencies"], *extras) for line in group}
    bounds = {line: BOUND.match(line) for line in wanted}
    if without := sorted(line for line, bound in bounds.items() if bound is None):
        sys.exit(f"pyproject.toml: no lower bound: {', '.join(without)}")
    return sorted(f"{bound['name']}=={bound['oldest']}" for bound in bounds.values())


def make(folder: Path, project: dict, constraints: list[str]) -> Path:
    """Make an environment; return its Python."""
    venv.create(folder, clear=True, with_pip=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)  # the first that knows dependency groups
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(constraints))
        file.flush()
        itself = f".[{','.join(project['optional-dependencies'])}]"
        what = ["--editable", itself, "--group", "test"]
        subprocess.run([*pip, "--only-binary", ":all:", "--constraint", file.name, *what], cwd=ROOT, check=True)
    return python


def main() -> None:
    """Make the environment, run the tests in it, and leave with pytest's exit code."""
    which, *arguments = sys.argv[1:] or [""]
    if which not in {"lowest", "newest"}:
        sys.exit(__doc__)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    print(f"\n=== {which} versions, Python {'.'.join(map(str, sys.version_info[:3]))} ===", flush=True)
    constraints = oldest(project) if which == "lowest" else []
    python = make(ROOT / f".venv-{which}", project, constraints)
    subprocess.run([python, "-c", BUILD], cwd=ROOT, check=True)  # built here, not while every worker waits
    ignored = [f"--ignore-glob={ROOT}/tests/{path}" for path in SAME_WITH_ALL]
    command = [python, "-m", "pytest", "-q", "-n", str((os.cpu_count() or 1) + 1), "-m", "not long and not slow"]
    sys.exit(subprocess.run([*command, *ignored, *arguments], cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
