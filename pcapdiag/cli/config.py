"""Defaults from ``pcapdiag.toml``: the nearest from the current folder upward, then the operator's own.

A table per command, keys as the long options: ``[analyze]``, ``fail-on = "error"``. Which options a file may hold is
declared with them (`declare.OptionPlace`): one among captures may choose only *what to say*. What is read, where output
goes, whom to tell and what to forget has a place in the operator's own file, or in one that ``--config`` names. No file
takes redaction off or overwrites files.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.base.suggest import did_you_mean
from pcapdiag.base.trusted import UntrustedError, open_trusted
from pcapdiag.cli.declare import CONFIG_LINES, OptionPlace, PlacedOption

FILE_NAME = "pcapdiag.toml"
_MOST_BYTES = 1 << 20
_GIVEN = "pcapdiag.cli.config.given"

EXTRA_KEYS = {"scan": {"paths": "places", "notify": "notify"}, "watch": {"folder": "place", "notify": "notify"}}
"""Keys that are no options, and their parameters: arguments, and URLs that must not stand on a command line."""


@dataclass(frozen=True, slots=True)
class _ConfigFile:
    path: Path
    is_own: bool
    """Whether the user keeps it or has named it, and it may hold all that a file may."""
    mode: int
    """Its permissions, as `os.stat` has them."""
    tables: dict[str, dict[str, Any]]
    lines: dict[tuple[str, str], int]
    """Where tables (with an empty key) and their keys stand, those on lines of their own."""

    def line_of(self, command: str, key: str = "") -> str:
        """Return the file with the line of a table, or of a key in it, as far as it is known."""
        number = self.lines.get((command, key)) or self.lines.get((command, ""))
        return f"{self.path}:{number}" if number else str(self.path)


def _find_lines(text: str) -> dict[tuple[str, str], int]:
    """Return the numbers of the lines with a table's header or a key, the first of each; tomllib keeps none."""
    found: dict[tuple[str, str], int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*\"?([\w-]+)\"?\s*\]", line):
            table = header[1]
            found.setdefault((table, ""), number)
        elif key := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", line):
            found.setdefault((table, key[1]), number)
    return found


def own_path() -> Path:
    """Return the place of the operator's own file."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pcapdiag" / FILE_NAME


def _nearest() -> Path | None:
    """Return the file that lies nearest to the current folder, there or above; none if it is the operator's own."""
    for folder in (here := Path.cwd(), *here.parents):
        path = folder / FILE_NAME
        if os.path.lexists(path):
            return None if path == own_path() else Path(FILE_NAME) if folder == here else path
    return None


def file_options(group: click.Group, name: str) -> dict[str, PlacedOption]:
    """Return the options of a command that a file may hold, by their keys; none if there is no such command."""
    command = group.get_command(click.Context(group), name)
    options = [p for p in command.params if isinstance(p, PlacedOption)] if command else []
    return {option.key: option for option in options if option.place is not OptionPlace.LINE}


def load_defaults(group: click.Group, name: str, given: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values that files hold for a command, a more specific file winning key by key.

    Parameters
    ----------
    group : click.Group
        The commands.
    name : str
        The command.
    given : str
        The file that ``--config`` names, in place of all others.

    Returns
    -------
    values : dict
        By parameter.
    lines : dict
        File, line and key of each of them, for who has to correct it.

    Raises
    ------
    UsageError
        A file is no TOML, or holds a command or option that has no place there.
    """
    values: dict[str, Any] = {}
    lines: dict[str, str] = {}
    for file in _read_files(given):
        for command, table in file.tables.items():
            _check_table(file, group, command, table)
        _refuse_open_secrets(file)
        options = file_options(group, name)
        extra = EXTRA_KEYS.get(name, {})
        for key, value in file.tables.get(name, {}).items():
            parameter = extra[key] if key in extra else options[key].name
            is_list = key in options and options[key].multiple and not isinstance(value, list)
            values[parameter] = [value] if is_list else value
            lines[parameter] = f"{key} in [{name}], {file.line_of(name, key)}"
    return values, lines


def _read_files(given: str) -> list[_ConfigFile]:
    if given:
        if file := _read(Path(given), is_own=True):
            return [file]
        what = "cannot be read" if os.path.lexists(given) else "is not there"
        msg = f"{given}, which --config names, {what}"
        raise UsageError(msg)
    near = _nearest()
    files = [_read(own_path(), is_own=True), _read(near, is_own=False) if near else None]
    return [file for file in files if file]


def _read(path: Path, *, is_own: bool) -> _ConfigFile | None:
    if not os.path.lexists(path):
        return None  # whoever may have written the folder
    try:
        with os.fdopen(open_trusted(path), "rb") as file:
            data, mode = file.read(_MOST_BYTES + 1), os.fstat(file.fileno()).st_mode
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except UntrustedError as error:
        if is_own:
            raise
        # One that lies among somebody's captures is no reason to stop.
        click.echo(f"pcapdiag: {path} is not read: {error}", err=True)
        return None
    if len(data) > _MOST_BYTES:
        msg = f"{path} is too long for a configuration"
        raise UsageError(msg)
    try:
        text = data.decode()
        return _ConfigFile(path, is_own, mode, tomllib.loads(text), _find_lines(text))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not valid TOML: {error}"
        raise UsageError(msg) from error


def _check_table(file: _ConfigFile, group: click.Group, name: str, table: object) -> None:
    context = click.Context(group)
    options = file_options(group, name)
    extra = EXTRA_KEYS.get(name, {})
    if not options or not isinstance(table, dict):
        commands = [c for c in group.list_commands(context) if file_options(group, c)]
        near = did_you_mean(name, commands) or f"; it may hold {', '.join(f'[{c}]' for c in commands)}"
        msg = f"{file.line_of(name)}: [{name}] has no place there{near}"
        raise UsageError(msg)
    for key, value in table.items():
        where = file.line_of(name, key)
        if key not in options and key not in extra:
            known = [*options, *extra]
            near = did_you_mean(key, known) or f"; it may hold {', '.join(known)}"
            msg = f"{where}: {key!r} has no place in [{name}]{near}"
            raise UsageError(msg)
        if not file.is_own and (key in extra or options[key].place is not OptionPlace.ANY_FILE):
            msg = (
                f"{where}: {key!r} in [{name}] has a place only in {own_path()} or a file that --config names: a file "
                "beside captures must not choose it"
            )
            raise UsageError(msg)
        if isinstance(value, dict) or (isinstance(value, list) and key in options and not options[key].multiple):
            msg = f"{where}: {key!r} in [{name}] takes one value"
            raise UsageError(msg)


def _refuse_open_secrets(file: _ConfigFile) -> None:
    is_secret = any("notify" in table for table in file.tables.values())
    if is_secret and file.mode & stat.S_IROTH:
        msg = f"{file.path} holds URLs to notify, which are secrets, and everybody may read it: chmod o-r {file.path}"
        raise UsageError(msg)


def _take_config(ctx: click.Context, _param: click.Parameter, value: str) -> None:
    """Give the command its defaults, before its other options are looked at."""
    if ctx.parent is None:
        ctx.meta[_GIVEN] = value
        return
    group = ctx.find_root().command
    if isinstance(group, click.Group) and not ctx.resilient_parsing:
        given = value or ctx.meta.get(_GIVEN, "")
        ctx.default_map, ctx.meta[CONFIG_LINES] = load_defaults(group, str(ctx.info_name), given)


def make_config_option() -> PlacedOption:
    """Return --config, for the program and for each of its commands."""
    return PlacedOption(
        ["--config"],
        place=OptionPlace.LINE,
        envvar="PCAPDIAG_CONFIG",
        show_envvar=True,
        default="",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=_take_config,
        help=f"Take defaults from FILE, and from no {FILE_NAME}.",
    )
