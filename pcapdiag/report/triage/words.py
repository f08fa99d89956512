"""What is said before there is a capture, as blocks for the terminal and for tickets: what is logged, what it may be.

Every sentence is one of counting or of possibility. No cause is named as one: packets prove causes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pcapdiag.base.units import count_of
from pcapdiag.report.render.document import Bullets, Code, Heading, Paragraph, TableBlock
from pcapdiag.report.summary import Grid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.base.triage import EmptyGroup, MessageRow, TimerOdds, Triage
    from pcapdiag.report.render.document import Block

_PAGE_FACTS: Final = 4
_PAGE_LIKELY: Final = 3
_PAGE_NOTES: Final = 2
LEVELS: Final = 4
"""Of detail on the page, from most to least."""
_MOST_NAMES: Final = 4


def headline(triage: Triage) -> str:
    """Return the first sentences: what the logs count, and that they prove no cause."""
    clients = _clients(triage)
    if not triage.counted_in:
        kept = next((_timer(odds, most=2) for odds in triage.timers), "")
        return f"There is neither a log nor a capture, so that nothing is known to have failed. {kept}".rstrip()
    if not triage.failures:
        return (
            f"{clients}The {triage.counted_in} tells of no try at an upstream that failed; that it tells of none does"
            " not mean that none did."
        )
    span = f"from {triage.first} to {triage.last}" if triage.first != triage.last else f"at {triage.first}"
    when = f"{span} ({triage.clock})" if triage.first else "without a time"
    upstreams = {row.upstream for row in triage.messages if row.upstream} - {g.group for g in triage.empty_groups}
    at = f" at {count_of(len(upstreams), 'upstream')}" if upstreams and not triage.left_out else ""
    told = ""
    if triage.counted_in != "access log":
        words, n = _grouped(triage.messages)[0][:2]
        told = f', most often "{words}" ({n:,})'
        if n == triage.failures:
            told = f', all of them "{words}"' if n > 1 else f': "{words}"'
    else:
        at = ""
    what = "failure" if triage.counted_in != "access log" else "request answered with 502, 503 or 504"
    plural = "failures" if triage.counted_in != "access log" else "requests answered with 502, 503 or 504"
    return (
        f"{clients}The {triage.counted_in} has {count_of(triage.failures, what, plural)}{at}, {when}{told}. Logs alone"
        " prove no cause; a capture does."
    )


def _clients(triage: Triage) -> str:
    clients = triage.clients
    if clients is None or triage.counted_in == "access log":
        return ""
    bad = ", ".join(f"{n:,} with {status}" for status, n in clients.by_status.items())
    return f"The access log has {count_of(clients.requests, 'request')}, {bad or 'none with 5xx'}. "


def _grouped(rows: Sequence[MessageRow]) -> list[tuple[str, int, list[tuple[str, int]], str, str]]:
    """Return message, number, upstreams with theirs, first and last of each kind, the most frequent first."""
    kinds: dict[tuple[str, str, str], list[MessageRow]] = {}
    for row in rows:
        kinds.setdefault((row.kind, row.action, row.errno), []).append(row)
    found = []
    for same in kinds.values():
        times = [time for row in same for time in (row.first, row.last) if time]
        at = [(row.upstream or "-", row.count) for row in same]
        found.append((same[0].words, sum(n for _, n in at), at, min(times, default=""), max(times, default="")))
    return sorted(found, key=lambda kind: -kind[1])


def page_blocks(triage: Triage, level: int = 0) -> tuple[Block, ...]:
    """Return what is to fit one page of a terminal; the higher the level, the less."""
    return tuple(_page(triage, level))


def _page(triage: Triage, level: int) -> Iterator[Block]:
    yield Paragraph(headline(triage), "strong")
    kinds = _grouped(triage.messages)
    if kinds:
        most = LEVELS - level
        rows = tuple((f"{n:,}", _short(words), _at(at, max(most - 1, 1))) for words, n, at, *_ in kinds[:most])
        yield TableBlock(Grid(("count", "message", "upstream"), rows, frozenset({0})))
        left = sum(n for _, n, *_ in kinds[most:]) + triage.left_out
        if left:
            yield Bullets((f"{left:,} more of other kinds: -v lists them.",))
    facts = [*_facts(triage), *(_timer(odds, most=3) for odds in triage.timers[:1] if triage.counted_in)]
    if facts:
        yield Heading("When, and what is known of timers", 2)
        yield Bullets(tuple(facts[: _PAGE_FACTS - level]))
    if triage.likely or triage.undecided:
        yield Heading("What may be behind it", 2)
        yield Bullets((*triage.likely[: max(_PAGE_LIKELY - level, 1)], *_only_packets(triage)))
    yield Heading("The capture that decides it", 2)
    yield Code(triage.capture.command)
    yield Bullets(("pcapdiag capture-command also prints the log settings that go with it.", *_more(triage)))


def _more(triage: Triage) -> Iterator[str]:
    for n, note in enumerate(triage.notes):
        if n == _PAGE_NOTES:
            yield f"{len(triage.notes) - n} more remarks: -v lists them."
            return
        yield f"Note: {note[:200]}"


def _short(words: str) -> str:
    return words if len(words) <= 90 else f"{words[:87]}..."


def _at(upstreams: Sequence[tuple[str, int]], most: int) -> str:
    named = ", ".join(f"{name} ({n:,})" for name, n in upstreams[:most])
    return f"{named}, {len(upstreams) - most} more" if len(upstreams) > most else named


def full_blocks(triage: Triage) -> tuple[Block, ...]:
    """Return all of it."""
    return tuple(_full(triage))


def _full(triage: Triage) -> Iterator[Block]:
    yield Paragraph(headline(triage), "strong")
    if triage.messages:
        yield Heading("Messages", 2)
        rows = tuple((f"{r.count:,}", r.words, r.upstream or "-", r.first, r.last) for r in triage.messages)
        yield TableBlock(Grid(("count", "message", "upstream", "first", "last"), rows, frozenset({0})))
        if triage.left_out:
            yield Paragraph(f"{triage.left_out:,} more of other kinds or upstreams are not listed.")
    facts = tuple(_facts(triage, most_bursts=len(triage.bursts)))
    if facts:
        yield Heading("When", 2)
        yield Bullets(facts)
    if triage.timers or triage.unkept:
        yield Heading("Timers", 2)
        unkept = f"By the configuration no connection is kept to {', '.join(triage.unkept)}: no race on reuse there."
        yield Bullets((*(_timer(odds, most=99) for odds in triage.timers), *((unkept,) if triage.unkept else ())))
    if triage.likely or triage.undecided:
        yield Heading("What may be behind it", 2)
        yield Bullets((*triage.likely, *_only_packets(triage)))
    yield from capture_blocks(triage)
    if triage.notes:
        yield Heading("Notes", 2)
        yield Bullets(triage.notes)


def capture_blocks(triage: Triage) -> Iterator[Block]:
    """Yield the command for the next capture, and the log settings that go with it."""
    capture = triage.capture
    yield Heading("The capture that decides it", 2)
    yield Code(capture.command)
    yield Bullets(capture.remarks)
    if capture.log_remark:
        yield Heading("The logs that go with it", 2)
        yield Paragraph(capture.log_remark)
    if capture.log_settings:
        yield Code(capture.log_settings)


def _only_packets(triage: Triage) -> Iterator[str]:
    if triage.undecided:
        yield f"Only packets tell {'; '.join(triage.undecided)}."


def _facts(triage: Triage, *, most_bursts: int = 1) -> Iterator[str]:
    again = triage.recurrence
    if again is not None:
        yield f"They begin anew about every {again.period_s:,} s ({again.fitting} of {again.intervals} intervals)."
    for group in triage.empty_groups[:2]:
        yield _empty(group)
    yield from (
        f"{burst.count:,} of {triage.failures:,} came between {burst.first} and {burst.last}."
        for burst in triage.bursts[:most_bursts]
        if burst.count < triage.failures or most_bursts > 1
    )


def _empty(group: EmptyGroup) -> str:
    name = f" of {group.group}" if group.group else ""
    found = f"{count_of(group.count, 'request')} found no server{name}"
    if not group.after_failures:
        return f"{found}; the log has no failure of a server within {group.window_s} s before any of them."
    peers = ", ".join(group.peers[:_MOST_NAMES])
    more = " and others" if len(group.peers) > _MOST_NAMES else ""
    n = f"{group.after_failures:,}" if group.after_failures < group.count else "all"
    return (
        f"{found}, {n} of them within {group.window_s} s ({group.window_source}) after failures at"
        f" {peers}{more}: those come first, these may follow from them."
    )


def _timer(odds: TimerOdds, *, most: int) -> str:
    plain = [server for server in odds.sooner if "(" not in server and " with " not in server] or odds.sooner
    shown = plain[:most] if most < len(odds.sooner) else odds.sooner
    others = f" and {len(odds.sooner) - len(shown)} more" if len(odds.sooner) > len(shown) else ""
    where = odds.source or odds.why
    keeps = f"kept for {odds.keeps_s:g} s" if odds.keeps_s >= 0 else "kept without a limit"
    return (
        f"Idle connections to {odds.upstream} are {keeps}{f' ({where})' if where else ''}; as shipped, servers close"
        f" theirs no later: {', '.join(shown)}{others}. With one of these, requests may meet one that it closes."
    )
