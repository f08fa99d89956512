"""Plays a capture and the proxy's log as if they came into being now, faster by a factor."""

import struct
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

_LATE_S = 0.05
_PIECE = 64


def read_records(path):
    """Return the header of a little-endian pcap and its records as (time in s, bytes)."""
    data = Path(path).read_bytes()
    magic = struct.unpack_from("<I", data)[0]
    unit = {0xA1B2C3D4: 1e-6, 0xA1B23C4D: 1e-9}[magic]
    records, at = [], 24
    while at < len(data):
        seconds, fraction, n_bytes = struct.unpack_from("<3I", data, at)
        records.append((seconds + fraction * unit, data[at : at + 16 + n_bytes]))
        at += 16 + n_bytes
    return data[:24], records


def read_log(path):
    """Return the lines of an error log in UTC as (time in s, bytes)."""
    lines, now = [], 0.0
    for line in Path(path).read_bytes().splitlines(keepends=True):
        with suppress(ValueError):  # a line that continues the one before
            now = datetime.strptime(line[:19].decode(), "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
        lines.append((now + 0.5, line))
    return lines


def play(speed, *tracks):
    """Call `write(bytes)` of every track (records, write) when each record's time comes; return when all are done."""
    events = sorted(
        ((ts, number, data) for number, (records, _) in enumerate(tracks) for ts, data in records),
        key=lambda event: event[0],
    )
    first = next((ts for ts, number, _ in events if number == 0), 0.0)
    begun = time.monotonic()
    pending = []
    for ts, number, data in events:
        ahead_s = (ts - first) / speed - (time.monotonic() - begun)
        if ahead_s > _LATE_S or len(pending) >= _PIECE:
            _write(tracks, pending)
            pending = []
        if ahead_s > 0:
            time.sleep(ahead_s)
        pending.append((number, data))
    _write(tracks, pending)


def _write(tracks, pending):
    for number, data in pending:
        tracks[number][1](data)
