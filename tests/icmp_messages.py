"""ICMP errors as frames: who sends one, to whom, and the packet that it quotes."""

import ipaddress
import struct
from dataclasses import replace

from tests.scenario import Form, _link_header, build_frame, checksum, parse, write_frames

UNREACHABLE = {4: 3, 6: 1}
TOO_BIG = {4: (3, 4), 6: (2, 0)}


def packet_of(segment, form):
    """Return the IP packet of a segment."""
    return build_frame(segment, replace(form, link="raw"))


def icmp_message(version, its_type, code, quoted, mtu=0):
    """Return an ICMP error from its first byte, with a checksum of zero."""
    rest = struct.pack(">HH", 0, mtu) if version == 4 else struct.pack(">I", mtu)
    return struct.pack(">BBH", its_type, code, 0) + rest + quoted


def icmp_frame(form, message, sender=None, to=None):
    """Return a frame that carries an ICMP message, by default from the responder's address to the originator."""
    source = ipaddress.ip_address(sender or form.resp).packed
    target = ipaddress.ip_address(to or form.orig).packed
    is_v6 = len(source) == 16
    if is_v6:
        header = struct.pack(">IHBB", 6 << 28, len(message), 58, 64) + source + target
    else:
        message = message[:2] + struct.pack(">H", checksum(message)) + message[4:]
        header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(message), 7, 0, 64, 1, 0) + source + target
        header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
    return _link_header(form, 1, is_v6=is_v6) + header + message


def write_with_icmp(script, errors, form=None, sender=None):
    """Return a capture of a script and of ICMP errors about some of its segments.

    Parameters
    ----------
    script : str
        As in `tests.scenario`.
    errors : list of tuple
        (number of the segment, ns after it, type, code, MTU, bytes quoted); 0 bytes quote the whole packet.
    form : Form, optional
        How to write them.
    sender : str, optional
        Who sends the errors.

    Returns
    -------
    bytes
        The file.
    """
    form = form or Form()
    version = ipaddress.ip_address(form.orig).version
    segments = parse(script)
    frames = [(form.start_ns + s.ts_ns, build_frame(s, form)) for s in segments if not s.lost]
    for number, after_ns, its_type, code, mtu, n_bytes in errors:
        quoted = packet_of(segments[number], form)
        message = icmp_message(version, its_type, code, quoted[: n_bytes or len(quoted)], mtu)
        to = form.orig if segments[number].dir == 0 else form.resp
        frames.append((form.start_ns + segments[number].ts_ns + after_ns, icmp_frame(form, message, sender, to)))
    frames.sort(key=lambda frame: frame[0])
    return write_frames(frames, form)
