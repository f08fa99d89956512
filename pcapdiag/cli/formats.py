"""Which format an output has: as --format says, else as the name after -o does; a contradiction is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from click.core import ParameterSource

from pcapdiag.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

_BY_SUFFIX: Final = {
    ".html": ("html",),
    ".htm": ("html",),
    ".json": ("json", "adf", "sarif"),
    ".md": ("markdown",),
    ".csv": ("csv",),
    ".parquet": ("parquet",),
    ".zip": ("zip",),
    ".sarif": ("sarif",),
    ".xml": ("junit",),
}
"""What a file of that name may hold, the first of it where nothing else was asked for."""


def choose_format(ctx: click.Context, given: str, output: str, formats: Sequence[str]) -> str:
    """Return the format of a command's output.

    Parameters
    ----------
    ctx : click.Context
        Of the command: whether --format stands on the command line, which alone outranks the name of the file.
    given : str
        The value of --format, or its default.
    output : str
        What stands after -o.
    formats : sequence of str
        Those of the command.

    Returns
    -------
    str

    Raises
    ------
    UsageError
        The name of the file is that of a format that was not asked for, or that the command does not have.
    """
    suffix = Path(output).suffix.lower()
    fitting = _BY_SUFFIX.get(suffix, ())
    if not fitting or output.endswith("/") or Path(output).is_dir():
        return given
    if ctx.get_parameter_source("format_") == ParameterSource.COMMANDLINE:
        if given not in fitting:
            msg = f"--format {given} contradicts -o {output}: leave out one of them, or give the file another name"
            raise UsageError(msg)
        return given
    known = [name for name in fitting if name in formats]
    if not known:
        msg = f"{ctx.info_name} writes no {suffix} file; choose --format from {', '.join(formats)} and another name"
        raise UsageError(msg)
    return given if given in known else known[0]
