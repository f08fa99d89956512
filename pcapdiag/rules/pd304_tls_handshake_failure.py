"""PD304: the TLS handshake with the upstream fails."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pcapdiag.analysis.handshake import HandshakeEnd, OwnCertificate
from pcapdiag.base.codes import Direction, Key, Protocol, TcpFlag
from pcapdiag.base.findings import Confidence, Evidence, Exposure, RuleFacts, Severity
from pcapdiag.base.sequence import relative_sequence
from pcapdiag.base.units import about, count_of
from pcapdiag.engine.asides.tls import alert_name, version_name
from pcapdiag.proxy.conf.describe import RETRY
from pcapdiag.rules._claim import Claim
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._tls_words import TlsWords, tls_words
from pcapdiag.rules._wire import certainty, proxy_closing, upstream_closing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.analysis.handshake import TlsHandshake
    from pcapdiag.analysis.model import Analysis, Connection, Loss
    from pcapdiag.engine.asides.collect import Aside

_CERTIFICATE = frozenset(
    {
        "bad_certificate",
        "unsupported_certificate",
        "certificate_revoked",
        "certificate_expired",
        "certificate_unknown",
        "unknown_ca",
    }
)
"""Alerts of who does not accept the other's certificate."""
_PARAMETERS = frozenset({"handshake_failure", "insufficient_security", "illegal_parameter", "decode_error"})
_MOST_NAMES = 3
_TLS_12 = 0x0303
_CLOSED_BEFORE = "upstream-closed-before-the-hello"
_REQUEST_TO_TLS = "plain-request"


class TlsHandshakeFailure(CauseRule):
    """A TLS handshake ended before it was finished.

    What it looks for
    -----------------
    A connection whose client hello was captured, and that then ended in a fatal alert in clear, in bytes that are no
    TLS, or in FIN or RST before both sides were done. The reverse, too: an HTTP request in clear to a port that
    answers with a TLS alert, or that speaks TLS on other connections and closes without an answer. And a handshake that
    the proxy was done with: of TLS 1.3, where the upstream asked for a certificate and answered what it got with
    nothing but a record that is as long as an alert; of any version, where the proxy's log names the alert.

    Why it matters
    --------------
    The request is never sent. nginx logs `SSL_do_handshake() failed` or `peer closed connection in SSL handshake while
    SSL handshaking to upstream` and takes the next peer; with none left the client gets 502.

    Evidence
    --------
    The client hello with the versions, the server name (SNI) and the protocols (ALPN) that it offers, the answer, the
    alert by its name, and the closing.

    When it is wrong
    ----------------
    An alert in clear is what a side said, not why: a server may say handshake_failure of anything. What TLS 1.3
    encrypts cannot be read: an upstream that ends just then for another reason says close_notify, which is as long as
    any other alert. An upstream that closes before the hello has reached it refuses nothing in it: that is
    told in words of its own. A check of the certificate that only reads it and goes away looks like a proxy that closes
    inside the handshake. That the proxy refuses a certificate after a handshake that was whole (nginx does so with
    `proxy_ssl_verify`) cannot be told from an orderly end without the error log.

    Remedy
    ------
    It depends on the alert: `proxy_ssl_protocols` for protocol_version, `proxy_ssl_server_name on` and `proxy_ssl_name`
    for unrecognized_name, `proxy_ssl_trusted_certificate` where the proxy refuses the certificate,
    `proxy_ssl_certificate` where the upstream asks for one, `proxy_pass http://` where the port speaks no TLS.

    References
    ----------
    RFC 8446 section 6 (alerts), RFC 5246 section 7.2; nginx, ngx_http_proxy_module (proxy_ssl_*).
    """

    code = "PD304"
    name = "tls-handshake-failure"
    title = "TLS handshakes with the upstream fail"
    severity = Severity.ERROR
    needs = ("both directions", "the client hello")
    helped_by = ("the proxy's error log", "the upstream's own log")
    supersedes = ("PD201", "PD202", "PD207", "PD301", "PD302")
    facts = RuleFacts(settings=("_connect_timeout", *RETRY), exposure=Exposure.CONNECTION)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield handshakes that failed, and requests in clear to ports that speak TLS."""
        for loss in analysis.losses:
            handshake = loss.handshake
            closing = upstream_closing(loss) or proxy_closing(loss)
            if handshake is None:
                if _is_request_to_tls(analysis, loss):
                    yield loss, Claim(certainty(analysis, loss, Confidence.LIKELY), _REQUEST_TO_TLS, closing)
                continue
            is_seen = handshake.end in (HandshakeEnd.ALERT, HandshakeEnd.NOT_TLS, HandshakeEnd.PLAIN_REQUEST)
            confidence = Confidence.CONFIRMED if is_seen and handshake.by is Direction.RESP else Confidence.LIKELY
            if handshake.end is HandshakeEnd.ALERT:
                confidence = Confidence.CONFIRMED
            if _is_by_choice(handshake):
                confidence = Confidence.POSSIBLE
            if handshake.named_alert >= 0:
                confidence = certainty(analysis, loss, Confidence.CONFIRMED)
            group = _CLOSED_BEFORE if _is_before_hello(loss) else _group_of(handshake)
            yield loss, Claim(confidence, group, closing, frames=tuple(_frames(loss.connection, handshake)))

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        n = group.n_losses
        handshake = group.losses[0].handshake
        if handshake is None or handshake.end is HandshakeEnd.PLAIN_REQUEST:
            return _describe_request(group, handshake, tls_words(analysis))
        if _is_before_hello(group.losses[0]):
            return _describe_closed_before(group)
        severity = None
        if _is_by_choice(handshake):
            # Checks of a certificate and clients that go away do the same; an entry tells of a request.
            is_grave = handshake.end is HandshakeEnd.SILENCE or _is_logged(analysis, group)
            severity = Severity.WARNING if is_grave else Severity.INFO
        who = group.subject if handshake.by is Direction.RESP else "the proxy"
        offered = _offered([loss.handshake for loss in group.losses if loss.handshake is not None])
        what = _what(handshake, who, group)
        return GroupText(
            message=f"{count_of(n, 'TLS handshake')} with {group.subject} failed: {what}. {offered}",
            refuted_by="Application data of both sides on one of these connections.",
            remedy=_remedy(handshake, group.subject, tls_words(analysis)),
            severity=severity,
        )


def _is_request_to_tls(analysis: Analysis, loss: Loss) -> bool:
    """Tell whether a request in clear was sent to a port that speaks TLS, and ended without an answer."""
    if analysis.tls is None or loss.depth != 0 or loss.connection.protocol is not Protocol.HTTP1:
        return False
    is_closed = Key.RESP_RST in loss.keys or Key.RESP_FIN in loss.keys
    return is_closed and not loss.is_reused and str(loss.connection.resp) in analysis.tls.speaks_only_tls


def _is_before_hello(loss: Loss) -> bool:
    """Tell whether the upstream's FIN acknowledges nothing of the client hello: it had not reached it."""
    handshake = loss.handshake
    fin = loss.keys.get(Key.RESP_FIN)
    if handshake is None or handshake.hello_aside is None or fin is None or handshake.by is not Direction.RESP:
        return False
    return handshake.end is HandshakeEnd.CLOSED and fin.ack == handshake.hello_aside.seq


def _describe_closed_before(group: Group) -> GroupText:
    n = group.n_losses
    connections = "the connection" if n == 1 else "the connections"
    return GroupText(
        message=(
            f"{count_of(n, 'TLS handshake')} with {group.subject} could not begin: it closed {connections} before the"
            " client hello had reached it (its FIN acknowledges nothing of that)."
        ),
        refuted_by="A FIN that acknowledges the client hello.",
        remedy=(
            "The upstream closed of itself, so that no name, version or certificate plays a part: a limit on"
            " connections, a timeout for the first bytes, or a stop or reload does so, and its log knows which. A new"
            " connection may be tried at once: nothing of a request was sent."
        ),
    )


def _is_by_choice(handshake: TlsHandshake) -> bool:
    """Tell whether the proxy's side ended it without saying what it lacks: a client that went away, a check."""
    return handshake.by is Direction.ORIG and handshake.end in (
        HandshakeEnd.CLOSED,
        HandshakeEnd.RESET,
        HandshakeEnd.SILENCE,
    )


def _is_logged(analysis: Analysis, group: Group) -> bool:
    keys = {(loss.connection.conn, loss.depth) for loss in group.losses}
    tries = analysis.log.tries if analysis.log is not None else ()
    return any(joined.entries and joined.wire.key in keys for joined in tries)


def _group_of(handshake: TlsHandshake) -> str:
    end = handshake.end
    side = "upstream" if handshake.by is Direction.RESP else "proxy"
    if end is HandshakeEnd.REJECTED:
        which = alert_name(handshake.named_alert) if handshake.named_alert >= 0 else handshake.own_certificate.name
        return f"{side}-rejected-{which.lower().replace(' ', '-')}"
    if end is HandshakeEnd.ALERT and handshake.alert is not None:
        return f"{side}-{handshake.alert.name.replace(' ', '-')}"
    return f"{side}-{end.name.lower().replace('_', '-')}" if end is not None else side


def _what(handshake: TlsHandshake, who: str, group: Group) -> str:
    """Say how the handshakes of a group ended."""
    end, alert = handshake.end, handshake.alert
    after = "after the upstream's hello" if handshake.answer is not None else "before any hello of the upstream"
    if end is HandshakeEnd.ALERT and alert is not None:
        own = ": its own check of the upstream's certificate" if _is_own_check(handshake) else ""
        return f"{who} sent the fatal alert {alert.name} ({alert.description}) {after}{own}"
    if end is HandshakeEnd.NOT_TLS:
        if handshake.is_text:
            said = f'plain text ("{handshake.first_line}")'
            return f"{who} answered the client hello with {said}: it speaks no TLS there"
        return f"{who} answered the client hello with bytes that are no TLS record, and the connection ended"
    if end is HandshakeEnd.HIDDEN_ALERT:
        return (
            "the proxy sent an encrypted alert in place of its Finished and closed (TLS 1.3 hides which; often it is"
            " its own check of the upstream's certificate)"
        )
    if end is HandshakeEnd.REJECTED:
        return _rejection(handshake, who, group)
    if end is HandshakeEnd.REFUSED:
        reasons = _most_common(loss.handshake.reason for loss in group.losses if loss.handshake is not None)
        return f"when it was whole the proxy refused the certificate, by its error log: {reasons}"
    if end is HandshakeEnd.SILENCE:
        waits = sorted(wait for loss in group.losses if (wait := _wait_ns(loss)) >= 0)
        span = f" after {about(waits[0])}" if waits else ""
        to = f" to {about(waits[-1])}" if waits and about(waits[-1]) != about(waits[0]) else ""
        return f"the proxy closed{span}{to} without an answer to its client hello"
    how = "reset the connection" if end is HandshakeEnd.RESET else "closed the connection (FIN)"
    named = [a.name for a in handshake.alerts if a.dir is handshake.by]
    alerts = f"with no other alert than {' and '.join(dict.fromkeys(named))}" if named else "without an alert"
    return f"{who} {how} inside the handshake, {after}, {alerts}"


def _rejection(handshake: TlsHandshake, who: str, group: Group) -> str:
    """Say how the upstream ended handshakes that the proxy was done with."""
    own = {
        OwnCertificate.EMPTY: "it had asked for a certificate, and the proxy sent none",
        OwnCertificate.SENT: "it had asked for a certificate, and the proxy sent one",
    }.get(handshake.own_certificate, "")
    if handshake.named_alert >= 0:
        name = f"the alert {alert_name(handshake.named_alert)} ({handshake.named_alert})"
        when = "in place of a response" if any(not loss.is_connect for loss in group.losses) else "at once"
        return f"by the proxy's log {who} answered with {name}, {when}{f'; {own}' if own else ''}"
    certificate = "for want of that" if handshake.own_certificate is OwnCertificate.EMPTY else "because of that"
    return (
        f"{own}; {who} answered with nothing but an encrypted alert, and sent no session ticket: most likely it refused"
        f" the connection {certificate}, although a close_notify would look the same (the proxy's error log names it)"
    )


def _wait_ns(loss: Loss) -> int:
    hello = loss.handshake.hello_aside if loss.handshake is not None else None
    return loss.connection.closing_ts_ns - hello.ts_ns if hello is not None else -1


def _is_own_check(handshake: TlsHandshake) -> bool:
    alert = handshake.alert
    return alert is not None and alert.dir is Direction.ORIG and alert.name in _CERTIFICATE


def _offered(handshakes: Iterable[TlsHandshake]) -> str:
    """Say what the hellos offered and what the upstream chose."""
    known = [h for h in handshakes if h.hello.is_whole]
    if not known:
        return "What the client hello offered was not captured whole."
    versions = _most_common(_versions(h) for h in known)
    names = _most_common(h.hello.server_name or "none" for h in known)
    chosen = _most_common(version_name(h.answer.versions[0]) for h in known if h.answer and h.answer.versions)
    alpn = _most_common(", ".join(h.hello.alpn) for h in known if h.hello.alpn)
    text = f"The client hello offers {versions}; its server name (SNI): {names}"
    text += f"; ALPN: {alpn}" if alpn else ""
    return f"{text}; the upstream chose {chosen}." if chosen else f"{text}."


def _versions(handshake: TlsHandshake) -> str:
    """Return the versions that a client hello offers; empty if they are not known."""
    versions = handshake.hello.versions
    text = ", ".join(version_name(v) for v in versions)
    # TLS 1.2 and before name the highest; that all below are offered as well, nobody says.
    return f"at most {text}" if len(versions) == 1 and versions[0] <= _TLS_12 else text


def _most_common(texts: Iterable[str]) -> str:
    names = [name for name, _ in Counter(texts).most_common()]
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return " or ".join(name[:100] for name in names[:_MOST_NAMES]) + more


def _describe_request(group: Group, handshake: TlsHandshake | None, words: TlsWords) -> GroupText:
    """Return the words for HTTP in clear to a port that speaks TLS."""
    requests = count_of(group.n_losses, "request")
    if handshake is not None and handshake.alert is not None:
        how = f"answered {requests} in clear with the TLS alert {handshake.alert.name}: it speaks TLS there"
    else:
        how = f"closed without an answer to {requests} in clear; on other connections it speaks TLS there"
    return GroupText(
        message=f"{group.subject} {how}.",
        refuted_by="An HTTP response in clear from this port.",
        remedy=(
            f"Let the proxy speak TLS to {group.subject}{_in_brackets(words.speak)}, or name the upstream's port for"
            " plain HTTP."
        ),
    )


def _in_brackets(words: str) -> str:
    return f" ({words})" if words else ""


def _certificate_remedy(subject: str, words: TlsWords) -> str:
    return (
        f"See the upstream's certificate (`openssl s_client -showcerts -connect {subject}`): its dates, its names, who"
        " signed it. Renew it, or give the proxy the authority that signed it and the name to"
        f" check{_in_brackets(words.trust)}."
    )


def _remedy(handshake: TlsHandshake, subject: str, words: TlsWords) -> str:
    """Say what to do, in the proxy's own language, by what ended the handshake."""
    alert = handshake.alert
    name = alert.name if alert is not None else ""
    if handshake.end is HandshakeEnd.REJECTED:
        # Which one it was, only a log knows; of who asked for a certificate, that is the matter.
        is_named = handshake.named_alert >= 0
        name = alert_name(handshake.named_alert) if is_named else "certificate_required"
    if handshake.end is HandshakeEnd.NOT_TLS:
        return (
            f"Let the proxy speak plain HTTP to {subject}{_in_brackets(words.plain)}, or name the upstream's TLS port."
        )
    if name == "protocol_version":
        offered = handshake.hello.versions[0] if handshake.hello.versions else 0
        own = f" (now at most {version_name(offered)})" if offered else ""
        return (
            f"Agree on a version: let the proxy offer{own} what the upstream demands{_in_brackets(words.versions)}, or"
            f" let the upstream accept what the proxy offers. `openssl s_client -connect {subject} -tls1_2` and"
            " `-tls1_3` tell which versions it takes."
        )
    if name == "unrecognized_name":
        return (
            f"Send the name that the upstream expects{_in_brackets(words.name)}. `openssl s_client -connect {subject}"
            " -servername NAME` shows whether it takes the name."
        )
    if _is_own_check(handshake) or handshake.end in (HandshakeEnd.HIDDEN_ALERT, HandshakeEnd.REFUSED):
        return _certificate_remedy(subject, words)
    if name in _CERTIFICATE or name in ("certificate_required", "access_denied"):
        return (
            f"The upstream {_does_not_accept(handshake, name)}: give it one that the upstream"
            f" trusts{_in_brackets(words.own)}."
        )
    if name == "no_application_protocol":
        return "The upstream speaks none of the protocols that the client hello offers (ALPN): see its configuration."
    if name in _PARAMETERS:
        # Servers say the same of ciphers without a match and of a name that they miss: without a name it may be either.
        is_nameless = handshake.end is not HandshakeEnd.REJECTED and not handshake.hello.server_name
        name_words = (
            f" The upstream may as well miss a server name, which the hello does not send{_in_brackets(words.name)}:"
            f" `openssl s_client -connect {subject} -servername NAME` tells whether a name is enough."
            if is_nameless
            else ""
        )
        return (
            "The two share no parameters, or the upstream asks for a client certificate: compare ciphers and"
            f" curves{_in_brackets(words.parameters)}, give the proxy a certificate where the upstream asks for"
            f" one{_in_brackets(words.own)}, and see the upstream's log, which knows why.{name_words}"
        )
    if handshake.end is HandshakeEnd.SILENCE:
        return (
            f"See whether {subject} speaks TLS at all on this port (`openssl s_client -connect {subject}`), whether its"
            " workers are busy, and, if the hello was never acknowledged, whether large segments get through (MTU)."
        )
    if _is_by_choice(handshake):
        return (
            "The proxy's own log says why it closed; a client that went away, or a check of the certificate, does so."
        )
    return (
        f"The upstream's log knows why it ended the handshake. Try it with `openssl s_client -connect {subject}`, with"
        " and without `-servername`: a wrong or missing server name, a version or a client certificate are the usual"
        " reasons."
    )


def _does_not_accept(handshake: TlsHandshake, name: str) -> str:
    """Say what is wrong with the proxy's certificate, as far as that is known."""
    if handshake.end is HandshakeEnd.REJECTED and handshake.named_alert < 0:
        if handshake.own_certificate is OwnCertificate.EMPTY:
            return "most likely insists on a certificate of the proxy"
        return "most likely does not accept the certificate of the proxy"
    is_lacking = name == "certificate_required" and handshake.own_certificate is not OwnCertificate.SENT
    if is_lacking or handshake.own_certificate is OwnCertificate.EMPTY:
        return "wants a certificate of the proxy"
    why = {
        "certificate_expired": "has expired",
        "certificate_revoked": "was revoked",
        "unknown_ca": "is signed by nobody whom it trusts",
    }.get(name, "")
    return f"does not accept the proxy's certificate{f', which {why}' if why else ''}"


def _frames(connection: Connection, handshake: TlsHandshake) -> Iterator[Evidence]:
    """Yield the frames of the handshake."""
    hello, answer = handshake.hello_aside, handshake.answer_aside
    alerts = [alert for alert in handshake.alerts if alert.is_fatal][:2]
    if hello is not None:
        what = _versions(handshake)
        yield _frame(
            connection,
            hello,
            Direction.ORIG,
            "client hello",
            f"client hello: offers {what}" if what else "client hello",
        )
    if answer is not None and answer.frame not in {alert.aside.frame for alert in alerts}:
        chosen = handshake.answer.versions if handshake.answer is not None else ()
        if chosen:
            yield _frame(
                connection, answer, Direction.RESP, "server hello", f"server hello: chooses {version_name(chosen[0])}"
            )
        elif handshake.text:
            yield _frame(connection, answer, Direction.RESP, "no TLS", "bytes that are no TLS record")
        else:
            yield _frame(connection, answer, Direction.RESP, "answer", "the upstream answers the client hello")
    if handshake.end is HandshakeEnd.REJECTED and handshake.rejection is not None:
        named = f", by the proxy's log {alert_name(handshake.named_alert)}" if handshake.named_alert >= 0 else ""
        text = f"an encrypted alert and nothing else{named}"
        yield _frame(connection, handshake.rejection, Direction.RESP, "alert", text)
    for alert in alerts:
        text = f"fatal alert {alert.name} ({alert.description})"
        yield _frame(connection, alert.aside, alert.dir, "alert", text)


def _frame(connection: Connection, aside: Aside, direction: Direction, label: str, text: str) -> Evidence:
    isn = connection.orig_isn, connection.resp_isn
    return Evidence(
        frame=aside.frame,
        ts_ns=aside.ts_ns,
        dir=int(direction),
        flags=int(TcpFlag.PSH | TcpFlag.ACK),
        seq=aside.seq,
        ack=aside.ack,
        rel_seq=relative_sequence(aside.seq, isn[direction]),
        rel_ack=relative_sequence(aside.ack, isn[1 - direction]),
        payload_len=aside.length,
        ttl=aside.ttl,
        label=label,
        text=text,
    )
