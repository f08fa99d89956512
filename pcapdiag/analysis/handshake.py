"""One TLS handshake: what its hellos and alerts say, and whether it failed.

Decides by records that were captured, never by what is only not seen: a handshake that began before the capture, goes
on when it ends, or of which bytes are missing, has not failed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pcapdiag.base.codes import ClosingKind, Direction, Protocol
from pcapdiag.base.sequence import sequence_difference
from pcapdiag.engine.asides import tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from pcapdiag.engine.asides.collect import Aside

Rows = np.ndarray[Any, Any]
_MOST_TEXT = 60
_AT_ONCE_NS = 1_000_000_000
"""[ns] A check of a certificate takes no longer; it may have to ask who signed it."""


class HandshakeEnd(IntEnum):
    """How a handshake failed."""

    ALERT = 0
    """A fatal alert in clear."""
    HIDDEN_ALERT = 1
    """The originator sent an encrypted alert in place of its Finished, and closed."""
    NOT_TLS = 2
    """The responder answered the hello with bytes that are no TLS."""
    PLAIN_REQUEST = 3
    """An HTTP request in clear was answered by a TLS alert."""
    CLOSED = 4
    """FIN inside the handshake."""
    RESET = 5
    """RST inside the handshake."""
    SILENCE = 6
    """The originator closed: the responder had not answered its hello."""
    REFUSED = 7
    """It was whole, and the proxy's log says that the certificate was refused."""
    REJECTED = 8
    """The originator was done with it, and the responder answered with an alert that TLS 1.3 encrypts: a certificate
    had been asked for, or the log names the alert."""


class OwnCertificate(IntEnum):
    """What the originator sent of a certificate of its own in TLS 1.3, by the lengths of its records."""

    UNKNOWN = 0
    NOT_ASKED = 1
    EMPTY = 2
    """It was asked for one and had none."""
    SENT = 3


class HTTP2(IntEnum):
    """Whether a connection carries HTTP/2 whose streams are not seen: inside TLS, or not to be followed."""

    NO = 0
    POSSIBLE = 1
    """The originator offered it; TLS 1.3 hides what the responder chose."""
    YES = 2


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert in clear: who sent it, what it says, where it stands."""

    dir: Direction
    level: int
    description: int
    aside: Aside

    @property
    def name(self) -> str:
        """Such as ``protocol_version``."""
        return tls.alert_name(self.description)

    @property
    def is_fatal(self) -> bool:
        """Whether it ends the handshake."""
        return self.level == tls.FATAL and self.description not in (tls.CLOSE_NOTIFY, tls.USER_CANCELED)


@dataclass(frozen=True, slots=True)
class TlsHandshake:
    """What was captured of one handshake.

    Attributes
    ----------
    hello : Hello
        Of the originator; empty if its bytes could not be read.
    hello_aside : Aside or None
        Where it stands; None without one.
    answer : Hello or None
        Of the responder; None if it was not seen.
    answer_aside : Aside or None
        The first bytes of the responder, whatever they are.
    alerts : tuple of Alert
        In clear, in the order of their frames.
    text : bytes
        The beginning of what the responder sent in place of TLS; hostile.
    end : HandshakeEnd or None
        How it failed; None if it did not, or if that is not known.
    by : Direction
        Who ended it.
    is_unused : bool
        It was finished, and no application data followed before the connection was closed.
    reason : str
        Why the proxy refused the certificate, or which alert it got, as its log has it; hostile.
    own_certificate : OwnCertificate
        What the originator sent of its own.
    rejection : Aside or None
        The encrypted alert with which the responder answered a handshake that was whole for the originator, and after
        which it sent nothing.
    named_alert : int
        What that alert says, by the proxy's log; -1 if it is not known.
    """

    hello: tls.Hello
    hello_aside: Aside | None = None
    answer: tls.Hello | None = None
    answer_aside: Aside | None = None
    alerts: tuple[Alert, ...] = ()
    text: bytes = b""
    end: HandshakeEnd | None = None
    by: Direction = Direction.NONE
    is_unused: bool = False
    reason: str = ""
    own_certificate: OwnCertificate = OwnCertificate.UNKNOWN
    rejection: Aside | None = None
    named_alert: int = -1

    @property
    def alert(self) -> Alert | None:
        """The alert that ended it."""
        return next((a for a in self.alerts if a.is_fatal), None)

    @property
    def is_text(self) -> bool:
        """Whether the responder answered with text, such as HTTP or HTML."""
        start = self.text[:16]
        return len(start) >= 4 and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in start)

    @property
    def first_line(self) -> str:
        """First line of that text."""
        return self.text[:_MOST_TEXT].split(b"\n")[0].decode("ascii", errors="backslashreplace").strip()


class TlsView(NamedTuple):
    """What TLS says of the connections.

    `handshakes` by connection; `http2`, `HTTP2` of each connection; `speaks_only_tls`, responders
    that sent a server hello and never a byte in answer to an HTTP request in clear; `says_tls`, responders that
    answered such a request in clear by saying that they speak TLS there.
    """

    handshakes: dict[int, TlsHandshake]
    http2: NDArray[np.int8]
    speaks_only_tls: frozenset[str]
    says_tls: frozenset[str] = frozenset()


def read_handshake(row: Rows, asides: Sequence[Aside]) -> TlsHandshake | None:
    """Read the handshake of one connection.

    Parameters
    ----------
    row : record of columns.CONNECTIONS.dtype
        The connection.
    asides : sequence of Aside
        What was kept of it, in the order of the capture.

    Returns
    -------
    TlsHandshake or None
        None if no client hello is at its beginning, and no TLS alert answers a request in clear.
    """
    orig = (int(row["orig_hi"]), int(row["orig_lo"]), int(row["orig_port"]))
    sent = [a for a in asides if a.src == orig]
    got = [a for a in asides if a.src != orig]
    first = next((a for a in sent if a.data[0] == tls.HANDSHAKE and a.data[5:6] == bytes([tls.CLIENT_HELLO])), None)
    if first is None:
        return _plain_request(row, got)
    isn = int(row["orig_isn"])
    is_first = isn < 0 or first.seq == (isn + 1) & 0xFFFFFFFF
    if int(row["protocol"]) not in (Protocol.TLS, Protocol.UNKNOWN) or not is_first:
        # STARTTLS and the like: what was said before is another protocol's affair.
        return None
    client, server = tls.read_flow(sent, first.seq), tls.read_flow(got, first.ack)
    hello = _hello_of(client, tls.CLIENT_HELLO, tls.read_client_hello) or tls.Hello()
    answer = _hello_of(server, tls.SERVER_HELLO, tls.read_server_hello)
    both = (*_alerts(client, Direction.ORIG), *_alerts(server, Direction.RESP))
    read = TlsHandshake(
        hello=hello,
        hello_aside=first,
        answer=answer,
        answer_aside=server.records[0].aside if server.records else server.plain_aside,
        alerts=tuple(sorted(both, key=lambda a: a.aside.frame)),
        text=server.plain,
    )
    end, by = _end_of(row, read, client, server, [a for a in got if a.length > 0])
    if end is None and _is_13(read):
        own = _own_certificate(client)
        rejection = _rejection(row, client, server, first)
        read = replace(read, own_certificate=own, rejection=rejection)
        if rejection is not None and own in (OwnCertificate.EMPTY, OwnCertificate.SENT):
            end, by = HandshakeEnd.REJECTED, Direction.RESP
    is_closed = int(row["closing_kind"]) != ClosingKind.NONE and not int(row["n_exchanges"])
    is_unused = is_closed and end is None and client.is_known and not _has_data(read, client)
    return replace(read, end=end, by=by, is_unused=is_unused and _is_finished(read, client, server, got))


def _plain_request(row: Rows, got: Sequence[Aside]) -> TlsHandshake | None:
    """Return what a TLS alert says that came as the answer to a request in clear."""
    isn = int(row["resp_isn"])
    if int(row["protocol"]) != Protocol.HTTP1 or isn < 0:
        return None
    flow = tls.read_flow([a for a in got if a.seq == (isn + 1) & 0xFFFFFFFF], (isn + 1) & 0xFFFFFFFF)
    alerts = tuple(_alerts(flow, Direction.RESP))
    if not alerts or not alerts[0].is_fatal:
        return None
    aside = alerts[0].aside
    return TlsHandshake(
        tls.Hello(), answer_aside=aside, alerts=alerts, end=HandshakeEnd.PLAIN_REQUEST, by=Direction.RESP
    )


def _hello_of(flow: tls.Flow, kind: int, read: Callable[[bytes], tls.Hello]) -> tls.Hello | None:
    record = flow.records[0] if flow.records else None
    if record is None or record.type != tls.HANDSHAKE:
        return None
    for number, body, is_whole in tls.messages(record):
        if number == kind:
            return read(body) if is_whole else tls.Hello()
        break
    return None


def _alerts(flow: tls.Flow, direction: Direction) -> Iterator[Alert]:
    for record in flow.records:
        if record.type in (tls.CHANGE_CIPHER_SPEC, tls.APPLICATION):
            # All that this side sends from here on is encrypted (in TLS 1.3 a few alerts of careless peers are not).
            if record.type == tls.APPLICATION and direction is Direction.ORIG:
                return
            continue
        if record.type == tls.ALERT and record.length == tls.PLAIN_ALERT_BYTES and record.is_whole:
            level, description = record.body[0], record.body[1]
            if level in (1, 2) and description in tls.ALERTS:
                yield Alert(direction, level, description, record.aside)


def _end_of(
    row: Rows, read: TlsHandshake, client: tls.Flow, server: tls.Flow, got: Sequence[Aside]
) -> tuple[HandshakeEnd | None, Direction]:
    """Return how a handshake failed and by whom; None if it did not, or if that is not known."""
    if _is_finished(read, client, server, got):
        return None, Direction.NONE
    alert = read.alert
    if alert is not None:
        return HandshakeEnd.ALERT, alert.dir
    if read.text and not server.records:
        is_closed = int(row["closing_kind"]) != ClosingKind.NONE
        return (HandshakeEnd.NOT_TLS, Direction.RESP) if read.is_text or is_closed else (None, Direction.NONE)
    closer, kind = int(row["first_closer"]), int(row["closing_kind"])
    if closer == Direction.RESP and kind == ClosingKind.FIN and _n_unseen(row, int(row["closing_ack"])) == 1:
        # It acknowledges a FIN that the capture lacks.
        closer = Direction.ORIG
    hello = read.hello_aside
    if kind == ClosingKind.NONE or hello is None or not _is_all(row, "orig", client, hello.seq):
        return None, Direction.NONE
    if int(row["n_exchanges"]) > 0 and any(r.type == tls.APPLICATION for r in client.records):
        is_hidden = _is_hidden_alert(read, client)
        return (HandshakeEnd.HIDDEN_ALERT, Direction.ORIG) if is_hidden else (None, Direction.NONE)
    if _is_hidden_alert(read, client):
        return HandshakeEnd.HIDDEN_ALERT, Direction.ORIG
    if not _is_server_seen(row) or not _is_client_seen(row):
        return None, Direction.NONE
    n_got = int(row["resp_bytes"])
    if closer == Direction.ORIG and not n_got:
        return HandshakeEnd.SILENCE, Direction.ORIG
    if n_got and not got:
        return None, Direction.NONE
    return (HandshakeEnd.RESET if kind == ClosingKind.RST else HandshakeEnd.CLOSED), Direction(closer)


def _is_all(row: Rows, side: str, flow: tls.Flow, first_seq: int) -> bool:
    """Whether every byte that one side sent stands in records that were read."""
    isn = int(row[f"{side}_isn"])
    n_bytes = int(row[f"{side}_bytes"])
    if not flow.is_known or isn < 0 or first_seq != (isn + 1) & 0xFFFFFFFF:
        return False
    return sum(record.length + 5 for record in flow.records) >= n_bytes


def _is_server_seen(row: Rows) -> bool:
    """Whether no byte of the responder can have been missed: what was acknowledged was captured."""
    isn, acknowledged = int(row["resp_isn"]), int(row["orig_max_ack"])
    if isn < 0 or acknowledged < 0 or int(row["n_holes"]) or not int(row["resp_frames"]):
        return False
    # A FIN counts one.
    return sequence_difference(acknowledged, isn + 1) <= int(row["resp_bytes"]) + 1


def _is_client_seen(row: Rows) -> bool:
    """Whether no byte of the originator can have been missed, as far as the responder acknowledged any."""
    return _n_unseen(row, int(row["resp_max_ack"])) <= 1


def _n_unseen(row: Rows, ack: int) -> int:
    """Return how many more sequence numbers an acknowledgement covers than the originator is known to have sent."""
    isn = int(row["orig_isn"])
    if isn < 0 or ack < 0:
        return 0
    return sequence_difference(ack, isn + 1) - int(row["orig_bytes"])


def _is_finished(read: TlsHandshake, client: tls.Flow, server: tls.Flow, got: Sequence[Aside]) -> bool:
    """Whether both sides were done with the handshake, by what was captured."""
    if read.answer is not None and read.answer.versions and tls.is_tls_13(read.answer.versions[0]):
        # RFC 8446 section 4.4.4: the client's Finished; an alert in its place is shorter.
        return any(r.type == tls.APPLICATION and r.length > tls.HIDDEN_ALERT_BYTES for r in client.records)
    if any(r.type == tls.APPLICATION for r in client.records):
        return True
    changed = next((r for r in client.records if r.type == tls.CHANGE_CIPHER_SPEC), None)
    if changed is None:
        return False
    if any(r.type == tls.CHANGE_CIPHER_SPEC for r in server.records):
        return True
    plain = {alert.aside.frame for alert in read.alerts if alert.dir is Direction.RESP}
    return any(a.frame > changed.aside.frame and a.frame not in plain for a in got)


def _has_data(read: TlsHandshake, client: tls.Flow) -> bool:
    """Whether the client sent more than the handshake, by what was captured."""
    hidden = [r for r in client.records if r.type == tls.APPLICATION and r.length > tls.HIDDEN_ALERT_BYTES]
    return len(hidden) > int(_is_13(read))


def _is_13(read: TlsHandshake) -> bool:
    """Whether TLS 1.3 was chosen."""
    return read.answer is not None and bool(read.answer.versions) and tls.is_tls_13(read.answer.versions[0])


def _own_certificate(client: tls.Flow) -> OwnCertificate:
    """Return what the originator sent of a certificate before its Finished.

    A Certificate message without one is 8 bytes long, in a record of 25 (RFC 8446 section 4.4.2); no other message of a
    client is.
    """
    lengths = [r.length for r in client.records if r.type == tls.APPLICATION]
    if not client.is_known or not lengths:
        return OwnCertificate.UNKNOWN
    if lengths[0] in tls.FINISHED_LENGTHS:
        return OwnCertificate.NOT_ASKED
    if not any(length in tls.FINISHED_LENGTHS for length in lengths[1:]):
        return OwnCertificate.UNKNOWN
    return OwnCertificate.EMPTY if lengths[0] in tls.NO_CERTIFICATE_LENGTHS else OwnCertificate.SENT


def _rejection(row: Rows, client: tls.Flow, server: tls.Flow, hello: Aside) -> Aside | None:
    """Return the encrypted alert that is all that the responder sent when the originator was done, and sent at once.

    A server that accepts a handshake sends session tickets first, or the response.
    """
    done = next((r for r in client.records if r.type == tls.APPLICATION and r.length in tls.FINISHED_LENGTHS), None)
    if done is None or int(row["closing_kind"]) == ClosingKind.NONE or not _is_all(row, "resp", server, hello.ack):
        return None
    after = [r for r in server.records if r.aside.frame > done.aside.frame]
    if len(after) != 1 or after[0].type != tls.APPLICATION or after[0].length != tls.HIDDEN_ALERT_BYTES:
        return None
    alert = after[0].aside
    return alert if 0 <= alert.ts_ns - done.aside.ts_ns <= _AT_ONCE_NS else None


def _is_hidden_alert(read: TlsHandshake, client: tls.Flow) -> bool:
    """Whether the only thing that the client encrypted in TLS 1.3 is an alert."""
    if not _is_13(read):
        return False
    hidden = [r.length for r in client.records if r.type == tls.APPLICATION]
    return bool(hidden) and all(length == tls.HIDDEN_ALERT_BYTES for length in hidden)


def http2_of(handshake: TlsHandshake) -> HTTP2:
    """Return whether a connection carries HTTP/2, by what its hellos say (ALPN, RFC 7301)."""
    answer = handshake.answer
    if handshake.end is not None or "h2" not in handshake.hello.alpn:
        return HTTP2.NO
    if answer is None or not answer.is_whole:
        return HTTP2.POSSIBLE
    if tls.is_tls_13(answer.versions[0]):
        return HTTP2.POSSIBLE
    return HTTP2.YES if answer.alpn == ("h2",) else HTTP2.NO
