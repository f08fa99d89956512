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
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import MissingExtraError, UsageError
from pcapdiag.privacy.files import alias_of, is_telling_stem, stem_of
from pcapdiag.privacy.forms import (
    ARPA,
    INNER_NAME,
    NUMERIC,
    Number,
    find_addresses,
    find_forms,
    from_arpa,
    is_distinctive,
    is_dotted_name,
    parse_address,
    read_host,
)
from pcapdiag.privacy.secret import Decoded, decode

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
        self._most_parts = 0
        self._aliases: dict[str, str] = {}
        self._files: re.Pattern[str] | None = None
        self._named: re.Pattern[str] | None = None

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
        self,
        *,
        names: Iterable[str] = (),
        uids: Mapping[str, str] | None = None,
        paths: Iterable[str] = (),
        groups: Iterable[str] = (),
        texts: Iterable[str] = (),
    ) -> None:
        """Take note of what is to be recognised in texts.

        Parameters
        ----------
        names : iterable of str
            Names of machines, as Host fields and logs have them.
        uids : mapping, optional
            Identifiers of connections, which are made of addresses, and those of the same with other addresses.
        paths : iterable of str
            Files that were given: of their names only the kind is told.
        groups : iterable of str
            Names of groups of peers, as the configuration has them; those that may be a word only where they are named.
        texts : iterable of str
            Whatever may hold addresses that are to be recognised in other notations, too.
        """
        groups = {name.lower() for name in groups} - {""}
        words = sorted(name for name in groups if len(name) < _LEAST_NAME or name in _COMMON_NAMES)
        if words:
            self._named = re.compile(
                rf"(?i)(?P<before>\bupstream |://)(?P<name>{'|'.join(map(re.escape, words))})(?![\w-])"
            )
        for name in (*names, *groups):
            plain = _host_of(name)
            if "." in plain or len(plain) >= _LEAST_NAME:
                self._known.add(plain)
        for name in sorted(name for name in self._known if "." in name and is_dotted_name(name)):
            # What people call a machine for short: the same other name as in the long one.
            short = name.partition(".")[0]
            if is_distinctive(short) and short not in self._known:
                self._names.setdefault(short, self._by_labels(name).partition(".")[0])
                self._known.add(short)
        paths = list(paths)
        self._known.update(stem for path in paths if is_telling_stem(stem := stem_of(path)))
        self._known -= _COMMON_NAMES
        self._most_parts = max((len(re.split(r"[-_.]+", name)) for name in self._known), default=0)
        self._uids.update(uids or {})
        for text in texts:
            for address in find_addresses(text):
                self._other_address(address)
        for path in filter(None, paths):
            name = PurePath(path).name
            alias = self._aliases.get(name) if "/" not in path else None
            alias = self._aliases.setdefault(path, alias or alias_of(name, len(self._aliases) // 2 + 1))
            self._aliases.setdefault(name, alias)
        known = sorted(filter(None, self._aliases), key=lambda p: (-len(p), p))
        self._files = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, known))})(?![\w-])") if known else None

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
        if value >> 120 == 0:
            # Reserved, and NAT64: from an octet that no machine has, the walk below may never come to one that it has.
            return self._within_reserved(value)
        return self._walk(value, 6)

    def _within_reserved(self, value: int) -> int:
        if (6, value) not in self._addresses:
            image = int(self._crypto_pan.anonymize_bin(value, 6)) & (1 << 120) - 1
            self._addresses[6, value] = image
        return self._addresses[6, value]

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
        if parse_address(name.strip("[]")) is not None:
            return self.text(host)
        return f"{self.name(name)}{colon}{port}"

    def name(self, name: str) -> str:
        """Return another name, each label as long as before; names under one domain stay under one domain."""
        lower = name.lower()
        if lower in _COMMON_NAMES or not lower:
            return name
        return self._by_labels(lower)

    def _by_labels(self, lower: str) -> str:
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
        """Return a text with other addresses and names in it, however they are written.

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
        if self._named is not None and not same_length:
            text = self._named.sub(lambda m: m["before"] + self._by_labels(m["name"].lower()), text)
        if self._files is not None:
            text = self._files.sub(lambda match: self._file(match[0], same_length=same_length), text)
        decoded = decode(text) or Decoded(text, range(len(text) + 1))
        parts, at = [], 0
        for start, end, kind in find_forms(decoded.text):
            found = decoded.text[start:end]
            other = self._other(found, kind, guess=guess)
            if other == found:
                continue
            first, last = decoded.places[start], decoded.places[end]
            if same_length and (kind != "word" or len(other) != last - first):
                other = re.sub(r"[0-9A-Za-z]", MASK, text[first:last])
            parts += [text[at:first], other]
            at = last
        return "".join((*parts, text[at:])) if parts else text

    def _file(self, path: str, *, same_length: bool) -> str:
        return MASK * len(path) if same_length else self._aliases[path]

    def _other(self, found: str, kind: str, *, guess: bool) -> str:
        """Return what stands for an address or a name, given as the text has it."""
        if kind == "home":
            return MASK
        if kind == "uid":
            return self._uids.get(found, re.sub(r"[A-Za-z0-9+/]", MASK, found.partition("=")[0]) + found[30:])
        if kind == "mac":
            separator = found[2]
            return self.mac(bytes.fromhex(found.replace(separator, ""))).hex(separator)
        if kind == "host":
            return self._other_of(read_host(found))
        if kind == "word":
            return self._other_word(found, guess=guess)
        return self._other_address(found)

    def _other_address(self, found: str) -> str:
        address = parse_address(found)
        return found if address is None else self._written(address)

    def _written(self, address: IPv4Address | IPv6Address) -> str:
        """Return the other address of one, as it is usually written."""
        if isinstance(address, IPv4Address):
            return str(IPv4Address(self.ipv4(int(address))))
        if address.ipv4_mapped is not None:
            return f"::ffff:{IPv4Address(self.ipv4(int(address.ipv4_mapped)))}"
        return str(IPv6Address(self.ipv6(int(address))))

    def _other_word(self, found: str, *, guess: bool) -> str:
        lower = found.lower()
        if lower in self._known:
            return self.name(found)
        reverse = from_arpa(lower) if lower.endswith(ARPA) else None
        if reverse is not None:
            other = parse_address(self._written(reverse))
            return other.reverse_pointer if other is not None else found
        if guess and is_dotted_name(found):
            return self.name(found)
        found = NUMERIC.sub(self._other_number, found)
        if guess:
            found = INNER_NAME.sub(lambda m: self.name(m[0]) if is_dotted_name(m[0]) else m[0], found)
        return self._with_other_names(found) if self._known else found

    def _other_number(self, match: re.Match[str]) -> str:
        return self._other_of(Number.read(match))

    def _other_of(self, number: Number) -> str:
        for value, write in number.readings():
            if number.is_certain or (number.version, value) in self._addresses:
                return write(self.ipv4(value) if number.version == 4 else self.ipv6(value))
        return number.text

    def _with_other_names(self, found: str) -> str:
        """Return a word with other names for the known ones that are parts of it."""
        bounds = [0, *(at for match in re.finditer(r"[-_.]+", found) for at in match.span()), len(found)]
        starts, ends, lower = bounds[::2], bounds[1::2], found.lower()
        parts, at, number = [], 0, 0
        while number < len(starts):
            behind = range(min(number + self._most_parts, len(ends)), number, -1)
            last = next((n for n in behind if lower[starts[number] : ends[n - 1]] in self._known), 0)
            if last:
                parts += [found[at : starts[number]], self.name(found[starts[number] : ends[last - 1]])]
                at = ends[last - 1]
            number = max(last, number + 1)
        return "".join((*parts, found[at:])) if parts else found


def _host_of(name: str) -> str:
    """Return the name alone of what a Host field holds."""
    return name.rpartition("@")[2].partition(":")[0].lower().strip(".")
