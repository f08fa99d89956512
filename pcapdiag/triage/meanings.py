"""What may be behind what a log says, and what only packets decide: sentences of possibility, never of a cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pcapdiag.base.units import count_of
from pcapdiag.proxy.join.symptoms import Symptom
from pcapdiag.proxy.logs.entries import BODY

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from pcapdiag.base.triage import FailedTries, TimerOdds

MOST_SENTENCES: Final = 3


class PossibleCause(NamedTuple):
    """What may be behind a message, and what packets decide about it; empty where nothing is to be decided."""

    likely: str
    undecided: str


_RACE: Final = frozenset({Symptom.CLOSED, Symptom.RESET, Symptom.BROKEN})
_MEANINGS: Final[dict[Symptom, PossibleCause]] = {
    Symptom.CLOSED: PossibleCause(
        "the upstream closed without an answer: its idle timeout may be shorter than the proxy's (a race on reuse), or"
        " its process ended, restarted or gave up",
        "whether the close crossed the request, or came when the upstream had it",
    ),
    Symptom.BROKEN: PossibleCause(
        "the upstream closed or reset: its idle timeout may be shorter than the proxy's (a race on reuse), or its"
        " process ended, restarted or gave up",
        "whether the close crossed the request, or came when the upstream had it",
    ),
    Symptom.RESET: PossibleCause(
        "the connection was reset: the upstream may have closed it before, its process may have ended, or something"
        " between (NAT, firewall, balancer) may have forgotten it",
        "who sent the reset, and whether the request had arrived",
    ),
    Symptom.REFUSED: PossibleCause(
        "nothing listened there: the server may be down, restarting, or on another port",
        "whether the upstream refused or something before it",
    ),
    Symptom.STREAM_ENDED: PossibleCause(
        "an HTTP/2 upstream refused or reset the stream, or was about to close the connection (GOAWAY): a limit on age"
        " or requests of a connection, a restart, or a request that it did not take",
        "which error it gave, and whether the request was processed",
    ),
    Symptom.UNREACHABLE: PossibleCause(
        "the address could not be reached: a host that is gone, a route or a filter", "who said so"
    ),
    Symptom.CONNECT_TIMEOUT: PossibleCause(
        "no connection in time: the server may be down or overloaded (a full accept queue), or a filter drops silently",
        "whether SYNs were dropped, or answered and the answers lost",
    ),
    Symptom.UNCONNECTED: PossibleCause(
        "no connection came about, and the log does not say why", "whether it was refused, or not answered"
    ),
    Symptom.TIMEOUT: PossibleCause(
        "no answer in time: the upstream may be slower than the proxy waits, or what was sent got lost",
        "whether the request arrived, and who was silent",
    ),
    Symptom.BAD_RESPONSE: PossibleCause(
        "the proxy refused what the upstream sent: its own words above say for which reason", "the bytes themselves"
    ),
    Symptom.HANDSHAKE: PossibleCause(
        "the TLS handshake failed: certificates, names, versions, or a close inside it", "which alert, and whose"
    ),
    Symptom.ABORTED: PossibleCause("clients went away while the proxy waited", "how long the upstream had been silent"),
    Symptom.FAILED: PossibleCause("the log does not say of what a try failed", "of what"),
}
_INSIDE: Final = PossibleCause(
    "the upstream ended inside a response: a process that ended, or less than it had announced",
    "after how many bytes, and by FIN or RST",
)


def likely_and_undecided(
    symptoms: Counter[tuple[Symptom, str]],
    tries: FailedTries | None,
    timers: tuple[TimerOdds, ...],
    unkept: tuple[str, ...],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return sentences on what may be behind failures, and on what packets decide, of the most frequent first.

    Parameters
    ----------
    symptoms : Counter
        How often what was said, during which step.
    tries, timers, unkept
        As in `Triage`.

    Returns
    -------
    tuple of tuple of str
    """
    counts: dict[PossibleCause, int] = {}
    n_races = 0
    for (symptom, action), count in symptoms.items():
        is_inside = symptom in _RACE and action == BODY
        meaning = _INSIDE if is_inside else _MEANINGS.get(symptom)
        n_races += count * (symptom in _RACE and not is_inside)
        if meaning is not None:
            counts[meaning] = counts.get(meaning, 0) + count
    most = sorted(counts.items(), key=lambda item: -item[1])[:MOST_SENTENCES]
    likely = [f"{count_of(n, 'time', 'times')}: {meaning.likely}." for meaning, n in most]
    likely += _of_the_race(n_races, tries, timers, unkept)
    return tuple(likely), tuple(dict.fromkeys(meaning.undecided for meaning, _ in most if meaning.undecided))


def _of_the_race(
    n_races: int, tries: FailedTries | None, timers: tuple[TimerOdds, ...], unkept: tuple[str, ...]
) -> Iterator[str]:
    """Yield what speaks for a race on reuse, and against it."""
    if not n_races:
        return
    if tries is not None and tries.new:
        yield (
            f"{tries.new:,} of {count_of(tries.tries, 'failed try', 'failed tries')} that tell were on a connection"
            " just opened: no race on reuse took these."
        )
    if unkept and not timers:
        yield "By the configuration no connection is kept: then no race on reuse is behind any of them."
