"""Walks the blocks of pcapng files and writes one row per packet block.

Knows the blocks that hold packets byte by byte, and how to find the next block after damage: a block says its length
twice, so one that says it twice alike and is followed by another is beyond doubt. The blocks that describe (section
header, interface description, interface statistics) and the one that holds keys of TLS are rare and left to Python by
stopping in front of them; all others are passed over.
"""

from typing import Annotated

import numpy as np

from pcapdiag.base.codes import PacketDirection
from pcapdiag.base.columns import FRAMES
from pcapdiag.engine.capture.kernels.containers import (
    CUT,
    END,
    FOUND,
    FULL,
    INT32_MAX,
    MAX_RECORD_BYTES,
    MORE,
    NO_RECORD,
    NOT_FOUND,
    RESUMED,
    STATE,
    UNDECIDED,
    start_row,
    u16,
    u32,
)
from pcapdiag.engine.compiler.arguments import ArrayOf, Bytes
from pcapdiag.engine.compiler.policy import entry_kernel, kernel

BLOCK = 6
"""A scan stopped for a whole block that the caller reads."""

_MAX_SURE_BLOCK_BYTES = 1 << 20
_INT64_MAX = 0x7FFFFFFFFFFFFFFF

SHB = 0x0A0D0D0A
IDB = 1
_PACKET_BLOCK = 2
_SIMPLE_PACKET_BLOCK = 3
_ISB = 5
_EPB = 6
DSB = 10
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_BYTE_ORDER_MAGIC_SWAPPED = 0x4D3C2B1A
_OPTION_FLAGS = 2
_OPTION_DROP_COUNT = 4

TIME_MULTIPLY = 0
"""Nanoseconds are ticks times `time_factor`."""
TIME_DIVIDE = 1
"""Nanoseconds are ticks divided by `time_factor`; a factor of 0 stands for one too large for 64 bits."""
TIME_SHIFT = 2
"""Seconds are ticks shifted right by `time_factor`."""
TIME_UNKNOWN = 3
"""The interface's offset lies outside of the years that nanoseconds in 64 bits can count."""

INTERFACE = np.dtype(
    [
        ("time_factor", "u8"),
        ("ts_offset_ns", "i8"),
        ("snaplen", "i8"),  # 0: no limit
        ("link_type", "i4"),
        ("time_kind", "i4"),
    ],
    align=True,
)
"""One interface of a pcapng section."""


@kernel
def ticks_to_ns(high, low, kind, factor, offset_ns):
    """Return the nanoseconds since 1970 of a pcapng timestamp, rounded down.

    Parameters
    ----------
    high, low : int
        The two 32-bit halves of the timestamp.
    kind : int
        TIME_MULTIPLY, TIME_DIVIDE, TIME_SHIFT or TIME_UNKNOWN.
    factor : uint64
        What the kind says.
    offset_ns : int
        [ns] The interface's offset, within plus or minus 2**62.

    Returns
    -------
    int
        [ns] The time; -1 if it does not fit or lies before 1970.
    """
    ticks = np.uint64(high) << np.uint64(32) | np.uint64(low)
    if kind == TIME_MULTIPLY:
        if ticks > np.uint64(_INT64_MAX) // factor:
            return np.int64(-1)
        ns = np.int64(ticks * factor)
    elif kind == TIME_DIVIDE:
        ns = np.int64(ticks // factor) if factor > np.uint64(0) else np.int64(0)
    elif kind == TIME_SHIFT:
        shift = np.int64(factor)
        sec = np.uint64(0)
        rest = ticks
        if shift < 64:
            sec = ticks >> np.uint64(shift)
            rest = ticks - (sec << np.uint64(shift))
        if sec > np.uint64(_INT64_MAX // 1_000_000_000 - 1):
            return np.int64(-1)
        # rest * 10**9 >> shift, in two halves because the product has up to 94 bits.
        upper = (rest >> np.uint64(32)) * np.uint64(1_000_000_000)
        lower = (rest & np.uint64(0xFFFFFFFF)) * np.uint64(1_000_000_000)
        if shift >= 32:
            upper += lower >> np.uint64(32)
            part = upper >> np.uint64(shift - 32) if shift < 96 else np.uint64(0)
        else:
            part = lower >> np.uint64(shift)  # rest is below 2**shift, so `upper` is 0
        ns = np.int64(sec * np.uint64(1_000_000_000) + part)
    else:
        return np.int64(-1)
    if offset_ns > 0 and ns > _INT64_MAX - offset_ns:
        return np.int64(-1)
    ns += offset_ns
    return ns if ns >= 0 else np.int64(-1)


@kernel
def _block_bytes(buffer, position, stop, big_endian):
    """Return the padded length of the block at `position`, whose first 12 bytes are there; -1 if it is none."""
    block_type = u32(buffer, position, big_endian)
    if block_type == SHB:
        magic = u32(buffer, position + 8, False)
        if magic not in (_BYTE_ORDER_MAGIC, _BYTE_ORDER_MAGIC_SWAPPED):
            return -1
        big_endian = magic == _BYTE_ORDER_MAGIC_SWAPPED
    total = u32(buffer, position + 4, big_endian)
    if total < 12 or total > MAX_RECORD_BYTES:
        return -1
    # Writers that forget to count the padding exist; Wireshark rounds up as well.
    padded = total + 3 & ~3
    if position + padded <= stop:
        trailer = u32(buffer, position + padded - 4, big_endian)
        if trailer not in (total, padded):
            return -1
    if block_type == SHB:
        return padded if padded >= 28 else -1
    if block_type == IDB:
        return padded if padded >= 20 else -1
    if block_type in (_PACKET_BLOCK, _EPB):
        return padded if padded >= 32 else -1
    if block_type == _SIMPLE_PACKET_BLOCK:
        return padded if padded >= 16 else -1
    if block_type == _ISB:
        return padded if padded >= 24 else -1
    if block_type == DSB:
        return padded if padded >= 20 else -1
    return padded


@kernel
def _find_block(buffer, position, limit, stop, at_end, big_endian):
    """Return (what, where) as `_find_chain`: a known block, whole, followed by a block or by the end."""
    while position < limit:
        if position + 12 > stop:
            if at_end:
                return NOT_FOUND, limit
            return UNDECIDED, position
        block_type = u32(buffer, position, big_endian)
        if block_type == SHB or 1 <= block_type <= 6:
            n_bytes = _block_bytes(buffer, position, stop, big_endian)
            if 12 < n_bytes <= _MAX_SURE_BLOCK_BYTES:
                end = position + n_bytes
                if end + 12 <= stop:
                    # Only the header of the block after it counts: its end may not have been read yet.
                    if block_type == SHB or _block_bytes(buffer, end, end + 12, big_endian) > 0:
                        return FOUND, position
                elif not at_end:
                    return UNDECIDED, position
                elif end <= stop:
                    return FOUND, position
        position += 1
    return NOT_FOUND, position


@kernel
def _read_options(buffer, position, end, big_endian, state):
    """Return the PacketDirection that a packet block's options name; drop counts are added to the state."""
    direction = np.int64(PacketDirection.UNKNOWN)
    while position + 4 <= end:
        code = u16(buffer, position, big_endian)
        n_bytes = u16(buffer, position + 2, big_endian)
        position += 4
        if code == 0 or position + n_bytes > end:
            break
        if code == _OPTION_FLAGS and n_bytes == 4:
            way = u32(buffer, position, big_endian) & 3
            if way == 1:
                direction = np.int64(PacketDirection.INBOUND)
            elif way == 2:
                direction = np.int64(PacketDirection.OUTBOUND)
        elif code == _OPTION_DROP_COUNT and n_bytes == 8:
            # Counts beyond 32 bits are nonsense; the lower half is enough.
            state[0]["n_drops"] += u32(buffer, position + (4 if big_endian else 0), big_endian)
        position += n_bytes + 3 & ~3
    return direction


@kernel
def _read_packet_block(buffer, position, end, block_type, big_endian, state, interfaces, frames):
    """Write the row of one packet block; the block is whole and long enough for its fixed part."""
    s = state[0]
    frame = np.int64(s["frame"])
    interface = np.int64(0)
    ts_ns = np.int64(-1)
    if block_type == _SIMPLE_PACKET_BLOCK:
        data = position + 12
        wire_len = u32(buffer, position + 8, big_endian)
        cap_len = wire_len
        if cap_len > end - 4 - data:
            cap_len = end - 4 - data  # the block holds less than the packet: that is how this block says it
        if s["n_interfaces"] > 0:
            snaplen = np.int64(interfaces[0]["snaplen"])
            if 0 < snaplen < cap_len:
                cap_len = snaplen
    else:
        data = position + 28
        if block_type == _EPB:
            interface = u32(buffer, position + 8, big_endian)
        else:
            interface = u16(buffer, position + 8, big_endian)
            drops = u16(buffer, position + 10, big_endian)
            if drops != 0xFFFF:
                s["n_drops"] += drops
        cap_len = u32(buffer, position + 20, big_endian)
        wire_len = u32(buffer, position + 24, big_endian)
        if cap_len > end - 4 - data:
            cap_len = end - 4 - data
            if s["n_clipped"] == 0:
                s["clipped_frame"] = frame
            s["n_clipped"] += 1
    direction = np.int64(PacketDirection.UNKNOWN)
    if block_type != _SIMPLE_PACKET_BLOCK:
        direction = _read_options(buffer, data + (cap_len + 3 & ~3), end - 4, big_endian, state)

    link_type = np.int64(-1)
    if interface < s["n_interfaces"]:
        described = interfaces[interface]
        link_type = np.int64(described["link_type"])
        kind = np.int64(described["time_kind"])
        factor = described["time_factor"]
        offset_ns = np.int64(described["ts_offset_ns"])
    else:
        if s["n_no_interface"] == 0:
            s["no_interface_frame"] = frame
        s["n_no_interface"] += 1
        kind = np.int64(TIME_MULTIPLY)
        factor = np.uint64(1000)
        offset_ns = np.int64(0)
    if block_type == _SIMPLE_PACKET_BLOCK:
        if s["n_no_time"] == 0:
            s["no_time_frame"] = frame
        s["n_no_time"] += 1
    else:
        high = u32(buffer, position + 12, big_endian)
        low = u32(buffer, position + 16, big_endian)
        ts_ns = ticks_to_ns(high, low, kind, factor, offset_ns)
        if ts_ns < 0:
            if s["n_bad_time"] == 0:
                s["bad_time_frame"] = frame
            s["n_bad_time"] += 1
    if interface > INT32_MAX:
        interface = np.int64(INT32_MAX)
    start_row(state, frames, ts_ns, data, cap_len, wire_len, link_type, interface, direction)


@entry_kernel
def scan_pcapng(
    buffer: Bytes,
    stop: int,
    at_end: bool,
    state: Annotated[np.ndarray, ArrayOf(STATE)],
    interfaces: Annotated[np.ndarray, ArrayOf(INTERFACE)],
    frames: Annotated[np.ndarray, ArrayOf(FRAMES.dtype)],
):
    """Write a row for every whole packet block from `state.position` on; pass over blocks of other types.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        [bytes] A piece of the file.
    stop : int
        [bytes] End of the valid bytes.
    at_end : bool
        Whether the file ends at `stop`.
    state : ndarray of STATE, shape (1,)
        Read and updated.
    interfaces : ndarray of INTERFACE, shape (n_interface,)
        The first `state.n_interfaces` are those of the present section.
    frames : ndarray of columns.FRAMES.dtype, shape (n_row,)
        As for `scan_pcap`.

    Returns
    -------
    int
        FULL, MORE, END, CUT, NO_RECORD, RESUMED or BLOCK.
    """
    s = state[0]
    big_endian = s["big_endian"] != 0
    position = np.int64(s["position"])
    if s["searching"]:
        what, where = _find_block(buffer, position, stop, stop, at_end, big_endian)
        s["skipped"] += where - position
        s["position"] = where
        if what == UNDECIDED or (what == NOT_FOUND and not at_end):
            return MORE
        s["searching"] = 0
        return RESUMED
    while True:
        s["position"] = position
        if s["n_rows"] >= len(frames):
            return FULL
        if position + 12 > stop:
            if not at_end:
                return MORE
            return END if position == stop else CUT
        n_bytes = _block_bytes(buffer, position, stop, big_endian)
        if n_bytes < 0:
            s["skipped"] = 0
            return NO_RECORD
        end = position + n_bytes
        if end > stop:
            if not at_end:
                return MORE
            what, where = _find_block(buffer, position + 1, stop, stop, at_end, big_endian)
            if what == FOUND:
                s["skipped"] = where - position
                s["position"] = where
                return RESUMED
            return CUT
        block_type = u32(buffer, position, big_endian)
        if block_type in (SHB, IDB, _ISB, DSB):
            return BLOCK
        if block_type in (_EPB, _SIMPLE_PACKET_BLOCK, _PACKET_BLOCK):
            _read_packet_block(buffer, position, end, block_type, big_endian, state, interfaces, frames)
        position = end
