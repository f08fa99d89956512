"""One TLS connection with its secrets: records in, what they hold out.

Knows when each side begins to encrypt and when its keys change (RFC 5246 section 7.1, RFC 8446 sections 4.6.3 and 7.2).
A record that its key does not open ends it for that side: nothing is guessed. Behind a gap the number that a record has
is the one with which its key opens it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from pcapdiag.base.codes import Direction
from pcapdiag.engine.decryption.key_log import HANDSHAKE_SECRETS, MASTER, RANDOM_BYTES, TRAFFIC_SECRETS
from pcapdiag.engine.decryption.suites import SUITES, Opener, Suite, next_secret, opener_13, openers_12

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcapdiag.engine.decryption.records import WholeRecord

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION = 20, 21, 22, 23
_SERVER_HELLO, _ENCRYPTED_EXTENSIONS, _FINISHED, _KEY_UPDATE = 2, 8, 20, 24
_TLS_12, _TLS_13 = 0x0303, 0x0304
_ALPN, _ENCRYPT_THEN_MAC, _SUPPORTED_VERSIONS = 16, 22, 43
_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a server that asks for another hello (RFC 8446 section 4.1.3)."""
_MOST_MISSED: Final = 512
"""Records that one gap may hide."""
_MOST_SEARCHES: Final = 4
"""Gaps in a row behind which no number fits: a key was updated there, or the records are none."""
_MOST_MESSAGE_BYTES: Final = 1 << 18
"""[bytes] Of a handshake that is put together; chains of certificates are shorter."""


class Unread(IntEnum):
    """Why records are not read."""

    NO_KEY = 0
    """Nobody gave the secret of this session."""
    WRONG_KEY = 1
    """The secret that was given for it does not open its records."""
    NO_HELLO = 2
    """Its handshake was not captured from the first byte on."""
    BYTES_MISSING = 3
    """Too many bytes before it were not captured, or are no records."""
    NOT_SUPPORTED = 4
    """A version, a cipher suite or a feature that is not known here."""


class Content(NamedTuple):
    """What a record holds: its type, as it is inside the encryption, and its bytes."""

    type: int
    data: bytes


class TlsSession:
    """Opens the records of both directions, each in its order.

    Parameters
    ----------
    client_random : bytes
        Of the client's hello.
    secrets : mapping of str to bytes
        By label, as `KeyLog.secrets_of` gives them; asked for when the first encrypted record comes.

    Attributes
    ----------
    failures : dict of Direction to Unread
        Of the sides whose records are not read any more.
    alpn : str
        The protocol that the server chose; empty if it did not say, or that is not known.
    """

    def __init__(self, client_random: bytes, secrets: Mapping[str, bytes]) -> None:
        self.failures: dict[Direction, Unread] = {}
        self.alpn = ""
        self._client_random = client_random
        self._secrets = secrets
        self._suite: Suite | None = None
        self._version = 0
        self._server_random = b""
        self._is_mac_outside = False
        self._pair: tuple[Opener, Opener] | None = None
        self._sides = {Direction.ORIG: _Side(), Direction.RESP: _Side()}

    def open(self, direction: Direction, record: WholeRecord) -> Content | None:
        """Return what a record holds; None if it cannot be read, for which `failures` has the reason.

        Parameters
        ----------
        direction : Direction
            ORIG for the client's records.
        record : WholeRecord
            The next of that direction.
        """
        if direction in self.failures:
            return None
        side = self._sides[direction]
        content = self._content(direction, side, record)
        if content is None:
            return None
        if content.type == HANDSHAKE:
            self._read_messages(direction, side, content.data)
        elif content.type == CHANGE_CIPHER_SPEC and self._version == _TLS_12 and side.opener is None:
            self._begin_12(direction, side)
        return content

    def _content(self, direction: Direction, side: _Side, record: WholeRecord) -> Content | None:
        if record.type == CHANGE_CIPHER_SPEC or (side.opener is None and record.type != APPLICATION):
            return Content(record.type, record.body)
        if side.opener is None and not self._begin_13(direction, side):
            return None
        opener = side.opener
        if opener is None:
            return None
        if record.is_behind_gap or side.n_searches:
            plain = _open_behind_gap(side, opener, record)
            if plain is None and side.n_searches < _MOST_SEARCHES:
                return None
        else:
            plain = opener.open(side.number, record.header, record.body)
        if plain is None:
            # What opened others does not fit this one: a record before it is not what it seemed.
            self._fail(direction, Unread.BYTES_MISSING if side.has_opened else Unread.WRONG_KEY)
            return None
        side.number += 1
        side.has_opened = True
        if self._version != _TLS_13:
            return Content(record.type, plain)
        plain = plain.rstrip(b"\0")
        if not plain:
            self._fail(direction, Unread.WRONG_KEY)
            return None
        return Content(plain[-1], plain[:-1])

    def _fail(self, direction: Direction, failure: Unread) -> None:
        self.failures[direction] = failure

    def _begin_12(self, direction: Direction, side: _Side) -> None:
        suite, master = self._suite, self._secrets.get(MASTER)
        if suite is None:
            self._fail(direction, Unread.NOT_SUPPORTED)
        elif master is None:
            self._fail(direction, Unread.NO_KEY)
        else:
            if self._pair is None:
                self._pair = openers_12(
                    suite, master, self._client_random, self._server_random, is_mac_outside=self._is_mac_outside
                )
            side.opener = self._pair[direction]

    def _begin_13(self, direction: Direction, side: _Side) -> bool:
        """Make ready for the encrypted part of a handshake of TLS 1.3."""
        if self._version == 0:
            self._fail(direction, Unread.NO_HELLO)
        elif self._version != _TLS_13 or self._suite is None:
            self._fail(direction, Unread.NOT_SUPPORTED)
        else:
            secret = self._secrets.get(HANDSHAKE_SECRETS[direction])
            if secret is None or TRAFFIC_SECRETS[direction] not in self._secrets:
                self._fail(direction, Unread.NO_KEY)
            else:
                side.use(self._suite, secret)
        return side.opener is not None

    def _read_messages(self, direction: Direction, side: _Side, data: bytes) -> None:
        """Take in handshake messages; what follows them may have another key."""
        if self._version == _TLS_12 and side.opener is not None:
            # Finished, or a new handshake inside the old one (RFC 5746), whose secret a key log names by other randoms.
            if side.has_finished:
                self._fail(direction, Unread.NOT_SUPPORTED)
            side.has_finished = True
            return
        side.messages += data
        while len(side.messages) >= 4 and direction not in self.failures:
            end = 4 + int.from_bytes(side.messages[1:4], "big")
            if end > _MOST_MESSAGE_BYTES:
                self._fail(direction, Unread.NOT_SUPPORTED)
                return
            if end > len(side.messages):
                return
            kind, body = side.messages[0], bytes(side.messages[4:end])
            del side.messages[:end]
            self._read_message(direction, side, kind, body)

    def _read_message(self, direction: Direction, side: _Side, kind: int, body: bytes) -> None:
        if kind == _SERVER_HELLO and direction is Direction.RESP and side.opener is None:
            self._read_server_hello(body)
        elif kind == _ENCRYPTED_EXTENSIONS and direction is Direction.RESP:
            self._read_alpn(_extensions(body).get(_ALPN, b""))
        elif self._version == _TLS_13 and side.opener is not None and self._suite is not None:
            if kind == _FINISHED and not side.has_finished:
                side.has_finished = True
                side.use(self._suite, self._secrets[TRAFFIC_SECRETS[direction]])
            elif kind == _KEY_UPDATE and side.has_finished:
                side.use(self._suite, next_secret(self._suite, side.secret))

    def _read_server_hello(self, body: bytes) -> None:
        n_id = body[34] if len(body) > 34 else 0
        at = 35 + n_id
        if len(body) < at + 3:
            return
        random, extensions = body[2 : 2 + RANDOM_BYTES], _extensions(body[at + 3 :])
        if random == _RETRY:
            return
        self._server_random = random
        chosen = extensions.get(_SUPPORTED_VERSIONS, body[:2])
        self._version = int.from_bytes(chosen[:2], "big")
        is_compressed = body[at + 2] != 0
        suite = SUITES.get(int.from_bytes(body[at : at + 2], "big"))
        self._suite = suite if self._version in (_TLS_12, _TLS_13) and not is_compressed else None
        self._is_mac_outside = _ENCRYPT_THEN_MAC in extensions
        self._read_alpn(extensions.get(_ALPN, b""))

    def _read_alpn(self, extension: bytes) -> None:
        if len(extension) > 3:
            self.alpn = extension[3 : 3 + extension[2]].decode("ascii", errors="replace")


class _Side:
    """How far one direction is."""

    def __init__(self) -> None:
        self.opener: Opener | None = None
        self.secret = b""
        self.number = 0
        self.n_searches = 0
        self.has_opened = False
        self.has_finished = False
        self.messages = bytearray()

    def use(self, suite: Suite, secret: bytes) -> None:
        """Open what follows with another traffic secret."""
        self.opener, self.secret, self.number = opener_13(suite, secret), secret, 0


def _open_behind_gap(side: _Side, opener: Opener, record: WholeRecord) -> bytes | None:
    """Open a record before which some may be missing: its number is the first with which that succeeds."""
    side.messages.clear()
    for number in range(side.number, side.number + _MOST_MISSED):
        plain = opener.open(number, record.header, record.body)
        if plain is not None:
            side.number, side.n_searches = number, 0
            return plain
    side.n_searches += 1
    return None


def _extensions(body: bytes) -> dict[int, bytes]:
    """Return the extensions behind the two bytes of their length, by number, as far as they are whole."""
    found: dict[int, bytes] = {}
    at, end = 2, 2 + int.from_bytes(body[:2], "big")
    while at + 4 <= min(end, len(body)):
        size = int.from_bytes(body[at + 2 : at + 4], "big")
        found.setdefault(int.from_bytes(body[at : at + 2], "big"), body[at + 4 : at + 4 + size])
        at += 4 + size
    return found
