"""Sequence arithmetic (RFC 9293 section 3.4), in one place and in int64.

`uint32 - uint32` becomes `uint64` when compiled, so sequence numbers are int64 columns and wrap by masking only.
"""

from pcapdiag.kernels._kernel import kernel


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


@kernel
def segment_length(payload_len, flags):
    """Return the sequence numbers a segment takes: its payload, and one each for SYN and FIN (RFC 9293 section 3.4).

    Parameters
    ----------
    payload_len : int
        [bytes] Payload on the wire.
    flags : int
        TCP control bits.

    Returns
    -------
    int
        SEG.LEN.
    """
    return payload_len + ((flags >> 1) & 1) + (flags & 1)
