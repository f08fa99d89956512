"""What a kernel's arguments are: declared in its annotations, checked at every call, and handed over as integers.

Machine code checks nothing. So what a kernel was compiled for and what its caller passes are held against the same
declaration, and the name under which the library exports a kernel contains a hash of it.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

import numpy as np


class ArrayOf:
    """What an array argument must be, as metadata of its annotation: ``Annotated[np.ndarray, ArrayOf("u1")]``.

    Parameters
    ----------
    dtype : dtype or what numpy makes one of
        Of its elements or rows.
    n_dim : int
        Number of dimensions.
    """

    def __init__(self, dtype: Any, n_dim: int = 1) -> None:
        self.dtype = np.dtype(dtype)
        self.n_dim = n_dim


Bytes = Annotated[np.ndarray, ArrayOf(np.uint8)]
"""An array argument of bytes."""


_PASSED_AS = {int: (int, np.integer), bool: (bool, np.bool_)}


class Arguments:
    """The declared arguments of a kernel, or the declared members of a NamedTuple that is one of them.

    Parameters
    ----------
    declared : callable
        A kernel, or the class of a NamedTuple, all of whose annotations are ``int``, ``bool``, an array (`ArrayOf`) or
        such a class.

    Raises
    ------
    TypeError
        An annotation is nothing of these.
    """

    def __init__(self, declared: Callable[..., Any]) -> None:
        annotations = {name: kind for name, kind in declared.__annotations__.items() if name != "return"}
        self.made_by = declared
        self.kinds = [_kind_of(f"{declared.__name__}, {name}", kind) for name, kind in annotations.items()]
        code = getattr(declared, "__code__", None)
        if code is not None and code.co_argcount != len(self.kinds):
            msg = f"{declared.__name__}: every argument of a kernel that Python calls is declared by an annotation"
            raise TypeError(msg)

    def layout(self) -> str:
        """Return a text that differs where machine code would."""
        return f"({','.join(_layout_of(kind) for kind in self.kinds)})"

    def digest(self) -> str:
        """Return a hash of the layout, 16 hexadecimal digits."""
        return hashlib.sha256(self.layout().encode()).hexdigest()[:16]

    def examples(self) -> tuple[Any, ...]:
        """Return a value for each argument, from which numba tells its type."""
        return tuple(_example_of(kind) for kind in self.kinds)

    def machine_types(self) -> list[str]:
        """Return the LLVM types of the integers of `flatten`, as numba's functions take them."""
        return [text for kind in self.kinds for text in _machine_types_of(kind)]

    def flatten(self, values: tuple[Any, ...]) -> list[int]:
        """Check values and return them as numba passes them: an array as its header, a tuple as its members.

        Parameters
        ----------
        values : tuple
            One for each declared argument.

        Returns
        -------
        list of int
            Addresses are valid as long as the arrays live.

        Raises
        ------
        TypeError
            A value is not what is declared.
        """
        flat: list[int] = []
        _append(self.kinds, values, flat)
        return flat


def _append(kinds: list[Any], values: tuple[Any, ...], flat: list[int]) -> None:
    if len(values) != len(kinds):
        msg = f"{len(kinds)} arguments are declared, and {len(values)} were passed"
        raise TypeError(msg)
    for kind, value in zip(kinds, values, strict=True):
        if isinstance(kind, ArrayOf):
            if not isinstance(value, np.ndarray) or value.ndim != kind.n_dim or value.dtype != kind.dtype:
                _refuse(kind, value)
            if not value.flags.carray:
                msg = "kernels take contiguous, aligned arrays that may be written to"
                raise TypeError(msg)
            # Owner and parent are for reference counts, which kernels do not touch.
            flat += (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)
        elif isinstance(kind, Arguments):
            if type(value) is not kind.made_by:
                _refuse(kind, value)
            _append(kind.kinds, value, flat)
        else:
            is_declared = isinstance(value, _PASSED_AS[kind]) and (kind is bool or not isinstance(value, bool))
            if not is_declared:
                _refuse(kind, value)
            flat.append(int(value))


def _refuse(kind: Any, value: Any) -> None:
    what = f"{value.ndim}-dimensional array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    msg = f"a kernel was compiled for other arguments: {_layout_of(kind)} is declared, not {what}"
    raise TypeError(msg)


def _kind_of(where: str, annotation: Any) -> Any:
    if annotation in {int, bool}:
        return annotation
    if get_origin(annotation) is Annotated:
        for metadata in get_args(annotation)[1:]:
            if isinstance(metadata, ArrayOf):
                return metadata
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        return Arguments(annotation)
    msg = f"{where}: {annotation!r} declares no argument of a kernel"
    raise TypeError(msg)


def _layout_of(kind: Any) -> str:
    if isinstance(kind, ArrayOf):
        return f"{_dtype_layout(kind.dtype)}/{kind.n_dim}"
    return kind.layout() if isinstance(kind, Arguments) else str(kind.__name__)


def _dtype_layout(dtype: np.dtype[Any]) -> str:
    """Return every field of a dtype with its place."""
    if dtype.fields is None:
        return dtype.str
    fields = sorted((int(place[1]), name, _dtype_layout(place[0])) for name, place in dtype.fields.items())
    return f"{fields}{dtype.itemsize}"


def _example_of(kind: Any) -> Any:
    if isinstance(kind, ArrayOf):
        return np.zeros((1,) * kind.n_dim, dtype=kind.dtype)
    return kind.made_by(*kind.examples()) if isinstance(kind, Arguments) else kind()


def _machine_types_of(kind: Any) -> list[str]:
    if isinstance(kind, ArrayOf):
        return ["ptr", "ptr", "i64", "i64", "ptr", *["i64"] * (2 * kind.n_dim)]
    if isinstance(kind, Arguments):
        return kind.machine_types()
    return ["i8"] if kind is bool else ["i64"]
