"""Defaults from ``pcapdiag.toml``: the folder one works in first, then the operator's configuration folder.

A table per command, keys as the long options: ``[analyze]``, ``fail-on = "error"``. Anywhere it may choose *what to
say*. What is read, where output goes, whom to tell and what to forget has a place in the operator's own file alone: one
that lies in a folder of captures must not choose that. Even there nothing takes redaction off or overwrites files.
"""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.base.trusted import UntrustedError, open_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_NAME = "pcapdiag.toml"
_MOST_BYTES = 1 << 20

_LOGS = ("error-log", "access-log", "upstream-log", "proxy-conf")
_FORMS = ("log-format", "log-zone", "upstream-log-format")
_OPTIONS = {
    "analyze": (
        *("proxy", "upstream", "format", "select", "ignore", "fail-on", "width", "color", "quiet", "verbose", "show"),
    ),
    "scan": (
        *("proxy", "upstream", "format", "select", "ignore", "fail-on", "fail-on-change", "jobs", "settle", "quiet"),
        *_FORMS,
    ),
    "history": ("format", "code", "upstream", "state", "table", "since", "until"),
    "show": ("proxy", "upstream", "format", "limit", "quiet"),
    "watch": ("proxy", "upstream", "format", "select", "ignore", "fail-on", "quiet", *_FORMS),
}
# Not options: arguments, and the URLs that must not stand on a command line.
_NAMES = {"scan": {"paths": "places", "notify": "notify"}, "watch": {"folder": "place", "notify": "notify"}}
_OWN_OPTIONS = {
    "scan": (
        *("paths", "store", "exchanges", "no-exchanges", "keep-days", "keep-size", "since", "until", "scheduler"),
        *("out", "site-url", "metrics", "jsonl", "notify", "notify-url-env", *_LOGS),
    ),
    "history": ("store",),
    "watch": (
        *("folder", "out", "ring", "grace", "cool-down", "context", "keep", "bundle"),
        *("metrics", "notify", "notify-url-env", *_LOGS),
    ),
}
"""Only in the operator's own file."""


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
    here = Path(FILE_NAME)
    for path in reversed(tuple(config_paths())):
        for command, options in _read(path, is_own=path != here).items():
            merged.setdefault(command, {}).update(options)
    return {name: _by_parameter(group, name, options) for name, options in merged.items()}


def _read(path: Path, *, is_own: bool) -> dict[str, dict[str, Any]]:
    if not os.path.lexists(path):
        return {}  # whoever may have written the folder
    try:
        with os.fdopen(open_trusted(path), "rb") as file:
            text, mode = file.read(_MOST_BYTES + 1), os.fstat(file.fileno()).st_mode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except UntrustedError as error:
        if is_own:
            raise
        # One that lies among somebody's captures is no reason to stop.
        click.echo(f"pcapdiag: {path} is not read: {error}", err=True)
        return {}
    if len(text) > _MOST_BYTES:
        msg = f"{path} is too long for a configuration"
        raise UsageError(msg)
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
        own = _OWN_OPTIONS.get(command, ())
        for key in options:
            if key in own and not is_own:
                msg = (
                    f"{path}: {key!r} in [{command}] has a place only in {tuple(config_paths())[-1]}: a file beside "
                    "captures must not choose it"
                )
                raise UsageError(msg)
            if key not in (*known, *own):
                msg = f"{path}: {key!r} has no place in [{command}]; it may hold {', '.join((*known, *own))}"
                raise UsageError(msg)
    _refuse_open_secrets(path, content, mode)
    return content


def _refuse_open_secrets(path: Path, content: dict[str, Any], mode: int) -> None:
    is_secret = any("notify" in options for options in content.values())
    if is_secret and mode & stat.S_IROTH:
        msg = f"{path} holds URLs to notify, which are secrets, and everybody may read it: chmod o-r {path}"
        raise UsageError(msg)


def _by_parameter(group: click.Group, name: str, options: dict[str, Any]) -> dict[str, Any]:
    command = group.get_command(click.Context(group), name)
    names = (
        {opt.removeprefix("--"): p.name for p in command.params for opt in p.opts if opt.startswith("--")}
        if command
        else {}
    )
    names.update(_NAMES.get(name, {}))
    return {names[key]: value for key, value in options.items() if key in names}
