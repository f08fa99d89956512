"""What the first bytes of a TLS connection say: records, both hellos, alerts.

Knows RFC 8446 and RFC 5246 as far as they are in clear; dpkt takes hellos apart. The bytes are hostile and may be cut:
what cannot be read is not known.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pcapdiag.base.sequence import sequence_difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.engine.asides.collect import Aside

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO = 1, 2
TLS_13 = 0x0304
PLAIN_ALERT_BYTES = 2
"""[bytes] An alert in clear: level and description. An encrypted one is longer."""
HIDDEN_ALERT_BYTES = 19
"""[bytes] An alert of TLS 1.3 under encryption (RFC 8446 section 5.2)."""
FINISHED_LENGTHS = frozenset({45, 53, 69})
"""[bytes] A Finished of TLS 1.3 under encryption: 4 and a hash of 32 or 48, its type, a tag of 16 or of 8."""
NO_CERTIFICATE_LENGTHS = frozenset({17, 25})
"""[bytes] The same of a client's Certificate message that holds none (RFC 8446 section 4.4.2)."""
MOST_BODY_BYTES = 4_096
"""[bytes] Kept of one record: a hello over several segments is put together."""
_MOST_RECORD_BYTES = 16_384 + 2_048
"""[bytes] RFC 5246 section 6.2.3: no record is longer."""
_MOST_RECORDS = 64
_HEADER_BYTES = 5
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS = 0, 16, 43

CLOSE_NOTIFY, USER_CANCELED, NO_RENEGOTIATION = 0, 90, 100
FATAL = 2
ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""Names of alerts (RFC 8446 section 6, RFC 5246 section 7.2, RFC 7301)."""
_VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}


@dataclass(slots=True)
class TlsRecord:
    """One TLS record; `body` is what was captured of it without a gap, at most `MOST_BODY_BYTES`."""

    type: int
    length: int
    aside: Aside
    body: bytearray = field(default_factory=bytearray)

    @property
    def is_whole(self) -> bool:
        """Whether all of it is in `body`."""
        return len(self.body) >= self.length


@dataclass(frozen=True, slots=True)
class Flow:
    """The beginning of one direction.

    Attributes
    ----------
    records : tuple of TlsRecord
        In stream order.
    plain : bytes
        What came in place of a first record; empty if records came, or nothing.
    plain_aside : Aside or None
        Where it came.
    is_known : bool
        Whether no record can have been missed among the segments that were kept.
    """

    records: tuple[TlsRecord, ...]
    plain: bytes = b""
    plain_aside: Aside | None = None
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Hello:
    """What a hello says; empty where it was not captured whole.

    Attributes
    ----------
    versions : tuple of int
        Those offered, best first; of a server the one that it chose.
    server_name : str
        SNI; hostile text.
    alpn : tuple of str
        Protocols offered or chosen; hostile text.
    is_whole : bool
        Whether all extensions were read: else what is absent is not known.
    """

    versions: tuple[int, ...] = ()
    server_name: str = ""
    alpn: tuple[str, ...] = ()
    is_whole: bool = False


def version_name(version: int) -> str:
    """Return ``TLS 1.2`` and the like."""
    if version in _VERSIONS:
        return _VERSIONS[version]
    return "TLS 1.3 (a draft)" if version >> 8 == 0x7F else f"version 0x{version & 0xFFFF:04x}"


def alert_name(description: int) -> str:
    """Return the name of an alert, or its number where it has none."""
    return ALERTS.get(description, f"number {description}")


def is_tls_13(version: int) -> bool:
    """Tell whether a version, chosen by a server, encrypts all after the hellos; drafts of it too."""
    return version == TLS_13 or version >> 8 == 0x7F


def read_flow(segments: Iterable[Aside], first_seq: int) -> Flow:
    """Walk the records of one direction.

    Parameters
    ----------
    segments : iterable of Aside
        Kept segments of this direction, in any order; repeated ones are passed over.
    first_seq : int
        Sequence number of the stream's first byte that matters.

    Returns
    -------
    Flow
    """
    walk = _Walk()
    order = sorted(segments, key=lambda aside: (sequence_difference(aside.seq, first_seq), aside.frame))
    for aside in order:
        walk.take(aside, sequence_difference(aside.seq, first_seq))
        if len(walk.records) >= _MOST_RECORDS:
            walk.is_known = False
            break
    return Flow(tuple(walk.records), bytes(walk.plain), walk.plain_aside, walk.is_known)


class _Walk:
    """Where the walk over one direction is: `end` is how far segments reach, `at` where the next record begins."""

    def __init__(self) -> None:
        self.records: list[TlsRecord] = []
        self.plain = b""
        self.plain_aside: Aside | None = None
        self.is_known = True
        self._end = 0
        self._at = 0
        self._is_lost = False
        self._carried = b""

    def take(self, aside: Aside, offset: int) -> None:
        """Go on with a segment that begins `offset` bytes into the stream."""
        data, stop = aside.data, offset + aside.length
        if offset < 0 or stop <= self._end:
            return
        if offset < self._end:
            data, offset = data[self._end - offset :], self._end
        elif offset > self._end:
            self.is_known = False
            self._carried = b""
            # Within the body of a known record nothing is lost but that.
            self._is_lost |= self._at < offset
            self._end = offset
        if self._is_lost:
            if not _begins_record(data):
                self._end = stop
                return
            self._is_lost, self._at = False, offset
        if not self.records and not self._carried and self._at == offset == 0 and not _begins_record(data):
            self.plain, self.plain_aside = data, aside
            self._is_lost, self._end = True, stop
            return
        self._records(aside, data, offset, stop)
        self._end = stop

    def _records(self, aside: Aside, data: bytes, offset: int, stop: int) -> None:
        position = offset
        if self._carried:
            data, position = self._carried + data, offset - len(self._carried)
            self._carried = b""
        begin = position
        if self.records and position < self._at and position == offset:
            # Only what follows without a gap belongs into the body.
            last = self.records[-1]
            if len(last.body) == last.length - (self._at - position):
                last.body += data[: min(self._at - position, MOST_BODY_BYTES - len(last.body))]
        while self._at < begin + len(data):
            piece = data[self._at - begin :]
            if len(piece) < _HEADER_BYTES:
                is_cut = len(data) < stop - begin
                self._is_lost |= is_cut
                self._carried = b"" if is_cut else piece
                self.is_known &= not is_cut
                return
            if not _begins_record(piece):
                self._is_lost, self.is_known = True, False
                return
            length = piece[3] << 8 | piece[4]
            body = piece[_HEADER_BYTES : _HEADER_BYTES + min(length, MOST_BODY_BYTES)]
            self.records.append(TlsRecord(piece[0], length, aside, bytearray(body)))
            self._at += _HEADER_BYTES + length
            if len(self.records) >= _MOST_RECORDS:
                return
        if self._at < stop:
            # The next header was sent in this segment and not kept.
            self._is_lost, self.is_known = True, False


def _begins_record(data: bytes) -> bool:
    if len(data) < _HEADER_BYTES:
        # A header that is cut: as far as it goes.
        return bool(data) and CHANGE_CIPHER_SPEC <= data[0] <= APPLICATION + 1 and data[1:2] in (b"", b"\3")
    is_type = CHANGE_CIPHER_SPEC <= data[0] <= APPLICATION + 1
    return is_type and data[1] == 3 and data[2] <= 4 and (data[3] << 8 | data[4]) <= _MOST_RECORD_BYTES


def messages(record: TlsRecord) -> Iterator[tuple[int, bytes, bool]]:
    """Yield the handshake messages of a record in clear: type, body, and whether it is whole."""
    body, at = bytes(record.body), 0
    while at + 4 <= len(body):
        size = int.from_bytes(body[at + 1 : at + 4], "big")
        content = body[at + 4 : at + 4 + size]
        yield body[at], content, len(content) == size
        at += 4 + size


def read_client_hello(body: bytes) -> Hello:
    """Read a client hello.

    Parameters
    ----------
    body : bytes
        The message without its header of four bytes, perhaps cut.

    Returns
    -------
    Hello
    """
    offered = struct.unpack_from("!H", body)[0] if len(body) >= 2 else 0
    extensions = _extensions(body, is_client=True)
    if extensions is None:
        return Hello()
    versions = [v for v in _words(extensions.get(_SUPPORTED_VERSIONS, b"")[1:]) if v & 0x0F0F != 0x0A0A]
    return Hello(
        versions=tuple(sorted(versions, reverse=True)) or (offered,),
        server_name=_server_name(extensions.get(_SERVER_NAME, b"")),
        alpn=_protocols(extensions.get(_ALPN, b"")),
        is_whole=True,
    )


def read_server_hello(body: bytes) -> Hello:
    """Read a server hello; parameters as for `read_client_hello`, `versions` is the one that it chose."""
    if len(body) < 2:
        return Hello()
    extensions = _extensions(body, is_client=False)
    version = struct.unpack_from("!H", body)[0]
    if extensions is None:
        return Hello()
    chosen = _words(extensions.get(_SUPPORTED_VERSIONS, b"")[:2])
    return Hello((chosen[0] if chosen else version,), "", _protocols(extensions.get(_ALPN, b"")), is_whole=True)


def _extensions(body: bytes, *, is_client: bool) -> dict[int, bytes] | None:
    """Return the extensions of a hello by number; None if it cannot be read."""
    import dpkt  # noqa: PLC0415 - a large table of ciphers is made with it
    from dpkt import ssl  # noqa: PLC0415

    try:
        hello = (ssl.TLSClientHello if is_client else ssl.TLSServerHello)(body)
    except (dpkt.Error, struct.error, IndexError, ValueError, TypeError, AttributeError, AssertionError):
        return None
    found: dict[int, bytes] = {}
    for number, data in getattr(hello, "extensions", ()):
        found.setdefault(number, data)
    return found


def _words(data: bytes) -> list[int]:
    return [data[at] << 8 | data[at + 1] for at in range(0, len(data) - 1, 2)]


def _server_name(data: bytes) -> str:
    """Return the first name of an SNI extension (RFC 6066 section 3)."""
    if len(data) < _HEADER_BYTES or data[2] != 0:
        return ""
    size = data[3] << 8 | data[4]
    return data[5 : 5 + size].decode("utf-8", errors="backslashreplace")


def _protocols(data: bytes) -> tuple[str, ...]:
    names, at = [], 2
    while at < len(data):
        size = data[at]
        if size:
            names.append(data[at + 1 : at + 1 + size].decode("utf-8", errors="backslashreplace"))
        at += 1 + size
    return tuple(names)
