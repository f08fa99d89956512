"""TLS bytes as a client and a server send them, for scripts of `tests.scenario`."""

import struct

HANDSHAKE, ALERT, CHANGE, DATA = 22, 21, 20, 23
CHANGE_CIPHER_SPEC = b"\x14\x03\x03\x00\x01\x01"
HELLO_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def record(kind, body, version=0x0303):
    """Return a record."""
    return struct.pack(">BHH", kind, version, len(body)) + body


def alert(description, level=2):
    """Return an alert in clear."""
    return record(ALERT, bytes([level, description]))


def extension(number, data):
    """Return an extension of a hello."""
    return struct.pack(">HH", number, len(data)) + data


def protocols(*names):
    """Return an ALPN extension."""
    listed = b"".join(bytes([len(n)]) + n.encode() for n in names)
    return extension(16, struct.pack(">H", len(listed)) + listed)


def message(kind, body):
    """Return a handshake message."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def client_hello(*, name="", alpn=(), versions=(), legacy=0x0303, padding=0):
    """Return the record of a client hello."""
    extensions = b""
    if name:
        entry = b"\0" + struct.pack(">H", len(name)) + name.encode()
        extensions += extension(0, struct.pack(">H", len(entry)) + entry)
    extensions += protocols(*alpn) if alpn else b""
    if versions:
        listed = b"".join(struct.pack(">H", v) for v in versions)
        extensions += extension(43, bytes([len(listed)]) + listed)
    extensions += extension(21, bytes(padding)) if padding else b""
    body = struct.pack(">H", legacy) + bytes(range(32)) + b"\0" + struct.pack(">HH", 2, 0x1301) + b"\1\0"
    return record(HANDSHAKE, message(1, body + struct.pack(">H", len(extensions)) + extensions), 0x0301)


def server_hello(*, version=0x0303, alpn="", random=bytes(32)):
    """Return the record of a server hello."""
    extensions = protocols(alpn) if alpn else b""
    if version > 0x0303:
        extensions += extension(43, struct.pack(">H", version))
    body = struct.pack(">H", min(version, 0x0303)) + random + b"\0" + b"\x13\x01\0"
    return record(HANDSHAKE, message(2, body + struct.pack(">H", len(extensions)) + extensions))


def quoted(data):
    """Return bytes as a script of `tests.scenario` has them."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'
