r"""Captures written as a script: packetdrill's notation, reduced to what a capture can show.

One line is one segment::

    +0      >  S
    +0.08   <  S.
    +0.08   >  .
    +0      >  P.  1:19(18) ack 1  "GET / HTTP/1.1\r\n\r\n"
    +4      <  F.  1:1(0) ack 19  ttl 63

- ``+seconds`` since the line before, exact to the nanosecond;
- ``>`` from the originator, ``<`` from the responder; ``@1 >`` is connection 1 (its originator port is one higher);
- flags: ``S F R P . U E C`` (``.`` is ACK), ``-`` for none;
- ``seq:end(len)`` relative to the sender's initial sequence number (0 is the SYN, 1 the first byte); without it the
  segment continues where its sender is;
- ``ack n`` relative to the other side's; without it and with ``.`` among the flags, all that was sent to it so far;
- the payload in double quotes with Python's escapes, or ``len`` filler bytes that depend only on their position;
- ``win n``, ``ttl n``, ``id n``; ``lost``: sent, so later lines count on it, but not in the capture.

Addresses, ports, initial sequence numbers, start time, container, byte order and link type are parameters of
`write_capture`, so the same script gives the same connections in every form.
"""

import ast
import ipaddress
import re
import struct
from dataclasses import dataclass, replace

FLAGS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, ".": 0x10, "U": 0x20, "E": 0x40, "C": 0x80, "-": 0}
ORIG, RESP = 0, 1

_LINE = re.compile(
    r"""^\+(?P<seconds>\d+)(?:\.(?P<fraction>\d{1,9}))?\s+
    (?:@(?P<conn>\d+)\s*)?(?P<dir>[<>])\s+
    (?P<flags>[FSRP.UEC]+|-)
    (?:\s+(?P<seq>\d+):(?P<end>\d+)\((?P<len>\d+)\))?
    (?:\s+ack\s+(?P<ack>\d+))?
    (?:\s+(?P<payload>"(?:[^"\\]|\\.)*"))?
    (?P<rest>(?:\s+(?:win|ttl|id)\s+\d+|\s+lost)*)\s*$""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment; `seq` and `ack` are relative to the initial sequence numbers, `ack` is -1 without ACK."""

    ts_ns: int
    conn: int
    dir: int
    flags: int
    seq: int
    ack: int
    payload: bytes = b""
    window: int = 64240
    ttl: int = 64
    ip_id: int = 0
    lost: bool = False

    @property
    def end(self):
        """Relative sequence number after the segment, SYN and FIN counted."""
        return self.seq + len(self.payload) + bool(self.flags & 0x02) + bool(self.flags & 0x01)


def filler(seq, length):
    """Return payload that depends only on its place in the stream, so that a retransmission repeats it."""
    return bytes(0x61 + (seq + i) % 26 for i in range(length))


def parse(text):
    """Return the segments of a script, `lost` ones included.

    Raises
    ------
    ValueError
        With the number of the line that is not understood or contradicts itself.
    """
    segments, now_ns = [], 0
    next_seq = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.match(stripped)
        if match is None:
            message = f"line {number}: not understood: {stripped}"
            raise ValueError(message)
        now_ns += int(match["seconds"]) * 10**9 + int((match["fraction"] or "0").ljust(9, "0"))
        conn, side = int(match["conn"] or 0), RESP if match["dir"] == "<" else ORIG
        flags = sum(FLAGS[letter] for letter in match["flags"])
        seq = int(match["seq"]) if match["seq"] else next_seq.get((conn, side), 0)
        payload = ast.literal_eval(f"b{match['payload']}") if match["payload"] else b""
        if match["seq"]:
            length = int(match["len"])
            payload = payload or filler(seq, length)
            if len(payload) != length or int(match["end"]) != seq + length:
                message = f"line {number}: {seq}:{match['end']}({length}) with {len(payload)} bytes"
                raise ValueError(message)
        ack = -1
        if flags & 0x10:
            ack = int(match["ack"]) if match["ack"] else next_seq.get((conn, 1 - side), 0)
        options = dict(re.findall(r"(win|ttl|id)\s+(\d+)", match["rest"]))
        segment = Segment(
            now_ns,
            conn,
            side,
            flags,
            seq,
            ack,
            payload,
            window=int(options.get("win", 64240)),
            ttl=int(options.get("ttl", 64)),
            ip_id=int(options.get("id", 0)),
            lost="lost" in match["rest"].split(),
        )
        next_seq[conn, side] = max(next_seq.get((conn, side), 0), segment.end)
        segments.append(segment)
    return segments


@dataclass(frozen=True, slots=True)
class Form:
    """How a script becomes bytes: everything a capture may vary without changing what happened."""

    orig: str = "10.9.0.100"
    resp: str = "10.9.0.1"
    orig_port: int = 40000
    resp_port: int = 80
    orig_isn: int = 1000
    resp_isn: int = 500_000
    start_ns: int = 1_700_000_000 * 10**9
    container: str = "pcap"
    """``pcap`` (microseconds), ``pcap-ns``, ``pcapng`` (nanoseconds) or ``pcapng-us``."""
    order: str = "<"
    """``<`` little-endian, ``>`` big-endian."""
    link: str = "ethernet"
    """``ethernet``, ``vlan``, ``qinq``, ``sll``, ``sll2``, ``raw`` or ``null``."""
    snaplen: int = 0
    """Captured bytes of a frame; 0 keeps all."""
    checksums: bool = True


LINK_TYPES = {"ethernet": 1, "vlan": 1, "qinq": 1, "sll": 113, "sll2": 276, "raw": 101, "null": 0}


def checksum(data):
    """Return the Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def build_frame(segment, form):
    """Return the bytes of one frame, link header first."""
    addresses = [ipaddress.ip_address(form.orig).packed, ipaddress.ip_address(form.resp).packed]
    ports, isns = [form.orig_port + segment.conn, form.resp_port], [form.orig_isn, form.resp_isn]
    near, far = segment.dir, 1 - segment.dir
    ack = (isns[far] + segment.ack) % 2**32 if segment.ack >= 0 else 0
    options = b"\x02\x04\x05\xb4" if segment.flags & 0x02 else b""
    tcp = struct.pack(
        ">HHIIBBHHH",
        ports[near],
        ports[far],
        (isns[near] + segment.seq) % 2**32,
        ack,
        (20 + len(options)) // 4 << 4,
        segment.flags,
        segment.window,
        0,
        0,
    )
    tcp += options + segment.payload
    if form.checksums:
        pseudo = addresses[near] + addresses[far] + struct.pack(">II", len(tcp), 6)
        tcp = tcp[:16] + struct.pack(">H", checksum(pseudo + tcp)) + tcp[18:]
    is_v6 = len(addresses[0]) == 16
    if is_v6:
        header = struct.pack(">IHBB", 6 << 28, len(tcp), 6, segment.ttl) + addresses[near] + addresses[far]
    else:
        header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), segment.ip_id, 0x4000, segment.ttl, 6, 0)
        header += addresses[near] + addresses[far]
        if form.checksums:
            header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
    return _link_header(form, near, is_v6=is_v6) + header + tcp


def _link_header(form, side, *, is_v6):
    ethertype = b"\x86\xdd" if is_v6 else b"\x08\x00"
    macs = [bytes.fromhex("0200000000aa"), bytes.fromhex("0200000000bb")]
    addresses = macs[1 - side] + macs[side]
    # The capturing machine is the originator: its own packets are outgoing (4), the others to it (0).
    packet_type = 0 if side == RESP else 4
    if form.link == "ethernet":
        return addresses + ethertype
    if form.link == "vlan":
        return addresses + b"\x81\x00\x00\x64" + ethertype
    if form.link == "qinq":
        return addresses + b"\x88\xa8\x00\x0a\x81\x00\x00\x64" + ethertype
    if form.link == "sll":
        return struct.pack(">HHH", packet_type, 1, 6) + macs[side] + b"\0\0" + ethertype
    if form.link == "sll2":
        return ethertype + struct.pack(">HIHBB", 0, 2, 1, packet_type, 6) + macs[side] + b"\0\0"
    if form.link == "null":
        return struct.pack(form.order + "I", 30 if is_v6 else 2)
    return b""


def write_capture(segments, form=None, **changes):
    """Return a capture file with the segments that are not `lost`.

    Parameters
    ----------
    segments : list of Segment
        In capture order.
    form : Form, optional
        How to write them; `changes` replace fields of it.

    Returns
    -------
    bytes
        The file.
    """
    form = replace(form or Form(), **changes)
    frames = [(form.start_ns + s.ts_ns, build_frame(s, form)) for s in segments if not s.lost]
    return write_frames(frames, form)


def write_frames(frames, form):
    """Return a capture file with these (time in ns, bytes) records."""
    link, order = LINK_TYPES[form.link], form.order
    if form.container.startswith("pcapng"):
        return _write_pcapng(frames, form, link)
    magic, unit = (0xA1B23C4D, 1) if form.container == "pcap-ns" else (0xA1B2C3D4, 1000)
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, form.snaplen or 262144, link)]
    for ts_ns, data in frames:
        kept = data[: form.snaplen] if form.snaplen else data
        seconds, rest_ns = divmod(ts_ns, 10**9)
        parts += [struct.pack(order + "IIII", seconds, rest_ns // unit, len(kept), len(data)), kept]
    return b"".join(parts)


def _write_pcapng(frames, form, link):
    order = form.order
    unit, resolution = (1000, 6) if form.container == "pcapng-us" else (1, 9)

    def block(kind, body):
        length = 12 + len(body)
        return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length)

    options = struct.pack(order + "HHB3xHH", 9, 1, resolution, 0, 0)
    parts = [
        block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)),
        block(1, struct.pack(order + "HHI", link, 0, form.snaplen) + options),
    ]
    for ts_ns, data in frames:
        kept = data[: form.snaplen] if form.snaplen else data
        ticks = ts_ns // unit
        body = struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(kept), len(data))
        parts.append(block(6, body + kept + b"\0" * (-len(kept) % 4)))
    return b"".join(parts)
