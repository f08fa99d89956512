"""Unpacks gzip, zstd, xz, bzip2 and lz4 piece by piece: bounded memory whatever the input claims.

Each codec is a generator of pieces of at most `PIECE_BYTES`. It ends where the stored bytes end, raises `EOFError` if
that is too early and `DamagedError` where the data is damaged; the pieces before are good. Knows nothing of what the
bytes are for: captures and logs are read through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        decompressor = new()
        fed = rest.lstrip(b"\x00") if n_members else rest
        n_members += 1
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
        rest = decompressor.unused_data or b""


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


class _Exact:
    """Reads exactly as many bytes as asked for."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._buffer = b""

    def read(self, n_bytes: int) -> bytes:
        """Return `n_bytes` bytes; fewer only at the end."""
        parts = [self._buffer]
        n_have = len(self._buffer)
        while n_have < n_bytes and (more := self._stored.read(1 << 17)):
            parts.append(more)
            n_have += len(more)
        data = b"".join(parts)
        self._buffer = data[n_bytes:]
        return data[:n_bytes]

    def need(self, n_bytes: int) -> bytes:
        """Return `n_bytes` bytes or raise `EOFError`."""
        data = self.read(n_bytes)
        if len(data) < n_bytes:
            raise EOFError
        return data


def _zstd(stored: Stored) -> Iterator[bytes]:
    """Unpack zstd block by block (RFC 8878 section 3.1.1), because the library has no bound on what a step returns."""
    import zstandard  # noqa: PLC0415

    exact = _Exact(stored)
    while head := exact.read(4):
        if len(head) < 4:
            raise EOFError
        if head[1:] == _SKIPPABLE and head[0] >> 4 == 5:
            n_skip = int.from_bytes(exact.need(4), "little")
            while n_skip:
                n_skip -= len(exact.need(min(n_skip, 1 << 16)))
            continue
        if head != zstandard.FRAME_HEADER:
            msg = "other bytes after the compressed data"
            raise DamagedError(msg)
        head += exact.need(2)
        try:
            head += exact.need(zstandard.frame_header_size(head) - len(head))
            has_checksum = zstandard.get_frame_parameters(head).has_checksum
            decompressor = zstandard.ZstdDecompressor().decompressobj()
            if piece := decompressor.decompress(head):
                yield piece
            is_last = False
            while not is_last:
                block = exact.need(3)
                is_last = bool(block[0] & 1)
                is_repeated = block[0] >> 1 & 3 == 1
                n_bytes = 1 if is_repeated else int.from_bytes(block, "little") >> 3
                block += exact.need(n_bytes + (4 if is_last and has_checksum else 0))
                if piece := decompressor.decompress(block):
                    yield piece
        except zstandard.ZstdError as error:
            raise DamagedError(str(error)) from error


_CODECS: Final[dict[str, Callable[[Stored], Iterator[bytes]]]] = {
    "gzip": _gzip,
    "zstd": _zstd,
    "xz": _xz,
    "bzip2": _bzip2,
    "lz4": _lz4,
}
