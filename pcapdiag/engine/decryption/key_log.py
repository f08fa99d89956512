"""Secrets of TLS sessions, from files as SSLKEYLOGFILE makes them and from the secrets blocks of pcapng files.

Knows the lines (RFC 9850) and keeps what was asked for alone: a key log of months is read in passing. Hostile: a line
may be anything, and a file may be none that ends.
"""

from __future__ import annotations

import io
import os
import re
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from pcapdiag.base.errors import LogError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASTER: Final = "CLIENT_RANDOM"
"""Before the master secret of a session of TLS 1.2."""
HANDSHAKE_SECRETS: Final = ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET")
"""Of TLS 1.3, by direction: the handshake from the server's hello on."""
TRAFFIC_SECRETS: Final = ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0")
"""Of TLS 1.3, by direction: what follows the handshake."""
LABELS: Final = frozenset({MASTER, *HANDSHAKE_SECRETS, *TRAFFIC_SECRETS})

RANDOM_BYTES: Final = 32
MOST_LINE_BYTES: Final = 512
"""[bytes] A label, a random and the longest secret are half of it."""
MOST_FILE_BYTES: Final = 1 << 30
"""[bytes] Read of one key log: the sessions of some million connections."""
_SURE_BYTES: Final = 1 << 20
"""[bytes] So much without a line of a key log is none."""
_LINE: Final = re.compile(rb"\s*([A-Z][A-Z0-9_]{1,63}) ([0-9A-Fa-f]{64}) ((?:[0-9A-Fa-f]{2}){32,64})\s*")


class KeyLog:
    """The secrets of the sessions that were asked for.

    Parameters
    ----------
    wanted : iterable of bytes
        Client randoms.
    """

    def __init__(self, wanted: Iterable[bytes]) -> None:
        self._secrets: dict[bytes, dict[str, bytes]] = {random: {} for random in wanted}

    def secrets_of(self, client_random: bytes) -> Mapping[str, bytes]:
        """Return what is known of a session, by label; more may be known later."""
        return self._secrets.get(client_random, {})

    @property
    def n_known(self) -> int:
        """Of how many sessions anything is known."""
        return sum(bool(known) for known in self._secrets.values())

    def read(self, lines: IO[bytes]) -> None:
        """Take what the lines of a key log say of the wanted sessions.

        Parameters
        ----------
        lines : file of bytes
            Read to its end, or to `MOST_FILE_BYTES`.
        """
        n_left = MOST_FILE_BYTES
        # A line without end comes in pieces, none of which is one.
        while n_left > 0 and (line := lines.readline(MOST_LINE_BYTES)):
            n_left -= len(line)
            found = _LINE.fullmatch(line)
            if found is None:
                continue
            label, known = found[1].decode(), self._secrets.get(bytes.fromhex(found[2].decode()))
            if known is not None and label in LABELS:
                known[label] = bytes.fromhex(found[3].decode())

    def read_block(self, block: bytes) -> None:
        """Take what a secrets block of pcapng holds: the lines of a key log."""
        self.read(io.BytesIO(block))

    def read_file(self, path: str) -> None:
        """Take what a key log says.

        Parameters
        ----------
        path : str

        Raises
        ------
        LogError
            It cannot be read.
        UsageError
            It is no file, such as a pipe.
        """
        with _open(path) as file:
            try:
                self.read(file)
            except OSError as error:
                raise LogError(_cannot(path, error)) from error


def check_key_log(path: str) -> None:
    """Say now, not after a long read, that a file is no key log; an empty one may be.

    Parameters
    ----------
    path : str

    Raises
    ------
    LogError
        It cannot be read.
    UsageError
        It is no file, or holds other things than keys.
    """
    with _open(path) as file:
        n_read = 0
        try:
            while n_read < _SURE_BYTES and (line := file.readline(MOST_LINE_BYTES)):
                n_read += len(line)
                if _LINE.fullmatch(line):
                    return
        except OSError as error:
            raise LogError(_cannot(path, error)) from error
    if n_read:
        msg = f"{path} is no key log: no line of it is as SSLKEYLOGFILE makes them, a label and two numbers in hex"
        raise UsageError(msg)


def _open(path: str) -> IO[bytes]:
    """Open a regular file; a pipe could be read only once, and a device has no end."""
    try:
        # Without waiting: who opens a pipe otherwise waits for its writer.
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    except OSError as error:
        raise LogError(_cannot(path, error)) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        kind = "a folder" if Path(path).is_dir() else "a pipe or a device"
        msg = f"{path} is {kind}: --tls-keys takes a file"
        raise UsageError(msg)
    return file


def _cannot(path: str, error: OSError) -> str:
    return f"cannot read the key log {path}: {error.strerror}"
