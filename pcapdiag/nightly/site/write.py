"""Writes the site: each page complete or as it was, none that the site did not write, nothing outside of its folder.

The same store gives the same bytes; a page that has not changed is not touched. A page of a night that the store has
forgotten is removed, if it bears our mark.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from pcapdiag.base.outfolder import OutFolder
from pcapdiag.base.version import __version__
from pcapdiag.nightly.site.data import finding_page, gather
from pcapdiag.nightly.site.pages import MOST_OCCURRENCES, Pages
from pcapdiag.nightly.store.history import list_occurrences, read_report
from pcapdiag.report.render.html.engine import asset, csp_hash, make_environment

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from jinja2 import Environment

    from pcapdiag.nightly.site.data import SiteData
    from pcapdiag.nightly.store.store import Store

NIGHTS: Final = "nights"
FINDINGS: Final = "findings"
INCIDENTS: Final = "incidents"
_MARK: Final = '<meta name="pcapdiag-site" content="page">'
_HEAD: Final = '<meta charset="utf-8">\n'
_HEADER: Final = "<header>\n"
_NAV: Final = '<p><a href="../index.html">All nights</a></p>\n'
_OURS: Final = {
    NIGHTS: re.compile(r"\d{4}-\d{2}-\d{2}\.html"),
    FINDINGS: re.compile(r"PD\d*-[0-9a-f]{16}\.html"),
    INCIDENTS: re.compile(r"[0-9a-f]{8,64}\.html"),
}


@dataclass(frozen=True, slots=True)
class SiteSummary:
    """What became of the pages; `without_report` counts captures with findings whose full report the store lacks."""

    written: int
    unchanged: int
    removed: int
    without_report: int


def write_site(store: Store, path: str | os.PathLike[str]) -> SiteSummary:
    """Write the site, or bring it up to date.

    Parameters
    ----------
    store : Store
        What to show.
    path : str or path
        Its folder; made for the owner alone if it is missing. In one that is there, pages may be read by whoever may
        read the folder.

    Returns
    -------
    SiteSummary
        How many pages were written, left as they are and removed.

    Raises
    ------
    StoreError
        The store cannot be read.
    UsageError
        The folder cannot be written, or a file in the way is not ours.
    """
    with OutFolder(path, is_own=is_site_page) as folder, folder.locked():
        data = gather(store)
        pages = Pages(data)
        counts = [0, 0]
        removed = 0
        for name, made in (
            (INCIDENTS, _incidents(store, data)),
            (FINDINGS, _findings(store, data, pages)),
            (NIGHTS, _nights(data, pages)),
        ):
            with closing(folder.sub(name)) as part:
                kept = set()
                for file, text in made:
                    counts[part.write(file, text.encode())] += 1
                    kept.add(file)
                forgotten = [file for file in part.names() if file not in kept and _OURS[name].fullmatch(file)]
                removed += sum(part.remove(file) for file in forgotten)
        counts[folder.write("index.html", _render("index.html", pages.index(), base="").encode())] += 1
    bare = {key for night in data.nights for seen in night.seen for key in seen.captures} - data.reports
    return SiteSummary(written=counts[True], unchanged=counts[False], removed=removed, without_report=len(bare))


def is_site_page(head: bytes) -> bool:
    """Tell from its beginning whether a file is a page of a site."""
    return _MARK.encode() in head


def _nights(data: SiteData, pages: Pages) -> Iterator[tuple[str, str]]:
    for number, night in enumerate(data.nights):
        yield f"{night.day}.html", _render("night.html", pages.night(number))


def _findings(store: Store, data: SiteData, pages: Pages) -> Iterator[tuple[str, str]]:
    # Reports are read once each: findings of the same capture follow each other.
    remedies: dict[str, str] = {}
    read = ""
    for finding in sorted(data.findings, key=lambda f: (f.last_capture_key, f.identifier)):
        if finding.last_capture_key != read:
            read = finding.last_capture_key
            report, _ = read_report(store, read)
            remedies = {f["identifier"]: f["remedy"] for f in report.get("findings", ())}
        occurrences = list_occurrences(store, finding.identifier, limit=MOST_OCCURRENCES + 1)
        words = pages.finding(finding, remedies.get(finding.identifier, ""), occurrences)
        yield finding_page(finding), _render("finding.html", words)


def _incidents(store: Store, data: SiteData) -> Iterator[tuple[str, str]]:
    """Yield the full reports, each with a way back to the index and our mark."""
    for key in sorted(data.reports):
        _, html = read_report(store, key)
        yield f"{key}.html", html.replace(_HEAD, f"{_HEAD}{_MARK}\n", 1).replace(_HEADER, f"{_HEADER}{_NAV}", 1)


def _render(template: str, words: dict[str, Any], *, base: str = "../") -> str:
    style = asset("report.css") + _asset("site.css")
    common = {
        "base": base,
        "mark": _MARK,
        "style": style,
        "style_hash": csp_hash(style),
        "tool": f"pcapdiag {__version__}",
    }
    return _environment().get_template(template).render(common | words)


@cache
def _environment() -> Environment:
    return make_environment(_asset)


@cache
def _asset(name: str) -> str:
    return (files("pcapdiag.nightly.site") / "templates" / name).read_text(encoding="utf-8")
