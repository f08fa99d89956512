"""The Python API: the same report as on the command line, with every table as a pandas DataFrame.

import pcapdiag

result = pcapdiag.analyze("proxy.pcap")
result.findings[["code", "subject", "count", "message"]]
result.exchanges.query("outcome == 'unanswered'")[["request_frame", "idle_before_ns", "target"]]
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcapdiag import __version__
from pcapdiag.errors import UsageError
from pcapdiag.result import Captured, CaptureReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from pcapdiag.analysis import Analysis
    from pcapdiag.capture.batch import Capture
    from pcapdiag.columns import Table
    from pcapdiag.compare.model import Comparison
    from pcapdiag.report.anonymize import Anonymizer
    from pcapdiag.shards import ShardResult

__all__ = ["CaptureReport", "analyze", "compare_reports", "run_engine"]


def analyze(
    *captures: str | PathLike[str],
    proxies: Sequence[str] = (),
    upstreams: Sequence[str] = (),
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    error_logs: Sequence[str | PathLike[str]] = (),
    access_logs: Sequence[str | PathLike[str]] = (),
    upstream_logs: Sequence[str | PathLike[str]] = (),
    proxy_conf: str | PathLike[str] = "",
    log_format: str = "auto",
    upstream_log_format: str = "auto",
    log_zone: str = "auto",
    upstream_captures: Sequence[str | PathLike[str]] = (),
    follow_s: float = 0.0,
    redact: bool = True,
    anonymize: bool = False,
    on_progress: Callable[[int, int, int], None] | None = None,
    on_compile: Callable[[int, int], None] | None = None,
    shards: Sequence[ShardResult] = (),
) -> CaptureReport:
    """Say why requests failed, from one or several captures.

    Parameters
    ----------
    captures : str or path
        Files, folders, globs, or ``-`` for standard input; the files of one rotation series are one capture.
    proxies : sequence of str
        Addresses of the proxy; found by itself if empty.
    upstreams : sequence of str
        Upstreams, ``address`` or ``address:port``; found by themselves if empty.
    select, ignore : sequence of str
        Codes (or beginnings of codes) to report only, or not to report.
    error_logs, access_logs : sequence of str or path
        Logs of the proxy, plain or compressed.
    upstream_logs : sequence of str or path
        Logs of the applications behind it: proof that a lost request arrived there, or did not.
    proxy_conf : str or path
        The proxy's configuration.
    log_format : str
        Format of the access logs as nginx's `log_format` has it; ``auto`` takes the configuration's, or recognises it.
    upstream_log_format : str
        Format of the upstream logs: nginx's variables, a regular expression with named groups such as
        ``(?P<request_id>...)``, or ``auto``.
    log_zone : str
        Zone of the error logs: ``auto``, ``UTC``, ``+08:00`` or ``Area/City``.
    upstream_captures : sequence of str or path
        Captures of the same traffic from the upstreams' end, as `captures`. They prove what the proxy's captures only
        suggest, and add nothing to what is counted; a file that is among `captures` as well is not counted there.
    follow_s : float
        [s] How long a file that may still grow must be quiet before it counts as complete.
    redact : bool
        Whether credentials, query values and what else looks like a secret are masked.
    anonymize : bool
        Whether report, tables and evidence have other addresses and names of machines, alike everywhere; the key is
        random, or that of the variable PCAPDIAG_ANONYMIZE_KEY.
    on_progress : callable, optional
        Called with bytes done, bytes in total and frames.
    on_compile : callable, optional
        Called with kernels done and in total while kernels are compiled (first run on a machine).
    shards : sequence of ShardResult
        What `pipeline.read_shard` made of the same captures in processes of its own; they are not read again.

    Returns
    -------
    CaptureReport
        The report and its tables.

    Raises
    ------
    CaptureError
        An input cannot be read as a capture.
    LogError
        A log cannot be read.
    UsageError
        An address, a code or the configuration makes no sense.
    """
    from pcapdiag.capture.digest import start_digest  # noqa: PLC0415
    from pcapdiag.capture.series import group_captures  # noqa: PLC0415
    from pcapdiag.log_inputs import LogInputs, zone_offset_s  # noqa: PLC0415

    logs = LogInputs(
        error_logs=tuple(map(str, error_logs)),
        access_logs=tuple(map(str, access_logs)),
        upstream_logs=tuple(map(str, upstream_logs)),
        proxy_conf=str(proxy_conf),
        log_format=log_format,
        upstream_log_format=upstream_log_format,
        log_zone=log_zone,
    )
    anonymizer = _anonymizer(redact=redact) if anonymize else None
    zone_offset_s(log_zone, 0)  # as the codes below: said now, not after a long read
    if logs.kinds:
        from pcapdiag.logbook import add_logs, expand_inputs  # noqa: PLC0415 - half of the start-up time

        logs = expand_inputs(logs)
    far = group_captures([str(c) for c in upstream_captures])
    grouped = _without(group_captures([str(c) for c in captures]), far)
    # In a thread of its own until the report needs it; captures are hashed as they are read.
    digest = start_digest([*logs.kinds])
    try:
        from pcapdiag.diagnose import codes_matching, diagnose  # noqa: PLC0415
        from pcapdiag.report.build import build_report  # noqa: PLC0415
        from pcapdiag.report.model import InputFile  # noqa: PLC0415

        codes_matching((*select, *ignore))  # a typing error is said now, not after a long read
        near_segments = None
        if far:
            from pcapdiag.ends.compare import End, compare_ends  # noqa: PLC0415
            from pcapdiag.ends.segments import SegmentLog  # noqa: PLC0415

            near_segments = SegmentLog()
        analysis = run_engine(
            grouped,
            proxies=proxies,
            upstreams=upstreams,
            follow_s=follow_s,
            on_progress=on_progress,
            on_compile=on_compile,
            segment_sink=near_segments.append if near_segments is not None else None,
            with_digest=True,
            shards=shards,
        )
        if near_segments is not None:
            far_segments = SegmentLog()
            other = run_engine(
                far, follow_s=follow_s, on_progress=on_progress, segment_sink=far_segments.append, with_digest=True
            )
            far_end = compare_ends(End(analysis, near_segments), End(other, far_segments))
            analysis = replace(analysis, far_end=far_end)
        if logs.kinds:
            analysis = add_logs(analysis, logs)
        diagnosis = diagnose(analysis, select=select, ignore=ignore)
        added = start_digest([*analysis.added_logs])
        digests = digest.result() | added.result()
    finally:
        digest.cancel()
    other_inputs = [
        InputFile(path, kind, digests[path].n_bytes, digests[path].sha256)
        for path, kind in (*logs.kinds.items(), *analysis.added_logs.items())
    ]
    captured = Captured(analysis, diagnosis.findings, anonymizer)
    findings, verdicts = diagnosis.findings, diagnosis.verdicts
    if anonymizer is not None:
        from pcapdiag.report.disguise import disguise, disguise_analysis, teach  # noqa: PLC0415

        far_paths = [file.path for capture in far for file in capture.files]
        teach(anonymizer, analysis, findings, [*far_paths, *(file.path for file in other_inputs)])
        analysis = disguise_analysis(analysis, anonymizer)
        findings, verdicts, other_inputs = disguise((findings, verdicts, other_inputs), anonymizer)
    report = build_report(
        analysis,
        findings,
        verdicts,
        version=__version__,
        redact=redact,
        anonymized=anonymizer is not None,
        other_inputs=other_inputs,
    )
    return CaptureReport(report, analysis, redact=redact, captured=captured)


def _anonymizer(*, redact: bool) -> Anonymizer:
    from pcapdiag.report.anonymize import Anonymizer  # noqa: PLC0415

    if not redact:
        msg = "what is not redacted is not anonymous: leave out either --no-redact or --anonymize"
        raise UsageError(msg)
    return Anonymizer.from_environment()


def _without(captures: list[Capture], far: Sequence[Capture]) -> list[Capture]:
    """Return the proxy's captures without the files that were named as captures of the upstreams' end, too."""
    others = {Path(f.path).resolve() for c in far for f in c.files}
    for capture in captures:
        capture.files[:] = [f for f in capture.files if Path(f.path).resolve() not in others]
    left = [capture for capture in captures if capture.files]
    if captures and not left:
        msg = "every capture is one of --upstream-capture, too; name the proxy's own capture as CAPTURE"
        raise UsageError(msg)
    return left


def run_engine(
    captures: Sequence[Capture],
    *,
    proxies: Sequence[str] = (),
    upstreams: Sequence[str] = (),
    follow_s: float = 0.0,
    on_progress: Callable[[int, int, int], None] | None = None,
    on_compile: Callable[[int, int], None] | None = None,
    segment_sink: Callable[[Table], None] | None = None,
    with_digest: bool = False,
    shards: Sequence[ShardResult] = (),
) -> Analysis:
    """Read grouped captures and return the tables, without judging them.

    Parameters
    ----------
    captures : sequence of Capture
        From `capture.series.group_captures`.
    proxies, upstreams, follow_s, on_progress, on_compile
        As in `analyze`.
    segment_sink : callable, optional
        Gets the segments (`columns.SEGMENTS`) batch by batch.
    with_digest : bool
        Compute the SHA-256 of every file.
    shards : sequence of ShardResult
        As in `analyze`.

    Returns
    -------
    Analysis
        All tables.

    Raises
    ------
    CaptureError
        An input cannot be read as a capture.
    UsageError
        An address makes no sense.
    """
    from pcapdiag.units import parse_address, parse_endpoint  # noqa: PLC0415

    try:
        proxy_addresses = [parse_address(text) for text in proxies]
        upstream_endpoints = [parse_endpoint(text) for text in upstreams]
    except ValueError as error:
        raise UsageError(str(error)) from error

    from pcapdiag.pipeline import build_analysis, warm_up  # noqa: PLC0415 - numba, after what can fail quickly

    warm_up(on_compile)
    return build_analysis(
        captures,
        proxies=proxy_addresses,
        upstreams=upstream_endpoints,
        follow_s=follow_s,
        on_progress=on_progress,
        segment_sink=segment_sink,
        with_digest=with_digest,
        shards=shards,
    )


def compare_reports(
    before: CaptureReport | dict[str, Any], after: CaptureReport | dict[str, Any], *, as_one: bool = False
) -> Comparison:
    """Say what a change did to each cause at each upstream.

    Parameters
    ----------
    before, after : CaptureReport or dict
        What `analyze` returned, or its JSON report as read from a file.
    as_one : bool
        Whether all upstreams are compared together because their addresses changed.

    Returns
    -------
    Comparison
        Fixed, still exposed, newly exposed, not exposed, or cannot tell, and why.

    Raises
    ------
    UsageError
        One of them is no JSON report.
    """
    from pcapdiag.compare.judge import compare_sides  # noqa: PLC0415 - loads when something is compared
    from pcapdiag.compare.side import read_side  # noqa: PLC0415
    from pcapdiag.report.model import Tool  # noqa: PLC0415

    sides = [
        read_side(side if isinstance(side, dict) else side.to_json(), name)
        for side, name in ((before, "BEFORE"), (after, "AFTER"))
    ]
    return compare_sides(*sides, tool=Tool("pcapdiag", __version__), as_one=as_one)
