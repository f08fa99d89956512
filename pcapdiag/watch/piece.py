"""A piece of the recording without some of its connections: what is left of them there would mislead.

Knows frames and addresses; not why a connection is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pcapdiag.base.units import parse_endpoint
from pcapdiag.engine.capture.batch import Capture, CaptureFile, FrameBatch
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.watch.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Rows = np.ndarray[Any, Any]
_End = tuple[int, int, int]


def leave_out(captures: Sequence[str], connections: Mapping[tuple[str, str], int], folder: str) -> tuple[str, ...]:
    """Write a piece anew without connections; each file is deleted when it was read.

    Parameters
    ----------
    captures : sequence of str
        Files of the ring, oldest first.
    connections : mapping of (str, str) to int
        [ns] Both endpoints, and until when: a later connection of the same ports stays.
    folder : str
        A new folder for what is left.

    Returns
    -------
    tuple of str
        Its files, oldest first.
    """
    until: dict[tuple[_End, _End], int] = {}
    for (orig, resp), last_ts_ns in connections.items():
        ends = parse_endpoint(orig), parse_endpoint(resp)
        until |= {ends: last_ts_ns, ends[::-1]: last_ts_ns}
    ports = np.unique([port for ends in until for _, _, port in ends])
    ring = Ring(Path(folder), 1 << 62)
    for name in captures:
        for batch in read_batches(Capture([CaptureFile(name)])):
            kept = batch.frames[_is_kept(batch.frames, until, ports)]
            if len(kept):
                ring.write(FrameBatch(batch.buffer, kept, batch.bytes_read))
        Path(name).unlink()
    ring.close()
    return tuple(str(path) for path in sorted(Path(folder).iterdir()))


def _is_kept(frames: Rows, until: dict[tuple[_End, _End], int], ports: Rows) -> Rows:
    kept = np.ones(len(frames), dtype=np.bool_)
    maybe = np.flatnonzero(np.isin(frames["src_port"], ports) & np.isin(frames["dst_port"], ports))
    columns = ("src_hi", "src_lo", "src_port", "dst_hi", "dst_lo", "dst_port", "ts_ns")
    for i, row in zip(maybe.tolist(), frames[maybe][list(columns)].tolist(), strict=True):
        kept[i] = row[6] > until.get((row[:3], row[3:6]), -1)
    return kept
