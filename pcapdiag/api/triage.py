"""What logs and a configuration tell without a capture: read, counted, and which files it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcapdiag.base.errors import UsageError

if TYPE_CHECKING:
    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.base.triage import Triage
    from pcapdiag.report.model import InputFile, Tool


@dataclass(frozen=True)
class TriageResult:
    """What can be said, which program says it, what it read."""

    triage: Triage
    tool: Tool
    inputs: tuple[InputFile, ...]


def triage_inputs(inputs: Inputs) -> TriageResult:
    """Say what can be said before there is a capture.

    Parameters
    ----------
    inputs : Inputs
        With logs of the proxy, its configuration, or both.

    Returns
    -------
    TriageResult
        It names no cause.

    Raises
    ------
    LogError
        A log cannot be read.
    UsageError
        The configuration cannot be read, or what was asked for takes a capture.
    """
    from pcapdiag.analysis.add_logs import expand_inputs  # noqa: PLC0415 - help must not wait for it
    from pcapdiag.base.version import __version__  # noqa: PLC0415
    from pcapdiag.engine.capture.digest import start_digest  # noqa: PLC0415
    from pcapdiag.report.model import InputFile, Tool  # noqa: PLC0415
    from pcapdiag.triage.build import build_triage  # noqa: PLC0415

    for name, option in (("upstream_captures", "--upstream-capture"), ("upstream_logs", "--upstream-log")):
        if getattr(inputs, name):
            msg = f"{option} says something only beside a CAPTURE of the proxy"
            raise UsageError(msg)
    if inputs.select or inputs.ignore:
        msg = "without a CAPTURE no cause is looked for, so that there is none to --select or --ignore"
        raise UsageError(msg)
    if inputs.anonymize:
        msg = "--anonymize disguises what a capture shows; without one, servers are named as the files do"
        raise UsageError(msg)
    inputs = expand_inputs(inputs)
    digest = start_digest([*inputs.kinds], is_hashed=inputs.with_hashes)
    try:
        triage = build_triage(inputs)
        digests = digest.result()
    finally:
        digest.cancel()
    files = tuple(InputFile(p, kind, digests[p].n_bytes, digests[p].sha256 or None) for p, kind in inputs.kinds.items())
    return TriageResult(triage, Tool("pcapdiag", __version__), files)
