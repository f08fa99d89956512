"""Notations of addresses and names: where they stand in a text, what they mean, and how the like is written.

Knows notations; not what stands for what. An address may be dotted, dashed, reversed, hexadecimal or one number; what
is only a number is an address if it is known to be one.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_UID: Final = r"1:[A-Za-z0-9+/]{27}=@-?[0-9]+"
_MAC: Final = r"(?<![\w:-])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![\w:-])"
_V6: Final = (
    r"(?<![\w:.])(?=[0-9A-Fa-f:]{0,39}:[0-9A-Fa-f]{0,4}:)"
    r"(?:[0-9A-Fa-f:]{1,39}:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:]{2,39})(?![\w:])"
)
_V4: Final = r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9A-Za-z])"
_WORD: Final = r"(?<![\w.-])[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?(?![\w-])"
_HOME: Final = r"(?<=/home/)[^/\s\"':]+|(?<=[/\\]Users[/\\])[^/\\\s\"':]+"
_WITH_COLONS: Final = re.compile(f"(?P<home>{_HOME})|(?P<uid>{_UID})|(?P<mac>{_MAC})|(?P<address>{_V6})")
_WITHOUT: Final = re.compile(f"(?P<address>{_V4})|(?P<word>{_WORD})")
_ADDRESS: Final = re.compile(f"{_V6}|(?<![0-9.])[0-9]{{1,3}}(?:\\.[0-9]{{1,3}}){{3}}(?![0-9])")
_DOTTED: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})\.)+[A-Za-z]{2,24}")
INNER_NAME: Final = re.compile(r"(?<![A-Za-z0-9.])(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![A-Za-z0-9._])")
"""A name with a domain that is part of a longer word."""
# What looks like a name but ends like a file, or is a product.
_NO_NAMES: Final = frozenset(
    """
    access bak bz2 cap cert cfg cgi conf crt css csv gif gz html ico ini jpg js json key log lua lz4 md old pcap pcapng
    pem php pid png py rb sh so sock svg tar toml txt woff xml xz yaml yml zip zst
    """.split()  # noqa: SIM905 - fifty quoted words are harder to read and to check
)
_LEAST_LABEL: Final = 4
# Words of protocols and encodings that somebody may have called a machine.
_TERMS: Final = frozenset(
    ("base64", "http1", "http2", "http3", "http-2", "ipv4", "ipv6", "sha1", "sha256", "utf-8", "x86-64")
)
ARPA: Final = ".arpa"
_ARPA_V4: Final = ".in-addr.arpa"
_ARPA_V6: Final = ".ip6.arpa"

_QUAD: Final = r"[0-9]{1,3}(?P<sep>[._-])[0-9]{1,3}(?P=sep)[0-9]{1,3}(?P=sep)[0-9]{1,3}"
_PART: Final = r"(?:0[xX][0-9A-Fa-f]{1,8}|[0-9]{1,11})"
NUMERIC: Final = re.compile(
    rf"(?<![0-9.])(?P<quad>{_QUAD})(?![0-9])"
    r"|(?<![0-9A-Za-z.])(?P<octets>0[xX][0-9A-Fa-f]{1,2}(?:\.0[xX][0-9A-Fa-f]{1,2}){3})(?![0-9A-Za-z])"
    r"|(?<![0-9A-Za-z])(?P<hex>(?:0[xX])?(?:[0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}))(?![0-9A-Za-z])"
    rf"|(?<![0-9A-Za-z.])(?P<inet>{_PART}(?:\.{_PART}){{1,3}}|0[xX][0-9A-Fa-f]{{7}}|0[0-7]{{8,11}})(?![0-9A-Za-z]|\.[0-9A-Za-z])"
    r"|(?<![0-9A-Za-z.])(?P<decimal>[0-9]{8,10})(?![0-9A-Za-z])"
)
"""What may be an address as a part of a word."""
_TWO_NUMBERS: Final = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}")
_PORT: Final = re.compile(r":[0-9]{1,5}(?![0-9])")
_CERTAIN: Final = re.compile(r"(?i)(?:^|[._-])(?:ip|node|host|addr)[._-]?$")


def find_forms(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield begin, end and kind of everything in a text that may be an address, a name or made of them."""
    at = 0
    for match in _WITH_COLONS.finditer(text):
        if match["address"] and parse_address(match[0]) is None:
            continue  # a time, or two names
        yield from _find_words(text, at, match.start())
        yield match.start(), match.end(), str(match.lastgroup)
        at = match.end()
    yield from _find_words(text, at, len(text))


def _find_words(text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    for match in _WITHOUT.finditer(text, start, end):
        kind = str(match.lastgroup)
        if kind == "word" and _TWO_NUMBERS.fullmatch(match[0]) and _is_host(text, match.start(), match.end()):
            kind = "host"
        yield match.start(), match.end(), kind


def _is_host(text: str, start: int, end: int) -> bool:
    """Whether a host stands there: behind `//` or `@`, or before a port."""
    return text[max(start - 2, 0) : start] == "//" or text[start - 1 : start] == "@" or bool(_PORT.match(text, end))


def read_host(text: str) -> Number:
    """Return two numbers that stand where a host does, as an address."""
    return Number(4, _read_inet(text, is_host=True), "inet", text, is_certain=False)


def find_addresses(text: str) -> list[str]:
    """Return the addresses in the usual notations that stand in a text, also as parts of words."""
    return [match[0] for match in _ADDRESS.finditer(text)]


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a text is, leading zeros or not; None if it is none."""
    try:
        if ":" in text:
            return IPv6Address(text)
        octets = text.split(".")
        return IPv4Address(".".join(str(int(o)) for o in octets)) if all(map(str.isdecimal, octets)) else None
    except AddressValueError:
        return None


def is_dotted_name(text: str) -> bool:
    """Whether a text looks like the name of a machine with its domain, and not like that of a file."""
    return _DOTTED.fullmatch(text) is not None and text.lower().rpartition(".")[2] not in _NO_NAMES


def from_arpa(name: str) -> IPv4Address | IPv6Address | None:
    """Return the address whose reverse name this is; None if it is that of none."""
    if name.endswith(_ARPA_V4):
        return parse_address(".".join(reversed(name.removesuffix(_ARPA_V4).split("."))))
    nibbles = name.removesuffix(_ARPA_V6).split(".")
    if not name.endswith(_ARPA_V6) or len(nibbles) != 32 or not re.fullmatch(r"[0-9a-f]{32}", "".join(nibbles)):
        return None
    return IPv6Address(int("".join(reversed(nibbles)), 16))


class Number(NamedTuple):
    """A part of a word that may be an address.

    Attributes
    ----------
    version : int
        4 or 6.
    data : bytes
        The address, if it is one.
    form : str
        ``quad``, ``octets``, ``hex``, ``inet`` (whatever else inet_aton reads) or ``decimal``.
    text : str
        As it stands there.
    is_certain : bool
        Whether it is an address, known or not: four dotted numbers are, and four dashed ones behind ``ip-``.
    """

    version: int
    data: bytes
    form: str
    text: str
    is_certain: bool

    @classmethod
    def read(cls, match: re.Match[str]) -> Number:
        """Return what a match of `NUMERIC` is; without data if it cannot be an address."""
        form, text = next((name, value) for name, value in match.groupdict().items() if value and name != "sep")
        if form == "quad":
            octets = [int(o) for o in text.split(match["sep"])]
            is_certain = match["sep"] == "." or _CERTAIN.search(match.string[max(match.start() - 8, 0) : match.start()])
            return cls(4, bytes(octets) if max(octets) < 256 else b"", form, text, bool(is_certain))
        if form == "octets":
            return cls(4, bytes(int(o, 16) for o in text.split(".")), form, text, is_certain=True)
        if form == "inet":
            return cls(4, _read_inet(text, is_host=False), form, text, is_certain=False)
        if form == "decimal":
            value = int(text)
            return cls(4, value.to_bytes(4, "big") if value < 1 << 32 else b"", form, text, is_certain=False)
        data = bytes.fromhex(text[2:] if text[1] in "xX" else text)
        return cls(6 if len(data) == 16 else 4, data, form, text, is_certain=False)

    def readings(self) -> Iterator[tuple[int, Callable[[int], str]]]:
        """Yield the addresses that it may be, and what writes another one in the same way; also read backwards."""
        if not self.data:
            return
        yield int.from_bytes(self.data, "big"), lambda value: self._write(value.to_bytes(len(self.data), "big"))
        if self.form == "hex" and len(self.text) == 8 and self.text.isdecimal():
            # So many digits may be a number of any base.
            data = _read_inet(self.text, is_host=False)
            if data:
                yield int.from_bytes(data, "big"), lambda value: _write_inet(self.text, value.to_bytes(4, "big"))
        if self.form in {"quad", "hex"} and not self.is_certain:
            yield (
                int.from_bytes(self.data, "little"),
                lambda value: self._write(value.to_bytes(len(self.data), "little")),
            )

    def _write(self, data: bytes) -> str:
        if self.form == "quad":
            return next(c for c in self.text if not c.isdecimal()).join(map(str, data))
        if self.form == "octets":
            return ".".join(f"0x{octet:02x}" for octet in data)
        if self.form == "inet":
            return _write_inet(self.text, data)
        if self.form == "decimal":
            return str(int.from_bytes(data, "big"))
        is_prefixed = self.text[1] in "xX"
        digits = self.text[2:] if is_prefixed else self.text
        plain = data.hex().upper() if digits != digits.lower() else data.hex()
        return self.text[:2] + plain if is_prefixed else plain


def _read_inet(text: str, *, is_host: bool) -> bytes:
    """Return the address that inet_aton reads: octal and hexadecimal parts, the last of which fills what is left.

    `10.1` is an address only where a host stands, behind `//` or `@` or before a port: elsewhere it is a version.
    """
    parts = text.split(".")
    if any(part[0] == "0" and part[1:].isdecimal() and not set(part) <= set("01234567") for part in parts):
        return b""
    *octets, rest = (int(part, 16 if part[1:2] in {"x", "X"} else 8 if part[0] == "0" else 10) for part in parts)
    n_left = 4 - len(octets)
    if any(octet > 255 for octet in octets) or rest >> 8 * n_left:
        return b""
    if _TWO_NUMBERS.fullmatch(text) and not is_host:
        return b""
    return bytes(octets) + rest.to_bytes(n_left, "big")


def _write_inet(text: str, data: bytes) -> str:
    """Return an address with as many parts as a text has, each in its base."""
    parts = text.split(".")
    values = [*data[: len(parts) - 1], int.from_bytes(data[len(parts) - 1 :], "big")]
    return ".".join(
        f"{part[:2]}{value:x}"
        if part[1:2] in {"x", "X"}
        else f"0{value:o}"
        if part[0] == "0" and part[1:]
        else str(value)
        for part, value in zip(parts, values, strict=True)
    )


def is_distinctive(label: str) -> bool:
    """Whether one label of a name is hardly a word: of letters, with a digit or a hyphen in it."""
    return (
        len(label) >= _LEAST_LABEL
        and any(map(str.isalpha, label))
        and ("-" in label or any(map(str.isdecimal, label)))
        and label not in _TERMS
    )
