"""``pcapdiag history``: what earlier scans found, and what changed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

from pcapdiag.cli.choices import Choice
from pcapdiag.cli.declare import OptionPlace, command_option
from pcapdiag.cli.options import code_option, file_options, format_option, store_option
from pcapdiag.cli.output import STDOUT, fit, open_output, terminal_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.nightly.store.history import CodeTrend, FindingDay, UpstreamTrend, Wanted
    from pcapdiag.nightly.store.model import FindingRow
    from pcapdiag.nightly.store.store import Store

TABLES = ("findings", "upstreams", "codes", "scans")
SCHEMA_VERSION = 1
_BARS = "▁▂▃▄▅▆▇█"
_TREND_DAYS = 30
_HANG = 11


@click.command()
@store_option("Where scans remember")
@command_option(
    "--since", place=OptionPlace.ANY_FILE, default="", metavar="DATE", help="Only days from DATE on (2026-11-20, UTC)."
)
@command_option("--until", place=OptionPlace.ANY_FILE, default="", metavar="DATE", help="Only days before DATE.")
@code_option("Only these codes (PD101, PD2); repeat for more.")
@command_option(
    "--upstream",
    "upstreams",
    place=OptionPlace.ANY_FILE,
    multiple=True,
    metavar="ADDR[:PORT]",
    help="Only these upstreams.",
)
@command_option(
    "--state",
    "states",
    place=OptionPlace.ANY_FILE,
    multiple=True,
    type=Choice(["new", "ongoing", "worse", "gone", "quiet"]),
    help="Only findings in this state; repeat for more.",
)
@command_option(
    "--table",
    place=OptionPlace.ANY_FILE,
    type=Choice(TABLES),
    default=TABLES[0],
    show_default=True,
    help="With csv: which table. The others show all.",
)
@format_option(("table", "json", "csv"), "For people or for programs; the name after -o chooses, too.")
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

    rows = [{key: _cell(key, value) for key, value in row.items()} for row in _rows(store, table, wanted)]
    writer = open_writer("csv", file, ())
    kinds = {"findings": FindingRow, "upstreams": UpstreamTrend, "codes": CodeTrend, "scans": ScanRow}
    columns = list(rows[0]) if rows else [field.name for field in fields(kinds[table])]
    writer.write(pd.DataFrame(rows, columns=columns, dtype=object))
    writer.close()


def _cell(key: str, value: object) -> object:
    """Return a value as it stands in a cell: empty where nothing was measured, for whoever computes a mean."""
    if isinstance(value, list):
        return "; ".join(value)
    is_count = not key.endswith("_ns") and not key.startswith("risk_")
    return value if is_count or not isinstance(value, int | float) or value >= 0 else None


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
    from pcapdiag.nightly.store import history as past  # noqa: PLC0415 - help must not wait for it
    from pcapdiag.nightly.store.share import spell_failures  # noqa: PLC0415 - the same

    findings = past.list_findings(store, wanted)
    upstreams = past.list_upstreams(store, wanted)
    seen = past.list_finding_days(store, wanted)
    days = sorted({row.day for row in upstreams} | {row.day for row in seen})[-_TREND_DAYS:]
    if not days:
        yield "nothing remembered yet; `pcapdiag scan FOLDER` reads captures and remembers"
        return
    trend = _Trend(days)
    last = days[-1]
    counts = Counter(finding.state.value for finding in findings)
    states = ", ".join(f"{counts[s]} {s}" for s in ("new", "worse", "ongoing", "quiet", "gone") if counts[s])
    yield f"{days[0]} to {last}: {states or 'nothing found'}"
    failed = sum(row.failures for row in seen if row.day == last)
    yield f"{last}: {spell_failures(failed, sum(row.exchanges for row in upstreams if row.day == last))}"
    if findings:
        yield ""
        yield from _table(_FINDINGS, _finding_rows(findings, trend, seen, upstreams))
    codes = past.list_codes(store, wanted)
    if codes:
        yield ""
        yield from _table(_CODES, _code_rows(codes, trend))
    if upstreams:
        yield ""
        yield from _table(_UPSTREAMS, _upstream_rows(upstreams, trend))


_FINDINGS = ("state", "code", "where", "failed by night", "on", "<failed", "<found", "<failed in all", "first", "last")
_CODES = ("code", "failed by night", "<failed in all", "<found in all")
_UPSTREAMS = (
    "upstream",
    "lost by night",
    "race by night",
    "last",
    "<requests",
    "<lost",
    "<rate",
    "<reused",
    "<near misses",
    "<RTT",
    "<timeout T",
    "race per day",
)
"""Names of columns; those that begin with < are numbers, aligned to the right."""


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table as lines: every column has its name and the width of its widest cell."""
    cells = [[name.removeprefix("<") for name in names], *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        parts = (
            cell.rjust(width) if name.startswith("<") else cell.ljust(width)
            for name, cell, width in zip(names, row, widths, strict=True)
        )
        yield "  ".join(parts).rstrip()


def _finding_rows(
    findings: Sequence[FindingRow], trend: _Trend, seen: Sequence[FindingDay], upstreams: Sequence[UpstreamTrend]
) -> Iterator[Sequence[str]]:
    from pcapdiag.base.units import format_ts_ns  # noqa: PLC0415 - the same
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - help must not wait for it

    failed: dict[str, dict[str, int]] = defaultdict(dict)
    for row in seen:
        failed[row.identifier][row.day] = row.failures
    looked_at: dict[str, set[str]] = defaultdict(set)
    for upstream in upstreams:
        looked_at[upstream.endpoint].add(upstream.day)
    every_day = {row.day for row in upstreams}
    for finding in findings:
        days = looked_at.get(finding.subject, every_day)
        values = dict.fromkeys(sorted(days), 0) | failed[finding.identifier]
        times = finding.first_seen_ns, finding.last_seen_ns
        first, last = (format_ts_ns(ts_ns)[:10] if ts_ns >= 0 else "?" for ts_ns in times)
        yield (
            finding.state.value,
            finding.code,
            visible(finding.subject),
            trend.draw(values),
            finding.state_day,
            f"{failed[finding.identifier].get(finding.state_day, 0):,}",
            f"{finding.last_count:,}",
            f"{finding.failures:,}",
            first,
            last,
        )


def _code_rows(codes: Sequence[CodeTrend], trend: _Trend) -> Iterator[Sequence[str]]:
    for code in sorted({row.code for row in codes}):
        mine = [row for row in codes if row.code == code]
        failed = {row.day: row.failures for row in mine}
        yield (
            code,
            trend.draw(_with_zeros(failed, trend.days)),
            f"{sum(failed.values()):,}",
            f"{sum(row.count for row in mine):,}",
        )


def _upstream_rows(upstreams: Sequence[UpstreamTrend], trend: _Trend) -> Iterator[Sequence[str]]:
    from pcapdiag.base.rates import spell_per_day  # noqa: PLC0415 - the same
    from pcapdiag.nightly.store.share import spell_share  # noqa: PLC0415 - the same
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - help must not wait for it
    from pcapdiag.report.summary import brief  # noqa: PLC0415 - the same

    by_endpoint: dict[str, list[UpstreamTrend]] = defaultdict(list)
    for row in upstreams:
        by_endpoint[row.endpoint].append(row)
    for endpoint, rows in by_endpoint.items():
        last = rows[-1]
        # In thousandths: what is expected per day is seldom a whole number.
        risks = {row.day: round(row.risk.expected * 1000) for row in rows if row.risk is not None}
        yield (
            visible(endpoint),
            trend.draw({row.day: row.lost for row in rows}),
            trend.draw(risks),
            last.day,
            f"{last.exchanges:,}",
            f"{last.lost:,}",
            spell_share(last.lost, last.exchanges),
            f"{last.reused:,}",
            f"{last.near_misses:,}",
            brief(last.rtt_p50_ns) if last.rtt_p50_ns >= 0 else "-",
            brief(last.idle_timeout_ns) if last.idle_timeout_ns >= 0 else "-",
            spell_per_day(last.risk).removesuffix(" per day") if last.risk is not None else "-",
        )


def _with_zeros(values: dict[str, int], days: Sequence[str]) -> dict[str, int]:
    return dict.fromkeys(days, 0) | values
