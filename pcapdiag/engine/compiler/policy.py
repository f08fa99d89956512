"""The only place where it is decided how kernels run: two decorators.

Python calls entry kernels, and they call others. As a rule entry kernels run from the library and nothing here loads
numba. ``PCAPDIAG_KERNELS`` says otherwise, for who works on kernels: ``numba`` compiles all of them on the fly;
``each`` leaves entry kernels to the library and compiles the others, so that tests can call these one by one. With
``NUMBA_DISABLE_JIT=1`` kernels are the Python that they are written in; with ``NUMBA_BOUNDSCHECK=1`` they check bounds,
and the library is another one.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any

from pcapdiag.base.errors import KernelsError
from pcapdiag.engine.compiler.library import Library, NativeKernel
from pcapdiag.engine.compiler.naming import CHECKS_BOUNDS
from pcapdiag.engine.compiler.sources import PACKAGE, fingerprint, is_source_tree

_CHOICE = os.environ.get("PCAPDIAG_KERNELS", "")

IS_PYTHON = os.environ.get("NUMBA_DISABLE_JIT", "0") not in {"", "0"}
"""Whether kernels run as the Python that they are written in."""

COMPILES = not IS_PYTHON and _CHOICE in {"numba", "each", "build"}
"""Whether this process compiles kernels: what Python cannot run may be used in them."""

USES_LIBRARY = not IS_PYTHON and _CHOICE not in {"numba", "build"}
"""Whether the kernels that Python calls come from the library."""

entries: dict[str, Any] = {}
"""Entry kernels by name, of the modules that were imported, as `kernel` returned them."""

_library = Library()
_options: dict[str, Any] = {}


def load_kernels() -> None:
    """Load the kernels' library now: where it is missing, that is told before other work begins.

    Raises
    ------
    KernelsError
        There is no sound library, and none can be built here.
    """
    if USES_LIBRARY:
        _library.load()


def entry_kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel that Python calls.

    Parameters
    ----------
    function : callable
        As for `kernel`, and every argument is declared by an annotation (`arguments`); its name is unique among the
        entry kernels.

    Returns
    -------
    callable
        The compiled kernel, or `function` itself under ``NUMBA_DISABLE_JIT=1``.
    """
    if USES_LIBRARY:
        return NativeKernel(function, _library)
    entries[function.__name__] = compiled = kernel(function)
    return compiled


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel: without the GIL, numpy's error model, no fastmath.

    Parameters
    ----------
    function : callable
        Arrays, ints and bools in; results into arrays given as arguments, or an int returned.

    Returns
    -------
    callable
        The compiled kernel, or `function` itself where this process does not compile: then Python calls only entry
        kernels.
    """
    return _compile(function) if COMPILES else function


def _compile(function: Callable[..., Any]) -> Any:
    try:
        numba: Any = importlib.import_module("numba")  # only who compiles has it
    except ImportError as error:
        msg = f"PCAPDIAG_KERNELS={_CHOICE} takes numba, which is not installed here: pip install numba"
        raise KernelsError(msg) from error
    if not _options:
        # Kernels only borrow the caller's arrays, so numba's reference counting (an atomic operation per array and
        # call, a third of the run time) is switched off: `_nrt=False` also makes every allocation in a kernel a compile
        # error.
        _options.update(nogil=True, error_model="numpy", _nrt=False)
        if _CHOICE == "build":
            _options.update(no_cpython_wrapper=True, no_cfunc_wrapper=True)
        elif is_source_tree():
            # The folder is named by a hash of the sources, because numba's own check does not notice an edit in a
            # *called* kernel of another file.
            folder = PACKAGE.parent / "build" / f"numba-{fingerprint(str(CHECKS_BOUNDS))}"
            numba.config.CACHE_DIR = os.environ.get("NUMBA_CACHE_DIR") or str(folder)
            _options.update(cache=True)
    return numba.njit(**_options)(function)
