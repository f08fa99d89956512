"""Every text of plain data, mapped: reports, findings and ledgers are dataclasses of tuples of texts and numbers."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

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
        Of the same kind; what has no text, and enumerations, as they are.
    """
    mapped: _T = _mapped(value, other, field, (type, *leave))
    return mapped


@cache
def _field_names(cls: type) -> tuple[str, ...] | None:
    """Return the names of the fields that a dataclass is made of; None if it is none."""
    return tuple(f.name for f in dataclasses.fields(cls) if f.init) if dataclasses.is_dataclass(cls) else None


def _mapped(value: Any, other: Callable[[str, str], str], field: str, leave: tuple[type, ...]) -> Any:
    if isinstance(value, str):
        return other(value, field) if type(value) is str else value
    if value is None or isinstance(value, (int, float, *leave)):
        return value
    names = _field_names(value.__class__)
    if names is not None:
        return type(value)(**{name: _mapped(getattr(value, name), other, name, leave) for name in names})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(
            *(_mapped(item, other, name, leave) for name, item in zip(value._fields, value, strict=True))
        )
    if isinstance(value, tuple | list | frozenset | set):
        return type(value)(_mapped(item, other, field, leave) for item in value)
    if isinstance(value, dict):
        return {
            _mapped(key, other, field, leave): _mapped(item, other, key if type(key) is str else field, leave)
            for key, item in value.items()
        }
    return value
