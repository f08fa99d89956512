"""PD107: the upstream closes a connection after a constant number of requests, and one more was on its way."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, cast

from pcapdiag.base.codes import OF_GATEWAYS, ConnEnd, Direction, Key
from pcapdiag.base.findings import Confidence, Exposure, RuleFacts, Severity
from pcapdiag.base.units import NS_PER_MS, NS_PER_S, about, count_of
from pcapdiag.proxy.conf import remedy as conf
from pcapdiag.rules._again import retries
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._claim import Claim, Proofs
from pcapdiag.rules._dialect import server_words
from pcapdiag.rules._kept import announced_ends, is_readable, of_endpoint, to_upstreams
from pcapdiag.rules._reuse_words import request_limit_advice
from pcapdiag.rules._rule import CauseRule, Group, GroupText
from pcapdiag.rules._wire import certainty, is_acknowledged, is_closed_by_upstream, upstream_closing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pcapdiag.analysis.model import Analysis, Endpoint, Loss

_AT_ONCE_NS = 100 * NS_PER_MS
"""[ns] A closing so soon after a response belongs to it."""
_FEWEST = 3
_SAME = 0.8
_MOST_UPSTREAMS = 50
_PROMPT_NS = NS_PER_S
"""[ns] Who closes without reading does not take longer, beside the way there and back."""


class RequestLimitClose(CauseRule):
    """The upstream closes each connection after a constant number of requests, and the next one was on its way.

    What it looks for
    -----------------
    An upstream that closes connections right behind a response that does not announce it, at least three of them and
    four in five after the same number of requests (two or more), none of which carried more; and a request that
    followed that many, and got no answer: it crossed the FIN, or the kernel took it and nobody read it.

    Why it matters
    --------------
    A server that ends a connection after so many requests should say so in the last response (`Connection: close`);
    FastCGI has no such word. Without it the proxy sends the next request into the closing: a 502 whose idle gap is
    next to nothing, so that no idle timeout explains or cures it.

    Evidence
    --------
    The number of requests on each connection that was captured from its handshake to its closing, and the
    acknowledgement numbers of the request and of the FIN.

    When it is wrong
    ----------------
    Clients that ask in a fixed rhythm and leave make connections of one length as well; there the upstream does not
    close first, right behind a response.

    Remedy
    ------
    Let the proxy give a connection up after as many requests (nginx: `keepalive_requests` in the upstream block), or
    raise the limit of the upstream (php-fpm `pm.max_requests`).

    References
    ----------
    RFC 9112 section 9.6, nginx ngx_http_upstream_module `keepalive_requests`, FastCGI 1.0 section 5.1
    (FCGI_KEEP_CONN).
    """

    code = "PD107"
    name = "request-limit-close"
    title = "The upstream closed a connection after a constant number of requests, and one more was on its way"
    severity = Severity.ERROR
    needs = ("connections from their handshake to their closing", "both directions")
    supersedes = ("PD101", "PD103", "PD106")
    facts = RuleFacts(settings=("keepalive_requests",), exposure=Exposure.REUSE)
    proofs = Proofs(without_line=Confidence.CONFIRMED)

    def claims(self, analysis: Analysis) -> Iterator[tuple[Loss, Claim]]:
        """Yield requests that came behind as many as a connection may carry."""
        limits = _limits(analysis)
        for loss in analysis.losses:
            limit = limits.get(loss.connection.resp, 0)
            if not limit or loss.depth != limit or loss.connection.orig_isn < 0 or loss.connection.n_holes:
                continue
            if announced_ends(analysis)[loss.connection.conn]:
                continue  # then it was the sender's mistake
            closing = upstream_closing(loss)
            if closing is None or closing.key not in (Key.RESP_FIN, Key.RESP_RST) or loss.response_bytes:
                continue
            crossing = loss.crossing
            if crossing is not None and _age_ns(loss) <= _AT_ONCE_NS:
                text = f"FIN right behind response {limit:,}: it acknowledges none of the request"
            elif is_acknowledged(loss) and is_closed_by_upstream(loss) and _is_prompt(loss):
                text = f"{closing.kind_name} instead of an answer to request {limit + 1:,}: nobody read it"
            else:
                continue
            yield loss, Claim(certainty(analysis, loss, Confidence.LIKELY), closing=closing, texts={closing.key: text})

    def missing(self, analysis: Analysis) -> str:
        """Return why requests per connection could not be counted."""
        if not (to_upstreams(analysis) & is_readable(analysis)).any():
            return "requests per connection are not told apart: none to an upstream was readable"
        return ""

    def describe(self, analysis: Analysis, group: Group) -> GroupText:
        """Return the words of a finding."""
        loss = group.losses[0]
        limit, n = loss.depth, group.n_losses
        longest = max(x.idle_before_ns for x in group.losses)
        is_gateway = loss.connection.protocol in OF_GATEWAYS
        where = f" ({server_words(loss.connection).restart})" if is_gateway else ""
        settings = analysis.settings
        changes = conf.lower_request_limit(settings, group.subject, limit) if settings is not None else ()
        advice = change_block(changes) if changes else request_limit_advice(analysis, group.subject, limit)
        return GroupText(
            message=(
                f"{group.subject} closes each connection after {limit:,} requests, without a word in the last response:"
                f" {count_of(n, 'request')} came as number {limit + 1:,}, at most {about(max(longest, 0))} behind it,"
                " and got no answer."
            ),
            refuted_by="A connection to this upstream with more requests, or Connection: close in the last response.",
            remedy=(
                f"{advice}\n\nOr at the upstream: raise the number of"
                f" requests that a connection may carry{where}, or let its last response say Connection: close. No idle"
                f" timeout helps: these connections were not idle.\n\n{retries(analysis, loss)}"
            ),
            details={"requests_per_connection": limit, "longest_gap_ns": longest},
            changes=changes,
        )


def _limits(analysis: Analysis) -> Mapping[Endpoint, int]:
    """Return the constant number of requests after which each upstream closes, where there is one; worked out once."""
    if __name__ not in analysis.memo:
        crossed: dict[Endpoint, list[Loss]] = defaultdict(list)
        for loss in analysis.losses:
            is_told = announced_ends(analysis)[loss.connection.conn]
            if loss.depth > 1 and loss.crossing is not None and _age_ns(loss) <= _AT_ONCE_NS and not is_told:
                crossed[loss.connection.resp].append(loss)
        suspects = Counter(loss.connection.resp for loss in analysis.losses if loss.depth > 1)
        # Each is held against all connections: of a flood those that lost the most are.
        found = {e: _limit(analysis, e, crossed[e]) for e, _ in suspects.most_common(_MOST_UPSTREAMS)}
        analysis.memo[__name__] = {endpoint: limit for endpoint, limit in found.items() if limit}
    return cast("Mapping[Endpoint, int]", analysis.memo[__name__])


def _limit(analysis: Analysis, endpoint: Endpoint, crossed: list[Loss]) -> int:
    """Return the limit of one upstream; 0 if its connections do not end at a constant number."""
    columns = of_endpoint(analysis, endpoint)
    index = columns.index
    is_whole = (
        (columns["orig_isn"] >= 0)
        & (columns["hole_bytes"] == 0)
        & (columns["end"] != ConnEnd.EVICTED)
        & is_readable(analysis)[index]
    )
    answered = columns["n_exchanges"] - columns["n_unanswered"]
    ages = columns["idle_at_close_ns"]
    at_once = (
        is_whole
        & ~announced_ends(analysis)[index]
        & (columns["first_closer"] == Direction.RESP)
        & (columns["closing_open_exchange"] == 0)
        & (ages >= 0)
        & (ages <= _AT_ONCE_NS)
    )
    ends = Counter(answered[at_once].tolist())
    ends.update(loss.depth for loss in crossed)
    if not ends:
        return 0
    limit, n = max(ends.items(), key=lambda item: (item[1], item[0]))
    if limit < 2 or n < max(_FEWEST, _SAME * sum(ends.values())) or int(answered[is_whole].max(initial=0)) > limit:
        return 0
    return int(limit)


def _age_ns(loss: Loss) -> int:
    """Return how long [ns] after the response before it the FIN came that a request crossed; very long if unknown."""
    if loss.crossing is None or loss.idle_before_ns < 0:
        return 1 << 62
    return max(loss.crossing.ts_ns - (loss.request_ts_ns - loss.idle_before_ns), 0)


def _is_prompt(loss: Loss) -> bool:
    closing = upstream_closing(loss)
    way = max(loss.connection.handshake_resp_ns, 0) + max(loss.connection.handshake_orig_ns, 0)
    return closing is not None and closing.ts_ns - loss.request_ts_ns <= _PROMPT_NS + way
