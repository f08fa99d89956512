"""Which frames prove the findings: windows of connections, and what each key frame proves.

Knows tables and findings; no bytes of any frame. Frames here are 0-based over their capture, as in the tables.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from pcapdiag.base.codes import ClosingKind, Direction, Leg
from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import format_address
from pcapdiag.engine.asides.collect import AsideKind
from pcapdiag.engine.tcp.uid import connection_uid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pcapdiag.analysis.model import Analysis, IdleTimeout
    from pcapdiag.base.findings import Finding

    Rows = np.ndarray[Any, Any]

WHOLE_FRAMES: Final = 2_000
"""A connection of so many frames is kept whole; of a longer one what lies around its losses."""

EXCHANGES_BEFORE: Final = 2
"""Exchanges kept before a lost one, of a connection that is too long to be kept whole."""

SAMPLES: Final = 5
"""Connections per upstream that were closed while idle, on which nothing was lost: by each end so many."""

_AT_ONCE_NS: Final = 100_000_000
_TIGHT_NS: Final = 60_000_000
"""[ns] Two closings of one exact timer lie closer together."""

Endpoints = tuple[int, int, int, int, int, int]
"""Halves of the address and port, of originator and responder."""


class Comment(NamedTuple):
    """What a key frame proves; `closing_frame` is the frame that the text may refer to, -1 for none."""

    code: str
    depth: int
    label: str
    text: str
    is_request: bool
    closing_frame: int
    closing_kind: str


class Shown(NamedTuple):
    """A connection that was closed while idle; `shows_t`: by its upstream, at the idle timeout that was measured."""

    idle_ns: int
    is_by_upstream: bool
    shows_t: bool


@dataclass(slots=True)
class Kept:
    """What is kept of one connection: spans of frames, first and last; and its exchanges there, by depth."""

    row: Any
    spans: list[tuple[int, int]]
    exchanges: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Selection:
    """The frames that the evidence is made of.

    Attributes
    ----------
    connections : dict of int to Kept
        By number of the connection.
    comments : dict of (int, int) to list of Comment
        By capture and frame.
    frames : set of (int, int)
        Frames that are kept one by one, by capture and frame.
    codes : tuple of str
        Of the findings that are proved, in their order.
    lost : frozenset of int
        Of the connections, those on which a finding's request lies.
    samples : dict of (int, int) to Shown
        Of the others, those that were closed while idle, by capture and frame of the closing.
    """

    connections: dict[int, Kept]
    comments: dict[tuple[int, int], list[Comment]]
    frames: set[tuple[int, int]]
    codes: tuple[str, ...]
    lost: frozenset[int] = frozenset()
    samples: dict[tuple[int, int], Shown] = field(default_factory=dict)


def select_frames(
    analysis: Analysis,
    findings: Sequence[Finding],
    *,
    uids: Sequence[str] = (),
    frames: Mapping[tuple[int, int], tuple[Endpoints, Endpoints] | None] | None = None,
    n_samples: int = SAMPLES,
) -> Selection:
    """Choose what proves the findings.

    Parameters
    ----------
    analysis : Analysis
        All tables.
    findings : sequence of Finding
        What is to be proved.
    uids : sequence of str
        Further connections, whole.
    frames : mapping, optional
        Further frames, by capture and 0-based frame, and their endpoints in both orders; None if they are not TCP.
    n_samples : int
        How many connections of each upstream to keep that each end closed while idle.

    Returns
    -------
    Selection
        With a connection for each frame that belongs to one.

    Raises
    ------
    UsageError
        There is no connection of such a uid.
    """
    depths: dict[int, set[int]] = defaultdict(set)
    comments: dict[tuple[int, int], list[Comment]] = defaultdict(list)
    # ICMP errors belong to no connection: those that prove something are kept one by one.
    of_icmp = {(aside.capture_idx, aside.frame) for aside in analysis.asides if aside.kind is AsideKind.ICMP}
    capture_idx = analysis.connections["capture_idx"]
    for finding in findings:
        for occurrence in finding.occurrences:
            if occurrence.conn < 0:
                continue
            depths[occurrence.conn].add(occurrence.depth)
            for evidence in occurrence.evidence:
                comment = Comment(
                    code=finding.code,
                    depth=occurrence.depth,
                    label=evidence.label,
                    text=evidence.text,
                    is_request=evidence.frame == occurrence.request_frame,
                    closing_frame=occurrence.closing_frame,
                    closing_kind=occurrence.closing_kind,
                )
                known = comments[int(capture_idx[occurrence.conn]), evidence.frame]
                if comment not in known:
                    known.append(comment)
    for (capture, frame), endpoints in (frames or {}).items():
        conn, depth = _with_frame(analysis, capture, frame, endpoints or ())
        if conn >= 0:
            depths[conn].add(depth)
    whole = {conn for uid in uids for conn in _with_uid(analysis, uid)}
    lost = frozenset(o.conn for finding in findings for o in finding.occurrences if o.conn >= 0)
    shown = _samples(analysis, findings, set(depths) | whole, n_samples)
    samples = set(shown)
    wanted = sorted({*depths, *whole, *samples})
    rows = analysis.connections.take(np.array(wanted, dtype=np.int64)).rows
    connections = {int(row["conn"]): Kept(row, [(int(row["first_frame"]), int(row["last_frame"]))]) for row in rows}
    long = {conn for conn, kept in connections.items() if conn not in whole and _n_frames(kept.row) > WHOLE_FRAMES}
    _add_exchanges(analysis, connections, long, depths)
    for conn in long:
        kept = connections[conn]
        kept.spans = _windows(kept, depths.get(conn, set()), comments, int(capture_idx[conn]))
    single = {*(frames or ()), *(of_icmp & set(comments))}
    at = {
        (int(row["capture_idx"]), int(row["closing_frame"])): shown[conn]
        for conn, kept in connections.items()
        if conn in shown and (row := kept.row) is not None
    }
    codes = tuple(dict.fromkeys(f.code for f in findings))
    return Selection(connections, dict(comments), single, codes, lost, at)


def _n_frames(row: Any) -> int:
    return int(row["orig_frames"]) + int(row["resp_frames"])


def _with_uid(analysis: Analysis, uid: str) -> list[int]:
    _, _, started = uid.rpartition("@")
    rows = analysis.connections
    if started.isdecimal() and len(started) < 20:
        for row in rows.rows[rows["first_ts_ns"] == int(started)]:
            if uid_of(row) == uid:
                return [int(row["conn"])]
    msg = f"no connection {uid!r} in the capture: `pcapdiag show connections --format csv` lists them with their uid"
    raise UsageError(msg)


def _with_frame(analysis: Analysis, capture: int, frame: int, endpoints: Sequence[Endpoints]) -> tuple[int, int]:
    """Return the connection that a frame belongs to, and the exchange it is near to; -1 if it belongs to none."""
    rows = analysis.connections.rows
    spans = (rows["capture_idx"] == capture) & (rows["first_frame"] <= frame) & (rows["last_frame"] >= frame)
    for row in rows[spans]:
        if endpoints_of(row) in endpoints:
            conn, depth = int(row["conn"]), 0
            for chunk in analysis.exchanges.chunks():
                begun = chunk["depth"][(chunk["conn"] == conn) & (chunk["request_frame"] <= frame)]
                depth = max([depth, *begun.tolist()])
            return conn, depth
    return -1, -1


def endpoints_of(row: Any) -> Endpoints:
    """Return the endpoints of a row of `columns.CONNECTIONS`."""
    names = ("orig_hi", "orig_lo", "orig_port", "resp_hi", "resp_lo", "resp_port")
    a, b, c, d, e, f = (int(row[name]) for name in names)
    return a, b, c, d, e, f


def uid_of(row: Any) -> str:
    """Return the uid of a row of `columns.CONNECTIONS`."""
    endpoints = endpoints_of(row)
    return connection_uid(endpoints[:3], endpoints[3:], int(row["first_ts_ns"]))


def _samples(analysis: Analysis, findings: Sequence[Finding], others: set[int], n_samples: int) -> dict[int, Shown]:
    """Return connections to the same upstreams that were closed while idle: what the idle timeout was measured at."""
    subjects = {o.resp for f in findings for o in f.occurrences} | {f.subject for f in findings}
    upstreams = {str(u.endpoint): u for u in analysis.upstreams}
    rows = analysis.connections
    is_idle_close = (
        (analysis.legs == Leg.UPSTREAM)
        & (rows["closing_kind"] == ClosingKind.FIN)
        & (rows["closing_open_exchange"] == 0)
        & (rows["idle_at_close_ns"] >= _AT_ONCE_NS)
    )
    index = np.flatnonzero(is_idle_close)
    alike: dict[tuple[str, bool, bool], list[int]] = defaultdict(list)
    names = ("resp_hi", "resp_lo", "resp_port", "idle_at_close_ns", "first_closer")
    columns = (rows[name][index].tolist() for name in names)
    for conn, hi, lo, port, idle_ns, closer in zip(index.tolist(), *columns, strict=True):
        endpoint = f"[{a}]:{port}" if ":" in (a := format_address(hi, lo)) else f"{a}:{port}"
        if endpoint in subjects and endpoint in upstreams and conn not in others:
            is_by_upstream = closer == Direction.RESP
            timer = upstreams[endpoint].idle_timeout
            shows_t = is_by_upstream and timer is not None and _is_at(idle_ns, timer)
            alike[endpoint, is_by_upstream, shows_t].append(conn)
    chosen: dict[int, Shown] = {}
    for (_, is_by_upstream, shows_t), conns in alike.items():
        for conn in _evenly(conns, n_samples):
            chosen[conn] = Shown(int(rows["idle_at_close_ns"][conn]), is_by_upstream, shows_t)
    return chosen


def _is_at(idle_ns: int, timer: IdleTimeout) -> bool:
    """Tell whether a connection was closed when its upstream's timer was up."""
    reach = max(timer.value_ns // 50, _TIGHT_NS)
    return timer.value_ns - reach <= idle_ns <= timer.value_ns + max(timer.spread_ns, timer.late_ns) + reach


def _evenly(conns: list[int], most: int) -> list[int]:
    if len(conns) <= most:
        return conns
    return [conns[i * len(conns) // most] for i in range(most)]


def _add_exchanges(
    analysis: Analysis, connections: dict[int, Kept], long: set[int], depths: dict[int, set[int]]
) -> None:
    """Give each connection its exchanges: all of a short one, of a long one those around its losses."""
    is_wanted = np.zeros(len(analysis.connections), dtype=np.int8)
    is_wanted[list(connections)] = 1
    is_wanted[list(long)] = 2
    around = _around(connections, long, depths)
    for chunk in analysis.exchanges.chunks():
        kind = is_wanted[chunk["conn"]]
        keys = chunk["conn"].astype(np.int64) << 32 | chunk["depth"].astype(np.int64)
        for row in chunk.rows[(kind == 1) | ((kind == 2) & np.isin(keys, around))]:
            connections[int(row["conn"])].exchanges.append(row.copy())
    for kept in connections.values():
        kept.exchanges.sort(key=lambda row: int(row["depth"]))


def _around(connections: dict[int, Kept], long: set[int], depths: dict[int, set[int]]) -> NDArray[np.int64]:
    keys = set()
    for conn in long:
        n = int(connections[conn].row["n_exchanges"])
        for depth in {0, n - 1, *depths.get(conn, ())}:
            keys |= {conn << 32 | d for d in range(max(depth - EXCHANGES_BEFORE, 0), min(depth + 2, n))}
    return np.array(sorted(keys), dtype=np.int64)


def _windows(
    kept: Kept, depths: set[int], comments: dict[tuple[int, int], list[Comment]], capture_idx: int
) -> list[tuple[int, int]]:
    """Return the spans of a long connection: the last exchanges before each loss, its key frames, the end.

    The handshake stays behind: with a hole after it, neither a reader nor this program could tell a frame that was left
    out from one that was lost.
    """
    last = int(kept.row["last_frame"])
    starts = {int(row["depth"]): _first_frame(row) for row in kept.exchanges}
    spans = []
    for depth in sorted(depths | {int(kept.row["n_exchanges"]) - 1}):
        before = [starts[d] for d in range(max(depth - EXCHANGES_BEFORE, 0), depth + 1) if d in starts]
        start, end = min(before, default=int(kept.row["first_frame"])), starts.get(depth + 1, last)
        spans.append((start, end if end >= start else last))
    closing = int(kept.row["closing_frame"])
    if closing >= 0:
        spans.append((closing, last))
    low = min(start for start, _ in spans)
    spans += [(frame, frame) for capture, frame in comments if capture == capture_idx and low <= frame <= last]
    return _merged(spans)


def _first_frame(row: Any) -> int:
    return int(row["request_frame"]) if row["request_frame"] >= 0 else int(row["response_frame"])


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
