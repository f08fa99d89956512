"""Captures whose lengths claim what is not there: one builder per length that a capture states.

Each is a request that was answered, and then what is hostile; so a capture that is read to its end tells of the
request.
"""

import struct

from tests.engine.capture import files

CLIENT, SERVER = bytes([10, 9, 0, 5]), bytes([10, 9, 0, 80])
SYN, ACK, PSH = 0x02, 0x10, 0x08
CLIENT_ISN, SERVER_ISN = 1000, 5000
REQUEST = b"GET /warm HTTP/1.1\r\nHost: be\r\n\r\n"
MANY = 2000
"""Records that make the same claim."""


def tcp(payload=b"", *, seq, ack, flags=ACK | PSH, ports=(40000, 8080)):
    return struct.pack(">HHIIBBHHH", *ports, seq & 0xFFFFFFFF, ack, 5 << 4, flags, 64000, 0, 0) + payload


def ipv4(data, *, back=False, total=None, proto=6, fragment=0x4000, ident=0):
    ends = SERVER + CLIENT if back else CLIENT + SERVER
    total = 20 + len(data) if total is None else total
    return struct.pack(">BBHHHBBH", 0x45, 0, total, ident, fragment, 64, proto, 0) + ends + data


def ipv6(data, *, back=False, length=None, proto=6):
    ends = [bytes(15) + end[-1:] for end in ((SERVER, CLIENT) if back else (CLIENT, SERVER))]
    return struct.pack(">IHBB", 0x60000000, len(data) if length is None else length, proto, 64) + b"".join(ends) + data


def frame(packet):
    return bytes(12) + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0") + packet


def exchange(response, ip=ipv4, request=REQUEST):
    """Return the frames of a connection on which a request gets this answer, and where both streams go on."""
    seq, ack = CLIENT_ISN, SERVER_ISN
    packets = [
        ip(tcp(seq=seq, ack=0, flags=SYN)),
        ip(tcp(seq=ack, ack=seq + 1, flags=SYN | ACK, ports=(8080, 40000)), back=True),
        ip(tcp(seq=seq + 1, ack=ack + 1, flags=ACK)),
        ip(tcp(request, seq=seq + 1, ack=ack + 1)),
        ip(tcp(response, seq=ack + 1, ack=seq + 1 + len(request), ports=(8080, 40000)), back=True),
    ]
    return [frame(packet) for packet in packets], seq + 1 + len(request), ack + 1 + len(response)


def pcap(frames, wire_lens=()):
    """Return a capture of these frames; the last have the wire lengths that are given."""
    lens = [*map(len, frames[: len(frames) - len(wire_lens)]), *wire_lens]
    given = zip(frames, lens, strict=True)
    return files.pcap([files.Record(files.START_NS + i * 1_000_000, data, n) for i, (data, n) in enumerate(given)])


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def wire_length(claim, *, ip=ipv4, ahead=0, step=0, n=MANY):
    """Segments of one byte that state no length, in records that claim so many bytes on the wire."""
    frames, seq, ack = exchange(OK, ip)
    unstated = {"total": 0} if ip is ipv4 else {"length": 0}
    hostile = [frame(ip(tcp(b"x", seq=seq + ahead + step * i, ack=ack), **unstated)) for i in range(n)]
    return pcap(frames + hostile, [claim] * n)


def sequence_leaps(step):
    """Segments that leap so far ahead each time."""
    frames, seq, ack = exchange(OK)
    return pcap(frames + [frame(ipv4(tcp(b"x", seq=seq + step * (i + 1), ack=ack))) for i in range(MANY)])


def acknowledged_leaps(step):
    """Acknowledgements of bytes that nobody saw."""
    frames, seq, ack = exchange(OK)
    leaps = [tcp(seq=seq, ack=(ack + step * (i + 1)) & 0xFFFFFFFF, flags=ACK) for i in range(MANY)]
    return pcap(frames + [frame(ipv4(leap)) for leap in leaps])


def ip_length_beyond_frame():
    """Segments of one byte whose IP headers claim 65,535."""
    frames, seq, ack = exchange(OK)
    hostile = [frame(ipv4(tcp(b"x", seq=seq + 70_000 * (i + 1), ack=ack), total=65535)) for i in range(MANY)]
    return pcap(frames + hostile)


def tcp_options():
    """Give TCP headers of 60 bytes where there are none, and options that claim 255."""
    frames, seq, ack = exchange(OK)
    data = bytearray(tcp(b"\x02\xff" * 20, seq=seq, ack=ack))
    data[12] = 15 << 4
    return pcap(frames + [frame(ipv4(bytes(data)))] * MANY)


def fragments():
    """Give the last eight bytes of thousands of datagrams of 64 KiB."""
    frames, _, _ = exchange(OK)
    return pcap(frames + [frame(ipv4(bytes(8), ident=i % 65536, fragment=8180)) for i in range(20_000)])


def jumbograms():
    """IPv6 payload lengths of 0 with a jumbo payload option (RFC 2675) of 4 GiB."""
    frames, seq, ack = exchange(OK, ipv6)
    jumbo = b"\x06\0\xc2\x04\xff\xff\xff\xff" + tcp(b"x", seq=seq + 9, ack=ack)
    return pcap(frames + [frame(ipv6(jumbo, length=0, proto=0))] * MANY, [0xFFFFFFFF] * MANY)


def answers(head, body=b""):
    """Answer with a head that claims a body which does not come."""
    frames, seq, ack = exchange(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body)
    more = [frame(ipv4(tcp(b"x" * 100, seq=ack + 100 * i, ack=seq, ports=(8080, 40000)), back=True)) for i in range(50)]
    return pcap(frames + more)


def requests(*payloads):
    """Begin connections with these bytes, and answer each with OK."""
    frames = []
    for n, payload in enumerate(payloads):
        made, _, _ = exchange(OK, request=payload)
        frames += [data.replace(struct.pack(">H", 40000), struct.pack(">H", 40001 + n), 1) for data in made]
    return pcap(frames)


def fastcgi():
    begin = struct.pack(">BBHHBB", 1, 1, 1, 8, 0, 0) + b"\0\1\1\0\0\0\0\0"
    names = b"\xff\xff\xff\xff\xff\xff\xff\xff"  # a name of 2 GiB, and its value
    return requests(
        REQUEST,
        begin + struct.pack(">BBHHBB", 1, 4, 1, 65535, 255, 0) + names,
        begin + struct.pack(">BBHHBB", 1, 5, 1, 65535, 255, 0),
    )


def fastcgi_begins():
    """Begin more FastCGI requests in one segment than any connection has open."""
    return requests(REQUEST, struct.pack(">BBHHBB", 1, 1, 1, 8, 0, 0) + bytes(8) + b"\1\1\0\1\0\0\0\0" * 7_500)


def uwsgi():
    return requests(REQUEST, b"\0\xff\xff\0" + b"\xff\xff", b"\0\x10\0\0" + b"\x0e\0REQUEST_METHOD\xff\xff")


def scgi():
    first = b":CONTENT_LENGTH\0" + b"9" * 30 + b"\0"
    return requests(REQUEST, b"99999" + first, b"1" + first + bytes(900), b"33:CONTENT_LENGTH\0-1\0REQUEST_URI\0/\0,")


def tls():
    hello = b"\x01\xff\xff\xff\x03\x03" + bytes(32) + b"\xff" * 10
    whole = struct.pack(">BHH", 22, 0x0303, len(hello)) + hello
    return requests(REQUEST, whole, b"\x16\x03\x01\xff\xff\x01\xff\xff\xff", b"\x15\x03\x03\xff\xff\x02\x28")


def pcapng_lengths():
    """Let blocks follow that claim 4 GiB, some that claim none, and options that end far away."""
    frames, _, _ = exchange(OK)
    head = files.shb() + files.idb(options=struct.pack("<HH", 2, 65535) + b"eth0")
    sound = b"".join(files.epb(files.Record(files.START_NS + i, f, len(f))) for i, f in enumerate(frames))
    claims = b"".join(struct.pack("<II", kind, n) for kind in (1, 5, 6, 0x0A0D0D0A, 99) for n in (0xFFFFFFFC, 0, 8, 12))
    clipped = files.block(6, struct.pack("<5I", 0, 0, 1, 0xFFFFFFFF, 0xFFFFFFFF) + bytes(8))
    return head + sound + clipped + claims * 50 + sound


def pcapng_interfaces():
    """More interfaces than anybody has."""
    frames, _, _ = exchange(OK)
    sound = b"".join(files.epb(files.Record(files.START_NS + i, f, len(f))) for i, f in enumerate(frames))
    return files.shb() + files.idb() + sound + files.idb() * 70_000


CLAIMS = {
    "a wire length of 4 GiB": lambda: wire_length(0xFFFFFFFF),
    "a wire length of 4 GiB, IPv6": lambda: wire_length(0xFFFFFFFF, ip=ipv6),
    "a wire length of 4 GiB, out of order": lambda: wire_length(0xFFFFFFFF, ahead=1000, step=2),
    "a wire length of 60 MiB": lambda: wire_length(60 << 20),
    "a wire length of 60 MiB, out of order": lambda: wire_length(60 << 20, ahead=1000, step=1000),
    "a wire length of 512 KiB, out of order": lambda: wire_length(524_288, ahead=1000, step=500_000),
    "sequence leaps of 60 MiB": lambda: sequence_leaps(60 << 20),
    "sequence leaps of 2 GiB": lambda: sequence_leaps((2 << 30) - 1),
    "sequence leaps of nearly 4 GiB": lambda: sequence_leaps((4 << 30) - 100),
    "acknowledged leaps of 60 MiB": lambda: acknowledged_leaps(60 << 20),
    "IP lengths beyond the frame": ip_length_beyond_frame,
    "TCP options beyond the segment": tcp_options,
    "fragments": fragments,
    "jumbograms": jumbograms,
    "Content-Length of 2^63": lambda: answers(b"Content-Length: 9223372036854775808"),
    "Content-Length of 2^63-1": lambda: answers(b"Content-Length: 9223372036854775807"),
    "Content-Length of 10,000 digits": lambda: answers(b"Content-Length: " + b"9" * 1400),
    "a chunk of 2^64": lambda: answers(b"Transfer-Encoding: chunked", b"ffffffffffffffff\r\n"),
    "a chunk of 2^63-1": lambda: answers(b"Transfer-Encoding: chunked", b"7fffffffffffffff\r\n"),
    "FastCGI lengths": fastcgi,
    "FastCGI requests": fastcgi_begins,
    "uwsgi lengths": uwsgi,
    "SCGI lengths": scgi,
    "TLS lengths": tls,
    "pcapng block lengths": pcapng_lengths,
    "pcapng interfaces": pcapng_interfaces,
}
