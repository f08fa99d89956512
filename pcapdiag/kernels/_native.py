"""The kernels' machine code, loaded without the compiler.

Importing numba and having it look through its cache takes longer than a small capture; the machine code that it has
once made needs neither. After the first run has compiled everything, the code of the kernels that Python calls is kept
as an *image* beside numba's own cache; later processes hand it to LLVM's loader and call it by numba's calling
convention. That convention is no public interface, so an image is only ever used by the same versions of numba,
llvmlite and Python on the same kind of CPU, after a process of its own has tried it, and only where the platform passes
arguments in a known way. Everywhere else numba compiles and loads as usual: slower, with the same results.

Knows files, addresses and dtypes; nothing of what the kernels do.
"""

import ctypes
import hashlib
import importlib
import json
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

_INDEX = "index.json"
_TRIED = "tried"
_NO_VALUE = -2  # numba's status of a kernel that returns nothing; 0 is success, all else an exception


def is_possible() -> bool:
    """Return whether this platform passes arguments as `NativeKernel` expects: System V, x86-64 or AArch64."""
    return sys.platform == "linux" and platform.machine() in {"x86_64", "aarch64"}


class NativeKernel:
    """A kernel whose machine code is at hand, called as if it were the Python function.

    Parameters
    ----------
    name : str
        For messages.
    address : int
        Where the code is.
    arguments : list of str
        What each argument must be, as `_describe` has it.
    """

    def __init__(self, name: str, address: int, arguments: list[str]) -> None:
        self.__name__ = name
        self._address = address
        self._arguments = arguments
        self._kinds: tuple[Any, ...] = ()
        self._call: Any = None

    def __call__(self, *arguments: Any) -> int:
        """Run the kernel without the GIL.

        Parameters
        ----------
        *arguments : ndarray, int, bool or tuple of these
            As compiled: the dtypes and the number of dimensions count, arrays must be contiguous.

        Returns
        -------
        int
            What the kernel returns; 0 if that is nothing.

        Raises
        ------
        TypeError
            An argument is not what the kernel was compiled for.
        """
        values: list[int] = []
        kinds: list[Any] = []
        for argument in arguments:
            _flatten(argument, values, kinds)
        if tuple(kinds) != self._kinds:
            self._prepare(kinds, len(values))
        result, problem = ctypes.c_int64(0), ctypes.c_void_p()
        status = self._call(ctypes.byref(result), ctypes.byref(problem), *values)
        if status not in {0, _NO_VALUE}:
            msg = f"kernel {self.__name__} failed with status {status}"
            raise RuntimeError(msg)
        return result.value

    def _prepare(self, kinds: list[Any], n_values: int) -> None:
        """Check what is passed: machine code does not."""
        given = [_describe(kind) for kind in kinds]
        if given != self._arguments:
            msg = f"kernel {self.__name__} was compiled for other arguments"
            raise TypeError(msg)
        pointer = ctypes.c_void_p
        self._call = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, *[ctypes.c_ssize_t] * n_values)(self._address)
        self._kinds = tuple(kinds)


def _flatten(argument: Any, values: list[int], kinds: list[Any]) -> None:
    """Append an argument as numba passes it: an array as its header, a tuple as its members."""
    if isinstance(argument, np.ndarray):
        if not argument.flags.c_contiguous:
            msg = "kernels take contiguous arrays"
            raise TypeError(msg)
        # Owner and parent are for reference counts, which kernels do not touch.
        values += (0, 0, argument.size, argument.itemsize, argument.ctypes.data, *argument.shape, *argument.strides)
        kinds.append((argument.dtype, argument.ndim))
    elif isinstance(argument, tuple):
        for member in argument:
            _flatten(member, values, kinds)
    else:
        values.append(int(argument))
        kinds.append(bool if isinstance(argument, bool | np.bool_) else int)


def _describe(kind: Any) -> str:
    """Return an argument's kind as text that two processes can compare."""
    if isinstance(kind, type):
        return kind.__name__
    dtype, n_dim = kind
    return f"{hashlib.sha256(_layout(dtype).encode()).hexdigest()[:16]}/{n_dim}"


def _layout(dtype: np.dtype[Any]) -> str:
    """Return every field of a dtype with its place."""
    if dtype.fields is None:
        return dtype.str
    fields = sorted((int(place[1]), name, _layout(place[0])) for name, place in dtype.fields.items())
    return f"{fields}{dtype.itemsize}"


class Image:
    """The loaded machine code of all kernels that Python calls."""

    def __init__(self, entries: dict[str, Any], engine: Any) -> None:
        self._entries = entries
        self._engine = engine  # owns the code

    def kernel(self, name: str) -> NativeKernel:
        """Return the kernel of that name."""
        entry = self._entries[name]
        return NativeKernel(name, self._engine.get_function_address(entry["symbol"]), entry["arguments"])


def _cpu() -> str:
    """Return a text that is the same on machines which run the same machine code."""
    import llvmlite.binding as llvm  # noqa: PLC0415 - half of what loading an image costs

    features = llvm.get_host_cpu_features().flatten()
    return hashlib.sha256(f"{llvm.get_host_cpu_name()} {features}".encode()).hexdigest()[:16]


def load_image(folder: Path, *, untried: bool = False) -> Image | None:
    """Return the image in a cache folder, None if there is none for this machine.

    Parameters
    ----------
    folder : Path
        The kernels' cache folder: private to its owner, named by everything the code depends on but the CPU.
    untried : bool
        Also take an image that has not been tried yet.

    Returns
    -------
    Image or None
    """
    if not is_possible() or not any(folder.glob("image-*")):
        return None
    folder /= f"image-{_cpu()}"
    checked = _read_checked(folder, untried=untried)
    if checked is None:
        return None
    entries, helpers, objects = checked
    import llvmlite.binding as llvm  # noqa: PLC0415 - already loaded

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # The objects also hold wrappers for callers from Python, which nobody calls here: what those need is never reached.
    unreachable = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value
    for symbol in helpers:
        # Symbols belong to the whole process: numba's own kernels would call what is put in the place of its helpers.
        if llvm.address_of_symbol(symbol) is None:
            llvm.add_symbol(symbol, unreachable)
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    for code in objects:
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return Image(entries, engine)


def _read_checked(folder: Path, *, untried: bool) -> tuple[dict[str, Any], list[str], list[bytes]] | None:
    """Return an image's entries, helpers and objects; None if one byte differs from what was written and tried."""
    try:
        index = (folder / _INDEX).read_bytes()
        if not untried and (folder / _TRIED).read_text() != hashlib.sha256(index).hexdigest():
            return None
        content = json.loads(index)
        objects = [(folder / Path(entry["file"]).name).read_bytes() for entry in content["entries"].values()]
        sums = [entry["sha256"] for entry in content["entries"].values()]
        if [hashlib.sha256(code).hexdigest() for code in objects] != sums:
            return None
        return content["entries"], content["helpers"], objects
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, torn, or of another form
        return None


def save_image(folder: Path, kernels: dict[str, Any]) -> None:
    """Write the image of kernels that were compiled, or loaded, through numba's cache, unless there is one.

    Parameters
    ----------
    folder : Path
        The kernels' cache folder.
    kernels : dict of str to numba dispatcher
        Each was called with one set of argument types.

    Raises
    ------
    AttributeError, KeyError, TypeError
        This version of numba keeps its machine code elsewhere.
    """
    helpers: Any = importlib.import_module("numba._helperlib")  # only a process that compiles has numba
    image = folder / f"image-{_cpu()}"
    if _read_checked(image, untried=True) is not None:
        return
    shutil.rmtree(image, ignore_errors=True)
    # Symbols differ from one compilation to the next, so an image appears whole, or not at all.
    part = Path(tempfile.mkdtemp(prefix="part-", dir=folder))
    entries = {}
    for name, kernel in kernels.items():
        cache = kernel._cache  # noqa: SLF001 - the only place where numba keeps the machine code
        signature = kernel.signatures[0]
        key = cache._index_key(signature, kernel.targetctx.codegen())  # noqa: SLF001 - machines may share the cache
        library, description = cache._cache_file.load(key)[:2]  # noqa: SLF001
        file = f"{name}.o"
        (part / file).write_bytes(library[2][0])
        digest = hashlib.sha256(library[2][0]).hexdigest()
        entries[name] = {
            "file": file,
            "sha256": digest,
            "symbol": description.llvm_func_name,
            "arguments": [text for kind in signature for text in _describe_type(kind)],
        }
    index = {"entries": entries, "helpers": sorted(f"numba_{name}" for name in helpers.c_helpers)}
    (part / _INDEX).write_text(json.dumps(index))
    try:
        part.rename(image)
    except OSError:
        shutil.rmtree(part)
        if not image.exists():  # else another process was faster
            raise


def _describe_type(kind: Any) -> list[str]:
    """Return what `_describe` says of an argument of a numba type."""
    types: Any = importlib.import_module("numba.types")
    from numba.np.numpy_support import as_dtype  # noqa: PLC0415

    if isinstance(kind, types.Array):
        return [_describe((as_dtype(kind.dtype), kind.ndim))]
    if isinstance(kind, types.BaseTuple):
        return [text for member in kind.types for text in _describe_type(member)]
    return ["bool" if isinstance(kind, types.Boolean) else "int"]


def mark_tried(folder: Path) -> None:
    """Allow the image of this machine to be used from now on."""
    image = folder / f"image-{_cpu()}"
    (image / _TRIED).write_text(hashlib.sha256((image / _INDEX).read_bytes()).hexdigest())
