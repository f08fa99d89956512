"""What the two sides of a connection are called: proxy and upstream, or client and server where nothing says more.

A capture of one leg alone, without a log, a configuration or a name, shows clients and servers: whether the one that
opens connections is a proxy, nobody knows. Rules speak of proxies; here their words give way.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcapdiag.base.findings import Finding
    from pcapdiag.report.model import Report

PLAIN: Final = ("client", "server")

_WORDS: Final = {
    "proxy": "client",
    "proxies": "clients",
    "upstream": "server",
    "upstreams": "servers",
    "Proxy": "Client",
    "Upstream": "Server",
    "Upstreams": "Servers",
}
# Names of options, directives, variables, rules, hosts and files hold the same words, and keep them.
_SIDE: Final = re.compile(
    r"(?<![\w$/.:`-])(?:\b([Aa])n (?=upstream))?(?:reverse )?"
    r"(prox(?:y|ies)|upstreams?|Proxy|Upstreams?)(?![\w`-]|[./:=]\w| block| \{)"
)
_OF_A_PROXY: Final = re.compile(r"upstream block|keepalive_timeout|proxy_\w|nginx|max_fails|\bproxy\b")
_CONDITION: Final = "This holds if a reverse proxy opened these connections (--proxy says which address is one)."
_UNKNOWN: Final = "nothing says whether a proxy stands here (--proxy, --upstream, or a log of it)"


def in_plain_words(text: str) -> str:
    """Return a text with client and server in place of proxy and upstream.

    Parameters
    ----------
    text : str
        Prose of a rule or a report.

    Returns
    -------
    str
    """
    return _SIDE.sub(lambda match: f"{match[1] or ''}{' ' if match[1] else ''}{_WORDS[match[2]]}", text)


def plain_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings of a capture of which nothing says that a proxy stands there.

    Parameters
    ----------
    findings : iterable of Finding
        As the rules put them.

    Returns
    -------
    tuple of Finding
        What is to be changed at a proxy is said under that condition.
    """
    return tuple(map(_finding, findings))


def with_plain_words(report: Report) -> Report:
    """Return the report of `plain_findings` with the same words in all that stands around them.

    Parameters
    ----------
    report : Report
        Made of plain findings.

    Returns
    -------
    Report
        `has_proxy` is false.
    """
    impact = report.impact
    return dataclasses.replace(
        report,
        findings=tuple(
            dataclasses.replace(f, occurrences=tuple(dataclasses.replace(o, sides=PLAIN) for o in f.occurrences))
            for f in report.findings
        ),
        verdicts=tuple(dataclasses.replace(v, reason=in_plain_words(v.reason)) for v in report.verdicts),
        notes=tuple(dataclasses.replace(n, text=in_plain_words(n.text)) for n in report.notes),
        impact=dataclasses.replace(impact, unknown=_UNKNOWN) if impact.failures < 0 else impact,
        has_proxy=False,
    )


def _finding(finding: Finding) -> Finding:
    remedy = finding.remedy
    return dataclasses.replace(
        finding,
        title=in_plain_words(finding.title),
        message=in_plain_words(finding.message),
        refuted_by=in_plain_words(finding.refuted_by),
        remedy=f"{_CONDITION} {remedy}" if _OF_A_PROXY.search(remedy) else in_plain_words(remedy),
        occurrences=tuple(
            dataclasses.replace(
                o,
                evidence=tuple(
                    dataclasses.replace(e, text=in_plain_words(e.text), label=in_plain_words(e.label))
                    for e in o.evidence
                ),
            )
            for o in finding.occurrences
        ),
    )
