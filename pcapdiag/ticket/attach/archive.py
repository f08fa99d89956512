"""Reading a bundle that may come from anywhere: its names, sizes and hashes are checked before anything is sent.

Nothing is unpacked to the disk. Memory and time are bounded by the limits below, whatever the file claims.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, NoReturn

from pcapdiag.base.errors import UsageError
from pcapdiag.base.suggest import cannot_open
from pcapdiag.ticket.manifest import MAX_BYTES, MAX_MEMBERS, NAME, Manifest, Member, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BUNDLE_BYTES = 1 << 30
MAX_UNPACKED_BYTES = 2 << 30
MAX_TICKET_BYTES = 2 << 20

_END = b"PK\x05\x06"
_END_BYTES = 22
_ZIP64 = b"PK\x06\x07"
_ZIP64_BYTES = 20
_MAX_DIRECTORY_BYTES = 256 * (MAX_MEMBERS + 1)
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_MODE = stat.S_IFREG | 0o600
_PIECE_BYTES = 1 << 20
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,  # an offset before the beginning
    RuntimeError,  # encrypted, or a version of ZIP that we do not write
    ValueError,
    OverflowError,
)


class Bundle:
    """A checked bundle, open for reading.

    Parameters
    ----------
    file : file object
        The open bundle; the caller closes it.
    path : str
        For messages.

    Raises
    ------
    UsageError
        It is no bundle, is damaged, or does not hold what its manifest says.
    """

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._file = file
        self._path = path
        self.n_bytes = file.seek(0, os.SEEK_END)
        if self.n_bytes > MAX_BUNDLE_BYTES:
            self._refuse(f"it is larger than {MAX_BUNDLE_BYTES >> 30} GiB")
        self._check_end()
        try:
            with zipfile.ZipFile(file) as archive:
                self.manifest, self._tickets = self._check(archive)
        except _DAMAGED as error:
            self._refuse(str(error))
        self.sha256 = self._hash()

    @property
    def name(self) -> str:
        """What the attached file is called: the same bytes of the same report have the same name."""
        return f"pcapdiag-{self.manifest.report}-{self.sha256[:12]}.zip"

    @contextmanager
    def reopened(self) -> Iterator[IO[bytes]]:
        """Give the whole bundle to read from its beginning; whoever gets it may close it."""
        with os.fdopen(os.dup(self._file.fileno()), "rb") as file:
            file.seek(0)
            yield file

    def ticket(self, name: str) -> str:
        """Return the report as a ticket system wants it, such as ``ticket/jira.txt``."""
        if name not in self._tickets:
            self._refuse(f"it holds no {name}")
        return self._tickets[name]

    def _check_end(self) -> None:
        """Look at the last record before the directory is read, whose size the file claims itself."""
        self._file.seek(max(self.n_bytes - _END_BYTES - _ZIP64_BYTES, 0))
        end = self._file.read()
        locator, record = end[:-_END_BYTES], end[-_END_BYTES:]
        directory_bytes = int.from_bytes(record[12:16], "little")
        if (
            len(record) < _END_BYTES
            or not record.startswith(_END)
            or locator.startswith(_ZIP64)
            or directory_bytes > _MAX_DIRECTORY_BYTES
            or int.from_bytes(record[10:12], "little") > MAX_MEMBERS + 1
        ):
            self._refuse("it does not end as a bundle ends")

    def _check(self, archive: zipfile.ZipFile) -> tuple[Manifest, dict[str, str]]:
        entries = archive.infolist()
        if not entries or entries[0].filename != NAME:
            self._refuse(f"its first entry is not {NAME}")
        if any(e.compress_type not in _COMPRESSIONS for e in entries):
            self._refuse("it is compressed in a way that pcapdiag does not use")  # others unpack without a bound
        with archive.open(entries[0]) as file:
            manifest = self._manifest(file.read(MAX_BYTES + 1))
        # Names are taken from the manifest, where only harmless ones are possible, and must be those of the archive.
        if [e.filename for e in entries[1:]] != [m.name for m in manifest.members]:
            self._refuse(f"its {NAME} lists other files than it holds")
        if sum(m.n_bytes for m in manifest.members) > MAX_UNPACKED_BYTES:
            self._refuse(f"it unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB")
        if any(e.external_attr >> 16 != _MODE for e in entries):
            self._refuse("it holds something else than plain files for their owner")  # a link, when unpacked
        tickets = {}
        for entry, member in zip(entries[1:], manifest.members, strict=True):
            with archive.open(entry) as content:
                kept = self._check_member(content, member)
            if member.name.startswith("ticket/"):
                tickets[member.name] = kept.decode()
        return manifest, tickets

    def _manifest(self, data: bytes) -> Manifest:
        try:
            return parse_manifest(data)
        except UsageError as error:
            self._refuse(str(error))

    def _check_member(self, file: IO[bytes], member: Member) -> bytes:
        """Read a member to its end, at most one byte beyond what the manifest says; return a ticket's content."""
        is_ticket = member.name.startswith("ticket/")
        if is_ticket and member.n_bytes > MAX_TICKET_BYTES:
            self._refuse(f"{member.name} is larger than any ticket takes")
        digest, left, kept = hashlib.sha256(), member.n_bytes + 1, b""
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            digest.update(piece)
            left -= len(piece)
            kept += piece if is_ticket else b""
        if left != 1 or digest.hexdigest() != member.sha256:
            self._refuse(f"{member.name} is not what {NAME} says; it was changed or damaged")
        return kept

    def _hash(self) -> str:
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type] # a protocol, met

    def _refuse(self, why: str) -> NoReturn:
        msg = f"{self._path} cannot be attached: {why}"
        raise UsageError(msg)


@contextmanager
def open_bundle(path: str) -> Iterator[Bundle]:
    """Open a bundle and check all of it.

    Parameters
    ----------
    path : str
        What `pcapdiag analyze --bundle` wrote.

    Yields
    ------
    Bundle
        Open until the block is left.

    Raises
    ------
    UsageError
        There is no such file, or it is no intact bundle.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115, PTH123 - closed below; a path that cannot be read is said otherwise
    except OSError as error:
        raise UsageError(cannot_open(path, error)) from error
    with file:
        if not file.seekable():
            msg = f"{path} is no file; write the bundle to a file first"
            raise UsageError(msg)
        yield Bundle(file, path)
