"""Sequence arithmetic (RFC 9293 section 3.4), in one place and in int64.

`uint32 - uint32` becomes `uint64` when compiled, so sequence numbers are int64 columns and wrap by masking only.
"""

from pcapdiag.engine.compiler.policy import kernel


@kernel
def sequence_difference(a, b):
    """Return how far sequence number `a` is ahead of `b`: negative if behind.

    Parameters
    ----------
    a, b : int
        Sequence numbers, 0..2^32-1.

    Returns
    -------
    int
        The difference modulo 2^32 in -2^31..2^31-1.
    """
    d = (a - b) & 0xFFFFFFFF
    return d - ((d & 0x80000000) << 1)
