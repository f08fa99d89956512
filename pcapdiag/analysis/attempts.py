"""What the rest of a capture says of connection attempts that failed, or seemed to.

An attempt is judged when everything was seen: a SYN-ACK may follow a RST, a SYN may be stored after its connection, the
answers' direction may be missing. Knows tables; which cause an attempt has is the rules' affair.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.analysis.model import AttemptSign
from pcapdiag.base.codes import ConnState, Key
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.base.units import NS_PER_MS, NS_PER_S, format_endpoint, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Loss
    from pcapdiag.base.tables import Table

Rows = np.ndarray[Any, Any]

SCAN_NS = 10 * NS_PER_S
"""[ns] Within so long a scan tries more than `SCAN_ENDPOINTS` endpoints."""
SCAN_ENDPOINTS = 20
_SCAN_PORTS = 100
"""No proxy has so many upstreams at one machine that it tries them all within that time."""
RACED_NS = 250 * NS_PER_MS
"""[ns] So soon after a refusal happy eyeballs have another address open (RFC 8305 section 5)."""
_SHORTEST_GAP_NS = 200 * NS_PER_MS
"""[ns] A SYN that comes again sooner was captured twice, or is no kernel's: the least RTO of any is a fifth second."""
_KERNEL_WAITS_NS = NS_PER_S + NS_PER_S // 5
"""[ns] By then every kernel has repeated an unanswered SYN (RFC 6298 section 2), unless its owner gave up."""
_SAME_TUPLE_NS = 120 * NS_PER_S
"""[ns] How far a SYN and its SYN-ACK may lie apart in a file."""
_AROUND_NS = NS_PER_S
_RARELY = 10
_PRIMES = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD)


def judge_attempts(losses: Sequence[Loss], connections: Table, last_ts_ns: int) -> tuple[Loss, ...]:
    """Return the losses without the attempts that opened after all, the others with what is known of them.

    Parameters
    ----------
    losses : sequence of Loss
        Lost requests and failed attempts.
    connections : Table
        `columns.CONNECTIONS`; row i is connection i.
    last_ts_ns : int
        [ns] The capture's end.

    Returns
    -------
    tuple of Loss
        In the same order.
    """
    attempts = [loss for loss in losses if loss.is_connect]
    if not attempts:
        return tuple(losses)
    opened = _opened_after_all(attempts, connections)
    attempts = [loss for loss in attempts if loss.connection.conn not in opened]
    signs: dict[int, AttemptSign] = {loss.connection.conn: _repetition(loss) for loss in attempts}
    marked = (
        (AttemptSign.WITNESSED, _witnessed(attempts, connections)),
        (AttemptSign.RACED, _raced(attempts, connections)),
        (AttemptSign.SCAN, _scanned(attempts, connections, last_ts_ns)),
    )
    for sign, conns in marked:
        for conn in conns:
            signs[conn] |= sign
    return tuple(
        replace(loss, attempt=signs[loss.connection.conn]) if loss.is_connect else loss
        for loss in losses
        if not loss.is_connect or loss.connection.conn not in opened
    )


def is_still_open(loss: Loss, last_ts_ns: int) -> bool:
    """Tell whether a request or attempt was less than a second old, and in order, when the capture ended."""
    ends = (Key.RESP_FIN, Key.RESP_RST, Key.ORIG_FIN, Key.ORIG_RST, Key.RESP_RESET_STREAM, Key.ORIG_RESET_STREAM)
    return (
        last_ts_ns - loss.request_ts_ns < NS_PER_S
        and not loss.retransmissions
        and not loss.icmp
        and not any(key in loss.keys for key in ends)
    )


def _opened_after_all(attempts: Sequence[Loss], connections: Table) -> set[int]:
    """Return attempts whose SYN was accepted: the capture shows the SYN-ACK elsewhere, or that its sender had one."""
    rows = connections.rows
    opened = {
        loss.connection.conn
        for loss in attempts
        # Who acknowledges something had an answer, which is not in the capture.
        if rows["orig_max_ack"][loss.connection.conn] >= 0 and not _is_refusal_of_syn(loss)
    }
    conns = np.array([loss.connection.conn for loss in attempts], dtype=np.int64)
    hashes = _tuple_hashes(rows)
    accepted = np.flatnonzero((rows["syn_ack_frames"] > 0) & np.isin(hashes, hashes[conns]))
    by_hash: dict[int, list[int]] = defaultdict(list)
    for conn in accepted.tolist():
        by_hash[int(hashes[conn])].append(conn)
    for loss in attempts:
        conn = loss.connection.conn
        if any(_is_of(rows[other], rows[conn]) for other in by_hash.get(int(hashes[conn]), ())):
            opened.add(conn)
    return opened


def _is_refusal_of_syn(loss: Loss) -> bool:
    """Whether a RST has the form in which a closed port answers a SYN (RFC 9293 section 3.10.7.1)."""
    rst = loss.keys.get(Key.RESP_RST)
    return rst is not None and rst.seq == 0 and rst.ack == (loss.connection.orig_isn + 1) & 0xFFFFFFFF


def _tuple_hashes(rows: Rows) -> NDArray[np.uint64]:
    ports = rows["orig_port"].astype(np.uint64) << np.uint64(16) | rows["resp_port"].astype(np.uint64)
    parts = (rows["orig_hi"], rows["orig_lo"], rows["resp_hi"], rows["resp_lo"], ports)
    hashes = np.zeros(len(rows), dtype=np.uint64)
    for part, prime in zip(parts, _PRIMES, strict=True):
        hashes ^= (part + np.uint64(1)) * np.uint64(prime)
        hashes = hashes << np.uint64(7) | hashes >> np.uint64(57)
    return hashes


def _is_of(opened: Any, attempt: Any) -> bool:
    """Whether a connection whose SYN-ACK was seen is the one that the SYN of an attempt opened."""
    names = ("orig_hi", "orig_lo", "orig_port", "resp_hi", "resp_lo", "resp_port", "capture_idx")
    if any(opened[name] != attempt[name] for name in names):
        return False
    apart = max(int(opened["first_ts_ns"]) - int(attempt["last_ts_ns"]), 0)
    before = max(int(attempt["first_ts_ns"]) - int(opened["last_ts_ns"]), 0)
    if max(apart, before) > _SAME_TUPLE_NS:
        return False
    isn = int(attempt["orig_isn"])
    if opened["orig_isn"] >= 0:
        return int(opened["orig_isn"]) == isn
    # Without its SYN the acknowledgement tells: of the SYN, all bytes, and a FIN.
    acknowledged = sequence_difference(int(opened["resp_max_ack"]), isn)
    return opened["resp_max_ack"] >= 0 and 1 <= acknowledged <= int(opened["orig_bytes"]) + 2


def _repetition(loss: Loss) -> AttemptSign:
    """Tell how the SYN was repeated, if it was."""
    first, again, last = (loss.keys.get(key) for key in (Key.SYN, Key.RETRANSMISSION, Key.LAST_RETRANSMISSION))
    if loss.retransmissions < 1 or first is None or again is None:
        return AttemptSign(0)
    gap = again.ts_ns - first.ts_ns
    rest = last.ts_ns - again.ts_ns if last is not None else 0
    n_rest = loss.retransmissions - 1
    # A tenth is what timers of kernels and busy machines are late by.
    is_growing = n_rest < 1 or last is None or 10 * rest >= 9 * gap * n_rest
    return AttemptSign.REPEATED if gap >= _SHORTEST_GAP_NS and is_growing else AttemptSign.MADE_UP


def _witnessed(attempts: Iterable[Loss], connections: Table) -> Iterator[int]:
    """Yield attempts during which the capture holds packets that went to their originator."""
    rows = connections.rows
    by_orig: dict[str, list[Loss]] = defaultdict(list)
    for loss in attempts:
        by_orig[loss.connection.orig.address].append(loss)
    for address, losses in by_orig.items():
        hi, lo = (np.uint64(half) for half in parse_address(address))
        was_answered = (rows["orig_hi"] == hi) & (rows["orig_lo"] == lo) & (rows["resp_frames"] > 0)
        was_asked = (rows["resp_hi"] == hi) & (rows["resp_lo"] == lo) & (rows["orig_frames"] > 0)
        to_it = np.flatnonzero(was_answered | was_asked)
        order = to_it[np.argsort(rows["first_ts_ns"][to_it], kind="stable")]
        firsts = rows["first_ts_ns"][order]
        lasts = np.maximum.accumulate(rows["last_ts_ns"][order]) if len(order) else firsts
        for loss in losses:
            end = max(loss.connection.last_ts_ns, loss.request_ts_ns) + _AROUND_NS
            begun = int(np.searchsorted(firsts, end, side="right"))
            if begun and lasts[begun - 1] >= loss.request_ts_ns - _AROUND_NS:
                yield loss.connection.conn


def _raced(attempts: Iterable[Loss], connections: Table) -> Iterator[int]:
    """Yield attempts, refused or silent, beside which the same port was opened in the other address family at once."""
    silent_ns = RACED_NS // 2  # clients try the other family after 200 to 300 ms of silence (RFC 8305 section 8)
    refused = [
        (loss, end if (end := _refused_at_ns(loss)) >= 0 else loss.request_ts_ns + silent_ns)
        for loss in attempts
        # Who has another connection takes the attempt back: its kernel does not send that SYN again.
        if loss.retransmissions < 1 or _refused_at_ns(loss) >= 0
    ]
    ports = {loss.connection.resp.port for loss, _ in refused}
    if not ports:
        return
    rows = connections.rows
    is_v6 = ~((rows["resp_hi"] == 0) & (rows["resp_lo"] >> np.uint64(32) == 0xFFFF))
    index = np.flatnonzero((rows["syn_ack_frames"] > 0) & np.isin(rows["resp_port"], sorted(ports)))
    index = index[np.argsort(rows["first_ts_ns"][index], kind="stable")]
    taken: set[int] = set()
    for loss, end in refused:
        conn = loss.connection.conn
        others = index[(rows["resp_port"][index] == loss.connection.resp.port) & (is_v6[index] != is_v6[conn])]
        opened_ns = rows["first_ts_ns"][others]
        near = np.flatnonzero((opened_ns >= loss.request_ts_ns - RACED_NS) & (opened_ns <= end + RACED_NS))
        other = next((n for n in near.tolist() if int(others[n]) not in taken), -1)
        if other >= 0 and not _is_chance(opened_ns, abs(int(opened_ns[other]) - end)):
            # One opened connection stands for one attempt.
            taken.add(int(others[other]))
            yield conn


def _is_chance(opened_ns: NDArray[np.int64], apart_ns: int) -> bool:
    """Whether connections open so often that one within `apart_ns` of anything means nothing."""
    span = int(opened_ns[-1] - opened_ns[0])
    return len(opened_ns) > 2 and apart_ns * len(opened_ns) * _RARELY > span


def _refused_at_ns(loss: Loss) -> int:
    rst = loss.keys.get(Key.RESP_RST)
    if rst is not None:
        return rst.ts_ns
    return loss.icmp[0].ts_ns if loss.icmp else -1


def _scanned(attempts: Iterable[Loss], connections: Table, last_ts_ns: int) -> Iterator[int]:
    """Yield the attempts of scans: single SYNs of one source to many endpoints that carried nothing else.

    Silence tells a scan from a proxy whose peers are all down, for a kernel would have repeated the SYNs; so do many
    ports of one machine.
    """
    used = _used_endpoints(connections)
    by_source: dict[tuple[int, str], list[Loss]] = defaultdict(list)
    for loss in attempts:
        is_single = not loss.retransmissions and str(loss.connection.resp) not in used
        if is_single:
            by_source[loss.connection.capture_idx, loss.connection.orig.address].append(loss)
    for singles in by_source.values():
        singles.sort(key=lambda loss: loss.request_ts_ns)
        silent = [
            loss for loss in singles if _refused_at_ns(loss) < 0 and last_ts_ns - loss.request_ts_ns >= _KERNEL_WAITS_NS
        ]
        spans = list(_busy_spans(silent))
        by_target: dict[str, list[Loss]] = defaultdict(list)
        for loss in singles:
            by_target[loss.connection.resp.address].append(loss)
        # So many ports of one machine nobody tries but a scanner, whatever it answers.
        spans += [span for tried in by_target.values() for span in _busy_spans(tried, _SCAN_PORTS)]
        for loss in singles:
            if any(low - _AROUND_NS <= loss.request_ts_ns <= high + _AROUND_NS for low, high in spans):
                yield loss.connection.conn


def _used_endpoints(connections: Table) -> set[str]:
    rows = connections.rows
    is_used = (rows["orig_bytes"] > 0) & (rows["resp_bytes"] > 0) & (rows["conn_state"] != ConnState.S0)
    columns = (rows[name][is_used].tolist() for name in ("resp_hi", "resp_lo", "resp_port"))
    return {format_endpoint(*endpoint) for endpoint in set(zip(*columns, strict=True))}


def _busy_spans(silent: Sequence[Loss], most: int = SCAN_ENDPOINTS) -> Iterator[tuple[int, int]]:
    """Yield times within which more endpoints were tried than anybody but a scanner tries, merged where they touch."""
    window: Counter[str] = Counter()
    first = 0
    low = high = -1
    for loss in silent:
        window[str(loss.connection.resp)] += 1
        while loss.request_ts_ns - silent[first].request_ts_ns > SCAN_NS:
            gone = str(silent[first].connection.resp)
            window[gone] -= 1
            if not window[gone]:
                del window[gone]
            first += 1
        n_tries = window.total()
        # Who retries its peers is no scanner: two tries of each at most, as scanners repeat lost probes.
        if len(window) <= most or n_tries > 2 * len(window):
            continue
        begin = silent[first].request_ts_ns
        if low >= 0 and begin > high:
            yield low, high
            low = -1
        low = begin if low < 0 else low
        high = loss.request_ts_ns
    if low >= 0:
        yield low, high
