"""One side of a comparison: the numbers of a JSON report that decide, checked, since anybody may have written it.

Knows the JSON report (docs/json.md), not how it was made: a capture that was just read and a file of last week are the
same here, and what the rules declare is handed in. Fields that an older version did not write are unknown, never zero.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcapdiag.base.errors import UsageError
from pcapdiag.base.findings import Exposure, RuleFacts
from pcapdiag.base.units import NS_PER_S
from pcapdiag.report.model import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNKNOWN = -1

_MAX_BYTES = 1 << 29
_MAX_INT = 1 << 62
_MAX_TEXT = 512


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured of one upstream, or of several together; times in ns, -1 is unknown."""

    requests: int
    lost: int
    reused: int
    races: int
    near_misses: int
    idle_timeout_ns: int
    rtt_ns: int
    longest_gap_ns: int
    longest_answered_gap_ns: int
    proxy_idle_close_ns: int
    idle_closes_by_upstream: int
    idle_closes_by_proxy: int
    connections: int
    opened: int
    handshake_ns: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """One finding that counts: `count` requests that it lost, or places where it showed; none for a mere risk.

    `seconds` are those in which it happened, `least_gap_ns` is the shortest idle gap that it took (-1: not known).
    """

    code: str
    name: str
    subject: str
    facts: RuleFacts
    count: int
    seconds: frozenset[int] = frozenset()
    least_gap_ns: int = UNKNOWN

    @property
    def moments(self) -> int:
        """How often it happened at least: what falls into neighbouring seconds may have had one cause."""
        ordered = sorted(self.seconds)
        apart = sum(later - earlier > 1 for earlier, later in pairwise(ordered))
        return apart + 1 if ordered else self.count

    def joined(self, other: Trouble) -> Trouble:
        """Return the same cause at two places as one."""
        gaps = [gap for gap in (self.least_gap_ns, other.least_gap_ns) if gap >= 0]
        return Trouble(
            self.code,
            self.name,
            self.subject,
            self.facts,
            self.count + other.count,
            self.seconds | other.seconds,
            min(gaps, default=UNKNOWN),
        )


@dataclass(frozen=True, slots=True)
class ReportSide:
    """One report; `not_evaluated` maps the codes that it says nothing about to the reason."""

    names: tuple[str, ...]
    frames: int
    duration_ns: int
    requests: int
    upstreams: dict[str, Measures]
    troubles: tuple[Trouble, ...]
    not_evaluated: dict[str, str]
    evaluated: frozenset[str]


def is_json_report(path: str) -> bool:
    """Return whether the file at `path` begins like a JSON document; anything else is a capture."""
    file = Path(path)
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(64).lstrip()[:1] == b"{"


def load_report(path: str) -> dict[str, Any]:
    """Return the JSON report in the file at `path`.

    Parameters
    ----------
    path : str
        Written by ``pcapdiag analyze --format json``.

    Returns
    -------
    dict
        As it stands there, not checked yet.

    Raises
    ------
    UsageError
        The file is too large or no JSON report.
    """
    file = Path(path)
    if file.stat().st_size > _MAX_BYTES:
        msg = f"{path} is larger than a JSON report can be; compare the captures instead"
        raise UsageError(msg)
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        msg = f"{path} is not a JSON report: {error}"
        raise UsageError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} is not a JSON report; make one with pcapdiag analyze --format json"
        raise UsageError(msg)
    return content


def read_side(report: dict[str, Any], rules: Mapping[str, RuleFacts], where: str = "") -> ReportSide:
    """Return what a comparison needs of a JSON report.

    Parameters
    ----------
    report : dict
        The JSON report.
    rules : mapping of str to RuleFacts
        What each rule declares, by its code.
    where : str
        Its file, for errors.

    Returns
    -------
    ReportSide
        Numbers within bounds and texts of bounded length.

    Raises
    ------
    UsageError
        It is not a report, or one of a later schema.
    """
    name = where or "this"
    if report.get("schema_version") != SCHEMA_VERSION:
        msg = f"{name} is not a JSON report with schema_version {SCHEMA_VERSION}; make one with this pcapdiag"
        raise UsageError(msg)
    try:
        return _read_side(report, rules)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = f"{name} is not a whole JSON report ({error}); make it again with pcapdiag analyze --format json"
        raise UsageError(msg) from error


def _read_side(report: dict[str, Any], rules: Mapping[str, RuleFacts]) -> ReportSide:
    found = [(f, rules.get(_text(f["code"]), RuleFacts())) for f in report["findings"]]
    troubles = tuple(_trouble(f, facts) for f, facts in found if facts.risk_of or _counts(f))
    races: dict[str, int] = {}
    for trouble in troubles:
        if trouble.facts.exposure is Exposure.RACE:
            races[trouble.subject] = races.get(trouble.subject, 0) + trouble.count
    upstreams = {}
    for u in report["upstreams"]:
        endpoint = _text(u["endpoint"])
        upstreams[endpoint] = _measures(u, races.get(endpoint, 0))
    captures = [c for c in report["captures"] if c.get("end", "proxy") == "proxy"]
    spans = [(_int(c, "first_ts_ns"), _int(c, "last_ts_ns")) for c in captures]
    known = [(first, last) for first, last in spans if 0 <= first <= last]
    verdicts = {_text(v["code"]): v for v in report["verdicts"]}
    return ReportSide(
        names=tuple(_text(path) for c in captures for path in c["paths"]),
        frames=_int(report["totals"], "frames", 0),
        duration_ns=max(last for _, last in known) - min(first for first, _ in known) if known else UNKNOWN,
        requests=sum(u.requests for u in upstreams.values()),
        upstreams=upstreams,
        troubles=troubles,
        not_evaluated={c: _text(v["reason"]) for c, v in verdicts.items() if v["verdict"] == "not_evaluated"},
        evaluated=frozenset(c for c, v in verdicts.items() if v["verdict"] != "not_evaluated"),
    )


def _counts(finding: dict[str, Any]) -> bool:
    """Tell whether a finding that is no mere risk is trouble: lost requests, or a warning at least."""
    return _int(finding, "failures") > 0 or (finding["severity"] in {"warning", "error"} and _int(finding, "count") > 0)


def _trouble(finding: dict[str, Any], facts: RuleFacts) -> Trouble:
    code, name, subject = (_text(finding[key]) for key in ("code", "name", "subject"))
    if facts.risk_of:
        return Trouble(code, name, subject, facts, 0)
    times = [_int(occurrence, "request_ts_ns") for occurrence in finding["occurrences"]]
    gaps = [_int(occurrence, "idle_before_ns") for occurrence in finding["occurrences"]]
    return Trouble(
        code,
        name,
        subject,
        facts,
        _int(finding, "failures") or _int(finding, "count"),
        frozenset(ts_ns // NS_PER_S for ts_ns in times if ts_ns >= 0),
        min((gap for gap in gaps if gap >= 0), default=UNKNOWN),
    )


def _measures(upstream: dict[str, Any], races: int) -> Measures:
    timeout = upstream["idle_timeout_ns"]
    return Measures(
        requests=_int(upstream, "exchanges", 0),
        lost=_int(upstream, "unanswered", 0),
        reused=_int(upstream, "reused", 0),
        races=races,
        near_misses=_int(upstream, "near_misses", 0),
        idle_timeout_ns=_int(timeout, "value"),
        rtt_ns=_int(upstream["rtt_ns"], "p50"),
        longest_gap_ns=_int(upstream, "longest_gap_ns"),
        longest_answered_gap_ns=_int(upstream, "longest_answered_gap_ns"),
        proxy_idle_close_ns=_int(upstream, "proxy_idle_close_ns"),
        idle_closes_by_upstream=_int(upstream, "idle_closes_by_upstream", 0),
        idle_closes_by_proxy=_int(upstream, "idle_closes_by_proxy", 0),
        connections=_int(upstream, "connections", 0),
        opened=_int(upstream, "opened"),
        handshake_ns=_int(upstream, "handshake_ns"),
    )


def together(measures: Iterable[Measures]) -> Measures:
    """Return several upstreams as one: counts added, the longest gap, the shortest timeout of either end."""
    items = tuple(measures)

    def total(name: str) -> int:
        values = [getattr(m, name) for m in items]
        return UNKNOWN if not values or UNKNOWN in values else sum(values)

    def least(name: str) -> int:
        return min((getattr(m, name) for m in items if getattr(m, name) >= 0), default=UNKNOWN)

    def most(name: str) -> int:
        return max((getattr(m, name) for m in items), default=UNKNOWN)

    counts = ("requests", "lost", "reused", "races", "near_misses", "idle_closes_by_upstream", "idle_closes_by_proxy")
    return Measures(
        **{name: max(total(name), 0) for name in (*counts, "connections")},
        idle_timeout_ns=least("idle_timeout_ns"),
        rtt_ns=most("rtt_ns"),
        longest_gap_ns=most("longest_gap_ns"),
        longest_answered_gap_ns=most("longest_answered_gap_ns"),
        proxy_idle_close_ns=most("proxy_idle_close_ns"),
        opened=total("opened"),
        handshake_ns=total("handshake_ns"),
    )


def _int(values: dict[str, Any], name: str, default: int = UNKNOWN) -> int:
    value = values.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value < _MAX_INT:
        msg = f"{name} is no number that a report could hold"
        raise TypeError(msg)
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        msg = f"{value!r:.40} is no text"
        raise TypeError(msg)
    return value[:_MAX_TEXT]
