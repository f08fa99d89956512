"""PD401: the head of a response did not fit into the proxy's buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.findings import Effect, RuleFacts, Severity
from pcapdiag.base.units import count_of
from pcapdiag.proxy.conf.remedy import raise_buffer_size
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._dialect import of_nginx
from pcapdiag.rules._logged import NEEDS_LOG, lacks_error_log, logged_finding, logged_tries
from pcapdiag.rules._rule import GroupText, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.findings import Finding
    from pcapdiag.proxy.join.ledger import JoinedEntry

_KINDS = frozenset({LogKind.TOO_BIG_HEADER})
_PAGE = 4096
_MOST_BYTES = 64 << 10
"""Above this, what came is rather the body than the head."""


class OversizedResponseHead(Rule):
    """The upstream answered, and the head of its response was larger than the proxy's buffer for it.

    What it looks for
    -----------------
    `upstream sent too big header` in the error log, and its try on the wire: a response that came, and right after it
    the proxy's FIN or RST.

    Why it matters
    --------------
    The client gets 502 although the upstream answered with success. Long cookies, a token in a header or a redirect
    with a long query are enough, so that it hits some users and not others.

    Evidence
    --------
    The request, the first byte of the response and the proxy's closing; the entry of the error log.

    When it is wrong
    ----------------
    Never by itself: the proxy says what it did. Packets alone cannot tell it from a client that went away.

    Remedy
    ------
    A larger `proxy_buffer_size`, or shorter fields in the response.

    References
    ----------
    nginx ngx_http_upstream_process_header (ngx_http_upstream.c), ngx_http_proxy_module `proxy_buffer_size`: one memory
    page by default.
    """

    code = "PD401"
    name = "oversized-response-head"
    title = "The head of a response did not fit into the proxy's buffer"
    severity = Severity.ERROR
    needs = ("error log",)
    helped_by = ("proxy configuration",)
    facts = RuleFacts(settings=("_buffer_size",), effect=Effect.ANSWERED)

    def missing(self, analysis: Analysis) -> str:
        """Return what is missing: the proxy's own word."""
        return lacks_error_log(analysis, NEEDS_LOG)

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream."""
        by_peer = logged_tries(analysis, _KINDS)
        enough = {peer: _enough(joined) for peer, joined in by_peer.items()}
        places = {peer: _places(analysis, peer) for peer in by_peer}
        for peer, joined in by_peer.items():
            # One line may hold for several upstreams: it gets the value that is enough for all of them.
            most = max(n for other, n in enough.items() if other == peer or places[other] & places[peer])
            yield logged_finding(self, peer, "", joined, _words(analysis, peer, joined, most))


def _came(joined: Sequence[JoinedEntry]) -> int:
    """[bytes] Return the most that came of such a response."""
    return max(j.wire.response_bytes for j in joined if j.wire is not None)


def _enough(joined: Sequence[JoinedEntry]) -> int:
    """[bytes] Return the buffer that holds what came, as far as that is a head; a usual size where it is not."""
    pages = -(-_came(joined) // _PAGE) * _PAGE
    return pages if _PAGE < pages <= _MOST_BYTES else 4 * _PAGE


def _places(analysis: Analysis, peer: str) -> frozenset[str]:
    """Return where the configuration says how large the buffer for an upstream is."""
    settings = analysis.settings
    if settings is None:
        return frozenset()
    places = settings.locations_of(settings.blocks_of_peer(peer))
    return frozenset(place.buffer_size_bytes.source or place.source for place in places)


def _words(analysis: Analysis, peer: str, joined: Sequence[JoinedEntry], enough: int) -> GroupText:
    changes = raise_buffer_size(analysis.settings, peer, enough) if analysis.settings is not None else ()
    came = _came(joined)
    how = (
        change_block(changes)
        if changes
        else (
            of_nginx(analysis, f"    proxy_buffer_size {enough // 1024}k;")
            or f"    room for {enough // 1024} KiB in the proxy's buffer for a response head"
        )
    )
    return GroupText(
        message=(
            f"{peer} sent {count_of(len(joined), 'response')} whose head did not fit into the proxy's buffer (at most"
            f" {came:,} bytes came): the proxy closed and could not use them."
        ),
        refuted_by="A status other than 502 for these requests in the access log.",
        remedy=(
            f"Make room for the head of a response:\n\n{how}\n\nOr find out what makes it so long: cookies, tokens and"
            " redirects with long queries are the usual reasons."
        ),
        details={"most_response_bytes": came},
        changes=changes,
    )
