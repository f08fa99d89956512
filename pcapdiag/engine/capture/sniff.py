"""Tells by its first bytes what a file is: a capture, a compressed file, or something that is neither.

Knows magic numbers and a few words for what people take for a capture; opens nothing.
"""

from __future__ import annotations

from typing import Final

from pcapdiag.base.codecs import compression_of

HEAD_BYTES: Final = 4096
"""[bytes] As much of a file as is worth looking at."""

PCAP_MAGICS: Final = {
    # magic as read: (big-endian, nanoseconds per tick, bytes of a record header)
    bytes.fromhex("d4c3b2a1"): (False, 1000, 16),
    bytes.fromhex("a1b2c3d4"): (True, 1000, 16),
    bytes.fromhex("4d3cb2a1"): (False, 1, 16),
    bytes.fromhex("a1b23c4d"): (True, 1, 16),
    # Alexey Kuznetsov's modified libpcap appends interface, protocol and packet type to each record header.
    bytes.fromhex("34cdb2a1"): (False, 1000, 24),
    bytes.fromhex("a1b2cd34"): (True, 1000, 24),
}

PCAPNG_MAGIC: Final = bytes.fromhex("0a0d0d0a")
_PCAPNG_BYTE_ORDERS: Final = (bytes.fromhex("1a2b3c4d"), bytes.fromhex("4d3c2b1a"))

_OTHERS: Final = (
    (b"\x7fELF", "an ELF program"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"%PDF", "a PDF document"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x89PNG", "a PNG image"),
    (b"snoop\x00\x00\x00", "a snoop capture: convert it with `editcap -F pcapng IN OUT`"),
    (b"GMBU", "a Network Monitor capture: convert it with `editcap -F pcapng IN OUT`"),
    (b"RTSS", "a Network Monitor capture: convert it with `editcap -F pcapng IN OUT`"),
    (b"XCP\x00", "a NetXRay capture: convert it with `editcap -F pcapng IN OUT`"),
    (b"TRSNIFF data", "a Sniffer capture: convert it with `editcap -F pcapng IN OUT`"),
    (b"\x02\x21\x4c\x18", "legacy lz4, not an lz4 frame: unpack it with `lz4 -d` first"),
    (b"\x1f\x9d", "data packed by `compress`: unpack it with `uncompress` first"),
)


def container_of(head: bytes) -> str:
    """Return ``pcap``, ``pcapng`` or, for anything else, the empty string."""
    if head[:4] in PCAP_MAGICS:
        return "pcap"
    if head[:4] == PCAPNG_MAGIC and (len(head) < 12 or head[8:12] in _PCAPNG_BYTE_ORDERS):
        return "pcapng"
    return ""


def describe(head: bytes) -> str:
    """Return in words what bytes that are no capture look like."""
    if not head:
        return "empty"
    for magic, words in _OTHERS:
        if head.startswith(magic):
            return words
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if packed := compression_of(head):
        return f"{packed} data (packed twice?)"
    if not head.strip(b"\x00"):
        return "nothing but zeros"
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "UTF-16 text"
    return _describe_text(head) or f"unknown data (it begins with {head[:8].hex(' ')})"


def not_a_capture(path: str, head: bytes, compression: str = "") -> str:
    """Return what to tell the user about bytes that are no capture.

    Parameters
    ----------
    path : str
        As given, ``-`` for standard input.
    head : bytes
        What it begins with, unpacked.
    compression : str
        How it was packed, empty if it was not.

    Returns
    -------
    str
        A sentence that says what it looks like and what to do.
    """
    name = "standard input" if path == "-" else path
    if compression and not head:
        return f"{name} is not a capture: nothing could be unpacked from its {compression} data"
    if not head:
        if path == "-":
            return "standard input held no data: is the command before the pipe writing a capture (tcpdump -w -)?"
        return f"{name} is empty: if a capture is running, wait until the first packets are written (tcpdump -U)"
    packed = f"{compression} of " if compression else ""
    return (
        f"{name} is not a capture, it looks like {packed}{describe(head)}; pcap and pcapng can be read, also compressed"
    )


def _describe_text(head: bytes) -> str:
    """Return in words what kind of text this is; empty if it is not text."""
    n_control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    if n_control or b"\x7f" in head:
        return ""
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    lower = text[:512].lower()
    if lower.startswith(("<!doctype html", "<html")):
        return "an HTML page (a download that asked to log in?)"
    if lower.startswith("<?xml"):
        return "XML"
    if text.startswith(("{", "[")):
        return "JSON"
    if text.startswith("#!"):
        return "a script"
    if " IP " in text[:512] and " > " in text[:512]:
        return "the printed output of tcpdump: capture again with `tcpdump -w FILE`"
    if text.startswith("0000"):
        return "a hex dump: convert it with `text2pcap`"
    return "text"
