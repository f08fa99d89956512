"""The section on the proxy's configuration: which settings the findings rest on, where each was read, what was assumed.

Which settings a finding rests on, its rule declares. Knows nothing of files, and no layout beyond rows and columns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pcapdiag.base.units import count_of
from pcapdiag.proxy.conf.describe import POOL, describe_block, describe_location, describe_main, describe_own
from pcapdiag.report.summary import MAX_LINES, Grid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.findings import Finding
    from pcapdiag.proxy.conf.describe import SettingRow
    from pcapdiag.proxy.conf.settings import UpstreamBlock

_OF_SERVER = re.compile(r"server (?P<address>\S+) (?P<name>max_fails|fail_timeout)")


def settings_read(analysis: Analysis, findings: Iterable[Finding]) -> tuple[SettingRow, ...]:
    """Return the settings that the findings rest on, of the blocks whose peers are in the capture.

    Parameters
    ----------
    analysis : Analysis
        With the configuration; without it there is nothing.
    findings : iterable of Finding
        Without any, what keeps connections is returned: on it rests that nothing was found.

    Returns
    -------
    tuple of SettingRow
        Blocks first, then the places that pass requests to them, then what the log holds.
    """
    settings = analysis.settings
    if settings is None:
        return ()
    findings = tuple(findings)
    if settings.own:
        mine = dict.fromkeys(s for u in analysis.upstreams for s in settings.servers_of(str(u.endpoint)))
        return tuple(dict.fromkeys(row for server in mine for row in describe_own(server)))
    names = {name for f in findings for name in f.facts.settings} or set(POOL)
    blocks = _blocks(analysis, findings)
    rows = [row for block in blocks for row in describe_block(block) if row.name.rpartition(" ")[2] in names]
    if "backup" in names:
        rows += [
            row
            for block in blocks
            for row in describe_block(block)
            if row.name.startswith("server ") and not row.why and row.value in {"backup", "down", "backup down"}
        ]
    endings = tuple(name for name in names if name.startswith("_"))
    if endings:
        rows += [
            row
            for place in settings.locations_of(blocks)
            for row in describe_location(place)
            if row.name.endswith(endings) and not (row.value == "no limit" and not row.source)
        ]
    if analysis.log is not None:
        # Without a zone each worker counts failures for itself.
        has_workers = "worker_processes" in names and not all(block.zone.value for block in blocks)
        rows += [row for row in describe_main(settings) if has_workers or row.name != "worker_processes"]
    return tuple(dict.fromkeys(rows))


def _blocks(analysis: Analysis, findings: Sequence[Finding]) -> list[UpstreamBlock]:
    """Return the blocks that findings are about; where there are none, all whose peers are in the capture."""
    by_peer = {str(endpoint): blocks for endpoint, blocks in analysis.blocks_by_endpoint.items()}
    known = analysis.settings.upstreams if analysis.settings is not None else ()
    subjects = {f.subject for f in findings}
    wanted = {block.name for subject in subjects for block in by_peer.get(subject, ())}
    wanted |= subjects & {block.name for block in known}
    if not wanted:
        wanted = {block.name for blocks in by_peer.values() for block in blocks}
    return [block for block in known if block.name in wanted]


def settings_title(rows: Sequence[SettingRow]) -> str:
    """Return the section's heading; a file that all settings were read from is named once, here."""
    file = _only_file(rows)
    return f"Settings read from {file}" if file else "Settings read"


def _only_file(rows: Sequence[SettingRow]) -> str:
    files = {row.source.rpartition(":")[0] for row in rows if row.source}
    return files.pop() if len(files) == 1 else ""


def settings_grid(rows: Sequence[SettingRow]) -> Grid:
    """Return the settings as a table; what several servers of a block have alike is one row.

    Parameters
    ----------
    rows : sequence of SettingRow
        From the report.

    Returns
    -------
    Grid
        At most `MAX_LINES` rows, and one that says how many more there are.
    """
    lines = list(_merged(rows, _only_file(rows)))
    shown = [(f"{of}: {name}", value, where) for of, name, value, where in lines[:MAX_LINES]]
    if len(lines) > MAX_LINES:
        shown.append((f"and {len(lines) - MAX_LINES:,} more", "", "--format json"))
    return Grid(("setting", "value", "where"), tuple(shown))


def _merged(rows: Sequence[SettingRow], file: str) -> Iterator[tuple[str, str, str, str]]:
    alike: dict[tuple[str, str, str, str], list[str]] = {}
    for row in rows:
        match = _OF_SERVER.fullmatch(row.name)
        where = f"assumed: {row.why}"
        if row.source:
            where = f"line {row.source.removeprefix(f'{file}:')}" if file else row.source
        where += f" ({row.why})" if row.source and row.why else ""
        key = row.of, match["name"] if match else row.name, row.value, where
        alike.setdefault(key, []).append(match["address"] if match else "")
    for (of, name, value, where), servers in alike.items():
        of_servers = f" of {servers[0]}" if len(servers) == 1 else f" of {count_of(len(servers), 'server')}"
        yield of, f"{name}{of_servers if servers[0] else ''}", value, where
