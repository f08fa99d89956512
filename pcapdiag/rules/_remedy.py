"""Remedies with values: what to set at the proxy or at the upstream, and how many requests it would have saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence
from pcapdiag.base.server_defaults import idle_timeout_setting
from pcapdiag.base.units import NS_PER_MS, NS_PER_S, about
from pcapdiag.proxy.conf import remedy as conf
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.conf.values import nginx_time
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._wire import known_timeout, last_sent_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.analysis.model import Analysis, Endpoint, Loss, Upstream
    from pcapdiag.base.findings import Change

_NGINX_DEFAULT_S = 60
"""keepalive_timeout of nginx's upstream block (ngx_http_upstream_keepalive_module), where none is set."""

_CONNECT_NS = 2 * NS_PER_S
"""[ns] Room for one repeated SYN, which comes after a second."""
_FOREVER_NS = 1 << 62

ELSEWHERE = (
    "The same setting elsewhere: APISIX keepalive_pool.idle_timeout, ingress-nginx upstream-keepalive-timeout, Kong"
    " upstream_keepalive_idle_timeout."
)
_ONLY_HIDES = (
    "A retry hides it for requests that may be sent twice; nginx does not retry POST, LOCK and PATCH once they were"
    " sent."
)
NOT_A_CURE = f"max_fails=0 does not cure it: it only keeps the peer in rotation. {_ONLY_HIDES}"


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
    return _round_down(earliest - rtt - max(rtt // 2, timeout // 20, 50 * NS_PER_MS))


def _round_down(value_ns: int) -> int:
    """Return a time as a person would write it, no longer than the one given; -1 if it is too short for any."""
    for at_least, unit in (
        (60 * NS_PER_S, 5 * NS_PER_S),
        (2 * NS_PER_S, NS_PER_S),
        (200 * NS_PER_MS, 100 * NS_PER_MS),
        (20 * NS_PER_MS, 10 * NS_PER_MS),
    ):
        if value_ns >= at_least:
            return value_ns // unit * unit
    return -1


@dataclass(frozen=True, slots=True)
class Remedy:
    """Paragraphs for a finding, the numbers in them, and the changes that they name."""

    text: str
    details: dict[str, int | str | float] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()


def keepalive_remedy(analysis: Analysis, upstream: Upstream | None, losses: Sequence[Loss]) -> Remedy:
    """Return how to keep requests off connections that the upstream is about to close.

    Parameters
    ----------
    analysis : Analysis
        With the configuration, if it was given.
    upstream : Upstream or None
        With its idle timeout and RTT.
    losses : sequence of Loss
        The requests lost so far, to say how many the change would have saved.

    Returns
    -------
    Remedy
        In the words of the configuration that was given, or of nginx.
    """
    timeout, _ = known_timeout(upstream, at_least=Confidence.POSSIBLE)
    if upstream is None or timeout < 0:
        text = (
            "Let the proxy give up idle connections before the upstream does: in nginx, keepalive_timeout in the"
            " upstream block, below the upstream's own idle timeout by more than one RTT. This capture does not show"
            " how long the upstream waits; its configuration does."
        )
        return Remedy(f"{text}\n\n{ELSEWHERE}\n\n{NOT_A_CURE}")
    details: dict[str, int | str | float] = {}
    paragraphs: list[str] = []
    changes: tuple[Change, ...] = ()
    safe = safe_proxy_timeout_ns(upstream)
    if safe > 0:
        changes = lower_pool_timeouts(analysis, upstream.endpoint, safe)
        saved = sum(loss.idle_before_ns > safe for loss in losses)
        details = {"proxy_keepalive_timeout_ns": safe, "would_have_saved": saved}
        below = (
            f"that is below {about(max(timeout - max(upstream.rtt_p50_ns, 0), 0))}, the upstream's {about(timeout)}"
            " less one RTT, with a margin."
        )
        if losses:
            below += f" {saved} of {len(losses)} lost requests would have gone out on a new connection instead."
        if changes:
            paragraphs.append(f"Let the proxy give up idle connections first:\n\n{change_block(changes)}")
            if all(change.new for change in changes):
                paragraphs.append(below[0].upper() + below[1:])
        else:
            where = f"At the proxy, in the upstream block of {upstream.endpoint}"
            paragraphs.append(
                f"{where}: keepalive_timeout {nginx_time(safe)}; {below}{_held_already(analysis, upstream)}"
            )
    setting = idle_timeout_setting(
        upstream.server_field, upstream.idle_timeout.named_as if upstream.idle_timeout is not None else ()
    )
    keeps, whose = _proxy_keeps(analysis, upstream)
    kept = "keeps them without a limit" if keeps < 0 else f"keeps {about(keeps)}"
    enough_s = 5 * -(-(keeps + max(keeps // 4, 5 * NS_PER_S)) // (5 * NS_PER_S))
    example = f", for example {enough_s} s while the proxy" if keeps >= 0 else "; now the proxy"
    paragraphs.append(
        f"{'Or a' if safe > 0 else 'A'}t the upstream: raise its idle timeout{f' ({setting})' if setting else ''}"
        f" from {about(timeout)} to well above what the proxy keeps{example} {kept}{whose}."
    )
    has_max_fails = analysis.settings is None or analysis.settings.kind is ProxyKind.NGINX
    paragraphs += [] if changes else [ELSEWHERE]
    paragraphs.append(NOT_A_CURE if has_max_fails else _ONLY_HIDES)
    return Remedy("\n\n".join(paragraphs), details, changes)


def lower_pool_timeouts(analysis: Analysis, endpoint: Endpoint, to_ns: int) -> tuple[Change, ...]:
    """Return the changes that keep idle connections to an upstream no longer than a time.

    Parameters
    ----------
    analysis : Analysis
        With the configuration, if it was given.
    endpoint : Endpoint
        The upstream.
    to_ns : int
        [ns] The longest; less, where another upstream of the same block has to have less.

    Returns
    -------
    tuple of Change
        None without a configuration.
    """
    settings = analysis.settings
    if settings is None:
        return ()
    blocks = analysis.blocks_by_endpoint
    names = {block.name for block in blocks.get(endpoint, ())}
    beside = (u for u in analysis.upstreams if names & {block.name for block in blocks[u.endpoint]})
    shortest = min((safe for u in beside if (safe := safe_proxy_timeout_ns(u)) > 0), default=to_ns)
    return conf.lower_pool_timeout(settings, str(endpoint), min(to_ns, shortest))


def forget_before_path(analysis: Analysis, losses: Sequence[Loss]) -> tuple[Change, ...]:
    """Return the changes that give up idle connections before a device on the path forgets them.

    Parameters
    ----------
    analysis : Analysis
        With the configuration, if it was given.
    losses : sequence of Loss
        Requests on connections that were forgotten, all to one upstream.

    Returns
    -------
    tuple of Change
        None without a configuration, or where the idle gaps do not bracket the time.
    """
    endpoint = losses[0].connection.resp
    upstream = analysis.upstream_by_endpoint.get(endpoint)
    gaps = [loss.idle_before_ns for loss in losses if loss.idle_before_ns >= 0]
    if upstream is None or not gaps or upstream.longest_answered_gap_ns >= min(gaps):
        return ()
    longest = upstream.longest_answered_gap_ns
    to_ns = _round_down(longest if longest >= 0 else min(gaps) * 9 // 10)
    return lower_pool_timeouts(analysis, endpoint, to_ns) if to_ns > 0 else ()


def wait_longer(analysis: Analysis, losses: Sequence[Loss], ran_out_ns: int) -> tuple[Change, ...]:
    """Return the changes that let the proxy wait for what was too slow.

    Parameters
    ----------
    analysis : Analysis
        With the configuration, if it was given.
    losses : sequence of Loss
        Requests to one upstream that the proxy gave up.
    ran_out_ns : int
        [ns] The timeout that ran out.

    Returns
    -------
    tuple of Change
        A quarter more than the slowest late answer took, twice the timeout where none came.
    """
    if analysis.settings is None:
        return ()
    late = [loss.keys[Key.RESPONSE].ts_ns - last_sent_ns(loss) for loss in losses if Key.RESPONSE in loss.keys]
    enough = max(late) * 5 // 4 if late else 2 * ran_out_ns
    to_ns = -(-max(enough, ran_out_ns + NS_PER_S) // NS_PER_S) * NS_PER_S
    return conf.raise_timeout(analysis.settings, str(losses[0].connection.resp), "read", to_ns)


def retry_elsewhere(analysis: Analysis, losses: Sequence[Loss]) -> tuple[Change, ...]:
    """Return the changes that let another peer serve what one did not accept, where the configuration forbids it."""
    return conf.allow_retries(analysis.settings, str(losses[0].connection.resp)) if analysis.settings else ()


def give_up_connecting(analysis: Analysis, losses: Sequence[Loss]) -> tuple[Change, ...]:
    """Return the changes that shorten what a connection attempt without an answer costs, and let another peer serve."""
    if analysis.settings is None:
        return ()
    peer = str(losses[0].connection.resp)
    shorter = conf.lower_timeout(analysis.settings, peer, "connect", _CONNECT_NS)
    return (*shorter, *conf.allow_retries(analysis.settings, peer))


def _proxy_keeps(analysis: Analysis, upstream: Upstream) -> tuple[int, str]:
    """Return how long [ns] the proxy keeps idle connections, and in words how that is known."""
    if upstream.proxy_idle_close_ns >= 0:
        return upstream.proxy_idle_close_ns, ""
    held = [block.keepalive_timeout_ns for block in analysis.blocks_by_endpoint.get(upstream.endpoint, ())]
    if held:
        longest = max(held, key=lambda setting: setting.value if setting.value >= 0 else _FOREVER_NS)
        return longest.value, f" ({longest.why if longest.assumed else longest.source})"
    return _NGINX_DEFAULT_S * NS_PER_S, " (the default of nginx)"


def _held_already(analysis: Analysis, upstream: Upstream) -> str:
    """Return a sentence on a configuration that needs no change although requests were lost."""
    blocks = analysis.blocks_by_endpoint.get(upstream.endpoint, ())
    if analysis.settings is None:
        return ""
    if not blocks:
        return f" The configuration that was given names no {upstream.endpoint}."
    held = blocks[0].keepalive_timeout_ns
    keeps = f"keeps idle connections for {nginx_time(held.value)}" if blocks[0].keepalive.value else "keeps none"
    return f" The configuration that was given {keeps} ({held.source or held.why}): is it the one that runs?"
