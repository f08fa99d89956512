"""`Comparison`: what became of each cause, as plain data; field names are the names in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pcapdiag.report.compare.side import Measures  # noqa: TC001 - docs/generate.py reads the types
from pcapdiag.report.model import Tool, to_plain

SCHEMA_VERSION = 1


class Judgement(IntEnum):
    """What became of a cause; the higher, the more it needs somebody."""

    NOT_EXPOSED = 0
    """Neither before nor after."""
    FIXED = 1
    CANNOT_TELL = 2
    STILL_EXPOSED = 3
    NEWLY_EXPOSED = 4
    """Not before, but after."""


@dataclass(frozen=True, slots=True)
class ComparedSide:
    """One of the two inputs."""

    paths: tuple[str, ...]
    frames: int
    duration_ns: int
    requests: int


@dataclass(frozen=True, slots=True)
class CauseChange:
    """One cause at one upstream: its outcome, how often it showed, and why that outcome."""

    code: str
    name: str
    outcome: Judgement
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class UpstreamChange:
    """One upstream, or an upstream block that a finding is about; a side without it is null, and both of a block."""

    subject: str
    outcome: Judgement
    before: Measures | None
    after: Measures | None
    causes: tuple[CauseChange, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two reports side by side; `outcome` is that of the upstream that needs somebody most.

    With `as_one` all upstreams are one, because that was asked for or no address is in both reports.
    """

    schema_version: int
    tool: Tool
    outcome: Judgement
    headline: str
    before: ComparedSide
    after: ComparedSide
    as_one: bool
    upstreams: tuple[UpstreamChange, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON-ready dicts and lists."""
        plain: dict[str, Any] = to_plain(self)
        return plain
