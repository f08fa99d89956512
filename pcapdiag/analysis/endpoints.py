"""Whether what the operator named is anywhere: an upstream or a proxy that nobody has seen is a typing error.

Looks at the capture, the logs and the configuration; what follows from the names is `roles`' affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import format_address, parse_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pcapdiag.analysis.inputs import Inputs
    from pcapdiag.analysis.model import Analysis

_MOST_LISTED = 12

Ends = tuple[int, int, int]


def check_endpoints(analysis: Analysis, inputs: Inputs) -> None:
    """Say that an endpoint which the operator named is nowhere.

    Parameters
    ----------
    analysis : Analysis
        With logs and configuration, if they were given.
    inputs : Inputs
        What was named.

    Raises
    ------
    UsageError
        An upstream or a proxy is neither in the capture nor in the logs or the configuration; lists those that are. A
        capture without a connection says nothing of endpoints.
    """
    if not len(analysis.connections) or not (inputs.upstreams or inputs.proxies):
        return
    answering, opening = _ends(analysis, "resp"), _ends(analysis, "orig")
    told = set(_told(analysis))
    for name, wanted in zip(inputs.upstreams, inputs.upstream_endpoints, strict=True):
        if not _is_among(wanted, answering) and not _is_among(wanted, told):
            listed = _listed(_text(*end) for end in answering)
            raise UsageError(_message("--upstream", name, analysis, "What answers connections there", listed))
    addresses = {end[:2] for end in (*answering, *opening, *told)}
    for name, address in zip(inputs.proxies, inputs.proxy_addresses, strict=True):
        if address not in addresses:
            both = dict.fromkeys(end[:2] for end in (*opening, *answering))
            listed = _listed(format_address(*end) for end in both)
            raise UsageError(_message("--proxy", name, analysis, "The addresses there", listed))


def _message(option: str, name: str, analysis: Analysis, what: str, listed: str) -> str:
    others = [
        *(["the logs"] if analysis.log is not None else []),
        *(["the configuration"] if analysis.settings else []),
    ]
    where = " nor in ".join(["neither in the capture", *others]) if others else "not in the capture"
    return f"{option} {name}: it is {where}. {what}: {listed}"


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:_MOST_LISTED]) + (
        f" and {len(shown) - _MOST_LISTED:,} more" if len(shown) > _MOST_LISTED else ""
    )


def _is_among(wanted: Ends, ends: Iterable[Ends]) -> bool:
    return any(end[:2] == wanted[:2] and wanted[2] in {-1, end[2]} for end in ends)


def _ends(analysis: Analysis, side: str) -> list[Ends]:
    """Return the endpoints of one side, those with most connections first; of originators the addresses."""
    names = [f"{side}_hi", f"{side}_lo", *(["resp_port"] if side == "resp" else [])]
    columns = [analysis.connections[name] for name in names]
    packed = np.empty(
        len(columns[0]), dtype=[(name, column.dtype) for name, column in zip(names, columns, strict=True)]
    )
    for name, column in zip(names, columns, strict=True):
        packed[name] = column
    ends, counts = np.unique(packed, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(int(e[0]), int(e[1]), int(e[2]) if side == "resp" else -1) for e in ends[order].tolist()]


def _told(analysis: Analysis) -> Iterator[Ends]:
    """Yield the endpoints that logs and configuration name."""
    log, settings = analysis.log, analysis.settings
    names: set[str] = set()
    if log is not None:
        names |= {j.entry.upstream_peer for j in log.entries} | set(log.services.values())
        names |= log.clients.peers if log.clients is not None else set()
    for name in names:
        try:
            yield parse_endpoint(name)
        except ValueError:
            continue
    if settings is not None:
        yield from (server.endpoint for server in settings.own if server.endpoint is not None)
        for block in settings.upstreams:
            yield from (server.endpoint for server in block.servers if server.endpoint is not None)


def _text(high: int, low: int, port: int) -> str:
    address = format_address(high, low)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
