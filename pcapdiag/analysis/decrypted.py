"""Requests inside TLS, named by what their records hold: of the connections in question alone, where keys were given.

The captures are read once more, since only the tables tell which connections lost something. Of what is opened nothing
is kept but the head of a request and the status of its answer: plaintext goes nowhere else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pcapdiag.analysis.handshake import HTTP2, TlsView
from pcapdiag.base.codes import Direction, FrameKind, Key, Method, Protocol
from pcapdiag.base.errors import CaptureError, MissingExtraError
from pcapdiag.base.findings import Note
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.base.units import count_of
from pcapdiag.engine.asides.collect import pair_keys
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches
from pcapdiag.engine.decryption.key_log import RANDOM_BYTES, KeyLog, check_key_log
from pcapdiag.engine.decryption.records import HEADER_BYTES, RecordCutter, WholeRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.analysis.model import Connection, Loss
    from pcapdiag.base.tables import Table
    from pcapdiag.engine.asides.collect import Aside
    from pcapdiag.engine.capture.batch import FrameBatch
    from pcapdiag.engine.decryption.session import Content, TlsSession, Unread

Rows = np.ndarray[Any, Any]

MOST_CONNECTIONS = 2_000
"""So many are opened; requests on more are told, not named."""
MOST_HEAD_BYTES = 16_384
"""[bytes] Kept of one request and of one answer while they are read."""
_MOST_NAMED = 3
"""Connections that a note names of those that cannot be read."""
_TAIL_BYTES = 5
_RANDOM_AT = 11
"""Where the random stands in a client's hello: behind the record's header, the message's and the version."""
_MOST_TARGET, _MOST_FIELD = 1536, 256
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n"
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-\xff]{1,8192}) HTTP/1\.[01]\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})[ \r\n]")
_PAIR = ("src_hi", "src_lo", "src_port", "dst_hi", "dst_lo", "dst_port")
_ENDS = ("orig_hi", "orig_lo", "orig_port", "resp_hi", "resp_lo", "resp_port")
_COLUMNS = ("frame", *_PAIR, "seq", "payload_offset", "payload_cap", "payload_len")
_END_OF_CHUNKS = b"0\r\n\r\n"


class Decrypted(NamedTuple):
    """What keys changed.

    Attributes
    ----------
    losses, truncated : tuple of Loss
        With names; without turns that hold nothing of an application.
    view : TlsView
        Which of the connections carry HTTP/2, by what they hold.
    notes : tuple of Note
        How many could be read, and why others could not.
    """

    losses: tuple[Loss, ...]
    truncated: tuple[Loss, ...]
    view: TlsView
    notes: tuple[Note, ...] = ()


@dataclass(slots=True)
class _Span:
    """What the records of a stretch of sequence numbers hold.

    Behind a record that is missing there is no head any more: bytes of a body may look like one. `joined_to` is how far
    the records follow one another from the first on.
    """

    first_seq: int
    length: int
    head: bytearray = field(default_factory=bytearray)
    tail: bytes = b""
    n_bytes: int = 0
    n_records: int = 0
    joined_to: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all records of the stretch were read."""
        return self.joined_to >= self.length

    def take(self, record: WholeRecord, content: Content, application: int) -> None:
        """Add what a record holds, if bytes of it lie here: a turn begins behind the header of its first."""
        at = sequence_difference(record.seq, self.first_seq)
        if at + HEADER_BYTES + len(record.body) <= 0 or at >= self.length:
            return
        self.n_records += 1
        is_joined = at <= self.joined_to
        if is_joined:
            self.joined_to = at + HEADER_BYTES + len(record.body)
        if content.type == application:
            self.n_bytes += len(content.data)
            if is_joined:
                self.head += content.data[: MOST_HEAD_BYTES - len(self.head)]
            self.tail = (self.tail + content.data[-_TAIL_BYTES:])[-_TAIL_BYTES:]


@dataclass(slots=True)
class _Opened:
    """A connection that is read with keys; `spans` are those of the lost requests, by depth, and of their answers."""

    connection: Connection
    row: Rows
    hello: Aside
    session: TlsSession
    cutters: dict[Direction, RecordCutter]
    spans: dict[Direction, dict[int, _Span]] = field(default_factory=lambda: {Direction.ORIG: {}, Direction.RESP: {}})

    def open(self, direction: Direction, records: Iterable[WholeRecord]) -> None:
        """Open records and keep what is wanted of them."""
        from pcapdiag.engine.decryption.session import APPLICATION  # noqa: PLC0415 - only where keys were given

        for record in records:
            content = self.session.open(direction, record)
            if content is not None:
                for span in self.spans[direction].values():
                    span.take(record, content, APPLICATION)


def with_plaintext(
    losses: Sequence[Loss],
    truncated: Sequence[Loss],
    view: TlsView,
    connections: Table,
    captures: Sequence[Capture],
    key_logs: Sequence[str] = (),
) -> Decrypted:
    """Name lost requests inside TLS by what their records hold.

    Parameters
    ----------
    losses, truncated : sequence of Loss
        Of any protocol.
    view : TlsView
        From `read_tls`.
    connections : Table
        `columns.CONNECTIONS`; row i is connection i.
    captures : sequence of Capture
        What they were read from.
    key_logs : sequence of str
        Files as SSLKEYLOGFILE makes them; secrets in the captures are taken as well.

    Returns
    -------
    Decrypted

    Raises
    ------
    LogError, UsageError
        A key log cannot be read.
    MissingExtraError
        A key log was given, and the library that decrypts is not installed.
    """
    n_secrets = sum(file.n_secrets for capture in captures for file in capture.files)
    unread = Decrypted(tuple(losses), tuple(truncated), view)
    if not key_logs and not n_secrets:
        return unread
    asked = [loss for loss in (*losses, *truncated) if _is_asked(loss, view)]
    if not asked:
        return unread
    if not has_library():
        if key_logs:
            raise MissingExtraError(NO_LIBRARY)
        text = f"the capture holds keys of TLS, which are not used: {NO_LIBRARY}"
        return unread._replace(notes=(Note("tls-not-decrypted", text),))
    run = _SecondReading(asked, view, connections)
    run.read_keys(key_logs)
    run.read(captures)
    return Decrypted(run.named(losses), run.named(truncated), run.seen(view), tuple(run.notes()))


NO_LIBRARY = "decrypting needs a library: pip install 'pcapdiag[tls]'"


def has_library() -> bool:
    """Tell whether what decrypts is installed."""
    from importlib.util import find_spec  # noqa: PLC0415 - only where keys were given

    return find_spec("cryptography") is not None


def check_keys(paths: Iterable[str]) -> None:
    """Say now, not after a long read, that key logs are none, or that nothing could be done with them.

    Parameters
    ----------
    paths : iterable of str

    Raises
    ------
    LogError, UsageError
        One of them cannot be read, or is no key log.
    MissingExtraError
        The library that decrypts is not installed.
    """
    if not has_library():
        raise MissingExtraError(NO_LIBRARY)
    for path in paths:
        check_key_log(path)


def _is_asked(loss: Loss, view: TlsView) -> bool:
    if loss.is_connect or loss.connection.protocol is not Protocol.TLS or loss.request_seq < 0:
        return False
    handshake = view.handshakes.get(loss.connection.conn)
    return handshake is None or handshake.end is None


class _SecondReading:
    """The second reading of the captures."""

    def __init__(self, asked: Iterable[Loss], view: TlsView, connections: Table) -> None:
        self._failures: dict[int, tuple[Connection, Unread | None]] = {}
        self._watched: dict[int, _Opened] = {}
        self._n_named: int = 0
        self._n_beyond = 0
        hellos: dict[int, bytes] = {}
        by_conn: dict[int, list[Loss]] = defaultdict(list)
        for loss in asked:
            by_conn[loss.connection.conn].append(loss)
        for conn in by_conn:
            handshake = view.handshakes.get(conn)
            hello = handshake.hello_aside if handshake is not None else None
            hellos[conn] = hello.data[_RANDOM_AT : _RANDOM_AT + RANDOM_BYTES] if hello is not None else b""
        self._keys = KeyLog(random for random in hellos.values() if len(random) == RANDOM_BYTES)
        for conn, lost in by_conn.items():
            self._add(conn, lost, hellos[conn], view, connections)

    def _add(self, conn: int, lost: Sequence[Loss], random: bytes, view: TlsView, connections: Table) -> None:
        from pcapdiag.engine.decryption.session import TlsSession, Unread  # noqa: PLC0415 - only where keys were given

        connection = lost[0].connection
        handshake = view.handshakes.get(conn)
        hello = handshake.hello_aside if handshake is not None else None
        if hello is None or len(random) != RANDOM_BYTES:
            self._failures[conn] = connection, Unread.NO_HELLO
            return
        if len(self._watched) >= MOST_CONNECTIONS:
            self._n_beyond += 1
            return
        watched = _Opened(
            connection=connection,
            row=connections.rows[conn],
            hello=hello,
            session=TlsSession(random, self._keys.secrets_of(random)),
            cutters={Direction.ORIG: RecordCutter(hello.seq), Direction.RESP: RecordCutter(hello.ack)},
        )
        for loss in lost:
            n_bytes = (loss.request_end_seq - loss.request_seq) & 0xFFFFFFFF
            watched.spans[Direction.ORIG][loss.depth] = _Span(loss.request_seq, n_bytes)
            answer = loss.keys.get(Key.RESPONSE)
            if answer is not None and loss.response_bytes > 0:
                watched.spans[Direction.RESP][loss.depth] = _Span(answer.seq, max(1, loss.response_bytes))
        self._watched[conn] = watched

    def read_keys(self, paths: Iterable[str]) -> None:
        """Take the secrets of key logs."""
        for path in paths:
            self._keys.read_file(path)

    def read(self, captures: Sequence[Capture]) -> None:
        """Read the captures again, those that hold such connections and keys of theirs."""
        for capture_idx, capture in enumerate(captures):
            mine = [w for w in self._watched.values() if w.connection.capture_idx == capture_idx]
            has_keys = self._keys.n_known > 0 or any(file.n_secrets for file in capture.files)
            if not mine or not has_keys:
                self._give_up(mine)
                continue
            if any(file.size < 0 for file in capture.files):
                self._give_up(mine, is_pipe=True)
                continue
            again = Capture([CaptureFile(file.path, secrets=[]) for file in capture.files])
            try:
                self._read_capture(again, mine)
            except CaptureError:
                # It was there a moment ago: a ring that went on.
                self._give_up(mine, is_pipe=True)

    def _give_up(self, mine: Iterable[_Opened], *, is_pipe: bool = False) -> None:
        from pcapdiag.engine.decryption.session import Unread  # noqa: PLC0415 - as above

        for watched in mine:
            self._failures[watched.connection.conn] = watched.connection, None if is_pipe else Unread.NO_KEY

    def _read_capture(self, capture: Capture, mine: Sequence[_Opened]) -> None:
        ends = np.array([[watched.row[name] for name in _ENDS] for watched in mine], dtype=np.uint64)
        by_key: dict[int, list[_Opened]] = defaultdict(list)
        for watched, key in zip(mine, pair_keys(*ends.T).tolist(), strict=True):
            by_key[key].append(watched)
        wanted = np.array(sorted(by_key), dtype=np.uint64)
        for batch in read_batches(capture):
            self._take_secrets(capture)
            frames = batch.frames
            at = np.flatnonzero((frames["kind"] == FrameKind.TCP) & (frames["payload_len"] > 0))
            keys = pair_keys(*(frames[name][at] for name in _PAIR))
            is_wanted = np.isin(keys, wanted)
            for n, key in zip(at[is_wanted].tolist(), keys[is_wanted].tolist(), strict=True):
                self._take(batch, n, by_key[key])
        from pcapdiag.engine.decryption.session import Unread  # noqa: PLC0415 - as above

        for watched in mine:
            for direction, cutter in watched.cutters.items():
                watched.open(direction, cutter.finish())
                if any(not span.n_records for span in watched.spans[direction].values()):
                    watched.session.failures.setdefault(direction, Unread.BYTES_MISSING)

    def _take_secrets(self, capture: Capture) -> None:
        for file in capture.files:
            while file.secrets:
                self._keys.read_block(file.secrets.pop(0))

    def _take(self, batch: FrameBatch, n: int, among: Sequence[_Opened]) -> None:
        frame, *ends, seq, start, captured, length = batch.frames[list(_COLUMNS)][n].item()
        src = (ends[0], ends[1], ends[2])
        for watched in among:
            if not watched.row["first_frame"] <= frame <= watched.row["last_frame"]:
                continue
            is_orig = src == (watched.row["orig_hi"], watched.row["orig_lo"], watched.row["orig_port"])
            direction = Direction.ORIG if is_orig else Direction.RESP
            data = batch.buffer[start : start + captured].tobytes() if captured > 0 else b""
            watched.open(direction, watched.cutters[direction].take(seq, data, length))
            return

    def named(self, losses: Iterable[Loss]) -> tuple[Loss, ...]:
        """Return losses with what was read of them, without those that asked for nothing."""
        kept: list[Loss] = []
        for loss in losses:
            watched = self._watched.get(loss.connection.conn)
            span = watched.spans[Direction.ORIG].get(loss.depth) if watched is not None else None
            if watched is None or span is None or not (span.n_bytes or span.is_whole):
                kept.append(loss)
            elif span.n_bytes:
                named = _named(loss, span, watched.spans[Direction.RESP].get(loss.depth))
                self._n_named += bool(named.target)
                kept.append(named)
        return tuple(kept)

    def seen(self, view: TlsView) -> TlsView:
        """Return which connections carry HTTP/2, by what was read of them."""
        http2 = view.http2.copy()
        for conn, watched in self._watched.items():
            heads = [bytes(span.head) for span in watched.spans[Direction.ORIG].values() if span.n_bytes]
            if watched.session.alpn == "h2" or any(head.startswith(_HTTP2_PREFACE) for head in heads):
                http2[conn] = HTTP2.YES
            elif watched.session.alpn or any(_REQUEST_LINE.match(head) for head in heads):
                http2[conn] = HTTP2.NO
        return view._replace(http2=http2)

    def notes(self) -> Iterator[Note]:
        """Yield how many requests have a name now, and why others have none."""
        failures: dict[Unread | None, list[Connection]] = defaultdict(list)
        for connection, failure in self._failures.values():
            failures[failure].append(connection)
        for conn, watched in self._watched.items():
            failed = [watched.session.failures.get(side) for side in (Direction.ORIG, Direction.RESP)]
            if conn not in self._failures and failed[0] is not None:
                failures[failed[0]].append(watched.connection)
        n_failed = sum(map(len, failures.values()))
        n_all = len(self._watched.keys() | self._failures.keys()) + self._n_beyond
        if self._n_named:
            text = f"{count_of(self._n_named, 'failed request')} inside TLS named by what was decrypted"
            yield Note("tls-decrypted", f"{text}, on {n_all - n_failed - self._n_beyond} of {n_all} connections")
        for failure, unread in sorted(failures.items(), key=lambda item: str(item[0])):
            some = ", ".join(f"{c.orig} to {c.resp}" for c in unread[:_MOST_NAMED])
            more = ", ..." if len(unread) > _MOST_NAMED else ""
            text = f"{len(unread)} of {n_all} connections with failed requests inside TLS are not decrypted"
            yield Note("tls-not-decrypted", f"{text}: {_why(failure)} ({some}{more})")
        if self._n_beyond:
            text = f"{self._n_beyond} of {n_all} connections with failed requests inside TLS are not decrypted"
            yield Note("tls-not-decrypted", f"{text}: more than {MOST_CONNECTIONS:,} are not opened")


def _why(failure: Unread | None) -> str:
    if failure is None:
        return "their capture cannot be read twice, write it to a file"
    return {
        "NO_KEY": "no key was given for them",
        "WRONG_KEY": "the key that was given for them does not open their records",
        "NO_HELLO": "their handshake was not captured",
        "BYTES_MISSING": "bytes of them are missing",
        "NOT_SUPPORTED": "their version of TLS, cipher suite or a new handshake is not supported",
    }[failure.name]


def _named(loss: Loss, request: _Span, answer: _Span | None) -> Loss:
    """Return a loss by the name that its bytes have, where they are a request of HTTP/1."""
    head = bytes(request.head)
    found = _REQUEST_LINE.match(head)
    if found is None:
        return loss
    end = head.find(b"\r\n\r\n", found.end() - 2)
    fields = _fields(head[found.end() : end if end >= 0 else len(head)])
    status = _STATUS_LINE.match(bytes(answer.head)) if answer is not None else None
    method = found[1].decode()
    return replace(
        loss,
        method=Method.__members__.get(method, Method.OTHER),
        target=_text(found[2], _MOST_TARGET),
        host=_text(fields.get(b"host", b""), _MOST_FIELD),
        request_id=_text(fields.get(b"x-request-id", b""), _MOST_FIELD),
        status_code=int(status[1]) if status is not None else loss.status_code,
        is_framed=loss.is_framed or (end >= 0 and _is_whole(request, end + 4, fields)),
    )


def _is_whole(request: _Span, n_head: int, fields: dict[bytes, bytes]) -> bool:
    """Tell whether a request came to its end (RFC 9112 section 6.3)."""
    if b"transfer-encoding" in fields:
        return request.tail == _END_OF_CHUNKS
    length = fields.get(b"content-length", b"0")
    return length.isdigit() and len(length) < 20 and request.n_bytes >= n_head + int(length)


def _fields(lines: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in lines.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields


def _text(value: bytes, most: int) -> str:
    return value[:most].decode("utf-8", errors="backslashreplace")
