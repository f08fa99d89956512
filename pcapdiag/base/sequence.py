"""Sequence numbers, compared modulo 2^32 (RFC 9293, section 3.4)."""

from __future__ import annotations


def sequence_difference(a: int, b: int) -> int:
    """Return a - b as the signed distance of two sequence numbers modulo 2^32 (RFC 9293 section 3.4)."""
    d = (a - b) & 0xFFFFFFFF
    return d - ((d & 0x80000000) << 1)


def relative_sequence(seq: int, base: int) -> int:
    """Return a sequence number counted from `base`; -1 where one of the two is not known."""
    return (seq - base) & 0xFFFFFFFF if seq >= 0 and base >= 0 else -1
