"""What-if as plain data: what was observed, what a replay gives, and what other settings would have given.

Filled by `pcapdiag.whatif`, told by `pcapdiag.report.whatif`; the names of the fields are those of the JSON document.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - fields of frozen data
from dataclasses import dataclass, field

from pcapdiag.base.findings import Change  # noqa: TC001 - the same


@dataclass(frozen=True, slots=True)
class Quantity:
    """What nine of ten replays lie between, and their mean; all the same where something was counted."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class AddedLatency:
    """What an answered request takes beyond what it takes on a warm connection."""

    mean: Quantity
    p99: Quantity


@dataclass(frozen=True, slots=True)
class Scenario:
    """One set of settings and what comes of it; None is unknown.

    Attributes
    ----------
    name : str
        ``observed``, ``replayed``, or the settings that differ.
    settings : mapping of str to str
        Those that differ from the captured ones.
    bound : str
        ``lower`` where it can only be worse than said (``upper``: better); else empty.
    client_failures, client_502, client_504 : Quantity or None
        Requests of clients that were answered by an error (status 500 or above).
    lost_tries : Quantity or None
        Tries that got no answer, connections that could not be opened included.
    retried : Quantity or None
        Requests that another try saved.
    no_live_upstreams : Quantity or None
        Requests that found no peer left.
    connections_opened, idle_connections_max, time_wait_max : Quantity or None
        Connections to the upstreams; the last counts those whose port the proxy still holds.
    reuse_ratio : Quantity or None
        Share of requests that went on a kept connection.
    added_latency_ns : AddedLatency or None
        [ns]
    warnings : tuple of str
        What to know before it is done.
    scattered : tuple of str
        Which intervals hold fewer than nine of ten replays, because those lie too far apart.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    bound: str = ""
    client_failures: Quantity | None = None
    client_502: Quantity | None = None
    client_504: Quantity | None = None
    lost_tries: Quantity | None = None
    retried: Quantity | None = None
    no_live_upstreams: Quantity | None = None
    connections_opened: Quantity | None = None
    idle_connections_max: Quantity | None = None
    time_wait_max: Quantity | None = None
    reuse_ratio: Quantity | None = None
    added_latency_ns: AddedLatency | None = None
    warnings: tuple[str, ...] = ()
    scattered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Settings without a predicted loss at the least cost, what to change for them, and what belongs to it.

    `tried` are the remedies of the field that it was chosen from, each replayed, and combinations of two where no one
    alone will do; `settings` is empty where none of them loses nothing. `patch` is `changes` as a unified diff of the
    operator's own files, for ``patch -p0``; empty where none can be made for certain.
    """

    settings: Mapping[str, str]
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    tried: tuple[Scenario, ...] = ()
    patch: str = ""


@dataclass(frozen=True, slots=True)
class WorkerCount:
    """How many worker processes were replayed, and who says so."""

    value: int
    source: str


@dataclass(frozen=True, slots=True)
class ReplayModel:
    """How the numbers came about; `window_ns` is the idle gap from which on, and up to which, a request may be lost."""

    workers: WorkerCount
    seed: int
    draws: int
    assumptions: tuple[str, ...] = ()
    window_ns: tuple[int, int] = (-1, -1)


@dataclass(frozen=True, slots=True)
class UpstreamRate:
    """How many requests the idle-close race takes per day at an upstream, with the captured settings.

    By the density of idle gaps around its race window, of which there were `gaps`; `low` and `high` are the limits that
    so few allow, with 95 %.
    """

    endpoint: str
    gaps: int
    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The whole answer; `sweep` names the key whose values the scenarios from `first_swept` on go through.

    `disagreement` says where the replay of the captured settings is not what was observed; then nothing is predicted
    (scenarios that were asked for are there, without numbers). A forecast predicts, and says that it is not (`agrees`).
    """

    scenarios: tuple[Scenario, ...]
    model: ReplayModel
    recommendation: Recommendation | None = None
    sweep: str = ""
    first_swept: int = -1
    disagreement: str = ""
    agrees: bool = True
    per_day: tuple[UpstreamRate, ...] = ()
