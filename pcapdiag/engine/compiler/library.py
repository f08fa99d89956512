"""The kernels' machine code: finding the library, checking it, calling what is in it.

The library is one file whose name says what it was made for and what is in it:
``kernels-<platform>-<hash of the sources>-<hash of the file>.so``. So one that is stale is not found, and one that is
torn or damaged is never mapped. It exports each kernel under a name that contains a hash of its declared arguments, and
every kernel takes the same two pointers: where to put the result, and the arguments as 64-bit integers.

In a source tree a missing library is built. Wherever that is not possible, or not wanted, the error says what to do.
"""

import ctypes
import fcntl
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pcapdiag.base.errors import KernelsError
from pcapdiag.base.trusted import UntrustedError, open_trusted
from pcapdiag.engine.compiler.arguments import Arguments
from pcapdiag.engine.compiler.naming import digest_of, find_library, library_stem, symbol_of
from pcapdiag.engine.compiler.sources import is_source_tree

FOLDER = Path(__file__).parent
"""Where the library lies: beside the code that loads it, and written by whoever writes that."""

_INSTALL = "pip install --force-reinstall pcapdiag, as who it belongs to"
_NO_VALUE = -2  # numba's status of a kernel that returns nothing; 0 is success, all else an exception


class Library:
    """The library of these sources, loaded when it is first needed."""

    def __init__(self) -> None:
        self._loaded: ctypes.CDLL | None = None

    def load(self) -> ctypes.CDLL:
        """Return the library; in a source tree, build it first if it is missing.

        Returns
        -------
        CDLL

        Raises
        ------
        KernelsError
            There is no sound library, and none can be built here.
        """
        if self._loaded is None:
            self._loaded = _load(provide_library())
        return self._loaded


def _load(path: Path) -> ctypes.CDLL:
    """Map a library that is still what its name says, and that nobody but those who wrote this code can have written.

    Read and mapped through one descriptor: what was looked at is what runs.
    """
    try:
        code = Path(__file__)
        if code.is_symlink():
            path, code = path.resolve(strict=True), code.resolve(strict=True)  # some installers link each file
        with os.fdopen(open_trusted(path, owners={code.stat().st_uid}, beside=code), "rb") as file:
            if digest_of(file.read()) != path.stem.rpartition("-")[2]:
                msg = f"{path} changed while it was looked at"
                raise KernelsError(msg)
            opened = Path(f"/proc/self/fd/{file.fileno()}")
            return ctypes.CDLL(str(opened if opened.exists() else path))
    except (OSError, UntrustedError) as error:
        said = re.sub(r"/proc/self/fd/\d+", str(path), str(error))
        msg = f"the compiled kernels cannot be loaded: {said}; {_what_to_do(path)}"
        raise KernelsError(msg) from error


def _what_to_do(path: Path) -> str:
    return f"delete {path.name}, and it is built again" if is_source_tree() else _INSTALL


def provide_library(folder: Path = FOLDER) -> Path:
    """Return the library of these sources; in a source tree, build it first if it is missing.

    Parameters
    ----------
    folder : Path
        Where it lies.

    Returns
    -------
    Path

    Raises
    ------
    KernelsError
        There is no sound library, and none can be built here.
    """
    stem = library_stem()
    found = find_library(folder, stem)
    if found is not None:
        return found
    if not is_source_tree():
        there = sorted(folder.glob(f"{stem}*.so"))
        state = "damaged" if there else "missing, or made for other sources"
        if any(not os.access(path, os.R_OK) for path in there):
            state = "not to be read by who runs this"
        msg = f"the compiled kernels in {folder} are {state}: {_INSTALL}"
        raise KernelsError(msg)
    with _only_one(folder):
        found = find_library(folder, stem)  # by who was at it while this process waited
        if found is not None:
            return found
        from pcapdiag.engine.compiler.build import build_library  # noqa: PLC0415 - for who works on a source tree

        sys.stderr.write("pcapdiag: building the kernels' library, once after a change of their sources ...\n")
        return build_library(folder)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keep other builders of this folder waiting; where a file system knows no locks, all of them build."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class NativeKernel:
    """A kernel of the library, called as if it were the Python function.

    Parameters
    ----------
    function : callable
        What it was compiled from.
    library : Library
        Where it is, from the first call on.
    """

    def __init__(self, function: Callable[..., Any], library: Library) -> None:
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._arguments = Arguments(function)
        self._library = library
        self._call: Any = None

    def __call__(self, *arguments: Any) -> int:
        """Run the kernel without the GIL.

        Parameters
        ----------
        *arguments : ndarray, int, bool or tuple of these
            As declared: dtype and number of dimensions count; arrays must be contiguous and writable.

        Returns
        -------
        int
            What the kernel returns; 0 if that is nothing.

        Raises
        ------
        TypeError
            An argument is not what the kernel was compiled for.
        KernelsError
            There is no sound library, and none can be built here.
        """
        values = self._arguments.flatten(arguments)
        call = self._call or self._bind()
        result = ctypes.c_int64(0)
        status = call(ctypes.byref(result), (ctypes.c_int64 * len(values))(*values))
        if status not in {0, _NO_VALUE}:
            msg = f"kernel {self.__name__} failed with status {status}"
            raise RuntimeError(msg)
        return result.value

    def _bind(self) -> Any:
        symbol = symbol_of(self.__name__, self._arguments)
        try:
            call = self._library.load()[symbol]
        except AttributeError as error:
            msg = f"the compiled kernels have no {self.__name__} for these arguments: install pcapdiag again"
            raise KernelsError(msg) from error
        call.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        call.restype = ctypes.c_int32
        self._call = call
        return call
