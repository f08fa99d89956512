"""What the compiler compiles, by name: it imports none of it, so kernels may lie in any layer."""

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[2]
"""The folder of pcapdiag."""

KERNELS = (
    "pcapdiag.engine.capture.kernels",
    "pcapdiag.engine.tcp.kernels",
    "pcapdiag.engine.http.kernels",
    "pcapdiag.whatif.kernels",
)
"""Packages in whose modules kernels lie."""

INPUTS = ("pcapdiag.base.codes", "pcapdiag.base.columns", "pcapdiag.engine.compiler")
"""Modules and packages that kernels compile in, and what compiles them."""


def is_source_tree() -> bool:
    """Return whether this package lies in a checkout or an unpacked source archive, not in site-packages."""
    return all((PACKAGE.parent / name).is_file() for name in ("pyproject.toml", "hatch_build.py"))


def kernel_modules() -> list[str]:
    """Return the modules that may hold kernels, those with most code first."""
    files = [path for package in KERNELS for path in _files(package) if path.name != "__init__.py"]
    files.sort(key=lambda path: -path.stat().st_size)
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]


def source_files() -> list[Path]:
    """Return every file that the machine code depends on, in a fixed order."""
    return [path for name in (*KERNELS, *INPUTS) for path in _files(name)]


def fingerprint(*details: str) -> str:
    """Return a text that changes whenever one of the sources, or one of the details, does.

    Parameters
    ----------
    *details : str
        What else the machine code depends on.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256("\n".join(details).encode())
    for path in source_files():
        digest.update(f"\0{path.relative_to(PACKAGE)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _files(name: str) -> list[Path]:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
