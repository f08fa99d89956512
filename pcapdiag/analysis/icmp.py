"""Which ICMP errors are about which lost request or failed attempt: by endpoints, sequence number and time.

Knows what an error quotes; what it means for a cause is the rules' affair. Who sent it plays no part: a packet filter
or a router answers for the upstream, and behind a NAT even the upstream answers under another address.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.analysis.flood import mixed
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.base.units import NS_PER_MS, NS_PER_S, format_address
from pcapdiag.engine.asides.icmp import read_icmp_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Loss
    from pcapdiag.engine.asides.collect import Aside
    from pcapdiag.engine.asides.icmp import IcmpError

MOST_TIED = 32
"""Errors kept of one loss: a kernel that repeats a segment gets one for each."""
_LATEST_NS = 120 * NS_PER_S
"""[ns] So long after the last segment of a connection an error may still be about it (a router that asks for a MAC)."""
_LATEST_BY_ADDRESS_NS = 5 * NS_PER_S
"""[ns] The same where only addresses are left of a quotation: a router gives up asking for a MAC after 3 s."""
_DISORDER_NS = NS_PER_MS
"""[ns] So much earlier than what it quotes an error may stand, where two interfaces are captured into one file."""

_Ends = tuple[int, str, int, str, int]


def tie_icmp(losses: Sequence[Loss], asides: Iterable[Aside]) -> tuple[Loss, ...]:
    """Return the losses, each with the ICMP errors that are about it.

    Parameters
    ----------
    losses : sequence of Loss
        Lost requests, failed attempts and cut responses.
    asides : iterable of Aside
        Frames whose bytes were kept.

    Returns
    -------
    tuple of Loss
        In the same order.
    """
    errors: dict[_Ends, list[IcmpError]] = defaultdict(list)
    if losses:
        for error in read_icmp_errors(asides):
            errors[_quoted_ends(error)].append(error)
    if not errors:
        return tuple(losses)
    return tuple(_with_errors(loss, errors) for loss in losses)


def quoted_ends(asides: Iterable[Aside]) -> NDArray[np.uint64]:
    """Return a hash of both ends (`flood.ends_of`) of each connection that an ICMP error may be about.

    Parameters
    ----------
    asides : iterable of Aside
        Frames whose bytes were kept.

    Returns
    -------
    ndarray of uint64, shape (n_hash,)
    """
    # What is quoted was sent by the one end or the other.
    known = [error for error in read_icmp_errors(asides) if error.src[2] >= 0 and error.dst[2] >= 0]
    ends = [end for error in known for end in ((*error.src, *error.dst), (*error.dst, *error.src))]
    return mixed(*np.array(ends, dtype=np.uint64).reshape(-1, 6).T)


def _with_errors(loss: Loss, errors: dict[_Ends, list[IcmpError]]) -> Loss:
    connection = loss.connection
    there, back = (connection.orig, connection.resp), (connection.resp, connection.orig)
    found = []
    for (src, dst), is_about in ((there, _is_about_sent), (back, _is_about_answer)):
        candidates = errors.get((connection.capture_idx, src.address, src.port, dst.address, dst.port), ())
        found += [error for error in candidates if _is_in_time(loss, error) and is_about(loss, error)]
    if loss.is_connect and not found:
        found = _cut_errors(loss, errors)
    if not found:
        return loss
    found.sort(key=lambda error: (error.ts_ns, error.frame))
    return replace(loss, icmp=tuple(found[:MOST_TIED]))


def _cut_errors(loss: Loss, errors: dict[_Ends, list[IcmpError]]) -> list[IcmpError]:
    """Return the errors that may be about the SYN of an attempt, by what the capture left of their quotation.

    Whose ports were seen is told from all others at its time; addresses alone stand for the whole host.
    """
    connection = loss.connection
    src, dst = connection.orig, connection.resp
    for src_port, dst_port in ((src.port, dst.port), (src.port, -1), (-1, -1)):
        candidates = errors.get((connection.capture_idx, src.address, src_port, dst.address, dst_port), ())
        late_ns = _LATEST_NS if src_port >= 0 else _LATEST_BY_ADDRESS_NS
        found = [error for error in candidates if error.is_cut and _is_in_time(loss, error, late_ns)]
        if found:
            return found
    return []


def _quoted_ends(error: IcmpError) -> _Ends:
    src, dst = error.src, error.dst
    return error.capture_idx, format_address(*src[:2]), src[2], format_address(*dst[:2]), dst[2]


def _is_in_time(loss: Loss, error: IcmpError, late_ns: int = _LATEST_NS) -> bool:
    return loss.request_ts_ns - _DISORDER_NS <= error.ts_ns <= loss.connection.last_ts_ns + late_ns


def _is_about_sent(loss: Loss, error: IcmpError) -> bool:
    """Whether an error quotes the SYN of an attempt, or a segment of the request."""
    if loss.is_connect:
        return not error.is_cut and error.seq == loss.connection.orig_isn
    if loss.request_seq < 0 or error.is_cut:
        return False
    beyond = sequence_difference(loss.request_end_seq, loss.request_seq)
    return 0 <= sequence_difference(error.seq, loss.request_seq) < max(beyond, 1)


def _is_about_answer(loss: Loss, error: IcmpError) -> bool:
    """Whether an error quotes what was sent in answer: nothing of it need have come through."""
    if loss.is_connect or error.is_cut:
        return False
    return loss.request_ack >= 0 and sequence_difference(error.seq, loss.request_ack) >= 0
