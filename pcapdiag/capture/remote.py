"""Reads a capture from an object store or a server, by URL, through fsspec: in ranges, never the whole at once.

The same methods as `sources.Stored`; what a URL may hold and how a lost connection shows. Credentials come from where
each client looks for them (environment, configuration of fsspec), never from the URL: it stands in reports.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from glob import has_magic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pcapdiag.errors import CaptureError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from types import ModuleType

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BLOCK_BYTES: Final = 4 << 20
"""[bytes] Asked for at once: few requests for a large file, little memory for many small ones."""

_EXTRAS: Final = {"s3": "s3", "s3a": "s3"}
_LOST: Final = "the connection was lost or the server refused"


def is_url(spec: str) -> bool:
    """Return whether a capture is named by URL."""
    return _URL.match(spec) is not None


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system that a URL leads to, and the path there.

    Parameters
    ----------
    url : str
        ``s3://bucket/key``, ``sftp://host/path``, whatever fsspec knows.

    Returns
    -------
    fs : fsspec.AbstractFileSystem
    path : str

    Raises
    ------
    MissingExtraError
        The package for this kind of URL is not installed.
    UsageError
        Nobody knows this kind of URL, or it holds a secret.
    """
    parts = urlsplit(url)
    if parts.password is not None:
        msg = f"{parts.scheme}://{parts.hostname}: leave the password out of the URL, which stands in reports; see"
        raise UsageError(f"{msg} the configuration of fsspec (FSSPEC_{parts.scheme.upper()})")  # noqa: TRY003, EM102 - one sentence
    if parts.query and parts.scheme in {"http", "https"}:
        msg = f"{parts.scheme}://{parts.hostname}: a URL with a query may hold a secret, and stands in reports; pipe"
        raise UsageError(f"{msg} what it leads to: curl URL | pcapdiag analyze -")  # noqa: TRY003, EM102 - the same
    fsspec = _fsspec()
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS.get(parts.scheme)
        what = f"pip install 'pcapdiag[{extra}]'" if extra else str(error)
        msg = f"{url}: a package for {parts.scheme}:// is not installed: {what}"
        raise MissingExtraError(msg) from error
    except ValueError as error:
        msg = f"{url}: nothing here knows {parts.scheme}://; copy the file here, or pipe it into `-`"
        raise UsageError(msg) from error
    return fs, str(path)


@lru_cache(maxsize=1)
def _fsspec() -> ModuleType:
    try:
        import fsspec  # noqa: PLC0415 - only a URL needs it
    except ImportError as error:
        msg = "captures by URL need fsspec: pip install 'pcapdiag[remote]', or 'pcapdiag[s3]' for s3://"
        raise MissingExtraError(msg) from error
    module: ModuleType = fsspec
    return module


def stamp_of(info: dict[str, Any]) -> tuple[int, str]:
    """Return size (-1 if not known) and what names the content of a remote file: ETag, version or time of change.

    Parameters
    ----------
    info : dict
        As `fs.info` returns it.
    """
    for key in ("ETag", "etag", "md5Hash", "generation", "LastModified", "mtime", "modified", "created"):
        if info.get(key):
            size = info.get("size")
            return (-1 if size is None else int(size)), f"{key}:{info[key]}".replace('"', "")
    size = info.get("size")
    return (-1 if size is None else int(size)), ""


def remote_error(url: str, error: Exception) -> CaptureError:
    """Return what to raise when a remote file cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return CaptureError(f"cannot open {url}: there is no such object")
    if isinstance(error, PermissionError):
        return CaptureError(f"cannot open {url}: access denied; check the credentials of the client")
    return CaptureError(f"cannot open {url}: {_LOST} ({_one_line(error)})")


class RemoteStored:
    """The bytes of a remote file as they are stored there.

    Parameters
    ----------
    url : str
        Where.

    Raises
    ------
    CaptureError
        It cannot be opened.
    """

    def __init__(self, url: str) -> None:
        fs, path = file_system(url)
        try:
            # The client's own errors are many and have no common base.
            self._file = fs.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="readahead")
        except Exception as error:
            raise remote_error(url, error) from error
        size = getattr(self._file, "size", None)
        self.size = -1 if size is None else int(size)
        self.is_live = False
        self.bytes_read = 0
        self.error: OSError | None = None
        self._head = b""
        self._digest = hashlib.sha256()

    def peek(self, n_bytes: int) -> bytes:
        """Return the first bytes without consuming them."""
        while len(self._head) < n_bytes and (piece := self._read(n_bytes - len(self._head))):
            self._head += piece
        return self._head

    def readinto(self, view: memoryview) -> int:
        """Fill the beginning of `view` with what there is; 0 means the end."""
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def read(self, n_bytes: int) -> bytes:
        """Return at least one byte and at most `n_bytes`; none at the end."""
        if self._head:
            piece, self._head = self._head[:n_bytes], self._head[n_bytes:]
            return piece
        return self._read(n_bytes)

    def is_ready(self, timeout_s: float) -> bool:  # noqa: ARG002 - the method of every kind of source
        """Return whether a read would return at once: as for a file, nobody waits for more."""
        return True

    def _read(self, n_bytes: int) -> bytes:
        if self.error is not None:
            return b""
        try:
            piece = bytes(self._file.read(min(n_bytes, _BLOCK_BYTES)))
        except Exception as error:  # noqa: BLE001 - every client has errors of its own
            self.error = OSError(getattr(error, "errno", None) or 0, f"{_LOST} ({_one_line(error)})")
            return b""
        if not piece and 0 <= self.bytes_read < self.size:
            self.error = OSError(0, f"the object ended at {self.bytes_read} of {self.size} bytes")
        self.bytes_read += len(piece)
        self._digest.update(piece)
        return piece

    @property
    def sha256(self) -> str:
        """Hex digest of what was read."""
        return self._digest.hexdigest()

    def n_grown(self) -> int:
        """Return 0: an object does not grow while it is read."""
        return 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that a URL leads to; `size` -1 and `version` empty where the server does not say."""

    url: str
    size: int
    version: str
    is_named: bool = False


def find_remote(url: str, *, recursive: bool) -> list[RemoteFile]:
    """Return the files that a URL names: itself, or those of a folder or glob, in order of their names.

    Parameters
    ----------
    url : str
        A file, a folder or a glob.
    recursive : bool
        Whether folders within a folder are looked into.

    Returns
    -------
    list of RemoteFile

    Raises
    ------
    CaptureError
        It does not exist, or cannot be reached.
    """
    fs, path = file_system(url)
    try:
        if has_magic(path):
            listed = fs.glob(path, detail=True)
        elif fs.isdir(path):
            listed = fs.find(path, maxdepth=None if recursive else 1, detail=True)
        else:
            return [RemoteFile(url, *stamp_of(fs.info(path)), is_named=True)]
    except Exception as error:
        raise remote_error(url, error) from error
    files = {fs.unstrip_protocol(name): info for name, info in listed.items() if info.get("type") != "directory"}
    return [RemoteFile(name, *stamp_of(files[name])) for name in sorted(files)]


def read_ends(url: str, n_bytes: int) -> tuple[bytes, bytes]:
    """Return the first and the last bytes of a remote file.

    Parameters
    ----------
    url : str
        Where.
    n_bytes : int
        [bytes] How many of each.

    Returns
    -------
    head, tail : bytes
        They overlap in a short file.

    Raises
    ------
    CaptureError
        It cannot be read.
    """
    fs, path = file_system(url)
    try:
        with fs.open(path, "rb", block_size=n_bytes, cache_type="none") as file:
            head = file.read(n_bytes)
            file.seek(max((file.size or 0) - n_bytes, 0), os.SEEK_SET)
            return bytes(head), bytes(file.read(n_bytes))
    except Exception as error:
        raise remote_error(url, error) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
