"""Remedies with values: what to set at the proxy or at the upstream, and how many requests it would have saved.

No value is printed that the capture contradicts: what the proxy is said to keep is held against the longest gap after
which it used a connection, and a change that would have saved nothing is not advised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from pcapdiag.analysis.model import count_losses
from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence
from pcapdiag.base.server_defaults import idle_timeout_setting
from pcapdiag.base.units import NS_PER_S, about
from pcapdiag.proxy.conf import remedy as conf
from pcapdiag.proxy.conf.settings import OF_OTHER_KIN
from pcapdiag.proxy.conf.values import nginx_time
from pcapdiag.rules._again import not_a_cure
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._dialect import (
    can_limit_pool,
    elsewhere,
    is_pool_exact,
    limit_pool,
    pool_default,
    pool_setting,
)
from pcapdiag.rules._patience import give_ups
from pcapdiag.rules._pool import changes_for, path_limit_ns, pool_plan
from pcapdiag.rules._wire import known_timeout, last_sent_ns, timeout_range
from pcapdiag.rules._words import is_late, timer_words, without_probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.analysis.model import Analysis, Endpoint, Loss, Upstream
    from pcapdiag.base.findings import Change
    from pcapdiag.proxy.conf.settings import Setting

_CONNECT_NS = 2 * NS_PER_S
"""[ns] Room for one repeated SYN, which comes after a second."""
_FOREVER_NS = 1 << 62
_CLEARLY_NS = 5_000_000


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
        In the words of the proxy that is there; of several where nothing tells which.
    """
    timeout, _ = known_timeout(upstream, at_least=Confidence.POSSIBLE)
    hides = not_a_cure(analysis)
    if not can_limit_pool(analysis) and (upstream is None or timeout < 0):
        text = (
            f"Let the upstream keep idle connections longer than the proxy does, which has its limit fixed"
            f" ({about(pool_default(analysis)[0])}). This capture does not show how long the upstream waits; its"
            " configuration does."
        )
        return Remedy(text)
    if upstream is None or timeout < 0:
        text = (
            f"Let the proxy give up idle connections before the upstream does: {pool_setting(analysis)}, below the"
            " upstream's own idle timeout by more than one RTT. This capture does not show how long the upstream"
            " waits; its configuration does."
        )
        return Remedy("\n\n".join(filter(None, (text, elsewhere(analysis), hides))))
    details: dict[str, int | str | float] = {}
    paragraphs: list[str] = []
    changes: tuple[Change, ...] = ()
    plan = pool_plan(analysis)
    safe = plan.kept.get(upstream.endpoint, -1)
    raced = plan.raced
    if not plan.changes:
        # Advice for each upstream on its own saves what was lost there, and at others that get the same.
        raced = tuple(loss for loss in raced if plan.kept.get(loss.connection.resp, -1) == safe)
    saved = plan.saved(raced)
    is_no_use = bool(losses) and not plan.saved(tuple(losses)) and all(loss.idle_before_ns >= 0 for loss in losses)
    if safe > 0 and not is_no_use and can_limit_pool(analysis):
        changes = plan.changes if losses else changes_for(analysis, upstream.endpoint)
        details = {"proxy_keepalive_timeout_ns": safe}
        if is_pool_exact(analysis):
            details["would_have_saved"] = saved
        below = _below(upstream, timeout)
        if losses and is_pool_exact(analysis):
            below += f" {_saved(saved, count_losses(raced))}"
        if changes:
            paragraphs.append(f"Let the proxy give up idle connections first:\n\n{change_block(changes)}")
            if all(change.new for change in changes):
                paragraphs.append(below[0].upper() + below[1:])
        else:
            advice = limit_pool(analysis, str(upstream.endpoint), safe)
            paragraphs.append(f"{advice} {below}{_held_already(analysis, upstream)}")
    elif safe <= 0:
        paragraphs.append(f"With {about(timeout)} at the upstream there is nothing to keep: raise that first.")
    elif is_no_use:
        paragraphs.append(
            "A shorter idle limit at the proxy would have saved none of these requests: they came after shorter gaps."
        )
    paragraphs.append(_raise_upstream(analysis, upstream, timeout, is_alternative=bool(details)))
    paragraphs.append(_contradicted(analysis, upstream))
    paragraphs += ["" if changes else elsewhere(analysis), hides]
    return Remedy("\n\n".join(filter(None, paragraphs)), details, changes)


def _below(upstream: Upstream, timeout: int) -> str:
    """Return where an idle limit comes from, as the end of a sentence."""
    earliest, _ = timeout_range(upstream, at_least=Confidence.POSSIBLE)
    measured = upstream.idle_timeout
    if measured is not None and measured.is_enclosed and known_timeout(upstream)[0] == measured.value_ns:
        return (
            f"that is below {about(timeout)}, the longest idle gap that was answered. The limit itself lies somewhere"
            f" between that and {about(measured.latest_ns)}, the shortest that was not."
        )
    whose = "the upstream's"
    if earliest < timeout:
        whose = "the least that the upstream's idle timeout may be,"
    below = about(max(earliest - max(upstream.rtt_p50_ns, 0), 0))
    if below == about(earliest):
        return f"that is below {whose} {below}, with a margin."
    return f"that is below {below}, {whose} {about(earliest)} less one RTT, with a margin."


def _saved(saved: int, n: int) -> str:
    if n == 1:
        return "The lost request would have gone out on a new connection instead."
    return f"{saved:,} of {n:,} lost requests would have gone out on a new connection instead."


def _raise_upstream(analysis: Analysis, upstream: Upstream, timeout: int, *, is_alternative: bool) -> str:
    """Return what to set at the upstream instead, against what the proxy is known to keep."""
    measured = upstream.idle_timeout
    setting = idle_timeout_setting(upstream.server_field, measured.named_as if measured is not None else ())
    keeps, whose = _proxy_keeps(analysis, upstream)
    above = "well above what the proxy keeps"
    if keeps > 0:
        enough_s = 5 * -(-(keeps + max(keeps // 4, 5 * NS_PER_S)) // (5 * NS_PER_S))
        if enough_s * NS_PER_S > timeout:
            above += f", for example {enough_s} s while the proxy"
        else:
            above += "; now the proxy"
        above += f" keeps {about(keeps)}{whose}"
    elif keeps < 0 and whose:
        above += f"; now the proxy keeps them without a limit{whose}"
    elif upstream.longest_gap_ns > timeout + _CLEARLY_NS:
        above += f", which is more than {about(upstream.longest_gap_ns)}: so long a connection idled before it was used"
    # A value that is a server's default does not say that it is this server.
    is_named = bool(idle_timeout_setting(upstream.server_field))
    name = f" ({setting}{'' if is_named else ', if it is that'})" if setting else ""
    start = "Or a" if is_alternative else "A"
    if measured is not None and measured.is_enclosed:
        return (
            f"{start}t the upstream: find the timer that closes a connection when a request comes after"
            f" {timer_words(upstream)} of idleness{name or ' (Node.js before 12.19: headersTimeout)'}, and raise it to"
            f" {above}."
        )
    if is_late(upstream):
        return f"{start}t the upstream: raise its idle timeout{name}, now up after {timer_words(upstream)}, to {above}."
    return f"{start}t the upstream: raise its idle timeout{name} from {timer_words(upstream)} to {above}."


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
        None without a configuration, where longer gaps were answered, or where none of these requests would have been
        saved.
    """
    plan = pool_plan(analysis)
    return plan.changes if plan.saved(tuple(losses)) else ()


def forgotten_words(analysis: Analysis, losses: Sequence[Loss], changes: Sequence[Change]) -> str:
    """Return how sure the limit of a device on the path is: enclosed by gaps, or a guess; and what it would save."""
    upstream = analysis.upstream_by_endpoint.get(losses[0].connection.resp)
    gaps = [loss.path_gap_ns for loss in losses if loss.path_gap_ns >= 0]
    if upstream is None or not gaps or path_limit_ns(upstream, min(gaps)) < 0:
        return ""
    longest = upstream.longest_path_gap_ns
    if longest < 0:
        text = (
            f"No request after an idle gap{without_probe(upstream)} was answered here: the shortest lost one was"
            f" {about(min(gaps))}, the limit may be far below it"
        )
        return f"{text}, and the value is a guess." if changes else f"{text}."
    text = (
        f"The limit lies somewhere between {about(longest)}, the longest idle gap{without_probe(upstream)} that was"
        f" answered, and {about(min(gaps))}, the shortest that was lost."
    )
    if changes:
        plan = pool_plan(analysis)
        text += f" {_saved(plan.n_forgotten_saved, count_losses(plan.forgotten))}"
    return text


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
    settings = analysis.settings
    if settings is None:
        return ()
    peer = losses[0].connection.resp
    places = _places_of(analysis, peer)
    # One line may hold for several upstreams: it gets the value that is enough for all of them.
    beside = [to_ns for other, to_ns in _waits(analysis).items() if places & _places_of(analysis, other)]
    enough = max([*beside, _enough(losses, ran_out_ns)])
    targets = {loss.target for loss in losses if loss.target}
    return conf.raise_timeout(settings, str(peer), "read", enough, ran_out_ns=ran_out_ns, targets=sorted(targets))


def _enough(losses: Sequence[Loss], ran_out_ns: int) -> int:
    """[ns] Return how long to wait: a quarter more than the slowest late answer took, twice the timeout without one."""
    late = [loss.keys[Key.RESPONSE].ts_ns - last_sent_ns(loss) for loss in losses if Key.RESPONSE in loss.keys]
    enough = max(late) * 5 // 4 if late else 2 * ran_out_ns
    return -(-max(enough, ran_out_ns + NS_PER_S) // NS_PER_S) * NS_PER_S


def _waits(analysis: Analysis) -> dict[Endpoint, int]:
    """Return how long [ns] the proxy should wait for each upstream that it gave up at a timeout of its own."""
    key = f"{__name__}:waits"
    if key not in analysis.memo:
        groups: dict[tuple[Endpoint, int], list[Loss]] = {}
        for given_up in give_ups(analysis):
            if given_up.timeout_ns >= 0:
                groups.setdefault((given_up.loss.connection.resp, given_up.timeout_ns), []).append(given_up.loss)
        waits: dict[Endpoint, int] = {}
        for (peer, ran_out_ns), its_losses in groups.items():
            waits[peer] = max(waits.get(peer, 0), _enough(its_losses, ran_out_ns))
        analysis.memo[key] = waits
    return cast("dict[Endpoint, int]", analysis.memo[key])


def _places_of(analysis: Analysis, peer: Endpoint) -> frozenset[str]:
    """Return where the configuration says how long to wait for an upstream."""
    settings = analysis.settings
    if settings is None:
        return frozenset()
    places = settings.locations_of(settings.blocks_of_peer(str(peer)))
    return frozenset(place.read_timeout_ns.source or place.source for place in places)


def retry_elsewhere(analysis: Analysis, losses: Sequence[Loss]) -> tuple[Change, ...]:
    """Return the changes that let another peer serve what one did not accept, where the configuration forbids it."""
    return conf.allow_retries(analysis.settings, str(losses[0].connection.resp)) if analysis.settings else ()


def give_up_connecting(analysis: Analysis, losses: Sequence[Loss]) -> tuple[Change, ...]:
    """Return the changes that shorten what a connection attempt without an answer costs, and let another peer serve."""
    if analysis.settings is None:
        return ()
    peer = str(losses[0].connection.resp)
    rows = analysis.connections.rows
    opened = rows[rows["syn_ack_frames"] > 0]
    # What opened late, at a repeated SYN perhaps, must go on opening.
    is_late = (opened["syn_frames"] > 1) | (opened["handshake_resp_ns"] >= _CONNECT_NS // 2)
    shorter = () if is_late.any() else conf.lower_timeout(analysis.settings, peer, "connect", _CONNECT_NS)
    return (*shorter, *conf.allow_retries(analysis.settings, peer))


def _proxy_keeps(analysis: Analysis, upstream: Upstream) -> tuple[int, str]:
    """Return how long [ns] the proxy keeps idle connections, and in words how that is known.

    (0, "") where it is not known, or where the capture contradicts it: a connection idled longer and was used.
    """
    used = _longest_gap_ns(analysis, upstream)
    if upstream.proxy_idle_close_ns >= 0 and used <= upstream.proxy_idle_close_ns * 51 // 50:
        return upstream.proxy_idle_close_ns, ""
    held = _limits_of_pool(analysis, upstream)
    if held:
        longest = max(held, key=lambda setting: setting.value if setting.value >= 0 else _FOREVER_NS)
        if longest.is_contradicted:
            return 0, ""
        if longest.value < 0 or used <= longest.value + NS_PER_S:
            return longest.value, f" ({longest.why if longest.assumed else longest.source})"
        return 0, ""
    blocks = analysis.blocks_by_endpoint.get(upstream.endpoint, ())
    if blocks and not any(block.keepalive.value for block in blocks):
        # It keeps none, and connections were used again: what keeps them is not known.
        return 0, ""
    default, whose = pool_default(analysis)
    return (default, f" ({whose})") if used <= default and default > 0 else (0, "")


def _longest_gap_ns(analysis: Analysis, upstream: Upstream) -> int:
    """[ns] Return the longest idle gap after which the proxy used a connection that the same block keeps."""
    blocks = {block.name for block in analysis.blocks_by_endpoint.get(upstream.endpoint, ())}
    gaps = [upstream.longest_gap_ns]
    for other in analysis.upstreams if blocks else ():
        held_by = {block.name for block in analysis.blocks_by_endpoint.get(other.endpoint, ())}
        if held_by and held_by <= blocks:
            gaps.append(other.longest_gap_ns)
    return max(gaps)


def _limits_of_pool(analysis: Analysis, upstream: Upstream) -> list[Setting[int]]:
    """Return how long the configuration keeps idle connections to an upstream; nothing where that has no limit."""
    blocks = analysis.blocks_by_endpoint.get(upstream.endpoint, ())
    held = [block.keepalive_timeout_ns for block in blocks if block.keepalive.value]
    if analysis.settings is not None and is_pool_exact(analysis):
        servers = analysis.settings.servers_of(str(upstream.endpoint))
        held += [server.pool_limit_ns for server in servers if server.reuse.value]
    return held


def _contradicted(analysis: Analysis, upstream: Upstream) -> str:
    """Return a sentence on a configuration by which the proxy cannot have kept a connection as long as it did."""
    held = _limits_of_pool(analysis, upstream)
    doubted = next((setting for setting in held if setting.is_contradicted), None)
    if doubted is not None:
        return f"How long the proxy keeps idle connections is not known: {doubted.why}. Another file may set it."
    known = [setting for setting in held if not setting.assumed]
    longest_gap_ns = _longest_gap_ns(analysis, upstream)
    if not known or any(setting.value < 0 or longest_gap_ns <= setting.value + NS_PER_S for setting in held):
        return ""
    longest = max(known, key=lambda setting: setting.value)
    return (
        f"The configuration that was given keeps idle connections for {nginx_time(longest.value)} ({longest.source}),"
        f" but one was used after {about(longest_gap_ns)}: is it the one that runs?"
    )


def _held_already(analysis: Analysis, upstream: Upstream) -> str:
    """Return a sentence on a configuration that needs no change although requests were lost."""
    blocks = analysis.blocks_by_endpoint.get(upstream.endpoint, ())
    settings = analysis.settings
    if settings is None or settings.kind in OF_OTHER_KIN:
        return ""
    if not blocks:
        return f" The configuration that was given names no {upstream.endpoint}."
    held = blocks[0].keepalive_timeout_ns
    if blocks[0].keepalive.value and held.value < 0:
        return ""
    keeps = f"keeps idle connections for {nginx_time(held.value)}" if blocks[0].keepalive.value else "keeps none"
    return f" The configuration that was given {keeps} ({held.source or held.why}): is it the one that runs?"
