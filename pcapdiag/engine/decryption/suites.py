"""From the secret of a session to what opens its records: cipher suites of TLS 1.2 and 1.3, by `cryptography`.

Knows RFC 5246, 5288, 6655, 7366, 7905 and 8446 as far as records are opened. Nothing is ever encrypted here.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

if TYPE_CHECKING:
    from collections.abc import Callable

TAG_BYTES: Final = 16
_SHORT_TAG_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_EXPLICIT_BYTES: Final = 8
_BLOCK_BYTES: Final = 16
_HASHES: Final = {"sha256": hashes.SHA256, "sha384": hashes.SHA384}


class Suite(NamedTuple):
    """A cipher suite: how records are opened, with how long a key, and the hash that keys are derived with.

    Attributes
    ----------
    kind : str
        ``gcm``, ``ccm``, ``ccm8``, ``chacha`` or ``cbc``.
    key_bytes : int
        [bytes]
    hash : str
        Of the derivation.
    mac : str
        With ``cbc``, of the code that stands behind the content; else empty.
    """

    kind: str
    key_bytes: int
    hash: str = "sha256"
    mac: str = ""


_GCM_128, _GCM_256 = Suite("gcm", 16), Suite("gcm", 32, "sha384")
_CHACHA: Final = Suite("chacha", 32)
SUITES: Final[dict[int, Suite]] = {
    0x1301: _GCM_128,
    0x1302: _GCM_256,
    0x1303: _CHACHA,
    0x1304: Suite("ccm", 16),
    0x1305: Suite("ccm8", 16),
    **dict.fromkeys((0x009C, 0x009E, 0x00A2, 0xC02B, 0xC02D, 0xC02F, 0xC031), _GCM_128),
    **dict.fromkeys((0x009D, 0x009F, 0x00A3, 0xC02C, 0xC02E, 0xC030, 0xC032), _GCM_256),
    **dict.fromkeys((0xCCA8, 0xCCA9, 0xCCAA), _CHACHA),
    **dict.fromkeys((0xC09C, 0xC09E, 0xC0AC), Suite("ccm", 16)),
    **dict.fromkeys((0xC09D, 0xC09F, 0xC0AD), Suite("ccm", 32)),
    **dict.fromkeys((0xC0A0, 0xC0A2, 0xC0AE), Suite("ccm8", 16)),
    **dict.fromkeys((0xC0A1, 0xC0A3, 0xC0AF), Suite("ccm8", 32)),
    **dict.fromkeys((0x002F, 0x0032, 0x0033, 0xC004, 0xC009, 0xC00E, 0xC013), Suite("cbc", 16, mac="sha1")),
    **dict.fromkeys((0x0035, 0x0038, 0x0039, 0xC005, 0xC00A, 0xC00F, 0xC014), Suite("cbc", 32, mac="sha1")),
    **dict.fromkeys((0x003C, 0x0040, 0x0067, 0xC023, 0xC025, 0xC027, 0xC029), Suite("cbc", 16, mac="sha256")),
    **dict.fromkeys((0x003D, 0x006A, 0x006B), Suite("cbc", 32, mac="sha256")),
    **dict.fromkeys((0xC024, 0xC026, 0xC028, 0xC02A), Suite("cbc", 32, "sha384", "sha384")),
}
"""By the number that a server's hello names; those of TLS 1.3 are below 0x1306 and above 0x1300."""


class Opener(Protocol):
    """Opens the records of one direction, one after the other."""

    def open(self, number: int, header: bytes, body: bytes) -> bytes | None:
        """Return what a record holds; None if the key does not fit it.

        Parameters
        ----------
        number : int
            Of the record, from 0 since its key is used.
        header : bytes
            Its five bytes.
        body : bytes
            All that follows them.
        """


class _Aead(Protocol):
    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


def _aead(suite: Suite, key: bytes) -> _Aead:
    if suite.kind == "chacha":
        return ChaCha20Poly1305(key)
    if suite.kind == "gcm":
        return AESGCM(key)
    return AESCCM(key, tag_length=_SHORT_TAG_BYTES if suite.kind == "ccm8" else TAG_BYTES)


class _Opener13:
    """RFC 8446 section 5.2; the content's type and padding are left at the end."""

    def __init__(self, suite: Suite, secret: bytes) -> None:
        self._aead = _aead(suite, expand_label(suite, secret, b"key", suite.key_bytes))
        self._iv = int.from_bytes(expand_label(suite, secret, b"iv", _NONCE_BYTES), "big")

    def open(self, number: int, header: bytes, body: bytes) -> bytes | None:
        """Return the inner plaintext."""
        return _decrypt(self._aead, (self._iv ^ number).to_bytes(_NONCE_BYTES, "big"), body, header)


class _Opener12:
    """AEAD in TLS 1.2: RFC 5288, 6655 and 7905."""

    def __init__(self, suite: Suite, key: bytes, iv: bytes) -> None:
        self._aead = _aead(suite, key)
        self._iv = iv
        self._tag_bytes = _SHORT_TAG_BYTES if suite.kind == "ccm8" else TAG_BYTES

    def open(self, number: int, header: bytes, body: bytes) -> bytes | None:
        """Return the content."""
        if len(self._iv) == _NONCE_BYTES:
            nonce = (int.from_bytes(self._iv, "big") ^ number).to_bytes(_NONCE_BYTES, "big")
        else:
            nonce, body = self._iv + body[:_EXPLICIT_BYTES], body[_EXPLICIT_BYTES:]
        n_bytes = len(body) - self._tag_bytes
        if n_bytes < 0 or len(nonce) != _NONCE_BYTES:
            return None
        return _decrypt(self._aead, nonce, body, _authenticated(number, header, n_bytes))


class _OpenerCbc:
    """AES-CBC in TLS 1.2: the code behind the content, inside the encryption (RFC 5246) or outside (RFC 7366)."""

    def __init__(self, suite: Suite, key: bytes, mac_key: bytes, *, is_mac_outside: bool) -> None:
        self._algorithm = algorithms.AES(key)
        self._mac_key = mac_key
        self._mac = suite.mac
        self._is_mac_outside = is_mac_outside

    def open(self, number: int, header: bytes, body: bytes) -> bytes | None:
        """Return the content."""
        n_mac = hashlib.new(self._mac).digest_size
        if self._is_mac_outside:
            body, code = body[:-n_mac], body[-n_mac:]
            if not self._is_signed(number, header, body, code):
                return None
        iv, encrypted = body[:_BLOCK_BYTES], body[_BLOCK_BYTES:]
        if not encrypted or len(encrypted) % _BLOCK_BYTES or len(iv) != _BLOCK_BYTES:
            return None
        decryptor = Cipher(self._algorithm, modes.CBC(iv)).decryptor()
        plain = decryptor.update(encrypted) + decryptor.finalize()
        end = len(plain) - plain[-1] - 1
        if self._is_mac_outside:
            return plain[:end] if end >= 0 else None
        if end < n_mac:
            return None
        content, code = plain[: end - n_mac], plain[end - n_mac : end]
        return content if self._is_signed(number, header, content, code) else None

    def _is_signed(self, number: int, header: bytes, data: bytes, code: bytes) -> bool:
        computed = hmac.digest(self._mac_key, _authenticated(number, header, len(data)) + data, self._mac)
        return hmac.compare_digest(computed, code)


def _authenticated(number: int, header: bytes, n_bytes: int) -> bytes:
    return number.to_bytes(8, "big") + header[:3] + n_bytes.to_bytes(2, "big")


def _decrypt(aead: _Aead, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
    try:
        return aead.decrypt(nonce, data, associated)
    except (InvalidTag, ValueError):
        return None


def expand_label(suite: Suite, secret: bytes, label: bytes, n_bytes: int) -> bytes:
    """Return HKDF-Expand-Label of RFC 8446 section 7.1, with an empty context."""
    label = b"tls13 " + label
    info = n_bytes.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
    return HKDFExpand(algorithm=_HASHES[suite.hash](), length=n_bytes, info=info).derive(secret)


def opener_13(suite: Suite, secret: bytes) -> Opener:
    """Return what opens the records of one direction in TLS 1.3 under a traffic secret."""
    return _Opener13(suite, secret)


def next_secret(suite: Suite, secret: bytes) -> bytes:
    """Return the traffic secret after a key update (RFC 8446 section 7.2)."""
    return expand_label(suite, secret, b"traffic upd", hashlib.new(suite.hash).digest_size)


def openers_12(
    suite: Suite, master: bytes, client_random: bytes, server_random: bytes, *, is_mac_outside: bool
) -> tuple[Opener, Opener]:
    """Return what opens the records of client and server in TLS 1.2.

    Parameters
    ----------
    suite : Suite
    master : bytes
        The master secret.
    client_random, server_random : bytes
        Of the hellos.
    is_mac_outside : bool
        Whether encrypt-then-MAC was agreed upon, which only CBC has.

    Returns
    -------
    client, server : Opener
    """
    n_mac = hashlib.new(suite.mac).digest_size if suite.mac else 0
    n_iv = 0 if suite.kind == "cbc" else _NONCE_BYTES if suite.kind == "chacha" else _NONCE_BYTES - _EXPLICIT_BYTES
    n_bytes = 2 * (n_mac + suite.key_bytes + n_iv)
    block = _prf(suite.hash, master, b"key expansion" + server_random + client_random, n_bytes)
    take = _cutter(block)
    macs = take(n_mac), take(n_mac)
    keys = take(suite.key_bytes), take(suite.key_bytes)
    ivs = take(n_iv), take(n_iv)
    if suite.kind == "cbc":
        client, server = (
            _OpenerCbc(suite, key, mac, is_mac_outside=is_mac_outside) for key, mac in zip(keys, macs, strict=True)
        )
        return client, server
    return _Opener12(suite, keys[0], ivs[0]), _Opener12(suite, keys[1], ivs[1])


def _cutter(block: bytes) -> Callable[[int], bytes]:
    at = 0

    def take(n_bytes: int) -> bytes:
        nonlocal at
        at += n_bytes
        return block[at - n_bytes : at]

    return take


def _prf(name: str, secret: bytes, seed: bytes, n_bytes: int) -> bytes:
    """Return the pseudorandom function of RFC 5246 section 5."""
    out, chained = b"", seed
    while len(out) < n_bytes:
        chained = hmac.digest(secret, chained, name)
        out += hmac.digest(secret, chained + seed, name)
    return out[:n_bytes]
