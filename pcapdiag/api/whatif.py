"""The Python API of what-if: the arrivals of a capture, replayed under other settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pcapdiag.api.effects import advised_timeout_ns
from pcapdiag.api.entries import entries_of_capture
from pcapdiag.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from os import PathLike

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.analysis.model import Analysis
    from pcapdiag.api.result import CaptureReport
    from pcapdiag.base.scenarios import Recommendation, UpstreamRate, WhatIf
    from pcapdiag.privacy.anonymize import Anonymizer
    from pcapdiag.proxy.conf.settings import ProxyKind
    from pcapdiag.proxy.logs.entries import AccessEntry
    from pcapdiag.report.model import InputFile, Tool
    from pcapdiag.whatif.group import ServerGroup

_MOST_NAMED = 5
NOTHING_TO_REPLAY = "nothing to replay: the capture holds no request on a connection that was kept"


@dataclass(frozen=True)
class WhatIfResult:
    """The answer, which program gave it, what it read; `report` is that of the captured incident, if there is one."""

    answer: WhatIf
    tool: Tool
    inputs: tuple[InputFile, ...]
    report: CaptureReport | None = None


def what_if(
    *captures: str | PathLike[str] | Iterable[str | PathLike[str]],
    cases: Sequence[str] = (),
    sweep: str = "",
    recommend: bool = False,
    seed: int | None = None,
    proxies: Sequence[str] = (),
    upstreams: Sequence[str] = (),
    upstream_captures: Sequence[str | PathLike[str]] = (),
    error_logs: Sequence[str | PathLike[str]] = (),
    access_logs: Sequence[str | PathLike[str]] = (),
    proxy_conf: str | PathLike[str] = "",
    log_format: str = "auto",
    log_zone: str = "auto",
) -> WhatIfResult:
    """Say what would have happened under other settings.

    Parameters
    ----------
    captures : str or path, or several of them in a list
        As for `analyze`.
    cases, sweep, recommend, seed
        As for `whatif_captures`.
    proxies, upstreams, upstream_captures, error_logs, access_logs, proxy_conf, log_format, log_zone
        As for `analyze`.

    Returns
    -------
    WhatIfResult

    Raises
    ------
    CaptureError, LogError, UsageError
        As `whatif_captures`.

    Examples
    --------
    >>> import pcapdiag
    >>> folder = "captures/idle_close_race_65s"
    >>> result = pcapdiag.what_if(
    ...     f"{folder}/proxy.pcap",
    ...     error_logs=[f"{folder}/error.log"],
    ...     access_logs=[f"{folder}/access.log"],
    ...     proxy_conf=f"{folder}/nginx.conf",
    ...     cases=["proxy.keepalive_timeout=60s"],
    ... )
    >>> for scenario in result.answer.scenarios:
    ...     print(f"{scenario.name}: {scenario.lost_tries.expected:.0f} tries lost")
    observed: 10 tries lost
    replayed: 11 tries lost
    proxy.keepalive_timeout=60s: 0 tries lost
    """
    from pcapdiag.analysis.inputs import Inputs  # noqa: PLC0415
    from pcapdiag.api.analyze import list_texts  # noqa: PLC0415

    inputs = Inputs(
        proxies=list_texts(proxies),
        upstreams=list_texts(upstreams),
        upstream_captures=list_texts(upstream_captures),
        error_logs=list_texts(error_logs),
        access_logs=list_texts(access_logs),
        proxy_conf=str(proxy_conf),
        log_format=log_format,
        log_zone=log_zone,
    )
    paths = [path for given in captures for path in list_texts(given)]
    return whatif_captures(paths, inputs, cases=list_texts(cases), sweep=sweep, recommend=recommend, seed=seed)


def whatif_captures(
    captures: Sequence[str],
    inputs: Inputs,
    *,
    cases: Sequence[str] = (),
    sweep: str = "",
    recommend: bool = False,
    seed: int | None = None,
    on_progress: Callable[[int, int, int], None] | None = None,
    on_scenario: Callable[[int, int], None] | None = None,
) -> WhatIfResult:
    """Say what would have happened under other settings.

    Parameters
    ----------
    captures : sequence of str
        As for `analyze`.
    inputs : Inputs
        As for `analyze_captures`.
    cases : sequence of str
        One scenario each, ``key=value key=value``.
    sweep : str
        ``key=from:to:step``: one scenario per value.
    recommend : bool
        Whether the settings without a predicted loss at the least cost are looked for.
    seed : int, optional
        Of the draws; the same seed gives the same numbers.
    on_progress, on_scenario : callable, optional
        Called while the capture is read, and after each scenario.

    Returns
    -------
    WhatIfResult
        The answer, with the report of the captured incident.

    Raises
    ------
    CaptureError, LogError
        An input cannot be read.
    UsageError
        A setting makes no sense, or there is nothing to replay.
    """
    from pcapdiag.whatif.keys import parse_case, parse_sweep  # noqa: PLC0415 - help must not wait for it

    asked = [parse_case(case) for case in cases]
    swept = parse_sweep(sweep) if sweep else None
    from pcapdiag.analysis.add_logs import expand_inputs  # noqa: PLC0415
    from pcapdiag.api.analyze import analyze_captures  # noqa: PLC0415
    from pcapdiag.whatif.compute import compute  # noqa: PLC0415
    from pcapdiag.whatif.recommend import recommend as find_best  # noqa: PLC0415
    from pcapdiag.whatif.replay import SEED  # noqa: PLC0415

    inputs = expand_inputs(inputs)
    result = analyze_captures(captures, inputs, on_progress=on_progress)
    _must_be_modelled(result.captured.analysis.proxy_kind)
    groups = groups_of(result, inputs)
    seed = SEED if seed is None else seed
    answer = compute(groups, asked, sweep=swept, seed=seed, on_progress=on_scenario)
    if recommend and not answer.disagreement:
        settings = result.captured.analysis.settings
        advised_ns = advised_timeout_ns(result.captured.findings)
        best = find_best(groups, answer, settings, seed=seed, advised_ns=advised_ns, on_progress=on_scenario)
        answer = replace(answer, recommendation=_with_patch(best, inputs))
    answer = replace(answer, per_day=_per_day(result.captured.analysis))
    if result.captured.anonymizer is not None:
        answer = _disguised(answer, result.captured.anonymizer)
    report = result.report
    return WhatIfResult(answer, report.tool, tuple(report.inputs), result)


def _with_patch(best: Recommendation | None, inputs: Inputs) -> Recommendation | None:
    """Return a recommendation with its changes as a diff of the configuration, unless that would tell a secret."""
    from pcapdiag.privacy.redact import Redactor  # noqa: PLC0415 - help must not wait for it
    from pcapdiag.proxy.conf.patch import unified_patch  # noqa: PLC0415 - the same

    # The lines around a change are the operator's own; under other names they would fit no file.
    if best is None or not best.changes or not inputs.proxy_conf or inputs.anonymize:
        return best
    patch = unified_patch(best.changes, inputs.proxy_conf)
    return replace(best, patch=patch if Redactor().text(patch) == patch else "")


def _per_day(analysis: Analysis) -> tuple[UpstreamRate, ...]:
    """Return what the race takes per day with the captured settings, where enough was watched."""
    from pcapdiag.analysis.density import measure_density  # noqa: PLC0415 - help must not wait for it
    from pcapdiag.base.scenarios import UpstreamRate as Rate  # noqa: PLC0415

    found = ((str(endpoint), density, density.per_day()) for endpoint, density in measure_density(analysis).items())
    return tuple(
        Rate(name, density.gaps, rate.low, rate.expected, rate.high)
        for name, density, rate in found
        if rate is not None
    )


def _disguised(answer: WhatIf, anonymizer: Anonymizer) -> WhatIf:
    """Return the answer under other addresses and names; names of keys look like hosts, so nothing is guessed."""
    from pcapdiag.base.walk import map_texts  # noqa: PLC0415

    # The key of a weight is no name of a host, only what stands behind its dot is one.
    key = "weight."
    return map_texts(
        answer, lambda text, _field: key.join(anonymizer.text(part, guess=False) for part in text.split(key))
    )


def forecast(
    inputs: Inputs,
    upstream_idle: str,
    *,
    cases: Sequence[str] = (),
    sweep: str = "",
    recommend: bool = False,
    seed: int | None = None,
    on_scenario: Callable[[int, int], None] | None = None,
) -> WhatIfResult:
    """Say what access log and configuration let one expect, without a capture.

    Parameters
    ----------
    inputs : Inputs
        With access logs and a configuration.
    upstream_idle : str
        After which idle time the upstreams close, or the name of their server.
    cases, sweep, recommend, seed, on_scenario
        As for `whatif_captures`.

    Returns
    -------
    WhatIfResult
        Its model says what was assumed.

    Raises
    ------
    LogError
        A log cannot be read.
    UsageError
        A setting makes no sense, or the log has no request of any group.
    """
    from pcapdiag.analysis.add_logs import access_format, expand_inputs  # noqa: PLC0415 - help must not wait for it
    from pcapdiag.base.version import __version__  # noqa: PLC0415
    from pcapdiag.engine.capture.digest import start_digest  # noqa: PLC0415
    from pcapdiag.proxy.conf.read import read_proxy_conf  # noqa: PLC0415
    from pcapdiag.proxy.logs.access_log import read_access_log  # noqa: PLC0415
    from pcapdiag.proxy.logs.copies import GivenTwice  # noqa: PLC0415
    from pcapdiag.report.model import InputFile, Tool  # noqa: PLC0415
    from pcapdiag.whatif.compute import compute  # noqa: PLC0415
    from pcapdiag.whatif.forecast import forecast_groups, parse_idle  # noqa: PLC0415
    from pcapdiag.whatif.keys import parse_case, parse_sweep  # noqa: PLC0415
    from pcapdiag.whatif.recommend import recommend as find_best  # noqa: PLC0415
    from pcapdiag.whatif.replay import SEED  # noqa: PLC0415

    if inputs.anonymize:
        msg = "--anonymize disguises what a capture shows; a forecast has none, and names servers as the files do"
        raise UsageError(msg)
    asked = [parse_case(case) for case in cases]
    swept = parse_sweep(sweep) if sweep else None
    timeout_ns, late_ns, said = parse_idle(upstream_idle)
    inputs = expand_inputs(inputs)
    digest = start_digest([*inputs.kinds], is_hashed=inputs.with_hashes)
    settings = read_proxy_conf(inputs.proxy_conf, version="")
    _must_be_modelled(settings.kind)
    form = access_format(inputs, settings)

    twice = GivenTwice(inputs.access_logs)

    def read() -> Iterable[AccessEntry]:
        logs = [read_access_log(path, form) for path in twice.kept]
        twice.cut(logs)
        return chain.from_iterable(logs)

    groups = forecast_groups(settings, read, timeout_ns, late_ns, said)
    if not groups:
        logs = ", ".join(inputs.access_logs)
        msg = f"{logs}: no request there says when it began ($request_time) and for which upstream; {_read_of(inputs)}"
        raise UsageError(msg)
    seed = SEED if seed is None else seed
    answer = compute(groups, asked, sweep=swept, seed=seed, must_agree=False, on_progress=on_scenario)
    if recommend:
        best = find_best(groups, answer, settings, seed=seed, on_progress=on_scenario)
        answer = replace(answer, recommendation=_with_patch(best, inputs))
    digests = digest.result()
    files = tuple(InputFile(p, kind, digests[p].n_bytes, digests[p].sha256 or None) for p, kind in inputs.kinds.items())
    return WhatIfResult(answer, Tool("pcapdiag", __version__), files)


def _read_of(inputs: Inputs) -> str:
    """Say what an access log of which nothing could be used looks like."""
    n_bytes = sum(Path(path).stat().st_size for path in inputs.access_logs if Path(path).is_file())
    return "it is empty" if not n_bytes else "see what `analyze --access-log` makes of it, or give --log-format"


def _must_be_modelled(kind: ProxyKind | None) -> None:
    """Raise `UsageError` for a proxy whose pool is another one than that which is replayed."""
    from pcapdiag.proxy.conf.settings import OF_OTHER_KIN  # noqa: PLC0415 - after what can fail quickly

    if kind is not None and kind in OF_OTHER_KIN:
        msg = (
            f"what-if replays the pool of nginx and its kin: of {kind.value} there is no model, so nothing is predicted"
        )
        raise UsageError(msg)


def _why_no_group(analysis: Analysis, inputs: Inputs) -> str:
    """Say why a configuration fits nothing of the capture; empty where there is nothing that it could fit."""
    if analysis.settings is None or not analysis.upstreams:
        return ""
    if not analysis.settings.upstreams:
        return (
            f"{inputs.proxy_conf}: nothing in it passes requests on to a server, as nginx's would; give the one that"
            " does or, if the proxy is nginx, none: then its defaults are assumed"
        )
    seen = ", ".join(str(upstream.endpoint) for upstream in analysis.upstreams[:_MOST_NAMED])
    more = ", ..." if len(analysis.upstreams) > _MOST_NAMED else ""
    return f"{inputs.proxy_conf}: none of the upstreams of the capture is a server in it; there are {seen}{more}"


def groups_of(result: CaptureReport, inputs: Inputs) -> tuple[ServerGroup, ...]:
    """Return what can be replayed of a capture that was analyzed.

    Raises
    ------
    UsageError
        There is nothing.
    """
    from pcapdiag.whatif.access_log_clock import AS_IT_IS  # noqa: PLC0415
    from pcapdiag.whatif.groups import build_groups  # noqa: PLC0415

    analysis = result.captured.analysis
    read, clock = entries_of_capture(analysis, inputs) if inputs.access_logs else (None, AS_IT_IS)
    groups = build_groups(analysis, result.captured.findings, read, clock)
    if not groups and (msg := _why_no_group(analysis, inputs)):
        raise UsageError(msg)
    if not groups or not any(group.observed.get("reused", 0) for group in groups):
        raise UsageError(NOTHING_TO_REPLAY)
    return groups
