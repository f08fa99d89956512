"""Heads of HTTP/2 requests, read by the hpack library: few of them, each from the header block that was kept.

Knows header blocks (RFC 7541) and the fields that name a request; nothing of connections.
"""

from __future__ import annotations

from typing import NamedTuple

from hpack import Decoder, HPACKError

MOST_HEAD_BYTES = 65_536
"""[bytes] What a block may unfold to: entries of the table can be named again and again."""
MOST_TABLE_BYTES = 65_536
"""[bytes] The largest dynamic table that a sender may ask for; larger ones are not read."""
_MOST_TARGET, _MOST_HOST, _MOST_ID = 1536, 256, 128


class RequestHead(NamedTuple):
    """What a request is called; empty for what its head does not say."""

    method: str
    target: str
    host: str
    request_id: str


class HeadReader:
    """Reads the header blocks of one originator, from its connection's first on and without a gap."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=MOST_HEAD_BYTES)
        self._decoder.max_allowed_table_size = MOST_TABLE_BYTES
        self._is_lost = False

    def read(self, block: bytes) -> RequestHead | None:
        """Return what the next block says; None where it, or one before it, cannot be read.

        Parameters
        ----------
        block : bytes

        Returns
        -------
        RequestHead or None
        """
        if self._is_lost:
            return None
        try:
            fields = self._decoder.decode(block, raw=True)
        except HPACKError:
            self._is_lost = True
            return None
        known: dict[bytes, bytes] = {}
        for name, value in fields:
            known.setdefault(bytes(name), bytes(value))
        return RequestHead(
            method=_text(known, b":method", 32),
            target=_text(known, b":path", _MOST_TARGET),
            host=_text(known, b":authority", _MOST_HOST) or _text(known, b"host", _MOST_HOST),
            request_id=_text(known, b"x-request-id", _MOST_ID),
        )


def read_alone(block: bytes) -> RequestHead | None:
    """Return what a block says that needs none of those before it, as nginx sends them; None if it does.

    A block that names an entry of the dynamic table which it did not add itself cannot be read so (RFC 7541 section
    2.3.3): new entries come first, the others are beyond them.
    """
    return HeadReader().read(block)


def _text(known: dict[bytes, bytes], name: bytes, most: int) -> str:
    return known.get(name, b"")[:most].decode("utf-8", errors="backslashreplace")
