"""Unpacks gzip, zstd, xz, bzip2 and lz4 piece by piece: bounded memory whatever the input claims.

Each codec is a generator of pieces of at most `PIECE_BYTES`. It ends where the stored bytes end, raises `EOFError` if
that is too early and `DamagedError` where the data is damaged; the pieces before are good. Knows nothing of what the
bytes are for: captures and logs are read through it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

PIECE_BYTES: Final = 1 << 20
"""[bytes] Most that one step unpacks to."""

# What a decompressor unpacked in the very call that finds the damage is lost, so it is fed little at a time.
_FEED_BYTES: Final = 8192
_XZ_MEMORY_BYTES: Final = 256 << 20
_COMPRESSIONS: Final = (
    ("gzip", b"\x1f\x8b"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("xz", b"\xfd7zXZ\x00"),
    ("bzip2", b"BZh"),
    ("lz4", b"\x04\x22\x4d\x18"),
)
_SKIPPABLE: Final = b"\x2a\x4d\x18"


class Stored(Protocol):
    """The bytes as stored."""

    def read(self, n_bytes: int) -> bytes:
        """Return at least one byte and at most `n_bytes`; none at the end."""


class DamagedError(Exception):
    """The compressed data is damaged; the text is the library's."""


def compression_of(head: bytes) -> str:
    """Return ``gzip``, ``zstd``, ``xz``, ``bzip2``, ``lz4`` or, for anything else, the empty string."""
    for name, magic in _COMPRESSIONS:
        if head.startswith(magic):
            # "BZh" could begin a text; the level and the magic of the first block could not.
            if name == "bzip2" and not (head[3:4].isdigit() and head[4:10] in {b"1AY&SY", b"\x17rE8P\x90"}):
                continue
            return name
    # zstd and lz4 share the magic of skippable frames; pzstd begins its files with one.
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:
        return "lz4" if _COMPRESSIONS[4][1] in head else "zstd"
    return ""


def unpack(compression: str, stored: Stored) -> Iterator[bytes]:
    """Return the generator of unpacked pieces for a compression named by `compression_of`."""
    return _CODECS[compression](stored)


def _unpack_members(stored: Stored, magic: bytes, new: Callable[[], Any], errors: Any) -> Iterator[bytes]:
    """Unpack members of one kind that follow one another, as in the output of `cat a.gz b.gz`."""
    rest = b""
    n_members = 0
    while True:
        while len(rest) < len(magic) and (more := stored.read(_FEED_BYTES)):
            rest += more
        # Padding between and after members is allowed in gzip on tapes and in xz.
        if n_members and not rest.strip(b"\x00"):
            if not (more := stored.read(_FEED_BYTES)):
                return
            rest = more
            continue
        if n_members and magic not in rest[: rest.find(magic[:1]) + len(magic)].lstrip(b"\x00"):
            msg = f"{len(rest)} or more bytes after the compressed data"
            raise DamagedError(msg)
        fed = rest.lstrip(b"\x00") if n_members else rest
        n_members += 1
        rest = yield from _unpack_member(new(), fed, stored, errors)


def _unpack_member(decompressor: Any, fed: bytes, stored: Stored, errors: Any) -> Generator[bytes, None, bytes]:
    """Unpack one member, of which `fed` was read already; return what was read beyond its end."""
    while not decompressor.eof:
        if not fed and decompressor.needs_input and not (fed := stored.read(_FEED_BYTES)):
            raise EOFError
        try:
            piece = decompressor.decompress(fed, PIECE_BYTES)
        except errors as error:
            raise DamagedError(str(error)) from error
        fed = b""
        if piece:
            yield piece
    return decompressor.unused_data or b""


def _gzip(stored: Stored) -> Iterator[bytes]:
    from isal import igzip_lib  # noqa: PLC0415 - each codec is imported by those who need it

    def new() -> Any:
        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

    return _unpack_members(stored, b"\x1f\x8b", new, (igzip_lib.error,))


def _bzip2(stored: Stored) -> Iterator[bytes]:
    import bz2  # noqa: PLC0415

    return _unpack_members(stored, b"BZh", bz2.BZ2Decompressor, (OSError, ValueError))


def _xz(stored: Stored) -> Iterator[bytes]:
    import lzma  # noqa: PLC0415

    def new() -> Any:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    return _unpack_members(stored, b"\xfd7zXZ\x00", new, (lzma.LZMAError,))


def _lz4(stored: Stored) -> Iterator[bytes]:
    from lz4.frame import LZ4FrameDecompressor  # noqa: PLC0415

    return _unpack_members(stored, b"\x04\x22\x4d\x18", LZ4FrameDecompressor, (RuntimeError,))


def _zstd(stored: Stored) -> Iterator[bytes]:
    """Unpack frames that follow one another, those to be skipped among them (RFC 8878 section 3.1)."""
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415
    else:
        from backports import zstd  # noqa: PLC0415

    rest = b""
    while True:
        while len(rest) < 4 and (more := stored.read(_FEED_BYTES)):
            rest += more
        if not rest:
            return
        if len(rest) < 4:
            raise EOFError
        if not rest.startswith(b"\x28\xb5\x2f\xfd") and not (rest[1:4] == _SKIPPABLE and rest[0] >> 4 == 5):
            msg = "other bytes after the compressed data"
            raise DamagedError(msg)
        rest = yield from _unpack_member(zstd.ZstdDecompressor(), rest, stored, (zstd.ZstdError,))


_CODECS: Final[dict[str, Callable[[Stored], Iterator[bytes]]]] = {
    "gzip": _gzip,
    "zstd": _zstd,
    "xz": _xz,
    "bzip2": _bzip2,
    "lz4": _lz4,
}
