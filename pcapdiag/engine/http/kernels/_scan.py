"""Finding a byte at memory speed: the C library's `memchr`, which compares 32 bytes at a time.

A compiled loop of ours takes one step per byte, and looking for line ends is most of what reading heads costs.
"""

from typing import Any

from pcapdiag.engine.compiler.policy import COMPILES, kernel

if not COMPILES:

    def find_byte(data: Any, at: int, length: int, byte: int) -> int:
        """Return where `byte` first stands, as the compiled one does."""
        for k in range(length):
            if data[at + k] == byte:
                return k
        return length

else:
    from numba import types

    _memchr = types.ExternalFunction("memchr", types.intp(types.intp, types.intc, types.uintp))

    @kernel
    def find_byte(data, at, length, byte):
        """Return where `byte` first stands among `length` bytes at `at`, `length` if nowhere.

        Parameters
        ----------
        data : ndarray of uint8, shape (n_byte,), contiguous
        at, length : int
            [bytes] Where to look; the caller guarantees that it lies inside.
        byte : int
            0..255.

        Returns
        -------
        int
            [bytes] Position counted from `at`.
        """
        if length <= 0:
            return 0
        start = data.ctypes.data + at
        found = _memchr(start, byte, length)
        return length if found == 0 else found - start
