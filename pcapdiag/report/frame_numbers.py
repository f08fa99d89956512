"""Where frames stand: file and number as other tools show them. Loads nothing but numpy."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.privacy.escape import storable
from pcapdiag.privacy.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pcapdiag.engine.capture.batch import Capture


class FrameNumbers:
    """File and 1-based number of many frames at once.

    Parameters
    ----------
    captures : sequence of Capture
        The captures of the run, each with its files in order.
    redact : bool
        Whether what looks like a secret in the names of files is masked.
    """

    def __init__(self, captures: Sequence[Capture], *, redact: bool = True) -> None:
        redactor = Redactor(active=redact)
        self._paths = [np.array([storable(redactor.text(f.path)) for f in c.files], dtype=object) for c in captures]
        self._starts = [np.array([f.first_frame for f in c.files], dtype=np.int64) for c in captures]

    def number(self, capture_idx: NDArray[Any], frames: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the paths and 1-based numbers of 0-based `frames`; an empty path and -1 for no frame."""
        paths = np.full(len(frames), "", dtype=object)
        numbers = np.full(len(frames), -1, dtype=np.int64)
        for idx, (names, starts) in enumerate(zip(self._paths, self._starts, strict=True)):
            here = np.flatnonzero((capture_idx == idx) & (frames >= 0))
            file_idx = np.maximum(np.searchsorted(starts, frames[here], side="right") - 1, 0)
            paths[here] = names[file_idx]
            numbers[here] = frames[here] - starts[file_idx] + 1
        return paths, numbers


class FrameLocator:
    """Where a frame lies: from a 0-based frame of a capture to a file and the 1-based number within it.

    Parameters
    ----------
    captures : sequence of Capture
        The captures of the run, each with its files in order.
    """

    def __init__(self, captures: Sequence[Capture]) -> None:
        self._paths = [[f.path for f in c.files] for c in captures]
        self._starts = [[f.first_frame for f in c.files] for c in captures]

    def locate(self, capture_idx: int, frame: int) -> tuple[str, int]:
        """Return path and 1-based frame number; ``("", -1)`` for no frame."""
        if frame < 0 or not self._paths[capture_idx]:
            return "", -1
        file_idx = max(bisect_right(self._starts[capture_idx], frame) - 1, 0)
        return self._paths[capture_idx][file_idx], frame - self._starts[capture_idx][file_idx] + 1
