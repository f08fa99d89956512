"""PD402: what the upstream sent is no valid response."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pcapdiag.base.findings import Severity
from pcapdiag.base.units import count_of
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules._logged import NEEDS_LOG, lacks_error_log, logged_finding, logged_tries
from pcapdiag.rules._rule import GroupText, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.findings import Finding
    from pcapdiag.proxy.join.ledger import JoinedEntry

_WRONG = {
    LogKind.INVALID_HEADER: "a header field that is none, or that contradicts another",
    LogKind.NO_VALID_HEADER: "no status line, which the proxy took for HTTP/0.9",
    LogKind.INVALID_BODY: "a body that breaks its chunks or its length",
    LogKind.PREMATURE_RESPONSE: "bytes before the request was sent",
    LogKind.PROTOCOL_ERROR: "what breaks the protocol between proxy and upstream",
}


class InvalidResponse(Rule):
    """The upstream answered, and what it sent is no valid response.

    What it looks for
    -----------------
    `upstream sent invalid header`, `upstream sent no valid HTTP/1.0 header`, `upstream sent invalid chunked response`
    and their kin in the error log, and the try on the wire.

    Why it matters
    --------------
    The client gets 502, or a response without its head, although the upstream believes that it answered; its own log
    shows success.

    Evidence
    --------
    The request, the first byte of the response and the proxy's closing; the entry of the error log.

    When it is wrong
    ----------------
    Never by itself: the proxy says what it could not read. Whether upstream or proxy is too strict is for the RFC.

    Remedy
    ------
    Look at the bytes: follow the stream in Wireshark. No status line is usually the wrong port or TLS spoken in the
    clear; a bad field is usually a line end or a control character in a value that came from elsewhere.

    References
    ----------
    RFC 9112 sections 4, 5 and 7.1, RFC 9110 section 5.5; nginx ngx_http_parse.c and ngx_http_proxy_module.c.
    """

    code = "PD402"
    name = "invalid-response"
    title = "The proxy could not read what the upstream answered"
    severity = Severity.ERROR
    needs = ("error log",)

    def missing(self, analysis: Analysis) -> str:
        """Return what is missing: the proxy's own word."""
        return lacks_error_log(analysis, NEEDS_LOG)

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream."""
        for peer, joined in logged_tries(analysis, frozenset(_WRONG)).items():
            # FastCGI's end of a request without output, where nginx expects some, is a failure with a cause of its own.
            sent = [j for j in joined if j.wire is None or j.wire.first_response_ns >= 0]
            if sent:
                yield logged_finding(self, peer, "", sent, _words(peer, sent))


def _words(peer: str, joined: Sequence[JoinedEntry]) -> GroupText:
    kinds = Counter(j.entry.kind for j in joined)
    what = "; ".join(f"{_WRONG[kind]} ({n:,})" for kind, n in kinds.most_common())
    return GroupText(
        message=f"{peer} sent {count_of(len(joined), 'response')} that the proxy could not read: {what}.",
        refuted_by="The same bytes read by another client of the upstream without complaint.",
        remedy=(
            "Look at the bytes of such a response (in Wireshark: follow the TCP stream of the frames above). No status"
            " line: is this the right port, and does the upstream speak TLS there? A bad field: the application put a"
            " line end or a control character into a value. A bad body: Content-Length or chunks do not fit what was"
            " written."
        ),
        details={kind.name.lower(): n for kind, n in kinds.items()},
    )
