"""The replayed effect of a report's own remedy, put beside it: what-if and rules know nothing of each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pcapdiag.api.entries import entries_of_capture
from pcapdiag.base.findings import Exposure, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.findings import Finding

_MOST_BYTES: Final = 4_000_000
"""Of access logs, which would have to be read once more; beyond, arrivals are those of the capture."""


def advised_timeout_ns(findings: Sequence[Finding]) -> int:
    """[ns] Timeout of the proxy that findings advise; -1 if none does."""
    told = (finding.details.get("proxy_keepalive_timeout_ns", -1) for finding in findings)
    return min((int(ns) for ns in told if int(ns) > 0), default=-1)


def with_effects(findings: Sequence[Finding], analysis: Analysis, inputs: Inputs) -> tuple[Finding, ...]:
    """Return findings whose remedy says what it would have done to the captured requests.

    Parameters
    ----------
    findings : sequence of Finding
        What was found.
    analysis : Analysis
        With the proxy's configuration.
    inputs : Inputs
        The access log, if one was given.

    Returns
    -------
    tuple of Finding
        The same where nothing can be said.
    """
    timeout_ns = advised_timeout_ns(findings)
    is_told = timeout_ns >= 0 and any(map(_is_mended, findings))
    if not is_told and not any(map(_keeps_peers, findings)):
        return tuple(findings)
    from pathlib import Path  # noqa: PLC0415 - only where there is something to mend

    from pcapdiag.whatif.access_log_clock import AS_IT_IS  # noqa: PLC0415
    from pcapdiag.whatif.effects import IN_ROTATION, MOST_REQUESTS, effects, timeout_of_proxy  # noqa: PLC0415
    from pcapdiag.whatif.groups import build_groups  # noqa: PLC0415

    if len(analysis.exchanges) > MOST_REQUESTS:
        return tuple(findings)
    is_short = sum(Path(path).stat().st_size for path in inputs.access_logs if Path(path).is_file()) <= _MOST_BYTES
    read, clock = entries_of_capture(analysis, inputs) if inputs.access_logs and is_short else (None, AS_IT_IS)
    shorter = timeout_of_proxy(timeout_ns)
    wishes = [shorter if _is_mended(f) and is_told else IN_ROTATION if _keeps_peers(f) else None for f in findings]
    asked = [wish for wish in dict.fromkeys(wishes) if wish is not None]
    told = effects(build_groups(analysis, findings, read, clock), asked)
    return tuple(
        replace(f, remedy=_beside_the_change(f.remedy, told[wish])) if wish is not None and wish in told else f
        for f, wish in zip(findings, wishes, strict=True)
    )


def _is_mended(finding: Finding) -> bool:
    """Tell whether a shorter timeout of the proxy mends a cause, or a risk, and the finding says where to set it."""
    return finding.facts.exposure is Exposure.RACE and bool(finding.changes)


def _keeps_peers(finding: Finding) -> bool:
    """Tell whether a finding says where to keep peers in rotation that failures put out."""
    return finding.facts.role is Role.NO_PEER and bool(finding.changes)


def _beside_the_change(remedy: str, effect: str) -> str:
    """Return a remedy with a paragraph more: behind the lines that say what to change, and why just that."""
    paragraphs = remedy.split("\n\n")
    changes = [n for n, text in enumerate(paragraphs) if text.startswith("    ")]
    at = changes[0] + 1 if changes else len(paragraphs)
    at += at < len(paragraphs) and paragraphs[at].startswith("That is ")
    return "\n\n".join((*paragraphs[:at], effect, *paragraphs[at:]))
