"""One declaration per option: its words on the command line, its variable, and which ``pcapdiag.toml`` may hold it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., Any])

CONFIG_LINES = "pcapdiag.cli.config.lines"
"""Key of `click.Context.meta`: where a file names the value of a parameter, by its name."""


class OptionPlace(Enum):
    """Where an option has a place beside the command line."""

    ANY_FILE = "any file"
    """Any pcapdiag.toml, and a variable: it chooses only what to say."""
    OWN_FILE = "own file"
    """A pcapdiag.toml that the user keeps or names, and a variable: what is read, where to write, whom to tell."""
    LINE = "line"
    """Nowhere: it is a decision about one run."""


class PlacedOption(click.Option):
    """An option that knows where else it has a place, and says of a bad value where that came from."""

    def __init__(self, *args: Any, place: OptionPlace, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.place = place

    @property
    def key(self) -> str:
        """Its long name, which is its key in a file."""
        return next(name for name in self.opts if name.startswith("--")).removeprefix("--")

    def give_variable(self, command: str) -> None:
        """Name its variable after the command, if it has no other and may have one."""
        if self.envvar is None and self.place is not OptionPlace.LINE:
            self.envvar = f"PCAPDIAG_{command}_{self.key}".upper().replace("-", "_")

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return what is at fault: the option, the variable or the line of a file that gave the value."""
        source = ctx.get_parameter_source(self.name) if ctx else None
        if source is ParameterSource.ENVIRONMENT:
            return f"the variable {self.envvar}"
        lines = ctx.meta.get(CONFIG_LINES, {}) if ctx else {}
        if source is ParameterSource.DEFAULT_MAP and self.name in lines:
            return str(lines[self.name])
        return click.Parameter.get_error_hint(self, ctx)  # an Option's own names a variable that nobody has set


def command_option(
    *names: str, place: OptionPlace = OptionPlace.OWN_FILE, variable: str = "", **settings: Any
) -> Callable[[F], F]:
    """Return an option of one command; its variable is PCAPDIAG_ with `variable`, or with the command and its name."""
    envvar = f"PCAPDIAG_{variable}" if variable else None
    return click.option(*names, cls=PlacedOption, place=place, envvar=envvar, show_envvar=bool(variable), **settings)


def option(*names: str, place: OptionPlace = OptionPlace.OWN_FILE, **settings: Any) -> Callable[[F], F]:
    """Return an option that means the same in every command that has it; its variable is PCAPDIAG_ and its name."""
    long = next(name for name in names if name.startswith("--")).removeprefix("--")
    return command_option(*names, place=place, variable=long.replace("-", "_").upper(), **settings)
