"""Memory that is free but still counts: glibc keeps what was freed, and a flood's tables leave much of it behind."""

from __future__ import annotations

import ctypes

_LIBRARY = ctypes.CDLL(None)


def give_back() -> None:
    """Hand freed memory back to the system, where the C library can (glibc's malloc_trim); takes a few ms."""
    trim = getattr(_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)
