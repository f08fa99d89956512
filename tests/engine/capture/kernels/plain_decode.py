"""Plain twin of `pcapdiag.engine.capture.kernels.decode`: recursion over byte strings, one function per header.

A `View` is what was captured of a header and what follows it, how long that is on the wire, and where it starts in the
buffer. Reading beyond the captured bytes raises `CutError`.
"""

from dataclasses import dataclass

from pcapdiag.base.codes import FrameKind, PacketDirection, UndecodedReason

MAX_LAYERS = 32
MAPPED = 0xFFFF << 32
NOTHING = {
    "payload_offset": -1,
    "src_hi": 0,
    "src_lo": 0,
    "dst_hi": 0,
    "dst_lo": 0,
    "seq": -1,
    "ack": -1,
    "ts_val": -1,
    "payload_len": 0,
    "payload_cap": 0,
    "src_port": -1,
    "dst_port": -1,
    "window": -1,
    "ip_id": -1,
    "mss": -1,
    "flags": 0,
    "ttl": -1,
    "ip_proto": -1,
    "wscale": -1,
}


class CutError(Exception):
    """A header ends after the captured bytes."""


class Stop(Exception):  # noqa: N818 - a verdict, not an error
    """The frame's kind and reason are known."""

    def __init__(self, kind, reason=UndecodedReason.NONE):
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason


@dataclass
class View:
    data: bytes
    wire: int
    at: int

    def take(self, n):
        if len(self.data) < n:
            raise CutError
        return self.data[:n]

    def number(self, at, n):
        return int.from_bytes(self.take(at + n)[at:], "big")

    def after(self, n):
        self.take(n)
        return self.skip(n)

    def skip(self, n):
        return View(self.data[n:], self.wire - n, self.at + n)

    def only(self, n):
        """Keep `n` bytes: what an IP header says is there, whatever the frame's length says."""
        return View(self.data[:n], n, self.at)


class Decoder:
    def __init__(self):
        self.row = dict(NOTHING)
        self.direction = None
        self.depth = 0
        self.ip_at = None

    def step(self, function, *arguments):
        if self.depth == MAX_LAYERS:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.TOO_DEEP)
        self.depth += 1
        function(*arguments)

    def link(self, view, link_type):
        if not view.data:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.EMPTY)
        try:
            self.link_header(view, link_type)
        except CutError:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.LINK_HEADER_CUT) from None

    def link_header(self, view, link_type):
        if link_type == 1:
            self.ethernet(view)
        elif link_type in (12, 14, 101):
            self.step(self.raw, view)
        elif link_type == 228:
            self.step(self.ipv4, view)
        elif link_type == 229:
            self.step(self.ipv6, view)
        elif link_type in (113, 276):
            v2 = link_type == 276
            size = 11 if v2 else 2
            if len(view.data) >= size:
                packet_type = view.number(10, 1) if v2 else view.number(0, 2)
                inbound, other, outbound = PacketDirection.INBOUND, PacketDirection.OTHER, PacketDirection.OUTBOUND
                self.direction = {0: inbound, 1: other, 2: other, 3: other, 4: outbound}.get(packet_type)
            payload = view.after(20 if v2 else 16)
            protocol = view.number(0 if v2 else 14, 2)
            if protocol == 4:
                self.step(self.llc, payload)
            else:
                self.step(self.ethertype, payload, protocol)
        elif link_type in (0, 108):
            family = view.number(0, 4)
            if family >= 0x10000:
                family = int.from_bytes(view.take(4), "little")
            payload = view.after(4)
            if family == 2:
                self.step(self.ipv4, payload)
            elif family in (10, 23, 24, 26, 28, 30):
                self.step(self.ipv6, payload)
            elif 0x600 <= family <= 0xFFFF:
                self.step(self.ethertype, payload, family)
            else:
                raise Stop(FrameKind.NON_IP)
        elif link_type == 9 or (link_type == 50 and view.take(4)[0] == 0xFF):
            self.step(self.ppp, view)
        elif link_type == 50:
            self.step(self.ethertype, view.after(4), view.number(2, 2))
        elif link_type == 51:
            self.step(self.pppoe, view)
        else:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.PENDING)

    def ethernet(self, view):
        self.step(self.ethertype, view.after(14), view.number(12, 2))

    def ethertype(self, view, number):
        if number == 0x0800:
            self.step(self.ipv4, view)
        elif number == 0x86DD:
            self.step(self.ipv6, view)
        elif number in (0x8100, 0x88A8, 0x9100, 0x9200):
            self.step(self.ethertype, view.after(4), view.number(2, 2))
        elif number == 0x893F:
            self.step(self.ethertype, view.after(8), view.number(6, 2))
        elif number < 0x600:
            self.step(self.llc, view)
        elif number == 0x8864:
            self.step(self.pppoe, view)
        elif number in (0x8847, 0x8848):
            self.step(self.mpls, view)
        elif number == 0x6558:
            self.step(self.ethernet, view)
        elif number == 0x88E7:
            self.step(self.ethernet, view.skip(4))
        elif number == 0x880B:
            self.step(self.ppp, view)
        else:
            raise Stop(FrameKind.NON_IP)

    def llc(self, view):
        if view.take(3) == b"\xaa\xaa\x03":
            payload, number = view.after(8), view.number(6, 2)
            if view.data[3:6] in (b"\0\0\0", b"\0\0\xf8") and number >= 0x600:
                self.step(self.ethertype, payload, number)
        elif view.take(3) == b"\x06\x06\x03":
            self.step(self.ipv4, view.after(3))
        raise Stop(FrameKind.NON_IP)

    def ppp(self, view):
        if view.data[:2] == b"\xff\x03":
            view = view.skip(2)
        size = 1 if view.number(0, 1) % 2 else 2
        protocol = view.number(0, size)
        view = view.after(size)
        if protocol == 0x21:
            self.step(self.ipv4, view)
        elif protocol == 0x57:
            self.step(self.ipv6, view)
        elif protocol in (0x281, 0x283):
            self.step(self.mpls, view)
        raise Stop(FrameKind.NON_IP)

    def pppoe(self, view):
        payload = view.after(6)
        if view.data[:2] != b"\x11\x00":
            raise Stop(FrameKind.NON_IP)
        self.step(self.ppp, payload)

    def mpls(self, view):
        payload = view.after(4)
        if not view.data[2] & 1:
            self.step(self.mpls, payload)
        nibble = payload.number(0, 1) >> 4
        if nibble == 4:
            self.step(self.ipv4, payload)
        if nibble == 6:
            self.step(self.ipv6, payload)
        known = [bytes.fromhex(n) for n in ("0800", "86dd", "0806", "8100", "88a8", "8847", "8864")]
        plain, behind_control_word = (payload.data[n : n + 2] in known for n in (12, 16))
        if nibble == 0 and (behind_control_word or not plain):
            self.step(self.ethernet, payload.skip(4))
        if nibble == 1 and not plain:
            raise Stop(FrameKind.NON_IP)
        self.step(self.ethernet, payload)

    def raw(self, view):
        if not view.data:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.IP_HEADER_CUT)
        version = view.data[0] >> 4
        if version not in (4, 6):
            raise Stop(FrameKind.UNDECODED, UndecodedReason.IP_MALFORMED)
        self.step(self.ipv4 if version == 4 else self.ipv6, view)

    def need(self, view, n):
        """IP headers: beyond the packet's own end is malformed, beyond the captured bytes is cut."""
        if len(view.data) < n:
            malformed = view.wire < n
            reason = UndecodedReason.IP_MALFORMED if malformed else UndecodedReason.IP_HEADER_CUT
            raise Stop(FrameKind.UNDECODED, reason)

    def unstated(self, view):
        """Take a packet whose header states no length for as long as its frame, up to what packets get."""
        if view.wire > len(view.data) and view.wire > 512 * 1024:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.IP_MALFORMED)
        return view

    def ipv4(self, view):
        self.need(view, 20)
        header_len, total_len = view.data[0] % 16 * 4, view.number(2, 2)
        if view.data[0] >> 4 != 4 or header_len < 20 or 0 < total_len < header_len:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.IP_MALFORMED)
        view = view.only(total_len) if total_len else self.unstated(view)
        self.need(view, header_len)
        proto = view.data[9]
        self.ip_at = view.at
        self.row.update(src_hi=0, dst_hi=0, src_lo=MAPPED + view.number(12, 4), dst_lo=MAPPED + view.number(16, 4))
        self.row.update(ip_id=view.number(4, 2), ttl=view.data[8], ip_proto=proto, src_port=-1, dst_port=-1)
        if view.number(6, 2) & 0x3FFF:
            raise Stop(FrameKind.FRAGMENT)
        self.step(self.proto, view.skip(header_len), proto, 4)

    def ipv6(self, view):
        self.need(view, 40)
        if view.data[0] >> 4 != 6:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.IP_MALFORMED)
        payload_len = view.number(4, 2)
        view = view.only(40 + payload_len) if payload_len else self.unstated(view)
        halves = [view.number(at, 8) for at in (8, 16, 24, 32)]
        self.ip_at = view.at
        self.row.update(zip(("src_hi", "src_lo", "dst_hi", "dst_lo"), halves, strict=True))
        self.row.update(ip_id=-1, ttl=view.data[7], ip_proto=view.data[6], src_port=-1, dst_port=-1)
        self.step(self.proto, view.skip(40), view.data[6], 6)

    def proto(self, view, proto, version):
        if proto == 6:
            self.tcp(view)
        elif proto == 17:
            self.udp(view)
        elif proto in (1, 58):
            self.row.update(payload_offset=view.at, payload_cap=len(view.data))
            raise Stop(FrameKind.ICMP)
        elif proto == 4:
            self.step(self.ipv4, view)
        elif proto == 41:
            self.step(self.ipv6, view)
        elif proto == 47:
            self.step(self.gre, view)
        elif proto == 137:
            self.step(self.mpls, view)
        elif proto == 97:
            self.step(self.ethernet, view.skip(2))
        elif proto == 51 or (version == 6 and proto in (0, 43, 44, 60, 135, 139, 140)):
            self.extension(view, proto, version)
        else:
            raise Stop(FrameKind.OTHER_IP)

    def extension(self, view, proto, version):
        self.need(view, 8)
        inside = self.row["ip_proto"] = view.data[0]
        if proto == 44:
            if view.number(2, 2) & 0xFFF9:
                raise Stop(FrameKind.FRAGMENT)
            length = 8
        else:
            length = 8 + view.data[1] * (4 if proto == 51 else 8)
        self.need(view, length)
        self.step(self.proto, view.skip(length), inside, version)

    def udp(self, view):
        if len(view.data) < 8:
            raise Stop(FrameKind.UDP)
        port = view.number(2, 2)
        self.row.update(src_port=view.number(0, 2), dst_port=port)
        inside = view.skip(8)
        if port in (4789, 8472):
            self.vxlan(inside, strict=port == 8472)
        elif port == 6081:
            self.geneve(inside)
        elif port == 2152:
            self.gtp_u(inside)
        elif port == 4754:
            self.gre(inside)
        raise Stop(FrameKind.NON_IP)

    def vxlan(self, view, *, strict):
        payload = view.after(8)
        strictly = view.data[:4] == b"\x08\0\0\0" and view.data[7] == 0
        if view.data[0] & 8 and (strictly or not strict):
            self.step(self.ethernet, payload)

    def geneve(self, view):
        view.take(8)
        version, n_word = divmod(view.data[0], 64)
        if version == 0 and view.data[1] % 64 == 0 and view.data[7] == 0 and view.number(2, 2) >= 0x600:
            self.step(self.ethertype, view.skip(8 + 4 * n_word), view.number(2, 2))

    def gtp_u(self, view):
        payload = view.after(8)
        if view.data[0] >> 4 != 3 or view.data[1] != 255:
            return
        if view.data[0] & 7:
            payload = payload.after(4)
            following = view.data[11] if view.data[0] & 4 else 0
            for _ in range(8):
                if following == 0:
                    break
                length = 4 * payload.number(0, 1)
                if length == 0:
                    return
                following = payload.number(length - 1, 1)
                payload = payload.after(length)
        version = payload.number(0, 1) >> 4
        if version == 4:
            self.step(self.ipv4, payload)
        elif version == 6:
            self.step(self.ipv6, payload)

    def gre(self, view):
        flags, number = view.number(0, 2), view.number(2, 2)
        sequence = bool(flags & 0x1000)
        length = 4 + 4 * bool(flags & 0x8000) + 4 * bool(flags & 0x2000) + 4 * sequence
        if flags % 8 == 0 and not flags & 0x4000:
            if number == 0x88BE:
                self.step(self.ethernet, view.skip(length + 8 * sequence))
            elif number == 0x883E:
                redirect = 0 if view.number(length, 1) >> 4 == 4 else 4
                self.step(self.ipv4, view.skip(length + redirect))
            elif number >= 0x600:
                self.step(self.ethertype, view.skip(length), number)
        elif flags % 8 == 1 and not flags & 0x4000 and number == 0x880B and sequence:
            self.step(self.ppp, view.skip(length + 4 * bool(flags & 0x80)))
        raise Stop(FrameKind.NON_IP)

    def tcp(self, view):
        if view.wire < 20:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.TCP_MALFORMED)
        if len(view.data) < 20:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.TCP_HEADER_CUT)
        header_len = view.data[12] // 16 * 4
        if not 20 <= header_len <= view.wire:
            raise Stop(FrameKind.UNDECODED, UndecodedReason.TCP_MALFORMED)
        flags = view.data[13]
        payload = view.skip(header_len)
        self.row.update(
            src_port=view.number(0, 2),
            dst_port=view.number(2, 2),
            seq=view.number(4, 4),
            ack=view.number(8, 4) if flags & 0x10 else -1,
            flags=flags,
            window=view.number(14, 2),
            payload_len=payload.wire,
            payload_cap=len(payload.data),
            payload_offset=view.at + min(header_len, len(view.data)),
        )
        self.options(view.data[20:header_len], header_len - 20)
        raise Stop(FrameKind.TCP)

    def options(self, captured, length):
        at = 0
        while at + 1 < min(length, len(captured)):
            kind, size = captured[at], captured[at + 1]
            if kind == 1:
                at += 1
                continue
            if kind == 0 or size < 2 or at + size > length:
                return
            name, n = {(2, 4): ("mss", 2), (3, 3): ("wscale", 1), (8, 10): ("ts_val", 4)}.get((kind, size), ("", 0))
            value = captured[at + 2 : at + 2 + n]
            if name and len(value) == n:
                number = int.from_bytes(value, "big")
                self.row[name] = min(number, 14) if name == "wscale" else number
            at += size


def decode_frame(data, *, link_type, wire_len=-1, at=0):
    """Return the columns that decoding fills, as a dict; `at` is where the frame starts in the buffer.

    `packet_direction` is in it only where the link header states it.
    """
    decoder = Decoder()
    try:
        decoder.link(View(data, max(len(data), wire_len), at), link_type)
    except Stop as stop:
        kind, reason = stop.kind, stop.reason
    row = decoder.row
    if decoder.ip_at is not None and (kind == FrameKind.NON_IP or reason == UndecodedReason.LINK_HEADER_CUT):
        kind = FrameKind.UDP if row["ip_proto"] == 17 else FrameKind.OTHER_IP
        reason = UndecodedReason.NONE
    if kind == FrameKind.FRAGMENT:
        row["payload_offset"] = decoder.ip_at
    row.update(kind=int(kind), undecoded_reason=int(reason))
    if decoder.direction is not None:
        row["packet_direction"] = int(decoder.direction)
    return row
