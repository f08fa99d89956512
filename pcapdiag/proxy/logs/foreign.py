"""Logs of proxies whose entries are not joined: whose they are, and what of them concerns upstreams.

Knows their lines by shape. So much is enough to speak of the right proxy, and to say that its log was not joined.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import LogError
from pcapdiag.proxy.logs.entries import LogCounts
from pcapdiag.proxy.logs.lines import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

HAPROXY: Final = "HAProxy"
APACHE: Final = "Apache httpd"
_APACHE: Final = re.compile(
    r"\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,6})? \d{4}\] \[(?P<module>\w*:)?[a-z]+\d?\] "
)
_CODE: Final = re.compile(r"\b(?P<code>AH\d{5}): ")
MEANINGS: Final = {
    "AH00898": "error reading from the upstream",
    "AH00957": "a connection attempt failed",
    "AH00959": "the upstream is put out for a while",
    "AH01102": "error reading the status line",
    "AH01114": "no connection to the upstream",
    "AH01097": "passing the request body failed",
    "AH02609": "reading the request body failed",
}
"""What mod_proxy means by its usual codes; the text beside a code may hold names and addresses."""
_HAPROXY: Final = re.compile(
    r"(?:^|\s)[0-9A-Fa-f.:\[\]]{3,48}:\d{1,5} \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\] "
    r"\S{1,200} \S{1,200}/\S{1,200} [+-]?\d+(?:/[+-]?\d+){1,4} "
)
_SAMPLE: Final = 50
_MOST_LINES: Final = 200_000
_LONGEST: Final = 2_000
_MOST_CODES: Final = 20


@dataclass(slots=True)
class ForeignLog:
    """One log: the proxy that wrote it, and how often it says what about upstreams (Apache: codes of mod_proxy)."""

    path: str
    proxy: str
    codes: Counter[str] = field(default_factory=Counter)


def recognise_log(path: str) -> ForeignLog | None:
    """Return whose log a file is; None for one of nginx or of nobody who is known here.

    Parameters
    ----------
    path : str
        A log that was given, compressed or not.

    Returns
    -------
    ForeignLog or None
        Most of its first lines are of one proxy.
    """
    lines = _lines(path)
    first = [line for _, line in zip(range(_SAMPLE), lines, strict=False)]
    for proxy, shape in ((APACHE, _APACHE.match), (HAPROXY, _HAPROXY.search)):
        if 2 * sum(shape(line) is not None for line in first) > len(first):
            found = ForeignLog(path, proxy)
            if proxy is APACHE:
                _count_codes(found, chain(first, lines))
            return found
    return None


def _lines(path: str) -> Iterator[str]:
    """Yield the lines of a log as far as they are looked at; nothing of one that cannot be read."""
    try:
        n_left = _MOST_LINES
        for _, lines in read_lines(path, LogCounts()):
            for line in lines[:n_left]:
                if line:
                    yield line[:_LONGEST]
            n_left -= len(lines)
            if n_left <= 0:
                return
    except (LogError, OSError):
        return


def _count_codes(found: ForeignLog, lines: Iterator[str]) -> None:
    for line in lines:
        head = _APACHE.match(line)
        if head is None or not (head["module"] or "").startswith("proxy"):
            continue
        code = _CODE.search(line, head.end())
        if code is not None and (code["code"] in found.codes or len(found.codes) < _MOST_CODES):
            found.codes[code["code"]] += 1
