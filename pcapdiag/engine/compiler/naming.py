"""How the kernels' library and what it exports are named: after what they were made of, for and with."""

import hashlib
import os
import sys
from pathlib import Path

from pcapdiag.engine.compiler.arguments import Arguments
from pcapdiag.engine.compiler.sources import fingerprint, is_source_tree

CHECKS_BOUNDS = is_source_tree() and os.environ.get("NUMBA_BOUNDSCHECK", "0") not in {"", "0"}
"""Whether kernels check every index: numba's own switch, and a matter of a source tree."""


def library_stem() -> str:
    """Return how the name of the library begins that belongs to these sources on this platform."""
    target = f"{sys.platform}-{os.uname().machine}" + ("-bounds" if CHECKS_BOUNDS else "")
    return f"kernels-{target}-{fingerprint(target)}-"


def content_digest(path: Path) -> str:
    """Return the hash that the name of a library ends with."""
    return digest_of(path.read_bytes())


def digest_of(content: bytes) -> str:
    """Return the same of what is in it."""
    return hashlib.sha256(content).hexdigest()[:32]


def is_sound(path: Path) -> bool:
    """Return whether a library's content is what its name says."""
    try:
        return path.is_file() and content_digest(path) == path.stem.rpartition("-")[2]  # a pipe would never end
    except OSError:
        return False


def find_library(folder: Path, stem: str) -> Path | None:
    """Return a sound library.

    Parameters
    ----------
    folder : Path
        Where it would lie.
    stem : str
        From `library_stem`.

    Returns
    -------
    Path or None
    """
    return next((path for path in sorted(folder.glob(f"{stem}*.so")) if is_sound(path)), None)


def symbol_of(name: str, arguments: Arguments) -> str:
    """Return the name under which the library exports a kernel."""
    return f"pcapdiag_{name}_{arguments.digest()}"
