"""What a retry does here: which requests the proxy sends once more, and what that hides and does not cure.

What the configuration forbids is never said to happen; where nothing tells, nothing is said to happen either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.codes import Method
from pcapdiag.proxy.conf.settings import OF_OTHER_KIN, ProxyKind
from pcapdiag.rules._dialect import is_tcp_mode, nginx_module, proxy_kind

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Analysis, Loss

_ONLY_HIDES = "A retry hides it for requests that may be sent twice"
_NOT_TWICE = frozenset({Method.POST, Method.PATCH})
"""Methods that nginx sends again only with ``non_idempotent`` (ngx_http_upstream_next)."""
_AFTER_SENT = frozenset({"empty-response", "response-timeout", "all-retryable-errors", "junk-response"})
"""Conditions of HAProxy's retry-on under which a request goes out again that was sent before."""


def runs_twice(analysis: Analysis, loss: Loss) -> str:
    """Return whether a request that timed out is sent once more, as a sentence; empty where that is not known."""
    kind = proxy_kind(analysis)
    if kind is ProxyKind.HAPROXY:
        return "HAProxy sends a request that timed out once more only where retry-on names response-timeout."
    if kind is not None and kind in OF_OTHER_KIN:
        return ""
    if kind is None:
        return (
            "Where the proxy tries another server after a timeout, the first one may still be working on the request."
        )
    tries = tries_next(analysis, loss, "timeout")
    if tries is False:
        return ""
    verb = "is" if tries else "may be"
    return (
        f"A timed-out GET {verb} sent to the next peer while the first one may still be working on it:"
        f" {nginx_module(analysis, loss)}_next_upstream error; (without timeout) avoids running it twice."
    )


def tries_next(analysis: Analysis, loss: Loss, condition: str) -> bool | None:
    """Return whether an nginx sends a request on to another peer after a failure; None where that is not known.

    Parameters
    ----------
    analysis : Analysis
        With the configuration, if it was given.
    loss : Loss
        What was lost, at one peer.
    condition : str
        Of the failure, as in `proxy_next_upstream`.
    """
    settings = analysis.settings
    if settings is None:
        return None
    blocks = settings.blocks_of_peer(str(loss.connection.resp))
    found = {
        False
        if condition not in place.next_upstream.value or place.next_upstream_tries.value == 1 or block.is_single
        # A name hides how many addresses it has.
        else None
        if block.is_single is None
        else True
        for block in blocks
        for place in settings.locations_of((block,))
    }
    return found.pop() if len(found) == 1 else None


def not_a_cure(analysis: Analysis) -> str:
    """Return what hides the race and does not cure it."""
    kind = proxy_kind(analysis)
    if is_tcp_mode(analysis):
        return "In TCP mode HAProxy sees no requests, and sends none once more."
    if kind is ProxyKind.HAPROXY:
        return (
            f"{_ONLY_HIDES}: {_retry_on(analysis)}, with http-request disable-l7-retry for those that must not."
            " http-reuse safe never sends the first request of a client on a kept connection; http-reuse never sends no"
            " request on one, at the price of a new connection for each."
        )
    if kind is ProxyKind.APACHE:
        return (
            "SetEnv proxy-initial-not-pooled 1 never sends the first request of a client on a kept connection; the"
            " later ones still may be lost. disablereuse=On keeps no connection at all, at the price of a new one for"
            " each request."
        )
    if kind is ProxyKind.ENVOY:
        return f"{_ONLY_HIDES}: retry_on: connect-failure,reset in the route's retry_policy."
    if kind is ProxyKind.CADDY:
        return f"{_ONLY_HIDES}: lb_retries or lb_try_duration of reverse_proxy; Caddy sends only a GET again."
    if kind is ProxyKind.TRAEFIK:
        return (
            "Traefik's retry middleware hides it, and does not ask which requests may be sent twice: it repeats a POST,"
            " too, unless it is left out for such routes."
        )
    if kind in {ProxyKind.ALB, ProxyKind.CLB, ProxyKind.GCP}:
        return ""
    if kind is None:
        return f"{_ONLY_HIDES}; it does not cure it."
    text = f"{_ONLY_HIDES}; nginx does not retry POST, LOCK and PATCH once they were sent."
    if kind is ProxyKind.NGINX:
        return f"max_fails=0 does not cure it: it only keeps the peer in rotation. {text}"
    return text


def _retry_on(analysis: Analysis) -> str:
    """Return the line that makes HAProxy send a request again, and what holds now where the configuration tells."""
    wanted = "retry-on conn-failure empty-response"
    held = {server.retry_on for server in analysis.settings.own} if analysis.settings is not None else set()
    if len(held) != 1:
        return wanted
    (now,) = held
    if "empty-response" in now.value or "all-retryable-errors" in now.value:
        return f"{wanted}, as {now.source} has it"
    return f"{wanted} (now {' '.join(now.value) or 'none'}, {now.source or now.why})"


def sends_again(analysis: Analysis, loss: Loss) -> bool | None:
    """Return whether the proxy sends a request once more whose connection ended before any answer came.

    Parameters
    ----------
    analysis : Analysis
        With the configuration, if it was given.
    loss : Loss
        What was lost, at one peer.

    Returns
    -------
    bool or None
        None where nothing tells.
    """
    settings = analysis.settings
    if settings is None:
        return None
    if settings.kind is ProxyKind.HAPROXY:
        servers = settings.servers_of(str(loss.connection.resp))
        held = {bool(_AFTER_SENT.intersection(server.retry_on.value)) for server in servers}
        return False if is_tcp_mode(analysis) else held.pop() if len(held) == 1 else None
    if loss.method in _NOT_TWICE and tries_next(analysis, loss, "non_idempotent") is False:
        return False
    return tries_next(analysis, loss, "error")


def retries(analysis: Analysis, loss: Loss) -> str:
    """Return which requests like one that was lost a retry serves elsewhere, as a sentence."""
    kind = proxy_kind(analysis)
    settings = analysis.settings
    blocks = settings.blocks_of_peer(str(loss.connection.resp)) if settings is not None else ()
    if blocks and all(block.is_single for block in blocks):
        return "There is no second peer that a request could be sent to instead."
    is_off = tries_next(analysis, loss, "error") is False
    if kind is ProxyKind.NGINX:
        directive = f"{nginx_module(analysis, loss)}_next_upstream error timeout"
        if is_off:
            return (
                "By its configuration the proxy sends no such request on to another peer. Requests that may be sent"
                f" twice can be retried: {directive}, with more than one try, does so for all but POST, LOCK and PATCH."
            )
        return (
            f"Requests that may be sent twice can be retried: {directive} (the default) does so for all but POST, LOCK"
            " and PATCH."
        )
    if is_off:
        return "By its configuration the proxy sends no such request on to another peer."
    if is_tcp_mode(analysis):
        return "In TCP mode HAProxy sees no requests, and sends none once more."
    if kind is ProxyKind.HAPROXY:
        return f"Requests that may be sent twice can be retried: {_retry_on(analysis)}."
    return "Requests that may be sent twice can be retried."
