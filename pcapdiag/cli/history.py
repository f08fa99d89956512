"""``pcapdiag history``: what earlier scans found, and what changed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

from pcapdiag.cli.choices import Choice
from pcapdiag.cli.options import code_option, file_options, format_option, store_option
from pcapdiag.cli.output import STDOUT, fit, open_output, terminal_width

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pcapdiag.nightly.store.history import Wanted
    from pcapdiag.nightly.store.model import FindingRow
    from pcapdiag.nightly.store.store import Store

TABLES = ("findings", "upstreams", "codes", "scans")
SCHEMA_VERSION = 1
_BARS = "▁▂▃▄▅▆▇█"
_TREND_DAYS = 30
_HANG = 11


@click.command()
@store_option("Where scans remember")
@click.option("--since", default="", metavar="DATE", help="Only days from DATE on (2026-11-20, UTC).")
@click.option("--until", default="", metavar="DATE", help="Only days before DATE.")
@code_option("Only these codes (PD101, PD2); repeat for more.")
@click.option("--upstream", "upstreams", multiple=True, metavar="ADDR[:PORT]", help="Only these upstreams.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=Choice(["new", "ongoing", "worse", "gone", "quiet"]),
    help="Only findings in this state; repeat for more.",
)
@click.option(
    "--table",
    type=Choice(TABLES),
    default=TABLES[0],
    show_default=True,
    help="With csv: which table. The others show all.",
)
@format_option(
    ("table", "json", "csv"), "For people or for programs; the name after -o chooses, too.", variable="HISTORY_FORMAT"
)
@file_options
def history(
    *,
    store: str,
    since: str,
    until: str,
    codes: tuple[str, ...],
    upstreams: tuple[str, ...],
    states: tuple[str, ...],
    table: str,
    format_: str,
    output: str,
    force: bool,
    quiet: bool,  # noqa: ARG001 - there is no progress to keep quiet about
) -> None:
    """Say what changed since the day before: new, ongoing, worse and gone findings; trends by upstream and code.

    A finding is judged on the last day (UTC) on which its upstream was seen, against up to seven such days before. It
    is worse if it comes more often per request beyond chance, gone if it should have come three times and did not,
    quiet if there was too little traffic to say.

    \b
      pcapdiag history
      pcapdiag history --state new --state worse
      pcapdiag history --upstream 10.0.0.7:8080 --format json
      pcapdiag history --table upstreams -o upstreams.csv
    """  # noqa: D301 - click reads the character \b
    from pcapdiag.nightly.store.database import default_store, require_store  # noqa: PLC0415 - help must not wait for it
    from pcapdiag.nightly.store.history import Wanted  # noqa: PLC0415 - the same
    from pcapdiag.nightly.store.store import Store  # noqa: PLC0415 - the same

    url = store or default_store()
    require_store(url)
    wanted = Wanted(_day(since), _day(until), codes, upstreams, states)
    with open_output(output, force=force) as file, Store(url) as opened:
        if format_ == "csv":
            _write_csv(opened, table, wanted, file)
        elif format_ == "json":
            file.write((json.dumps(_to_json(opened, wanted), indent=2, ensure_ascii=False) + "\n").encode())
        else:
            width = terminal_width() if output == STDOUT else None
            lines = (fit(line, width, hang=_HANG) for line in _lines(opened, wanted))
            file.write(("\n".join(lines) + "\n").encode())


def _day(text: str) -> str:
    from datetime import date  # noqa: PLC0415 - help needs none

    if text:
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError as error:
            msg = f"{text!r} is no date: write 2026-11-20"
            raise click.BadParameter(msg) from error
    return ""


def _rows(store: Store, table: str, wanted: Wanted) -> list[dict[str, Any]]:
    from pcapdiag.nightly.store import history as past  # noqa: PLC0415 - help must not wait for it
    from pcapdiag.nightly.store.plain import plain_row  # noqa: PLC0415 - the same

    rows: Sequence[Any]
    if table == "findings":
        rows = past.list_findings(store, wanted)
    elif table == "upstreams":
        rows = past.list_upstreams(store, wanted)
    elif table == "codes":
        rows = past.list_codes(store, wanted)
    else:
        rows = past.list_scans(store)
    return [plain_row(row) for row in rows]


def _to_json(store: Store, wanted: Wanted) -> dict[str, Any]:
    from pcapdiag.base.version import __version__  # noqa: PLC0415 - with the next
    from pcapdiag.nightly.store.history import list_finding_days  # noqa: PLC0415 - help must not wait for it

    tables = {table: _rows(store, table, wanted) for table in TABLES}
    days = defaultdict(list)
    for day in list_finding_days(store, wanted):
        days[day.identifier].append({"day": day.day, "count": day.count, "failures": day.failures})
    for finding in tables["findings"]:
        finding["days"] = days[finding["identifier"]]
    counts = Counter(finding["state"] for finding in tables["findings"])
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "pcapdiag", "version": __version__},
        "states": {state: counts[state] for state in ("new", "ongoing", "worse", "gone", "quiet")},
        **tables,
    }


def _write_csv(store: Store, table: str, wanted: Wanted, file: IO[bytes]) -> None:
    from dataclasses import fields  # noqa: PLC0415 - help must not wait for it

    import pandas as pd  # noqa: PLC0415 - only tables need it

    from pcapdiag.cli.writers import open_writer  # noqa: PLC0415 - with the rest
    from pcapdiag.nightly.store.history import CodeTrend, ScanRow, UpstreamTrend  # noqa: PLC0415 - the same
    from pcapdiag.nightly.store.model import FindingRow  # noqa: PLC0415 - the same

    rows = [
        {key: "; ".join(value) if isinstance(value, list) else value for key, value in row.items()}
        for row in _rows(store, table, wanted)
    ]
    writer = open_writer("csv", file, ())
    kinds = {"findings": FindingRow, "upstreams": UpstreamTrend, "codes": CodeTrend, "scans": ScanRow}
    columns = list(rows[0]) if rows else [field.name for field in fields(kinds[table])]
    writer.write(pd.DataFrame(rows, columns=columns))
    writer.close()


@dataclass(slots=True)
class _Trend:
    """Values by day, drawn as bars over the days that the store knows."""

    days: list[str]

    def draw(self, values: dict[str, int]) -> str:
        """Return one bar per day; a dot where nobody looked."""
        top = max(values.values(), default=0)
        bars = (
            "·" if day not in values else _BARS[-(-values[day] * (len(_BARS) - 1) // top) if top else 0]
            for day in self.days
        )
        return "".join(bars)


def _lines(store: Store, wanted: Wanted) -> Iterator[str]:
    from pcapdiag.base.rates import spell_per_day  # noqa: PLC0415 - the same
    from pcapdiag.nightly.store import history as past  # noqa: PLC0415 - the same
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - help must not wait for it
    from pcapdiag.report.summary import brief  # noqa: PLC0415 - the same

    findings = past.list_findings(store, wanted)
    upstreams = past.list_upstreams(store, wanted)
    seen = past.list_finding_days(store, wanted)
    days = sorted({row.day for row in upstreams} | {row.day for row in seen})[-_TREND_DAYS:]
    if not days:
        yield "nothing remembered yet; `pcapdiag scan FOLDER` reads captures and remembers"
        return
    trend = _Trend(days)
    counts = Counter(finding.state.value for finding in findings)
    yield f"{days[0]} to {days[-1]}: " + (
        ", ".join(f"{counts[state]} {state}" for state in ("new", "worse", "ongoing", "quiet", "gone") if counts[state])
        or "nothing found"
    )
    by_finding: dict[str, dict[str, int]] = defaultdict(dict)
    for row in seen:
        by_finding[row.identifier][row.day] = row.count
    yield from _finding_lines(findings, trend, by_finding, {u.endpoint: set() for u in upstreams}, upstreams)
    codes = past.list_codes(store, wanted)
    if codes:
        yield ""
        yield "by code"
        for code in sorted({row.code for row in codes}):
            of_code = {row.day: row.count for row in codes if row.code == code}
            yield f"  {code}  {trend.draw(_with_zeros(of_code, days))}  {sum(of_code.values())}"
    if upstreams:
        yield ""
        yield "by upstream, last day of each: requests, reused, lost, near misses, RTT (median), idle "
        yield "timeout, what the idle-close race is expected to take"
        for endpoint in dict.fromkeys(row.endpoint for row in upstreams):
            of_upstream = [row for row in upstreams if row.endpoint == endpoint]
            last = of_upstream[-1]
            risk = spell_per_day(last.risk) if last.risk is not None else "-"
            yield (
                f"  {visible(endpoint):24} {trend.draw({row.day: row.lost for row in of_upstream})}  {last.day}  "
                f"{last.exchanges}, {last.reused}, {last.lost}, {last.near_misses}, "
                f"{brief(last.rtt_p50_ns) if last.rtt_p50_ns >= 0 else '-'}, "
                f"{brief(last.idle_timeout_ns) if last.idle_timeout_ns >= 0 else '-'}, {risk}"
            )


def _finding_lines(
    findings: Sequence[FindingRow],
    trend: _Trend,
    by_finding: dict[str, dict[str, int]],
    looked_at: dict[str, set[str]],
    upstreams: Sequence[Any],
) -> Iterator[str]:
    from pcapdiag.base.units import format_ts_ns  # noqa: PLC0415 - the same
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - help must not wait for it

    for row in upstreams:
        looked_at[row.endpoint].add(row.day)
    every_day = {row.day for row in upstreams}
    for finding in findings:
        days = looked_at.get(finding.subject, every_day)
        values = dict.fromkeys(sorted(days), 0) | by_finding[finding.identifier]
        seen = finding.first_seen_ns, finding.last_seen_ns
        first, last = (format_ts_ns(ts_ns)[:10] if ts_ns >= 0 else "?" for ts_ns in seen)
        yield (
            f"  {finding.state.value:8} {finding.code}  {visible(finding.subject):24} {trend.draw(values)}  "
            f"{finding.last_count} on {finding.state_day}, {finding.count} in all, first {first}, last {last}"
        )


def _with_zeros(values: dict[str, int], days: Sequence[str]) -> dict[str, int]:
    return dict.fromkeys(days, 0) | values
