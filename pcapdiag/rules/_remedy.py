"""Remedies with values: what to set at the proxy or at the upstream, and how many requests it would have saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.findings import Confidence
from pcapdiag.rules._wire import known_timeout
from pcapdiag.rules._words import about
from pcapdiag.server_defaults import idle_timeout_setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.analysis import Loss, Upstream

_S = 1_000_000_000
_MS = 1_000_000
_NGINX_DEFAULT_S = 60
"""keepalive_timeout of nginx's upstream block (ngx_http_upstream_keepalive_module), where none is set."""

ELSEWHERE = (
    "The same setting elsewhere: APISIX keepalive_pool.idle_timeout, ingress-nginx upstream-keepalive-timeout, Kong"
    " upstream_keepalive_idle_timeout."
)
NOT_A_CURE = (
    "max_fails=0 does not cure it: it only keeps the peer in rotation. A retry hides it for requests that may be sent"
    " twice; nginx does not retry POST, LOCK and PATCH once they were sent."
)


def safe_proxy_timeout_ns(upstream: Upstream) -> int:
    """Return the longest sensible keepalive_timeout [ns] for the proxy; -1 if no value is short enough.

    A request is safe if it is sent before T - RTT; what is left of that after a margin for jitter is rounded down.
    """
    timeout, spread = known_timeout(upstream, at_least=Confidence.POSSIBLE)
    if timeout < 0:
        return -1
    # A measured spread is jitter or a late sweep; either way the earliest closing is what counts.
    earliest = timeout - spread if spread < timeout // 50 else timeout
    rtt = max(upstream.rtt_p99_ns, upstream.rtt_p50_ns, 0)
    safe = earliest - rtt - max(rtt // 2, timeout // 20, 50 * _MS)
    for at_least, unit in ((60 * _S, 5 * _S), (2 * _S, _S), (200 * _MS, 100 * _MS), (20 * _MS, 10 * _MS)):
        if safe >= at_least:
            return safe // unit * unit
    return -1


def nginx_time(value_ns: int) -> str:
    """Return a duration as an nginx configuration writes it."""
    if value_ns % _S == 0:
        return f"{value_ns // _S}s"
    return f"{value_ns // _MS}ms"


def keepalive_remedy(upstream: Upstream | None, losses: Sequence[Loss]) -> tuple[str, dict[str, int | str | float]]:
    """Return how to keep requests off connections that the upstream is about to close.

    Parameters
    ----------
    upstream : Upstream or None
        With its idle timeout and RTT.
    losses : sequence of Loss
        The requests lost so far, to say how many the change would have saved.

    Returns
    -------
    tuple of (str, dict)
        Paragraphs, and the numbers in them.
    """
    timeout, _ = known_timeout(upstream, at_least=Confidence.POSSIBLE)
    if upstream is None or timeout < 0:
        text = (
            "Let the proxy give up idle connections before the upstream does: in nginx, keepalive_timeout in the"
            " upstream block, below the upstream's own idle timeout by more than one RTT. This capture does not show"
            " how long the upstream waits; its configuration does."
        )
        return f"{text}\n\n{ELSEWHERE}\n\n{NOT_A_CURE}", {}
    details: dict[str, int | str | float] = {}
    paragraphs: list[str] = []
    safe = safe_proxy_timeout_ns(upstream)
    if safe > 0:
        saved = sum(loss.idle_before_ns > safe for loss in losses)
        details = {"proxy_keepalive_timeout_ns": safe, "would_have_saved": saved}
        effect = ""
        if losses:
            effect = f" {saved} of {len(losses)} lost requests would have gone out on a new connection instead."
        paragraphs.append(
            f"At the proxy, in the upstream block of {upstream.endpoint}: keepalive_timeout {nginx_time(safe)}; that"
            f" is below {about(max(timeout - max(upstream.rtt_p50_ns, 0), 0))}, the upstream's"
            f" {about(timeout)} less one RTT, with a margin.{effect}"
        )
    setting = idle_timeout_setting(
        upstream.server_field, upstream.idle_timeout.named_as if upstream.idle_timeout is not None else ()
    )
    proxy_keeps = upstream.proxy_idle_close_ns if upstream.proxy_idle_close_ns >= 0 else _NGINX_DEFAULT_S * _S
    enough_s = 5 * -(-(proxy_keeps + max(proxy_keeps // 4, 5 * _S)) // (5 * _S))
    paragraphs.append(
        f"{'Or a' if safe > 0 else 'A'}t the upstream: raise its idle timeout{f' ({setting})' if setting else ''}"
        f" from {about(timeout)} to well above what the proxy keeps, for example {enough_s} s while the proxy keeps"
        f" {about(proxy_keeps)}{'' if upstream.proxy_idle_close_ns >= 0 else ' (the default of nginx)'}."
    )
    return "\n\n".join((*paragraphs, ELSEWHERE, NOT_A_CURE)), details
