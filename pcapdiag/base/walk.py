"""Every text of plain data, mapped: reports, findings and ledgers are dataclasses of tuples of texts and numbers."""

from __future__ import annotations

import dataclasses
from functools import cache
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def map_texts(value: _T, other: Callable[[str, str], str], field: str = "", *, leave: tuple[type, ...] = (type,)) -> _T:
    """Return plain data with every text in it mapped.

    Parameters
    ----------
    value : object
        Dataclasses, named tuples, tuples, lists, sets, dicts, texts and numbers.
    other : callable
        From a text and the name of the nearest field or key that holds it to the text in its place.
    field : str
        Name of the field that holds `value`.
    leave : tuple of type
        What is returned as it is.

    Returns
    -------
    object
        Of the same kind; what has no text that another one takes the place of, and enumerations, as they are: such
        parts are shared, but for lists, sets and dicts, which may change later.
    """
    mapped: _T = _mapped(value, other, field, (str, int, float, type, *leave))
    return mapped


# Nine of ten values of a report with many occurrences: asked first.
_WITHOUT_TEXT: Final = frozenset({int, bool, float, type(None)})


@cache
def _fields_of(cls: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]] | None:
    """Return the names of the fields that a dataclass is made of, and what reads them all; None if it is none."""
    if not dataclasses.is_dataclass(cls):
        return None
    names = tuple(f.name for f in dataclasses.fields(cls) if f.init)
    return names, attrgetter(*names, "__class__")  # one more, for there must be two for a tuple


def _mapped(value: Any, other: Callable[[str, str], str], field: str, leave: tuple[type, ...]) -> Any:
    cls = value.__class__
    if cls is str:
        return other(value, field)
    if cls in _WITHOUT_TEXT or isinstance(value, leave):
        return value
    fields = _fields_of(cls)
    if fields is not None:
        names, read = fields
        changed = {
            name: mapped
            for name, item in zip(names, read(value), strict=False)
            if item.__class__ not in _WITHOUT_TEXT and (mapped := _mapped(item, other, name, leave)) is not item
        }
        return cls(**dict(zip(names, read(value), strict=False)) | changed) if changed else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return cls(*(_mapped(item, other, name, leave) for name, item in zip(value._fields, value, strict=True)))
    if isinstance(value, tuple):
        items = cls([_mapped(item, other, field, leave) for item in value])
        return value if all(map(is_, items, value)) else items
    if isinstance(value, list | frozenset | set):
        return cls(_mapped(item, other, field, leave) for item in value)
    if isinstance(value, dict):
        return {
            _mapped(key, other, field, leave): _mapped(item, other, key if type(key) is str else field, leave)
            for key, item in value.items()
        }
    return value
