"""What ``scan`` does with what it found beside its summary: a site, metrics, JSON Lines, messages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pcapdiag.base.errors import PcapdiagError, UsageError
from pcapdiag.base.units import count_of
from pcapdiag.cli.declare import option
from pcapdiag.cli.options import NOTIFY_VARIABLE, metrics_option, notify_option, options

if TYPE_CHECKING:
    from pcapdiag.nightly.scan.model import ScanSummary
    from pcapdiag.nightly.store.model import FindingRow
    from pcapdiag.nightly.store.store import Store
    from pcapdiag.ticket.notify.channels import Channel

tell_options = options(
    option(
        "--out",
        default="",
        metavar="DIR",
        type=click.Path(file_okay=False),
        help="Keep a static site in DIR: an index, a page per night and finding, the full report of each incident.",
    ),
    option(
        "--site-url",
        default="",
        metavar="URL",
        help="Where people find the site of --out: messages link to its pages.",
    ),
    metrics_option("Write", variable="METRICS"),
    option(
        "--jsonl",
        default="",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Write the summary as JSON Lines to FILE, too, anew each time.",
    ),
    notify_option("new and worse findings"),
)
"""--out, --site-url, --metrics, --jsonl and --notify-url-env."""


@dataclass(frozen=True, slots=True)
class Telling:
    """Whom to tell, and where."""

    out: str
    site_url: str
    metrics: str
    jsonl: str
    channels: tuple[Channel, ...]


def plan_telling(
    ctx: click.Context, *, metrics: str, notify_url_env: str, out: str = "", site_url: str = "", jsonl: str = ""
) -> Telling:
    """Return whom to tell and where, before the work begins: what is wrong with it is said now.

    Parameters
    ----------
    ctx : Context
        Its defaults may hold `notify`, the URLs from the operator's own pcapdiag.toml.
    metrics, notify_url_env, out, site_url, jsonl : str
        As the options.

    Returns
    -------
    Telling

    Raises
    ------
    MissingExtraError
        Apprise is not installed.
    UsageError
        The variable is not there, or a URL makes no sense.
    """
    if metrics and not metrics.endswith(".prom"):
        msg = f"--metrics {metrics}: node_exporter reads only files whose names end in .prom"
        raise UsageError(msg)
    if site_url and not site_url.startswith(("https://", "http://")):
        msg = f"--site-url {site_url}: give an address that begins with https://"
        raise UsageError(msg)
    if notify_url_env and not os.environ.get(notify_url_env, "").strip():
        msg = f"--notify-url-env {notify_url_env}: this variable of the environment is not set"
        raise UsageError(msg)
    urls = os.environ.get(notify_url_env or NOTIFY_VARIABLE, "").split()
    urls = urls or _configured(ctx)
    channels: tuple[Channel, ...] = ()
    if urls:
        from pcapdiag.ticket.notify.channels import open_channels  # noqa: PLC0415 - only who is to be told

        channels = open_channels(urls)
    return Telling(out, site_url, metrics, jsonl, channels)


def _configured(ctx: click.Context) -> list[str]:
    """Return the URLs from the operator's own pcapdiag.toml."""
    urls = (ctx.default_map or {}).get("notify", [])
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        msg = 'pcapdiag.toml: notify is a list of URLs: notify = ["json://host/path"]'
        raise UsageError(msg)
    return urls


def tell(telling: Telling, store: Store, summary: ScanSummary, *, quiet: bool) -> None:
    """Write the site and files, and send what is new or worse.

    A message that could not be sent is said, counted in the metrics and sent by the next scan; the exit code is that of
    the findings all the same. A place that cannot be written keeps nothing else from being done.

    Parameters
    ----------
    telling : Telling
        Whom and where.
    store : Store
        With the scan written.
    summary : ScanSummary
        Of the scan.
    quiet : bool
        Whether to say only what went wrong.

    Raises
    ------
    PcapdiagError
        A place cannot be written.
    """
    problems: list[PcapdiagError] = []
    n_failed = 0
    for step in (_write_site, _write_lines, _send):
        try:
            n_failed += step(telling, store, summary, quiet=quiet)
        except PcapdiagError as error:
            problems.append(error)
    if telling.metrics:
        from pcapdiag.nightly.tell.metrics import write_metrics  # noqa: PLC0415 - only for metrics

        write_metrics(store, telling.metrics, notify_failures=n_failed)
    if problems:
        for problem in problems[1:]:
            _say(str(problem))
        raise problems[0]


def _write_site(telling: Telling, store: Store, _summary: ScanSummary, *, quiet: bool) -> int:
    if not telling.out:
        return 0
    from pcapdiag.nightly.site.write import write_site  # noqa: PLC0415 - only for a site

    done = write_site(store, telling.out)
    if not quiet:
        _say(f"{telling.out}: {done.written} pages written, {done.unchanged} unchanged, {done.removed} removed")
    if done.without_report and not quiet:
        captures = count_of(done.without_report, "capture")
        _say(f"{captures} with findings read without --out: for the full reports, scan once more with --rescan")
    return 0


def _write_lines(telling: Telling, _store: Store, summary: ScanSummary, *, quiet: bool) -> int:  # noqa: ARG001 - as its siblings
    if not telling.jsonl:
        return 0
    from pathlib import Path  # noqa: PLC0415 - help needs none

    from pcapdiag.base.outfolder import OutFolder  # noqa: PLC0415 - the same
    from pcapdiag.nightly.scan.summary import render  # noqa: PLC0415 - the same

    target = Path(telling.jsonl)
    with OutFolder(target.parent, is_own=_is_lines, is_private=True) as folder, folder.locked():
        folder.write(target.name, render(summary, "jsonl").encode())
    return 0


def _is_lines(head: bytes) -> bool:
    return head.startswith(b'{"kind": "')


def _send(telling: Telling, store: Store, _summary: ScanSummary, *, quiet: bool) -> int:
    """Return how many channels could not be told."""
    if not telling.channels:
        return 0
    from pcapdiag.nightly.site.data import finding_page  # noqa: PLC0415 - only for messages
    from pcapdiag.nightly.tell.notify import notify  # noqa: PLC0415 - only who is to be told

    base = telling.site_url.rstrip("/")

    def link(finding: FindingRow) -> str:
        return f"{base}/findings/{finding_page(finding)}" if base else ""

    n_failed = 0
    for told in notify(store, telling.channels, link):
        if told.problem:
            n_failed += 1
            _say(f"could not tell {told.channel}: {told.problem}; the next scan tries again")
        elif told.n_findings and not quiet:
            _say(f"told {told.channel} of {count_of(told.n_findings, 'finding')}")
    return n_failed


def _say(text: str) -> None:
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - help needs no unicodedata

    click.echo(f"pcapdiag: {visible(text)}", err=True)
