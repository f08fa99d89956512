"""One ZIP for a ticket: the report in all forms, the evidence capture, the charts, and a manifest with their hashes.

The same members give the same bytes: times, order, modes and compression are fixed. Names are this program's own, never
text of a capture. The report as ticket systems want it lies in it too: what `pcapdiag attach` posts can be read before.
"""

from __future__ import annotations

import hashlib
import stat
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING

from pcapdiag.ticket.manifest import NAME, Manifest, Member, format_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pcapdiag.report.model import Report
    from pcapdiag.report.render.charts import Chart

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that ZIP knows
_UNIX = 3
_MODE = stat.S_IFREG | 0o600
_LEVEL = 6
_COMPRESSED = (".png",)
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file for the bundle; `content` is seekable where it is a file object."""

    name: str
    content: bytes | IO[bytes]


_TICKETS = {
    "github": "ticket/github.md",
    "gitlab": "ticket/gitlab.md",
    "jira": "ticket/jira.txt",
    "adf": "ticket/jira.adf.json",
    "slack": "ticket/slack.txt",
}
_MARKDOWN_BYTES = 1_000_000
_FOOTER_BYTES = 1000
"""What `pcapdiag attach` may add to a ticket: the name of the file and the identifier of the report."""


def text_files(report: Report, charts: Mapping[str, Chart]) -> Iterator[BundleFile]:
    """Yield the report as Markdown, as JSON and in the dialect of each ticket system.

    Parameters
    ----------
    report : Report
        What to show.
    charts : mapping of str to Chart
        Shown by the Markdown; `chart_files` makes their files.

    Yields
    ------
    BundleFile
        In the order of the bundle.
    """
    from pcapdiag.report.render import json  # noqa: PLC0415 - whoever only writes a bundle needs no renderer
    from pcapdiag.report.render.dialects import DIALECTS, render_ticket  # noqa: PLC0415 - the same
    from pcapdiag.report.render.document import Image  # noqa: PLC0415 - the same

    images = [Image(_chart_name(name), f"{chart.title}. {chart.alt}") for name, chart in charts.items()]
    markdown = render_ticket(report, "github", limit=_MARKDOWN_BYTES, whole="report.json", images=images)
    yield BundleFile("report.md", markdown.encode())
    yield BundleFile("report.json", json.render(report).encode())
    for dialect, name in _TICKETS.items():
        limit = DIALECTS[dialect].limit - _FOOTER_BYTES
        text = render_ticket(report, dialect, limit=limit, whole="report.html in the bundle")
        yield BundleFile(name, text.encode())


def chart_files(charts: Mapping[str, Chart]) -> Iterator[BundleFile]:
    """Yield each chart as a picture."""
    for name, chart in charts.items():
        yield BundleFile(_chart_name(name), chart.png())


def _chart_name(name: str) -> str:
    return f"charts/{name}.png"


def write_bundle(file: IO[bytes], report: Report, members: Sequence[BundleFile]) -> Manifest:
    """Write a bundle.

    Parameters
    ----------
    file : file object
        Binary and writable.
    report : Report
        Which report it is and what was kept back.
    members : sequence of BundleFile
        In the order of the bundle.

    Returns
    -------
    Manifest
        As it stands at the beginning of the bundle.

    Raises
    ------
    ValueError
        A name is not one that a bundle may hold, or stands there twice.
    """
    manifest = Manifest(
        report=report.identifier,
        tool=f"{report.tool.name} {report.tool.version}",
        redacted=report.redaction.redacted,
        anonymized=report.redaction.anonymized,
        members=tuple(_measure(member) for member in members),
    )
    text = format_manifest(manifest)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as bundle:
        _add(bundle, NAME, BytesIO(text.encode()), len(text))
        for member, entry in zip(members, manifest.members, strict=True):
            _add(bundle, member.name, _opened(member), entry.n_bytes)
    return manifest


def _opened(member: BundleFile) -> IO[bytes]:
    if isinstance(member.content, bytes):
        return BytesIO(member.content)
    member.content.seek(0)
    return member.content


def _measure(member: BundleFile) -> Member:
    digest, n_bytes, file = hashlib.sha256(), 0, _opened(member)
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
        n_bytes += len(piece)
    return Member(member.name, n_bytes, digest.hexdigest())


def _add(bundle: zipfile.ZipFile, name: str, file: IO[bytes], n_bytes: int) -> None:
    info = zipfile.ZipInfo(name, _TIME)
    info.create_system = _UNIX
    info.external_attr = _MODE << 16
    info.compress_type = zipfile.ZIP_STORED if name.endswith(_COMPRESSED) else zipfile.ZIP_DEFLATED
    info.file_size = n_bytes  # decides, with the piece read, whether the entry needs the form for large files
    with bundle.open(info, "w") as entry:
        while piece := file.read(_PIECE_BYTES):
            entry.write(piece)
