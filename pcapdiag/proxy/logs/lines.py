"""Lines of a log file: unpacked and decoded.

Knows files and encodings; what is wrapped around a line is known to `unwrap`. Memory stays bounded whatever the file
holds.
"""

from __future__ import annotations

import os
import stat
from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, Final

from pcapdiag.base.codecs import DamagedError, compression_of, unpack
from pcapdiag.base.errors import LogError
from pcapdiag.base.findings import Note
from pcapdiag.base.suggest import cannot_open

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from pcapdiag.proxy.logs.entries import LogCounts

LONGEST_LINE: Final = 1 << 18
"""[bytes] A longer line is cut into several."""

_BLOCK_BYTES: Final = 1 << 18
_HEAD_BYTES: Final = 4096
_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


class _Stored:
    """A file as it is stored, whose beginning can be looked at."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.head = b""
        while len(self.head) < _HEAD_BYTES and (piece := file.read(_HEAD_BYTES - len(self.head))):
            self.head += piece
        self._rest = self.head

    def read(self, n_bytes: int) -> bytes:
        """Return at least one byte and at most `n_bytes`; none at the end."""
        if self._rest:
            piece, self._rest = self._rest[:n_bytes], self._rest[n_bytes:]
            return piece
        return self._file.read(n_bytes)


def must_be_readable(path: str) -> None:
    """Raise `LogError` unless `path` can be opened as a file that has an end.

    Parameters
    ----------
    path : str
        What the user named as log.

    Raises
    ------
    LogError
        It is missing, no file, or must not be read.
    """
    _open(path).close()


def read_lines(path: str, counts: LogCounts) -> Iterator[tuple[int, list[str]]]:
    """Yield runs of lines, each with the number of its first line.

    Parameters
    ----------
    path : str
        A log file, compressed or not.
    counts : LogCounts
        Gets the number of lines and notes about the file.

    Yields
    ------
    tuple of int and list of str
        Number of the first line, from 1, and lines without their ends.

    Raises
    ------
    LogError
        It cannot be opened.
    """
    with _open(path) as file:
        for data in _whole_lines(_pieces(path, file, counts)):
            pieces = _decode(data).split("\n")
            if not pieces[-1]:
                pieces.pop()
            first = counts.n_lines + 1
            counts.n_lines += len(pieces)
            yield first, [_tidy(line) if line[-1:] == "\r" or "\0" in line else line for line in pieces]


def _open(path: str) -> BinaryIO:
    try:
        # Not to wait for whoever may write to a named pipe.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise LogError(cannot_open(path, error)) from error
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(fd, "rb", buffering=0)
    os.close(fd)
    if stat.S_ISDIR(mode):
        msg = f"{path} is a folder where a log file is needed"
        raise LogError(msg)
    what = "a pipe" if stat.S_ISFIFO(mode) else "a device"
    msg = f"{path} is {what} where a log file is needed: a log is read more than once, so save it to a file first"
    raise LogError(msg)


def _tidy(line: str) -> str:
    """Return a line without its carriage return and without the zeros that a truncated file in use is filled with."""
    return line.rstrip("\r").replace("\0", "")


def _pieces(path: str, file: BinaryIO, counts: LogCounts) -> Iterator[bytes]:
    """Yield the file's bytes, unpacked, as UTF-8 if it was UTF-16."""
    stored = _Stored(file)
    compression = compression_of(stored.head)
    pieces = unpack(compression, stored) if compression else iter(lambda: stored.read(_BLOCK_BYTES), b"")
    decoder = None
    is_first = True
    try:
        for piece in pieces:
            data = piece
            if is_first:
                is_first = False
                bom, encoding = next(((b, e) for b, e in _BOMS if data.startswith(b)), (b"", "utf-8"))
                data = data[len(bom) :]
                if encoding != "utf-8":
                    decoder = getincrementaldecoder(encoding)("replace")
            yield decoder.decode(data).encode("utf-8", "replace") if decoder else data
    except EOFError:
        counts.notes.append(Note("truncated-compression", f"the {compression} data ends too early", file=path))
    except DamagedError as error:
        text = f"the {compression} data is damaged, what follows is lost ({error})"
        counts.notes.append(Note("corrupt-compression", text, file=path))
    except OSError as error:
        counts.notes.append(Note("read-error", f"reading stopped: {error.strerror}", file=path))


def _whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Cut at ends of lines; a line that is too long is cut anywhere."""
    carry = bytearray()
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if end:
            yield bytes(carry) + piece[:end]
            carry.clear()
        carry += piece[end:]
        while len(carry) >= LONGEST_LINE:
            # An export may be one line: between two of its objects nothing is torn.
            end = carry.rfind(b"},", LONGEST_LINE // 2, LONGEST_LINE) + 2
            end = end if end > 1 else LONGEST_LINE
            yield bytes(carry[:end]) + b"\n"
            del carry[:end]
    if carry:
        yield bytes(carry)


def _decode(data: bytes) -> str:
    """Return the text of some lines; what is no UTF-8 is taken line by line for Latin-1, which loses nothing."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "\n".join(map(decode_line, data.split(b"\n")))


def decode_line(data: bytes) -> str:
    """Return the text of some bytes: UTF-8, or else Latin-1."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
