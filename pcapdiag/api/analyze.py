"""The Python API: the same report as on the command line, with every table as a pandas DataFrame."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.api.result import Captured, CaptureReport
from pcapdiag.base.errors import UsageError
from pcapdiag.base.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from os import PathLike

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.analysis.shards import ShardResult
    from pcapdiag.engine.capture.batch import Capture
    from pcapdiag.privacy.anonymize import Anonymizer
    from pcapdiag.report.compare.model import Comparison

__all__ = ["CaptureReport", "analyze", "analyze_captures", "compare_reports"]


def analyze(
    *captures: str | PathLike[str] | Iterable[str | PathLike[str]],
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
    tls_keys: Sequence[str | PathLike[str]] = (),
    upstream_captures: Sequence[str | PathLike[str]] = (),
    follow_s: float = 0.0,
    redact: bool = True,
    anonymize: bool = False,
    judge_all: bool = False,
    with_hashes: bool = False,
    on_progress: Callable[[int, int, int], None] | None = None,
    shards: Sequence[ShardResult] = (),
) -> CaptureReport:
    """Say why requests failed, from one or several captures.

    Parameters
    ----------
    captures : str or path, or several of them in a list
        Files, folders, globs, or ``-`` for standard input; the files of one rotation series are one capture.
    proxies : sequence of str
        Addresses of the proxy; found by itself if empty. Here and below, one alone needs no list around it.
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
    tls_keys : sequence of str or path
        Keys of TLS sessions as SSLKEYLOGFILE makes them: failed requests inside TLS get their names. Those inside a
        pcapng are used as well.
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
    judge_all : bool
        Whether every failure of a flood is judged and listed, else some of every kind stand for the others.
    with_hashes : bool
        Whether the report holds the SHA-256 of each input.
    on_progress : callable, optional
        Called with bytes done, bytes in total and frames.
    shards : sequence of ShardResult
        What `analysis.build.read_shard` made of the same captures in processes of its own; they are not read again.

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

    Examples
    --------
    >>> import pcapdiag
    >>> result = pcapdiag.analyze("captures/idle_close_race_65s/proxy.pcap")
    >>> cause = result.report.findings[0]
    >>> print(cause.code, cause.subject, cause.count)
    PD101 10.1.1.3:80 4
    >>> result.exchanges["outcome"].value_counts().to_dict()
    {'answered': 53, 'unanswered': 10}
    """
    inputs = Inputs(
        proxies=list_texts(proxies),
        upstreams=list_texts(upstreams),
        error_logs=list_texts(error_logs),
        access_logs=list_texts(access_logs),
        upstream_logs=list_texts(upstream_logs),
        proxy_conf=str(proxy_conf),
        log_format=log_format,
        upstream_log_format=upstream_log_format,
        log_zone=log_zone,
        tls_keys=list_texts(tls_keys),
        upstream_captures=list_texts(upstream_captures),
        follow_s=follow_s,
        select=list_texts(select),
        ignore=list_texts(ignore),
        redact=redact,
        anonymize=anonymize,
        judge_all=judge_all,
        with_hashes=with_hashes,
    )
    paths = [path for given in captures for path in list_texts(given)]
    return analyze_captures(paths, inputs, on_progress=on_progress, shards=shards)


def list_texts(given: str | PathLike[str] | Iterable[str | PathLike[str]]) -> tuple[str, ...]:
    """Return as texts what was given alone or as several: a text is one, not its letters.

    Parameters
    ----------
    given : str or path, or an iterable of them
        Paths, addresses or codes.

    Returns
    -------
    tuple of str
        Each of them.
    """
    return (os.fspath(given),) if isinstance(given, str | os.PathLike) else tuple(os.fspath(one) for one in given)


def analyze_captures(
    captures: Sequence[str],
    inputs: Inputs,
    *,
    on_progress: Callable[[int, int, int], None] | None = None,
    shards: Sequence[ShardResult] = (),
) -> CaptureReport:
    """Do what `analyze` does, for who has the inputs as one object.

    Parameters
    ----------
    captures : sequence of str
        As in `analyze`.
    inputs : Inputs
        Everything else that the operator gave.
    on_progress, shards
        As in `analyze`.

    Returns
    -------
    CaptureReport
        The report and its tables.

    Raises
    ------
    CaptureError, LogError, UsageError
        As in `analyze`.
    """
    from pcapdiag.engine.capture.digest import start_digest  # noqa: PLC0415
    from pcapdiag.engine.capture.series import group_captures  # noqa: PLC0415

    anonymizer = _anonymizer() if inputs.anonymize else None
    if inputs.kinds:
        from pcapdiag.analysis.add_logs import add_logs, expand_inputs  # noqa: PLC0415 - half of the start-up time

        inputs = expand_inputs(inputs)
    if inputs.tls_keys:
        from pcapdiag.analysis.decrypted import check_keys  # noqa: PLC0415 - seldom given

        check_keys(inputs.tls_keys)
    far = group_captures(inputs.upstream_captures)
    near = _without(group_captures(captures), far)
    # In a thread of its own until the report needs it; captures are hashed as they are read.
    digest = start_digest([*inputs.kinds], is_hashed=inputs.with_hashes)
    try:
        from pcapdiag.analysis.build import build_analysis  # noqa: PLC0415 - numpy, after what can fail quickly
        from pcapdiag.api.effects import with_effects  # noqa: PLC0415
        from pcapdiag.report.build import build_report  # noqa: PLC0415
        from pcapdiag.report.model import InputFile  # noqa: PLC0415
        from pcapdiag.report.sides import plain_findings  # noqa: PLC0415
        from pcapdiag.rules.diagnose import codes_matching, diagnose  # noqa: PLC0415

        codes_matching((*inputs.select, *inputs.ignore))  # a typing error is said now, not after a long read
        own_ports = _own_ports(inputs.proxy_conf)
        read = partial(build_analysis, on_progress=on_progress, with_digest=inputs.with_hashes, own_ports=own_ports)
        analysis = _read_both_ends(near, far, inputs, read) if far else read(near, inputs, shards=shards)
        if inputs.kinds:
            analysis = add_logs(analysis, inputs)
        diagnosis = diagnose(analysis, select=inputs.select, ignore=inputs.ignore)
        if analysis.settings is not None:
            diagnosis = replace(diagnosis, findings=with_effects(diagnosis.findings, analysis, inputs))
        added = start_digest([*analysis.added_logs], is_hashed=inputs.with_hashes)
        digests = digest.result() | added.result()
    finally:
        digest.cancel()
    other_inputs = [
        InputFile(path, kind, digests[path].n_bytes, digests[path].sha256 or None)
        for path, kind in (*inputs.kinds.items(), *analysis.added_logs.items())
    ]
    own_words = diagnosis.findings if analysis.has_proxy else plain_findings(diagnosis.findings)
    captured = Captured(analysis, own_words, anonymizer)
    findings, verdicts = diagnosis.findings, diagnosis.verdicts
    if anonymizer is not None:
        from pcapdiag.analysis.disguise import disguise, disguise_analysis, teach  # noqa: PLC0415

        far_paths = [file.path for capture in far for file in capture.files]
        teach(anonymizer, analysis, findings, [*far_paths, *(file.path for file in other_inputs)])
        analysis = disguise_analysis(analysis, anonymizer)
        findings, verdicts, other_inputs = disguise((findings, verdicts, other_inputs), anonymizer)
    report = build_report(
        analysis,
        findings,
        verdicts,
        version=__version__,
        redact=inputs.redact,
        anonymized=anonymizer is not None,
        list_all=inputs.judge_all,
        other_inputs=other_inputs,
    )
    return CaptureReport(report, analysis, redact=inputs.redact, captured=captured)


def _own_ports(proxy_conf: str) -> frozenset[int]:
    """Return at which ports a configuration lets its proxy answer; what it cannot be read for is said at once."""
    if not proxy_conf:
        return frozenset()
    from pcapdiag.proxy.conf.read import read_proxy_conf  # noqa: PLC0415 - seldom given

    return read_proxy_conf(proxy_conf).own_ports()


def _anonymizer() -> Anonymizer:
    from pcapdiag.privacy.anonymize import Anonymizer  # noqa: PLC0415

    return Anonymizer.from_environment()


def _read_both_ends(
    near: Sequence[Capture], far: Sequence[Capture], inputs: Inputs, read: Callable[..., Analysis]
) -> Analysis:
    """Read the proxy's captures, and with them what those of the upstreams' end prove."""
    from pcapdiag.analysis.ends.compare import End, compare_ends  # noqa: PLC0415
    from pcapdiag.analysis.ends.segments import SegmentLog  # noqa: PLC0415

    near_segments, far_segments = SegmentLog(), SegmentLog()
    analysis = read(near, inputs, segment_sink=near_segments.append)
    other = read(far, Inputs(follow_s=inputs.follow_s), segment_sink=far_segments.append)
    return replace(analysis, far_end=compare_ends(End(analysis, near_segments), End(other, far_segments)))


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

    Examples
    --------
    >>> import pcapdiag
    >>> before = pcapdiag.analyze("captures/idle_close_race_65s/proxy.pcap")
    >>> print(pcapdiag.compare_reports(before, before).headline)
    Still exposed: PD101 idle-close-race (10 before, 10 after) at 3 upstreams.
    """
    from pcapdiag.report.compare.judge import compare_sides  # noqa: PLC0415 - loads when something is compared
    from pcapdiag.report.compare.side import read_side  # noqa: PLC0415
    from pcapdiag.report.model import Tool  # noqa: PLC0415
    from pcapdiag.rules import RULES  # noqa: PLC0415

    rules = {rule.code: rule.facts for rule in RULES}
    sides = [
        read_side(side if isinstance(side, dict) else side.to_json(), rules, name)
        for side, name in ((before, "BEFORE"), (after, "AFTER"))
    ]
    return compare_sides(*sides, tool=Tool("pcapdiag", __version__), as_one=as_one)
