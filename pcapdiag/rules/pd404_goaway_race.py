"""PD404: the upstream said itself that it did not take the request: GOAWAY, RST_STREAM, FCGI_END_REQUEST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import Key, Protocol
from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.base.units import count_of
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import proxy_kind
from pcapdiag.rules._records import status_name
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._streams import error_name, is_not_processed, stream_text
from pcapdiag.rules._wire import certainty, is_refused_while_in_use, was_idle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.analysis.model import Analysis, Loss

_GOAWAY, _REFUSED, _FCGI = "goaway", "refused", "fastcgi-"


_WHY_REJECTED = {
    1: "The application takes one request at a time on a connection: let whoever sends not multiplex (FastCGI 1.0"
    " section 4.1, FCGI_MPXS_CONNS), but open more connections.",
    2: "The application ran out of a resource of its own, such as processes or connections to a database: its own log"
    " says which. More of them, or fewer requests at a time, help.",
    3: "The application does not know the role that it was asked to play (Responder, Authorizer, Filter): see what this"
    " port serves.",
}
"""By the protocol status of FCGI_END_REQUEST (FastCGI 1.0 section 5.5)."""


class GoawayRace(CauseRule):
    """The upstream said of an HTTP/2 stream that it did nothing of it: GOAWAY, or REFUSED_STREAM.

    What it looks for
    -----------------
    HTTP/2 in the clear (gRPC): a stream whose number lies beyond the last one of the upstream's GOAWAY, or that the
    upstream ended by RST_STREAM with REFUSED_STREAM, without a byte of a response. Where the connection was idle, and a
    FIN behind a GOAWAY without error crossed the request, it is the idle race (PD101). In FastCGI a request that the
    upstream rejected: FCGI_END_REQUEST with FCGI_OVERLOADED, FCGI_CANT_MPX_CONN or FCGI_UNKNOWN_ROLE, and no output.

    Why it matters
    --------------
    A connection that carries many streams is ended by its server after an age, a number of requests or a reload. What
    was on its way then was not processed, and may be sent again whatever its method; a proxy that does not do so hands
    the failure on. nginx logs `upstream sent goaway with error 0` or `upstream rejected request with error 7`, and
    gRPC calls are POST, which it does not send again by itself.

    Evidence
    --------
    The request, the frame with GOAWAY or RST_STREAM, its error code, and whether the proxy had acknowledged GOAWAY
    before it opened the stream.

    When it is wrong
    ----------------
    Where a server processed the stream all the same and says otherwise; nothing in packets tells.

    Remedy
    ------
    Let the server end connections in two steps, with time in between (gRPC `MAX_CONNECTION_AGE_GRACE` well above a
    round trip and the longest call; Go's `GracefulStop`): the first GOAWAY only asks for a new connection. Let the
    proxy send such requests again: they were not processed. REFUSED_STREAM mostly says that more streams were opened
    than the server allows (`SETTINGS_MAX_CONCURRENT_STREAMS`), or that it sheds load.

    References
    ----------
    RFC 9113 section 6.8 (GOAWAY), section 8.7 (what may be sent again), section 5.1.2 (streams at a time); nginx
    ngx_http_grpc_module.c, `grpc_next_upstream invalid_header non_idempotent`.
    """

    code = "PD404"
    name = "goaway-race"
    title = "The upstream did not take the request, by its own word"
    severity = Severity.ERROR
    needs = ("both directions", "HTTP/2 or FastCGI in the clear")
    helped_by = ("error log and access log",)
    supersedes = ("PD103", "PD104", "PD105", "PD106", "PD201", "PD202", "PD204", "PD205", "PD206", "PD207")
    proofs = Proofs(without_line=Confidence.CONFIRMED)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield streams that the upstream did not process, as it said."""
        for loss in analysis.losses:
            if loss.is_connect or not is_not_processed(loss):
                continue
            if was_idle(loss) and not is_refused_while_in_use(loss):
                continue
            if loss.connection.protocol is Protocol.FASTCGI:
                end = loss.keys.get(Key.RESP_END_REQUEST)
                yield loss, Claim(certainty(analysis, loss, Confidence.CONFIRMED), f"{_FCGI}{loss.stream_error}", end)
                continue
            key = Key.RESP_RESET_STREAM if Key.RESP_RESET_STREAM in loss.keys else Key.GOAWAY
            group = _REFUSED if key is Key.RESP_RESET_STREAM else _GOAWAY
            if group == _GOAWAY and loss.stream_error > 0:
                group = f"{_GOAWAY}-{loss.stream_error}"
            claim = Claim(
                certainty(analysis, loss, Confidence.CONFIRMED),
                group,
                loss.keys.get(key),
                {key: stream_text(loss, key)},
            )
            yield loss, claim

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        n = group.n_losses
        streams = count_of(n, "stream")
        if group.group.startswith(_FCGI):
            return _rejected(group)
        again = _again(analysis)
        if group.group == _REFUSED:
            return GroupText(
                message=(
                    f"{group.subject} refused {streams} (RST_STREAM, {error_name(7)}): it did nothing of"
                    f" {'it' if n == 1 else 'them'}, by its own word."
                ),
                refuted_by="A line of the upstream's own log that shows such a request served.",
                remedy=(
                    f"See why {group.subject} refuses streams: its limit of streams at a time"
                    " (SETTINGS_MAX_CONCURRENT_STREAMS), overload, a shutdown. More connections at the proxy, or a"
                    f" higher limit, help against the first.\n\n{again}"
                ),
            )
        error = group.losses[0].stream_error
        known = count_losses(loss for loss in group.losses if _had_goaway(loss))
        knew = f" Of {known} the proxy had acknowledged that GOAWAY before it opened the stream." if known else ""
        return GroupText(
            message=(
                f"{group.subject} said GOAWAY ({error_name(error)}) and served no more streams on"
                f" {'that connection' if n == 1 else 'those connections'}: {streams} lay beyond the last one that it"
                f" names and {'was' if n == 1 else 'were'} not processed, by its own word.{knew}"
            ),
            refuted_by="A line of the upstream's own log that shows such a request served.",
            remedy=(
                f"Let {group.subject} end connections gracefully: a first GOAWAY that only asks for a new connection,"
                " and time for what is on its way (gRPC: MAX_CONNECTION_AGE_GRACE above a round trip and the longest"
                " call, GracefulStop before a restart). A higher age or number of requests per connection makes it"
                f" rarer.\n\n{again}"
            ),
        )


def _rejected(group: Group) -> GroupText:
    """Return the words for FastCGI requests that the upstream rejected: one status each."""
    n, status = group.n_losses, group.losses[0].stream_error
    them = "it" if n == 1 else "them"
    return GroupText(
        message=(
            f"{group.subject} rejected {count_of(n, 'FastCGI request')} (FCGI_END_REQUEST, {status_name(status)}): by"
            f" its own word it did nothing of {them}."
        ),
        refuted_by="A line of the upstream's own log that shows such a request served.",
        remedy=f"{_WHY_REJECTED[status]}\n\nSuch a request was not processed and may be sent again.",
    )


def _again(analysis: Analysis) -> str:
    text = "Such a request may be sent again whatever its method (RFC 9113 section 8.7)"
    if proxy_kind(analysis) is ProxyKind.NGINX:
        return (
            f"{text}; nginx takes it for an invalid header, and sends POST, which gRPC is, again only with"
            " grpc_next_upstream error invalid_header non_idempotent; and then after other failures, too, where a call"
            " may run twice."
        )
    return f"{text}: see that the proxy, or the client, does."


def _had_goaway(loss: Loss) -> bool:
    """Tell whether the request's own acknowledgement number covers the GOAWAY."""
    goaway, request = loss.keys.get(Key.GOAWAY), loss.keys.get(Key.REQUEST)
    return goaway is not None and request is not None and request.acknowledges(goaway.next_seq)
