"""The only place where numba policy lives: one decorator, one cache folder.

The cache folder is named by a hash of the kernels' sources, because numba's own check does not notice an edit in a
*called* kernel of another file. It lies in the user's cache folder, never in site-packages, and the bounds-check run
has one of its own.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numba

_HERE = Path(__file__).parent
_config: Any = numba.config  # its attributes are made at run time


def _fingerprint():
    digest = hashlib.sha256()
    for path in sorted(_HERE.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    codes = _HERE.parent / "codes.py"  # kernels compile its numbers in
    digest.update(codes.read_bytes())
    columns = _HERE.parent / "columns.py"  # and read rows of its dtypes
    digest.update(columns.read_bytes())
    digest.update(f"{numba.__version__} {sys.version_info} {_config.BOUNDSCHECK}".encode())
    return digest.hexdigest()[:16]


def _cache_folder():
    """Return the folder for compiled kernels, made private and writable, or one that lasts for this process only."""
    base = os.environ.get("PCAPDIAG_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "pcapdiag" / f"kernels-{_fingerprint()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Compiled code is loaded from here: a folder that others can write to is a way in.
        status = folder.stat()
        if status.st_uid == os.getuid() and not status.st_mode & 0o022 and os.access(folder, os.W_OK):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="pcapdiag-kernels-"))
    return Path(tempfile.mkdtemp(prefix="pcapdiag-kernels-"))


if "NUMBA_CACHE_DIR" not in os.environ:
    _config.CACHE_DIR = str(_cache_folder())

_WARM_MARK = Path(_config.CACHE_DIR) / f"warm-{_fingerprint()}"


def is_warm() -> bool:
    """Return whether an earlier process on this machine compiled these kernels to the end."""
    return bool(_config.DISABLE_JIT) or _WARM_MARK.exists()


def mark_warm() -> None:
    """Remember that every kernel is compiled and cached."""
    if not _config.DISABLE_JIT:
        _WARM_MARK.touch(mode=0o600)


def kernel(function):
    """Compile a kernel: cached, without the GIL, numpy's error model, no fastmath.

    Parameters
    ----------
    function : callable
        Arrays, ints and bools in; results into arrays given as arguments, or an int returned.

    Returns
    -------
    callable
        The compiled kernel, or `function` itself under ``NUMBA_DISABLE_JIT=1``.
    """
    # Kernels only borrow the caller's arrays, so numba's reference counting (an atomic operation per array and call, a
    # third of the run time) is switched off: `_nrt=False` also makes every allocation in a kernel a compile error.
    # Python never calls a private kernel, so it needs no wrappers; they cost a tenth of the compile time.
    private = function.__name__.startswith("_")
    return numba.njit(
        cache=True, nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=private, no_cfunc_wrapper=private
    )(function)
