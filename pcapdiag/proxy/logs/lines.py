"""Lines of a log file: unpacked, decoded, and freed of what containers and collectors wrap around them.

Knows files, encodings and wrappers; knows nothing of what a line says. Memory stays bounded whatever the file holds.
"""

from __future__ import annotations

import json
import os
import re
import stat
from codecs import getincrementaldecoder
from html import unescape
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

_ISO: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)"
_WRAPPER: Final = re.compile(
    r"(?:\x1b\[[0-9;]*m)*"
    r"(?:\[pod/[^\]\s]+\] |[\w.-]+ +\| )?"  # kubectl logs --prefix, docker compose
    r"(?:\x1b\[[0-9;]*m)*"
    r"(?:"
    rf"(?P<time>{_ISO}) (?:(?:stdout|stderr) (?P<part>[FP]) )?"  # kubectl logs --timestamps, docker logs -t, CRI
    r"|(?:<\d{1,3}>)?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (?:\S+ )?[\w./-]+(?:\[\d+\])?: "  # BSD syslog, journalctl
    rf"|<\d{{1,3}}>1 (?P<sent>{_ISO}) \S+ \S+ \S+ \S+ (?:-|\[[^\]]*\]) (?:\ufeff)?"  # RFC 5424
    r")?"
)
_WRAPPING: Final = re.compile(r"(?:\x1b|\[pod/|[\w.-]+ +\| |\d{4}-\d\d-\d\dT|<\d|[A-Z][a-z]{2} [ \d]\d )")
_DATED: Final = re.compile(r"[ \t]{1,16}\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[", re.ASCII)
_TEXT_KEYS: Final = ("log", "MESSAGE", "message", "msg", "textPayload", "@message", "line", "body", "_raw", "content")
_HOLDERS: Final = ("jsonPayload", "result", "_source", "event", "fields")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


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
            yield bytes(carry[:LONGEST_LINE]) + b"\n"
            del carry[:LONGEST_LINE]
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


class Unwrapper:
    """Takes off what Docker, Kubernetes, syslog and collectors wrap around a line, and joins the parts of long ones.

    `time` is what the runtime stamped the latest line with, as text; empty where it did not.

    Examples
    --------
    >>> Unwrapper().unwrap("2026-11-20T23:56:28.1Z stderr F text")
    'text'
    """

    def __init__(self) -> None:
        self.time = ""
        self._parts: list[str] = []
        self._n_chars = 0

    def unwrap(self, line: str) -> str | None:
        """Return the line inside; None if more of it follows on the next line.

        Parameters
        ----------
        line : str
            As in the file.

        Returns
        -------
        str or None
            The same if nothing is wrapped around it.
        """
        text, is_part = line, False
        self.time = ""
        if line.startswith("{"):
            text, is_part, self.time = _unwrap_json(line)
        elif _WRAPPING.match(line):
            # One of the alternatives of the pattern is the empty text, so that it always matches.
            end = 0
            if match := _WRAPPER.match(line):
                end, is_part = match.end(), match["part"] == "P"
                self.time = match["time"] or match["sent"] or ""
            text = _COLOUR.sub("", line[end:])
        # A pager or a terminal's column puts blanks before each line; a record that goes on may begin with them.
        if text[:1] in {" ", "\t"} and _DATED.match(text):
            text = text.lstrip(" \t")
        # What a web page showed: no quote is left in such a line.
        if "&quot;" in text and '"' not in text:
            text = unescape(text)
        if is_part and self._n_chars + len(self._parts) < LONGEST_LINE:
            self._parts.append(text)
            self._n_chars += len(text)
            return None
        return self.rest() + text if self._parts else text

    def rest(self) -> str:
        """Return what waits for an end that did not come."""
        rest = "".join(self._parts)
        self._parts.clear()
        self._n_chars = 0
        return rest


def _unwrap_json(line: str) -> tuple[str, bool, str]:
    """Return the text inside a JSON object, whether more follows, and its time; the line itself if it wraps none."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return line, False, ""
    if not isinstance(values, dict):
        return line, False, ""
    time = values.get("time")
    held = next((v for key in _HOLDERS if isinstance(v := values.get(key), dict)), None)
    if held is not None and not any(isinstance(values.get(key), str) for key in _TEXT_KEYS):
        values = held
    for key in _TEXT_KEYS:
        text = values.get(key)
        if isinstance(text, str):
            # Docker keeps the line's own end; where it is missing, the line goes on in the next object.
            is_part = key == "log" and "stream" in values and not text.endswith("\n") and len(text) >= 16000
            return text.rstrip("\r\n"), is_part, time if isinstance(time, str) else ""
    return line, False, ""
