"""``pcapdiag.toml`` as JSON Schema (draft 2020-12), made of the declared options: for editors that complete it."""

from __future__ import annotations

from typing import Any

import click

from pcapdiag.cli.config import EXTRA_KEYS, FILE_NAME, file_options
from pcapdiag.cli.declare import OptionPlace, PlacedOption

_STRINGS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}


def config_schema(group: click.Group) -> dict[str, Any]:
    """Return the schema of the file: a table per command, a key per option; nothing else is admitted.

    Parameters
    ----------
    group : click.Group
        The commands.

    Returns
    -------
    dict
        Ready for JSON.
    """
    context = click.Context(group)
    tables = {}
    for name in group.list_commands(context):
        if options := file_options(group, name):
            keys = {key: _describe(option) for key, option in options.items()}
            extra = dict.fromkeys(EXTRA_KEYS.get(name, {}), _STRINGS)
            if "folder" in extra:
                extra["folder"] = {"type": "string"}
            tables[name] = {"type": "object", "properties": {**keys, **extra}, "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{FILE_NAME}, the defaults of pcapdiag",
        "type": "object",
        "properties": tables,
        "additionalProperties": False,
    }


def _describe(option: PlacedOption) -> dict[str, Any]:
    value = _value(option.type, is_flag=option.is_flag)
    if option.multiple:
        value = {"anyOf": [value, {"type": "array", "items": value}]}
    where = "" if option.place is OptionPlace.ANY_FILE else " Only in a file of one's own, or one that --config names."
    return {**value, "description": f"{option.help}{where}"}


def _value(type_: click.ParamType[Any], *, is_flag: bool) -> dict[str, Any]:
    if is_flag:
        return {"type": "boolean"}
    if isinstance(type_, click.Choice):
        return {"enum": list(type_.choices)}
    if isinstance(type_, click.IntRange | click.FloatRange):
        bounds = {"minimum": type_.min, "maximum": type_.max}
        kind = "integer" if isinstance(type_, click.IntRange) else "number"
        return {"type": kind, **{key: bound for key, bound in bounds.items() if bound is not None}}
    return {"type": "string"}
