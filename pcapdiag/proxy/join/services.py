"""Addresses and names that the log has and no packet: a service address before the endpoints in the capture (NAT).

Between proxy and capture point an address may be translated: a cluster's service address, a virtual server's; and a log
may name its servers and not say where they are (HAProxy). Which endpoint stands behind which address or name is learned
from failures that agree in time, order and request line, one entry to one try; where too few do, or one endpoint would
stand behind two, nothing is learned. Knows the join's parts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.join.access import link_access
from pcapdiag.proxy.join.attempts import LoggedTry
from pcapdiag.proxy.join.ledger import WireTry
from pcapdiag.proxy.join.match import RequestIds, choose_tries, find_clock
from pcapdiag.proxy.join.pairs import Pairing, end_of, is_name, normalize_peer
from pcapdiag.proxy.join.symptoms import SHARP, Symptom

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pcapdiag.proxy.join.attempts import AccessTry
    from pcapdiag.proxy.join.ledger import Ledger, LogClock
    from pcapdiag.proxy.join.places import CaptureSpan

LEAST_PAIRS = 3
"""Failures that must agree where no request id ties them: one or two may be chance."""
_ANY = "any service"
_AGREES_NS = 2 * NS_PER_S
_SHARE_OF_ENTRIES = 0.75
_SHARE_OF_FAILURES = 0.5
_SHARE_OF_PAIRS = 0.9
_MOST_TRIES = 20_000
"""Entries and tries that are looked at: more say nothing new."""

T = TypeVar("T")


def learn_services(
    logged: Sequence[LoggedTry],
    access_tries: Sequence[AccessTry],
    wires: Sequence[WireTry],
    span: CaptureSpan,
    zone_s: int | None,
) -> dict[str, str]:
    """Return for endpoints of the capture the address by which the log knows them.

    Parameters
    ----------
    logged : sequence of LoggedTry
        In the order of the log.
    access_tries : sequence of AccessTry
        By the time they began.
    wires : sequence of WireTry
        Failures and last exchanges.
    span : CaptureSpan
        What the capture covers.
    zone_s : int or None
        [s] The log's zone, if it is known.

    Returns
    -------
    dict of str to str
        From an endpoint that no log names to an address that no packet has; empty where nothing was learned.
    """
    of_entries = {normalize_peer(a.head.upstream_peer) for a in logged if a.symptom is not Symptom.NO_PACKETS}
    named = {normalize_peer(a.head.upstream_peer) for a in logged} | {normalize_peer(t.peer) for t in access_tries}
    strangers = {p for p in named - span.peers if _is_endpoint(p) or (p in of_entries and is_name(p))}
    behind = span.peers - named
    if not strangers or not behind:
        return {}
    attempts = [
        LoggedTry(list(a.entries), replace(a.head, upstream_peer=_ANY), a.symptom)
        for a in logged
        if a.symptom is not Symptom.NO_PACKETS and normalize_peer(a.head.upstream_peer) in strangers
    ][:_MOST_TRIES]
    service_of = [
        normalize_peer(a.head.upstream_peer)
        for a in logged
        if a.symptom is not Symptom.NO_PACKETS and normalize_peer(a.head.upstream_peer) in strangers
    ][:_MOST_TRIES]
    mine = [t for t in access_tries if normalize_peer(t.peer) in strangers][:_MOST_TRIES]
    theirs = [w for w in wires if w.peer in behind][:_MOST_TRIES]
    if not theirs:
        return {}
    anonymous = [replace(t, peer=_ANY) for t in mine]
    pairing = Pairing(attempts, [replace(w, peer=_ANY) for w in theirs], None)
    links = link_access(anonymous, attempts, pairing.wires)
    clock = find_clock(pairing, links, zone_s)
    peer_of = {w.key: w.peer for w in theirs}
    pairs: Counter[tuple[str, str]] = Counter()
    has_ids = False
    if clock is not None and clock.is_measured:
        choices = choose_tries(pairing, attempts, links, anonymous, clock).choices
        chosen = {number: c.chosen for number, c in choices.items() if c.chosen >= 0}
        ids = RequestIds(pairing, links, anonymous)
        has_ids = any(ids.of(n) and ids.of(n) == pairing.wires[w].request_id for n, w in chosen.items())
        agrees = abs(clock.offset_ns) <= _AGREES_NS or (has_ids and not clock.is_ambiguous)
        if agrees and _fits(attempts, pairing, chosen, clock, span):
            pairs.update((service_of[n], peer_of[pairing.wires[w].key]) for n, w in chosen.items())
    elif links.to_wire is not None and not attempts and abs(links.to_wire.offset_ns) <= _AGREES_NS:
        pairs.update((normalize_peer(mine[a].peer), peer_of[pairing.wires[w].key]) for w, a in links.of_wire.items())
    return _services(pairs, least=1 if has_ids else LEAST_PAIRS)


def _is_endpoint(peer: str) -> bool:
    """Tell an address with its port from a socket file and from the name of a block."""
    address, _, port = peer.rpartition(":")
    return not peer.startswith("unix:") and port.isdigit() and ("." in address or ":" in address)


def _fits(
    attempts: Sequence[LoggedTry], pairing: Pairing, chosen: Mapping[int, int], clock: LogClock, span: CaptureSpan
) -> bool:
    """Tell whether most of the entries of the capture's time have a try, and most of the failures an entry."""
    inside = [
        number in chosen
        for number, attempt in enumerate(attempts)
        if attempt.symptom in SHARP and span.first_ns <= attempt.head.ts_ns - clock.total_ns <= span.last_ns
    ]
    stamps = [attempt.head.ts_ns for attempt in attempts]
    tried = set(chosen.values())
    covered = [
        position in tried
        for position, wire in enumerate(pairing.wires)
        if wire.is_failure
        and wire.upstream_close_ns >= 0
        and min(stamps) <= end_of(wire) + clock.total_ns <= max(stamps) + NS_PER_S
    ]
    return sum(inside) >= _SHARE_OF_ENTRIES * len(inside) and sum(covered) >= _SHARE_OF_FAILURES * len(covered)


def _services(pairs: Counter[tuple[str, str]], *, least: int) -> dict[str, str]:
    if pairs.total() < least:
        return {}
    of_peer: dict[str, Counter[str]] = defaultdict(Counter)
    for (service, peer), n in pairs.items():
        of_peer[peer][service] += n
    return {
        peer: services.most_common(1)[0][0]
        for peer, services in of_peer.items()
        if services.most_common(1)[0][1] >= _SHARE_OF_PAIRS * services.total()
    }


def behind_services(wires: Iterable[WireTry], services: Mapping[str, str]) -> list[WireTry]:
    """Return the tries with the addresses by which the log knows their peers."""
    return [replace(w, peer=services[w.peer]) if w.peer in services else w for w in wires]


def with_own_peers(ledger: Ledger, wires: Iterable[WireTry], services: Mapping[str, str]) -> Ledger:
    """Return the ledger with the endpoints that packets have in place of the addresses that stand for them.

    Parameters
    ----------
    ledger : Ledger
        Joined with the tries of `behind_services`.
    wires : iterable of WireTry
        The tries as packets show them.
    services : mapping of str to str
        From `learn_services`.

    Returns
    -------
    Ledger
        Reasons say which endpoint an address means.
    """
    own = {w.key: w for w in wires}

    def back(value: T) -> T:
        return cast("T", own.get(value.key, value)) if isinstance(value, WireTry) else value

    def reason(text: str, wire: WireTry | None) -> str:
        mine = own.get(wire.key) if wire is not None else None
        if mine is None or mine.peer not in services:
            return text
        return f"{text}; {services[mine.peer]} of the log is {mine.peer} in the capture"

    return replace(
        ledger,
        entries=tuple(
            replace(j, wire=back(j.wire), candidates=tuple(map(back, j.candidates)), reason=reason(j.reason, j.wire))
            for j in ledger.entries
        ),
        tries=tuple(replace(t, wire=back(t.wire)) for t in ledger.tries),
        chains=tuple(
            replace(c, links=tuple(replace(link, wire=back(link.wire)) for link in c.links)) for c in ledger.chains
        ),
        retries=tuple(replace(r, wire=back(r.wire)) for r in ledger.retries),
        services=dict(services),
    )
