"""What somebody asks the evidence to hold, read: codes and frames as people write them.

Knows how findings and files are named; nothing of what is in a frame.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from pcapdiag.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.base.findings import Finding
    from pcapdiag.engine.capture.batch import Capture


def choose_findings(findings: Sequence[Finding], codes: Sequence[str], *, is_all: bool) -> tuple[Finding, ...]:
    """Return the findings of certain codes.

    Parameters
    ----------
    findings : sequence of Finding
        What was found.
    codes : sequence of str
        Codes or beginnings of codes.
    is_all : bool
        Whether no code means all findings; otherwise it means none.

    Returns
    -------
    tuple of Finding

    Raises
    ------
    UsageError
        Nothing of such a code was found.
    """
    if not codes:
        return tuple(findings) if is_all else ()
    found = {f.code for f in findings}
    for code in codes:
        if not any(known.startswith(code.upper()) for known in found):
            msg = f"{code} was not found in this capture; found are: {', '.join(sorted(found)) or 'none'}"
            raise UsageError(msg)
    return tuple(f for f in findings if f.code.startswith(tuple(code.upper() for code in codes)))


def choose_frames(captures: Sequence[Capture], frames: Sequence[str]) -> set[tuple[int, int]]:
    """Return frames by capture and 0-based frame.

    Parameters
    ----------
    captures : sequence of Capture
        As they were analysed.
    frames : sequence of str
        ``NUMBER`` where there is one file only, or ``FILE:NUMBER``; as Wireshark numbers them.

    Returns
    -------
    set of (int, int)

    Raises
    ------
    UsageError
        There is no such frame, or several files could be meant.
    """
    return {_find_frame(captures, frame) for frame in frames}


def _find_frame(captures: Sequence[Capture], frame: str) -> tuple[int, int]:
    name, _, digits = frame.rpartition(":")
    if not digits.isdecimal() or len(digits) > 18:
        msg = f"{frame!r} is no frame: write its number as Wireshark shows it, or FILE:NUMBER"
        raise UsageError(msg)
    files = [
        (idx, file)
        for idx, capture in enumerate(captures)
        for file in capture.files
        if not name or name in {file.path, PurePath(file.path).name}
    ]
    if len(files) != 1:
        what = "no file of that name" if not files else "several files: write FILE:NUMBER"
        msg = f"frame {frame}: there {'is' if not files else 'are'} {what}"
        raise UsageError(msg)
    idx, file = files[0]
    number = int(digits)
    if not 1 <= number <= file.n_frames:
        msg = f"frame {frame}: {file.path} has {file.n_frames:,} frames"
        raise UsageError(msg)
    return idx, file.first_frame + number - 1
