"""Build what is released, wheel and sdist, from a copy of what git tracks.

    .venv-release/bin/python tests/dist/release.py FOLDER

The bytes depend on the sources, on requirements/release.txt, whose linker is used whatever compiler this machine has,
and on the minor version of the Python that runs this. The wheel is made from the sdist, as pip does it where there is no wheel.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def tracked() -> list[str]:
    """Return the files that git tracks and that are there, relative to the checkout."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def copy_sources(target: Path) -> None:
    """Copy what git tracks, as it is now, without anything that was made in the checkout."""
    for name in tracked():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)


def build(python: str | Path, sources: Path, into: Path, options: Sequence[str] = (), **variables: str) -> None:
    """Build wheel and sdist.

    Parameters
    ----------
    python : str or Path
        Of the environment that requirements/release.txt describes.
    sources : Path
        What to build.
    into : Path
        Where the two files go.
    options : sequence of str
        For ``python -m build``.
    **variables : str
        Of the environment, beside this process's own.
    """
    # Times in the archives are hatchling's own, and kernels that check bounds are for tests.
    left_out = ("SOURCE_DATE_EPOCH", "PYTHONPATH", "NUMBA_", "PCAPDIAG_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    environment = {**inherited, "CC": f"'{python}' -P -m ziglang cc", **variables}
    command = [python, "-P", "-m", "build", "--no-isolation", "--outdir", into, *options, sources]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Build into the folder that is named."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        copy_sources(Path(scratch))
        build(sys.executable, Path(scratch), Path(sys.argv[1]).resolve())


if __name__ == "__main__":
    main()
