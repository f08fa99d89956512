"""Where a report goes: stdout, or a file that only its owner may read and that is never overwritten by accident."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from pcapdiag.base.outfile import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT = "-"


@contextmanager
def open_output(path: str, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open stdout or a file, before the work begins.

    Parameters
    ----------
    path : str
        ``-`` is stdout.
    force : bool
        Whether an existing file is replaced.

    Yields
    ------
    file object
        Binary, writable.

    Raises
    ------
    UsageError
        As `outfile.open_file` says.
    """
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with open_file(path, force=force) as file:
        yield file


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is, or what COLUMNS says; None if there is neither."""
    return shutil.get_terminal_size((0, 0)).columns or None


def terminal_form(width: int | None, default: int, color: str, *, to_stdout: bool) -> tuple[int, bool]:
    """Return the columns of a report for a terminal, and whether it has colours.

    Parameters
    ----------
    width : int or None
        As the operator wants it; None for the terminal's own.
    default : int
        Where there is no terminal.
    color : str
        ``always``, ``never``, or ``auto``: as NO_COLOR and FORCE_COLOR say, the first of them outranking the second,
        else on a terminal that can.
    to_stdout : bool
        Whether the report goes to stdout.
    """
    if width is None:
        width = (terminal_width() if to_stdout else None) or default
    if color != "auto":
        return width, color == "always"
    if os.environ.get("NO_COLOR") or not to_stdout:
        return width, False
    return width, bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def fit(line: str, width: int | None, *, hang: int) -> str:
    """Return a line as several that are no wider than the terminal, where it is too long.

    Parameters
    ----------
    line : str
        Of any length.
    width : int or None
        Columns; None for as many as it takes.
    hang : int
        How far all lines but the first are indented.

    Returns
    -------
    str
        Words as they were; one that is wider than the terminal stands alone.
    """
    if width is None or len(line) <= width:
        return line
    from textwrap import fill  # noqa: PLC0415 - help needs none

    hang = min(hang, width // 2)
    return fill(line, width, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False)


def fit_page(text: str, width: int | None) -> str:
    """Return a page of paragraphs, those with lines wider than the terminal broken anew.

    Parameters
    ----------
    text : str
        Paragraphs with empty lines between them; a line that is indented or begins with a dash stays a line of its own.
    width : int or None
        Columns; None for as many as it takes.

    Returns
    -------
    str
    """
    if width is None:
        return text
    return "\n\n".join(_fit_paragraph(paragraph, width) for paragraph in text.split("\n\n"))


def _fit_paragraph(paragraph: str, width: int) -> str:
    lines = paragraph.split("\n")
    if all(len(line) <= width for line in lines):
        return paragraph
    title = lines[:2] if len(lines) > 1 and set(lines[1]) == {"-"} else []
    lines = lines[len(title) :]
    if any(line.startswith((" ", "-")) for line in lines):
        return "\n".join([*title, *(fit(line, width, hang=len(line) - len(line.lstrip(" -"))) for line in lines)])
    return "\n".join([*title, fit(" ".join(lines), width, hang=0)])
