"""Memory that kernels work in: arrays that grow, and the free lists in them."""

from typing import Any

import numpy as np

Rows = np.ndarray[Any, Any]


def grown(array: Rows, n_more: int) -> Rows:
    """Return a copy of `array` with `n_more` zeroed rows behind its own.

    The system gives pages of zeros only when they are used, so that rows cost nothing before that.
    """
    larger = np.zeros((len(array) + n_more, *array.shape[1:]), dtype=array.dtype)
    # Rows are copied as what they are in memory: numpy would copy them field by field.
    larger.view(np.uint8).reshape(-1)[: array.nbytes] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    return larger


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
