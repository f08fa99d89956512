"""Names of lost HTTP/2 requests: their header blocks, read with those before them on their connections.

Knows tables; how a block is read is `engine.asides.heads`' affair. Of answered requests nothing is read.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.codes import Method, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.analysis.model import Loss
    from pcapdiag.base.tables import ByteSource, Table
    from pcapdiag.engine.asides.heads import RequestHead

Rows = np.ndarray[Any, Any]
_Key = tuple[int, int]

MOST_BLOCKS = 20_000
"""So many header blocks are read for all that was lost, in some tenths of a second; what is left keeps its number."""
MOST_LOSSES = 2_000


def with_heads(losses: Sequence[Loss], exchanges: Table, texts: ByteSource) -> tuple[Loss, ...]:
    """Return losses with method, target, host and identifier of HTTP/2 requests, as far as they can be read.

    Parameters
    ----------
    losses : sequence of Loss
        Of any protocol.
    exchanges : Table
        `columns.EXCHANGES`.
    texts : ByteSource
        What its texts, and the header blocks of HTTP/2, lie in.

    Returns
    -------
    tuple of Loss
        In the same order.
    """
    wanted = {(loss.connection.conn, loss.depth) for loss in losses if loss.stream > 0 and not loss.target}
    if not wanted:
        return tuple(losses)
    wanted = set(sorted(wanted)[:MOST_LOSSES])
    heads = dict(_read(wanted, exchanges, texts))
    return tuple(_named(loss, heads.get((loss.connection.conn, loss.depth))) for loss in losses)


def _named(loss: Loss, head: RequestHead | None) -> Loss:
    if head is None:
        return loss
    method = Method.__members__.get(head.method, Method.OTHER) if head.method else loss.method
    return replace(loss, method=method, target=head.target, host=head.host, request_id=head.request_id)


def _read(wanted: set[_Key], exchanges: Table, texts: ByteSource) -> Iterator[tuple[_Key, RequestHead]]:
    """Yield the heads of the wanted exchanges: alone where that is possible, else with all before them."""
    from pcapdiag.engine.asides.heads import (  # noqa: PLC0415 - loading hpack takes 16 ms, which HTTP/1 needs not
        HeadReader,
        read_alone,
    )

    chained: dict[int, list[int]] = defaultdict(list)
    for key, at in sorted(_blocks({conn: -1 for conn, _ in wanted}, wanted, exchanges).items()):
        head = read_alone(_block(texts, at))
        if head is not None:
            yield key, head
        else:
            chained[key[0]].append(key[1])
    n_left = MOST_BLOCKS
    last_of: dict[int, int] = {}
    for conn, depths in chained.items():
        if depths[-1] < n_left:
            last_of[conn] = depths[-1]
            n_left -= depths[-1] + 1
    offsets = _blocks(last_of, set(), exchanges) if last_of else {}
    for conn, last in last_of.items():
        reader = HeadReader()
        for depth in range(last + 1):
            at = offsets.get((conn, depth), -1)
            head = reader.read(_block(texts, at)) if at >= 0 else None
            if head is None:
                break
            if (conn, depth) in wanted:
                yield (conn, depth), head


def _blocks(last_of: dict[int, int], wanted: set[_Key], exchanges: Table) -> dict[_Key, int]:
    """Return where header blocks lie: those up to the last depth of each connection, and the wanted ones.

    Streams are opened in the order of their numbers, so the depth is the order of their blocks.
    """
    conns = np.array(sorted(last_of), dtype=np.int64)
    lasts = np.array([last_of[conn] for conn in conns.tolist()], dtype=np.int64)
    ids = np.array([conn << 32 | depth for conn, depth in wanted], dtype=np.int64)
    found: dict[_Key, int] = {}
    for chunk in exchanges.chunks():
        rows = chunk.rows[np.isin(chunk["conn"], conns)]
        conn, depth = rows["conn"].astype(np.int64), rows["depth"].astype(np.int64)
        is_asked = depth <= lasts[np.searchsorted(conns, conn)]
        is_asked |= np.isin(conn << 32 | depth, ids)
        # The head of a request that was upgraded is text.
        lengths = rows["target_len"] + rows["host_len"] + rows["request_id_len"]
        is_block = (rows["protocol"] == Protocol.HTTP2) & (rows["text_offset"] >= 0) & (lengths == 0)
        kept = is_asked & is_block
        keys = zip(conn[kept].tolist(), depth[kept].tolist(), strict=True)
        found.update(zip(keys, rows["text_offset"][kept].tolist(), strict=True))
    return found


def _block(texts: ByteSource, at: int) -> bytes:
    """Return a header block: two bytes of length, the lower one first, then the block."""
    length = int.from_bytes(texts.read(at, 2), "little")
    return texts.read(at + 2, length)
