"""The JSON documents as JSON Schema (draft 2020-12), derived from the dataclasses that they are made of.

Objects may get fields: a schema names those of this version, and refuses no others.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pcapdiag.base.scenarios import WhatIf
from pcapdiag.base.triage import Triage
from pcapdiag.report.compare import model as comparison
from pcapdiag.report.model import SCHEMA_VERSION, InputFile, Report, Tool, json_fields, to_plain
from pcapdiag.report.triage import render as triage
from pcapdiag.report.whatif import json as whatif

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE: Mapping[Any, dict[str, Any]] = {
    int: {"type": "integer"},
    str: {"type": "string"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    types.NoneType: {"type": "null"},
    Any: {},
}


def report_schema() -> dict[str, Any]:
    """Return the schema of ``analyze --format json``."""
    return _document("Report of pcapdiag analyze", SCHEMA_VERSION, _Objects(has_texts=True), Report)


def comparison_schema() -> dict[str, Any]:
    """Return the schema of ``compare --format json``."""
    objects = _Objects(has_texts=True)
    return _document("Comparison of pcapdiag compare", comparison.SCHEMA_VERSION, objects, comparison.Comparison)


def whatif_schema() -> dict[str, Any]:
    """Return the schema of ``whatif --format json``."""
    objects = _Objects(has_texts=False)
    before = {"schema_version": {}, "tool": objects.of(Tool), "inputs": objects.of(tuple[InputFile, ...])}
    return _document("Answer of pcapdiag whatif", whatif.SCHEMA_VERSION, objects, WhatIf, before)


def triage_schema() -> dict[str, Any]:
    """Return the schema of ``analyze --format json`` without a capture."""
    objects = _Objects(has_texts=False)
    before = {"schema_version": {}, "tool": objects.of(Tool), "inputs": objects.of(tuple[InputFile, ...])}
    return _document("Triage of pcapdiag analyze without a capture", triage.SCHEMA_VERSION, objects, Triage, before)


def describe(cls: type) -> str:
    """Return what a class says of itself, without the sections on its attributes."""
    return inspect.cleandoc(cls.__doc__ or "").split("\n\nAttributes\n")[0]


def _document(
    title: str, version: int, objects: _Objects, root: type, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    described = objects.describe(root)
    properties = {**(before or {}), **described["properties"], "schema_version": {"const": version}}
    return {
        "$schema": DIALECT,
        "title": title,
        **described,
        "properties": properties,
        "required": list(properties),
        "$defs": dict(sorted(objects.defined.items())),
    }


class _Objects:
    """Schemas of dataclasses, each defined once.

    Parameters
    ----------
    has_texts : bool
        Whether beside every absolute time stands its text, as `to_plain` writes it.
    """

    def __init__(self, *, has_texts: bool) -> None:
        self._has_texts = has_texts
        self.defined: dict[str, dict[str, Any]] = {}

    def describe(self, cls: type) -> dict[str, Any]:
        """Return the schema of a dataclass itself."""
        hints = typing.get_type_hints(cls)
        properties: dict[str, Any] = {}
        for field in json_fields(cls):
            properties[field.name] = self.of(hints[field.name])
            if self._has_texts and (field.name == "ts_ns" or field.name.endswith("_ts_ns")):
                properties[field.name.removesuffix("_ns")] = {"type": ["string", "null"], "format": "date-time"}
        return {
            "description": describe(cls),
            "type": "object",
            "properties": properties,
            "required": list(properties),
        }

    def of(self, hint: Any) -> dict[str, Any]:
        """Return the schema of a value with this type."""
        if hint in _SIMPLE:
            return dict(_SIMPLE[hint])
        if isinstance(hint, type) and issubclass(hint, Enum):
            return {"enum": list(dict.fromkeys(to_plain(member) for member in hint))}
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if hint.__name__ not in self.defined:
                self.defined[hint.__name__] = {}  # named before it is described: it may hold its own kind
                self.defined[hint.__name__] = self.describe(hint)
            return {"$ref": f"#/$defs/{hint.__name__}"}
        origin, parts = typing.get_origin(hint), typing.get_args(hint)
        if origin in (types.UnionType, typing.Union):
            return {"anyOf": [self.of(part) for part in parts]}
        if origin is tuple and parts[-1] is Ellipsis:
            return {"type": "array", "items": self.of(parts[0])}
        if origin is tuple:
            return {
                "type": "array",
                "prefixItems": [self.of(part) for part in parts],
                "items": False,
                "minItems": len(parts),
            }
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self.of(parts[1])}
        msg = f"no JSON Schema for {hint}"
        raise TypeError(msg)
