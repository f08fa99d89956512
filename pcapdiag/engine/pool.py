"""Memory that kernels work in: arrays that grow, and the free lists in them."""

import math
import mmap
from typing import Any

import numpy as np

Rows = np.ndarray[Any, Any]

_MAPPED = 256 << 10
"""Bytes from which on an array is a mapping of its own."""

_HUGE = 4 << 20
"""Bytes from which on Linux may take large pages for it, as NumPy asks for its own."""


def grown(array: Rows, n_more: int) -> Rows:
    """Return a copy of `array` with `n_more` zeroed rows behind its own.

    The system gives pages of zeros only when they are used, so that rows cost nothing before that.
    """
    larger = _zeros((len(array) + n_more, *array.shape[1:]), array.dtype)
    # Rows are copied as what they are in memory: numpy would copy them field by field.
    larger.view(np.uint8).reshape(-1)[: array.nbytes] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    return larger


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Rows:
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes < _MAPPED:
        return np.zeros(shape, dtype=dtype)
    # Arrays that grow in turns leave holes in the heap, how many is chance; a mapping of its own leaves none.
    mapping = mmap.mmap(-1, n_bytes)
    if n_bytes >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapping, dtype=dtype).reshape(shape)


def link_free(following: Rows, start: int, first_free: int) -> int:
    """Put the rows from `start` on in front of a free list; return the list's new head.

    Parameters
    ----------
    following : ndarray of int32, shape (n_row,)
        The row behind each; -1 at the end of the list.
    start : int
        The first new row.
    first_free : int
        Head of the list so far.
    """
    following[start:] = np.arange(start + 1, len(following) + 1)
    following[-1] = first_free
    return start
