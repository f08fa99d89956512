"""Connections that the upstream ended with a TLS alert which packets hide and the proxy's log names.

TLS 1.3 encrypts all alerts behind the hellos, and TLS 1.2 those behind the handshake: of what length they are is seen,
not what they say. Whoever reads them writes it down: OpenSSL, BoringSSL and Go each in their own words.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pcapdiag.analysis.handshake import HandshakeEnd, TlsHandshake
from pcapdiag.analysis.losses import to_connection, with_losses
from pcapdiag.analysis.tls import to_handshake_loss
from pcapdiag.base.codes import Direction, Key, Protocol
from pcapdiag.engine.asides import tls
from pcapdiag.proxy.join.ledger import EntryVerdict

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis, Loss

_NUMBER: Final = re.compile(r"SSL alert number (\d{1,3})\b", re.ASCII)
_OPENSSL: Final = re.compile(
    r"(?:sslv3|tlsv1|tlsv13) alert ([a-z ]{4,40})|(?:SSLV3|TLSV1)_ALERT_([A-Z_]{4,40})", re.ASCII
)
_GO: Final = re.compile(r"remote error: tls: ([a-z ]{4,60})", re.ASCII)
_BY_NAME: Final = {name: number for number, name in tls.ALERTS.items()} | {
    # Go's crypto/tls/alert.go, where its words are not the RFC's.
    "revoked_certificate": 44,
    "expired_certificate": 45,
    "unknown_certificate": 46,
    "unknown_certificate_authority": 48,
    "error_decoding_message": 50,
    "error_decrypting_message": 51,
    "export_restriction": 60,
    "protocol_version_not_supported": 70,
    "insufficient_security_level": 71,
    "unknown_ca": 48,
}
_OF_THE_HANDSHAKE: Final = frozenset({40, 42, 43, 44, 45, 46, 48, 49, 100, 116})
"""Alerts that refuse a certificate, or a new handshake, at whatever time they come."""


def alert_in(message: str) -> int:
    """Return the alert that a proxy's TLS library got from its peer, by what the proxy logged.

    Parameters
    ----------
    message : str
        Of an entry; hostile.

    Returns
    -------
    int
        Its number (RFC 8446 section 6); -1 if the message names none.
    """
    if found := _NUMBER.search(message):
        return int(found[1])
    found = _OPENSSL.search(message) or _GO.search(message)
    if found is None:
        return -1
    words = next(group for group in found.groups() if group)
    return _BY_NAME.get(words.strip().lower().replace(" ", "_"), -1)


def add_rejected(analysis: Analysis) -> Analysis:
    """Return an analysis whose losses hold what the log calls rejected by an alert, with the name of that.

    Parameters
    ----------
    analysis : Analysis
        With the joined logs, if they were given.

    Returns
    -------
    Analysis
        A request that got such an alert has a handshake that ended so; a connection that carried none is a loss.
    """
    named: dict[tuple[int, int], tuple[int, str]] = {}
    for joined in analysis.log.entries if analysis.log is not None else ():
        number = alert_in(joined.entry.message) if joined.verdict is EntryVerdict.EXPLAINED else -1
        if joined.wire is not None and number not in (-1, tls.CLOSE_NOTIFY):
            named.setdefault(joined.wire.key, (number, joined.entry.message))
    if not named:
        return analysis
    handshakes = dict(analysis.tls.handshakes) if analysis.tls is not None else {}
    losses: list[Loss] = []
    for loss in analysis.losses:
        key = loss.connection.conn, loss.depth
        if key in named and _may_be_rejected(loss, named[key][0]):
            rejected = _rejected(loss.handshake or handshakes.get(key[0]), *named[key])
            losses.append(replace(loss, handshake=rejected))
        else:
            losses.append(loss)
        named.pop(key, None)
    added: list[Loss] = []
    for (conn, _), (number, message) in named.items():
        handshake = handshakes.get(conn)
        if handshake is None or not handshake.is_unused or handshake.end is not None:
            continue
        row = analysis.connections.rows[conn]
        handshakes[conn] = _rejected(handshake, number, message)
        added.append(to_handshake_loss(to_connection(row, analysis.texts), row, handshakes[conn]))
    told = replace(analysis, losses=tuple(losses))
    if analysis.tls is not None:
        told = replace(told, tls=analysis.tls._replace(handshakes=handshakes))
    return with_losses(told, added) if added else told


def _may_be_rejected(loss: Loss, number: int) -> bool:
    """Tell whether an alert that the log names is hidden on this connection, and of a handshake."""
    if loss.handshake is not None:
        return loss.handshake.end is HandshakeEnd.REJECTED
    if loss.connection.protocol not in (Protocol.TLS, Protocol.UNKNOWN) or loss.is_connect:
        return False
    has_closed = any(key in loss.keys for key in (Key.UNSOLICITED, Key.RESP_FIN, Key.RESP_RST))
    return has_closed and (not loss.is_reused or number in _OF_THE_HANDSHAKE)


def _rejected(handshake: TlsHandshake | None, number: int, message: str) -> TlsHandshake:
    known = handshake if handshake is not None else TlsHandshake(tls.Hello())
    return replace(known, end=HandshakeEnd.REJECTED, by=Direction.RESP, named_alert=number, reason=message)
