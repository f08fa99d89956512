"""The only place where numba policy lives: two decorators, one cache folder.

The cache folder is named by a hash of the kernels' sources, because numba's own check does not notice an edit in a
*called* kernel of another file. It lies in the user's cache folder, never in site-packages, and the bounds-check run
has one of its own.

Once everything is compiled, later processes load the machine code without numba (`_native`), unless
``PCAPDIAG_KERNELS=numba``, ``NUMBA_DISABLE_JIT`` or ``NUMBA_BOUNDSCHECK`` asks for something else. Should the trial of
that code fail, numba's cache serves every later process: slower to start, with the same results.
"""

import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pcapdiag.kernels import _native

_HERE = Path(__file__).parent
IS_PYTHON = os.environ.get("NUMBA_DISABLE_JIT", "0") not in {"", "0"}
"""Whether kernels run as the Python that they are written in."""

_CHECKS_BOUNDS = os.environ.get("NUMBA_BOUNDSCHECK", "0") not in {"", "0"}


def _fingerprint():
    digest = hashlib.sha256()
    for path in sorted(_HERE.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    codes = _HERE.parent / "codes.py"  # kernels compile its numbers in
    digest.update(codes.read_bytes())
    columns = _HERE.parent / "columns.py"  # and read rows of its dtypes
    digest.update(columns.read_bytes())
    for compiler in ("numba", "llvmlite"):
        spec = find_spec(compiler)
        if spec is not None and spec.origin:
            digest.update(Path(spec.origin).with_name("_version.py").read_bytes())
    digest.update(f"{sys.version_info} {_CHECKS_BOUNDS}".encode())
    return digest.hexdigest()[:16]


def _is_ours(folder):
    """Return whether nobody else can put anything there: neither into the folder nor in the place of a parent."""
    for place in (folder, *folder.parents):
        status = place.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {0, os.getuid()}:
            return False
        is_shared = bool(status.st_mode & 0o022)
        if is_shared and (place == folder or not status.st_mode & stat.S_ISVTX):
            return False
    return True


def _cache_folder():
    """Return the folder for compiled kernels, made private and writable, or one that lasts for this process only."""
    base = os.environ.get("PCAPDIAG_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base).resolve() / "pcapdiag" / f"kernels-{_fingerprint()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Compiled code is loaded from here: a folder that others can write to is a way in.
        if _is_ours(folder) and os.access(folder, os.W_OK):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="pcapdiag-kernels-"))
    return Path(tempfile.mkdtemp(prefix="pcapdiag-kernels-"))


def _sums(folder):
    """Return the SHA-256 of every file in numba's cache, by its path there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _checked_cache():
    """Return numba's cache of an earlier process that compiled to the end, None unless it is what that process left."""
    try:
        mark = json.loads(_WARM_MARK.read_bytes())
        cache = _FOLDER / Path(mark["cache"]).name
        return cache if _sums(cache) == mark["sums"] else None
    except (OSError, ValueError, KeyError, TypeError):  # none, torn, or of an older form
        return None


_FOLDER = _cache_folder()
_WARM_MARK = _FOLDER / "warm"
_CHOICE = os.environ.get("PCAPDIAG_KERNELS", "auto")
_image = None
if not (IS_PYTHON or _CHECKS_BOUNDS or _CHOICE == "numba"):
    _image = _native.load_image(_FOLDER, untried=_CHOICE == "image")

HAS_COMPILER = _image is None and not IS_PYTHON
"""Whether numba is there; the machine code at hand needs none."""

_IS_DEVELOPING = IS_PYTHON or _CHECKS_BOUNDS or _CHOICE == "numba"
"""Whether more kernels than the engine's are compiled, one by one: nobody could say what the cache must hold."""

_cache = None if _image is not None or _IS_DEVELOPING else _checked_cache()
_was_warm = _cache is not None

numba: Any = None
if _image is None:
    import numba

    if _cache is None and "NUMBA_CACHE_DIR" not in os.environ:
        # What a process left that did not come to the end may be torn: numba would load it, and it would run.
        _cache = _FOLDER / "numba" if _IS_DEVELOPING else Path(tempfile.mkdtemp(prefix="numba-", dir=_FOLDER))
    numba.config.CACHE_DIR = os.environ.get("NUMBA_CACHE_DIR") or str(_cache)

_entries: dict[str, Any] = {}


def python_environment() -> dict[str, str]:
    """Return the environment for a Python of ours: the same package, the same cache, nothing of the current folder."""
    paths = [str(_HERE.parent.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NUMBA_CACHE_DIR": str(numba.config.CACHE_DIR)}


def is_warm() -> bool:
    """Return whether an earlier process on this machine compiled these kernels to the end."""
    return IS_PYTHON or _image is not None or _was_warm or (_IS_DEVELOPING and _WARM_MARK.exists())


def _save_image() -> bool:
    """Return whether the machine code could be kept; where not, numba's cache serves later processes."""
    try:
        _native.save_image(_FOLDER, _entries)
    except (AttributeError, KeyError, TypeError):  # numba's cache is no public interface, and has changed
        return False
    return True


def mark_warm() -> None:
    """Remember that every kernel is compiled and cached, and keep the machine code for processes without numba."""
    if not HAS_COMPILER:
        return
    if _native.is_possible() and not _CHECKS_BOUNDS and _save_image():
        environment = {**python_environment(), "PCAPDIAG_KERNELS": "image"}
        command = [sys.executable, "-P", "-c", "from pcapdiag.pipeline import try_kernels; try_kernels()"]
        # Code that should not fit this machine after all brings down that process, not this one.
        tried = subprocess.run(command, env=environment, capture_output=True, check=False)  # noqa: S603 - ourselves
        if tried.returncode == 0:
            _native.mark_tried(_FOLDER)
    mark = json.dumps({"cache": Path(numba.config.CACHE_DIR).name, "sums": _sums(Path(numba.config.CACHE_DIR))})
    part = _FOLDER / f"warm-{os.getpid()}"
    part.write_text(mark)
    part.replace(_WARM_MARK)


def entry_kernel(function):
    """Compile a kernel that Python calls; its machine code is kept for processes without numba.

    Parameters
    ----------
    function : callable
        As for `kernel`; its name is unique among the kernels that Python calls, and every call passes the same types.

    Returns
    -------
    callable
        The compiled kernel, or `function` itself under ``NUMBA_DISABLE_JIT=1``.
    """
    if _image is not None:
        return _image.kernel(function.__name__)
    compiled = kernel(function)
    _entries[function.__name__] = compiled
    return compiled


def kernel(function):
    """Compile a kernel: cached, without the GIL, numpy's error model, no fastmath.

    Parameters
    ----------
    function : callable
        Arrays, ints and bools in; results into arrays given as arguments, or an int returned.

    Returns
    -------
    callable
        The compiled kernel, or `function` itself under ``NUMBA_DISABLE_JIT=1``, and where the machine code is at hand:
        then Python calls only entry kernels.
    """
    if _image is not None:
        return function
    # Kernels only borrow the caller's arrays, so numba's reference counting (an atomic operation per array and call, a
    # third of the run time) is switched off: `_nrt=False` also makes every allocation in a kernel a compile error.
    # Python never calls a private kernel, so it needs no wrappers; they cost a tenth of the compile time.
    private = function.__name__.startswith("_")
    return numba.njit(
        cache=True, nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=private, no_cfunc_wrapper=private
    )(function)
