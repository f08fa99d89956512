"""Walks the records of pcap and pcapng files and writes one row per frame.

Knows the two containers byte by byte, and how to find the next record after damage. It must not know files, text or
link layers: what is rare (headers, interface descriptions, statistics) it leaves to Python by stopping in front of it.

Damage is recognized by position: the bytes after a record must look like another record. Where they do not, or where a
record itself looks odd, the bytes that it claims are searched for a chain of records that are beyond doubt. A chain
inside the claimed bytes proves the claim wrong; no chain, and the record stands. So a wrong length costs the damaged
record only, and an odd but sound file is read as it is. Every decision rests on bytes at or after the record, never on
where a block of the file happened to end.
"""

import numpy as np

from pcapdiag.codes import PacketDirection
from pcapdiag.kernels._kernel import kernel

# What a scan stopped for.
FULL = 0
"""The row array is full."""
MORE = 1
"""The record at `position` needs bytes that are not in the buffer yet."""
END = 2
"""Every byte of the file is accounted for."""
CUT = 3
"""The file ends inside the record at `position`."""
NO_RECORD = 4
"""What stands at `position` is no record; the caller may know better, else sets `searching`."""
RESUMED = 5
"""After damage, a record was found at `position`; `skipped` bytes before it were passed over."""
BLOCK = 6
"""A whole pcapng block that the caller reads: section header, interface description or interface statistics."""

MAX_RECORD_BYTES = 16 << 20
"""[bytes] Longer records and blocks are taken for damage (Wireshark's bound on blocks; 64 times tcpdump's snaplen)."""

_MAX_SURE_BYTES = 262_144  # tcpdump's MAXIMUM_SNAPLEN: a longer frame is possible, but nothing to resume at
_MAX_SURE_BLOCK_BYTES = 1 << 20
_MAX_SURE_STEP_S = 7 * 86_400  # a record to resume at lies within a week of its neighbours
_CHAIN = 3  # that many records in a row are beyond doubt
_FOUND = 0
_NOT_FOUND = 1
_UNDECIDED = 2
_INT32_MAX = 0x7FFFFFFF
_INT64_MAX = 0x7FFFFFFFFFFFFFFF
_STEP_BACK_NS = 1_000_000_000

_PCAP_MAGICS = (0xA1B2C3D4, 0xD4C3B2A1, 0xA1B23C4D, 0x4D3CB2A1, 0xA1B2CD34, 0x34CDB2A1)

_SHB = 0x0A0D0D0A
_IDB = 1
_PACKET_BLOCK = 2
_SIMPLE_PACKET_BLOCK = 3
_ISB = 5
_EPB = 6
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

STATE = np.dtype(
    [
        ("position", "i8"),  # next byte of the buffer to look at
        ("n_rows", "i8"),  # rows written to the present row array
        ("frame", "i8"),  # index of the next frame
        ("first_ts_ns", "i8"),  # of all frames so far; -1: none
        ("last_ts_ns", "i8"),  # of the frame before; -1: none
        ("skipped", "i8"),  # bytes passed over by the search that runs or has just ended
        ("ticks_ns", "i8"),  # pcap: nanoseconds per tick, 1000 or 1
        ("header_bytes", "i8"),  # pcap: length of a record header
        ("link_type", "i8"),  # pcap
        ("n_interfaces", "i8"),  # pcapng: interfaces of the section so far
        ("n_steps_back", "i8"),  # frames more than a second before their predecessor
        ("step_back_frame", "i8"),  # the first of them
        ("step_back_ns", "i8"),  # the widest step
        ("n_no_time", "i8"),  # simple packet blocks
        ("no_time_frame", "i8"),
        ("n_bad_time", "i8"),  # times that nanoseconds in 64 bits cannot hold
        ("bad_time_frame", "i8"),
        ("n_clipped", "i8"),  # captured lengths larger than their block
        ("clipped_frame", "i8"),
        ("n_no_interface", "i8"),  # frames of interfaces that no block describes
        ("no_interface_frame", "i8"),
        ("n_drops", "i8"),  # drops that packet blocks report
        ("big_endian", "i1"),
        ("searching", "i1"),  # 1: `position` is inside damage
    ],
    align=True,
)
"""What a scan must remember between calls, one row."""

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
def _u16(buffer, position, big_endian):
    a = np.int64(buffer[position])
    b = np.int64(buffer[position + 1])
    if big_endian:
        return a << 8 | b
    return b << 8 | a


@kernel
def _u32(buffer, position, big_endian):
    a = np.int64(buffer[position])
    b = np.int64(buffer[position + 1])
    c = np.int64(buffer[position + 2])
    d = np.int64(buffer[position + 3])
    if big_endian:
        return a << 24 | b << 16 | c << 8 | d
    return d << 24 | c << 16 | b << 8 | a


@kernel
def _start_row(state, frames, ts_ns, record_offset, cap_len, wire_len, link_type, interface, direction):
    """Write the next row and keep count of the clock's steps back."""
    s = state[0]
    frame = np.int64(s["frame"])
    if ts_ns >= 0:
        last_ts_ns = np.int64(s["last_ts_ns"])
        if last_ts_ns - ts_ns > _STEP_BACK_NS:
            if s["n_steps_back"] == 0:
                s["step_back_frame"] = frame
            s["n_steps_back"] += 1
            if last_ts_ns - ts_ns > s["step_back_ns"]:
                s["step_back_ns"] = last_ts_ns - ts_ns
        if s["first_ts_ns"] < 0:
            s["first_ts_ns"] = ts_ns
        s["last_ts_ns"] = ts_ns
    if wire_len > _INT32_MAX:
        wire_len = _INT32_MAX
    row = frames[s["n_rows"]]
    row["frame"] = frame
    row["ts_ns"] = ts_ns
    row["record_offset"] = record_offset
    row["cap_len"] = cap_len
    row["wire_len"] = wire_len
    row["link_type"] = link_type
    row["interface"] = interface
    row["packet_direction"] = direction
    s["n_rows"] += 1
    s["frame"] = frame + 1


@kernel
def _is_record(sec, fraction, cap_len, wire_len):
    """Tell whether a pcap record header may be one at all."""
    if cap_len > MAX_RECORD_BYTES:
        return False
    if cap_len == 0 and wire_len == 0:
        # Zeros are a hole that a crash or a full disk left; a magic number is the next file of a careless `cat`.
        if sec == 0 and fraction == 0:
            return False
        for magic in _PCAP_MAGICS:
            if sec == magic:
                return False
    return True


@kernel
def _is_near(sec, other_s):
    return -_MAX_SURE_STEP_S <= sec - other_s <= _MAX_SURE_STEP_S


@kernel
def _is_sure_record(fraction, cap_len, wire_len, ticks_ns):
    """Tell whether a pcap record header is what a capture tool writes; its time is judged apart."""
    if wire_len == 0 or cap_len > wire_len or cap_len > _MAX_SURE_BYTES or wire_len > MAX_RECORD_BYTES:
        return False
    return fraction * ticks_ns < 1_000_000_000


@kernel
def _is_chain(buffer, position, stop, at_end, big_endian, header_bytes, ticks_ns, first_s, last_s):
    """Tell whether records beyond doubt follow one another from `position` on.

    Returns
    -------
    int
        _FOUND, _NOT_FOUND, or _UNDECIDED when bytes beyond `stop` are needed.
    """
    n_sure = 0
    while n_sure < _CHAIN:
        if position + header_bytes > stop:
            if not at_end:
                return _UNDECIDED
            # The file ends with these records, the last of them perhaps cut short.
            if position == stop or n_sure == _CHAIN - 1:
                return _FOUND if n_sure > 0 else _NOT_FOUND
            return _NOT_FOUND
        cap_len = _u32(buffer, position + 8, big_endian)
        if cap_len > _MAX_SURE_BYTES:
            return _NOT_FOUND
        sec = _u32(buffer, position, big_endian)
        if n_sure == 0:
            if last_s >= 0 and not _is_near(sec, last_s) and not _is_near(sec, first_s):
                return _NOT_FOUND
        elif not _is_near(sec, last_s):
            return _NOT_FOUND
        fraction = _u32(buffer, position + 4, big_endian)
        wire_len = _u32(buffer, position + 12, big_endian)
        if not _is_sure_record(fraction, cap_len, wire_len, ticks_ns):
            return _NOT_FOUND
        last_s = sec
        n_sure += 1
        position += header_bytes + cap_len
    return _FOUND


@kernel
def _find_chain(buffer, position, limit, stop, at_end, big_endian, header_bytes, ticks_ns, first_s, last_s):
    """Return (what, where): the first position below `limit` at which a chain of records begins.

    For _UNDECIDED `where` is the candidate that needs more bytes; for _NOT_FOUND it is `limit`.
    """
    while position < limit:
        verdict = _is_chain(buffer, position, stop, at_end, big_endian, header_bytes, ticks_ns, first_s, last_s)
        if verdict != _NOT_FOUND:
            return verdict, position
        position += 1
    return _NOT_FOUND, position


@kernel
def scan_pcap(buffer, stop, at_end, eager, state, frames):
    """Write a row for every whole record from `state.position` on.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        [bytes] A piece of the file, records only (the file header is the caller's).
    stop : int
        [bytes] End of the valid bytes.
    at_end : bool
        Whether the file ends at `stop`.
    eager : bool
        Hand out a record before the header after it has arrived (a live pipe), at the price of less certainty.
    state : ndarray of STATE, shape (1,)
        Read and updated.
    frames : ndarray of columns.FRAMES.dtype, shape (n_row,)
        Rows from `state.n_rows` on are filled: frame, ts_ns, record_offset, cap_len, wire_len, link_type, interface,
        packet_direction.

    Returns
    -------
    int
        FULL, MORE, END, CUT, NO_RECORD or RESUMED.
    """
    s = state[0]
    big_endian = s["big_endian"] != 0
    header_bytes = np.int64(s["header_bytes"])
    ticks_ns = np.int64(s["ticks_ns"])
    position = np.int64(s["position"])
    while True:
        first_s = np.int64(-1)
        last_s = np.int64(-1)
        if s["last_ts_ns"] >= 0:
            first_s = s["first_ts_ns"] // 1_000_000_000
            last_s = s["last_ts_ns"] // 1_000_000_000
        if s["searching"]:
            what, where = _find_chain(
                buffer, position, stop, stop, at_end, big_endian, header_bytes, ticks_ns, first_s, last_s
            )
            s["skipped"] += where - position
            s["position"] = where
            if what == _UNDECIDED or (what == _NOT_FOUND and not at_end):
                return MORE
            s["searching"] = 0
            return RESUMED
        if s["n_rows"] >= len(frames):
            s["position"] = position
            return FULL
        if position + header_bytes > stop:
            s["position"] = position
            if not at_end:
                return MORE
            return END if position == stop else CUT
        sec = _u32(buffer, position, big_endian)
        fraction = _u32(buffer, position + 4, big_endian)
        cap_len = _u32(buffer, position + 8, big_endian)
        wire_len = _u32(buffer, position + 12, big_endian)
        if not _is_record(sec, fraction, cap_len, wire_len):
            s["position"] = position
            s["skipped"] = 0
            return NO_RECORD
        end = position + header_bytes + cap_len
        if end > stop and not at_end:
            s["position"] = position
            return MORE
        is_sure = (
            end <= stop
            and _is_sure_record(fraction, cap_len, wire_len, ticks_ns)
            and (last_s < 0 or _is_near(sec, last_s) or _is_near(sec, first_s))
        )
        if is_sure:
            if end + header_bytes <= stop:
                is_sure = _is_record(
                    _u32(buffer, end, big_endian),
                    _u32(buffer, end + 4, big_endian),
                    _u32(buffer, end + 8, big_endian),
                    _u32(buffer, end + 12, big_endian),
                )
            elif not at_end and not eager:
                s["position"] = position
                return MORE
        if not is_sure:
            what, where = _find_chain(
                buffer,
                position + 1,
                min(end, stop),
                stop,
                at_end,
                big_endian,
                header_bytes,
                ticks_ns,
                first_s,
                last_s,
            )
            if what == _UNDECIDED:
                s["position"] = position
                return MORE
            if what == _FOUND:
                s["skipped"] = where - position
                s["position"] = where
                return RESUMED
            if end > stop:
                s["position"] = position
                return CUT
        _start_row(
            state,
            frames,
            sec * 1_000_000_000 + fraction * ticks_ns,
            position + header_bytes,
            cap_len,
            wire_len,
            s["link_type"],
            0,
            PacketDirection.UNKNOWN,
        )
        position = end


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
    block_type = _u32(buffer, position, big_endian)
    if block_type == _SHB:
        magic = _u32(buffer, position + 8, False)
        if magic not in (_BYTE_ORDER_MAGIC, _BYTE_ORDER_MAGIC_SWAPPED):
            return -1
        big_endian = magic == _BYTE_ORDER_MAGIC_SWAPPED
    total = _u32(buffer, position + 4, big_endian)
    if total < 12 or total > MAX_RECORD_BYTES:
        return -1
    # Writers that forget to count the padding exist; Wireshark rounds up as well.
    padded = total + 3 & ~3
    if position + padded <= stop:
        trailer = _u32(buffer, position + padded - 4, big_endian)
        if trailer not in (total, padded):
            return -1
    if block_type == _SHB:
        return padded if padded >= 28 else -1
    if block_type == _IDB:
        return padded if padded >= 20 else -1
    if block_type in (_PACKET_BLOCK, _EPB):
        return padded if padded >= 32 else -1
    if block_type == _SIMPLE_PACKET_BLOCK:
        return padded if padded >= 16 else -1
    if block_type == _ISB:
        return padded if padded >= 24 else -1
    return padded


@kernel
def _find_block(buffer, position, limit, stop, at_end, big_endian):
    """Return (what, where) as `_find_chain`: a known block, whole, followed by a block or by the end."""
    while position < limit:
        if position + 12 > stop:
            if at_end:
                return _NOT_FOUND, limit
            return _UNDECIDED, position
        block_type = _u32(buffer, position, big_endian)
        if block_type == _SHB or 1 <= block_type <= 6:
            n_bytes = _block_bytes(buffer, position, stop, big_endian)
            if 12 < n_bytes <= _MAX_SURE_BLOCK_BYTES:
                end = position + n_bytes
                if end + 12 <= stop:
                    if block_type == _SHB or _block_bytes(buffer, end, stop, big_endian) > 0:
                        return _FOUND, position
                elif not at_end:
                    return _UNDECIDED, position
                elif end <= stop:
                    return _FOUND, position
        position += 1
    return _NOT_FOUND, position


@kernel
def _read_options(buffer, position, end, big_endian, state):
    """Return the PacketDirection that a packet block's options name; drop counts are added to the state."""
    direction = np.int64(PacketDirection.UNKNOWN)
    while position + 4 <= end:
        code = _u16(buffer, position, big_endian)
        n_bytes = _u16(buffer, position + 2, big_endian)
        position += 4
        if code == 0 or position + n_bytes > end:
            break
        if code == _OPTION_FLAGS and n_bytes == 4:
            way = _u32(buffer, position, big_endian) & 3
            if way == 1:
                direction = np.int64(PacketDirection.INBOUND)
            elif way == 2:
                direction = np.int64(PacketDirection.OUTBOUND)
        elif code == _OPTION_DROP_COUNT and n_bytes == 8:
            # Counts beyond 32 bits are nonsense; the lower half is enough.
            state[0]["n_drops"] += _u32(buffer, position + (4 if big_endian else 0), big_endian)
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
        wire_len = _u32(buffer, position + 8, big_endian)
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
            interface = _u32(buffer, position + 8, big_endian)
        else:
            interface = _u16(buffer, position + 8, big_endian)
            drops = _u16(buffer, position + 10, big_endian)
            if drops != 0xFFFF:
                s["n_drops"] += drops
        cap_len = _u32(buffer, position + 20, big_endian)
        wire_len = _u32(buffer, position + 24, big_endian)
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
        high = _u32(buffer, position + 12, big_endian)
        low = _u32(buffer, position + 16, big_endian)
        ts_ns = ticks_to_ns(high, low, kind, factor, offset_ns)
        if ts_ns < 0:
            if s["n_bad_time"] == 0:
                s["bad_time_frame"] = frame
            s["n_bad_time"] += 1
    if interface > _INT32_MAX:
        interface = np.int64(_INT32_MAX)
    _start_row(state, frames, ts_ns, data, cap_len, wire_len, link_type, interface, direction)


@kernel
def scan_pcapng(buffer, stop, at_end, state, interfaces, frames):
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
        if what == _UNDECIDED or (what == _NOT_FOUND and not at_end):
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
            if what == _FOUND:
                s["skipped"] = where - position
                s["position"] = where
                return RESUMED
            return CUT
        block_type = _u32(buffer, position, big_endian)
        if block_type in (_SHB, _IDB, _ISB):
            return BLOCK
        if block_type in (_EPB, _SIMPLE_PACKET_BLOCK, _PACKET_BLOCK):
            _read_packet_block(buffer, position, end, block_type, big_endian, state, interfaces, frames)
        position = end
