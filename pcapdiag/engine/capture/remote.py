"""Reads a capture from an object store or a server, by URL, through fsspec: in ranges, never the whole at once.

The same methods as `sources.Stored`; what a URL may hold and how a lost connection shows. Credentials come from where
each client looks for them (environment, configuration of fsspec, keys of ssh), never from the URL: it stands
in reports.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from glob import has_magic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pcapdiag.base.errors import CaptureError, MissingExtraError, UsageError
from pcapdiag.engine.capture.ssh import open_ssh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET: Final = re.compile(r"://[^/@:]*:(?!\d*/)[^@]*@")
"""A password, also one that holds what does not belong into a URL."""

_FIRST_BYTES: Final = 64 << 10
"""[bytes] Asked for at first: most files are only looked at."""

_BLOCK_BYTES: Final = 4 << 20
"""[bytes] Asked for then: few requests for a large file, little memory for many small ones."""

_EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "sftp": "remote", "ssh": "remote"}
_LOST: Final = "the connection was lost or the server refused"
_ANSWERS_S: Final = 60.0
"""[s] How long a server that is connected may stay silent."""

_PATIENCE_S: Final = 30.0
_REST_S: Final = 60.0
_in_vain: dict[str, tuple[float, float]] = {}
"""By server: how long was waited for nothing since its last answer, and when that ended [s]."""


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
    if _SECRET.search(url):
        msg = f"{url.partition(':')[0]}://...: leave the password out of the URL, which stands in reports; see the"
        raise UsageError(f"{msg} configuration of fsspec (FSSPEC_{url.partition(':')[0].upper()})")  # noqa: TRY003, EM102 - one sentence
    try:
        parts = urlsplit(url)
    except ValueError as error:
        msg = f"{url} is no URL that can be understood ({error})"
        raise UsageError(msg) from error
    if parts.query and parts.scheme in {"http", "https"}:
        msg = f"{parts.scheme}://{parts.hostname}: a URL with a query may hold a secret, and stands in reports; pipe"
        raise UsageError(f"{msg} what it leads to: curl URL | pcapdiag analyze -")  # noqa: TRY003, EM102 - the same
    fsspec = _fsspec()
    if parts.scheme not in fsspec.available_protocols():
        msg = f"{url}: nothing here knows {parts.scheme}://; copy the file here, or pipe it into `-`"
        raise UsageError(msg)
    try:
        with _patience(url):
            if parts.scheme not in {"sftp", "ssh"}:
                fs, path = fsspec.core.url_to_fs(url)
            else:
                fs, path = open_ssh(url, _ANSWERS_S / 2)
                # Else a server that vanishes without a word would be waited for for ever.
                fs.client.get_transport().set_keepalive(int(_ANSWERS_S / 4))
                fs.ftp.get_channel().settimeout(_ANSWERS_S)
    except ImportError as error:
        extra = _EXTRAS.get(parts.scheme)
        what = f"pip install 'pcapdiag[{extra}]'" if extra else str(error)
        msg = f"{url}: a package for {parts.scheme}:// is not installed: {what}"
        raise MissingExtraError(msg) from error
    except CaptureError:
        raise
    except Exception as error:  # the client's own errors are many and have no common base; some connect at once
        raise remote_error(url, error) from error
    return fs, str(path)


@contextmanager
def _patience(url: str) -> Iterator[None]:
    """Bound the time spent on a server that does not answer: files are many, and clients try again and again."""
    server = "/".join(url.split("/", 3)[:3])
    waited_s, until = _in_vain.get(server, (0.0, 0.0))
    start = time.monotonic()
    if waited_s >= _PATIENCE_S and start - until < _REST_S:
        msg = f"cannot open {url}: {_LOST} (nothing was asked: {waited_s:.0f} s were waited for nothing before)"
        raise CaptureError(msg)
    try:
        yield
    except (FileNotFoundError, PermissionError, ImportError):
        _in_vain.pop(server, None)  # an answer, or no question
        raise
    except Exception:
        now = time.monotonic()
        _in_vain[server] = waited_s + now - start, now
        raise
    _in_vain.pop(server, None)


@lru_cache(maxsize=1)
def _fsspec() -> ModuleType:
    try:
        import fsspec  # noqa: PLC0415 - only a URL needs it
    except ImportError as error:
        msg = "captures by URL need fsspec: pip install 'pcapdiag[remote]', or with 's3' or 'gcs' in its place"
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


def remote_error(url: str, error: Exception, fs: Any = None) -> CaptureError:
    """Return what to raise when a remote file cannot be opened."""
    if fs is not None:
        _forget(fs, error)
    if isinstance(error, FileNotFoundError):
        return CaptureError(f"cannot open {url}: there is no such object")
    if isinstance(error, PermissionError):
        return CaptureError(f"cannot open {url}: access denied; check the credentials of the client")
    return CaptureError(f"cannot open {url}: {_LOST} ({_one_line(error)})")


def _forget(fs: Any, error: Exception) -> None:
    """Let the next file have a new client, unless this one got an answer: its connection may be lost for good."""
    if not isinstance(error, FileNotFoundError | PermissionError):
        fs.clear_instance_cache()


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
        self._url = url
        fs, path = file_system(url)
        try:
            with _patience(url):
                self._file = fs.open(path, "rb", block_size=_FIRST_BYTES, cache_type="none")
                self.size = _size_of(self._file)
        except CaptureError:
            raise
        except Exception as error:
            raise remote_error(url, error, fs) from error
        self._fs, self._path = fs, path
        self.is_live = False
        self.bytes_read = 0
        self.error: OSError | None = None
        self._piece = memoryview(b"")
        self._digest = hashlib.sha256()

    def peek(self, n_bytes: int) -> bytes:
        """Return the first bytes without consuming them."""
        while len(self._piece) < n_bytes and (more := self._fetch(max(n_bytes, _FIRST_BYTES))):
            self._piece = memoryview(bytes(self._piece) + more)
        return bytes(self._piece[:n_bytes])

    def readinto(self, view: memoryview) -> int:
        """Fill the beginning of `view` with what there is; 0 means the end."""
        if not self._piece:
            self._piece = memoryview(self._fetch(_BLOCK_BYTES if self.bytes_read else _FIRST_BYTES))
        n_read = min(len(self._piece), len(view))
        view[:n_read] = self._piece[:n_read]
        self._piece = self._piece[n_read:]
        return n_read

    def read(self, n_bytes: int) -> bytes:
        """Return at least one byte and at most `n_bytes`; none at the end."""
        buffer = bytearray(n_bytes)
        n_read = self.readinto(memoryview(buffer))
        return bytes(memoryview(buffer)[:n_read])

    def is_ready(self, timeout_s: float) -> bool:  # noqa: ARG002 - the method of every kind of source
        """Return whether a read would return at once: as for a file, nobody waits for more."""
        return True

    def _fetch(self, n_bytes: int) -> bytes:
        if self.error is not None:
            return b""
        if self.size >= 0:
            n_bytes = min(n_bytes, self.size - self.bytes_read)
        try:
            with _patience(self._url):
                piece = self._read_on(n_bytes)
        except Exception as error:  # noqa: BLE001 - every client has errors of its own
            _forget(self._fs, error)
            self.error = OSError(getattr(error, "errno", None) or 0, f"{_LOST} ({_one_line(error)})")
            return b""
        if not piece and self.bytes_read < self.size:
            self.error = OSError(0, f"the object ended at {self.bytes_read} of {self.size} bytes")
        self.bytes_read += len(piece)
        self._digest.update(piece)
        return piece

    def _read_on(self, n_bytes: int) -> bytes:
        try:
            return _read_range(self._file, self.bytes_read, n_bytes)
        except ValueError:
            if not self._url.startswith("http"):
                raise
        # A web server that knows no ranges: all of it in one answer, from the beginning.
        self._file.close()
        self._file = self._fs.open(self._path, "rb", block_size=0)
        n_left = self.bytes_read
        while n_left and (skipped := self._file.read(min(n_left, _BLOCK_BYTES))):
            n_left -= len(skipped)
        return bytes(self._file.read(n_bytes))

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


def _read_range(file: Any, offset: int, n_bytes: int) -> bytes:
    """Return what there is of a range of a file that is open at this offset."""
    if n_bytes > 0 and hasattr(file, "readv"):
        # sftp hands out 32 KiB at a time: asked for one after the other, each would cost a round trip.
        return b"".join(file.readv([(offset, n_bytes)]))
    return bytes(file.read(n_bytes))


def _size_of(file: Any) -> int:
    """Return the size of an open file [bytes]; -1 if the server does not say."""
    size = file.size if hasattr(file, "size") else file.seek(0, os.SEEK_END) or file.tell()
    if not hasattr(file, "size"):
        file.seek(0)
    return -1 if size is None else int(size)


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
        raise remote_error(url, error, fs) from error
    # Where the host is no part of the path (sftp), it must not get lost.
    parts = urlsplit(url)
    has_host = fs.storage_options.get("host") == parts.hostname
    files = {
        (f"{parts.scheme}://{parts.netloc}{name}" if has_host else fs.unstrip_protocol(name)): info
        for name, info in listed.items()
        if info.get("type") != "directory"
    }
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
        with _patience(url), fs.open(path, "rb", block_size=n_bytes, cache_type="none") as file:
            at = max(_size_of(file) - n_bytes, 0)
            head = _read_range(file, 0, n_bytes)
            file.seek(at)
            return head, _read_range(file, at, n_bytes)
    except CaptureError:
        raise
    except Exception as error:
        raise remote_error(url, error, fs) from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return _SECRET.sub("://...@", text)[:200]
