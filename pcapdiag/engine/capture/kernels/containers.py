"""Walks the records of pcap files and writes one row per frame; holds what it shares with `pcapng`.

Knows the record headers byte by byte, and how to find the next record after damage. It must not know files, text or
link layers; the file header is Python's business.

Damage is recognized by position: the bytes after a record must look like another record. Where they do not, or where a
record itself looks odd, a chain of records that are beyond doubt decides. A chain right after the record: it stands. A
chain inside the bytes that it claims: the claim is wrong. No chain at all: it stands. So a wrong length costs the
damaged record only, and an odd but sound file is read as it is. Every decision rests on bytes at or after the record,
never on where a block of the file happened to end.
"""

from typing import Annotated

import numpy as np

from pcapdiag.base.codes import PacketDirection
from pcapdiag.base.columns import FRAMES
from pcapdiag.engine.compiler.arguments import ArrayOf, Bytes
from pcapdiag.engine.compiler.policy import entry_kernel, kernel

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

MAX_RECORD_BYTES = 16 << 20
"""[bytes] Longer records and blocks are taken for damage (Wireshark's bound on blocks; 64 times tcpdump's snaplen)."""

_MAX_SURE_BYTES = 262_144  # tcpdump's MAXIMUM_SNAPLEN: a longer frame is possible, but nothing to resume at
_MAX_SURE_STEP_S = 7 * 86_400  # a record to resume at lies within a week of its neighbours
_ANY_TIME = -2
_CHAIN = 3  # that many records in a row are beyond doubt
FOUND = 0
NOT_FOUND = 1
UNDECIDED = 2
INT32_MAX = 0x7FFFFFFF
_STEP_BACK_NS = 1_000_000_000

_PCAP_MAGICS = (0xA1B2C3D4, 0xD4C3B2A1, 0xA1B23C4D, 0x4D3CB2A1, 0xA1B2CD34, 0x34CDB2A1)

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


@kernel
def u16(buffer, position, big_endian):
    a = np.int64(buffer[position])
    b = np.int64(buffer[position + 1])
    if big_endian:
        return a << 8 | b
    return b << 8 | a


@kernel
def u32(buffer, position, big_endian):
    a = np.int64(buffer[position])
    b = np.int64(buffer[position + 1])
    c = np.int64(buffer[position + 2])
    d = np.int64(buffer[position + 3])
    if big_endian:
        return a << 24 | b << 16 | c << 8 | d
    return d << 24 | c << 16 | b << 8 | a


@kernel
def start_row(state, frames, ts_ns, record_offset, cap_len, wire_len, link_type, interface, direction):
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
    if wire_len > INT32_MAX:
        wire_len = INT32_MAX
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
def _is_usual_record(fraction, cap_len, wire_len, ticks_ns):
    """Tell whether a pcap record header is what a capture tool writes; its time is judged apart."""
    if wire_len == 0 or cap_len > wire_len or cap_len > _MAX_SURE_BYTES or wire_len > MAX_RECORD_BYTES:
        return False
    return fraction * ticks_ns < 1_000_000_000


@kernel
def _is_chain(buffer, position, stop, at_end, big_endian, header_bytes, ticks_ns, first_s, last_s):
    """Tell whether records beyond doubt follow one another from `position` on.

    With `last_s` _ANY_TIME their times do not matter: months may lie between the records of a sound file.

    Returns
    -------
    int
        FOUND, NOT_FOUND, or UNDECIDED when bytes beyond `stop` are needed.
    """
    n_sure = 0
    # In a file of which no record is known yet, four small numbers inside a packet look like a record of 1970.
    n_least = 2 if last_s != _ANY_TIME and last_s < 0 else 1
    while n_sure < _CHAIN:
        if position + header_bytes > stop:
            if not at_end:
                return UNDECIDED
            # The file ends with these records, the last of them perhaps cut short.
            if position == stop or n_sure == _CHAIN - 1:
                return FOUND if n_sure >= n_least else NOT_FOUND
            return NOT_FOUND
        cap_len = u32(buffer, position + 8, big_endian)
        # Rows of records without bytes look alike from many offsets, so they prove nothing.
        if cap_len == 0 or cap_len > _MAX_SURE_BYTES:
            return NOT_FOUND
        sec = u32(buffer, position, big_endian)
        if last_s >= 0 and not _is_near(sec, last_s) and (n_sure > 0 or not _is_near(sec, first_s)):
            return NOT_FOUND
        if last_s != _ANY_TIME:
            last_s = sec
        fraction = u32(buffer, position + 4, big_endian)
        wire_len = u32(buffer, position + 12, big_endian)
        if not _is_usual_record(fraction, cap_len, wire_len, ticks_ns):
            return NOT_FOUND
        n_sure += 1
        position += header_bytes + cap_len
    return FOUND


@kernel
def _find_chain(buffer, position, limit, stop, at_end, big_endian, header_bytes, ticks_ns, first_s, last_s):
    """Return (what, where): the first position below `limit` at which a chain of records begins.

    For UNDECIDED `where` is the candidate that needs more bytes; for NOT_FOUND it is `limit`.
    """
    while position < limit:
        verdict = _is_chain(buffer, position, stop, at_end, big_endian, header_bytes, ticks_ns, first_s, last_s)
        if verdict != NOT_FOUND:
            return verdict, position
        position += 1
    return NOT_FOUND, position


@entry_kernel
def scan_pcap(
    buffer: Bytes,
    stop: int,
    at_end: bool,
    eager: bool,
    state: Annotated[np.ndarray, ArrayOf(STATE)],
    frames: Annotated[np.ndarray, ArrayOf(FRAMES.dtype)],
):
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
            if what == UNDECIDED or (what == NOT_FOUND and not at_end):
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
        sec = u32(buffer, position, big_endian)
        fraction = u32(buffer, position + 4, big_endian)
        cap_len = u32(buffer, position + 8, big_endian)
        wire_len = u32(buffer, position + 12, big_endian)
        if not _is_record(sec, fraction, cap_len, wire_len):
            s["position"] = position
            s["skipped"] = 0
            return NO_RECORD
        end = position + header_bytes + cap_len
        if end > stop and not at_end:
            s["position"] = position
            return MORE
        is_usual = (
            end <= stop
            and _is_usual_record(fraction, cap_len, wire_len, ticks_ns)
            and (last_s < 0 or _is_near(sec, last_s) or _is_near(sec, first_s))
        )
        if is_usual:
            if end + header_bytes <= stop:
                is_usual = _is_near(u32(buffer, end, big_endian), sec) and _is_usual_record(
                    u32(buffer, end + 4, big_endian),
                    u32(buffer, end + 8, big_endian),
                    u32(buffer, end + 12, big_endian),
                    ticks_ns,
                )
            elif not at_end and not eager:
                s["position"] = position
                return MORE
        follows = NOT_FOUND
        if not is_usual and end <= stop:
            # However odd it looks, a record that others follow stands: clocks jump, and writers have habits.
            if end == stop and at_end and _is_usual_record(fraction, cap_len, wire_len, ticks_ns):
                follows = FOUND
            else:
                follows = _is_chain(buffer, end, stop, at_end, big_endian, header_bytes, ticks_ns, -1, _ANY_TIME)
            if follows == UNDECIDED:
                s["position"] = position
                return MORE
        if not is_usual and follows == NOT_FOUND:
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
            if what == UNDECIDED:
                s["position"] = position
                return MORE
            if what == FOUND:
                s["skipped"] = where - position
                s["position"] = where
                return RESUMED
            if end > stop:
                s["position"] = position
                return CUT
        start_row(
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
