"""Defaults from ``pcapdiag.toml``: the folder one works in first, then the user's configuration folder.

A table per command, keys as the long options: ``[analyze]``, ``fail-on = "error"``. Only options that choose *what to
say* have a place there: a file that lies in a folder of captures must not choose where output goes.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pcapdiag.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_NAME = "pcapdiag.toml"

_OPTIONS = {
    "analyze": ("proxy", "upstream", "format", "select", "ignore", "fail-on", "width", "quiet"),
    "scan": (
        *("proxy", "upstream", "format", "select", "ignore", "fail-on", "fail-on-change", "jobs", "settle", "quiet"),
        *("log-format", "log-zone", "upstream-log-format", "keep-days", "keep-size"),
    ),
    "history": ("format", "code", "upstream"),
    "show": ("proxy", "upstream", "format", "limit", "quiet"),
}


def config_paths() -> Iterator[Path]:
    """Yield the places of the file, the most specific first."""
    yield Path(FILE_NAME)
    yield Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pcapdiag" / FILE_NAME


def load_defaults(group: click.Group) -> dict[str, Any]:
    """Return click's default map from all configuration files, a more specific file winning key by key.

    Parameters
    ----------
    group : click.Group
        The commands, to know the parameter behind an option.

    Returns
    -------
    dict
        Command to parameter to value.

    Raises
    ------
    UsageError
        A file is no TOML, or holds a command or option that has no place there.
    """
    merged: dict[str, Any] = {}
    for path in reversed(tuple(config_paths())):
        for command, options in _read(path).items():
            merged.setdefault(command, {}).update(options)
    return {name: _by_parameter(group, name, options) for name, options in merged.items()}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    try:
        content = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not valid TOML: {error}"
        raise UsageError(msg) from error
    for command, options in content.items():
        known = _OPTIONS.get(command)
        if known is None or not isinstance(options, dict):
            msg = f"{path}: [{command}] has no place there; it may hold {', '.join(f'[{c}]' for c in _OPTIONS)}"
            raise UsageError(msg)
        for key in options:
            if key not in known:
                msg = f"{path}: {key!r} has no place in [{command}]; it may hold {', '.join(known)}"
                raise UsageError(msg)
    return content


def _by_parameter(group: click.Group, name: str, options: dict[str, Any]) -> dict[str, Any]:
    command = group.get_command(click.Context(group), name)
    names = (
        {opt.removeprefix("--"): p.name for p in command.params for opt in p.opts if opt.startswith("--")}
        if command
        else {}
    )
    return {names[key]: value for key, value in options.items() if key in names}
