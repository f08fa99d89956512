"""Captures as another machine would have written them: another clock, other addresses, frames missing."""

import struct
from dataclasses import dataclass
from ipaddress import ip_address

ETHERNET, VLAN = 14, 4


@dataclass
class Record:
    """One record of a pcap file in microseconds; `tcp` is where its TCP header begins, -1 if it is no TCP over IP."""

    ts_ns: int
    data: bytearray
    wire_len: int
    ip: int = -1
    tcp: int = -1

    @property
    def src(self):
        return self._address(12, 8, 4, 16)

    @property
    def dst(self):
        return self._address(16, 24, 4, 16)

    def _address(self, at4, at6, n4, n6):
        at, n = (at4, n4) if self.data[self.ip] >> 4 == 4 else (at6, n6)
        return str(ip_address(bytes(self.data[self.ip + at : self.ip + at + n])))

    @property
    def ports(self):
        return struct.unpack_from(">HH", self.data, self.tcp)

    @property
    def seq(self):
        return struct.unpack_from(">I", self.data, self.tcp + 4)[0]

    @property
    def ack(self):
        return struct.unpack_from(">I", self.data, self.tcp + 8)[0]

    @property
    def flags(self):
        return self.data[self.tcp + 13]


def read(path):
    """Return the file's header and its records."""
    content = path.read_bytes()
    header, at, records = content[:24], 24, []
    assert header[:4] == b"\xd4\xc3\xb2\xa1"
    while at < len(content):
        seconds, us, captured, wire_len = struct.unpack_from("<IIII", content, at)
        data = bytearray(content[at + 16 : at + 16 + captured])
        records.append(_placed(Record(seconds * 10**9 + us * 1000, data, wire_len)))
        at += 16 + captured
    return header, records


def _placed(record):
    data, at = record.data, ETHERNET
    kind = int.from_bytes(data[12:14], "big")
    while kind == 0x8100:
        kind, at = int.from_bytes(data[at + 2 : at + 4], "big"), at + VLAN
    if kind == 0x0800 and data[at + 9] == 6:
        record.ip, record.tcp = at, at + (data[at] & 15) * 4
    elif kind == 0x86DD and data[at + 6] == 6:
        record.ip, record.tcp = at, at + 40
    return record


def write(path, header, records):
    """Write a pcap file."""
    with path.open("wb") as file:
        file.write(header)
        for r in records:
            us = r.ts_ns // 1000
            file.write(struct.pack("<IIII", us // 10**6, us % 10**6, len(r.data), r.wire_len))
            file.write(r.data)
    return path


def rewrite(source, target, *, shift_ns=0, drift_ppm=0, keep=None, change=None):
    """Write `source` as `target`: times shifted and drifting, only the records that `keep` wants, each changed."""
    header, records = read(source)
    first = records[0].ts_ns
    kept = [r for number, r in enumerate(records) if keep is None or keep(number, r)]
    for r in kept:
        r.ts_ns += shift_ns + (r.ts_ns - first) * drift_ppm // 10**6
        if change is not None and r.tcp >= 0:
            change(r)
    return write(target, header, kept)


def translate(addresses, port_shift=0, ports_of=None):
    """Return a change that puts other IPv4 addresses (and other ports of `ports_of`) into a record."""
    table = {ip_address(a).packed: ip_address(b).packed for a, b in addresses.items()}

    def change(record):
        src, dst = record.ip + 12, record.ip + 16
        for at, port_at in ((src, record.tcp), (dst, record.tcp + 2)):
            old = bytes(record.data[at : at + 4])
            if port_shift and str(ip_address(old)) == ports_of:
                port = struct.unpack_from(">H", record.data, port_at)[0]
                struct.pack_into(">H", record.data, port_at, (port + port_shift) % 64512 + 1024)
            record.data[at : at + 4] = table.get(old, old)

    return change


def renumber(shift):
    """Return a change that moves all sequence and acknowledgement numbers, as a firewall that randomises them."""

    def change(record):
        seq, ack = (record.seq + shift) % 2**32, (record.ack + shift) % 2**32
        struct.pack_into(">II", record.data, record.tcp + 4, seq, ack if record.flags & 0x10 else 0)

    return change


def split(record):
    """Return a TCP segment over IPv4 as two, as a network card cuts what the kernel handed it in one piece."""
    data = record.tcp + (record.data[record.tcp + 12] >> 4) * 4
    end = record.ip + struct.unpack_from(">H", record.data, record.ip + 2)[0]
    middle = (data + end) // 2
    first, second = bytearray(record.data[:middle]), bytearray(record.data[:data] + record.data[middle:end])
    for part, skipped in ((first, 0), (second, middle - data)):
        struct.pack_into(">H", part, record.ip + 2, len(part) - record.ip)
        struct.pack_into(">I", part, record.tcp + 4, (record.seq + skipped) % 2**32)
    first[record.tcp + 13] &= ~0x09  # PSH and FIN belong to the last byte
    return [_placed(Record(record.ts_ns + n, part, len(part))) for n, part in ((0, first), (1000, second))]
