"""Other addresses and names for the same machines, everywhere alike: in packets, reports and lines of logs.

Addresses are mapped by Crypto-PAn, so that two of one network stay in one network; names label by label, each as long
as before, because packets must keep their length. Everything follows from a key that is random for each run, unless
PCAPDIAG_ANONYMIZE_KEY names one. This module knows addresses, names and texts; nothing of reports, nothing of packets.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEY_VARIABLE: Final = "PCAPDIAG_ANONYMIZE_KEY"
KEY_BYTES: Final = 64
MASK: Final = "x"

_LEAST_KEY: Final = 16
_MAPPED: Final = 0xFFFF
# First octets of addresses that name no machine: this network, loopback, multicast, reserved and broadcast.
_NO_MACHINE_V4: Final = frozenset((0, 127, *range(224, 256)))
_MULTICAST_V6: Final = 0xFF
_NO_MACHINE_V6: Final = frozenset((0, _MULTICAST_V6))
_SAME_V6: Final = frozenset((0, 1))

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_ALPHABET: Final = _LETTERS + "0123456789"
_SHORT: Final = 2

# Names that everybody has; and words that a report needs.
_COMMON_NAMES: Final = frozenset(
    ("localhost", "localhost.localdomain", "backend", "upstream", "proxy", "server", "client", "nginx", "default", "_")
)
_LEAST_NAME: Final = 4
"""A name without a dot that is shorter is not told from a word."""

_UID: Final = r"1:[A-Za-z0-9+/]{27}=@-?[0-9]+"
_MAC: Final = r"(?<![\w:-])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![\w:-])"
_V6: Final = (
    r"(?<![\w:.])(?=[0-9A-Fa-f:]*:[0-9A-Fa-f]*:)"
    r"(?:[0-9A-Fa-f:]{1,39}:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:]{2,39})(?![\w:])"
)
_V4: Final = r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])"
_NAME: Final = r"(?<![\w.-])[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?(?![\w-])"
_HOME: Final = r"(?<=/home/)[^/\s\"':]+|(?<=[/\\]Users[/\\])[^/\\\s\"':]+"
_ANY: Final = re.compile(
    f"(?P<home>{_HOME})|(?P<uid>{_UID})|(?P<mac>{_MAC})|(?P<v6>{_V6})|(?P<v4>{_V4})|(?P<name>{_NAME})"
)
_DOTTED: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})\.)+[A-Za-z]{2,24}")
# What looks like a name but ends like a file, or is a product.
_NO_NAMES: Final = frozenset(
    """
    access bak bz2 cap cert cfg cgi conf crt css csv gif gz html ico ini jpg js json key log lua lz4 md old pcap pcapng
    pem php pid png py rb sh so sock svg tar toml txt woff xml xz yaml yml zip zst
    """.split()  # noqa: SIM905 - fifty quoted words are harder to read and to check
)


class Anonymizer:
    """Maps addresses and names, always in the same way for the same key.

    Parameters
    ----------
    key : bytes
        `KEY_BYTES` bytes.

    Raises
    ------
    MissingExtraError
        The library is not installed.
    """

    def __init__(self, key: bytes) -> None:
        try:
            from yacryptopan import CryptoPAn  # noqa: PLC0415 - an extra
        except ImportError as error:
            msg = "--anonymize needs a library: pip install 'pcapdiag[anonymize]'"
            raise MissingExtraError(msg) from error
        self._crypto_pan = CryptoPAn(key[:32])
        self._secret = key[32:]
        self._addresses: dict[tuple[int, int], int] = {}
        self._names: dict[str, str] = {}
        self._known: set[str] = set()
        self._uids: dict[str, str] = {}
        self._paths: list[tuple[str, str]] = []

    def __repr__(self) -> str:
        return "<Anonymizer>"  # never its key

    @classmethod
    def from_environment(cls) -> Anonymizer:
        """Return one with the key that the environment names, or else a random one."""
        text = os.environ.get(KEY_VARIABLE, "")
        if not text:
            return cls(secrets.token_bytes(KEY_BYTES))
        if len(text) < _LEAST_KEY:
            msg = f"{KEY_VARIABLE} is too short: addresses are few, so a short key is no key; use 16 characters or more"
            raise UsageError(msg)
        return cls(hashlib.scrypt(text.encode(), salt=b"pcapdiag anonymize", n=1 << 14, r=8, p=1, dklen=KEY_BYTES))

    def learn(
        self, *, names: Iterable[str] = (), uids: Mapping[str, str] | None = None, paths: Iterable[str] = ()
    ) -> None:
        """Take note of what is to be recognised in texts.

        Parameters
        ----------
        names : iterable of str
            Names of machines, as Host fields and logs have them.
        uids : mapping, optional
            Identifiers of connections, which are made of addresses, and those of the same with other addresses.
        paths : iterable of str
            Files, of which only the last part is to be told.
        """
        for name in names:
            plain = _host_of(name)
            if "." in plain or len(plain) >= _LEAST_NAME:
                self._known.add(plain)
        self._known -= _COMMON_NAMES
        self._uids.update(uids or {})
        found = {path for path in paths if PurePath(path).name not in {"", path}} | {path for path, _ in self._paths}
        self._paths = [(path, PurePath(path).name) for path in sorted(found, key=lambda p: (-len(p), p))]

    def address(self, hi: int, lo: int) -> tuple[int, int]:
        """Return the halves of another address; IPv4 is mapped (``::ffff:a.b.c.d``) before and after."""
        if hi == 0 and lo >> 32 == _MAPPED:
            return 0, _MAPPED << 32 | self.ipv4(lo & 0xFFFFFFFF)
        value = self.ipv6(hi << 64 | lo)
        return value >> 64, value & 0xFFFFFFFFFFFFFFFF

    def ipv4(self, value: int) -> int:
        """Return another IPv4 address; those that name no machine stay what they are."""
        if value >> 24 in _NO_MACHINE_V4:
            return value
        return self._walk(value, 4)

    def ipv6(self, value: int) -> int:
        """Return another IPv6 address; of multicast addresses only flags and scope stay."""
        if value in _SAME_V6:
            return value
        if value >> 32 == _MAPPED:
            return _MAPPED << 32 | self.ipv4(value & 0xFFFFFFFF)
        if value >> 120 == _MULTICAST_V6:
            return value >> 112 << 112
        return self._walk(value, 6)

    def _walk(self, value: int, version: int) -> int:
        """Apply Crypto-PAn until the image names a machine again.

        Whether it does is a matter of the first octet alone, and Crypto-PAn maps first octets to first octets, so that
        all addresses that share one take the same number of steps: from 8 bits on, prefixes are preserved exactly.
        """
        known = self._addresses.get((version, value))
        if known is not None:
            return known
        image = value
        while True:
            image = int(self._crypto_pan.anonymize_bin(image, version))
            if image >> (24 if version == 4 else 120) not in (_NO_MACHINE_V4 if version == 4 else _NO_MACHINE_V6):
                break
        self._addresses[version, value] = image
        return image

    def packed(self, address: bytes) -> bytes:
        """Return another address of 4 or 16 bytes, or of 6 if it is one of the link layer."""
        if len(address) == 6:
            return self.mac(address)
        value = int.from_bytes(address, "big")
        image = self.ipv4(value) if len(address) == 4 else self.ipv6(value)
        return image.to_bytes(len(address), "big")

    def mac(self, address: bytes) -> bytes:
        """Return another link-layer address, locally administered; all zeros and broadcast stay, groups lose who."""
        if address in {b"\0" * 6, b"\xff" * 6}:
            return address
        if address[0] & 1:
            return address[:1] + b"\0" * 5
        image = bytearray(self._digest(b"mac", address)[:6])
        image[0] = image[0] & 0xFC | 2
        return bytes(image)

    def _digest(self, what: bytes, data: bytes) -> bytes:
        return hmac.digest(self._secret, what + b"\0" + data, "sha256")

    def host(self, host: str) -> str:
        """Return another host, with the same port, for a host as a Host field has it."""
        name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not colon or not port.isdecimal():
            name, colon, port = host, "", ""
        plain = name.strip("[]")
        if _is_address(plain):
            return self.text(host)
        return f"{self.name(name)}{colon}{port}"

    def name(self, name: str) -> str:
        """Return another name, each label as long as before; names under one domain stay under one domain."""
        lower = name.lower()
        if lower in _COMMON_NAMES or not lower:
            return name
        if lower not in self._names:
            labels = lower.split(".")
            self._names[lower] = ".".join(
                self._label(label, ".".join(labels[number:])) for number, label in enumerate(labels)
            )
        return self._names[lower]

    def _label(self, label: str, suffix: str) -> str:
        if not label or label == "*":
            return label
        if len(label) <= _SHORT:
            # So few are possible that they would collide; a permutation does not.
            return self._permuted(len(label)).get(label, MASK * len(label))
        stream = b"".join(
            self._digest(b"name %d" % part, suffix.encode(errors="surrogateescape"))
            for part in range(-(-len(label) // 32))
        )
        first = _LETTERS[stream[0] % len(_LETTERS)]
        return first + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in stream[1 : len(label)])

    @lru_cache(maxsize=_SHORT)  # noqa: B019 - two tables, and one object for each run
    def _permuted(self, length: int) -> dict[str, str]:
        words = list(_ALPHABET)
        for _ in range(length - 1):
            words = [word + char for word in words for char in _ALPHABET]
        images = sorted(words, key=lambda word: self._digest(b"short", word.encode()))
        return dict(zip(words, images, strict=True))

    def text(self, text: str, *, same_length: bool = False, guess: bool = True) -> str:
        """Return a text with other addresses and names in it.

        Parameters
        ----------
        text : str
            Prose, a line of a log, a field.
        same_length : bool
            Whether the text must stay as long as it is: then addresses are only masked.
        guess : bool
            Whether what looks like a name with a domain is taken for one; in our own prose it may be a setting.

        Returns
        -------
        str
        """
        for path, name in () if same_length else self._paths:
            text = text.replace(path, name)

        def other(match: re.Match[str]) -> str:
            return self._other(match, same_length=same_length, guess=guess)

        return _ANY.sub(other, text)

    def _other(self, match: re.Match[str], *, same_length: bool, guess: bool) -> str:
        kind, found = str(match.lastgroup), match[0]
        if kind == "home":
            return MASK * (len(found) if same_length else 1)
        if kind == "uid":
            return self._uids.get(found, re.sub(r"[A-Za-z0-9+/]", MASK, found.partition("=")[0]) + found[30:])
        if kind == "name":
            return self._other_name(found, guess=guess)
        if kind == "mac" or _is_address(found):
            if same_length:
                return re.sub(r"[0-9A-Fa-f]", MASK, found)
            return self._other_address(found, kind)
        return found

    def _other_address(self, found: str, kind: str) -> str:
        if kind == "mac":
            separator = found[2]
            return self.mac(bytes.fromhex(found.replace(separator, ""))).hex(separator)
        if kind == "v4":
            return str(IPv4Address(self.ipv4(int(IPv4Address(found)))))
        value = IPv6Address(found)
        if value.ipv4_mapped is not None:
            return f"::ffff:{IPv4Address(self.ipv4(int(value.ipv4_mapped)))}"
        return str(IPv6Address(self.ipv6(int(value))))

    def _other_name(self, found: str, *, guess: bool) -> str:
        lower = found.lower()
        if lower in self._known:
            return self.name(found)
        if guess and _DOTTED.fullmatch(found) and lower.rpartition(".")[2] not in _NO_NAMES:
            return self.name(found)
        return found


def _is_address(text: str) -> bool:
    try:
        IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _host_of(name: str) -> str:
    """Return the name alone of what a Host field holds."""
    return name.rpartition("@")[2].partition(":")[0].lower().strip(".")
